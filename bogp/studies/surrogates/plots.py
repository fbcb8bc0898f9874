"""Notebook 14 in figures: how surrogates rank masks, and how soon searches find the best one."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bogp.plotting import band, dots, legend, panels, present, styles
from bogp.statistics import mean_interval, rank_correlation
from bogp.studies.surrogates.fresh_tables import LABELS, WANTED
from bogp.studies.surrogates.tables import METHODS, PREDICTORS, WITHIN

NEAR = (
    ("zero-shot", "fisher"),
    ("zero-shot", "hessian"),
    ("published", "path"),
    ("larger", "process_live"),
)  # seen from near
SETS = {
    "half": "all half-masks: mean, 95 % t interval",
    "connected": "connected half-masks: the same",
}


def correlations(table: pd.DataFrame) -> Figure:
    """Mean Spearman correlation of each predictor with the measured losses, a panel a class of
    graphs.

    Args:
        table: from ``tables.summary``, with 95 % t intervals and the printed values.
    """
    names = {"spearman": "mean", "spearman_low": "low", "spearman_high": "high"}
    one = table[table["reading"] == "removed"].rename(columns=names)
    one["row"] = list(zip(one["design"], one["predictor"], strict=True))
    one = one[one["row"].isin(PREDICTORS)]
    size = (2.6, 0.27 * len(PREDICTORS) + 0.9)
    figure, axes = panels(one["size"].nunique(), *size, sharex=True, sharey=True)
    for ax, (size, here) in zip(axes, one.groupby("size", sort=False), strict=True):
        ax.axvline(0, color="#999999", linewidth=0.8, zorder=0)
        dots(ax, here, "row", PREDICTORS, "masks", styles(SETS), unit=1)
        old = here.query("masks == 'half' and design != 'larger'").dropna(subset=["printed"])
        rows = old["row"].map(list(PREDICTORS).index)
        ax.plot(old["printed"], rows, "kx", ms=5.5, mew=1.3, label="printed, all half-masks")
        ax.set(title=f"{size} edges", xlim=(-1.05, 1.05), xlabel="Spearman correlation")
    return legend(figure, axes)


def regrets(found: pd.DataFrame, within: float = WITHIN) -> Figure:
    """Regret against the share of the masks that were evaluated, a panel a method: each graph,
    their mean and its 95 % t interval.

    Args:
        found: from ``searching.searches``, of all graphs.
        within: the regret that is aimed at, drawn as a line.
    """
    figure, axes = plt.subplots(2, 3, figsize=(8.6, 4.8), sharex=True, sharey=True)
    shares = np.linspace(0, found["share"].max(), 101)[1:]
    for ax, (method, (label, colour, _)) in zip(axes.flat, styles(METHODS).items(), strict=True):
        mine = found[found["method"] == method].groupby("seed")
        curves = np.stack([_at(graph, shares) for _, graph in mine], axis=1)
        ax.plot(100 * shares, curves, color=colour, linewidth=0.6, alpha=0.45)
        band(ax, 100 * shares, [mean_interval(one) for one in curves], colour, linewidth=2.2)
        ax.axhline(within, color="#444444", linewidth=0.8, linestyle=":")
        ax.set(ylim=(-0.04, 1.08))
        ax.set_title(label, fontsize=9)
    figure.supxlabel("evaluated masks (% of the feasible ones)", fontsize=9)
    figure.supylabel("relative regret (0: best mask, 1: median mask)", fontsize=9)
    return figure


def _at(found: pd.DataFrame, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean regret over repeats at each share; 1 before the first evaluation."""
    mean = found.groupby("share")["regret"].mean()
    at = np.searchsorted(mean.index.to_numpy(), shares + 1e-9, side="right")
    return np.concatenate([[1.0], mean.to_numpy()])[at]


def confirmed(summarised: pd.DataFrame) -> Figure:
    """Mean rank correlation of each predictor with the losses of connected masks of new graphs,
    with and without the number of removed edges held fixed, a panel a class.

    Args:
        summarised: from ``fresh_tables.summary``.
    """
    shown = summarised[summarised["masks"] == "connected"]
    most = shown.groupby("predictor")["evaluations"].transform("max")
    process = shown["predictor"].str.startswith("process_")
    shown = shown[~process | (shown["evaluations"] == most)]
    places = present(LABELS, shown["predictor"])
    look = styles({"spearman": "Spearman", "given": "given the number of removed edges"})
    size = (2.6, 0.27 * len(places) + 0.9)
    figure, axes = panels(shown["size"].nunique(), *size, sharex=True, sharey=True)
    for ax, (name, one) in zip(axes, shown.groupby("size", sort=False), strict=True):
        dots(ax, one, "predictor", places, "measure", look, unit=1)
        ax.axvline(0, color="#999999", linewidth=0.8, zorder=0)
        wanted = "wanted of flow, given the number"
        ax.axvline(WANTED["given"], color="#444444", linewidth=0.8, linestyle=":", label=wanted)
        ax.set(title=f"{name} edges", xlim=(-1.05, 1.05), xlabel="rank correlation")
    return legend(figure, axes)


def agreement(
    table: pd.DataFrame, predicted: Mapping[tuple[str, str], NDArray[np.float64]]
) -> Figure:
    """Predicted against measured change of the loss for connected masks, a panel a predictor and a
    dot a mask.

    Args:
        table: of one graph, from ``measure.measure``; its first row is the full network.
        predicted: of all masks, from ``ranking.predictions``.
    """
    connected = (table["part"] == "connected").to_numpy()
    truth = (table["test"] - table["test"][0])[connected].to_numpy()
    figure, axes = panels(len(NEAR), 2.7, 2.7)
    for ax, key in zip(axes, NEAR, strict=True):
        # Zero-shot predictors say changes; surrogates losses, as the calibration images have them.
        full = 0.0 if key[0] == "zero-shot" else table["calibration"][0]
        values = predicted[key][connected] - full
        ax.plot(truth, values, "o", ms=2.2, alpha=0.5, rasterized=True)
        ax.axline((0, 0), slope=1, color="#444444", linewidth=0.8)
        ranked = rank_correlation(truth, values) if np.ptp(values) and np.ptp(truth) else 0.0
        ax.set_title(f"{PREDICTORS[key]}\n(Spearman {ranked:.2f})", fontsize=9)
        low, high = min(values.min(), 0), max(values.max(), 0)
        room = 0.08 * (high - low) or 0.1
        ax.set(
            xlim=(min(truth.min(), 0) - 0.05, truth.max() * 1.05),
            ylim=(low - room, high + room),
            xlabel="measured change (nats)",
        )
    axes[0].set_ylabel("predicted change (nats)")
    return figure
