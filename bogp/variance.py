"""Variance components: which part of the spread of accuracies is the mask's, which the seed's, and
which neither's; and what a sample can find.

Each of M masks is trained from each of S seeds, once (a crossed table without replication). The
model is that of two-way analysis of variance with random effects, y = mu + mask + seed + rest, all
normal; its mean squares give exact tests and exact or nearly exact intervals. *Exact* is meant for
normal effects: where those of the masks have longer tails, as exponential ones or those of a t
distribution with 4 degrees of freedom, a 95 % interval of the masks' part (and of the shares)
covers two thirds to four fifths of the time, and that of a residual with such tails as rarely.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from bogp.checks import floats, number, refuse, share, whole
from bogp.errors import InvalidInput

_ROUNDING = 1e-12  # of the largest value: what is smaller is rounding, and counts as no spread
_SMALLEST_TAIL = 1e-16
_DRAWS = 10_000
# of levels and powers: noncentral distributions further out take for ever to compute
_EXTREME = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its two-sided interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.5f} [{self.low:.5f}, {self.high:.5f}]"


@dataclass(frozen=True)
class Components:
    """Parts of the spread in a table of masks x seeds.

    Attributes:
        masks, seeds: size of the table.
        mean: of the table.
        between_masks, between_seeds, residual: standard deviations, in the table's unit; a variance
            whose estimate is negative is 0.
        icc: share of the mask in the variance of one training, the seeds' part taken out
            (ICC(C,1)); NaN if nothing but seeds varies.
        ceiling: the same for the mean over the table's seeds (ICC(C,k)): the largest R2 that a
            predictor of that mean can have which knows the mask alone.
        p: of the F test that masks do not differ.
    """

    masks: int
    seeds: int
    mean: float
    between_masks: Estimate
    between_seeds: Estimate
    residual: Estimate
    icc: Estimate
    ceiling: Estimate
    p: float


def components(table: ArrayLike, level: float = 0.95) -> Components:
    """Split the variance of a crossed table.

    Args:
        table: (masks, seeds) accuracies, each pair trained once.
        level: coverage of the intervals, in (0, 1).

    Returns:
        The parts. Intervals of the residual and of the two shares are exact for normal effects
        (chi-square; McGraw & Wong 1996); those of the spread between masks and between seeds are
        Williams' (1962), which cover as often as they say or a little more (95 to 96 % for 95 %).
        Without any spread ``p`` is 1.

    Raises:
        InvalidInput: not a finite table with at least two masks and two seeds, or a level out of
            range.
    """
    y = _checked(table, 2, "(masks, seeds)")
    tail = _tail(level)
    (m, s), between, across, rest = y.shape, *_mean_squares(y)
    df, df_rest = m - 1, (m - 1) * (s - 1)
    ratio = _ratio(between, rest)
    lowest, highest = ratio / stats.f.isf(tail, df, df_rest), ratio / stats.f.ppf(tail, df, df_rest)
    return Components(
        masks=m,
        seeds=s,
        mean=float(y.mean()),
        between_masks=_Spread(between, rest, df, df_rest, s).estimate(tail),
        between_seeds=_Spread(across, rest, s - 1, df_rest, m).estimate(tail),
        residual=_residual(rest, df_rest, tail),
        icc=Estimate(*(_share(r, s) for r in (ratio, lowest, highest))),
        ceiling=Estimate(*(_share(r, 1) for r in (ratio, lowest, highest))),
        p=_p(ratio, df, df_rest),
    )


def spread_p(table: ArrayLike, threshold: float) -> tuple[float, float]:
    """P values of "the standard deviation between masks is the threshold": the interval of
    ``components``, inverted in its level.

    Args:
        table: (masks, seeds) accuracies.
        threshold: at least 0, in their unit.

    Returns:
        ``above`` and ``below``: the first is less than 1 - level exactly when the interval of that
        level lies above the threshold, the second when it lies below. What is smaller than 2e-16 is
        given as 0.

    Raises:
        InvalidInput: as ``components``, or a threshold that is negative or not finite.
    """
    y = _checked(table, 2, "(masks, seeds)")
    refuse(
        not 0 <= number("threshold", threshold) < np.inf,
        f"threshold is {threshold}; a standard deviation of at least 0 is needed.",
    )
    between, _, rest = _mean_squares(y)
    spread = _Spread(between, rest, len(y) - 1, (len(y) - 1) * (y.shape[1] - 1), y.shape[1])
    return (
        _inverted(lambda tail: spread.low(tail) - threshold**2),
        _inverted(lambda tail: threshold**2 - spread.high(tail)) if threshold > 0 else 1.0,
    )


def detectable_spread(
    masks: int, seeds: int, residual: float, power: float = 0.8, level: float = 0.05
) -> float:
    """Smallest standard deviation between masks that the F test finds.

    Args:
        masks, seeds: size of the table, each at least 2.
        residual: standard deviation of what is neither the mask's nor the seed's.
        power: probability of finding it, more than ``level``.
        level: of the test.

    Returns:
        In the unit of ``residual``. The ratio of mean squares is F times 1 + seeds (spread /
        residual)^2, so that it has a closed form.

    Raises:
        InvalidInput: a size, residual, power or level out of range.
    """
    _check_power(residual, power, level)
    refuse(
        min(whole("masks", masks, high=10**9), whole("seeds", seeds, high=10**9)) < 2,
        f"A table of {masks} masks x {seeds} seeds has no F test; at least two of each are needed.",
    )
    df, df_rest = masks - 1, (masks - 1) * (seeds - 1)
    ratio = stats.f.isf(level, df, df_rest) / stats.f.isf(power, df, df_rest)
    return float(residual * np.sqrt((ratio - 1) / seeds))


def detectable_mean(error: float, df: float, power: float = 0.8, level: float = 0.05) -> float:
    """Smallest mean difference that a two-sided t test finds (noncentral t).

    Args:
        error: standard error of the mean difference.
        df: degrees of freedom, at least 1.
        power, level: as in ``detectable_spread``.

    Returns:
        In the unit of ``error``.

    Raises:
        InvalidInput: an error, degrees of freedom, power or level out of range.
    """
    _check_power(error, power, level)
    refuse(
        not 1 <= number("df", df) < np.inf,
        f"df is {df}; at least one degree of freedom is needed, and finitely many.",
    )
    critical = stats.t.isf(level / 2, df)

    def excess(shift: float) -> float:
        # of t squared: scipy's noncentral t is NaN far out
        return float(stats.ncf.sf(critical**2, 1, df, shift**2)) - power

    highest = critical + 1.0
    while excess(highest) < 0:
        highest *= 2
    try:
        return float(error * optimize.brentq(excess, 0, highest, xtol=1e-10))
    except ValueError:  # NaN on the way
        raise InvalidInput(
            f"level is {level} and power {power}: so near to 0 or 1 they cannot be computed with."
        ) from None


@dataclass(frozen=True)
class Nested:
    """Parts of the spread over versions within graphs, each trained from every seed.

    Attributes:
        graphs, versions, seeds: sizes.
        between_graphs, between_versions, residual: standard deviations; the second within a graph,
            the seeds' part taken out of all.
        share: of the graph in the variance of graph and version together; NaN if neither has any.
        p_graphs: of the F test that graphs do not differ by more than versions do.
        p_versions: of the F test that versions of a graph do not differ.
    """

    graphs: int
    versions: int
    seeds: int
    between_graphs: Estimate
    between_versions: Estimate
    residual: Estimate
    share: Estimate
    p_graphs: float
    p_versions: float


def nested(values: ArrayLike, level: float = 0.95) -> Nested:
    """Split the variance of a nested design: y = mu + seed + graph + version within graph + rest,
    all normal.

    Args:
        values: (graphs, versions, seeds) accuracies, at least two of each; seed k is the same for
            all.
        level: coverage of the intervals, in (0, 1).

    Returns:
        The parts, with the intervals of ``components``; that of the share is a generalised
        confidence interval (Weerahandi 1993), from draws that are always the same. A draw in which
        neither graph nor version varies says nothing: it counts as 0 for the lower end, as 1 for
        the upper.

    Raises:
        InvalidInput: not finite, fewer than two of something, or a level out of range.
    """
    y = _checked(values, 3, "(graphs, versions, seeds)")
    tail = _tail(level)
    g, v, s = y.shape
    of_versions = y.mean(axis=2)
    of_graphs = of_versions.mean(axis=1, keepdims=True)
    negligible = _negligible(y)
    graphs = _or_none(v * s * np.square(of_graphs - y.mean()).sum() / (g - 1), negligible)
    versions = _or_none(s * np.square(of_versions - of_graphs).sum() / (g * (v - 1)), negligible)
    rest = _mean_squares(y.reshape(g * v, s))[2]
    df_graphs, df_versions, df_rest = g - 1, g * (v - 1), (g * v - 1) * (s - 1)
    rng = np.random.default_rng(np.random.SeedSequence(0))
    one, two, three = (
        ms * df / rng.chisquare(df, _DRAWS)
        for ms, df in ((graphs, df_graphs), (versions, df_versions), (rest, df_rest))
    )
    shares = _graph_share(one, two, three, v)
    return Nested(
        graphs=g,
        versions=v,
        seeds=s,
        between_graphs=_Spread(graphs, versions, df_graphs, df_versions, v * s).estimate(tail),
        between_versions=_Spread(versions, rest, df_versions, df_rest, s).estimate(tail),
        residual=_residual(rest, df_rest, tail),
        share=Estimate(
            float(_graph_share(graphs, versions, rest, v)),
            float(np.quantile(np.nan_to_num(shares, nan=0.0), tail)),
            float(np.quantile(np.nan_to_num(shares, nan=1.0), 1 - tail)),
        ),
        p_graphs=_p(_ratio(graphs, versions), df_graphs, df_versions),
        p_versions=_p(_ratio(versions, rest), df_versions, df_rest),
    )


@dataclass(frozen=True)
class _Spread:
    """A component whose mean square expects ``times`` its variance more than the mean square below
    does.

    The ends are variances, not cut at 0, and grow apart as the tail on each side shrinks: Williams'
        interval.
    """

    upper: float
    lower: float
    df: int
    df_lower: int
    times: int

    def low(self, tail: float) -> float:
        excess = self.upper - self.lower * stats.f.isf(tail, self.df, self.df_lower)
        return float(self.df * excess / (self.times * stats.chi2.isf(tail, self.df)))

    def high(self, tail: float) -> float:
        excess = self.upper - self.lower * stats.f.ppf(tail, self.df, self.df_lower)
        return float(self.df * excess / (self.times * stats.chi2.ppf(tail, self.df)))

    def estimate(self, tail: float) -> Estimate:
        """The standard deviation with its interval."""
        variances = (self.upper - self.lower) / self.times, self.low(tail), self.high(tail)
        return Estimate(*(float(np.sqrt(max(variance, 0.0))) for variance in variances))


def _residual(mean_square: float, df: int, tail: float) -> Estimate:
    ends = mean_square * df / stats.chi2.isf(tail, df), mean_square * df / stats.chi2.ppf(tail, df)
    return Estimate(*(float(np.sqrt(x)) for x in (mean_square, *ends)))


def _mean_squares(y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of rows, of columns, and of the rest."""
    rows, columns, mean = y.mean(axis=1, keepdims=True), y.mean(axis=0, keepdims=True), y.mean()
    m, s = y.shape
    negligible = _negligible(y)
    return (
        _or_none(s * np.square(rows - mean).sum() / (m - 1), negligible),
        _or_none(m * np.square(columns - mean).sum() / (s - 1), negligible),
        _or_none(np.square(y - rows - columns + mean).sum() / ((m - 1) * (s - 1)), negligible),
    )


def _negligible(y: NDArray[np.float64]) -> float:
    """Mean squares up to this are rounding."""
    return float((_ROUNDING * np.abs(y).max()) ** 2)


def _or_none(mean_square: float, negligible: float) -> float:
    return float(mean_square) if mean_square > negligible else 0.0


def _ratio(upper: float, lower: float) -> float:
    return upper / lower if lower > 0 else np.inf if upper > 0 else np.nan


def _p(ratio: float, df: int, df_lower: int) -> float:
    return 1.0 if np.isnan(ratio) else float(stats.f.sf(ratio, df, df_lower))


def _share(ratio: float, k: int) -> float:
    """Share of the upper component in the variance of the mean over seeds / k of them, from the
    ratio of mean squares; 0 if it is negative.
    """
    return float(1 - k / (np.maximum(ratio, 1) + k - 1))


def _graph_share(
    graphs: ArrayLike, versions: ArrayLike, rest: ArrayLike, v: int
) -> NDArray[np.float64]:
    """Share of the graph from the three mean squares, NaN where neither graph nor version
    varies.
    """
    graph = np.maximum(np.subtract(graphs, versions), 0) / v
    version = np.maximum(np.subtract(versions, rest), 0)
    with np.errstate(invalid="ignore"):
        return np.divide(graph, graph + version)


def _inverted(clearance: Callable[[float], float]) -> float:
    """Twice the smallest tail at which an end of an interval is clear of the threshold; clearance
    grows with the tail.
    """
    if clearance(0.5) <= 0:
        return 1.0
    if clearance(_SMALLEST_TAIL) > 0:
        return 0.0
    ends = np.log(_SMALLEST_TAIL), np.log(0.5)
    return float(2 * np.exp(optimize.brentq(lambda x: clearance(np.exp(x)), *ends, xtol=1e-12)))


def _checked(values: ArrayLike, dimensions: int, axes: str) -> NDArray[np.float64]:
    y = floats("values", values)
    refuse(
        y.ndim != dimensions or min(y.shape) < 2 or not np.isfinite(y).all(),
        f"Finite values {axes} are needed, at least two of each; got shape {y.shape}.",
    )
    return y


def _tail(level: float) -> float:
    return (1 - share("level", level)) / 2


def _check_power(residual: float, power: float, level: float) -> None:
    residual, power, level = (
        number("a standard deviation", residual),
        number("power", power),
        number("level", level),
    )
    refuse(
        not (0 <= residual < np.inf and _EXTREME <= level < power <= 1 - _EXTREME),
        f"A standard deviation of at least 0, and {_EXTREME:g} <= level < power <= 1 - "
        f"{_EXTREME:g} are needed; "
        f"got {residual}, level {level} and power {power}.",
    )
