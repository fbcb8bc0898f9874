"""Notebook 17 in tables: what stands beside each other, and the answer in words."""

import numpy as np
import pandas as pd

from bogp.benchmark.data import WIDTHS, Benchmark
from bogp.outputs import with_interval
from bogp.statistics import rank_correlation


def spread(by_family: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy (%) of each family, a column a data set and sparsity.

    Args:
        by_family: from ``measure.by_family``.
    """
    wide = by_family.pivot_table(
        index="family", columns=["dataset", "sparsity"], values="mean", sort=False
    )
    return 100 * wide


def transfer(predicted: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlation of models, the mean over tasks, a column a split.

    Args:
        predicted: from ``measure.predicted``.
    """
    return predicted.pivot_table(
        index=["columns", "model"], columns="split", values="spearman", sort=False
    )


def densities(table: pd.DataFrame) -> str:
    """How far the weights that masks keep are from the share asked for, family by family, in words.

    Args:
        table: of the benchmark.
    """
    inputs, units, behind, _ = WIDTHS
    asked = (1 - table["sparsity"]) * units * (inputs + behind)
    off = 100 * (table["weights"] / asked - 1)
    most = off.abs().groupby(table["family"], sort=False).max()
    far = most[most > 2].index  # per cent
    ends = [
        f"`{name}` by {off[table['family'] == name].min():+.0f} to "
        f"{off[table['family'] == name].max():+.0f} %"
        for name in far
    ]
    return f"{', '.join(ends)}, others by at most {most.drop(far).max():.1f} %"


def by_weights(masks: Benchmark) -> float:
    """The largest rank correlation of ``weights`` with accuracy among the masks of ``bernoulli`` of
    one sparsity, on either data set.
    """
    found = []
    for (_, family), rows in masks.table.groupby(["sparsity", "family"]).indices.items():
        if family == "bernoulli":
            means = masks.accuracies[rows, :, :, -1].mean(axis=2)
            weights = masks.table["weights"].to_numpy()[rows]
            found += [rank_correlation(weights, one) for one in means.T]
    return max(found)


def answer(known: pd.DataFrame, over: pd.DataFrame, budget: int, masks: int) -> str:
    """The notebook's answer.

    Args:
        known: from ``measure.ceilings``.
        over: from ``measure.against_random``.
        budget: masks that a search observes.
        masks: of the benchmark.
    """
    said = "; ".join(
        f"{row.arm} {with_interval(vars_of(row), '+.4f')}, ahead in {row.wins} of {row.n}"
        for row in over.itertuples()
    )
    tasks = int(over["n"].max())
    return (
        f"Yes: {masks:,} masks, each trained on two data sets from three seeds, can be searched "
        f"without training. Over random search of {budget} masks, judged by trainings that no "
        f"search saw, methods have (mean over {tasks} tasks): {said}. A mask's share in "
        f"the variance of one training is {known['icc'].min():.2f} to {known['icc'].max():.2f}."
    )


def vars_of(row: object) -> dict[str, float]:
    """``mean``, ``low`` and ``high`` of a row of ``itertuples``."""
    return {name: float(getattr(row, name, np.nan)) for name in ("mean", "low", "high")}
