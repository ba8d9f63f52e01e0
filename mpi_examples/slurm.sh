#!/bin/bash
# A Slurm job that saves a checkpoint before its time limit, and resumes when it is submitted again:
#   sbatch mpi_examples/slurm.sh Humanoid
#SBATCH --job-name=ppo
#SBATCH --ntasks=64
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120

# MPICH and Intel MPI need pmi2, Open MPI needs pmix; `srun --mpi=list` shows which are available.
srun --mpi="${PPO_MPI:-pmi2}" python main.py -e "${1:-Humanoid}"
