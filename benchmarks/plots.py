"""Figures of the speed measurements."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure


def rates(table: pd.DataFrame, size: str, label: str) -> Figure:
    """Work done a second against its size, one line a way of doing it (columns ``size``, way,
    per_second); both axes logarithmic.
    """
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
        palette=["#0072B2", "#E69F00", "#000000", "#009E73"][: table["way"].nunique()],
    )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=label,
        ylabel=f"{unit} per second",
        title="calibrated, sparsity 0.60, one core"
        if size == "masks"
        else "nine properties, sparsity 0.60, one core",
    )
    ticks = sorted(table[size].unique())
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    if size == "masks":  # less than a decade: powers of ten alone would leave one tick
        ax.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
        ax.set_ylim(0.2, 5)
        ax.minorticks_off()
    ax.legend(title="")
    return figure


def time_shares(table: pd.DataFrame) -> Figure:
    """Where one core's time goes in a training, part by part, beside the floors of its matrix
    products; one panel a protocol.
    """
    protocols = list(dict.fromkeys(table["protocol"]))
    figure, axes = plt.subplots(1, len(protocols), figsize=(9.5, 3.2), squeeze=False, sharey=True)
    for ax, protocol in zip(axes[0], protocols, strict=True):
        one = table[table["protocol"] == protocol]
        colours = [
            "#000000" if part == "total" else "#E69F00" if part.startswith("floor") else "#0072B2"
            for part in one["part"]
        ]
        ax.barh(one["part"], one["ms"] / 1e3, color=colours)
        ax.set(xlabel="seconds a training, one core", title=f"protocol {protocol}")
    axes[0, 0].invert_yaxis()  # of all: they share it
    return figure
