"""Run a command with a store of evaluations of its own, and hand its rows over when it ends:
``python cluster/own_store.py SHARED COMMAND...``.

An SQLite file must not be shared over a network file system, so a job of a cluster keeps its rows
on the node's own disk. It starts from the Parquet files that earlier jobs left in the folder
SHARED, and leaves one there itself, also if it failed or was told to stop: what was trained is
never lost, and ``python -m bogp.training.store merge SHARED/*.parquet`` unites all of it.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bogp.errors import BogpError
from bogp.training.store import Store


def run(shared: Path, command: Sequence[str]) -> int:
    """Run a command with ``BOGP_STORE`` set to a fresh store.

    Args:
        shared: folder of Parquet files, on a disk that all nodes see.
        command: the program and its arguments.

    Returns:
        The command's exit status.

    Raises:
        BogpError: a file of the folder cannot be read, or the rows not be written.
    """
    with tempfile.TemporaryDirectory(prefix="bogp-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "evaluations.sqlite"
        with Store(path) as store:
            for rows in sorted(shared.glob("*.parquet")):
                store.merge(rows)
            before = set(store.table()["key"])
        child = subprocess.Popen(
            command, env=os.environ | {"BOGP_STORE": str(path)}, start_new_session=True
        )
        # at the time limit, say
        signal.signal(signal.SIGTERM, lambda *_: os.killpg(child.pid, signal.SIGTERM))
        status = child.wait()
        with Store(path) as store:
            if new := set(store.table()["key"]) - before:
                job = os.environ.get("SLURM_JOB_ID", os.getpid())
                store.export(shared / f"{socket.gethostname()}-{job}.parquet", sorted(new))
    return status


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python cluster/own_store.py SHARED COMMAND...")
    try:
        sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))
    except BogpError as error:
        sys.exit(f"bogp: {error}")
