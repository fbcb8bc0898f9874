"""Figures of notebook 02: ranges of properties, their correlations, what look-ups reach, one mask
as a graph.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.graphs.relational import Mask, mask_to_graph
from bogp.plotting import LABELS, matrix


def property_ranges(table: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Distribution of each property at each target sparsity, one panel a property: box from
    quartile to quartile, whiskers to the extremes.
    """
    import seaborn as sns  # half a second, for these figures alone

    rows = -(-len(columns) // 5)
    figure, axes = plt.subplots(rows, 5, figsize=(13, 2.4 * rows), sharex=True, squeeze=False)
    for ax, column in zip(axes.flat, columns, strict=False):
        sns.boxplot(
            table,
            x="target_sparsity",
            y=column,
            ax=ax,
            whis=(0, 100),
            color="#56B4E9",
            linewidth=0.8,
            width=0.6,
        )
        ax.set(xlabel="", ylabel="")
        ax.set_title(LABELS[column], fontsize=8)
    plt.setp(axes.flat[len(columns) :], visible=False)
    figure.supxlabel("target sparsity of the mask (share of zeros)", fontsize=9)
    return figure


def correlations(matrices: dict[str, pd.DataFrame]) -> Figure:
    """Correlation matrices side by side, titled by their keys, with the numbers in the cells."""
    import seaborn as sns

    figure, axes = plt.subplots(
        1, len(matrices), figsize=(4.9 * len(matrices) + 0.8, 4.9), squeeze=False, sharey=True
    )
    for ax, (title, numbers) in zip(axes[0], matrices.items(), strict=True):
        sns.heatmap(
            numbers,
            ax=ax,
            vmin=-1,
            vmax=1,
            cmap="vlag",
            annot=True,
            fmt=".2f",
            annot_kws={"size": 7},
            square=True,
            cbar=ax is axes[0][-1],
            cbar_kws={"label": "Pearson correlation", "shrink": 0.8},
        )
        ax.set_title(title)
        ax.tick_params(axis="x", rotation=45)
        plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    return figure


def reach(table: pd.DataFrame) -> Figure:
    """How many masks uniform queries can reach, by metric and scaling (columns metric, scaling,
    target_sparsity, share).
    """
    import seaborn as sns

    groups = table.groupby("target_sparsity")
    figure, axes = plt.subplots(
        1, len(groups), figsize=(3.2 * len(groups) + 0.8, 2.8), sharey=True, squeeze=False
    )
    for ax, (sparsity, one) in zip(axes[0], groups, strict=True):
        sns.barplot(
            one,
            x="metric",
            y="share",
            hue="scaling",
            ax=ax,
            palette=["#0072B2", "#E69F00", "#009E73"],
            legend=ax is axes[0][-1],
        )
        ax.set(
            title=f"sparsity {sparsity:g}",
            xlabel="metric",
            ylabel="share of the masks\nreached by the queries",
            ylim=(0, 1),
        )
    axes[0, -1].legend(title="scaling", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def mask_and_graph(mask: Mask, title: str) -> Figure:
    """A mask as a matrix beside its relational graph (spring layout; self-loops and node numbers
    not drawn).
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
    matrix(left, mask, title)
    graph = mask_to_graph(mask)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    degree = [d for _, d in graph.degree()]
    positions = nx.spring_layout(graph, seed=0)
    nx.draw_networkx_edges(
        graph, positions, ax=right, width=0.3, alpha=min(1.0, 250 / max(graph.number_of_edges(), 1))
    )
    dots = nx.draw_networkx_nodes(
        graph, positions, ax=right, node_size=18, node_color=degree, cmap="viridis"
    )
    figure.colorbar(dots, ax=right, label="degree (edges)", shrink=0.7)
    right.set(
        title=f"{len(graph)} nodes, {graph.number_of_edges():,} edges, {int(np.trace(mask))} "
        "self-loops"
    )
    right.axis("off")
    return figure
