"""Notebook 14: searches on graphs too large to measure every mask, with four prior means.

The truth is a long random sample: its best and its median mask. A search may evaluate 2 % as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bogp.records import kept_in_parallel
from bogp.structural import search
from bogp.structural.flow import path_flow, shares
from bogp.structural.gates import losses_under
from bogp.structural.surrogate import Predictor
from bogp.structural.taylor import taylor_model
from bogp.studies.surrogates.fresh import permuted, seeds
from bogp.studies.surrogates.measure import Masks, Settings, shortened, task_of, trained

LARGE = ("50-100", "> 100")  # classes of graphs of more than 50 edges
SHARE = 0.02  # of the sample's size, that a search may evaluate
REMOVED = 0.5  # share of the candidate edges that goes
PER_MASK = 4  # masks of the sample for each that is ranked elsewhere


def classes(sizes: Sequence[str]) -> list[str]:
    """Those of more than 50 edges; the last one where there are none, to try it."""
    return [size for size in sizes if size in LARGE] or list(sizes[-1:])


def measure(size: str, seed: int, settings: Settings) -> pd.DataFrame:
    """Train the network of a new graph, sample its masks and search with each prior.

    Flow enters as ``path_flow``, which costs less for thousands of masks than the flow model, and
    ranks the masks of these graphs alike.

    Returns:
        A row for each ``prior`` (``constant``, ``permuted``: flow of permuted edges, ``taylor``,
        ``flow``) and ``evaluation``: ``regret``, (best so far - best) / (median - best), of the
        sample; below 0 where a search finds a mask that the sample has not.
    """
    network = trained(size, seed, settings)
    graph, loss = network.graph, task_of(settings.dataset).loss
    space = search.Space(graph, round(REMOVED * len(graph.candidates)))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(17,)))

    def losses(masks: Masks) -> np.ndarray:
        return losses_under(graph, masks, network.validation, loss)

    sample = PER_MASK * settings.masks
    truth = losses(space.draw(sample, rng))
    weights, order = shares(graph, network.calibration.inputs), permuted(graph, rng)

    def flow(masks: Any) -> np.ndarray:
        return 1 - path_flow(graph, masks, weights)

    priors: dict[str, Predictor | None] = {
        "constant": None,
        "permuted": lambda masks: flow(np.asarray(masks)[:, order]),
        "taylor": taylor_model(graph, network.calibration, loss).change,
        "flow": flow,
    }
    budget = max(round(SHARE * sample), 4)
    initial, batch = max(budget // 4, 2), max(budget // 8, 1)
    rows = []
    for name, prior in priors.items():
        found = search.bayesian(
            space, losses, budget, seed, prior=prior, initial=initial, batch=batch
        )
        regret = (found["best"] - truth.min()) / (np.median(truth) - truth.min())
        who = {"size": size, "seed": seed, "prior": name, "evaluation": found["evaluation"]}
        rows.append(pd.DataFrame(who | {"regret": regret}))
    return shortened(pd.concat(rows, ignore_index=True))


def record(size: str, seed: int, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The file that the searches of a graph are kept in, and the parameters by which they are found
    again.
    """
    name = f"hard-{size.replace('> ', 'over-')}-{seed}.csv.gz"
    own = {"size": size, "seed": seed, "per_mask": PER_MASK, "share": SHARE, "removed": REMOVED}
    return name, own | vars(settings)


def all_searches(
    sizes: Sequence[str], graphs: int, settings: Settings, folder: Path, cores: int = 1
) -> pd.DataFrame:
    """The searches of so many new graphs of each class of more than 50 edges, each kept in a file
    (``records.kept_in_parallel``).

    Args:
        sizes: classes of graphs.
        graphs: of each.
        settings: of the networks.
        folder: of the tables.
        cores: graphs at once; the numbers do not depend on it.

    Raises:
        InvalidInput: a number out of range.
    """
    jobs = [(size, seed, settings) for size in classes(sizes) for seed in seeds(graphs)]
    tables = kept_in_parallel(measure, jobs, record, folder, cores, "graph")
    return pd.concat(tables, ignore_index=True)
