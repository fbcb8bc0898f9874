"""Submit a job of Snakemake to a process of its own on this machine: ``python
cluster/submit_local.py SHARED JOBSCRIPT``.

The smallest cluster there is: each job has a store of its own (``own_store.py``) and goes on
without the one who submitted it. Prints the job's id, as ``sbatch --parsable`` does.
"""

import subprocess
import sys
from pathlib import Path


def submit(shared: Path, jobscript: Path) -> int:
    """Start a job script; its output goes to a log beside the folder of rows.

    Args:
        shared: folder of Parquet files, see ``own_store``.
        jobscript: what Snakemake wrote.

    Returns:
        The id of the process.
    """
    shared.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        str(Path(__file__).with_name("own_store.py")),
        str(shared),
        "bash",
        str(jobscript),
    ]
    with (shared / f"{jobscript.stem}.log").open("w") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        ).pid


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python cluster/submit_local.py SHARED JOBSCRIPT")
    print(submit(Path(sys.argv[1]), Path(sys.argv[2])))
