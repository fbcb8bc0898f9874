"""Notebook 14: what each predictor says of all masks, and how well that ranks them."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bogp.records import kept_in_parallel
from bogp.statistics import rank_correlation
from bogp.structural import surrogate
from bogp.structural.graph import ComputationGraph
from bogp.studies.surrogates import measure
from bogp.studies.surrogates.measure import (
    SUFFIX,
    Settings,
    as_masks,
    blank_graph,
    looked_up,
    own_edges,
)

ZERO_SHOT = (
    "magnitude",
    "published_taylor",
    "live_edges",
    "first_order",
    "fisher",
    "gauss_newton",
    "hessian",
)


def surrogates(
    graph: ComputationGraph, taylor: surrogate.Predictor
) -> dict[str, dict[str, surrogate.Surrogate]]:
    """The surrogates by name, those of each design; ``live`` ones read which edges lie on a live
    path, the others the mask.
    """
    own = own_edges(graph)
    kept, live = surrogate.kept_features(own), surrogate.live_features(graph, own)
    few: dict[str, surrogate.Surrogate] = {
        "path": surrogate.PathSurrogate(graph),
        "linear": surrogate.LinearSurrogate(kept),
    }
    more: dict[str, surrogate.Surrogate] = {
        "linear_live": surrogate.LinearSurrogate(live),
        "pairs_live": surrogate.LinearSurrogate(live, pairs=True),
        "process_live": surrogate.GaussianProcess(live),
        "process_taylor": surrogate.GaussianProcess(live, taylor),
    }
    return {"published": few, "larger": few | more}


def predictions(
    table: pd.DataFrame, graph: ComputationGraph, reading: str = "removed"
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """What each predictor says of all masks; surrogates are fitted to the losses on calibration
    images.

    Args:
        table: from ``measure.measure``.
        graph: its graph, ``blank_graph`` will do.
        reading: ``removed``, or ``zeroed``: a vertex without live inputs goes on with its biases.

    Returns:
        (M,) predictions by (design, predictor).
    """
    masks = as_masks(table["mask"], len(graph.edges))
    losses = table[f"calibration{SUFFIX[reading]}"].to_numpy()
    found = {("zero-shot", name): table[name].to_numpy() for name in ZERO_SHOT}
    learned = {"published": ["published"], "larger": ["published", "larger"]}
    if reading == "zeroed":
        del learned["larger"]  # no surrogate of the larger design is asked for in this reading
    models = surrogates(graph, looked_up(masks, table["hessian"]))
    for design, parts in learned.items():
        rows = table["part"].isin(parts).to_numpy()
        found |= {
            (design, name): model.fit(masks[rows], losses[rows]).predict(masks)
            for name, model in models[design].items()
        }
    return found


def ranks(table: pd.DataFrame, size: str, seed: int) -> pd.DataFrame:
    """Rank correlations of one graph's predictions with the losses on test images.

    Args:
        table: from ``measure.measure``.
        size, seed: of its graph.

    Returns:
        A row for each ``reading``, ``design``, ``predictor`` and set of ``masks`` (``half``: all
        Bernoulli(1/2) masks; of them ``half connected`` and ``half disconnected``; ``connected``;
        ``single``: one edge left out): ``spearman``, ``kendall`` (NaN where the losses are all
        equal) and ``n`` masks.
    """
    graph, rows = blank_graph(size, seed), []
    half, connected = table["part"] == "half", table["connected"]
    sets = {
        "half": half,
        "half connected": half & connected,
        "half disconnected": half & ~connected,
        "connected": table["part"] == "connected",
        "single": (table["part"] == "published") & (np.arange(len(table)) > 1),
    }
    for reading, suffix in SUFFIX.items():
        truth = table[f"test{suffix}"].to_numpy()
        if reading == "zeroed":
            del sets["connected"]  # they were measured as removals only
        predicted = predictions(table, graph, reading)
        for ((design, name), values), (masks, chosen) in product(predicted.items(), sets.items()):
            spearman, kendall = _correlations(values[chosen], truth[chosen])
            keys = {"size": size, "seed": seed, "reading": reading, "design": design}
            keys |= {"predictor": name, "masks": masks}
            rows.append(keys | {"spearman": spearman, "kendall": kendall, "n": chosen.sum()})
    return pd.DataFrame(rows)


def _correlations(
    predicted: NDArray[np.float64], truth: NDArray[np.float64]
) -> tuple[float, float]:
    """Spearman's and Kendall's rank correlation; NaN where there is nothing to be ranked."""
    x = predicted.round(9)  # masks of one live network are predicted alike, but for rounding
    if len(x) < 3 or np.ptp(truth) == 0:
        return np.nan, np.nan
    if np.ptp(x) == 0:  # a prediction that is the same for all masks ranks nothing
        return 0.0, 0.0
    return rank_correlation(x, truth), float(stats.kendalltau(x, truth).statistic)


def record(
    table: pd.DataFrame, size: str, seed: int, settings: Settings
) -> tuple[str, dict[str, Any]]:
    """The file that a graph's ``ranks`` are kept in, and the parameters by which they are found
    again; ``table`` follows from them.
    """
    _, parameters = measure.record(size, seed, settings)
    return f"correlations-{size.replace('> ', 'over-')}-{seed}.csv.gz", parameters


def all_ranks(
    tables: dict[tuple[str, int], pd.DataFrame], settings: Settings, folder: Path, cores: int = 1
) -> pd.DataFrame:
    """The ``ranks`` of all graphs, each kept in a file of its own (``records.kept_in_parallel``):
    the fitting of surrogates takes longer than the measurements.

    Args:
        tables: from ``measure.measured``.
        settings: what they were measured with.
        folder: of the files.
        cores: graphs at once; the numbers do not depend on it.
    """
    jobs = [(table, *key, settings) for key, table in tables.items()]
    found = kept_in_parallel(_kept, jobs, record, folder, cores, "graph")
    return pd.concat(found, ignore_index=True)


def _kept(table: pd.DataFrame, size: str, seed: int, settings: Settings) -> pd.DataFrame:
    return ranks(table, size, seed)
