"""Every plot of the package: functions from tidy tables to figures, in one style, saved as PDF and PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bogp import paths
from bogp.provenance import write_atomically
from bogp.relational import Mask, mask_to_graph
from bogp.search import best_so_far
from bogp.statistics import mean_interval

LABELS = {
    "degree_centrality": "average degree centrality",
    "degree_connectivity": "average degree connectivity",
    "eigenvector_centrality": "mean eigenvector centrality",
    "clustering": "mean clustering coefficient",
    "path_length": "average shortest path length (edges)",
    "s_metric": "s-metric",
    "wiener_index": "Wiener index (edges)",
    "edge_connectivity": "edge connectivity (edges)",
    "cycle_length": "length of the cycle found (edges)",
    "cycle_rank": "cycle rank",
}
METHODS = {"bogp": "BoGP", "random": "random masks"}
_COLOURS = {"bogp": "#0072B2", "random": "#D55E00", "paper": "#000000"}


def use_style() -> None:
    """Set the package's matplotlib style for this session."""
    plt.style.use(Path(__file__).with_name("bogp.mplstyle"))


def save(figure: Figure, run: str, name: str) -> list[Path]:
    """Save a figure as PDF and PNG under ``figures/<run>/``; the same figure gives the same bytes.

    Raises:
        BogpError: it cannot be written.
    """
    written = []
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], metadata=metadata)
        path = paths.figures_dir(run) / f"{name}{suffix}"
        write_atomically({path: buffer.getvalue()})
        written.append(path)
    return written


def property_ranges(table: pd.DataFrame, columns: Sequence[str]) -> Figure:
    """Distribution of each property at each target sparsity, one panel a property: box from quartile to quartile, whiskers to the extremes."""
    rows = -(-len(columns) // 5)
    figure, axes = plt.subplots(rows, 5, figsize=(13, 2.4 * rows), sharex=True, squeeze=False)
    for ax, column in zip(axes.flat, columns, strict=False):
        sns.boxplot(table, x="target_sparsity", y=column, ax=ax, whis=(0, 100), color="#56B4E9", linewidth=0.8, width=0.6)
        ax.set(xlabel="", ylabel="")
        ax.set_title(LABELS[column], fontsize=8)
    for ax in axes.flat[len(columns) :]:
        ax.set_visible(False)
    figure.supxlabel("target sparsity of the mask (share of zeros)", fontsize=9)
    return figure


def correlations(matrices: dict[str, pd.DataFrame]) -> Figure:
    """Correlation matrices side by side, titled by their keys, with the numbers in the cells."""
    figure, axes = plt.subplots(1, len(matrices), figsize=(4.9 * len(matrices) + 0.8, 4.9), squeeze=False, sharey=True)
    for ax, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        sns.heatmap(
            matrix, ax=ax, vmin=-1, vmax=1, cmap="vlag", annot=True, fmt=".2f", annot_kws={"size": 7}, square=True,
            cbar=ax is axes[0][-1], cbar_kws={"label": "Pearson correlation", "shrink": 0.8},
        )  # fmt: skip
        ax.set_title(title)
        ax.tick_params(axis="x", rotation=45)
        plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    return figure


def reach(table: pd.DataFrame) -> Figure:
    """How many masks uniform queries can reach, by metric and scaling (columns metric, scaling, target_sparsity, share)."""
    sparsities = sorted(table["target_sparsity"].unique())
    figure, axes = plt.subplots(1, len(sparsities), figsize=(3.2 * len(sparsities) + 0.8, 2.8), sharey=True, squeeze=False)
    for ax, sparsity in zip(axes[0], sparsities, strict=True):
        one = table[table["target_sparsity"] == sparsity]
        sns.barplot(one, x="metric", y="share", hue="scaling", ax=ax, palette=["#0072B2", "#E69F00", "#009E73"], legend=ax is axes[0][-1])
        ax.set(title=f"sparsity {sparsity:g}", xlabel="metric", ylabel="share of the masks\nreached by the queries", ylim=(0, 1))
    axes[0, -1].legend(title="scaling", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def mask_and_graph(mask: Mask, title: str) -> Figure:
    """A mask as a matrix beside its relational graph (spring layout; self-loops and node numbers not drawn)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
    left.imshow(mask, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    left.set(title=title, xlabel="input channel", ylabel="output channel")
    left.grid(False)
    graph = mask_to_graph(mask)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    degree = np.array([d for _, d in graph.degree()])
    positions = nx.spring_layout(graph, seed=0)
    nx.draw_networkx_edges(graph, positions, ax=right, width=0.3, alpha=min(1.0, 250 / max(graph.number_of_edges(), 1)))
    dots = nx.draw_networkx_nodes(graph, positions, ax=right, node_size=18, node_color=degree, cmap="viridis")
    figure.colorbar(dots, ax=right, label="degree (edges)", shrink=0.7)
    right.set(title=f"{len(graph)} nodes, {graph.number_of_edges():,} edges, {int(np.trace(mask))} self-loops")
    right.axis("off")
    return figure


def search_trace(history: pd.DataFrame, method: str = "bogp", searches: int = 5) -> Figure:
    """Each evaluation of the first searches of one method, and the best so far; one panel a search."""
    mine = history[history["method"] == method].assign(best=best_so_far(history))
    seeds = sorted(mine["search_seed"].unique())[:searches]
    figure, axes = plt.subplots(1, len(seeds), figsize=(max(2.1 * len(seeds), 4), 2.8), sharey=True, squeeze=False)
    for ax, seed in zip(axes[0], seeds, strict=True):
        one = mine[mine["search_seed"] == seed]
        ax.step(one["evaluation"] + 1, one["best"], where="post", color="#000000", label="best so far")
        styles = {"initial": ("o", "#E69F00", "initial point"), "surrogate": ("o", "#0072B2", "proposed by the surrogate")}
        for phase, (marker, colour, label) in styles.items():
            some = one[one["phase"] == phase]
            ax.plot(some["evaluation"] + 1, some["objective"], marker, color=colour, label=label)
        again = one[one["visit"] > 0]
        ax.plot(again["evaluation"] + 1, again["objective"], "o", mfc="none", mec="#D55E00", ms=8, label="a mask seen before, retrained")
        ax.set(title=f"search seed {seed}", xlabel="evaluation")
    axes[0, 0].set_ylabel("validation accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def best_against_random(history: pd.DataFrame) -> Figure:
    """Best validation accuracy so far, mean over search seeds with its 95 % t interval, for each method."""
    figure, ax = plt.subplots(figsize=(5.6, 3.4))
    table = history.assign(best=best_so_far(history))
    for method, one in table.groupby("method"):
        curve = [mean_interval(group["best"]) for _, group in one.groupby("evaluation")]
        x = np.arange(1, len(curve) + 1)
        ax.plot(x, [i.mean for i in curve], color=_COLOURS[method], label=f"{METHODS[method]} (n = {curve[0].n} searches)")
        ax.fill_between(x, [i.low for i in curve], [i.high for i in curve], color=_COLOURS[method], alpha=0.2, linewidth=0)
    ax.set(xlabel="evaluations (networks trained)", ylabel="best validation accuracy so far")
    ax.set_title("mean over searches; band: 95 % t interval")
    ax.legend(loc="lower right")
    return figure


def apparent_against_fresh(chosen: pd.DataFrame) -> Figure:
    """Accuracy of the chosen masks where they were chosen, and retrained with fresh seeds; a dot a search, mean with 95 % t interval.

    Args:
        chosen: one row a search, with ``method``, ``apparent``, ``fresh_validation`` and ``fresh_test``.
    """
    figure, ax = plt.subplots(figsize=(6.2, 3.4))
    stages = {"apparent": "validation, as chosen", "fresh_validation": "validation,\nfresh seeds", "fresh_test": "test,\nfresh seeds"}
    offsets = {method: 0.15 * (2 * i - 1) for i, method in enumerate(sorted(chosen["method"].unique()))}
    for method, one in chosen.groupby("method"):
        for at, stage in enumerate(stages):
            interval, x = mean_interval(one[stage]), at + offsets[method]
            ax.plot(np.full(len(one), x - 0.06), one[stage], "o", color=_COLOURS[method], alpha=0.4, ms=3.5)
            ax.errorbar(
                x, interval.mean, yerr=[[interval.mean - interval.low], [interval.high - interval.mean]], fmt="D", color=_COLOURS[method],
                capsize=3, label=METHODS[method] if at == 0 else None,
            )  # fmt: skip
    ax.set_xticks(range(len(stages)), list(stages.values()))
    ax.set(ylabel="accuracy", title="chosen masks; dot: one search, diamond: mean with 95 % t interval")
    ax.legend()
    return figure


def fixed_sparsity(table: pd.DataFrame, paper: dict[float, float]) -> Figure:
    """Test accuracy of the chosen masks against sparsity, retrained with fresh seeds, one panel a protocol, beside the paper's numbers.

    Args:
        table: from ``claims.fixed_sparsity_table``.
        paper: the paper's accuracy at each sparsity.
    """
    fresh = table[(table["measure"] == "fresh_test") & table["method"].isin(["bogp", "random"])]
    protocols = sorted(fresh["protocol"].unique())
    figure, axes = plt.subplots(1, len(protocols), figsize=(4.6 * len(protocols) + 0.6, 3.6), squeeze=False)
    for ax, protocol in zip(axes[0], protocols, strict=True):
        for method, one in fresh[fresh["protocol"] == protocol].groupby("method"):
            x = one["target_sparsity"] + {"bogp": -0.006, "random": 0.006}[method]
            error = np.stack([one["mean"] - one["low"], one["high"] - one["mean"]])
            ax.errorbar(
                x, one["mean"], yerr=error, fmt="o", color=_COLOURS[method], capsize=3, label=f"{METHODS[method]}, test, fresh seeds"
            )
        ax.plot(list(paper), list(paper.values()), "x", color=_COLOURS["paper"], ms=6, label="paper, BoGP (Table 1)")
        ax.set(xlabel="sparsity of the hidden mask (share of zeros)", title=f"protocol {protocol}; bars: 95 % t interval over searches")
    axes[0, 0].set_ylabel("accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def rates(table: pd.DataFrame, size: str, label: str) -> Figure:
    """Work done a second against its size, one line a way of doing it (columns ``size``, way, per_second); both axes logarithmic."""
    figure, ax = plt.subplots(figsize=(5.6, 3.6))
    unit = {"masks": "trainings", "nodes": "graphs"}[size]
    sns.lineplot(
        table,
        x=size,
        y="per_second",
        hue="way",
        style="way",
        markers=True,
        dashes=False,
        ax=ax,
        palette=["#0072B2", "#E69F00", "#000000"][: table["way"].nunique()],
    )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=label,
        ylabel=f"{unit} per second",
        title="median of three runs, all cores" if size == "masks" else "nine properties, sparsity 0.60, one core",
    )
    ticks = sorted(table[size].unique())
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    if size == "masks":  # less than a decade: powers of ten alone would leave one tick
        ax.set_yticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        ax.set_ylim(0.5, 8)
        ax.minorticks_off()
    ax.legend(title="")
    return figure


def time_shares(table: pd.DataFrame) -> Figure:
    """Where one core's time goes in a training, part by part, beside the floors of its matrix products; one panel a protocol."""
    protocols = list(dict.fromkeys(table["protocol"]))
    figure, axes = plt.subplots(1, len(protocols), figsize=(9.5, 3.2), squeeze=False, sharey=True)
    for ax, protocol in zip(axes[0], protocols, strict=True):
        one = table[table["protocol"] == protocol]
        colours = ["#000000" if part == "total" else "#E69F00" if part.startswith("floor") else "#0072B2" for part in one["part"]]
        ax.barh(one["part"], one["ms"] / 1e3, color=colours)
        ax.set(xlabel="seconds a training, one core", title=f"protocol {protocol}")
    axes[0, 0].invert_yaxis()  # of all: they share it
    return figure
