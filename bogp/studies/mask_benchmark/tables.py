"""Notebook 17 in tables: what stands beside each other, and the answer in words."""

import numpy as np
import pandas as pd

from bogp.outputs import with_interval


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
