"""Notebook 16 in figures: the map, the families, what predicts, and the printed search."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.plotting import LABELS, dots, names, panels, styles, titled
from bogp.statistics import group_intervals


def cells(shares: pd.DataFrame) -> Figure:
    """How much of a single training is the graph's, in each cell, with its 95 % interval.

    Args:
        shares: from ``measure.shares``.
    """
    table = shares.rename(columns={"mean": "accuracy"}).rename(columns={"icc": "mean"})
    table = table.assign(kind=[cell.split(",")[0] for cell in table["cell"]])
    figure, ax = plt.subplots(figsize=(6.4, 0.27 * len(table) + 1.2))
    kinds = {"frozen": "frozen", "bias": "its bias trained", "trained": "trained"}
    look = styles(kinds)
    for kind, style in look.items():
        own = table[table["kind"] == kind]
        if len(own):
            dots(ax, own, "cell", names(table["cell"]), look={kind: style}, unit=1)
    ax.set(xlabel="share of the graph in the variance of one training", xlim=(-0.02, 1.02))
    ax.set_title("intraclass correlation, 95 % interval")
    figure.legend(title="first layer", loc="outside lower center", ncols=3)
    return figure


def families(rows: pd.DataFrame) -> Figure:
    """Mean test accuracy of each family against path length and clustering, a dot a graph.

    Args:
        rows: from ``measure.full``.
    """
    columns = ("path_length", "clustering")
    means = rows.groupby(["family", "mask"], sort=False)[["test_accuracy", *columns]].mean()
    figure, axes = panels(2, 3.6, 3.0, sharey=True)
    look = styles(list(rows["family"].unique()))
    for ax, column in zip(axes, columns, strict=True):
        for family, (label, colour, marker) in look.items():
            own = means.loc[[family]]
            ax.plot(own[column], 100 * own["test_accuracy"], marker, color=colour, label=label)
        ax.set(xlabel=LABELS[column])
    if means["path_length"].max() > 10:
        axes[0].set_xscale("log")
    axes[0].set_ylabel("test accuracy (%)")
    figure.legend(
        *axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=7
    )
    return titled(figure, "a mark is a graph, the mean over its trainings; no path: not connected")


def predictors(table: pd.DataFrame) -> Figure:
    """Rank correlation of each property with accuracy over graphs of other families, with the 95 %
    interval of the bootstrap over graphs, beside that over the graphs that were known.

    Args:
        table: from ``measure.predictors``.
    """
    shown = table[np.isfinite(table["mean"])]
    figure, ax = plt.subplots(figsize=(6.0, 0.32 * len(shown) + 1.4))
    places = names(shown["property"])
    dots(ax, shown, "property", places, look=styles({"": "other families"}), unit=1)
    ax.plot(shown["known"], range(len(shown)), "|", color="#D55E00", ms=12, label="Watts-Strogatz")
    ax.axvline(0, color="#999999", lw=0.8)
    ax.set(xlabel="rank correlation with mean test accuracy", xlim=(-1.02, 1.02))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def printed(retrained: pd.DataFrame) -> Figure:
    """Fresh test accuracy of what each search recommends, mean over searches with its 95 % t
    interval; a panel a database.

    Args:
        retrained: from ``measure.searched``.
    """
    groups = retrained.groupby("database", sort=False)
    rows = names(retrained["method"])
    rows |= {"the eight that are true ones": "eight true properties"}
    figure, axes = panels(len(groups), 4.0, 0.3 * len(rows) + 1.2, sharey=True)
    for ax, (name, one) in zip(axes, groups, strict=True):
        table = group_intervals(one, ["method"], "fresh_test")
        dots(ax, table, "method", rows, look=styles([""]), unit=100)
        ax.set(xlabel="test accuracy (%)", title=str(name))
        ax.locator_params(axis="x", nbins=4)
    return titled(figure, "fresh seeds; mean over searches, 95 % t interval")


def attention(rows: pd.DataFrame) -> Figure:
    """Test accuracy of transformers by family, a mark a training.

    Args:
        rows: from ``transformer.rows``.
    """
    kinds = list(rows["embeddings"].unique())
    figure, axes = panels(len(kinds), 3.6, 2.8, sharey=True)
    families_ = list(rows["family"].unique())
    for ax, kind in zip(axes, kinds, strict=True):
        one = rows[rows["embeddings"] == kind]
        at = [families_.index(f) for f in one["family"]]
        shift = one.groupby("family")["graph"].rank(method="dense").to_numpy() * 0.08 - 0.2
        ax.plot(100 * one["test_accuracy"], np.array(at) + shift, "o", ms=3, alpha=0.7)
        ax.set_yticks(range(len(families_)), families_)
        ax.set(title=f"embeddings {kind}", xlabel="test accuracy (%)")
    return titled(figure, "a mark is a training; graphs of a family side by side")
