#!/bin/bash
# What became of a SLURM job, in the three words that Snakemake understands; without it a job that was killed would be waited for for ever.
case "$(sacct --jobs "$1" --noheader --parsable2 --allocations --format=State | head -n 1)" in
    COMPLETED) echo success ;;
    BOOT_FAIL* | CANCELLED* | DEADLINE* | FAILED* | NODE_FAIL* | OUT_OF_MEMORY* | PREEMPTED* | REVOKED* | TIMEOUT*) echo failed ;;
    *) echo running ;;  # and just submitted, when the accounting does not know it yet
esac
