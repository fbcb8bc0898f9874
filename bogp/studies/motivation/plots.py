"""Plots of section 3 (Figures 5 to 7): every connected graph of a few nodes, and accuracy against
its properties.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from numpy.typing import NDArray

from bogp.graphs.relational import Mask
from bogp.plotting import LABELS as PROPERTY_LABELS
from bogp.plotting import ends, legend, titled
from bogp.statistics import group_intervals

LABELS = {"density": "density (share of ones in the mask)"} | PROPERTY_LABELS
VARIANTS = {"same": "equal hidden width", "matched": "equal number of weights"}
_KINDS = {  # of correlation: variant, kind -> label, colour, marker
    ("same", "raw"): ("equal width", "#0072B2", "o"),
    ("same", "partial"): ("equal width, given density", "#E69F00", "s"),
    ("matched", "raw"): ("equal number of weights", "#D55E00", "D"),
    ("matched", "partial"): ("equal number of weights, given density", "#CC79A7", "^"),
}
_MOST = 21  # graphs drawn in one figure: those of 5 nodes


def graph_gallery(graphs: pd.DataFrame, masks: Mask) -> Figure:
    """The graphs with their numbers and edges, nodes on a circle, the first on top; self-edges,
    which every node has, are not drawn.

    Args:
        graphs: columns ``graph`` and ``edges``.
        masks: (graphs, n, n), in the same order; of more than 21, that many are drawn, evenly
            spread.
    """
    rows = _spread(len(masks))
    lines = -(-len(rows) // 7)
    figure, axes = plt.subplots(lines, 7, figsize=(9, 1.45 * lines), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, row in zip(axes.flat, rows, strict=False):
        _draw(ax, masks[row], 22)
        ax.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
        title = f"{graphs['graph'].iloc[row]}: {graphs['edges'].iloc[row]} edges"
        ax.set_title(title, fontsize=8, fontweight="normal")
    if len(rows) < len(masks):
        figure.suptitle(f"{len(rows)} of the {len(masks)} graphs")
    return figure


def accuracy_with_graphs(
    graphs: pd.DataFrame, trainings: pd.DataFrame, masks: Mask, columns: Sequence[str], variant: str
) -> Figure:
    """Test accuracy against properties, a panel each, with the graphs drawn above their points: a
    dot is a graph, mean over seeds with 95 % t interval.

    Args:
        graphs: columns ``graph`` and the properties.
        trainings: columns ``variant``, ``graph``, ``seed`` and ``test_accuracy``.
        masks: (graphs, n, n), in the order of ``graphs``; of more than 21, that many are drawn.
        columns: the properties.
        variant: ``same`` or ``matched``.
    """
    table, drawn = _points(graphs, trainings, variant), _spread(len(masks))
    figure, axes = plt.subplots(
        2 * len(columns), figsize=(9, 3.6 * len(columns)), height_ratios=[1, 6] * len(columns)
    )
    for column, above, ax in zip(columns, axes[::2], axes[1::2], strict=True):
        places = _scatter(ax, table, column)
        ax.set_ylabel("test accuracy")
        ax.patch.set_visible(False)  # it would cover the leader lines
        above.set(xlim=(-1.6, 3 * len(drawn) - 1.4), ylim=(-1.3, 2.3), aspect="equal")
        above.axis("off")
        for place, row in enumerate(table.iloc[drawn].sort_values([column, "graph"]).index):
            _draw(above, masks[row], 4, at=3 * place)
            above.text(3 * place, 1.5, str(table.loc[row, "graph"]), fontsize=7, ha="center")
            _lead(figure, above, ax, 3 * place, places[row], table.loc[row, "high"])
    return _titled(figure, table, variant)


def accuracy_panels(
    graphs: pd.DataFrame, trainings: pd.DataFrame, columns: Sequence[str], variant: str
) -> Figure:
    """Test accuracy against many properties as small multiples: a dot is a graph, mean over seeds
    with 95 % t interval.

    Args:
        graphs: columns ``graph`` and the properties.
        trainings: columns ``variant``, ``graph``, ``seed`` and ``test_accuracy``.
        columns: the properties.
        variant: ``same`` or ``matched``.
    """
    table, rows = _points(graphs, trainings, variant), -(-len(columns) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(11, 2.6 * rows), sharey=True, squeeze=False)
    for ax, column in zip(axes.flat, columns, strict=False):
        _scatter(ax, table, column)
    plt.setp(axes.flat[len(columns) :], visible=False)
    plt.setp(axes[:, 0], ylabel="test accuracy")
    return _titled(figure, table, variant)


def correlation_dots(table: pd.DataFrame) -> Figure:
    """Rank correlation of each property with test accuracy, raw, given density, and at matched
    width: mean over seeds with 95 % t interval.

    Args:
        table: columns ``property``, ``variant``, ``kind``, ``mean``, ``low``, ``high``, ``n``; an
            undefined coefficient (NaN) has no dot, and a property with none at all no row.
    """
    table = table[table.groupby("property")["mean"].transform("count") > 0]
    names = table["property"].unique()
    figure, ax = plt.subplots(figsize=(8, 0.55 * len(names) + 1.4))
    of_kind = table.set_index(["variant", "kind", "property"]).sort_index()
    for i, (kind, (label, colour, marker)) in enumerate(_KINDS.items()):
        one = of_kind.loc[kind].loc[names]
        ax.errorbar(
            one["mean"],
            np.arange(len(names)) + 0.18 * (i - 1.5),
            xerr=ends(one),
            fmt=marker,
            color=colour,
            capsize=2,
            elinewidth=1,
            label=label,
        )
    ax.axvline(0, color="#000000", linewidth=0.8)
    ax.set_yticks(range(len(names)), [LABELS[name].split(" (")[0] for name in names])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlim=(-1.03, 1.03), xlabel="Spearman correlation with test accuracy")
    ax.set_title(f"mean over {table['n'].max()} seeds; bar: 95 % t interval; no dot: undefined")
    return legend(figure, [ax])


def _points(graphs: pd.DataFrame, trainings: pd.DataFrame, variant: str) -> pd.DataFrame:
    """The graphs with the mean test accuracy of one variant, its interval's ends and the number of
    seeds.
    """
    one = trainings[trainings["variant"] == variant]
    intervals = group_intervals(one, ["graph"], "test_accuracy")
    return graphs.merge(intervals, on="graph", how="left", validate="one_to_one")


def _scatter(ax: Axes, table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Dots with their intervals; graphs of one value stand side by side in order of their numbers.
    Returns where on the axis.
    """
    ranks = table.groupby(column).cumcount() + 1
    beside = ranks - ranks.groupby(table[column]).transform("mean")
    # the largest group keeps to a twelfth of the axis
    step = 0.08 / max(12, ranks.max()) * np.ptp(table[column])
    places = (table[column] + step * beside).to_numpy()
    ax.errorbar(
        places,
        table["mean"],
        yerr=ends(table),
        fmt="o",
        color="#0072B2",
        ecolor="#56B4E9",
        elinewidth=1,
        capsize=1.5,
    )
    ax.set_xlabel(LABELS[column])
    return places


def _lead(figure: Figure, above: Axes, ax: Axes, at: float, x: float, y: float) -> None:
    """A thin line from under a drawn graph to its point."""
    line = ConnectionPatch((at, -1.25), (x, y), "data", "data", axesA=above, axesB=ax)
    # in the layout, it would be solved for each of them, which takes seconds
    line.set(color="#BBBBBB", linewidth=0.6, zorder=0, in_layout=False)
    figure.add_artist(line)


def _titled(figure: Figure, table: pd.DataFrame, variant: str) -> Figure:
    dots = f"dot: a graph, mean over {table['n'].max()} seeds with 95 % t interval"
    return titled(figure, f"{VARIANTS[variant]}; {dots}; equal values set side by side")


def _draw(ax: Axes, mask: Mask, size: float, at: float = 0) -> None:
    """One graph without its self-edges around (at, 0), node 0 on top, clockwise."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(mask)) / len(mask)
    nodes = np.stack([at + np.cos(angles), np.sin(angles)], axis=1)
    edges = list(nodes[np.argwhere(np.triu(mask, 1))])
    ax.add_collection(LineCollection(edges, colors="#000000", linewidths=0.8))
    ax.scatter(nodes[:, 0], nodes[:, 1], s=size, color="#0072B2", zorder=2)


def _spread(count: int) -> NDArray[np.intp]:
    """Which graphs are drawn: all, or 21 of them from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST)).round().astype(np.intp))
