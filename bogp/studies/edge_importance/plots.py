"""Plots of structural pruning: importances of edges against what their removal does."""

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.plotting import dots, legend, names, panels, styles
from bogp.studies.edge_importance.measure import OVERALL

METHODS = {
    "random": "random",
    "magnitude": "L1 magnitude",
    "activation": "activation norm",
    "block_influence": "block influence",
    "unsigned_taylor": "unsigned Taylor (published)",
    "absolute_first_order": "first order, absolute",
    "first_order": "first order, signed",
    "fisher": "second order, Fisher",
    "gauss_newton": "second order, Gauss-Newton",
    "hessian": "second order, exact Hessian",
    "leave_one_out": "exact on calibration data",
}


def agreement(table: pd.DataFrame, threshold: float | None = None, labels: Mapping[str, str] = METHODS) -> Figure:
    """Rank correlation of predicted with true changes, a panel a network and a row a method: mean with 95 % t interval, and median over seeds.

    Args:
        table: from ``importance.summary``.
        threshold: a dotted line; None for none.
        labels: of the methods that are drawn, from top to bottom.
    """
    table = table[table["network"] != OVERALL]
    figure, axes = panels(table["network"].nunique(), 2.9, 0.27 * len(labels) + 0.9, sharex=True, sharey=True)
    shown, places = table[table["method"].isin(labels)], _places(labels)
    for ax, (network, one) in zip(axes, shown.groupby("network", sort=False), strict=True):
        dots(ax, one, "method", places, look={"": ("mean over seeds; bar: 95 % t interval", "#0072B2", "o")}, unit=1)
        rows = [list(labels).index(m) + 0.25 for m in one["method"]]
        ax.plot(one["median"], rows, "|", color="#000000", ms=7, mew=1.4, label="median over seeds")
        ax.axvline(0, color="#888888", linewidth=0.8)
        if threshold is not None:
            ax.axvline(threshold, color="#D55E00", linestyle=":", linewidth=1.2, label=f"target for the second order: {threshold:g}")
        ax.set(title=str(network), xlim=(-1.05, 1.05), xlabel="Spearman's rank correlation")
    legend(figure, axes)
    return figure


def by_examples(table: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Rank correlation with the true changes against the number of examples used for calibration, a panel a network.

    Args:
        table: from ``importance.summary``, with a column ``examples``.
        labels: of the methods that are drawn.
    """
    table = table[table["network"] != OVERALL]
    figure, axes = panels(table["network"].nunique(), 2.9, 2.7, sharex=True, sharey=True)
    sizes = sorted(table["examples"].unique())
    for ax, (network, one) in zip(axes, table.groupby("network", sort=False), strict=True):
        for k, (method, (label, colour, marker)) in enumerate(styles(labels).items()):
            some = one[one["method"] == method].sort_values("examples")
            x = some["examples"] * 1.04 ** (k - len(labels) / 2)  # side by side
            ends = np.stack([some["mean"] - some["low"], some["high"] - some["mean"]])
            ax.errorbar(x, some["mean"], yerr=ends, color=colour, marker=marker, capsize=2, elinewidth=1, linewidth=1.2, label=label)
        ax.set(title=str(network), xscale="log", xlabel="examples for calibration", ylim=(-1.05, 1.05))
        ax.set_xticks(sizes, [str(s) for s in sizes])
        ax.minorticks_off()
        ax.axhline(0, color="#888888", linewidth=0.8)
    axes[0].set_ylabel("Spearman's rank correlation\n(mean over seeds; bar: 95 % t interval)")
    legend(figure, axes)
    return figure


def predictions(table: pd.DataFrame, labels: Mapping[str, str], unit: str = "nats") -> Figure:
    """Predicted against true changes of the loss, a panel a network, all seeds; on axes that are logarithmic beyond a small change.

    Args:
        table: rows of one part, from ``importance.units``.
        labels: of the methods that are drawn, all in the unit of the loss.
        unit: of the loss.
    """
    figure, axes = panels(table["network"].nunique(), 3.0, 3.0)
    for ax, (network, one) in zip(axes, table.groupby("network", sort=False), strict=True):
        some = one[one["method"].isin(labels)]
        linear = float(some["change"].abs().median()) or 1e-6
        for method, (label, colour, marker) in styles(labels).items():
            mine = some[some["method"] == method]
            ax.plot(mine["change"], mine["predicted"], marker, color=colour, ms=3, alpha=0.55, mew=0, label=label)
        ends = [min(some["change"].min(), some["predicted"].min(), 0), max(some["change"].max(), some["predicted"].max())]
        ax.plot(ends, ends, color="#000000", linewidth=0.8, label="equal")
        linear = max(10.0 ** np.floor(np.log10(linear)), 10.0 ** np.ceil(np.log10(max(abs(e) for e in ends) / 1e3)))
        decades = round(np.log10(max(abs(e) for e in ends) / linear))
        ticks = [sign * linear * 10.0**k for sign in (-1, 1) for k in range(0, decades + 1, 2 if decades > 1 else 1)] + [0]
        for axis in ("x", "y"):
            getattr(ax, f"set_{axis}scale")("symlog", linthresh=linear)
            getattr(ax, f"set_{axis}ticks")(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        ax.set(title=str(network), xlabel=f"true change on test data ({unit})")
    axes[0].set_ylabel(f"predicted change ({unit})")
    legend(figure, axes)
    return figure


def costs(table: pd.DataFrame, labels: Mapping[str, str] = METHODS) -> Figure:
    """What each method costs, in forward passes over the same examples: geometric mean over seeds with 95 % t interval, a colour a network.

    Args:
        table: from ``importance.costs``.
        labels: of the methods that are drawn, from top to bottom.
    """
    figure, (ax,) = panels(1, 6.4, 0.34 * len(labels) + 0.8)
    shown, places = table[table["method"].isin(labels)], _places(labels)
    dots(ax, shown, "method", places, "network", styles(names(table["network"])), unit=1)
    ax.axvline(1, color="#888888", linewidth=0.8)
    ax.set(
        xscale="log", xlabel="cost (forward passes over the calibration examples)", title="geometric mean over seeds; bar: 95 % t interval"
    )
    legend(figure, [ax])
    return figure


def _places(labels: Mapping[str, str]) -> dict[Hashable, str]:
    return dict(labels.items())
