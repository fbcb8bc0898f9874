"""Intervals and paired comparisons; every figure and table takes its error bars from here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bogp.checks import floats, number, share
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

    def columns(self, name: str) -> dict[str, float]:
        """The mean under a name, and the ends under ``<name>_low`` and ``<name>_high``."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


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
    x, level = floats("values", values), share("level", level)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise InvalidInput("mean_interval needs a list of at least one finite value.")
    if len(x) == 1:
        return Interval(float(x[0]), float("nan"), float("nan"), 1)
    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def paired_difference(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of first - second over pairs (same seed), with its t interval.

    Raises:
        InvalidInput: the two are not of the same length.
    """
    a, b = floats("first", first), floats("second", second)
    if a.shape != b.shape:
        raise InvalidInput(f"Pairs are needed; got {a.shape} and {b.shape} values.")
    return mean_interval(a - b, level)


def correlation_intervals(
    table: pd.DataFrame, by: list[str], measures: tuple[str, ...] = ("spearman", "given")
) -> pd.DataFrame:
    """Means of correlations by group with 95 % t intervals, whose ends are kept within [-1, 1].

    Args:
        table: a row an observation, with the columns of ``by`` and ``measures``.
        by: columns that name a group.
        measures: columns of correlations; NaN where one is undefined.

    Returns:
        A row for each group and ``measure``: ``mean``, ``low``, ``high`` and ``n`` (defined ones);
        none where all are undefined.
    """
    rows = [
        dict(zip(by, key, strict=True)) | {"measure": measure} | vars(mean_interval(values))
        for key, one in table.groupby(by, sort=False)
        for measure in measures
        if len(values := one[measure].dropna())
    ]
    found = pd.DataFrame(rows)
    return found.assign(low=found["low"].clip(-1, 1), high=found["high"].clip(-1, 1))


def group_intervals(
    table: pd.DataFrame, by: Sequence[str], values: Sequence[str] | str
) -> pd.DataFrame:
    """Mean and 95 % t interval of columns within each group of rows.

    Args:
        table: one observation a row.
        by: columns that make the groups, which keep the order in which they first appear.
        values: columns to sum up, or the only one.

    Returns:
        One row a group and column: the columns ``by``, ``measure`` (the column's name, where
        ``values`` is a list), ``mean``, ``low``, ``high`` and ``n``.
    """
    if isinstance(values, str):
        return group_intervals(table, by, [values]).drop(columns="measure")
    rows = [
        (*keys, value, *vars(mean_interval(one[value])).values())
        for keys, one in table.groupby(list(by), sort=False)
        for value in values
    ]
    return pd.DataFrame(rows, columns=[*by, "measure", "mean", "low", "high", "n"])


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a mean difference against a margin.

    Attributes:
        difference: the mean with its 90 % interval, which lies within the margin exactly when both
            tests reject at 5 %.
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
    """Whether two paired means differ by less than a margin (Schuirmann 1987, two one-sided t
    tests).

    Args:
        first, second: (n,) paired observations, n >= 2.
        margin: positive, in their unit.

    Returns:
        The difference first - second with its 90 % interval, and the p value of "the means differ
        by the margin or more".

    Raises:
        InvalidInput: no pairs, fewer than two, or a margin that is not positive.
    """
    if not number("margin", margin) > 0:
        raise InvalidInput(f"margin is {margin}; it must be positive.")
    difference = paired_difference(first, second, 0.90)
    if difference.n < 2:
        raise InvalidInput("An equivalence test needs at least two pairs.")
    x = floats("first", first) - floats("second", second)
    error = x.std(ddof=1) / np.sqrt(len(x))
    if error == 0:
        return Equivalence(difference, margin, 0.0 if abs(difference.mean) < margin else 1.0)
    p = stats.t.sf((margin - abs(difference.mean)) / error, len(x) - 1)
    return Equivalence(difference, margin, float(p))


@dataclass(frozen=True)
class Spread:
    """Ratio of two standard deviations over pairs, with its 95 % interval, and the p value of a
    ratio of one.
    """

    ratio: float
    low: float
    high: float
    p: float


def spread_ratio(first: ArrayLike, second: ArrayLike) -> Spread:
    """Standard deviation of the first over that of the second, for paired values (Pitman 1939,
    Morgan 1939).

    Args:
        first, second: (n,) paired observations, n >= 3, neither constant.

    Returns:
        The ratio with its 95 % interval, which holds 1 exactly when p is at least 0.05.

    Raises:
        InvalidInput: no pairs, fewer than three, or one side constant.
    """
    a, b = floats("first", first), floats("second", second)
    if (
        a.ndim != 1
        or a.shape != b.shape
        or len(a) < 3
        or not np.isfinite([*a, *b]).all()
        or min(a.std(), b.std()) == 0
    ):
        raise InvalidInput(
            "spread_ratio needs at least three pairs of finite values, neither side constant."
        )
    n, r, ratio = len(a), np.corrcoef(a, b)[0, 1], a.std() / b.std()
    # The hypothesis "the ratio is w" says that a + w b and a - w b are uncorrelated; those w that a
    # t test of it accepts make the interval.
    t = stats.t.ppf(0.975, n - 2)
    k = 1 + 2 * t**2 * (1 - r**2) / (n - 2)
    half = np.sqrt(k**2 - 1)
    # of the correlation of sum and difference, its t statistic is apart / scale
    apart = (ratio**2 - 1) * np.sqrt(n - 2)
    scale = 2 * ratio * np.sqrt(max(1 - r**2, 0.0))
    p = (
        1.0
        if apart == 0
        else 0.0
        if scale == 0
        else float(2 * stats.t.sf(abs(apart) / scale, n - 2))
    )
    return Spread(
        float(ratio), float(ratio * np.sqrt(k - half)), float(ratio * np.sqrt(k + half)), p
    )


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation; equal values share their mean rank.

    Args:
        x, y: (n,) paired observations, n >= 3.

    Returns:
        A number in [-1, 1]; NaN where one side is constant, for a constant has no order.

    Raises:
        InvalidInput: no pairs, fewer than three, or a value that is not finite.
    """
    a, b = _ranks(x, y)
    if min(np.ptp(a), np.ptp(b)) == 0:
        return float("nan")
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))


def partial_rank_correlation(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Spearman's correlation of x and y with the ranks of a third variable held fixed (Kendall &
    Stuart, partial correlation of ranks).

    It takes away what is linear in the ranks of ``given``.

    Args:
        x, y, given: (n,) observations, n >= 4.

    Returns:
        A number in [-1, 1]; NaN where x, y or ``given`` is constant, or x or y has the same order
        as ``given`` (or the reverse, ties included), for then nothing of it is left.

    Raises:
        InvalidInput: of different lengths, fewer than four, or a value that is not finite.
    """
    if len(_ranks(x, y, given)[0]) < 4:
        raise InvalidInput("A partial correlation needs at least four observations.")
    xy, xz, yz = rank_correlation(x, y), rank_correlation(x, given), rank_correlation(y, given)
    left = (1 - xz**2) * (1 - yz**2)
    if not min(1 - xz**2, 1 - yz**2) > 1e-12:  # rounding, or NaN
        return float("nan")
    return float(np.clip((xy - xz * yz) / np.sqrt(left), -1, 1))


def mean_rank_correlation(
    x: ArrayLike, observations: ArrayLike, given: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Rank correlation of a fixed quantity with a noisy one, over repetitions: one coefficient a
    repetition, their mean and t interval.

    The items are all there are; what is sampled are the repetitions. Noise in a repetition draws
    its coefficient towards zero.

    Args:
        x: (items,) the fixed quantity.
        observations: (repetitions, items).
        given: (items,) held fixed (``partial_rank_correlation``), or None.
        level: coverage, in (0, 1).

    Returns:
        The interval, its ends kept within [-1, 1]; NaN with n = 0 where the coefficient of some
        repetition is undefined.

    Raises:
        InvalidInput: shapes that do not fit, too few items, values that are not finite, or a level
            out of range.
    """
    y = _repeated(x, observations)
    rho = [
        rank_correlation(x, row) if given is None else partial_rank_correlation(x, row, given)
        for row in y
    ]
    if not np.isfinite(rho).all():
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    found = mean_interval(rho, level)
    low, high = np.clip([found.low, found.high], -1, 1)
    return Interval(found.mean, float(low), float(high), found.n)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """P values adjusted so that rejecting those below 5 % makes one false rejection or more in at
    most 5 % of families (Holm 1979).

    Args:
        p: (n,) p values of one family, n >= 1.

    Returns:
        (n,) adjusted, in the order given, at most 1.

    Raises:
        InvalidInput: none, or a value outside [0, 1].
    """
    values = floats("p", p)
    if values.ndim != 1 or len(values) == 0 or not ((values >= 0) & (values <= 1)).all():
        raise InvalidInput("holm needs a list of at least one p value, each in [0, 1].")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(
        np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1
    )
    return adjusted


@dataclass(frozen=True)
class Monotonicity:
    """What pairs of items say about "y is a monotone function of x"; a pair counts when its means
    differ at 5 % after Holm over all pairs.

    Attributes:
        direction: 1 or -1, the sign of the rank correlation of the means (1 where that is zero or
            undefined).
        pairs: pairs of items with different x.
        agreeing, contradicting: those of them whose means differ significantly along the direction,
            and against it.
        largest: the largest difference of means among the contradicting, 0 if there are none.
        tied_pairs: pairs of items with the same x.
        tied_apart: those of them whose means differ significantly: y is then no function of x,
            whatever its direction.
        largest_tied: the largest difference of means among these, 0 if there are none.
    """

    direction: int
    pairs: int
    agreeing: int
    contradicting: int
    largest: float
    tied_pairs: int
    tied_apart: int
    largest_tied: float

    @property
    def rejected(self) -> bool:
        """Whether y goes both up and down with x: some pair rules out a decreasing function, and
        some pair an increasing one.
        """
        return self.agreeing > 0 and self.contradicting > 0


def monotonicity(x: ArrayLike, observations: ArrayLike) -> Monotonicity:
    """Look among all pairs of items for significant contradictions of "y is a monotone function of
    x".

    Each pair has a paired t test over the repetitions, all pairs of items, tied ones too, make one
    Holm family. So if y is truly monotone in x, it is rejected at most 5 % of the time. Not
    rejected is not proven: with few repetitions hardly any pair can be significant.

    Args:
        x: (items,) the fixed quantity; items are tied where it is exactly equal.
        observations: (repetitions, items), at least two repetitions, the same repetition paired
            across items.

    Returns:
        The counts. A pair whose difference is the same in every repetition has no spread to be
        tested against and is never significant: with accuracies in steps of one image and few
        repetitions that happens by chance.

    Raises:
        InvalidInput: shapes that do not fit, fewer than three items, one repetition only, or values
            that are not finite.
    """
    y, position = _repeated(x, observations), floats("x", x)
    if len(y) < 2:
        raise InvalidInput("A paired test needs at least two repetitions; this is one.")
    if len(position) < 3:
        raise InvalidInput(f"An order needs at least three items; these are {len(position)}.")
    first, second = np.triu_indices(len(position), 1)
    differences = y[:, second] - y[:, first]
    means, errors = differences.mean(axis=0), differences.std(axis=0, ddof=1) / np.sqrt(len(y))
    spread = errors > 1e-12 * np.abs(y).max()
    p = np.ones(len(means))
    p[spread] = 2 * stats.t.sf(np.abs(means[spread]) / errors[spread], len(y) - 1)
    significant, steps = holm(p) < 0.05, np.sign(position[second] - position[first])
    direction = -1 if rank_correlation(position, y.mean(axis=0)) < 0 else 1
    along, tied = steps * direction * means, steps == 0
    contradicting, apart = significant & (along < 0), significant & tied
    return Monotonicity(
        direction=direction,
        pairs=int((~tied).sum()),
        agreeing=int((significant & (along > 0)).sum()),
        contradicting=int(contradicting.sum()),
        largest=float(np.abs(means[contradicting]).max(initial=0)),
        tied_pairs=int(tied.sum()),
        tied_apart=int(apart.sum()),
        largest_tied=float(np.abs(means[apart]).max(initial=0)),
    )


def _ranks(*lists: ArrayLike) -> list[NDArray[np.float64]]:
    """Mean ranks of lists of one length, checked."""
    values = [floats("values", one) for one in lists]
    shapes = {v.shape for v in values}
    if (
        len(shapes) > 1
        or values[0].ndim != 1
        or len(values[0]) < 3
        or not np.isfinite(values).all()
    ):
        raise InvalidInput(
            "A rank correlation needs lists of one length, of at least three finite values."
        )
    return [stats.rankdata(v) for v in values]


def _repeated(x: ArrayLike, observations: ArrayLike) -> NDArray[np.float64]:
    """Observations, (repetitions, items), checked against one value an item."""
    y, shape = floats("observations", observations), floats("x", x).shape
    if (
        len(shape) != 1
        or y.ndim != 2
        or y.shape[1:] != shape
        or len(y) == 0
        or not np.isfinite(y).all()
    ):
        raise InvalidInput(
            "Observations are finite and (repetitions, items), with one x an item; got "
            f"{y.shape} for x of shape {shape}."
        )
    return y
