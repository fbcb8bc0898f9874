"""Notebook 14: searches among all removals of k edges, at a size where the best one is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bogp.checks import number, whole
from bogp.errors import InvalidInput
from bogp.parallel import in_parallel
from bogp.records import kept_in_parallel
from bogp.structural import search
from bogp.structural.gates import losses_under
from bogp.structural.graph import ComputationGraph
from bogp.studies.surrogates.measure import (
    Masks,
    Settings,
    as_masks,
    as_text,
    blank_graph,
    looked_up,
    shortened,
    task_of,
    taylor_models,
    trained,
)

SIZE = "10-15"  # the class of graphs whose best mask can be known
MOST, LEAST = 14, 300  # candidate edges, feasible masks


@dataclass(frozen=True)
class Budget:
    """How much is searched.

    Attributes:
        share: of the masks with k removed edges that may be evaluated, in (0, 1].
        repeats: searches of each method that draws at random.
    """

    share: float
    repeats: int

    def __post_init__(self) -> None:
        if not 0 < number("share", self.share) <= 1:
            raise InvalidInput(f"share is {self.share}; it lies above 0 and is at most 1.")
        whole("repeats", self.repeats, 1)


def removals(graph: ComputationGraph) -> tuple[int, int]:
    """The number k of removed candidate edges for which there are most feasible masks, and how many
    those are.
    """
    counts = np.bincount((~feasible(graph, len(graph.candidates))).sum(axis=1))[1:]
    return int(np.argmax(counts)) + 1, int(counts.max())


def feasible(graph: ComputationGraph, removed: int) -> Masks:
    """The masks that remove 1 to ``removed`` of at most 14 candidate edges and keep the output
    connected.

    Returns:
        (M, E) masks.

    Raises:
        InvalidInput: there are more candidate edges, or ``removed`` is no whole number of at least
            1.
    """
    candidates = len(graph.candidates)
    if candidates > MOST:
        raise InvalidInput(
            f"The graph has {candidates} candidate edges; all masks are listed for at most {MOST}."
        )
    whole("removed", removed, 1)
    chosen = (np.arange(1, 2**candidates)[:, None] >> np.arange(candidates)) & 1 == 1
    chosen = chosen[chosen.sum(axis=1) <= removed]
    masks = np.ones((len(chosen), len(graph.edges)), dtype=bool)
    masks[:, graph.candidates] = ~chosen
    return masks[graph.connected(masks)]


def search_seeds(graphs: int) -> list[int]:
    """The first seeds of the smallest class whose graphs have at most 14 candidate edges, and at
    least 300 feasible masks of some k.
    """

    def fits(seed: int) -> bool:
        graph = blank_graph(SIZE, seed)
        return len(graph.candidates) <= MOST and removals(graph)[1] >= LEAST

    return list(islice(filter(fits, count()), graphs))


def measure_all(seed: int, settings: Settings) -> pd.DataFrame:
    """Train one small network and measure every feasible mask of up to k removed edges: the table
    that all its searches read.

    Returns:
        A row a mask: ``mask``, ``edges`` (removed), ``loss`` (mean over validation images, nats),
        ``taylor`` (the change that the model of second order predicts) and ``permuted`` (the same
        model's, its edges permuted at random).
    """
    network = trained(SIZE, seed, settings)
    graph, loss = network.graph, task_of(settings.dataset).loss
    masks = feasible(graph, removals(graph)[0])
    model = taylor_models(graph, network.calibration, loss)[1]["hessian"]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(15,)))
    order = np.arange(len(graph.edges))
    order[graph.candidates] = rng.permutation(graph.candidates)
    return shortened(
        pd.DataFrame(
            {
                "mask": as_text(masks),
                "edges": (~masks).sum(axis=1),
                "loss": losses_under(graph, masks, network.validation, loss),
                "taylor": model.change(masks),
                "permuted": model.change(masks[:, order]),
            }
        )
    )


def searches(table: pd.DataFrame, seed: int, budget: Budget) -> pd.DataFrame:
    """All methods on one graph, each at a budget of a share of its feasible masks.

    Args:
        table: from ``measure_all``.
        seed: of its graph.
        budget: of each method.

    Returns:
        Columns ``seed``, ``method``, ``repeat``, ``evaluation``, ``share`` (of the feasible masks)
        and ``regret``: (best so far - best) / (median - best) over the feasible masks. Until a
        search has a mask with k removed edges its regret is 1, that of the median mask.
    """
    graph = blank_graph(SIZE, seed)
    masks = as_masks(table["mask"], len(graph.edges))
    space = search.Space(graph, int(table["edges"].max()))
    losses, taylor, permuted = (looked_up(masks, table[c]) for c in ("loss", "taylor", "permuted"))
    truth = table.loc[table["edges"] == space.removed, "loss"]
    most = max(round(budget.share * len(truth)), 5)
    initial, batch = max(most // 5, 2), max(most // 20, 1)
    bo = partial(search.bayesian, space, losses, most, initial=initial, batch=batch)
    methods: dict[str, Callable[[int], pd.DataFrame]] = {
        "random": lambda k: search.random(space, losses, most, k),
        "greedy": lambda k: search.greedy(space, losses, max(most, search.greedy_cost(space))),
        "quadratic": lambda k: search.quadratic(space, losses, most, taylor, k),
        "bo": lambda k: bo(k, prior=taylor),
        "bo_constant": lambda k: bo(k),
        "bo_permuted": lambda k: bo(k, prior=permuted),
    }
    evaluation = np.arange(1, most + 1)
    rows = []
    for method, run in methods.items():
        for repeat in range(1 if method in ("greedy", "quadratic") else budget.repeats):
            # what ends early keeps what it has
            best = run(repeat)["best"].reindex(range(most)).ffill()
            regret = ((best - truth.min()) / (truth.median() - truth.min())).fillna(1.0)
            found = {"seed": seed, "method": method, "repeat": repeat, "evaluation": evaluation}
            rows.append(pd.DataFrame(found | {"share": evaluation / len(truth), "regret": regret}))
    return pd.concat(rows, ignore_index=True)


def record(seed: int, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The file that a graph's table of ``measure_all`` is kept in, and the parameters by which it
    is found again.
    """
    return f"search-{seed}.csv.gz", {"seed": seed} | vars(settings)


def all_searches(
    graphs: int, settings: Settings, budget: Budget, folder: Path, cores: int = 1
) -> pd.DataFrame:
    """The ``searches`` on so many graphs; the tables that they read are kept
    (``records.kept_in_parallel``).

    Args:
        graphs: the first that ``search_seeds`` finds.
        settings: of the networks.
        budget: of the searches.
        folder: of the tables.
        cores: graphs at once; the numbers do not depend on it.

    Raises:
        InvalidInput: a number out of range.
    """
    jobs = [(seed, settings) for seed in search_seeds(whole("graphs", graphs, 2))]
    tables = kept_in_parallel(measure_all, jobs, record, folder, cores, "graph")
    asked = [(table, seed, budget) for table, (seed, _) in zip(tables, jobs, strict=True)]
    return pd.concat(in_parallel(searches, asked, cores, "graph"), ignore_index=True)
