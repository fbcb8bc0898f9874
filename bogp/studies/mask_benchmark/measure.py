"""Notebook 17, measured: methods that search the benchmark's pools, models that predict, and what
there is to find. Nothing is trained here.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from bogp import benchmark
from bogp.benchmark.data import DATASETS, NINE_COLUMNS, SEEDS, SPLITS, Benchmark
from bogp.benchmark.pool import filled
from bogp.checks import choice, refuse
from bogp.records import kept_in_parallel
from bogp.statistics import paired_difference, rank_correlation
from bogp.variance import components, detectable_mean

_TEST = SPLITS.index("test")


@dataclass(frozen=True)
class Arm:
    """A method and what it may read.

    Attributes:
        method: of ``benchmark.METHODS``.
        columns: names of ``Benchmark.columns``; None is all.
    """

    method: str
    columns: tuple[str, ...] | None = None


ARMS: Mapping[str, Arm] = {
    "printed BoGP, nine properties": Arm("printed", NINE_COLUMNS),
    "Gaussian process, nine properties": Arm("gaussian_process", NINE_COLUMNS),
    "Gaussian process, all columns": Arm("gaussian_process"),
    "random forest, all columns": Arm("random_forest"),
    "TPE, all columns": Arm("tpe"),
}
RANDOM = "random search"  # its exact expectation, see ``Pool.random``


def arms(methods: Sequence[str]) -> dict[str, Arm]:
    """The arms of those methods.

    Raises:
        InvalidInput: a method is none of ``benchmark.METHODS``, or none has an arm.
    """
    asked = [choice("method", name, benchmark.METHODS) for name in methods]
    found = {name: arm for name, arm in ARMS.items() if arm.method in asked}
    refuse(
        not found,
        f"methods is {methods!r}; name some of "
        f"{', '.join(dict.fromkeys(arm.method for arm in ARMS.values()))}.",
    )
    return found


def searched(
    masks: Benchmark,
    chosen: Mapping[str, Arm],
    sparsities: Sequence[float],
    repeats: int,
    budget: int,
    folder: Path,
    cores: int,
) -> pd.DataFrame:
    """Let each arm search each pool.

    Args:
        masks: the benchmark.
        chosen: from ``arms``.
        sparsities: of the pools.
        repeats: searches of each pool and observed training, each with initial masks of its own.
        budget: masks that a search observes.
        folder: where the searches of each arm and task are kept.
        cores: processes at work.

    Returns:
        One row a search and trial: ``arm``, ``sparsity``, ``dataset``, ``seed`` (of the observed
        training), ``search``, and ``trial``, ``judged`` and ``regret`` of ``Pool.evaluate``. Of
        random search one row a pool and trial, which is its exact expectation.
    """
    asked = [
        (name, arm.method, arm.columns, sparsity, dataset, repeats, budget, masks.record["sha256"])
        for name, arm in chosen.items()
        for sparsity in sparsities
        for dataset in DATASETS
    ]
    found = kept_in_parallel(_searches, asked, _record, folder, cores, "task")
    labels = [{"arm": job[0], "sparsity": job[3], "dataset": job[4]} for job in asked]
    tables = [_random(masks, sparsities, budget)]
    tables += [one.assign(**label) for one, label in zip(found, labels, strict=True)]
    columns = ["arm", "sparsity", "dataset", "seed", "search", "trial", "judged", "regret"]
    return pd.concat(tables, ignore_index=True)[columns]


def _random(masks: Benchmark, sparsities: Sequence[float], budget: int) -> pd.DataFrame:
    trials, tables = range(1, budget + 1), []
    for sparsity in sparsities:
        for dataset in DATASETS:
            for seed in range(SEEDS):
                pool = masks.pool(sparsity, dataset, seed)
                judged = np.array([pool.random(trial) for trial in trials])
                of = {"arm": RANDOM, "sparsity": sparsity, "dataset": dataset, "seed": seed}
                of |= {"search": 0, "trial": trials, "judged": judged}
                tables.append(pd.DataFrame(of).assign(regret=pool.best - judged))
    return pd.concat(tables, ignore_index=True)


def _searches(
    name: str,
    method: str,
    columns: tuple[str, ...] | None,
    sparsity: float,
    dataset: str,
    repeats: int,
    budget: int,
    checksum: str,
) -> pd.DataFrame:
    masks, rows = benchmark.load(), []
    for seed in range(SEEDS):
        pool = masks.pool(sparsity, dataset, seed, columns)
        for search in range(repeats):
            # another in each pool
            number = crc32(f"{sparsity} {dataset} {seed} {search}".encode())
            trace = pool.evaluate(benchmark.METHODS[method](number), budget, seed=number)
            rows.append(trace[["trial", "judged", "regret"]].assign(seed=seed, search=search))
    return pd.concat(rows, ignore_index=True)


def _record(*job: Any) -> tuple[str, Mapping[str, Any]]:
    keys = ("arm", "method", "columns", "sparsity", "dataset", "repeats", "budget", "benchmark")
    of = dict(zip(keys, job, strict=True))
    what = "all" if of["columns"] is None else "nine"
    return f"{of['method']}_{what}_{of['sparsity']:.2f}_{of['dataset']}.csv.gz", of


def means(traces: pd.DataFrame) -> pd.DataFrame:
    """The mean over searches of ``judged`` and ``regret`` after each trial, and the number of
    searches: one row an arm, task and trial.
    """
    groups = traces.groupby(["arm", "sparsity", "dataset", "trial"], sort=False)
    found = groups.agg(judged=("judged", "mean"), regret=("regret", "mean"), n=("judged", "size"))
    return found.reset_index()


def final(traces: pd.DataFrame) -> pd.DataFrame:
    """What each arm has found at the end, the mean over its searches: one row an arm and task."""
    last = traces[traces["trial"] == traces["trial"].max()]
    return means(last).drop(columns=["trial", "n"])


def ceilings(masks: Benchmark, sparsities: Sequence[float]) -> pd.DataFrame:
    """What there is to find in each pool: one row a task.

    Returns:
        ``sparsity``, ``dataset``, ``mean`` (accuracy of a mask at random), ``oracle`` (of the mask
        that looks best when *all* are observed, by the trainings that it was not chosen by) and
        ``best`` (the highest there, partly luck): means over the three observed trainings. Then,
        over masks and seeds, ``between`` and ``rest``: standard deviations of the masks and of two
        trainings of one mask; ``icc``, the masks' share of one training, and ``ceiling``, their
        share of the mean of three: the largest R2 of a predictor. ``rank_ceiling`` is the largest
        rank correlation with that mean, from the trainings' own (Spearman 1910, Brown 1910).
    """
    rows = []
    for sparsity in sparsities:
        for dataset in DATASETS:
            pools = [masks.pool(sparsity, dataset, seed) for seed in range(SEEDS)]
            table = accuracies(masks, sparsity, dataset)
            part, alike = components(table), _between_trainings(table)
            rows.append(
                {
                    "sparsity": sparsity,
                    "dataset": dataset,
                    "mean": np.mean([pool.judged.mean() for pool in pools]),
                    "oracle": np.mean([pool.oracle for pool in pools]),
                    "best": np.mean([pool.best for pool in pools]),
                    "between": part.between_masks.value,
                    "rest": part.residual.value,
                    "icc": part.icc.value,
                    "ceiling": part.ceiling.value,
                    "rank_ceiling": np.sqrt(SEEDS * alike / (1 + (SEEDS - 1) * alike)),
                }
            )
    return pd.DataFrame(rows)


def _between_trainings(table: Any) -> float:
    """Mean rank correlation of two of the trainings of (masks, seeds)."""
    pairs = combinations(range(table.shape[1]), 2)
    return float(np.mean([rank_correlation(table[:, a], table[:, b]) for a, b in pairs]))


def accuracies(masks: Benchmark, sparsity: float, dataset: str) -> Any:
    """(masks, seeds) test accuracies of a task."""
    rows = np.flatnonzero(masks.table["sparsity"].to_numpy() == sparsity)
    return masks.accuracies[rows, DATASETS.index(dataset), :, _TEST].astype(np.float64)


def against_random(ends: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """What each arm has over random search, the task (a sparsity and a data set) the unit.

    Args:
        ends: from ``final``.
        known: from ``ceilings``.

    Returns:
        ``arm``, ``mean``, ``low``, ``high`` (paired over tasks, 95 % t interval), ``n``,
        ``detectable`` (with 80 % power), ``wins`` (tasks in which it is ahead) and
        ``of_the_gap``: the mean over that of what an oracle has over random search.
    """
    wide = ends.pivot_table(index=["sparsity", "dataset"], columns="arm", values="judged")
    oracle = known.set_index(["sparsity", "dataset"])["oracle"].reindex(wide.index)
    gap, rows = float((oracle - wide[RANDOM]).mean()), []
    for arm in [name for name in ends["arm"].unique() if name != RANDOM]:
        over = paired_difference(wide[arm], wide[RANDOM])
        error = float((wide[arm] - wide[RANDOM]).std(ddof=1) / np.sqrt(over.n))
        rows.append(
            {"arm": arm}
            | vars(over)
            | {"detectable": detectable_mean(error, over.n - 1) if over.n > 1 else np.nan}
            | {"wins": int((wide[arm] > wide[RANDOM]).sum())}
            | {"of_the_gap": over.mean / gap if gap > 0 else np.nan}
        )
    return pd.DataFrame(rows)


def agreement(masks: Benchmark, sparsities: Sequence[float]) -> pd.DataFrame:
    """Whether masks keep their order from one data set to the other, and from one training to
    another: Spearman's correlations, one row a sparsity.

    Returns:
        ``sparsity``, ``data_sets`` (of mean test accuracies), and for each data set the mean over
        pairs of trainings.
    """
    rows = []
    for sparsity in sparsities:
        of = {name: accuracies(masks, sparsity, name) for name in DATASETS}
        first, second = (of[name].mean(axis=1) for name in DATASETS)
        row = {"sparsity": sparsity, "data_sets": rank_correlation(first, second)}
        rows.append(row | {name: _between_trainings(table) for name, table in of.items()})
    return pd.DataFrame(rows)


def by_family(masks: Benchmark, sparsities: Sequence[float]) -> pd.DataFrame:
    """Mean test accuracy of each family: one row a mask family, sparsity and data set, with the
    standard deviation between its masks and their number. Of placed families those with the
    salience of the data set itself are told apart from those with the other's.
    """
    salience = masks.table["settings"].map(lambda text: json.loads(text).get("places", ""))
    rows = []
    for number, dataset in enumerate(DATASETS):
        means = masks.accuracies[:, number, :, _TEST].mean(axis=1, dtype=np.float64)
        own = np.where(salience == dataset, ", own salience", ", other's salience")
        family = masks.table["family"] + np.where(salience == "", "", own)
        table = masks.table[["sparsity"]].assign(family=family, accuracy=means)
        table = table[table["sparsity"].isin(sparsities)]
        groups = table.groupby(["sparsity", "family"], sort=False)["accuracy"]
        rows.append(groups.agg(["mean", "std", "size"]).reset_index().assign(dataset=dataset))
    return pd.concat(rows, ignore_index=True)


def predicted(masks: Benchmark, sparsities: Sequence[float]) -> pd.DataFrame:
    """How well models rank masks that they have not seen: one row a task, model and split.

    Returns:
        ``sparsity``, ``dataset``, ``model``, ``columns`` (``nine properties`` or ``all``),
        ``split`` (``fixed``, or ``other families``: each family predicted from the others) and
        ``spearman``.
    """
    known: dict[str, tuple[str, ...] | None] = {"nine properties": NINE_COLUMNS, "all": None}
    rows = []
    for sparsity in sparsities:
        for dataset in DATASETS:
            for name, columns in known.items():
                data = masks.regression(sparsity, dataset, columns)
                for model, make in _MODELS.items():
                    for split, value in _scores(data, make).items():
                        rows.append((sparsity, dataset, model, name, split, value))
    labels = ["sparsity", "dataset", "model", "columns", "split", "spearman"]
    return pd.DataFrame(rows, columns=labels)


def _ridge() -> Any:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))


def _forest() -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(100, min_samples_leaf=2, random_state=0)


_MODELS: Mapping[str, Callable[[], Any]] = {"ridge": _ridge, "random forest": _forest}


def _scores(data: benchmark.Regression, make: Callable[[], Any]) -> dict[str, float]:
    values = filled(data.X)
    fitted = make().fit(values[data.train], data.y[data.train])
    fixed = rank_correlation(fitted.predict(values[data.test]), data.y[data.test])
    left_out = []
    for family in np.unique(data.groups):
        other = data.groups != family
        model = make().fit(values[other], data.y[other])
        left_out.append(rank_correlation(model.predict(values[~other]), data.y[~other]))
    return {"fixed": fixed, "other families": float(np.nanmean(left_out))}
