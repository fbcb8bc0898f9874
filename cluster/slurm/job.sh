#!/bin/bash
# One job of Snakemake under SLURM, with a store of its own; submitted from the checkout, whose disk every node sees.
exec .venv/bin/python cluster/own_store.py data/stores bash "$1"
