#!/bin/bash
# A Slurm job that saves before its time is up, and goes on when it is submitted again:
#   sbatch mpi_examples/slurm.sh Humanoid
#SBATCH --job-name=ppo
#SBATCH --ntasks=64
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120

# MPICH's and Intel's MPI want pmi2, Open MPI wants pmix: `srun --mpi=list` shows what there is.
srun --mpi="${PPO_MPI:-pmi2}" python main.py -e "${1:-Humanoid}"
