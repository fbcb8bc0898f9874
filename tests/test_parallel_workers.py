"""Workers end when the process that started them is killed."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from joblib import Parallel, delayed

from bogp import parallel

PARENT = """
import time
from joblib import Parallel, delayed
from bogp.workers import serving_us
Parallel(n_jobs=2, **serving_us())(delayed(abs)(i) for i in range(4))
print("ready", flush=True)
time.sleep(60)
"""


def test_idle_workers_end_soon_after_their_parent_was_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        started = [p for p in psutil.Process(parent.pid).children(recursive=True) if "LokyProcess" in " ".join(p.cmdline())]
        assert len(started) == 2
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive


@pytest.mark.parametrize(("parent", "lives"), [("os.getppid()", True), ("10**9", False)], ids=["with its parent", "its parent is gone"])
def test_a_worker_that_starts_after_its_parent_was_killed_ends_too(parent, lives):
    code = f"import os, time; from bogp.parallel import serve; serve({parent}, 0.1); time.sleep(2); print('lived')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ("lived" in done.stdout) == lives
    assert done.returncode == (0 if lives else 1)


def test_workers_show_no_bars_and_their_parent_does(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    of_workers = Parallel(n_jobs=2, **parallel.worker_options())(delayed(os.getenv)("TQDM_DISABLE") for _ in range(2))
    of_one = Parallel(n_jobs=1, **parallel.worker_options())(delayed(os.getenv)("TQDM_DISABLE") for _ in range(1))
    assert (of_workers, of_one) == (["1", "1"], [None])


def test_two_calls_share_their_workers():
    """Starting workers takes longer than many a job, so what they are given must compare as equal."""
    assert parallel.worker_options() == parallel.worker_options()
