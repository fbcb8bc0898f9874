"""Algorithms 3 and 4: Bayesian optimisation of a mask through its graph properties (section 5.3).

A *searcher* proposes masks (``ask``) and learns what they scored (``tell``). ``run`` advances any
number of searchers together, one call of the evaluator a round, and returns every evaluation as one
table. Nothing is kept between runs but the evaluations themselves: a search that was interrupted
asks the same questions again, gets the answers from the store, and goes on.

Seeds: the first training of a mask in search k has seed k, so that all masks and methods of one k
are compared from the same initial weights and batches. A mask that is proposed again is a
replication and trains with seed 10,000 + k, then 20,000 + k, and so on.

``advance`` and ``fresh_means`` do the same for whatever can measure masks (``Measure``): here it is
the evaluator, in ``your_network`` it is a score of your own.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.checks import refuse, whole
from bogp.errors import InvalidInput
from bogp.graphs.database import MaskDatabase
from bogp.graphs.relational import layer_masks
from bogp.search.searchers import FRESH_SEED, SEED_LIMIT, Proposal, Searcher, checked_seed
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol

# From (row of the database, training seed) pairs to a table with one row for each, in their order.
Measure = Callable[[Sequence[tuple[int, int]]], pd.DataFrame]
# From rows of such a table, with the mask's ``sparsity`` added, to what is maximised.
Objective = Callable[[pd.DataFrame], NDArray[np.float64]]

_SEARCH = ["method", "search_seed"]  # what tells one search of a history from another
_MEASURED = ["train_accuracy", "validation_accuracy", "test_accuracy", "seconds", "key"]


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
        objective: turns rows of the evaluator (with the mask's ``sparsity`` added) into scores;
            larger is better. Or one for each name of a searcher, so that searches for different
            things advance together.

    Returns:
        The history, one evaluation a row, ordered by method, seed and evaluation: ``method``,
        ``search_seed``, ``evaluation`` (from 0), ``phase``, ``mask_id``, ``visit`` (0 for a mask's
        first training in this search), ``training_seed``, ``similarity``, ``sparsity``,
        ``objective``, the accuracies on each split, ``seconds``, ``key`` (of the evaluation), and
        ``query_...`` for each searched property.

    Raises:
        InvalidInput: no searchers, or two of one name and seed; a searcher without an objective, or
            an objective without a searcher; a row that the database does not have; the graph does
            not fit the protocol.
    """
    return advance(
        searchers, database, _trained(database, evaluator, protocol, dataset), objective, _MEASURED
    )


def advance(
    searchers: Sequence[Searcher],
    database: MaskDatabase,
    measure: Measure,
    objective: Objective | Mapping[str, Objective],
    columns: Sequence[str],
) -> pd.DataFrame:
    """Ask all searchers, measure what they ask for, tell them, until none asks any more.

    Args:
        searchers, database, objective: as in ``run``.
        measure: called once a round, with what all searchers ask for together.
        columns: of its table, those that the history keeps.

    Returns:
        The history, as ``run`` describes it, with those columns after ``objective``.

    Raises:
        InvalidInput: as in ``run``.
    """
    refuse(
        not searchers,
        "There are no searchers to run.",
    )
    refuse(
        len({(s.name, checked_seed(s.seed)) for s in searchers}) != len(searchers),
        "Two searchers have the same name and seed; their histories could not be told apart.",
    )
    names = {s.name for s in searchers}
    objectives = objective if isinstance(objective, Mapping) else dict.fromkeys(names, objective)
    refuse(
        set(objectives) != names,
        f"The objectives are named {sorted(objectives)} and the searchers {sorted(names)}; "
        "each name needs one objective.",
    )
    rounds: list[pd.DataFrame] = []
    visits: Counter[tuple[str, int, int]] = Counter()
    while asked := [(s, p) for s in searchers for p in s.ask()]:
        table = _proposed(asked, visits, database)
        rows = measure(list(zip([p.row for _, p in asked], table["training_seed"], strict=True)))
        rows["sparsity"] = table["sparsity"]
        table["objective"] = _scores(rows, table["method"], objectives)
        for searcher in searchers:
            if (mine := np.array([s is searcher for s, _ in asked])).any():
                searcher.tell(table["objective"][mine].tolist())
        queries = pd.DataFrame([p.query for _, p in asked]).add_prefix("query_")
        rounds.append(pd.concat([table, rows[list(columns)], queries], axis=1))
    history = pd.concat(rounds).sort_values(_SEARCH, kind="stable", ignore_index=True)
    history.insert(2, "evaluation", history.groupby(_SEARCH).cumcount())
    return history


def _proposed(
    asked: Sequence[tuple[Searcher, Proposal]],
    visits: Counter[tuple[str, int, int]],
    database: MaskDatabase,
) -> pd.DataFrame:
    """A row for each proposal, as in the history; ``visits`` of all searches are counted on."""
    rows = []
    for searcher, proposal in asked:
        refuse(
            not 0 <= proposal.row < len(database),
            f"A searcher asked for row {proposal.row} of a database of {len(database)} masks; "
            "rows count from 0.",
        )
        at = (searcher.name, searcher.seed, proposal.row)
        mask = database.table.iloc[proposal.row]
        rows.append(
            {
                "method": searcher.name,
                "search_seed": searcher.seed,
                "phase": proposal.phase,
                "mask_id": mask["mask_id"],
                "visit": visits[at],
                "training_seed": searcher.seed + SEED_LIMIT * visits[at],
                "similarity": proposal.similarity,
                "sparsity": float(mask["sparsity"]),
            }
        )
        visits[at] += 1
    return pd.DataFrame(rows)


def _scores(
    rows: pd.DataFrame, names: pd.Series, objectives: Mapping[str, Objective]
) -> NDArray[np.float64]:
    """Each row under the objective of the searcher that asked for it."""
    scores = np.empty(len(rows))
    for name, mine in names.groupby(names).indices.items():
        scores[mine] = objectives[str(name)](rows.iloc[mine])
    return scores


def _trained(
    database: MaskDatabase, evaluator: Evaluator, protocol: Protocol, dataset: str
) -> Measure:
    """What the evaluator measures of networks under masks of the database."""
    return lambda asked: evaluator.evaluate(
        [mask_job(database, row, seed, protocol, dataset) for row, seed in asked]
    )


def mask_job(database: MaskDatabase, row: int, seed: int, protocol: Protocol, dataset: str) -> Job:
    """The job of training under the mask in that row, laid over the protocol's masked layers."""
    masks = layer_masks(database.mask(row), protocol.widths, protocol.masked_layers)
    return Job(Recipe(masks), seed, protocol, dataset)


def unpruned_job(seed: int, protocol: Protocol, dataset: str) -> Job:
    """The job of training the network without any mask."""
    return Job(Recipe((None,) * (len(protocol.widths) - 1)), seed, protocol, dataset)


def recommend(history: pd.DataFrame) -> pd.DataFrame:
    """The best evaluation of each search, the first of equals: one row a method and seed."""
    return history.loc[history.groupby(_SEARCH)["objective"].idxmax()].reset_index(drop=True)


def retrain(
    chosen: pd.DataFrame,
    database: MaskDatabase,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
    seeds: int,
) -> pd.DataFrame:
    """Train chosen masks again with fresh seeds, which played no part in choosing them.

    Args:
        chosen: from ``recommend``.
        database, evaluator, protocol, dataset: as in ``run``.
        seeds: how many fresh seeds for each search (see ``fresh_means``).

    Returns:
        ``chosen`` with ``apparent`` (the validation accuracy that it was chosen by) and the means
        over the fresh seeds, ``fresh_validation`` and ``fresh_test``; and ``fresh_seeds``, their
        number.

    Raises:
        InvalidInput: a number of seeds out of range, or a mask that the database does not have.
    """
    means = fresh_means(
        chosen,
        database,
        _trained(database, evaluator, protocol, dataset),
        seeds,
        ["validation_accuracy", "test_accuracy"],
    )
    return chosen.assign(
        apparent=chosen["validation_accuracy"],
        fresh_validation=means[:, 0],
        fresh_test=means[:, 1],
        fresh_seeds=seeds,
    )


def fresh_means(
    chosen: pd.DataFrame,
    database: MaskDatabase,
    measure: Measure,
    seeds: int,
    columns: Sequence[str],
) -> NDArray[np.float64]:
    """What chosen masks measure with fresh seeds, on average.

    The search of seed k has fresh seeds of its own, ``FRESH_SEED + k * seeds`` and the following,
    the same for each method: searches are then independent, and methods still compared in pairs.

    Args:
        chosen: from ``recommend``.
        database: that was searched.
        measure: called once, for all masks and seeds.
        seeds: how many fresh seeds for each search.
        columns: of its table, what to average.

    Returns:
        (len(chosen), len(columns)) means over the seeds.

    Raises:
        InvalidInput: a number of seeds out of range, or a mask that the database does not have.
    """
    check_fresh_seeds(seeds, int(chosen["search_seed"].max()) + 1)
    row_of = database.row_of()
    if unknown := set(chosen["mask_id"]) - set(row_of):
        raise InvalidInput(
            f"The database has no masks {sorted(unknown)}; give the one that was searched."
        )
    asked = [
        (row_of[one.mask_id], FRESH_SEED + one.search_seed * seeds + i)
        for one in chosen.itertuples()
        for i in range(seeds)
    ]
    return measure(asked)[list(columns)].to_numpy().reshape(len(chosen), seeds, -1).mean(axis=1)


def check_fresh_seeds(seeds: int, searches: int) -> None:
    """Refuse no searches, and more fresh seeds than searches 0 to ``searches`` - 1 can each
    have.
    """
    whole("searches", searches, 1)
    most = (SEED_LIMIT - FRESH_SEED) // searches
    refuse(
        not 1 <= whole("seeds", seeds) <= most,
        f"seeds is {seeds}; with search seeds up to {searches - 1}, from 1 to {most} are allowed.",
    )


def best_so_far(history: pd.DataFrame) -> pd.Series:
    """Largest objective that each search had seen after each evaluation."""
    return history.groupby(_SEARCH)["objective"].cummax()
