"""Progress bars: one look everywhere, with rate and estimate; ``TQDM_DISABLE=1`` turns them off, in notebooks too."""

import os
from typing import Any

_FORMAT = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}, {rate_fmt}]"  # work in progress counts by its fraction


def bar(total: float, unit: str, *, done: float = 0, label: str | None = None, show: bool = True) -> Any:
    """A progress bar, to be used as a context manager; it leaves no trace when it is closed.

    Args:
        total: amount of work.
        unit: what is counted, in the singular.
        done: how much was done before.
        label: in front of the bar.
        show: False for no bar.
    """
    from tqdm.auto import tqdm
    from tqdm.std import tqdm as plain

    if not show or os.environ.get("TQDM_DISABLE"):
        return plain(total=total, disable=True)
    return tqdm(total=total, unit=unit, initial=done, desc=label, bar_format=_FORMAT, leave=False)
