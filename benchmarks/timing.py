"""What the measurements of speed share: medians, lines of a table, verdicts, one core."""

import math
import os
import statistics
import time
from collections.abc import Callable

import torch


def on_one_core() -> None:
    """Keep this process, and those that it starts, on one core, as far as the system allows."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """Median time of several runs, s."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def row(
    what: str,
    unit: str,
    ours: float,
    plain: float,
    at_least: float | None = None,
    aim: float | None = None,
) -> dict:
    """One line of the table."""
    ratio = plain / ours
    return {
        "what": what,
        "unit": unit,
        "ours": ours,
        "plain": plain,
        "ratio": ratio,
        "at_least": at_least,
        "aim": aim,
        "verdict": "" if at_least is None else verdict(ratio, at_least, aim or math.inf),
    }


def verdict(value: float, at_least: float, aim: float) -> str:
    """In words; where less is better, of the negative numbers."""
    return "aim met" if value >= aim else "met" if value >= at_least else "missed"
