"""Every set of a few blocks of the trained networks: what its removal costs, and how well that was
predicted from calibration examples.

One *unit* is a trained network of one seed. Neither the examples that predictions read nor those
that losses are measured on are read by the rest of the notebook: they are drawn with the seed
``FRESH`` among the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp import structural, zoo
from bogp.checks import refuse, whole
from bogp.outputs import verdict
from bogp.records import kept_in_parallel
from bogp.statistics import correlation_intervals, partial_rank_correlation, rank_correlation
from bogp.structural import ComputationGraph, Examples, importance
from bogp.structural.gates import losses_under
from bogp.structural.taylor import taylor_model
from bogp.studies.depth_pruning.measure import BLOCKS, Study, task_of, used_rows
from bogp.zoo import pretrained
from bogp.zoo.tasks import Task

PREDICTORS = {
    "number": "number of blocks",
    "magnitude": "L1 magnitude",
    "block_influence": "block influence",
    "first_order": "first order, signed",
    "fisher": "Fisher, full",
    "leave_one_out": "measured loss, summed",
    "flow": "flow",
}
FRESH = 15  # seed of the examples, which no earlier look at these networks has drawn
READ = 64  # calibration examples, at most
TARGET = 0.8  # mean rank correlation with the loss, given the number of blocks
ENOUGH = 3  # seeds, below which there are no verdicts
QUESTION = f"Does flow rank sets of blocks, Spearman at least {TARGET} given their number?"


@dataclass(frozen=True)
class Sets:
    """Which sets of one network are measured.

    Attributes:
        study: of the network; its examples are left out.
        most: blocks in a set.
    """

    study: Study
    most: int

    def __post_init__(self) -> None:
        whole("most", self.most, 2, len(BLOCKS[self.study.network]) - 1)


def masks_of(graph: ComputationGraph, most: int) -> NDArray[np.bool_]:
    """(M, E) a mask for each set of 1 to ``most`` candidates, in lexicographic order of each
    size.
    """
    every = graph.candidates.tolist()
    sets = [s for count in range(1, most + 1) for s in combinations(every, count)]
    return np.stack([graph.without(one) for one in sets])


def set_names(graph: ComputationGraph, masks: NDArray[np.bool_]) -> list[str]:
    """Of each mask the names of the blocks that it removes."""
    return [" ".join(map(graph.name, np.flatnonzero(~mask).tolist())) for mask in masks]


def fresh(study: Study, task: Task) -> tuple[Examples, Examples]:
    """Calibration and test examples that ``measure.unit`` does not read, as many as there are up to
    ``READ``, and up to the study's number of test examples.

    Raises:
        InvalidInput: the study reads all of them.
    """
    found = []
    parts = (task.calibration, task.test)
    for part, used, most in zip(parts, used_rows(study, task), (READ, study.test), strict=True):
        left = np.setdiff1d(np.arange(len(part)), used)
        refuse(
            len(left) < 2,
            f"The study reads {len(used)} of {len(part)} examples of {task.name}, which leaves too "
            "few for sets of blocks; ask for fewer.",
        )
        rows = np.random.default_rng(FRESH).permutation(left)[:most]
        found.append(part.part(np.sort(rows)))
    return found[0], found[1]


def unit(sets: Sets, seed: int) -> pd.DataFrame:
    """Measure each set of one trained network, and predict it.

    Returns:
        A row a set: ``network``, ``seed``, ``blocks`` (their names), ``number`` (of them),
        ``loss`` on test examples (nats), ``change`` (from the whole network), and what each of
        ``PREDICTORS`` says; larger is worse.

    Raises:
        InvalidInput: there are no weights of that seed, or too few examples.
        DatasetError: the network's data are missing.
    """
    study = sets.study
    model, task = zoo.trained(study.network, seed), task_of(study)
    graph = structural.capture(model, task.train.part(slice(4)).inputs, level="blocks")
    calibration, test = fresh(study, task)
    masks = masks_of(graph, sets.most)
    full, *losses = losses_under(
        graph, np.vstack([graph.without([])[None], masks]), test, task.loss
    )
    names = set_names(graph, masks)
    table = pd.DataFrame({"network": study.network, "seed": seed, "blocks": names})
    table = table.assign(number=(~masks).sum(axis=1), loss=losses, change=np.array(losses) - full)
    return table.assign(**predictions(graph, masks, calibration, task))


def predictions(
    graph: ComputationGraph, masks: NDArray[np.bool_], examples: Examples, task: Task
) -> dict[str, NDArray[np.float64]]:
    """(M,) what each predictor but the number says of masks: models of all that is removed, and
    scores of single blocks summed.
    """
    summed = ("magnitude", "block_influence", "leave_one_out")
    scores = importance.importances(graph, examples, task.loss, summed)
    removed = (~masks[:, graph.candidates]).astype(float)
    taylor = {"first_order": "none", "fisher": "fisher"}
    return (
        {name: removed @ scores[name].to_numpy() for name in summed}
        | {
            name: taylor_model(graph, examples, task.loss, c).change(masks)
            for name, c in taylor.items()
        }
        | {"flow": importance.flow_of(graph, examples).change(masks)}
    )


def record(sets: Sets, seed: int) -> tuple[str, dict[str, Any]]:
    """The file that a unit is kept in, and the parameters by which it is found again."""
    return f"sets-{sets.study.network}-{seed}.csv.gz", record_of_sets(sets, seed)


def record_of_sets(sets: Sets, seed: int) -> dict[str, Any]:
    """What the sets of one trained network depend on."""
    study = sets.study
    weights = hashlib.sha256(pretrained.in_half(zoo.trained(study.network, seed))).hexdigest()
    read = {
        name: getattr(study, name) for name in ("network", "data", "calibration", "test", "draws")
    }
    own = {"most": sets.most, "examples": READ, "fresh": FRESH, "seed": seed, "weights": weights}
    return read | own


def measured(kinds: Sequence[Sets], seeds: int, folder: Path, cores: int = 1) -> pd.DataFrame:
    """The units of some networks, each kept in a file of its own (``records.kept_in_parallel``).

    Args:
        kinds: of each network, which sets.
        seeds: of each, 0 to seeds - 1.
        folder: of the records.
        cores: units at the same time; the numbers do not depend on it.

    Returns:
        Long table, see ``unit``.

    Raises:
        InvalidInput, DatasetError: as ``unit``.
    """
    jobs = [(sets, seed) for sets in kinds for seed in range(seeds)]
    tables = kept_in_parallel(unit, jobs, record, folder, cores, "network")
    return pd.concat(tables, ignore_index=True)


def agreement(table: pd.DataFrame, methods: Iterable[str] = tuple(PREDICTORS)) -> pd.DataFrame:
    """Rank correlation of each prediction with the change of the loss, over the sets of a network.

    Args:
        table: long, from ``measured``.
        methods: columns with predictions.

    Returns:
        A row for each ``network``, ``seed`` and ``method``: ``spearman``; ``given``, with the ranks
        of the number of blocks held fixed (NaN for the number itself); ``sets``; and
        ``evaluations``, the networks without blocks whose loss on calibration data it needs.
    """
    rows = []
    for (network, seed), one in table.groupby(["network", "seed"], sort=False):
        for method in methods:
            given = np.nan
            if method != "number":
                given = partial_rank_correlation(one[method], one["change"], one["number"])
            needs = len(BLOCKS[network]) if method == "leave_one_out" else 0
            found = {"spearman": rank_correlation(one[method], one["change"]), "given": given}
            who = {"network": network, "seed": seed, "method": method}
            rows.append(who | found | {"sets": len(one), "evaluations": needs})
    return pd.DataFrame(rows)


def summary(correlations: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with 95 % t interval, its ends kept within [-1, 1].

    Args:
        correlations: from ``agreement``.

    Returns:
        A row for each ``network``, ``method`` and ``measure`` (``spearman``, ``given``): ``mean``,
        ``low``, ``high``, ``n`` (seeds), ``evaluations``.
    """
    return correlation_intervals(correlations, ["network", "method", "evaluations"])


def verdicts(summarised: pd.DataFrame, comparable: bool) -> pd.DataFrame:
    """The answer for each network by the rule of notebook 15.

    Args:
        summarised: from ``summary``.
        comparable: False for a run that is too small to judge: there are no answers then.

    Returns:
        ``question``, ``network``, ``answer`` and ``detail``, as ``tables.verdicts``.
    """
    rows = []
    wide = summarised.set_index(["method", "measure"])
    for one in wide.loc[[("flow", "given")]].itertuples():
        plain = wide[wide["network"] == one.network]["mean"]
        detail = (
            f"given the number {one.mean:.2f} [{one.low:.2f}, {one.high:.2f}], n = {one.n} "
            f"networks; Spearman {plain['flow', 'spearman']:.2f}, of the number alone "
            f"{plain['number', 'spearman']:.2f}"
        )
        rows.append((QUESTION, one.network, verdict(one.mean >= TARGET, one.n >= ENOUGH), detail))
    columns = ["question", "network", "answer", "detail"]
    return pd.DataFrame(rows if comparable else [], columns=columns)


def wide(summarised: pd.DataFrame, names: Mapping[str, str] = PREDICTORS) -> pd.DataFrame:
    """The means of ``summary`` by network and measure, beside the evaluations that a method needs,
    with the ``names`` of methods.
    """
    needs = summarised.assign(measure="evaluations", mean=summarised["evaluations"])
    every = pd.concat([summarised, needs])
    table = every.pivot_table("mean", "method", ["network", "measure"], sort=False)
    columns = pd.MultiIndex.from_product(
        [summarised["network"].unique(), ["spearman", "given", "evaluations"]]
    )
    return table.reindex(columns=columns).rename(index=dict(names)).round(2)
