#!/bin/bash
# A Slurm job that outlives its time limit: it saves, is queued again, and goes on, until the run is finished.
#   sbatch mpi_examples/slurm.sh Humanoid
#   sbatch --ntasks=8 --array=1-5 mpi_examples/slurm.sh CartPole --num_timesteps 1e6    # a run for each seed
#SBATCH --job-name=ppo
#SBATCH --ntasks=64
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@60
#SBATCH --requeue
#SBATCH --open-mode=append

seed=()
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    seed=(--random_seed "$SLURM_ARRAY_TASK_ID" --run_name "seed={seed}")
fi
# MPICH and Intel MPI need pmi2, Open MPI needs pmix; `srun --mpi=list` shows which are available.
# A rank that fails while MPI starts would leave the others waiting.
srun --kill-on-bad-exit=1 --mpi="${PPO_MPI:-pmi2}" "${PYTHON:-python}" main.py -e "${1:-Humanoid}" "${seed[@]}" --requeue_on_preemption "${@:2}"
