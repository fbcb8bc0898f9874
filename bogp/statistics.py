"""Intervals and paired comparisons; every figure and table takes its error bars from here."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bogp.errors import InvalidInput


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval over n independent values."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}] (n = {self.n})"


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean and Student-t confidence interval.

    Args:
        values: (n,) independent observations.
        level: coverage, in (0, 1).

    Returns:
        The interval; with one value its ends are NaN, for one value says nothing about spread.

    Raises:
        InvalidInput: no values, a value that is not finite, or a level out of range.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise InvalidInput("mean_interval needs a list of at least one finite value.")
    if not 0 < level < 1:
        raise InvalidInput(f"level is {level}; it lies strictly between 0 and 1.")
    if len(x) == 1:
        return Interval(float(x[0]), float("nan"), float("nan"), 1)
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def paired_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of first - second over pairs (same seed), with its t interval.

    Raises:
        InvalidInput: the two are not of the same length.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise InvalidInput(f"Pairs are needed; got {a.shape} and {b.shape} values.")
    return mean_interval(a - b, level)
