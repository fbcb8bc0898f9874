"""Plots of notebook 06: the quantities by which the paper's claims are judged, with their intervals and thresholds.

Tables hold accuracies, their differences and their standard deviations as shares (0 to 1); what is small is drawn in thousandths.
"""

from collections.abc import Hashable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bogp.graphs.relational import Mask
from bogp.plotting import LABELS, METHODS, Styles, dots, legend, names, panels, stretch, styles
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
    "box": "box (the paper's)", "pool": "pool", "random": "random search", "box_random": "box, random queries", "density": "density alone",
    "box_permuted": "box, permuted", "pool_permuted": "pool, permuted",
}  # fmt: skip
_RECOMMENDERS = {"observed": "best observed", "posterior": "best posterior mean"}
_MEASURES = {"apparent": "validation, as chosen", "fresh_validation": "validation, fresh seeds", "fresh_test": "test, fresh seeds"}
_SEARCH_BARS = "mean over searches; bars: 95 % t interval"
_EQUIVALENCE = '"within the margin" is decided by the 90 % interval'
_WORST_R2 = -0.5  # what is worse is drawn here: how much worse would flatten the rest


def settings(table: pd.DataFrame, printed: float = 0.970, margin: float | None = None) -> Figure:
    """Accuracy of the unpruned network under each protocol, on a logarithmic axis of the share misclassified.

    Args:
        table: columns ``protocol``, ``mean``, ``low``, ``high`` (95 % t interval over seeds; NaN for none) and ``n``; drawn in the order given.
        printed: the paper's accuracy, a dashed line.
        margin: what counts as the same accuracy, a band; None for no band.
    """
    wrong = pd.DataFrame({"protocol": table["protocol"], "mean": 1 - table["mean"], "low": 1 - table["high"], "high": 1 - table["low"]})
    best = 0.7 * min(wrong["mean"].min(), 1 - printed)
    figure, ax = plt.subplots(figsize=(8, 0.28 * len(table) + 1.3))
    dots(ax, wrong, "protocol", names(table["protocol"]), unit=1)
    if margin is not None:
        ax.axvspan(1 - printed - margin, 1 - printed + margin, color="#DDDDDD", zorder=0, label=f"within {margin:g} of it")
    ax.axvline(1 - printed, color="#000000", linestyle="--", linewidth=0.9, label=f"the paper prints {printed:.3f}")
    ticks = [e for e in (0.9, 0.5, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002) if e > best]
    ax.set(xscale="log", xlim=(1, best), xlabel="test accuracy (axis: logarithm of the share misclassified)")
    ax.set_xticks(ticks, [f"{1 - e:g}" for e in ticks])
    ax.minorticks_off()
    seeds = " to ".join(str(n) for n in sorted({table["n"].min(), table["n"].max()}))
    ax.set_title(f"mean over {seeds} seeds; bars: 95 % t interval")
    legend(figure, [ax])
    return figure


def components(table: pd.DataFrame, threshold: float | None = None) -> Figure:
    """Standard deviation between masks beside that of repeated trainings, for each set of masks.

    Args:
        table: columns ``set``, ``part`` (``masks``, ``residual``; others are not drawn), ``sd``, ``low``, ``high`` (95 % interval).
        threshold: above which a spread is called wide, a dotted line; None for no line.
    """
    linear = 1.0 if threshold is None else 1000 * threshold
    figure, ax = _spreads(table, "set", ("masks", "residual"))
    if threshold is not None:
        ax.axvline(linear, color="#000000", linestyle=":", label=f"threshold: {linear:g}")
    how = stretch([ax], linear)
    ax.set_xlabel(f"standard deviation of accuracy (thousandths{how and '; ' + how})")
    legend(figure, [ax])
    return figure


def masks_sorted(tables: Mapping[str, ArrayLike]) -> Figure:
    """Mean accuracy of each mask, sorted, beside what sorted means of equal masks would look like; one panel a set.

    That is the expected order statistics of a normal distribution with the residual standard error of a mean, by Blom's approximation
    (Blom 1958, Statistical Estimates and Transformed Beta-Variables).

    Args:
        tables: accuracies of each set, (masks, seeds), every mask trained from every seed.

    Raises:
        InvalidInput: a table with fewer than two masks or seeds, or with a value that is not finite.
    """
    figure, axes = panels(len(tables), 2.45, 2.5)
    for ax, (name, table) in zip(axes, tables.items(), strict=True):
        accuracies = np.asarray(table, dtype=np.float64)
        parts = split(accuracies)
        error = 1000 * parts.residual.value / np.sqrt(parts.seeds)
        means = 1000 * (np.sort(accuracies.mean(axis=1)) - parts.mean)
        rank = np.arange(1, parts.masks + 1)
        noise = error * stats.norm.ppf((rank - 0.375) / (parts.masks + 0.25))
        ends = (means - 1.96 * error, means + 1.96 * error)
        ax.fill_between(rank, *ends, color="#56B4E9", alpha=0.35, linewidth=0, label="± 1.96 residual standard errors")
        ax.plot(rank, means, "o", color="#0072B2", ms=2, label="a mask, mean over seeds")
        ax.plot(rank, noise, "--", color="#000000", linewidth=1, label="expected if all masks were equal")
        ax.set_title(f"{name}\n{parts.masks} masks x {parts.seeds} seeds", fontsize=9)
        ax.set_xlabel("rank of the mask")
    for ax in axes[::4]:
        ax.set_ylabel("accuracy minus the mean of all\n(thousandths; axes differ)")
    legend(figure, axes)
    return figure


def prediction(table: pd.DataFrame) -> Figure:
    """Share of the variance of the masks' mean accuracies that each predictor explains, out of sample; one panel a set.

    Args:
        table: columns ``set``, ``predictor``, ``model``, ``cv_r2``, ``r2_low``, ``r2_high`` (95 % bootstrap interval; NaN for none) and ``ceiling`` (the
            share that is not noise, one value a set, a dashed line). What is below -0.5 is drawn at -0.5.
    """
    sets, rows = names(table["set"]), {p: _PREDICTORS.get(p, LABELS.get(p, p).split(" (")[0]) for p in table["predictor"].unique()}
    look = styles(table["model"].unique())
    ends = {end: table[column].clip(lower=_WORST_R2) for end, column in {"mean": "cv_r2", "low": "r2_low", "high": "r2_high"}.items()}
    figure, axes = panels(len(sets), 2.3, (0.1 * len(look) + 0.12) * len(rows) + 1.0, sharex=True, sharey=True)
    for ax, (name, title) in zip(axes, sets.items(), strict=True):
        one = table.assign(**ends)[table["set"] == name]
        dots(ax, one, "predictor", rows, "model", look, unit=1)
        ax.axvline(0, color="#000000", linewidth=0.8)
        ax.axvline(one["ceiling"].iloc[0], color="#555555", linestyle="--", linewidth=1, label="noise ceiling")
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("R2, cross-validated")
    cut = f"; below {_WORST_R2:g} drawn there" if (table["cv_r2"] < _WORST_R2).any() else ""
    figure.suptitle(f"share of the variance of mean accuracy explained; bars: 95 % bootstrap interval over masks{cut}", fontsize=9)
    legend(figure, axes)
    return figure


def twins(
    first_mask: Mask, second_mask: Mask, loss_first: NDArray[np.float64], loss_second: NDArray[np.float64], titles: Sequence[str]
) -> Figure:
    """Two masks as matrices, and the losses of their networks in one panel, one line thick and the other thin on top of it.

    Args:
        first_mask, second_mask: (n, n).
        loss_first, loss_second: (steps,) training losses, positive.
        titles: of the two masks; the first line of each names its curve.
    """
    figure, (left, right, losses) = plt.subplots(1, 3, figsize=(10, 3.3), width_ratios=[1, 1, 1.4])
    for ax, mask, title in zip((left, right), (first_mask, second_mask), titles, strict=True):
        ax.imshow(mask, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        ax.set(xlabel="input channel", ylabel="output channel")
        ax.set_title(title, fontsize=8, fontweight="normal")
        ax.grid(False)
    first, second = (title.split("\n")[0] for title in titles)
    losses.plot(loss_first, color="#56B4E9", linewidth=5, label=first)
    losses.plot(loss_second, color="#000000", linewidth=1.2, linestyle="--", label=second)
    losses.set(xlabel="training step", ylabel="training loss (logarithmic)", yscale="log")
    losses.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    losses.yaxis.set_major_formatter("{x:g}")
    losses.yaxis.set_minor_formatter("{x:g}")
    losses.legend()
    return figure


def nested(table: pd.DataFrame) -> Figure:
    """Standard deviation between graphs, between changed versions of the same graph, and of repeated trainings, for each change.

    Args:
        table: columns ``change`` (``relabelled``, ``rewired``, ``shuffled``), ``part`` (``graphs``, ``versions``, ``residual``; others are not drawn), ``sd``,
            ``low``, ``high`` (95 % interval).
    """
    figure, ax = _spreads(table, "change", ("graphs", "versions", "residual"))
    ax.set_xlabel("standard deviation of accuracy (thousandths)")
    legend(figure, [ax])
    return figure


def regret(table: pd.DataFrame) -> Figure:
    """Simple regret of each search method: accuracy of the best mask minus that of the mask recommended; one panel a table of accuracies.

    Args:
        table: columns ``table``, ``method``, ``recommender`` (``observed``, ``posterior``), ``mean``, ``low``, ``high`` (95 % t interval over searches).
    """
    tables, rows = names(table["table"]), {m: _SEARCHES.get(m, m) for m in table["method"].unique()}
    figure, axes = panels(len(tables), 2.3, 0.34 * len(rows) + 1.1, sharey=True)
    for ax, (name, title) in zip(axes, tables.items(), strict=True):
        dots(ax, table[table["table"] == name], "method", rows, "recommender", styles(_RECOMMENDERS))
        ax.axvline(0, color="#000000", linestyle="--", linewidth=0.9)
        ax.set(title=title, xlabel="simple regret\n(thousandths of accuracy)")
        ax.locator_params(axis="x", nbins=5)
    figure.suptitle(f"{_SEARCH_BARS}; less is better; axes differ", fontsize=9)
    legend(figure, axes)
    return figure


def curse(table: pd.DataFrame) -> Figure:
    """Accuracy that masks were chosen by, and that of the same masks with fresh seeds, against sparsity; one panel a method.

    Args:
        table: columns ``sparsity``, ``method`` (``bogp``, ``random``), ``measure`` (``apparent``, ``fresh_validation``, ``fresh_test``), ``mean``, ``low``,
            ``high`` (95 % t interval over searches).
    """
    methods = list(table["method"].unique())
    figure, axes = panels(len(methods), 4.4, 2.9, sharey=True)
    for ax, method in zip(axes, methods, strict=True):
        one = table[table["method"] == method]
        dots(ax, one, "sparsity", _sparsities(table), "measure", styles(_MEASURES), unit=1, upright=True)
        ax.set(title=METHODS.get(method, method), xlabel="sparsity of the mask (share of zeros)")
    axes[0].set_ylabel("accuracy")
    figure.suptitle(_SEARCH_BARS, fontsize=9)
    legend(figure, axes)
    return figure


def gaps(table: pd.DataFrame, margin: float) -> Figure:
    """Differences in accuracy case by case, one panel a comparison, with the margin as a band around zero.

    Args:
        table: columns ``case``, ``comparison``, ``mean``, ``low``, ``high`` (95 % t interval over pairs).
        margin: below which accuracies are on a par.
    """
    comparisons, rows = names(table["comparison"]), names(table["case"])
    figure, axes = panels(len(comparisons), 2.3, 0.24 * len(rows) + 1.2, sharex=True, sharey=True)
    for ax, (comparison, title) in zip(axes, comparisons.items(), strict=True):
        dots(ax, table[table["comparison"] == comparison], "case", rows)
        _margin(ax, margin)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("difference in accuracy\n(thousandths)")
    how = stretch(axes, 1000 * margin)
    figure.suptitle(f"bars: 95 % t interval over pairs; {_EQUIVALENCE}" + (how and f"\naxis: {how}"), fontsize=9)
    legend(figure, axes)
    return figure


def defects(table: pd.DataFrame, margin: float) -> Figure:
    """What each defect does to the accuracy that is reported, with the margin as a band around zero.

    Args:
        table: columns ``defect``, ``mean``, ``low``, ``high`` (reported with the defect minus without, paired by search, 95 % t interval).
        margin: below which an effect does not matter.
    """
    figure, ax = plt.subplots(figsize=(8, 0.34 * len(table) + 1.5))
    dots(ax, table, "defect", names(table["defect"]))
    _margin(ax, margin)
    how = stretch([ax], 1000 * margin)
    ax.set_xlabel(f"reported accuracy with the defect minus without\n(thousandths{how and '; ' + how})")
    ax.set_title(f"bars: 95 % t interval over pairs of searches\n{_EQUIVALENCE}", fontsize=9)
    legend(figure, [ax])
    return figure


def regions(table: pd.DataFrame, smallest: float = 0.0005) -> Figure:
    """Advantage of a search over random search against sparsity, by what was searched over; one panel a data set.

    Args:
        table: columns ``dataset``, ``sparsity``, ``searched``, ``mean``, ``low``, ``high`` (accuracy minus that of random search, 95 % t interval over
            searches).
        smallest: the smallest gain of interest; from zero to it, a band.
    """
    figure, axes = _against_sparsity(table, "searched", styles(table["searched"].unique()))
    for ax in axes:
        ax.axhspan(0, 1000 * smallest, color="#DDDDDD", zorder=0, label=f"less than the smallest gain of interest ({1000 * smallest:g})")
    axes[0].set_ylabel("accuracy minus random search's\n(thousandths)")
    figure.suptitle(_SEARCH_BARS, fontsize=9)
    legend(figure, axes)
    return figure


def region_spread(table: pd.DataFrame) -> Figure:
    """Standard deviation between graphs and of repeated trainings against sparsity, by numbering; one panel a data set.

    Args:
        table: columns ``dataset``, ``sparsity``, ``numbering``, ``part`` (``masks``, ``residual``; others are not drawn), ``sd``, ``low``, ``high``
            (95 % interval).
    """
    drawn = table[table["part"].isin(["masks", "residual"])].sort_values("part", kind="stable")
    drawn = drawn.assign(mean=drawn["sd"], series=drawn["part"].map(_PARTS) + ", " + drawn["numbering"])
    figure, axes = _against_sparsity(drawn, "series", styles(drawn["series"].unique()))
    axes[0].set_ylabel("standard deviation of accuracy\n(thousandths)")
    figure.suptitle("bars: 95 % interval", fontsize=9)
    legend(figure, axes)
    return figure


def related(table: pd.DataFrame) -> Figure:
    """Rank correlation of each property and feature with accuracy, as the families number the nodes and renumbered; one panel a region.

    Args:
        table: columns ``region``, ``numbering``, ``column`` (a property or feature), ``mean``, ``low``, ``high`` (95 % t interval over seeds).
    """
    regions, rows = names(table["region"]), {c: LABELS.get(c, c.replace("_", " ")).split(" (")[0] for c in table["column"].unique()}
    look = styles(table["numbering"].unique())
    figure, axes = panels(len(regions), 2.3, 0.32 * len(rows) + 1.0, sharex=True, sharey=True)
    for ax, (name, title) in zip(axes, regions.items(), strict=True):
        dots(ax, table[table["region"] == name], "column", rows, "numbering", look, unit=1)
        ax.axvline(0, color="#000000", linewidth=0.8)
        ax.set(xlim=(-1, 1))
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("rank correlation with\ntest accuracy")
    figure.suptitle("over the graphs of a region; mean over seeds, bars: 95 % t interval over seeds", fontsize=9)
    legend(figure, axes)
    return figure


def _spreads(table: pd.DataFrame, place: str, parts: Sequence[str]) -> tuple[Figure, Axes]:
    """Standard deviations of some parts side by side, in a row for each value of a column."""
    rows = names(table[place])
    figure, ax = plt.subplots(figsize=(8, 0.2 * len(rows) * len(parts) + 1.5))
    dots(ax, table.assign(mean=table["sd"]), place, rows, "part", styles({part: _PARTS[part] for part in parts}))
    ax.axvline(0, color="#000000", linewidth=0.8)
    ax.set_title("bars: 95 % interval")
    return figure, ax


def _against_sparsity(table: pd.DataFrame, series: str, look: Styles) -> tuple[Figure, list[Axes]]:
    """Series against sparsity with a line at zero, one panel a data set."""
    datasets = list(dict.fromkeys(table["dataset"]))
    figure, axes = panels(len(datasets), 4.2, 3.0, sharey=True)
    for ax, dataset in zip(axes, datasets, strict=True):
        one = table[table["dataset"] == dataset]
        dots(ax, one, "sparsity", _sparsities(one), series, look, upright=True)
        ax.axhline(0, color="#000000", linewidth=0.8)
        ax.set(title=_DATASETS.get(dataset, dataset), xlabel="sparsity of the graph (share of zeros)")
    return figure, axes


def _sparsities(table: pd.DataFrame) -> dict[Hashable, str]:
    return {s: f"{s:.2f}" for s in sorted(table["sparsity"].unique())}


def _margin(ax: Axes, margin: float) -> None:
    """A grey band around zero, in thousandths."""
    ax.axvspan(-1000 * margin, 1000 * margin, color="#DDDDDD", zorder=0, label=f"within the margin (± {1000 * margin:g})")
    ax.axvline(0, color="#000000", linewidth=0.8)
