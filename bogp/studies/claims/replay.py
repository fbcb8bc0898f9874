"""Searches replayed on a table of accuracies, masks x seeds: hundreds of searches with their
controls, and no training.

The seeds are split into two halves, anew in each repeat: a search sees one, and what it recommends
is scored on the other. The best mask, which regrets are measured from, is chosen and scored in the
same way (cross-fitted). Chosen and scored on the same seeds, it would look better than it is by its
luck.

Repeats share one table. Their intervals say what other searches would do on it, not what other
masks, or other trainings of these masks, would show.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from bogp.checks import whole
from bogp.errors import InvalidInput
from bogp.graphs.database import MaskDatabase
from bogp.parallel import in_parallel
from bogp.records import kept
from bogp.search.loop import FRESH_SEED
from bogp.search.searchers import (
    BoxRandom,
    BoxSearch,
    PoolSearch,
    RandomSearch,
    Searcher,
    SearchSettings,
    best_observed,
    best_posterior_mean,
    permuted,
    unit_values,
)
from bogp.statistics import mean_interval
from bogp.studies.claims import crossed
from bogp.studies.claims.designs import search_of
from bogp.studies.claims.verdicts import above
from bogp.variance import components

SMALLEST_GAIN = 0.0005  # of interest: five of MNIST's 10,000 test images
RECOMMENDERS = ("observed", "posterior")
KINDS = ("slope", "hill", "noise")


def _random(database: MaskDatabase, settings: SearchSettings, seed: int, name: str) -> Searcher:
    return RandomSearch(database, settings.budget, seed, name)


_PROPOSERS: dict[str, Callable[[MaskDatabase, SearchSettings, int, str], Searcher]] = {
    "box": BoxSearch,
    "pool": PoolSearch,
    "random": _random,
    "box_random": BoxRandom,
    "density": BoxSearch,
    "box_permuted": BoxSearch,
    "pool_permuted": PoolSearch,
    "box_l2": BoxSearch,
}
METHODS = tuple(_PROPOSERS)
_RECORDED = METHODS[:-1]  # in one file; ``box_l2``, which came later, has its own


def on_tables(
    sets: Mapping[str, MaskDatabase],
    trainings: pd.DataFrame,
    budget: int,
    repeats: int,
    folder: Path,
) -> pd.DataFrame:
    """Replay all methods on the measured accuracies of the Bernoulli masks, and on planted ones.

    The planted tables have the masks of the first set, the noise of its trainings, and twice that
    as the spread between masks.

    Args:
        sets, trainings: from ``crossed.hidden`` and ``crossed.train_sets``.
        budget: evaluations of a search.
        repeats: searches of each method.
        folder: where ``recorded`` keeps them.

    Returns:
        The rows of ``replay`` with ``table``, such as ``s = 0.60`` or ``planted: hill``.
    """
    tables = {
        name.split(", ")[1]: (crossed.table(trainings, "validation_accuracy", name), masks)
        for name, masks in sets.items()
        if name.startswith("bernoulli")
    }
    settings, (name, masks) = search_of(budget), next(iter(sets.items()))
    measured = crossed.table(trainings, of=name)
    seeds, noise = measured.shape[1], components(measured).residual.value
    how = (masks, settings.columns, 2 * noise, noise, seeds, 0)
    tables |= {f"planted: {kind}": (planted(*how, kind), masks) for kind in KINDS}
    files = {name: name.replace(": ", "_").replace(" = ", "") for name in tables}
    found = [
        recorded(folder / f"{files[name]}{end}.csv", *table, settings, repeats, methods).assign(
            table=name
        )
        for name, table in tables.items()
        for end, methods in (("", _RECORDED), ("_l2", ("box_l2",)))
    ]
    return pd.concat(found, ignore_index=True)


def replay(
    accuracies: ArrayLike,
    database: MaskDatabase,
    settings: SearchSettings,
    repeats: int,
    methods: Sequence[str],
    *,
    recommenders: Sequence[str] = RECOMMENDERS,
    cores: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Run searches on a table of accuracies.

    Repeat r splits the seeds with ``halves`` and runs the search of seed r of each method. The v-th
    visit of a mask in a search reads its accuracy with the v-th seed of the search's half, the same
    seeds for all masks and methods; beyond the half's length it starts again, and a replication is
    then a repetition.

    Args:
        accuracies: (N, S), a mask a row and a seed a column, S >= 2.
        database: the N masks.
        settings: of the searches.
        repeats: searches of each method.
        methods: ``box`` (``BoxSearch``), ``pool``, ``box_random``, ``random``, ``density`` (``box``
            that knows the sparsity alone, with the L1 distance, since a single number has no
            direction for cosine to compare), ``box_l2`` (``box`` with the L2 distance), and
            ``box_permuted`` and ``pool_permuted``, with property vectors permuted among the masks,
            anew in each repeat.
        recommenders: ``observed`` (``best_observed``) and ``posterior`` (``best_posterior_mean``,
            on the properties as the method sees them).
        cores: processes, None for one a core; the result does not depend on it.
        seed: of the splits and the permutations.

    Returns:
        One row a method, recommender and repeat, in this order: ``method``, ``recommender``,
        ``repeat``, ``row`` (recommended), ``held_out`` (its mean accuracy on the seeds that the
        search did not see), ``apparent`` (its best score in the search), ``best`` (mean on the same
        unseen seeds of the mask with the highest mean on the search's seeds), ``regret`` (best -
        held_out, which may be negative), ``distinct`` (masks visited) and ``replications``
        (evaluations of a mask that was visited before).

    Raises:
        InvalidInput: a table that does not fit the database or is not finite, a number of repeats
            out of range, an unknown method or recommender, or one twice, or a method that the
            database does not allow (``density`` where all masks have one sparsity).
    """
    from joblib import cpu_count

    table = np.asarray(accuracies, dtype=np.float64)
    if (
        table.ndim != 2
        or table.shape[0] != len(database)
        or table.shape[1] < 2
        or not np.isfinite(table).all()
    ):
        raise InvalidInput(
            f"Accuracies are finite, one row for each of {len(database)} masks and at least 2 "
            f"seeds; got {table.shape}."
        )
    whole("repeats", repeats, 1, FRESH_SEED)
    for chosen, allowed in ((methods, METHODS), (recommenders, RECOMMENDERS)):
        if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(allowed):
            raise InvalidInput(
                f"{list(chosen)} was asked for; name one or more of {', '.join(allowed)}, "
                "each once."
            )
    for method in methods:  # what cannot run is refused before work starts
        seen, its = _seen(method, database, settings, 0)
        _PROPOSERS[method](seen, its, 0, method)
        unit_values(seen, its.columns)
    jobs = [
        (table, database, settings, r, tuple(methods), tuple(recommenders), seed)
        for r in range(repeats)
    ]
    repeated = in_parallel(_repeat, jobs, cores or cpu_count(), "repeat", label="replay")
    # of a repeat come rows in the order of methods and recommenders: those of one pair together
    return pd.DataFrame(row for pair in zip(*repeated, strict=True) for row in pair)


def recorded(
    path: Path,
    accuracies: ArrayLike,
    database: MaskDatabase,
    settings: SearchSettings,
    repeats: int,
    methods: Sequence[str],
) -> pd.DataFrame:
    """``replay``, kept in a CSV: what was made from the same numbers, settings and libraries is
    read back.

    Properties count to ten decimals of their range: in the last bits processors differ, and a kept
    table should serve on each of them.

    Args:
        path: of the CSV, with its provenance beside it.
        accuracies, database, settings, repeats, methods: as in ``replay``.
    """
    parameters = parameters_of(accuracies, database, settings, repeats, methods)
    return kept(path, parameters, lambda: replay(accuracies, database, settings, repeats, methods))


def parameters_of(
    accuracies: ArrayLike,
    database: MaskDatabase,
    settings: SearchSettings,
    repeats: int,
    methods: Sequence[str],
) -> dict[str, Any]:
    """What replays depend on, as they are recorded: the arguments of ``replay``."""
    values = np.round(unit_values(database, settings.columns), 10) + 0.0  # no negative zeros
    content = (
        np.asarray(accuracies, dtype=np.float64).tobytes()
        + values.tobytes()
        + database.bits.tobytes()
    )
    return {
        "numbers": hashlib.sha256(content).hexdigest(),
        "settings": vars(settings),
        "repeats": repeats,
        "methods": list(methods),
        "libraries": {
            name: version(name) for name in ("numpy", "scipy", "scikit-learn", "scikit-optimize")
        },
    }


def halves(seeds: int, repeat: int, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split seeds at random: those that the search of a repeat sees, in the order of visits, and
    those that its recommendation is scored on.

    Args:
        seeds: S; the search gets S // 2 of them.
        repeat: number of the repeat.
        seed: of all splits.
    """
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(repeat,))).permutation(
        seeds
    )
    return order[: seeds // 2], order[seeds // 2 :]


def planted(
    database: MaskDatabase,
    columns: Sequence[str],
    spread: float,
    noise: float,
    seeds: int,
    seed: int,
    kind: str,
    signs: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """A table of accuracies in which one knows what there is to be found.

    Args:
        database: N masks.
        columns: properties that accuracy is a function of, in the kinds ``slope`` and ``hill``.
        spread: standard deviation between masks, in those kinds; not negative.
        noise: standard deviation of a training; not negative.
        seeds: trainings of each mask.
        seed: of the function and the noise.
        kind: ``slope``, the sum of the standardised properties, each with a random sign, so that
            the best masks are few and at the edge; ``hill``, minus the squared distance to a random
            point well inside the range of the properties, so that many masks are nearly best; or
            ``noise``, in which all masks are equal.
        signs: of a ``slope``, +1 or -1 for each property that varies; None for random ones.

    Returns:
        (N, seeds) accuracies around 0.97.

    Raises:
        InvalidInput: properties that are unknown, constant or missing for some mask.
    """
    values = unit_values(database, columns)
    if not np.isfinite(values).all():
        raise InvalidInput(f"Some mask has no finite value of one of {', '.join(columns)}.")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    top = rng.uniform(0.25, 0.75, values.shape[1])
    direction = np.sign(top - 0.5) if signs is None else np.asarray(signs)
    part = {
        "slope": (values - values.mean(axis=0)) / values.std(axis=0) @ direction,
        "hill": -((values - top) ** 2).sum(axis=1),
        "noise": np.zeros(len(values)),
    }[kind]
    scaled = part if kind == "noise" else (part - part.mean()) / part.std() * spread
    return 0.97 + scaled[:, None] + noise * rng.normal(size=(len(part), seeds))


def summary(replayed: pd.DataFrame) -> pd.DataFrame:
    """What each method achieves on each table, and how much better it is than random search.

    Args:
        replayed: from ``on_tables``.

    Returns:
        One row a table, method and recommender: the columns of ``against`` with ``random`` as the
        other, and ``table``; for ``random`` itself those from ``advantage`` to ``detectable`` are
        NaN.

    Raises:
        InvalidInput: no random search, or fewer than two repeats.
    """
    found = pd.concat(
        [
            against(one, method, "random", ["table"])
            for _, one in replayed.groupby("table", sort=False)
            for method in one["method"].unique()
        ],
        ignore_index=True,
    )
    found.loc[found["method"] == "random", "advantage":"detectable"] = np.nan
    return found


def against_permuted(replayed: pd.DataFrame) -> pd.DataFrame:
    """The evidence of claim 6: ``box`` against ``box_permuted`` on the measured tables, by the best
    observed mask.
    """
    measured = replayed.query("recommender == 'observed' and table.str.startswith('s = ')")
    return against(measured, "box", "box_permuted", ["table"])


def against(
    replayed: pd.DataFrame, method: str, other: str, by: Sequence[str] = ()
) -> pd.DataFrame:
    """One method compared with another over the same repeats.

    Args:
        replayed: from ``replay``.
        method, other: two of its methods.
        by: columns that tell replays apart, where there are several.

    Returns:
        One row a replay and recommender, which both methods use: ``method``, ``other``,
        ``recommender``, ``n`` (repeats), the mean ``regret`` of the method with its 95 % interval
        (``regret_low``, ``regret_high``), ``distinct`` (masks it visited, mean), ``advantage``
        (mean regret of the other minus that of the method) with its 95 % interval (``low``,
        ``high``), ``p_for`` (twice the one-sided p of a t test that the advantage is above 0),
        ``p_against`` (that it is below ``SMALLEST_GAIN``), ``detectable``, the advantage that this
        many repeats would have told from 0 with a power of 80 %, and the columns ``by``.

    Raises:
        InvalidInput: fewer than two repeats of a method, or not the same repeats of both.
    """
    rows = []
    for (*labels, recommender), found in replayed.groupby([*by, "recommender"], sort=False):
        one, two = (
            found[found["method"] == name].set_index("repeat").sort_index()
            for name in (method, other)
        )
        if len(one) < 2 or not one.index.equals(two.index):
            raise InvalidInput(
                "A comparison needs at least two repeats, the same of both; "
                f"{method} has {len(one)} and {other} {len(two)}."
            )
        gain = above(two["regret"] - one["regret"], 0.0, SMALLEST_GAIN)
        rows.append(
            {"method": method, "other": other, "recommender": recommender, "n": gain.n}
            | mean_interval(one["regret"]).columns("regret")
            | {"distinct": float(one["distinct"].mean()), "advantage": gain.estimate}
            | {name: value for name, value in vars(gain).items() if name not in ("estimate", "n")}
            | dict(zip(by, labels, strict=True))
        )
    return pd.DataFrame(rows)


def _seen(
    method: str, database: MaskDatabase, settings: SearchSettings, permutation: int
) -> tuple[MaskDatabase, SearchSettings]:
    """The database as a method sees it, and its settings."""
    if method.endswith("_permuted"):
        return permuted(database, permutation), settings
    if method == "density":
        return database, replace(settings, columns=("sparsity",), metric="l1")
    if method == "box_l2":
        return database, replace(settings, metric="l2")
    return database, settings


def _repeat(
    table: NDArray[np.float64],
    database: MaskDatabase,
    settings: SearchSettings,
    repeat: int,
    methods: Sequence[str],
    recommenders: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """The rows of one repeat."""
    searched, unseen = halves(table.shape[1], repeat, seed)
    held_out = table[:, unseen].mean(axis=1)
    best = float(held_out[np.argmax(table[:, searched].mean(axis=1))])
    permutation = int(np.random.SeedSequence(seed, spawn_key=(repeat, 1)).generate_state(1)[0])
    found = []
    with threadpool_limits(1):  # the same bits on any number of cores
        for method in methods:
            seen, its = _seen(method, database, settings, permutation)
            searcher = _PROPOSERS[method](seen, its, repeat, method)
            rows, scores = _search(searcher, table[:, searched])
            for recommender in recommenders:
                row = (
                    best_observed(rows, scores)
                    if recommender == "observed"
                    else best_posterior_mean(rows, scores, unit_values(seen, its.columns))
                )
                found.append(
                    {
                        "method": method,
                        "recommender": recommender,
                        "repeat": repeat,
                        "row": row,
                        "held_out": float(held_out[row]),
                        "apparent": max(
                            score for at, score in zip(rows, scores, strict=True) if at == row
                        ),
                        "best": best,
                        "regret": best - float(held_out[row]),
                        "distinct": len(set(rows)),
                        "replications": len(rows) - len(set(rows)),
                    }
                )
    return found


def _search(searcher: Searcher, table: NDArray[np.float64]) -> tuple[list[int], list[float]]:
    """Rows that a search visits and what they score; (N, seeds), what it may see."""
    rows: list[int] = []
    scores: list[float] = []
    while asked := searcher.ask():
        for proposal in asked:
            scores.append(float(table[proposal.row, rows.count(proposal.row) % table.shape[1]]))
            rows.append(proposal.row)
        searcher.tell(scores[-len(asked) :])
    return rows, scores
