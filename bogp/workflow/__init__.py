"""Running notebooks, checking a machine, and batch runs with Snakemake."""
