"""Notebook 15 in figures: the loss by method and number of removed blocks, fine-tuning, and which
blocks go.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bogp.plotting import dots, legend, panels, present, styles, titled
from bogp.studies.depth_pruning.measure import BLOCKS, METHODS
from bogp.studies.depth_pruning.subsets import PREDICTORS, TARGET
from bogp.studies.depth_pruning.tables import WEIGHTS, both, chosen, means, tuned_count

_UNPRUNED = {"unpruned": "whole network"}


def removal(table: pd.DataFrame) -> Figure:
    """The change of the test loss by method and number of removed blocks, a panel a network.

    A dot with a bar is the mean over seeds of networks with its 95 % t interval; a grey mark is one
    draw of calibration examples of one seed.

    Args:
        table: long, from ``measure.studied``.
    """
    kept = table[(table["weights"] == "kept") & (table["count"] > 0)]
    found = means(kept).query("measure == 'change'")
    places = present(METHODS, kept["method"])
    counts = sorted(kept["count"].unique())
    look = styles({c: f"{c} block{'s' if c > 1 else ''} removed" for c in counts})
    figure, axes = panels(kept["network"].nunique(), 3.0, 0.36 * len(places) + 0.9, sharey=True)
    for ax, (network, one) in zip(axes, kept.groupby("network", sort=False), strict=True):
        at = np.array([list(places).index(m) for m in one["method"]])
        beside = [counts.index(c) - (len(counts) - 1) / 2 for c in one["count"]]
        shifted = at + np.array(beside) * 0.7 / len(counts)
        ax.plot(one["change"], shifted, "|", color="#999999", ms=5, zorder=0)
        dots(ax, found[found["network"] == network], "method", places, "count", look, unit=1)
        ax.set(title=network, xlabel="change of the test loss (nats)")
        _span(ax, one["change"])
    seeds, draws = kept["seed"].nunique(), kept["draw"].nunique()
    return titled(
        legend(figure, axes),
        f"dot and bar: mean over {seeds} seeds of networks, 95 % t interval, cut off at the frame;"
        f"\ngrey: each of {draws} draws of calibration examples (or orders at random)",
    )


def tuning(table: pd.DataFrame) -> Figure:
    """The test loss before and after fine-tuning, mean over seeds of networks with its 95 % t
    interval; a panel a network.
    """
    some = both(table)
    found = means(some).query("measure == 'loss'")
    places = present(_UNPRUNED | METHODS, found["method"])
    look = styles(WEIGHTS)
    figure, axes = panels(found["network"].nunique(), 3.0, 0.32 * len(places) + 0.9, sharey=True)
    for ax, (network, one) in zip(axes, found.groupby("network", sort=False), strict=True):
        dots(ax, one, "method", places, "weights", look, unit=1)
        ax.set(title=network, xlabel="test loss (nats)")
        _span(ax, some.loc[some["network"] == network, "loss"])
    return titled(
        legend(figure, axes),
        f"{tuned_count(table)} blocks removed; dot and bar: mean over {some['seed'].nunique()} "
        "seeds of networks, 95 % t interval, cut off at the frame",
    )


def blocks(table: pd.DataFrame) -> Figure:
    """How often each block is among those that go first: methods down, blocks along, a panel a
    network.
    """
    found = chosen(table)
    places = present(METHODS, found["method"])
    figure, axes = panels(found["network"].nunique(), 3.0, 0.28 * len(places) + 1.1, sharey=True)
    for ax, (network, one) in zip(axes, found.groupby("network", sort=False), strict=True):
        names = BLOCKS[network]
        wide = one.pivot(index="method", columns="block", values="share")
        image = ax.imshow(
            wide.loc[list(places), list(names)], cmap="Blues", vmin=0, vmax=1, aspect="auto"
        )
        ax.set_xticks(range(len(names)), [n.replace("blocks.", "") for n in names], fontsize=7)
        if any("layer" in n for n in names):
            ax.tick_params(axis="x", rotation=60)
        ax.set_yticks(range(len(places)), list(places.values()))
        ax.set(title=network, xlabel="block")
        ax.grid(False)
    figure.colorbar(image, ax=axes, label="share of seeds and draws", fraction=0.03)
    return titled(figure, f"the first {tuned_count(table)} blocks to go")


def sets(found: pd.DataFrame) -> Figure:
    """How well the loss of sets of blocks is ranked, with and without their number held fixed; mean
    over seeds of networks with its 95 % t interval, a panel a network.

    Args:
        found: from ``subsets.summary``.
    """
    look = styles({"spearman": "Spearman", "given": "given the number of blocks"})
    size = (3.0, 0.32 * len(PREDICTORS) + 0.9)
    figure, axes = panels(found["network"].nunique(), *size, sharex=True, sharey=True)
    for ax, (network, one) in zip(axes, found.groupby("network", sort=False), strict=True):
        dots(ax, one, "method", PREDICTORS, "measure", look, unit=1)
        ax.axvline(0, color="#888888", linewidth=0.8)
        ax.axvline(TARGET, color="#444444", linewidth=0.8, linestyle=":")
        ax.set(title=network, xlim=(-1.05, 1.05), xlabel="rank correlation with the loss")
    return legend(figure, axes)


def _span(ax: Axes, values: pd.Series) -> None:
    """Limits that show all measurements; intervals of two or three seeds can reach far beyond."""
    room = 0.08 * float(np.ptp(values)) or 1.0
    ax.set_xlim(float(values.min()) - room, float(values.max()) + room)
    if values.min() - room <= 0:
        ax.axvline(0, color="#000000", linewidth=0.6)
