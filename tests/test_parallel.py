import os
import signal
import subprocess
import sys

import nbformat
import psutil
import pytest
from joblib import Parallel, delayed
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from bogp import parallel
from bogp.workflow.notebook import ipc

CELL = (
    "from bogp import parallel\nwith parallel.progress_bar(3, 'mask') as bar:\n    "
    "bar.update(2)\nprint('done')"
)


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


def outputs(source):
    notebook = new_notebook(cells=[new_code_cell(source)])
    with ipc() as config:
        NotebookClient(
            notebook, kernel_name="python3", config=config, store_widget_state=False
        ).execute()
    nbformat.validate(notebook)
    return notebook.cells[0].outputs


def test_in_a_notebook_a_bar_leaves_nothing_that_cannot_be_shown_again(shown):
    bar, text = outputs(CELL)  # closed before it was full
    assert bar.output_type == "display_data" and bar.data == {}  # there was one
    assert text.text == "done\n"


def test_in_a_notebook_no_bar_is_shown_where_none_is_wanted(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    (text,) = outputs(CELL)
    assert text.text == "done\n"


def test_in_a_terminal_a_bar_is_a_line_that_is_wiped(shown):
    result = subprocess.run(
        [sys.executable, "-c", CELL], check=True, capture_output=True, env=os.environ
    )
    # the line is filled with blanks
    assert b"mask" in result.stderr and result.stderr.endswith(b" \r")
    assert result.stdout == b"done\n"


def test_no_bar_where_none_is_asked_for(shown, capsys):
    from bogp import parallel

    with parallel.progress_bar(3, "mask", show=False) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")


# --- workers end when the process that started them is killed ---

PARENT = """
import time
from joblib import Parallel, delayed
from bogp.parallel import worker_options
Parallel(n_jobs=2, **worker_options())(delayed(abs)(i) for i in range(4))
print("ready", flush=True)
time.sleep(60)
"""


def test_idle_workers_end_soon_after_their_parent_was_killed():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        started = [
            p
            for p in psutil.Process(parent.pid).children(recursive=True)
            if "LokyProcess" in " ".join(p.cmdline())
        ]
        assert len(started) == 2
        os.kill(parent.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    ("parent", "lives"),
    [("os.getppid()", True), ("10**9", False)],
    ids=["with its parent", "its parent is gone"],
)
def test_a_worker_that_starts_after_its_parent_was_killed_ends_too(parent, lives):
    code = (
        f"import os, time; from bogp.parallel import serve; serve({parent}, 0.1); "
        "time.sleep(2); "
        "print('lived')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ("lived" in done.stdout) == lives
    assert done.returncode == (0 if lives else 1)


def test_workers_show_no_bars_and_their_parent_does(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    of_workers = Parallel(n_jobs=2, **parallel.worker_options())(
        delayed(os.getenv)("TQDM_DISABLE") for _ in range(2)
    )
    of_one = Parallel(n_jobs=1, **parallel.worker_options())(
        delayed(os.getenv)("TQDM_DISABLE") for _ in range(1)
    )
    assert (of_workers, of_one) == (["1", "1"], [None])


def test_two_calls_share_their_workers():
    """Starting workers takes longer than many a job, so what they are given must compare as
    equal.
    """
    assert parallel.worker_options() == parallel.worker_options()
