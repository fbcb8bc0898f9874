"""Notebook 08 in figures: what can be known, one network under two names, and what matters."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.plotting import dots, names, styles, titled
from bogp.studies.symmetries.measure import CASES, small_graphs
from bogp.studies.symmetries.tables import invariants

_COLOURS = {"yes": "#0072B2", "without loops": "#9ECAE1", "no": "#D55E00"}


def knowledge(known: pd.DataFrame) -> Figure:
    """Which numbers of a mask a network can know, by where the mask lies.

    Args:
        known: from ``measure.known``.
    """
    table = invariants(known)
    figure, ax = plt.subplots(figsize=(6.4, 0.24 * len(table) + 1.2))
    for column, case in enumerate(CASES):
        for row, word in enumerate(table[case]):
            if word:
                ax.plot(column, row, "s", ms=9, color=_COLOURS[word])
    for word, colour in _COLOURS.items():
        label = {
            "yes": "can",
            "no": "cannot",
            "without loops": "can, where there are no self-loops",
        }
        ax.plot([], [], "s", ms=7, color=colour, label=label[word])
    ax.set_yticks(
        range(len(table)), [f"{p} ({k})" for p, k in table[["property", "kind"]].to_numpy()]
    )
    ax.set_xticks(range(len(CASES)), [case.replace(" ", "\n", 1) for case in CASES])
    ax.set(xlim=(-0.5, len(CASES) - 0.5), ylim=(len(table) - 0.5, -0.5))
    ax.grid(False)
    ax.set_title("what a network can know of its mask, by where the mask lies")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def twins(curves: pd.DataFrame) -> Figure:
    """Two triangles and a hexagon, and the losses of their networks in two cases.

    Args:
        curves: from ``measure.curves``.
    """
    import networkx as nx

    cases = curves["case"].unique()
    figure, axes = plt.subplots(1, 1 + len(cases), figsize=(8.6, 2.8), width_ratios=[1.1, 1.5, 1.5])
    look = styles(["two triangles", "hexagon"])
    graphs = small_graphs()
    for shift, (name, (_, colour, _)) in zip((0.0, 3.4), look.items(), strict=True):
        graph = nx.from_numpy_array(graphs[str(name)])
        if name == "hexagon":
            at = dict(enumerate(_ring(6, 1.2)))
            ring = nx.cycle_basis(graph)[0]
            at = {node: at[k] for k, node in enumerate(ring)}
        else:
            parts = [sorted(part) for part in nx.connected_components(graph)]
            at = {
                node: place + np.array([1.8 * k - 0.9, 0])
                for k, part in enumerate(parts)
                for node, place in zip(part, _ring(3, 0.6), strict=True)
            }
        at = {node: place - np.array([0, shift]) for node, place in at.items()}
        nx.draw_networkx_edges(graph, at, ax=axes[0], edge_color=colour, width=1.6)
        nx.draw_networkx_nodes(graph, at, ax=axes[0], node_color=colour, node_size=60)
        axes[0].text(0, -shift + (0.9 if shift == 0 else 1.5), name, ha="center", fontsize=8)
    axes[0].set(aspect="equal", xlim=(-2, 2), ylim=(-4.9, 1.5))
    axes[0].axis("off")
    for ax, case in zip(axes[1:], cases, strict=True):
        for name, (label, colour, _) in look.items():
            one = curves[(curves["case"] == case) & (curves["graph"] == name)]
            ax.plot(
                one["step"],
                one["loss"],
                "-" if name == "hexagon" else "--",
                color=colour,
                lw=1.2 if name == "hexagon" else 3,
                label=label,
            )
        ax.set(title=case, xlabel="step", ylabel="training loss (nats)")
    axes[1].legend()
    return titled(
        figure, "weights renumbered alike, same images: one network in a layer, two in a stream"
    )


def _ring(count: int, radius: float) -> list[np.ndarray]:
    angles = np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return [radius * np.array([np.cos(a), np.sin(a)]) for a in angles]


def matters(table: pd.DataFrame) -> Figure:
    """Rank correlation of each property with test accuracy, mean over seeds with its 95 % t
    interval.

    Args:
        table: from ``measure.correlations``.
    """
    shown = table[table["n"] > 0]
    places = names(shown["property"])
    look = styles(list(shown["kind"].unique()))
    figure, ax = plt.subplots(figsize=(6.0, 0.24 * len(places) + 1.2))
    for k, (kind, style) in enumerate(look.items()):
        one = shown[shown["kind"] == kind]
        dots(ax, one, "property", places, look={k: style}, unit=1)
    ax.axvline(0, color="#999999", lw=0.8)
    ax.set(xlabel="rank correlation with test accuracy over graphs")
    ax.set_title("mean over seeds, 95 % t interval")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
