"""Notebook 09 in figures: the gain against sparsity, the generator's landscape, receptive fields,
other data, and what is left when places are taken away.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bogp.graphs.relational import LayerMasks
from bogp.plotting import DOT_COLOURS, dots, ends, legend, names, panels, styles, titled
from bogp.statistics import group_intervals
from bogp.studies.places.designs import EFFECTIVE_DIMENSION, GAIN
from bogp.studies.places.measure import Task
from bogp.studies.places.tables import LABELS, differences

_RANGE = (-5.0, 9.0)  # of accuracy over random graphs that is drawn, percentage points
_GAINED = (-3.0, 4.5)  # the same, of other data
_SHOWN = {  # of the methods: colour, marker and line
    "bayesian": (DOT_COLOURS[0], "o", "-"),
    "random": (DOT_COLOURS[5], "o", "-"),
    "placed: both": (DOT_COLOURS[2], "s", "-"),
    "lamp": (DOT_COLOURS[6], "D", "--"),
    "magnitude": ("#777777", "D", "--"),
    "iterative magnitude": ("#777777", "^", "--"),
    "lottery": (DOT_COLOURS[1], "D", "--"),
    "snip": (DOT_COLOURS[4], "v", ":"),
    "grasp": (DOT_COLOURS[3], "v", ":"),
    "synflow": ("#999999", "v", ":"),
    "erk": ("#994F00", "P", ":"),
    "RGP": ("#882255", "X", ":"),
    "best of random graphs": ("#AAAAAA", "o", "-"),
    "smaller dense": ("#44AA99", "*", "--"),
}


def against_sparsity(units: pd.DataFrame) -> Figure:
    """What each method has over random graphs, against sparsity: paired mean difference with its
    95 % t interval, in percentage points of test accuracy.

    Args:
        units: from ``tables.units``, of one data set.
    """
    rows = []
    for method in _SHOWN:
        one = differences(units, method, ["random graph"])
        rows.append(one.assign(method=method))
    table = pd.concat(rows)
    sparsities = sorted(table["sparsity"].unique())
    figure, ax = plt.subplots(figsize=(6.6, 4.2))
    for k, (method, (colour, marker, line)) in enumerate(_SHOWN.items()):
        own = table[table["method"] == method].sort_values("sparsity")
        if own.empty:
            continue
        shift = (k - len(_SHOWN) / 2) * 0.035
        at = np.array([sparsities.index(s) for s in own["sparsity"]]) + shift
        trainings = int(units[units["method"] == method]["trainings"].iloc[0])
        label = f"{LABELS.get(method, method)} ({trainings})"
        ax.errorbar(
            at,
            100 * own["mean"],
            yerr=100 * ends(own),
            color=colour,
            marker=marker,
            ls=line,
            lw=1.2,
            elinewidth=0.8,
            label=label,
        )
    ax.axhline(0, color="#555555", lw=0.8)
    ax.set_xticks(range(len(sparsities)), [f"{s:g}" for s in sparsities])
    ax.set(
        xlabel="sparsity of all masked layers", ylabel="test accuracy over random graphs (points)"
    )
    ax.set_ylim(*_RANGE)  # the methods that fail at .99 would flatten all others
    ax.set_title(
        "in brackets: trainings that a mask costs; bars: 95 % t interval\n"
        f"what falls below {_RANGE[0]:g} is in the table",
    )
    return legend(figure, [ax], 3)


def landscape(history: pd.DataFrame) -> Figure:
    """The generator's landscape: validation accuracy of all evaluated masks over pairs of its
    numbers, with the path of the first Bayesian search.

    Args:
        history: of one data set and sparsity, from ``measure.searched``.
    """
    pairs = [("first_locality", "salience"), ("first_locality", "hidden_ratio")]
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6))
    spread = history[history["method"] != "bayesian"]
    path = history[(history["method"] == "bayesian") & (history["search_seed"] == 0)]
    low, high = np.percentile(100 * spread["validation_accuracy"], [5, 99])
    for ax, (x, y) in zip(axes, pairs, strict=True):
        shown = ax.scatter(
            spread[x],
            spread[y],
            c=100 * spread["validation_accuracy"],
            cmap="cividis",
            vmin=low,
            vmax=high,
            s=9,
            alpha=0.8,
            linewidths=0,
        )
        ax.plot(path[x], path[y], "-", color="#D55E00", lw=0.8)
        ax.plot(path[x], path[y], "o", color="#D55E00", ms=3, label="path of a search")
        ax.plot(path[x].iloc[-1:], path[y].iloc[-1:], "*", color="#D55E00", ms=10)
        ax.set_xscale("log")
        if y == "hidden_ratio":
            ax.set_yscale("log")
        words = {
            "first_locality": "locality of the first layer (nodes' distances)",
            "salience": "preference for inputs that vary",
            "hidden_ratio": "density of the hidden layer over the first",
        }
        ax.set(xlabel=words[x], ylabel=words[y])
    figure.colorbar(shown, ax=axes, label="validation accuracy (%)")
    axes[0].legend(loc="lower left")
    return titled(figure, "each dot: one mask, trained once")


def fields(task: Task, masks: Mapping[str, LayerMasks]) -> Figure:
    """Masks as receptive fields on the image: which pixels a few units read, and how many units
    read each pixel.

    Args:
        task: of images with one plane.
        masks: by label.
    """
    side = task.made.side
    mean = task.made.dataset.train.images.mean(axis=0).reshape(side, side)
    figure, axes = plt.subplots(2, len(masks), figsize=(2.4 * len(masks) + 0.8, 5.0), squeeze=False)
    counts = [np.asarray(mask[0]).sum(axis=0).reshape(side, side) for mask in masks.values()]
    top = max(np.percentile(count, 99.5) for count in counts)
    for column, (label, mask) in enumerate(masks.items()):
        first = np.asarray(mask[0])
        upper, lower = axes[:, column]
        upper.imshow(mean, cmap="Greys", vmin=0, vmax=400)
        reading = np.flatnonzero(first.sum(axis=1) > 4)
        units = reading[np.linspace(0, len(reading) - 1, 6).astype(int)]
        for unit, colour in zip(units, DOT_COLOURS, strict=False):
            rows, columns = np.divmod(np.flatnonzero(first[unit]), side)
            upper.plot(columns, rows, "s", ms=2.6, color=colour)
        shown = lower.imshow(counts[column], cmap="viridis", vmin=0, vmax=top)
        upper.set_title(label)
        for ax in (upper, lower):
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(False)
    axes[0, 0].set_ylabel("pixels that six units read")
    axes[1, 0].set_ylabel("units that read a pixel")
    figure.colorbar(shown, ax=axes[1, :].tolist(), label="units")
    return figure


def other_data(gained: pd.DataFrame) -> Figure:
    """What places gain on each data set against the effective dimension of its inputs, with 95 % t
    intervals; open marks are held out.

    Args:
        gained: from ``tables.gains``.
    """
    rows = gained.sort_values("effective_dimension").reset_index(drop=True)
    figure, ax = plt.subplots(figsize=(6.6, 0.26 * len(rows) + 1.0))
    for held, face in ((False, DOT_COLOURS[0]), (True, "white")):
        own = rows[rows["held_out"] == held]
        ax.errorbar(
            100 * own["mean"],
            own.index,
            xerr=100 * ends(own),
            fmt="o",
            color=DOT_COLOURS[0],
            mfc=face,
            ms=6,
            label="held out" if held else "explored",
        )
    low, high = _GAINED
    for at, one in rows[100 * rows["mean"] < low].iterrows():
        ax.text(low, at, f"← {100 * one['mean']:.1f}", va="center", fontsize=8)
    names = rows["dataset"].str.replace("fashion-mnist", "fashion")
    ax.set_yticks(
        rows.index,
        [f"{n} ({d:.1f})" for n, d in zip(names, rows["effective_dimension"], strict=True)],
    )
    above = (rows["effective_dimension"] > EFFECTIVE_DIMENSION).to_numpy()
    ax.axhline(np.count_nonzero(~above) - 0.5, color="#999999", ls="--", lw=0.8)
    ax.axvline(0, color="#555555", lw=0.8)
    ax.axvline(100 * GAIN, color="#999999", ls=":", lw=0.8)
    ax.set(xlim=(low, high), xlabel="test accuracy over random graphs (points)")
    ax.set_ylabel("data set (effective dimension)")
    ax.set_title(
        "the setting `both`; bars: 95 % t interval over masks\n"
        f"expected: {100 * GAIN:g} or more above the dashed line, less below"
    )
    ax.legend(loc="lower right")
    return figure


def taken_away(null: pd.DataFrame) -> Figure:
    """What is left of the gain over random graphs when something is taken away, with 95 % t
    intervals.

    Args:
        null: from ``tables.taken_away``.
    """
    figure, ax = plt.subplots(figsize=(6.0, 0.3 * len(null) + 1.2))
    dots(ax, null, "kind", names(null["kind"]), look=styles([""]), unit=100)
    ax.axvline(0, color="#555555", lw=0.8)
    ax.set(xlabel="test accuracy over random graphs (points)")
    return figure


def printed(retrained: pd.DataFrame) -> Figure:
    """Fresh test accuracy of what each search of the printed algorithm recommends, mean over
    searches with its 95 % t interval.

    Args:
        retrained: from ``measure.printed``.
    """
    bases = list(retrained["database"].unique())
    table = group_intervals(retrained, ["database", "method"], "fresh_test")
    figure, axes = panels(len(bases), 3.6, 2.2)
    for ax, base in zip(axes, bases, strict=True):
        own = table[table["database"] == base]
        dots(ax, own, "method", names(own["method"]), look=styles([""]), unit=100)
        ax.set(title=f"{base} masks", xlabel="test accuracy (%)")
    return titled(figure, "fresh seeds; mean over searches, 95 % t interval")
