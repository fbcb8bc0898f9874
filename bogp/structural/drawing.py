"""Plots of structural pruning: computation graphs with the importance of their edges."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import AsinhNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import ArrayLike, NDArray

from bogp.errors import InvalidInput
from bogp.structural.graph import ComputationGraph

_IN_A_ROW = 12  # boxes
# of the kinds of vertices
SHAPES = {"input": "v", "chain": "s", "sum": "o", "cat": "D", "product": "H", "output": "^"}
_FILLS = {
    "input": "#FFFFFF",
    "chain": "#F0E442",
    "sum": "#56B4E9",
    "cat": "#56B4E9",
    "product": "#CC79A7",
    "output": "#FFFFFF",
}


def draw_graph(
    graph: ComputationGraph,
    scores: ArrayLike | None = None,
    label: str = "score of the edge",
    names: bool = True,
    title: str = "",
) -> Figure:
    """A computation graph from left to right, each vertex one layer behind the last that it reads.

    At level ``residual`` or ``blocks`` the candidates alone are drawn, as boxes over the line of
    values that they add to, in the order in which they run.

    Args:
        graph: of the network.
        scores: (C,) a number for each candidate edge, drawn as its colour; None draws candidates in
            one colour. Scores that are not finite are refused.
        label: of the colour bar, with its unit.
        names: whether to write what is in the vertices beside their numbers.
        title: of the figure.

    Returns:
        The figure: candidates wide and coloured, edges that must stay thin and grey; shapes tell
            the kinds of vertices.

    Raises:
        InvalidInput: not one finite score for each candidate.
    """
    candidates = graph.candidates
    values = None if scores is None else np.asarray(scores, dtype=np.float64)
    if values is not None and (values.shape != candidates.shape or not np.isfinite(values).all()):
        raise InvalidInput(
            f"scores has shape {values.shape}; one finite number for each of the "
            f"{len(candidates)} candidates is needed."
        )
    if graph.level != "all":
        return _draw_line(graph, values, label, title)
    layer, row = layout(graph)
    long, high = layer.max() + 1, np.ptp(row) + 1
    figure, ax = plt.subplots(
        figsize=(float(np.clip(0.75 * long + 1.5, 6, 15)), float(np.clip(0.8 * high + 1.4, 2.6, 9)))
    )
    crowded = len(graph.vertices) > 30
    size = 90 if crowded else 190
    norm = _norm(values)
    colour_of = plt.get_cmap("viridis" if values is None or (values >= 0).all() else "PuOr_r")
    colour: dict[int, Any] = {int(e): "#0072B2" for e in candidates}
    if values is not None and norm is not None:
        colour = {int(e): colour_of(norm(v)) for e, v in zip(candidates, values, strict=True)}
    _arrows(ax, graph, layer, row, colour, 5 if crowded else 7.5, scored=values is not None)
    for vertex in graph.vertices:
        at = (layer[vertex.index], row[vertex.index])
        large = size * (1.6 if vertex.kind in ("input", "output") else 1)
        ax.scatter(
            *at,
            s=large,
            marker=SHAPES[vertex.kind],
            c=_FILLS[vertex.kind],
            edgecolors="black",
            linewidths=0.8,
            zorder=3,
        )
        ax.annotate(
            str(vertex.index), at, ha="center", va="center", fontsize=5 if crowded else 7, zorder=4
        )
        if names and vertex.kind in ("chain", "input", "product") and not crowded:
            text = _short(vertex.name)
            ax.annotate(
                text,
                at,
                xytext=(0, -9),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=5.5,
                color="#444444",
                zorder=4,
            )
    ax.set(xlim=(-0.7, long - 0.3), ylim=(row.min() - 0.8, row.max() + 0.8), title=title)
    ax.axis("off")
    _legend(figure, graph, values is not None)
    if values is not None and norm is not None:
        _colour_bar(figure, ax, ScalarMappable(norm, colour_of), _ticks(norm), label, 0.8)
    return figure


def _draw_line(
    graph: ComputationGraph, values: NDArray[np.float64] | None, label: str, title: str
) -> Figure:
    """The candidates of a level as boxes over a line, in rows of at most ``_IN_A_ROW``."""
    names = [graph.name(int(edge)) for edge in graph.candidates]
    shared = common_start(names)
    shown = [name[len(shared) :] for name in names]
    count = -(-len(names) // _IN_A_ROW)  # rows
    wide = -(-len(names) // count)
    norm = _norm(values)
    colour_of = plt.get_cmap("viridis" if values is None or (values >= 0).all() else "PuOr_r")
    figure, ax = plt.subplots(figsize=(float(np.clip(wide + 1.2, 5, 15)), 1.5 * count + 0.8))
    for at, text in enumerate(shown):
        x, y = at % wide, -1.6 * (at // wide)
        fill = "#56B4E9" if values is None or norm is None else colour_of(norm(values[at]))
        box = FancyBboxPatch(
            (x - 0.36, y + 0.35), 0.72, 0.5, boxstyle="round,pad=0.04", fc=fill, ec="black", lw=0.8
        )
        ax.add_patch(box)
        dark = sum(
            weight * part for weight, part in zip((0.3, 0.59, 0.11), to_rgb(fill), strict=True)
        )
        ax.annotate(
            "\n".join(text.replace("..", "-").rsplit(".", 1)),
            (x, y + 0.6),
            ha="center",
            va="center",
            fontsize=7,
            color="black" if dark > 0.5 else "white",
        )
        if at % wide == 0:  # the line of a row
            last = min(wide, len(shown) - at) - 1
            ends = {"arrowstyle": "-|>", "color": "#777777", "lw": 1.2}
            ax.annotate("", (last + 0.62, y), (-0.62, y), arrowprops=ends)
        for side, style in ((-0.42, "-"), (0.42, "-|>")):
            tip = {"arrowstyle": style, "color": "#777777", "lw": 1, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (x + side, y), (x + side, y + 0.6), arrowprops=tip)
    text = (
        f"{graph.classes.get('', 'network')}: {'blocks' if graph.level == 'blocks' else 'branches'}"
    )
    under = f" of {shared.rstrip('.')}" if shared else ""
    ax.set(xlim=(-0.75, wide - 0.25), ylim=(-1.6 * (count - 1) - 0.25, 1.05))
    ax.set_title(title or f"{text}{under}, in the order in which they run", fontsize=9)
    ax.axis("off")
    if values is not None and norm is not None:
        _colour_bar(figure, ax, ScalarMappable(norm, colour_of), _ticks(norm), label)
    return figure


def _colour_bar(
    figure: Figure,
    ax: Axes,
    colours: ScalarMappable,
    ticks: Sequence[float],
    label: str,
    shrink: float = 1.0,
) -> None:
    bar = figure.colorbar(
        colours, ax=ax, label=f"{label}, asinh scale", shrink=shrink, pad=0.02, aspect=25
    )
    bar.set_ticks(list(ticks), labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()


def common_start(names: Sequence[str]) -> str:
    """What all names begin with, up to a dot."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    same = takewhile(lambda column: len(set(column)) == 1, parts)
    return "".join(f"{column[0]}." for column in same)


def layout(graph: ComputationGraph) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where to draw each vertex: (V,) its layer, the longest path to it in edges, and (V,) its row.

    Rows follow the mean row of neighbours, which keeps most edges from crossing (Sugiyama et al.
    1981); long edges reserve a row in the layers between.
    """
    count = len(graph.vertices)
    layer = np.zeros(count, dtype=int)
    for edge in graph.edges:  # in topological order
        layer[edge.target] = max(layer[edge.target], layer[edge.source] + 1)
    for vertex in graph.vertices:
        if vertex.kind == "output":
            layer[vertex.index] = layer.max()
    of, links = list(layer), []  # vertices, and then points that long edges pass through
    for source, target in dict.fromkeys((e.source, e.target) for e in graph.edges):
        path = [source]
        for at in range(layer[source] + 1, layer[target]):
            of.append(at)
            path.append(len(of) - 1)
        path.append(target)
        links += list(zip(path, path[1:], strict=False))
    around: list[list[int]] = [[] for _ in of]
    for a, b in links:
        around[a].append(b)
        around[b].append(a)
    layers = [[i for i, at in enumerate(of) if at == one] for one in range(max(of) + 1)]
    # a line needs less room than a vertex
    row, room = np.zeros(len(of)), np.where(np.arange(len(of)) < count, 1.0, 0.2)

    def place(members: list[int]) -> None:
        middle = np.cumsum(room[members]) - room[members] / 2
        row[members] = middle - room[members].sum() / 2

    for members in layers:
        place(members)
    for sweep in range(24):
        for members in layers if sweep % 2 == 0 else layers[::-1]:
            wanted = [
                np.mean([row[j] for j in around[i]]) if around[i] else row[i] for i in members
            ]
            order = np.argsort(wanted, kind="stable")
            place([members[k] for k in order])
    return layer.astype(np.float64), -row[:count]


def _arrows(
    ax: Axes,
    graph: ComputationGraph,
    layer: NDArray[np.float64],
    row: NDArray[np.float64],
    colour: Mapping[int, Any],
    shrink: float,
    scored: bool,
) -> None:
    seen: dict[tuple[int, int], int] = {}
    for edge in sorted(graph.edges, key=lambda e: e.index in colour):  # candidates above the others
        ends = (edge.source, edge.target)
        a, b = (layer[ends[0]], row[ends[0]]), (layer[ends[1]], row[ends[1]])
        # edges between the same two vertices side by side
        turn = seen[ends] = seen.get(ends, -1) + 1
        straight = abs(b[0] - a[0]) < 1.5 and not turn
        bend = (
            0.0
            if straight
            else (0.28 / max(1.0, b[0] - a[0]) ** 0.3 + 0.15 * turn)
            * (1 if a[1] + b[1] >= 0 else -1)
        )
        wide = edge.index in colour
        arrow = FancyArrowPatch(
            a,
            b,
            connectionstyle=f"arc3,rad={-bend:.3f}",
            arrowstyle="-|>",
            mutation_scale=7,
            shrinkA=shrink,
            shrinkB=shrink,
            color=colour.get(edge.index, "#AAAAAA"),
            linewidth=1.6 if wide else 0.6,
            zorder=2 if wide else 1,
        )
        # pale colours, which are scores near the middle, have an outline as well
        if wide and scored:
            arrow.set_path_effects([Stroke(linewidth=2.4, foreground="#555555"), Normal()])
        ax.add_patch(arrow)


def _ticks(norm: AsinhNorm) -> list[float]:
    """Zero and powers of ten, halves and fifths of them too, as many as have room on the scale."""
    powers = [step * 10.0**k for step in (1, 5, 2) for k in range(6, -9, -1)]
    found: list[float] = []
    for tick in (0.0, *(sign * p for p in powers for sign in (1, -1))):
        if -1e-9 <= norm(tick) <= 1 + 1e-9 and all(
            abs(norm(tick) - norm(other)) > 0.09 for other in found
        ):
            found.append(tick)
    return sorted(found)


def _norm(values: NDArray[np.float64] | None) -> AsinhNorm | None:
    """Colours from the lowest to the highest score, with zero in the middle where both signs occur;
    linear up to the median size, logarithmic above.
    """
    if values is None or not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    most = max(-low, high, 1e-12)
    width = float(np.clip(np.median(np.abs(values)), most / 100, most))
    if low < 0:
        return AsinhNorm(width, -most, most)
    return AsinhNorm(width, low, high if high > low else low + 1)


def _short(name: str, width: int = 13) -> str:
    """The first and the last operation of a vertex, without the modules around it."""
    parts = [
        ".".join(part.replace("scaled_dot_product_", "").split(".")[-2:])
        for part in name.split(" + ")
    ]
    ends = parts[:1] if len(parts) == 1 else [f"{parts[0]} ..", parts[-1]]
    return "\n".join(end if len(end) <= width + 3 else f"{end[:width]}.." for end in ends)


def _legend(figure: Figure, graph: ComputationGraph, scored: bool) -> None:
    kinds = [k for k in SHAPES if any(v.kind == k for v in graph.vertices)]
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=SHAPES[k],
            markerfacecolor=_FILLS[k],
            markeredgecolor="black",
            markersize=6,
            label=k,
        )
        for k in kinds
    ]
    handles += [
        Line2D(
            [],
            [],
            color="#777777" if scored else "#0072B2",
            linewidth=1.6,
            label="can be removed" + (" (colour: score)" if scored else ""),
        )
    ]
    handles += [
        Line2D(
            [], [], color="#AAAAAA", linewidth=0.6, label="must stay, or another removal's double"
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7)
