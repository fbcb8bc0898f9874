"""What all figures share: one style, saving as PDF and PNG, and dots with intervals in panels."""

import base64
import io
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from bogp import paths
from bogp.records import write_atomically
from bogp.statistics import Interval, mean_interval

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
COLOURS = {"bogp": "#0072B2", "random": "#D55E00", "paper": "#000000"}
_PALETTE_UP_TO = 20_000  # colours; a figure of more is nearly a photograph


def use_style() -> None:
    """Set the package's matplotlib style for this session; a notebook shows ``small`` figures."""
    plt.style.use(Path(__file__).with_name("bogp.mplstyle"))
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        import matplotlib_inline.backend_inline  # noqa: F401 (sets its own way when first imported)

        shell.display_formatter.formatters["image/png"].for_type(Figure, _shown)


def save(figure: Figure, run: str, name: str) -> list[Path]:
    """Save a figure as PDF and PNG under ``figures/<run>/``; the same figure gives the same bytes.

    Raises:
        BogpError: it cannot be written.
    """
    pdf, png = io.BytesIO(), io.BytesIO()
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    figure.savefig(png, format="png")
    path = paths.figures_dir(run) / name
    content = {".pdf": pdf.getvalue(), ".png": small(png.getvalue())}
    files = {path.with_name(f"{name}{suffix}"): half for suffix, half in content.items()}
    write_atomically(files)
    return list(files)


def small(png: bytes) -> bytes:
    """A smaller PNG file of a figure: on white, and with 256 colours unless that would show.

    Its colours move by a few levels of 255, at the edges of lines most of all. A figure of very
    many colours keeps them; the PDF beside it keeps them all.

    Args:
        png: the file.

    Returns:
        The smaller file, with the same dots an inch and no other metadata.
    """
    drawn = Image.open(io.BytesIO(png))
    opaque = Image.new("RGBA", drawn.size, "white")
    opaque.alpha_composite(drawn.convert("RGBA"))
    image = opaque.convert("RGB")
    if image.getcolors(_PALETTE_UP_TO):  # None where there are more
        # Pillow's default spends the palette on common greys: rare colours move by up to 60 levels.
        image = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True, dpi=drawn.info.get("dpi"))
    return buffer.getvalue()


def _shown(figure: Figure) -> str | None:
    """The ``small`` PNG of a figure in base64, as notebooks show it; None where it is empty."""
    from IPython.core.pylabtools import print_figure

    png = print_figure(figure)
    return None if png is None else base64.b64encode(small(png)).decode()


Styles = dict[Hashable, tuple[str, str, str]]  # of a series: label, colour, marker

# Okabe & Ito 2008
DOT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vP"


def styles(series: Mapping[str, str] | Iterable[Hashable]) -> Styles:
    """Label, colour and marker of each series; the labels are the values of a mapping, or the names
    themselves.
    """
    labels = series if isinstance(series, Mapping) else {name: str(name) for name in series}
    return {
        name: (label, c, m)
        for (name, label), c, m in zip(
            labels.items(), cycle(DOT_COLOURS), cycle(_MARKERS), strict=False
        )
    }


def present(labels: Mapping[str, str], column: pd.Series) -> dict[Any, str]:
    """The labels of the values that a column has, in the order of the labels."""
    there = set(column)
    return {value: label for value, label in labels.items() if value in there}


def names(column: pd.Series) -> dict[Hashable, str]:
    """The values of a column as their own labels, in the order in which they first appear."""
    return {value: str(value) for value in column.unique()}


def dots(
    ax: Axes,
    table: pd.DataFrame,
    place: str,
    places: Mapping[Any, str],
    series: str | None = None,
    look: Styles | None = None,
    *,
    unit: float = 1000,
    upright: bool = False,
) -> None:
    """Draw a row (or a column) for each place, and in it the series side by side.

    Args:
        ax: to draw on.
        table: columns ``mean``, ``low``, ``high`` (NaN for no interval), and those that are named
            next.
        place: column that says in which row a dot stands.
        places: labels of its values, in order.
        series: column that tells series apart, and ``look``, how those of its values look that are
            drawn; None for one series.
        look: from ``styles``.
        unit: what the numbers are multiplied by.
        upright: places along x and values along y; else the other way round.
    """
    order = list(places)
    look = look or styles([""])
    for k, (value, (label, colour, marker)) in enumerate(look.items()):
        one = table if series is None else table[table[series] == value]
        if one.empty:
            continue
        at = np.array([order.index(p) for p in one[place]]) + (k - (len(look) - 1) / 2) * 0.7 / len(
            look
        )
        mean, low, high = (unit * one[end].to_numpy(np.float64) for end in ("mean", "low", "high"))
        # Drawn from end to end: an estimate held at a bound need not lie within its interval.
        x, y = (at, low) if upright else (low, at)
        reach: dict[str, Any] = {
            "yerr" if upright else "xerr": np.stack([np.zeros(len(one)), high - low])
        }
        ax.errorbar(x, y, **reach, fmt="none", ecolor=colour, capsize=2, elinewidth=1.2)
        x, y = (at, mean) if upright else (mean, at)
        ax.plot(x, y, marker, color=colour, ms=4.5, label=label)
    if upright:
        ax.set_xticks(range(len(order)), list(places.values()))
        ax.set_xlim(-0.5, len(order) - 0.5)
    else:
        ax.set_yticks(range(len(order)), list(places.values()))
        ax.set_ylim(len(order) - 0.5, -0.5)
    ax.grid(axis="x" if upright else "y", visible=False)


def band(ax: Axes, x: ArrayLike, intervals: Sequence[Interval], colour: str, **line: Any) -> None:
    """Draw a line of means with the band of their intervals.

    Args:
        ax: to draw on.
        x: (n,) where the means stand.
        intervals: of each place.
        colour: of both; ``line`` says what else there is to the line, such as a label.
    """
    mean, low, high = ([getattr(i, end) for i in intervals] for end in ("mean", "low", "high"))
    ax.plot(x, mean, color=colour, **line)
    ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def ends(
    table: pd.DataFrame, of: str = "mean", low: str = "low", high: str = "high"
) -> NDArray[np.float64]:
    """How far intervals reach below and above what is drawn, (2, n): ``xerr`` or ``yerr`` of
    ``Axes.errorbar``.

    Args:
        table: one row an interval.
        of, low, high: columns of the drawn number and of the ends.
    """
    return np.stack([table[of] - table[low], table[high] - table[of]])


def best_curves(history: pd.DataFrame, look: Styles, size: tuple[float, float], of: str) -> Figure:
    """The best so far of each search method, mean over its searches with the band of its 95 % t
    interval, against the number of trained networks.

    Args:
        history: ``method``, ``evaluation`` and ``best``, a row an evaluation.
        look: label, colour and marker of each method.
        size: of the figure, inches.
        of: what is best, for the axis.
    """
    figure, ax = plt.subplots(figsize=size)
    for method, (label, colour, marker) in look.items():
        mine = history[history["method"] == method].groupby("evaluation")["best"]
        curve = [mean_interval(values) for _, values in mine]
        named = f"{label} (n = {curve[0].n} searches)"
        band(ax, np.arange(1, len(curve) + 1), curve, colour, marker=marker, label=named)
    ax.set(xlabel="evaluations (networks trained)", ylabel=f"best {of} so far")
    ax.set_title("mean over searches; band: 95 % t interval")
    ax.legend(loc="lower right")
    return figure


def matrix(
    ax: Axes, mask: ArrayLike, title: str, aspect: Literal["equal", "auto"] = "equal", **font: Any
) -> None:
    """Draw a mask, black where a weight is kept.

    Args:
        ax: to draw on.
        mask: (d_out, d_in).
        title: of the panel, and ``font``, what else there is to it, such as its size.
        aspect: ``equal`` for square points.
    """
    ax.imshow(mask, cmap="Greys", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    ax.set(xlabel="input channel", ylabel="output channel")
    ax.set_title(title, **font)
    ax.grid(False)


def panels(
    count: int, width: float, height: float, *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of this size (inches), at most four in a row, each with its
    numbers along x.
    """
    columns = min(count, 4)
    rows = -(-count // columns)
    size = (max(width * columns + 0.8, 5.5), height * rows + 0.7)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=sharex, sharey=sharey, squeeze=False
    )
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    shown = list(axes.flat[:count])
    for ax in shown:
        ax.tick_params(labelbottom=True)
    return figure, shown


def legend(
    figure: Figure, axes: Sequence[Axes], columns: int | None = None, title: str | None = None
) -> Figure:
    """The figure with a legend under it: what is labelled in any of the panels, once.

    Args:
        figure, axes: with the panels.
        columns: of the legend; None for three, or two where that fills them.
        title: of the legend.
    """
    entries = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        if label
    }
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=columns or (2 if len(entries) == 4 else 3),
        title=title,
    )
    return figure


def titled(figure: Figure, title: str) -> Figure:
    """The figure with a title in small print above all panels."""
    figure.suptitle(title, fontsize=9)
    return figure


def stretch(axes: Sequence[Axes], linear: float) -> str:
    """Make the x axes logarithmic beyond +-linear, if what is drawn reaches ten times as far;
    returns what the labels have to say of it.
    """
    low, high = min(ax.dataLim.x0 for ax in axes), max(ax.dataLim.x1 for ax in axes)
    if max(-low, high) <= 10 * linear:
        return ""
    # a line drawn at 0 may be off by rounding
    low = 1.5 * min(low, -linear) if low < -1e-6 * linear else -0.1 * linear
    high = 1.5 * max(high, linear)
    steps = linear * np.array([0.5, *5.0 ** np.arange(9)])
    ticks = [t for t in (*-steps[::-1], 0, *steps) if low <= t <= high]
    for ax in axes:
        ax.set_xscale("symlog", linthresh=linear)
        ax.set(xlim=(low, high))
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
    return f"linear up to {linear:g}, logarithmic beyond"
