"""Notebook 11 in figures: importances of edges against what their removal does."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bogp.plotting import Styles, dots, ends, legend, names, panels, present, styles
from bogp.studies.edge_importance.tables import FLOW, OVERALL, TARGET

METHODS = {
    "random": "random",
    "magnitude": "L1 magnitude",
    "activation": "activation norm",
    "block_influence": "block influence",
    "flow": "flow",
    "unsigned_taylor": "unsigned Taylor (published)",
    "absolute_first_order": "first order, absolute",
    "first_order": "first order, signed",
    "fisher": "second order, Fisher",
    "gauss_newton": "second order, Gauss-Newton",
    "hessian": "second order, exact Hessian",
    "leave_one_out": "exact on calibration data",
}
NUMBER = {"number": "number of removed edges"}
# Of several removals: what is exact for one is a sum for several.
TOGETHER = METHODS | {"leave_one_out": "measured losses, summed"}
BY_EXAMPLES = ("unsigned_taylor", "first_order", "fisher", "hessian", "leave_one_out")
PREDICTED = ("first_order", "hessian")  # changes of the loss, in its unit
_ONE: Styles = {"": ("mean over seeds; bar: 95 % t interval", "#0072B2", "o")}


def agreement(
    table: pd.DataFrame, target: float | None = TARGET, labels: Mapping[str, str] = METHODS
) -> Figure:
    """Rank correlation of predicted with true changes, a panel a network and a row a method.

    Args:
        table: from ``tables.summary``: mean with 95 % t interval, and median over seeds.
        target: of the second order, drawn as a dotted line; None for none.
        labels: of the methods.
    """
    table = table[table["network"].ne(OVERALL) & table["method"].isin(labels)]
    size = (2.9, 0.27 * len(labels) + 0.9)
    figure, axes = panels(table["network"].nunique(), *size, sharex=True, sharey=True)
    for ax, (network, one) in zip(axes, table.groupby("network", sort=False), strict=True):
        dots(ax, one, "method", dict(labels), look=_ONE, unit=1)
        rows = [list(labels).index(m) + 0.25 for m in one["method"]]
        ax.plot(one["median"], rows, "|", color="#000000", ms=7, mew=1.4, label="median over seeds")
        ax.axvline(0, color="#888888", linewidth=0.8)
        if target is not None:
            ax.axvline(
                target,
                color="#D55E00",
                linestyle=":",
                linewidth=1.2,
                label=f"target for the second order: {target:g}",
            )
        ax.set(title=str(network), xlim=(-1.05, 1.05), xlabel="Spearman's rank correlation")
    return legend(figure, axes)


def by_examples(table: pd.DataFrame) -> Figure:
    """Rank correlation with the true changes against the number of calibration examples, a panel a
    network.

    Args:
        table: from ``tables.summary``, with a column ``examples``.
    """
    table = table[table["network"] != OVERALL]
    figure, axes = panels(table["network"].nunique(), 2.9, 2.7, sharex=True, sharey=True)
    sizes = sorted(table["examples"].unique())
    for ax, (network, one) in zip(axes, table.groupby("network", sort=False), strict=True):
        drawn = styles({m: METHODS[m] for m in BY_EXAMPLES})
        for k, (method, (label, colour, marker)) in enumerate(drawn.items()):
            some = one[one["method"] == method].sort_values("examples")
            ax.errorbar(
                some["examples"] * 1.04 ** (k - len(BY_EXAMPLES) / 2),  # side by side
                some["mean"],
                yerr=ends(some),
                color=colour,
                marker=marker,
                capsize=2,
                elinewidth=1,
                linewidth=1.2,
                label=label,
            )
        ax.set(
            title=str(network), xscale="log", xlabel="examples for calibration", ylim=(-1.05, 1.05)
        )
        ax.set_xticks(sizes, [str(s) for s in sizes])
        ax.minorticks_off()
        ax.axhline(0, color="#888888", linewidth=0.8)
    axes[0].set_ylabel("Spearman's rank correlation\n(mean over seeds; bar: 95 % t interval)")
    return legend(figure, axes)


def predictions(table: pd.DataFrame) -> Figure:
    """Predicted against true changes of the loss (nats), a panel a network, all seeds.

    Args:
        table: rows of one part, from ``measure.units``.
    """
    table = table[table["method"].isin(PREDICTED)]
    figure, axes = panels(table["network"].nunique(), 3.0, 3.0)
    for ax, (network, one) in zip(axes, table.groupby("network", sort=False), strict=True):
        for method, (label, colour, marker) in styles({m: METHODS[m] for m in PREDICTED}).items():
            mine = one[one["method"] == method]
            ax.plot(
                mine["change"],
                mine["predicted"],
                marker,
                color=colour,
                ms=3,
                alpha=0.55,
                mew=0,
                label=label,
            )
        both = one[["change", "predicted"]]
        limits = [min(both.min(axis=None), 0), both.max(axis=None)]
        ax.plot(limits, limits, color="#000000", linewidth=0.8, label="equal")
        _logarithmic(ax, float(one["change"].abs().median()) or 1e-6, max(map(abs, limits)))
        ax.set(title=str(network), xlabel="true change on test data (nats)")
    axes[0].set_ylabel("predicted change (nats)")
    return legend(figure, axes)


def given_number(table: pd.DataFrame) -> Figure:
    """Rank correlation with the true changes of several removals on new networks, with and without
    the number of removed edges held fixed, a panel a network.

    Args:
        table: from ``tables.given_summary``.
    """
    places = present(NUMBER | TOGETHER, table["method"])
    table = table[table["method"].isin(places)]
    look = styles({"spearman": "Spearman", "given": "given the number of removed edges"})
    size = (2.9, 0.27 * len(places) + 0.9)
    figure, axes = panels(table["network"].nunique(), *size, sharex=True, sharey=True)
    for ax, (network, one) in zip(axes, table.groupby("network", sort=False), strict=True):
        dots(ax, one, "method", places, "measure", look, unit=1)
        ax.axvline(0, color="#888888", linewidth=0.8)
        if network in FLOW:
            wanted = "wanted of flow, given the number"
            ax.axvline(FLOW[network], color="#444444", linewidth=0.8, linestyle=":", label=wanted)
        ax.set(title=str(network), xlim=(-1.05, 1.05), xlabel="rank correlation")
    return legend(figure, axes)


def _logarithmic(ax: Axes, middle: float, largest: float) -> None:
    """Make both axes logarithmic beyond about the middle size, and over three decades at most."""
    linear = max(10.0 ** np.floor(np.log10(middle)), 10.0 ** np.ceil(np.log10(largest / 1e3)))
    decades = round(np.log10(largest / linear))
    steps = linear * 10.0 ** np.arange(0, decades + 1, 2 if decades > 1 else 1)
    ticks = [*-steps, *steps, 0]
    for axis in ("x", "y"):
        getattr(ax, f"set_{axis}scale")("symlog", linthresh=linear)
        getattr(ax, f"set_{axis}ticks")(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()


def costs(table: pd.DataFrame) -> Figure:
    """What each method costs, in forward passes over the same examples, a colour a network.

    Args:
        table: from ``tables.costs``: geometric mean over seeds with 95 % t interval.
    """
    figure, (ax,) = panels(1, 6.4, 0.34 * len(METHODS) + 0.8)
    shown, series = table[table["method"].isin(METHODS)], styles(names(table["network"]))
    dots(ax, shown, "method", dict(METHODS.items()), "network", series, unit=1)
    ax.axvline(1, color="#888888", linewidth=0.8)
    ax.set(
        xscale="log",
        xlabel="cost (forward passes over the calibration examples)",
        title="geometric mean over seeds; bar: 95 % t interval",
    )
    return legend(figure, [ax])
