"""Algorithm 3 as printed, in a database of one's own: searches over several spaces of properties
beside random search, judged by fresh seeds, with the ceiling that an oracle reaches.

Notebooks 09 and 16 ask the same of different databases.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bogp.graphs.database import MaskDatabase
from bogp.records import kept
from bogp.search import loop
from bogp.search.searchers import (
    FRESH_SEED,
    BoxSearch,
    RandomSearch,
    Searcher,
    SearchSettings,
    permuted,
)
from bogp.statistics import paired_difference
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol
from bogp.variance import detectable_mean

_HISTORY = [
    "method",
    "search_seed",
    "evaluation",
    "mask_id",
    "objective",
    "validation_accuracy",
    "test_accuracy",
    "key",
]
_PERMUTED = 9  # seed of the permutation of property vectors
_KNOWN = FRESH_SEED + 4_000  # first seed of what an oracle knows: no search uses it


def retrained(
    base: MaskDatabase,
    spaces: Mapping[str, Sequence[str]],
    control: tuple[str, Sequence[str]],
    size: tuple[int, int],
    searches: int,
    fresh: int,
    protocol: Protocol,
    dataset: str,
    evaluator: Evaluator,
    path: Path,
) -> pd.DataFrame:
    """Search a database in each space, over permuted vectors, and at random.

    Args:
        base: the masks.
        spaces: columns of the database, by name of the search.
        control: name of a search whose columns are permuted among the masks, and the columns.
        size: evaluations before and after the surrogate is fitted.
        searches: of each kind.
        fresh: seeds that judge what is recommended.
        protocol, dataset, evaluator: of all trainings.
        path: of the CSV that keeps the searches' history: surrogates take longer than trainings.

    Returns:
        ``loop.retrain`` of what each search recommends; its ``method`` is the name of the space or
        of the control, or ``random``.
    """
    ways = [(name, base, columns) for name, columns in spaces.items()]
    ways.append((control[0], permuted(base, _PERMUTED), control[1]))
    how = (base, evaluator, protocol, dataset)

    def history() -> pd.DataFrame:
        searchers: list[Searcher] = [
            BoxSearch(
                masks,
                SearchSettings(columns=tuple(columns), n_initial=size[0], n_iterations=size[1]),
                seed,
                name,
            )
            for name, masks, columns in ways
            for seed in range(searches)
        ]
        searchers += [RandomSearch(base, sum(size), seed) for seed in range(searches)]
        return loop.run(searchers, *how)[_HISTORY]

    known = {
        "masks": hashlib.sha256(base.bits.tobytes()).hexdigest(),
        "vectors": hashlib.sha256(base.values(_numbers(base)).tobytes()).hexdigest(),
        "spaces": {name: list(columns) for name, _, columns in ways},
        "size": list(size),
        "searches": searches,
        "protocol": protocol.id,
        "engine": evaluator.settings(dataset),
    }
    found = kept(path, known, history)
    evaluator.asked |= set(found["key"])
    return loop.retrain(loop.recommend(found), *how, fresh)


def _numbers(base: MaskDatabase) -> list[str]:
    return base.table.select_dtypes("number").columns.tolist()


def against_random(found: pd.DataFrame) -> pd.DataFrame:
    """What each kind of search has over random search of the same seed.

    Args:
        found: from ``retrained``.

    Returns:
        ``searched``, and as ``evidence``.
    """
    wide = found.pivot_table(index="search_seed", columns="method", values="fresh_test")
    names = [name for name in found["method"].unique() if name != "random"]
    return pd.DataFrame(
        [{"searched": name} | evidence(wide[name], wide["random"]) for name in names]
    )


def evidence(first: ArrayLike, second: ArrayLike) -> dict[str, float]:
    """A paired difference: ``mean``, ``low``, ``high`` (95 % t interval), ``n``, and
    ``detectable``, the difference that would be found with 80 % power.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    found = vars(paired_difference(a, b))
    error = float(np.std(a - b, ddof=1) / np.sqrt(len(a)))
    return found | {"detectable": detectable_mean(error, len(a) - 1) if error > 0 else 0.0}


def all_graphs(
    base: MaskDatabase, seeds: int, protocol: Protocol, dataset: str, evaluator: Evaluator
) -> NDArray[np.float64]:
    """(graphs, seeds, 2) validation and test accuracies of every mask of a database from seeds that
    no search uses: what an oracle knows.
    """
    jobs = [
        loop.mask_job(base, row, _KNOWN + i, protocol, dataset)
        for row in range(len(base))
        for i in range(seeds)
    ]
    rows = evaluator.evaluate(jobs)[["validation_accuracy", "test_accuracy"]]
    return rows.to_numpy().reshape(len(base), seeds, 2)


def rarity(known: NDArray[np.float64]) -> dict[str, float]:
    """How rare good graphs are in a database, and what an oracle gains over a graph at random.

    Args:
        known: (graphs, seeds, 2), from ``all_graphs``.

    Returns:
        ``graphs``; ``spread``: standard deviation of a training of one graph; ``near_best``: share
        of graphs whose mean is within it of the best mean; ``ceiling``: test accuracy (half of the
        seeds) of the graph with the best validation mean over the other half, minus the mean of
        all; ``best_of_25``: the same for the best of 25 random graphs, by single trainings.
    """
    validation, test = known[..., 0], known[..., 1]
    spread = float(np.sqrt(test.var(axis=1, ddof=1).mean()))
    means, half = test.mean(axis=1), max(known.shape[1] // 2, 1)
    best = int(validation[:, :half].mean(axis=1).argmax())
    rng = np.random.default_rng(0)
    drawn = [rng.choice(len(test), min(25, len(test)), replace=False) for _ in range(2_000)]
    picked = [some[validation[some, 0].argmax()] for some in drawn]
    after = test[:, half:].mean(axis=1)
    return {
        "graphs": float(len(test)),
        "spread": spread,
        "near_best": float((means >= means.max() - spread).mean()),
        "ceiling": float(after[best] - after.mean()),
        "best_of_25": float(after[picked].mean() - after.mean()),
    }
