"""Algorithms 3 and 4: Bayesian optimisation of a mask through its graph properties, and random search beside it (paper section 5.3).

A *searcher* proposes masks (``ask``) and learns what they scored (``tell``). ``run`` advances any number of searchers together, one call of
the evaluator a round, and returns every evaluation as one table. Nothing is kept between runs but the evaluations themselves: a search that was
interrupted asks the same questions again, gets the answers from the store, and goes on.

Seeds: the first training of a mask in search k has seed k, so that all masks and methods of one k are compared from the same initial weights and
batches. A mask that is proposed again is a replication and trains with seed 10,000 + k, then 20,000 + k, and so on.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.checks import whole
from bogp.errors import InvalidInput
from bogp.graphs.database import MaskDatabase
from bogp.graphs.relational import layer_masks
from bogp.search.searchers import FRESH_SEED, SEED_LIMIT, Objective, Proposal, Searcher
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol


def validation_accuracy(rows: pd.DataFrame) -> NDArray[np.float64]:
    """The objective of Algorithm 3: accuracy on the split that selection reads."""
    return rows["validation_accuracy"].to_numpy(dtype=np.float64)


def run(
    searchers: Sequence[Searcher],
    database: MaskDatabase,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
    objective: Objective | Mapping[str, Objective] = validation_accuracy,
) -> pd.DataFrame:
    """Advance searchers in lockstep, one call of the evaluator a round, until all are done.

    Args:
        searchers: over that database; each pair of name and seed once.
        database: the masks that proposals refer to.
        evaluator: trains what the store does not hold.
        protocol: how masks are trained, and which layers they sit on.
        dataset: name of the data set.
        objective: turns rows of the evaluator (with the mask's ``sparsity`` added) into scores; larger is better. Or one for each name of a
            searcher, so that searches for different things advance together.

    Returns:
        The history, one evaluation a row, ordered by method, seed and evaluation: ``method``, ``search_seed``, ``evaluation`` (from 0), ``phase``,
        ``mask_id``, ``visit`` (0 for a mask's first training in this search), ``training_seed``, ``similarity``, ``sparsity``, ``objective``, the
        accuracies on each split, ``seconds``, ``key`` (of the evaluation), and ``query_...`` for each searched property.

    Raises:
        InvalidInput: no searchers, or two of one name and seed; a searcher without an objective, or one without a searcher; the graph does not
            fit the protocol.
    """
    if not searchers:
        raise InvalidInput("There are no searchers to run.")
    if len({(s.name, s.seed) for s in searchers}) != len(searchers):
        raise InvalidInput("Two searchers have the same name and seed; their histories could not be told apart.")
    names = {s.name for s in searchers}
    objectives = objective if isinstance(objective, Mapping) else dict.fromkeys(names, objective)
    if set(objectives) != names:
        raise InvalidInput(
            f"The objectives are named {sorted(objectives)} and the searchers {sorted(names)}; each name needs one objective."
        )
    history: list[pd.DataFrame] = []
    visits: dict[tuple[str, int, int], int] = {}
    while asked := [(s, p) for s in searchers for p in s.ask()]:
        seen = []
        for searcher, proposal in asked:
            at = (searcher.name, searcher.seed, proposal.row)
            seen.append(visits.get(at, 0))
            visits[at] = seen[-1] + 1
        seeds = [searcher.seed + SEED_LIMIT * visit for (searcher, _), visit in zip(asked, seen, strict=True)]
        jobs = [mask_job(database, p.row, seed, protocol, dataset) for (_, p), seed in zip(asked, seeds, strict=True)]
        rows = evaluator.evaluate(jobs)
        rows["sparsity"] = [float(database.table["sparsity"].iloc[p.row]) for _, p in asked]
        rows["objective"] = _scores(rows, [s.name for s, _ in asked], objectives)
        history.append(_history(asked, seen, seeds, rows, database))
        for searcher in searchers:
            mine = [score for (s, _), score in zip(asked, rows["objective"], strict=True) if s is searcher]
            if mine:
                searcher.tell(mine)
    table = pd.concat(history, ignore_index=True).sort_values(["method", "search_seed"], kind="stable", ignore_index=True)
    table.insert(2, "evaluation", table.groupby(["method", "search_seed"]).cumcount())
    return table


def mask_job(database: MaskDatabase, row: int, seed: int, protocol: Protocol, dataset: str) -> Job:
    """The job of training the network under the mask in that row of the database, laid over the protocol's masked layers."""
    return Job(Recipe(layer_masks(database.mask(row), protocol.widths, protocol.masked_layers)), seed, protocol, dataset)


def unpruned_job(seed: int, protocol: Protocol, dataset: str) -> Job:
    """The job of training the network without any mask."""
    return Job(Recipe((None,) * (len(protocol.widths) - 1)), seed, protocol, dataset)


def recommend(history: pd.DataFrame) -> pd.DataFrame:
    """The best observed evaluation of each search (the first where several are equal): one row a method and seed."""
    return history.loc[history.groupby(["method", "search_seed"])["objective"].idxmax()].reset_index(drop=True)


def retrain(
    chosen: pd.DataFrame, database: MaskDatabase, evaluator: Evaluator, protocol: Protocol, dataset: str, seeds: int
) -> pd.DataFrame:
    """Train chosen masks again with fresh seeds, which played no part in choosing them.

    The search of seed k has fresh seeds of its own, ``FRESH_SEED + k * seeds`` and the following, the same for each method: searches are then
    independent of each other, and methods still compared in pairs.

    Args:
        chosen: from ``recommend``.
        database, evaluator, protocol, dataset: as in ``run``.
        seeds: how many fresh seeds for each search.

    Returns:
        ``chosen`` with ``apparent`` (the validation accuracy that it was chosen by) and the means over the fresh seeds,
        ``fresh_validation`` and ``fresh_test``; and ``fresh_seeds``, their number.

    Raises:
        InvalidInput: a number of seeds out of range.
    """
    check_fresh_seeds(seeds, int(chosen["search_seed"].max()) + 1)
    row_of = database.row_of()
    jobs = [
        mask_job(database, row_of[one.mask_id], FRESH_SEED + one.search_seed * seeds + i, protocol, dataset)
        for one in chosen.itertuples()
        for i in range(seeds)
    ]
    rows = evaluator.evaluate(jobs)[["validation_accuracy", "test_accuracy"]].to_numpy().reshape(len(chosen), seeds, 2).mean(axis=1)
    return chosen.assign(apparent=chosen["validation_accuracy"], fresh_validation=rows[:, 0], fresh_test=rows[:, 1], fresh_seeds=seeds)


def check_fresh_seeds(seeds: int, searches: int) -> None:
    """Refuse no searches, and a number of fresh seeds that the searches with seeds 0 to ``searches`` - 1 cannot each have for themselves."""
    if whole("searches", searches) < 1:
        raise InvalidInput(f"searches is {searches}; at least one is needed.")
    most = (SEED_LIMIT - FRESH_SEED) // searches
    if not 1 <= whole("seeds", seeds) <= most:
        raise InvalidInput(f"seeds is {seeds}; with search seeds up to {searches - 1}, from 1 to {most} are allowed.")


def best_so_far(history: pd.DataFrame) -> pd.Series:
    """Largest objective that each search had seen after each evaluation."""
    return history.groupby(["method", "search_seed"])["objective"].cummax()


def _scores(rows: pd.DataFrame, names: Sequence[str], objectives: Mapping[str, Objective]) -> NDArray[np.float64]:
    """Each row under the objective of the searcher that asked for it."""
    scores = np.empty(len(rows))
    for name, objective in objectives.items():
        mine = np.array([n == name for n in names])
        if mine.any():
            scores[mine] = objective(rows[mine])
    return scores


def _history(
    asked: Sequence[tuple[Searcher, Proposal]], visits: Sequence[int], seeds: Sequence[int], rows: pd.DataFrame, database: MaskDatabase
) -> pd.DataFrame:
    proposals = [p for _, p in asked]
    table = pd.DataFrame(
        {
            "method": [s.name for s, _ in asked],
            "search_seed": [s.seed for s, _ in asked],
            "phase": [p.phase for p in proposals],
            "mask_id": [database.table["mask_id"].iloc[p.row] for p in proposals],
            "visit": list(visits),
            "training_seed": list(seeds),
            "similarity": [p.similarity for p in proposals],
        }
    )
    measured = ["sparsity", "objective", "train_accuracy", "validation_accuracy", "test_accuracy", "seconds", "key"]
    queries = pd.DataFrame([p.query for p in proposals]).add_prefix("query_")
    return pd.concat([table, rows[measured].reset_index(drop=True), queries], axis=1)
