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


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a mean difference against a margin.

    Attributes:
        difference: the mean with its 90 % interval, which lies within the margin exactly when both tests reject at 5 %.
        margin: largest difference that counts as none.
        p: the larger of the two p values.
    """

    difference: Interval
    margin: float
    p: float

    @property
    def holds(self) -> bool:
        """Whether the means are equivalent, at 5 %."""
        return self.p < 0.05


def equivalence(first: ArrayLike, second: ArrayLike, margin: float) -> Equivalence:
    """Whether two paired means differ by less than a margin (Schuirmann 1987, two one-sided t tests).

    Args:
        first, second: (n,) paired observations, n >= 2.
        margin: positive, in their unit.

    Returns:
        The difference first - second with its 90 % interval, and the p value of "the means differ by the margin or more".

    Raises:
        InvalidInput: no pairs, fewer than two, or a margin that is not positive.
    """
    if not margin > 0:
        raise InvalidInput(f"margin is {margin}; it must be positive.")
    difference = paired_difference(first, second, 0.90)
    if difference.n < 2:
        raise InvalidInput("An equivalence test needs at least two pairs.")
    x = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    error = x.std(ddof=1) / np.sqrt(len(x))
    if error == 0:
        return Equivalence(difference, margin, 0.0 if abs(difference.mean) < margin else 1.0)
    p = stats.t.sf((margin - abs(difference.mean)) / error, len(x) - 1)
    return Equivalence(difference, margin, float(p))


@dataclass(frozen=True)
class Spread:
    """Ratio of two standard deviations over pairs, with its 95 % interval, and the p value of a ratio of one."""

    ratio: float
    low: float
    high: float
    p: float


def spread_ratio(first: ArrayLike, second: ArrayLike) -> Spread:
    """Standard deviation of the first over that of the second, for paired values (Pitman 1939, Morgan 1939).

    Args:
        first, second: (n,) paired observations, n >= 3, neither constant.

    Returns:
        The ratio with its 95 % interval, which holds 1 exactly when p is at least 0.05.

    Raises:
        InvalidInput: no pairs, fewer than three, or one side constant.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 3 or not np.isfinite([*a, *b]).all() or min(a.std(), b.std()) == 0:
        raise InvalidInput("spread_ratio needs at least three pairs of finite values, neither side constant.")
    n, r, ratio = len(a), np.corrcoef(a, b)[0, 1], a.std() / b.std()
    # The hypothesis "the ratio is w" says that a + w b and a - w b are uncorrelated; those w that a t test of it accepts make the interval.
    t = stats.t.ppf(0.975, n - 2)
    k = 1 + 2 * t**2 * (1 - r**2) / (n - 2)
    half = np.sqrt(k**2 - 1)
    apart = (ratio**2 - 1) * np.sqrt(n - 2)  # of the correlation of sum and difference, its t statistic is apart / scale
    scale = 2 * ratio * np.sqrt(max(1 - r**2, 0.0))
    p = 1.0 if apart == 0 else 0.0 if scale == 0 else float(2 * stats.t.sf(abs(apart) / scale, n - 2))
    return Spread(float(ratio), float(ratio * np.sqrt(k - half)), float(ratio * np.sqrt(k + half)), p)
