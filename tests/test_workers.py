"""Workers end when the process that started them is killed."""

import os
import signal
import subprocess
import sys

import psutil

PARENT = """
from joblib import Parallel, delayed
from bogp.workers import end_with_parent
Parallel(n_jobs=2, initializer=end_with_parent)(delayed(abs)(i) for i in range(4))
print("ready", flush=True)
time.sleep(60)
"""


def test_idle_workers_end_soon_after_their_parent_was_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        workers = [p for p in psutil.Process(parent.pid).children(recursive=True) if "LokyProcess" in " ".join(p.cmdline())]
        assert len(workers) == 2
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
