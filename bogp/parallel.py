"""Work on several cores: progress bars with rate and estimate, and workers that end with the process that started them."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_FORMAT = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}, {rate_fmt}]"  # work in progress counts by its fraction


@contextmanager
def progress_bar(total: float, unit: str, *, done: float = 0, label: str | None = None, show: bool = True) -> Iterator[Any]:
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

    settings = {"total": total, "unit": unit, "initial": done, "desc": label, "bar_format": _FORMAT, "leave": False}
    if not show or os.environ.get("TQDM_DISABLE"):
        with plain(total=total, disable=True) as silent:
            yield silent
    elif not issubclass(tqdm, tqdm_notebook):
        with tqdm(**settings) as line:
            yield line
    else:
        from IPython.display import display

        with tqdm_notebook(**settings, display=False) as widget:
            # A closed widget would stay in the saved notebook, which shows "Error displaying widget" when it is opened again.
            place = display(widget.container, display_id=True)
            try:
                yield widget
            finally:
                place.update({}, raw=True)


def serve(parent: int, every: float = 1.0) -> None:
    """Called in a worker as it starts: it shows no bars, which would write over each other, and ends soon after its parent is gone, for a killed parent
    cannot tell its workers.

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
