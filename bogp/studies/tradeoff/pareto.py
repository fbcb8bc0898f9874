"""What a front of masks says about alpha: Pareto front, its concave hull, and which alpha ask for
which mask (Algorithm 4).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bogp.checks import floats, whole
from bogp.errors import InvalidInput


def evaluated(history: pd.DataFrame, reference: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Every mask that was trained under a protocol, by searches or for reference.

    Args:
        history: from ``tradeoff.histories``.
        reference: from ``tradeoff.reference_curve``; it makes sure that the densest and the
            sparsest mask are there.
        protocol: its name.

    Returns:
        One row a mask, ordered by sparsity: ``mask_id``, ``sparsity``, ``accuracy`` (mean
        validation accuracy of its trainings), ``trainings``, and ``on_front``: whether no other
        mask is at least as good in both and better in one.
    """
    columns = ["key", "mask_id", "sparsity", "validation_accuracy"]
    rows = pd.concat(
        [history[columns], reference.loc[reference["protocol"] == protocol, columns]]
    ).drop_duplicates("key")
    table = (
        rows.groupby("mask_id", as_index=False)
        .agg(
            sparsity=("sparsity", "first"),
            accuracy=("validation_accuracy", "mean"),
            trainings=("key", "size"),
        )
        .sort_values(["sparsity", "mask_id"], ignore_index=True)
    )
    return table.assign(on_front=pareto_front(table["accuracy"], table["sparsity"]))


def pareto_front(accuracy: ArrayLike, sparsity: ArrayLike) -> NDArray[np.bool_]:
    """(N,) whether no other point is at least as good in both and better in one. It is a best of
    many noisy numbers, hence too good.
    """
    a, s = _points(accuracy, sparsity)
    at_least = (a >= a[:, None]) & (s >= s[:, None])
    return np.logical_not(np.any(at_least & ((a > a[:, None]) | (s > s[:, None])), axis=1))


def upper_hull(accuracy: ArrayLike, sparsity: ArrayLike) -> NDArray[np.intp]:
    """Points that maximise accuracy + alpha * sparsity for some alpha > 0: the corners of the
    concave hull of the front.

    Args:
        accuracy, sparsity: (N,) finite values.

    Returns:
        Their positions, from the most accurate to the sparsest; of equal points the first.
    """
    a, s = _points(accuracy, sparsity)
    front = np.flatnonzero(pareto_front(a, s))
    hull: list[int] = []
    for i in front[np.unique(s[front], return_index=True)[1]]:
        # The point before the new one goes if it does not lie above the line from the one before
        # it.
        while len(hull) > 1 and (a[hull[-1]] - a[hull[-2]]) * (s[i] - s[hull[-2]]) <= (
            a[i] - a[hull[-2]]
        ) * (s[hull[-1]] - s[hull[-2]]):
            hull.pop()
        hull.append(int(i))
    return np.array(hull, dtype=np.intp)


def alpha_ranges(accuracy: ArrayLike, sparsity: ArrayLike) -> pd.DataFrame:
    """For which alpha each corner of the hull is the maximiser, in both forms; from the slopes of
    the hull.

    Args:
        accuracy, sparsity: (N,) values of all masks.

    Returns:
        ``form``, ``sparsity``, ``accuracy``, ``lowest`` and ``highest`` alpha within [0, 1]
        (corners that no such alpha asks for are left out), and ``asks_for``: ``the sparsest`` or
        ``the densest`` where the maximiser is an end of all the points, so that alpha is
        meaningless: no trade-off is made. Else ``a trade-off``.
    """
    a, s = _points(accuracy, sparsity)
    hull = upper_hull(a, s)
    # ascending: the alpha of ``sum`` at which two neighbours are equal
    slopes = -np.diff(a[hull]) / np.diff(s[hull])
    ends = np.array([0.0, *slopes, np.inf])
    with np.errstate(invalid="ignore"):
        of_form = {"sum": ends, "interpolated": np.where(np.isinf(ends), 1.0, ends / (1 + ends))}
    corners = pd.DataFrame({"sparsity": s[hull], "accuracy": a[hull]})
    is_end = [s[hull] == s.max(), s[hull] == s.min()]
    asks_for = np.select(is_end, ["the sparsest", "the densest"], "a trade-off")
    table = pd.concat(
        [
            corners.assign(form=form, lowest=alpha[:-1], highest=np.minimum(alpha[1:], 1.0))
            for form, alpha in of_form.items()
        ]
    ).assign(asks_for=[*asks_for] * len(of_form))
    columns = ["form", "sparsity", "accuracy", "lowest", "highest", "asks_for"]
    return table.loc[table["lowest"] <= 1, columns].reset_index(drop=True)


def binned(accuracy: ArrayLike, sparsity: ArrayLike, bins: int) -> pd.DataFrame:
    """Means over bins of equally many masks of neighbouring sparsity: a curve that does not rest on
    lucky masks.

    Args:
        accuracy, sparsity: (N,) values.
        bins: how many; fewer where there are fewer masks.

    Returns:
        ``sparsity``, ``accuracy`` and ``masks`` of each bin, from dense to sparse.

    Raises:
        InvalidInput: fewer than two bins.
    """
    a, s = _points(accuracy, sparsity)
    if whole("bins", bins) < 2:
        raise InvalidInput(f"bins is {bins}; a curve needs at least 2.")
    parts = np.array_split(np.argsort(s, kind="stable"), min(bins, len(s)))
    rows = [(s[part].mean(), a[part].mean(), len(part)) for part in parts]
    return pd.DataFrame(rows, columns=["sparsity", "accuracy", "masks"])


def curve_ranges(points: pd.DataFrame, bins: int) -> pd.DataFrame:
    """``alpha_ranges`` of the front of all masks (``curve`` is ``front``) and of their means in
    bins (``bins``), one under the other.

    Args:
        points: from ``evaluated``.
        bins: of ``binned``.
    """
    curves = {"front": points, "bins": binned(points["accuracy"], points["sparsity"], bins)}
    return pd.concat(
        [
            alpha_ranges(c["accuracy"], c["sparsity"]).assign(curve=name)
            for name, c in curves.items()
        ],
        ignore_index=True,
    )


def asked_for(ranges: pd.DataFrame, alphas: Sequence[float]) -> pd.DataFrame:
    """What each alpha asks for: the rows of ``curve_ranges`` whose range holds it (the sparser one
    where two do), with ``alpha``.
    """
    every = pd.DataFrame({"alpha": alphas}).merge(ranges, how="cross")
    holds = every[(every["lowest"] <= every["alpha"]) & (every["alpha"] <= every["highest"])]
    last = holds.groupby(["alpha", "curve", "form"], as_index=False, sort=False).last()
    return last[["alpha", "form", "curve", "sparsity", "accuracy", "asks_for"]]


def meaningless(ranges: pd.DataFrame) -> str:
    """For which alpha the objective asks for an end of the database, in words, one line a curve and
    form; from ``curve_ranges``.
    """
    lines = []
    for (curve, form), one in ranges.groupby(["curve", "form"], sort=False):
        of = {"front": "mask", "bins": "bin"}[curve]
        said = [
            f"{_range(r.lowest, r.highest)} asks for {r.asks_for} {of} (sparsity {r.sparsity:.3f})"
            for r in one[one["asks_for"] != "a trade-off"].itertuples()
        ]
        lines.append(f"{curve}, {form}: " + ("; ".join(said) or "no alpha asks for an end"))
    return "\n".join(lines)


def _range(low: float, high: float) -> str:
    return (
        f"alpha of {low:.3f}"
        if f"{low:.3f}" == f"{high:.3f}"
        else f"alpha from {low:.3f} to {high:.3f}"
    )


def _points(
    accuracy: ArrayLike, sparsity: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, s = floats("accuracy", accuracy), floats("sparsity", sparsity)
    if a.ndim != 1 or a.shape != s.shape or len(a) == 0 or not np.isfinite([a, s]).all():
        raise InvalidInput(
            "As many accuracies as sparsities are needed, at least one, all finite; got "
            f"shapes {a.shape} and {s.shape}."
        )
    return a, s
