#!/bin/bash
#SBATCH --array=1-100
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=02:00:00
#SBATCH --signal=TERM@120
#SBATCH --output=build/slurm/%A_%a.log
# One part of a mask database; start it from the checkout with: sbatch cluster/slurm/array.sh DATABASE [options of train_masks.py]
exec .venv/bin/python cluster/own_store.py data/stores \
    .venv/bin/python cluster/train_masks.py "$@" --part "$SLURM_ARRAY_TASK_ID" --of "$SLURM_ARRAY_TASK_COUNT"
