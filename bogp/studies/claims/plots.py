"""Plots of notebook 06: the quantities by which the paper's claims are judged, with their intervals
and thresholds.

Tables hold accuracies, their differences and their standard deviations as shares (0 to 1); what is
small is drawn in thousandths.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bogp.graphs.relational import Mask
from bogp.plotting import (
    LABELS,
    METHODS,
    Styles,
    dots,
    legend,
    matrix,
    names,
    panels,
    stretch,
    styles,
    titled,
)
from bogp.studies.baselines.tables import MARGIN
from bogp.studies.claims.verdicts import HOLDS
from bogp.studies.printed import PAPER_BASE
from bogp.variance import components as split

_DATASETS = {"mnist": "MNIST", "mnist-5k": "MNIST, 5,000 images", "fashion-mnist": "Fashion-MNIST"}
_PARTS = {
    "masks": "between masks",
    "graphs": "between graphs",
    "versions": "between versions of a graph",
    "residual": "residual (one training)",
}
_PREDICTORS = {"all": "all properties", "all + density": "all properties and density"}
_SEARCHES = {
    "box": "box (the paper's)",
    "pool": "pool",
    "random": "random search",
    "box_random": "box, random queries",
    "density": "density alone",
    "box_permuted": "box, permuted",
    "pool_permuted": "pool, permuted",
    "box_l2": "box, nearest by L2",
}
_RECOMMENDERS = {"observed": "best observed", "posterior": "best posterior mean"}
_MEASURES = {
    "apparent": "validation, as chosen",
    "fresh_validation": "validation, fresh seeds",
    "fresh_test": "test, fresh seeds",
}
_SEARCH_BARS = "mean over searches; bars: 95 % t interval"
_EQUIVALENCE = '"within the margin" is decided by the 90 % interval'
_WORST_R2 = -0.5  # what is worse is drawn here: how much worse would flatten the rest


def settings(table: pd.DataFrame, printed: float = PAPER_BASE, margin: float = MARGIN) -> Figure:
    """Accuracy of the unpruned network under each protocol, on a logarithmic axis of the share
    misclassified.

    Args:
        table: from ``settings.summary``; drawn in the order given.
        printed: the paper's accuracy, a dashed line.
        margin: what counts as the same accuracy, a band.
    """
    wrong = table.assign(mean=1 - table["mean"], low=1 - table["high"], high=1 - table["low"])
    best = 0.7 * min(wrong["mean"].min(), 1 - printed)
    figure, ax = plt.subplots(figsize=(8, 0.28 * len(table) + 1.3))
    dots(ax, wrong, "protocol", names(table["protocol"]), unit=1)
    ax.axvspan(
        1 - printed - margin,
        1 - printed + margin,
        color="#DDDDDD",
        zorder=0,
        label=f"within {margin:g} of it",
    )
    ax.axvline(
        1 - printed,
        color="#000000",
        linestyle="--",
        linewidth=0.9,
        label=f"the paper prints {printed:.3f}",
    )
    ticks = [e for e in (0.9, 0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002) if e > best]
    ax.set(
        xscale="log",
        xlim=(1, best),
        xlabel="test accuracy (axis: logarithm of the share misclassified)",
    )
    ax.set_xticks(ticks, [f"{1 - e:g}" for e in ticks])
    ax.minorticks_off()
    seeds = " to ".join(str(n) for n in sorted({table["n"].min(), table["n"].max()}))
    return _finished(figure, [ax], f"mean over {seeds} seeds; bars: 95 % t interval")


def spreads(
    table: pd.DataFrame, place: str, parts: Sequence[str], threshold: float = MARGIN
) -> Figure:
    """Standard deviation of accuracy between masks beside that of repeated trainings, and the like.

    Args:
        table: from ``crossed.parts`` or ``exchangeable.parts``.
        place: column that has a row for each of its values, such as ``set`` or ``change``.
        parts: those of the table's that are drawn side by side.
        threshold: above which a spread is called wide, a dotted line.
    """
    rows, line = names(table[place]), 1000 * threshold
    figure, ax = plt.subplots(figsize=(8, 0.2 * len(rows) * len(parts) + 1.5))
    look = styles({part: _PARTS[part] for part in parts})
    dots(ax, table.assign(mean=table["value"]), place, rows, "part", look)
    ax.axvline(0, color="#000000", linewidth=0.8)
    ax.axvline(line, color="#000000", linestyle=":", label=f"threshold: {line:g}")
    how = stretch([ax], line)
    ax.set_xlabel(f"standard deviation of accuracy (thousandths{how and '; ' + how})")
    return _finished(figure, [ax], "bars: 95 % interval")


def masks_sorted(tables: Mapping[str, ArrayLike]) -> Figure:
    """Mean accuracy of each mask, sorted, beside what sorted means of equal masks would look like;
    one panel a set.

    That is the expected order statistics of a normal distribution with the residual standard error
    of a mean, by Blom's approximation (Blom 1958, Statistical Estimates and Transformed
    Beta-Variables).

    Args:
        tables: accuracies of each set, (masks, seeds), every mask trained from every seed.

    Raises:
        InvalidInput: a table with fewer than two masks or seeds, or with a value that is not
            finite.
    """
    figure, axes = panels(len(tables), 2.45, 2.5)
    for ax, (name, table) in zip(axes, tables.items(), strict=True):
        accuracies = np.asarray(table, dtype=np.float64)
        parts = split(accuracies)
        error = 1000 * parts.residual.value / np.sqrt(parts.seeds)
        means = 1000 * (np.sort(accuracies.mean(axis=1)) - parts.mean)
        rank = np.arange(1, parts.masks + 1)
        noise = error * stats.norm.ppf((rank - 0.375) / (parts.masks + 0.25))
        ax.fill_between(
            rank,
            means - 1.96 * error,
            means + 1.96 * error,
            color="#56B4E9",
            alpha=0.35,
            linewidth=0,
            label="± 1.96 residual standard errors",
        )
        ax.plot(rank, means, "o", color="#0072B2", ms=2, label="a mask, mean over seeds")
        ax.plot(
            rank,
            noise,
            "--",
            color="#000000",
            linewidth=1,
            label="expected if all masks were equal",
        )
        ax.set_title(f"{name}\n{parts.masks} masks x {parts.seeds} seeds", fontsize=9)
        ax.set_xlabel("rank of the mask")
    plt.setp(axes[::4], ylabel="accuracy minus the mean of all\n(thousandths; axes differ)")
    return _finished(figure, axes)


def prediction(table: pd.DataFrame) -> Figure:
    """Share of the variance of the masks' mean accuracies that each predictor explains, out of
    sample; one panel a set.

    Args:
        table: from ``prediction.of_sets``. The share that is not noise (``ceiling``) is a dashed
            line; what is below -0.5 is drawn at -0.5.
    """
    rows = {p: _PREDICTORS.get(p, _short(p)) for p in table["predictor"].unique()}
    look = styles(table["model"].unique())
    ends = {
        end: table[column].clip(lower=_WORST_R2)
        for end, column in {"mean": "cv_r2", "low": "r2_low", "high": "r2_high"}.items()
    }
    figure, axes = _panels(
        table.assign(**ends),
        "set",
        names(table["set"]),
        "predictor",
        rows,
        (2.3, (0.1 * len(look) + 0.12) * len(rows) + 1.0),
        series="model",
        look=look,
        unit=1,
        sharex=True,
        xlabel="R2, cross-validated",
    )
    for ax, ceiling in zip(axes, table.drop_duplicates("set")["ceiling"], strict=True):
        ax.axvline(ceiling, color="#555555", linestyle="--", linewidth=1, label="noise ceiling")
    cut = f"; below {_WORST_R2:g} drawn there" if (table["cv_r2"] < _WORST_R2).any() else ""
    return _finished(
        figure,
        axes,
        "share of the variance of mean accuracy explained; "
        f"bars: 95 % bootstrap interval over masks{cut}",
    )


def twins(
    first_mask: Mask,
    second_mask: Mask,
    loss_first: NDArray[np.float64],
    loss_second: NDArray[np.float64],
    titles: Sequence[str],
) -> Figure:
    """Two masks as matrices, and the losses of their networks in one panel, one line thick and the
    other thin on top of it.

    Args:
        first_mask, second_mask: (n, n).
        loss_first, loss_second: (steps,) training losses, positive.
        titles: of the two masks; the first line of each names its curve.
    """
    figure, (left, right, losses) = plt.subplots(1, 3, figsize=(10, 3.3), width_ratios=[1, 1, 1.4])
    for ax, mask, title in zip((left, right), (first_mask, second_mask), titles, strict=True):
        matrix(ax, mask, title, fontsize=8, fontweight="normal")
    first, second = (title.split("\n")[0] for title in titles)
    losses.plot(loss_first, color="#56B4E9", linewidth=5, label=first)
    losses.plot(loss_second, color="#000000", linewidth=1.2, linestyle="--", label=second)
    losses.set(xlabel="training step", ylabel="training loss (logarithmic)", yscale="log")
    losses.yaxis.set(
        minor_locator=LogLocator(subs=(2, 5)), major_formatter="{x:g}", minor_formatter="{x:g}"
    )
    losses.legend()
    return figure


def regret(table: pd.DataFrame) -> Figure:
    """Simple regret of each search method: accuracy of the best mask minus that of the mask
    recommended; one panel a table of accuracies.

    Args:
        table: from ``replay.summary``, with ``table``.
    """
    rows = {m: _SEARCHES.get(m, m) for m in table["method"].unique()}
    figure, axes = _panels(
        table.assign(mean=table["regret"], low=table["regret_low"], high=table["regret_high"]),
        "table",
        names(table["table"]),
        "method",
        rows,
        (2.3, 0.34 * len(rows) + 1.1),
        series="recommender",
        look=styles(_RECOMMENDERS),
        xlabel="simple regret\n(thousandths of accuracy)",
    )
    for ax in axes:
        ax.locator_params(axis="x", nbins=5)
    return _finished(figure, axes, f"{_SEARCH_BARS}; less is better; axes differ")


def curse(table: pd.DataFrame) -> Figure:
    """Accuracy that masks were chosen by, and that of the same masks with fresh seeds, against
    sparsity; one panel a method.

    Args:
        table: ``group_intervals`` of notebook 03's chosen masks by ``target_sparsity`` and
            ``method``.
    """
    figure, axes = _panels(
        table,
        "method",
        {m: METHODS.get(m, m) for m in table["method"].unique()},
        "target_sparsity",
        _sparsities(table["target_sparsity"]),
        (4.4, 2.9),
        series="measure",
        look=styles(_MEASURES),
        unit=1,
        upright=True,
        zero=False,
        xlabel="sparsity of the mask (share of zeros)",
    )
    axes[0].set_ylabel("accuracy")
    return _finished(figure, axes, _SEARCH_BARS)


def gaps(table: pd.DataFrame, margin: float = MARGIN) -> Figure:
    """BoGP minus each other method case by case, one panel a method, with the margin as a band
    around zero.

    Args:
        table: from ``reported.like_for_like``.
        margin: below which accuracies are on a par.
    """
    titles = {name: f"BoGP minus {name}" for name in table["against"].unique()}
    rows = names(table["case"])
    figure, axes = _panels(
        table.assign(mean=table["estimate"]),
        "against",
        titles,
        "case",
        rows,
        (2.3, 0.24 * len(rows) + 1.2),
        sharex=True,
        xlabel="difference in accuracy\n(thousandths)",
    )
    title = f"bars: 95 % t interval over pairs; {_EQUIVALENCE}"
    how = _margin(axes, margin)
    return _finished(figure, axes, title + (how and f"\naxis: {how}"))


def margins(table: pd.DataFrame, margin: float = MARGIN) -> Figure:
    """The smallest margin at which BoGP, and the unpruned network, are on a par with Glob_1,
    against sparsity.

    Args:
        table: from ``reported.against_margin``. A margin that is not reached is drawn above the
            largest, with an arrow.
        margin: that of the claim, a dashed line.
    """
    figure, ax = plt.subplots(figsize=(6, 3.2))
    cases = {case: k for k, case in enumerate(table["case"].unique())}
    for label, colour, marker in styles(table["arm"].unique()).values():
        one = table[table["arm"] == label]
        shown = one[one["verdict"] == HOLDS].groupby("case")["margin"].min()
        never = [case for case in cases if case not in shown.index]
        top = 1000 * table["margin"].max()
        ax.plot([cases[c] for c in shown.index], 1000 * shown, marker, color=colour, label=label)
        ax.plot([cases[c] for c in never], [top] * len(never), "^", color=colour)
    ax.axhline(1000 * margin, color="#000000", linestyle="--", linewidth=0.9, label="the margin")
    ax.set_xticks(list(cases.values()) or [0], list(cases) or ["no results in this run"])
    ax.set(
        ylabel="smallest margin at which\nit is on a par (thousandths)",
        xlabel="sparsity of the mask (share of zeros)",
    )
    return _finished(figure, [ax], "minus Glob_1, like for like; triangle: at none of the margins")


def slopes(table: pd.DataFrame) -> Figure:
    """Advantage over random search on planted slopes of all signs, from the lowest to the highest;
    one panel a table.

    Args:
        table: from ``controls.slope_advantages``.
    """
    ranked = table.assign(
        mean=table["advantage"],
        rank=table.groupby(["table", "method"])["advantage"].rank(method="first").astype(int),
    )
    ranks = sorted(ranked["rank"].unique())
    figure, axes = _panels(
        ranked,
        "table",
        names(table["table"]),
        "rank",
        {k: str(k) if k == 1 or k % 8 == 0 else "" for k in ranks},
        (4.2, 3.0),
        series="method",
        look=styles({m: _SEARCHES[m] for m in table["method"].unique()}),
        upright=True,
        xlabel="planted slopes, in the order of the advantage",
    )
    axes[0].set_ylabel("accuracy minus random search's\n(thousandths)")
    return _finished(figure, axes, _SEARCH_BARS)


def defects(table: pd.DataFrame, margin: float = MARGIN) -> Figure:
    """What each defect does to the accuracy that is reported, with the margin as a band around
    zero.

    Args:
        table: from ``defects.effects``.
        margin: below which an effect does not matter.
    """
    figure, ax = plt.subplots(figsize=(8, 0.34 * len(table) + 1.5))
    dots(ax, table, "defect", names(table["defect"]))
    ax.axvline(0, color="#000000", linewidth=0.8)
    how = _margin([ax], margin)
    ax.set_xlabel(
        f"reported accuracy with the defect minus without\n(thousandths{how and '; ' + how})"
    )
    return _finished(figure, [ax], f"bars: 95 % t interval over pairs of searches\n{_EQUIVALENCE}")


def pools(table: pd.DataFrame, smallest: float = 0.0005) -> Figure:
    """Advantage of each arm over random choice beside the ceiling, one panel a sparsity.

    Args:
        table: from ``pools.summary``.
        smallest: the smallest gain of interest; from zero to it, a band.
    """
    ends = {"ceiling": "mean", "ceiling_low": "low", "ceiling_high": "high"}
    drawn = pd.concat(
        [
            table.assign(mean=table["estimate"], series="the arm"),
            table.drop(columns=["low", "high"]).rename(columns=ends).assign(series="ceiling"),
        ]
    )
    rows = names(table["arm"])
    figure, axes = _panels(
        drawn,
        "case",
        names(table["case"]),
        "arm",
        rows,
        (2.6, 0.3 * len(rows) + 1.2),
        series="series",
        look=styles(["the arm", "ceiling"]),
        xlabel="accuracy minus that of random\nchoice (thousandths)",
    )
    for ax in axes:
        ax.axvspan(
            0,
            1000 * smallest,
            color="#DDDDDD",
            zorder=0,
            label=f"less than the smallest gain of interest ({1000 * smallest:g})",
        )
    return _finished(figure, axes, "mean over pools; bars: 95 % t interval; axes differ")


def region_spread(table: pd.DataFrame) -> Figure:
    """Standard deviation between graphs and of repeated trainings against sparsity, by numbering;
    one panel a data set.

    Args:
        table: from ``crossed.parts``, by ``dataset``, ``sparsity`` and ``numbering``.
    """
    drawn = table[table["part"].isin(["masks", "residual"])].sort_values("part", kind="stable")
    drawn = drawn.assign(
        mean=drawn["value"], series=drawn["part"].map(_PARTS) + ", " + drawn["numbering"]
    )
    figure, axes = _against_sparsity(drawn, "standard deviation of accuracy\n(thousandths)")
    return _finished(figure, axes, "bars: 95 % interval")


def related(table: pd.DataFrame) -> Figure:
    """Rank correlation of each property and feature with accuracy, as the families number the nodes
    and renumbered; one panel a region.

    Args:
        table: from ``regions.correlations``.
    """
    rows = {c: _short(c) for c in table["column"].unique()}
    figure, axes = _panels(
        table,
        "region",
        names(table["region"]),
        "column",
        rows,
        (2.3, 0.32 * len(rows) + 1.0),
        series="numbering",
        look=styles(table["numbering"].unique()),
        unit=1,
        sharex=True,
        xlim=(-1, 1),
        xlabel="rank correlation with\ntest accuracy",
    )
    return _finished(
        figure,
        axes,
        "over the graphs of a region; mean over seeds, bars: 95 % t interval over seeds",
    )


def _panels(
    table: pd.DataFrame,
    by: str,
    titles: Mapping[Hashable, str],
    place: str,
    places: Mapping[Any, str],
    size: tuple[float, float],
    *,
    series: str | None = None,
    look: Styles | None = None,
    unit: float = 1000,
    upright: bool = False,
    sharex: bool = False,
    zero: bool = True,
    **axis: Any,
) -> tuple[Figure, list[Axes]]:
    """One panel with dots for each value of a column; one that says so where the table has no rows.

    Args:
        table: columns ``mean``, ``low`` and ``high``, and those that are named next.
        by: column that says in which panel a row is drawn, and ``titles``, those of its values.
        place, places, series, look, unit, upright: as in ``plotting.dots``.
        size: of a panel, inches.
        sharex: whether panels have one axis along x.
        zero: whether there is a line at zero.
        axis: what ``Axes.set`` is given.
    """
    shown = titles or {"": "no results in this run"}
    figure, axes = panels(len(shown), *size, sharex=sharex, sharey=True)
    for ax, (name, title) in zip(axes, shown.items(), strict=True):
        dots(
            ax,
            table[table[by] == name],
            place,
            places or {"": "-"},
            series,
            look,
            unit=unit,
            upright=upright,
        )
        if zero:
            (ax.axhline if upright else ax.axvline)(0, color="#000000", linewidth=0.8)
        ax.set(**axis)
        ax.set_title(title, fontsize=9)
    return figure, axes


def _finished(figure: Figure, axes: Sequence[Axes], title: str = "") -> Figure:
    """The figure with a title above all panels and a legend below them."""
    return legend(titled(figure, title), axes)


def _against_sparsity(table: pd.DataFrame, label: str) -> tuple[Figure, list[Axes]]:
    """The column ``series`` against sparsity, one panel a data set."""
    figure, axes = _panels(
        table,
        "dataset",
        {name: _DATASETS.get(name, name) for name in table["dataset"].unique()},
        "sparsity",
        _sparsities(table["sparsity"]),
        (4.2, 3.0),
        series="series",
        look=styles(table["series"].unique()),
        upright=True,
        xlabel="sparsity of the graph (share of zeros)",
    )
    axes[0].set_ylabel(label)
    return figure, axes


def _sparsities(column: pd.Series) -> dict[Hashable, str]:
    return {s: f"{s:.2f}" for s in sorted(column.unique())}


def _short(column: str) -> str:
    """The name of a property or feature without its unit."""
    return LABELS.get(column, column.replace("_", " ")).split(" (")[0]


def _margin(axes: Sequence[Axes], margin: float) -> str:
    """A grey band around zero, in thousandths, on axes that are stretched where need be; what their
    labels have to say of that.
    """
    for ax in axes:
        ax.axvspan(
            -1000 * margin,
            1000 * margin,
            color="#DDDDDD",
            zorder=0,
            label=f"within the margin (± {1000 * margin:g})",
        )
    return stretch(axes, 1000 * margin)
