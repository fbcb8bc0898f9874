"""Work on several cores: progress bars with rate and estimate, and workers that end with the
process that started them.
"""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from bogp.checks import whole

# work in progress counts by its fraction
_FORMAT = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}, {rate_fmt}]"


@contextmanager
def progress_bar(
    total: float, unit: str, *, done: float = 0, label: str | None = None, show: bool = True
) -> Iterator[Any]:
    """A progress bar; it leaves no trace when it is closed.

    Args:
        total: amount of work.
        unit: what is counted, in the singular.
        done: how much was done before.
        label: in front of the bar.
        show: False for no bar.
    """
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook
    from tqdm.std import tqdm as plain

    settings = {
        "total": total,
        "unit": unit,
        "initial": done,
        "desc": label,
        "bar_format": _FORMAT,
        "leave": False,
    }
    silent = not show or bool(os.environ.get("TQDM_DISABLE"))
    if silent or not issubclass(tqdm, tqdm_notebook):
        with plain(total=total, disable=True) if silent else tqdm(**settings) as line:
            yield line
    else:
        from IPython.display import display

        with tqdm_notebook(**settings, display=False) as widget:
            # A closed widget would stay in the saved notebook, which shows "Error displaying
            # widget" when it is opened again.
            place = display(widget.container, display_id=True)
            try:
                yield widget
            finally:
                place.update({}, raw=True)


def serve(parent: int, every: float = 1.0) -> None:
    """Called in a worker as it starts: it shows no bars, which would write over each other, and
    ends soon after its parent is gone, for a killed parent cannot tell its workers.

    Args:
        parent: process id. The worker cannot ask for it, since its parent may be gone by then.
        every: how often to look, s.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    os.environ["TQDM_DISABLE"] = "1"
    threading.Thread(target=watch, daemon=True).start()


def worker_options() -> dict[str, Any]:
    """What ``joblib.Parallel`` is given so that its workers ``serve`` this process."""
    return {"initializer": serve, "initargs": (os.getpid(),)}


def in_parallel(
    work: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    cores: int,
    unit: str,
    label: str | None = None,
    done: int = 0,
) -> list[Any]:
    """Do independent jobs side by side, with a progress bar.

    Each job computes on one thread, so that its numbers do not depend on how many run beside it.

    Args:
        work: a function of a module (not of a notebook), which processes can be sent.
        jobs: its arguments, one tuple a job.
        cores: processes at work; with one, everything happens in this process.
        unit: what a job is, in the singular, for the bar.
        label: in front of the bar.
        done: how many jobs were done before, for the bar.

    Returns:
        What the work gives for each job, in order.

    Raises:
        InvalidInput: cores is no whole number of at least 1; and whatever the work raises.
    """
    from joblib import Parallel, delayed

    whole("cores", cores, 1)
    found: dict[int, Any] = {}
    with (
        progress_bar(len(jobs) + done, unit, done=done, label=label) as bar,
        warnings.catch_warnings(),
    ):
        # joblib renews workers that have grown, and no job is lost
        warnings.filterwarnings("ignore", message="A worker stopped")
        workers = Parallel(
            min(cores, max(len(jobs), 1)), return_as="generator_unordered", **worker_options()
        )
        for number, result in workers(
            delayed(_on_one_thread)(work, number, job) for number, job in enumerate(jobs)
        ):
            found[number] = result
            bar.update(1)
    return [found[number] for number in range(len(jobs))]


def _on_one_thread(work: Callable[..., Any], number: int, job: tuple[Any, ...]) -> tuple[int, Any]:
    # work that does not use PyTorch need not wait for its import
    with one_thread() if "torch" in sys.modules else nullcontext():
        return number, work(*job)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of PyTorch, so that the same job gives the same bits on any number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
