"""Notebook 11 measured: importances from calibration data, and what removals do on test data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from bogp.checks import is_one_of, listed, texts, whole
from bogp.errors import InvalidInput
from bogp.records import kept_in_parallel
from bogp.structural import importance
from bogp.structural.gates import Examples, leave_one_out, losses_under, mean_activations
from bogp.structural.graph import ComputationGraph
from bogp.structural.importance import SECOND_ORDER
from bogp.structural.taylor import taylor_model
from bogp.structural.tracing import capture
from bogp.zoo import networks, tasks

METHODS = importance.METHODS  # a unit holds a number of each
FRESH = 5  # seed of the first network that confirms flow, which was found on seed 0
CONFIRMED = ("residual", "inception", "transformer")
_MORE = 4  # times as many masks on them


@dataclass(frozen=True)
class Case:
    """A network to be trained.

    Attributes:
        network: of ``networks.KINDS``.
        task: of ``tasks.NAMES``.
        epochs: of training.
    """

    network: str
    task: str
    epochs: int


@dataclass(frozen=True)
class Settings:
    """What is measured on each trained network.

    Attributes:
        calibration: numbers of examples that importances are found from, increasing; the first
            examples of one order.
        test: examples that the true changes are measured on.
        masks: random connected removals of several edges.
    """

    calibration: tuple[int, ...]
    test: int
    masks: int

    def __post_init__(self) -> None:
        counts = [
            whole("An item of calibration", c, 2) for c in listed("calibration", self.calibration)
        ]
        if not counts or counts != sorted(set(counts)):
            raise InvalidInput(
                f"calibration is {counts}; numbers of examples are needed, increasing."
            )
        object.__setattr__(self, "calibration", tuple(counts))
        whole("test", self.test, 2)
        whole("masks", self.masks, 3)


def cases(kinds: Sequence[str], of: Sequence[str], epochs: Sequence[int]) -> list[Case]:
    """Networks, their tasks and epochs, item by item.

    Raises:
        InvalidInput: lists of different lengths, none, a network twice, or an unknown name; before
            anything is trained.
    """
    kinds, of, epochs = texts("networks", kinds), texts("tasks", of), listed("epochs", epochs)
    if not kinds or not len(kinds) == len(of) == len(epochs) or len(set(kinds)) != len(kinds):
        raise InvalidInput(
            f"{len(kinds)} networks, {len(of)} tasks and {len(epochs)} epochs; "
            "one of each a network is needed, each network once."
        )
    for kind, task in zip(kinds, of, strict=True):
        if not is_one_of(kind, networks.KINDS) or not is_one_of(task, tasks.NAMES):
            raise InvalidInput(
                f"{kind!r} on {task!r}: networks are {', '.join(networks.KINDS)}; tasks are "
                f"{', '.join(tasks.NAMES)}."
            )
        reads_text = task in ("sentences", "wikitext-2")
        if reads_text != (kind == "transformer") or (task == "mixture" and kind != "dag"):
            raise InvalidInput(
                f"A {kind} cannot learn {task}: "
                "transformers read texts, the others images, and the dag anything but texts."
            )
    return [Case(n, t, whole("epochs", e, 0)) for n, t, e in zip(kinds, of, epochs, strict=True)]


def to_confirm(some: Sequence[Case]) -> list[Case]:
    """Those whose new networks confirm flow; the first where there are none, to try it."""
    return [case for case in some if case.network in CONFIRMED] or list(some[:1])


def confirming(settings: Settings) -> Settings:
    """What is measured on new networks: all calibration examples alone, and more masks."""
    return Settings(settings.calibration[-1:], settings.test, _MORE * settings.masks)


def trained(case: Case, task: tasks.Task, seed: int) -> nn.Module:
    """The network of a case, made and trained with a seed; a random graph is another one for each
    seed.
    """
    model = networks.untrained(case.network, task.train.inputs[0], task.outputs, seed)
    return tasks.train(model, task.train, task.loss, epochs=case.epochs, seed=seed)


def connected_removals(graph: ComputationGraph, count: int, seed: int) -> NDArray[np.bool_]:
    """Masks that remove from two to half of the candidate edges at random and keep every output
    connected.

    Returns:
        (count, E) masks.

    Raises:
        InvalidInput: no two edges can be removed together.
    """
    rng, candidates = np.random.default_rng(seed), len(graph.candidates)
    drawn = [
        (rng.integers(2, max(2, candidates // 2) + 1), rng.random(candidates)) for _ in range(count)
    ]
    masks = [graph.without(importance.order(graph, scores)[:wanted]) for wanted, scores in drawn]
    if min((~mask).sum() for mask in masks) < 2:
        raise InvalidInput(
            "No two edges of this network can be removed together; there is nothing to say "
            "about several."
        )
    return np.array(masks)


def unit(case: Case, settings: Settings, seed: int) -> pd.DataFrame:
    """Train one network, find importances on calibration data, and measure what removals do on test
    data.

    Args:
        case: of the network.
        settings: what to measure.
        seed: of the data's split, the network, its training, the masks and ``random``.

    Returns:
        Columns ``part``, ``method``, ``examples`` (for calibration), ``item``, ``predicted``,
        ``change``. Parts: ``single`` (item: edge), ``several`` (item: mask), ``mean reference``
        (item: edge; ``predicted`` is the true change with zeros and ``change`` with mean
        activations), ``removed`` (how many edges mask ``item`` removes), ``cost`` (seconds, and
        those of one forward pass), ``network`` (loss and accuracy on test data).

    Raises:
        InvalidInput: a task with fewer examples than are asked for.
    """
    task, most = tasks.load(case.task, seed), settings.calibration[-1]
    if most > len(task.calibration) or settings.test > len(task.test):
        raise InvalidInput(
            f"{case.task} has {len(task.calibration)} examples for calibration and "
            f"{len(task.test)} "
            f"for testing; asked for {most} and {settings.test}."
        )
    rng = np.random.default_rng(seed)
    calibration, test = (
        part.part(torch.from_numpy(rng.permutation(len(part))[:count]))
        for part, count in ((task.calibration, most), (task.test, settings.test))
    )
    graph = capture(trained(case, task, seed), calibration.part(slice(0, 4)).inputs)
    changes, edges = leave_one_out(graph, test, task.loss), graph.candidates
    tables = []
    for count in settings.calibration:
        some = calibration.part(slice(0, count))
        work = {name: partial(_importance, graph, some, task, name, seed) for name in METHODS}
        timed = {name: _seconds(importance_of) for name, importance_of in work.items()}
        found = {name: scores for name, (scores, _) in timed.items()}
        tables += [_rows("single", n, count, edges, scores, changes) for n, scores in found.items()]
    # A forward pass over all calibration examples is the unit of cost, and noise only makes it
    # longer.
    forward = partial(tasks.measure, graph.module, calibration, (task.loss,))
    cost = min(_seconds(forward)[1] for _ in range(3))
    masks = connected_removals(graph, settings.masks, seed)
    full, *under = losses_under(graph, np.vstack([graph.without([]), masks]), test, task.loss)
    several, each = _several(graph, calibration, task, found, masks), range(len(masks))
    means = leave_one_out(graph, test, task.loss, references=mean_activations(graph, calibration))
    loss, accuracy = tasks.measure(graph.module, test, (task.loss, task.accuracy))
    tables += [
        *(_rows("cost", n, most, [0], [seconds], cost) for n, (_, seconds) in timed.items()),
        *(_rows("several", n, most, each, p, np.array(under) - full) for n, p in several.items()),
        _rows("removed", "edges", most, each, (~masks).sum(axis=1), np.nan),
        _rows("mean reference", "leave_one_out", most, edges, changes, means),
        _rows("network", "loss", most, [0], [loss], np.nan),
        _rows("network", "accuracy", most, [0], [accuracy], np.nan),
    ]
    return pd.concat(tables, ignore_index=True)


def _rows(
    part: str,
    method: str,
    examples: int,
    item: Iterable[int],
    predicted: ArrayLike,
    change: ArrayLike,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "part": part,
            "method": method,
            "examples": examples,
            "item": list(item),
            "predicted": np.asarray(predicted, dtype=float),
            "change": change,
        }
    )


def _importance(
    graph: ComputationGraph, examples: Examples, task: tasks.Task, name: str, seed: int
) -> NDArray[np.float64]:
    return importance.importances(graph, examples, task.loss, [name], seed)[name].to_numpy()


def _seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def _several(
    graph: ComputationGraph,
    examples: Examples,
    task: tasks.Task,
    found: Mapping[str, NDArray[np.float64]],
    masks: NDArray[np.bool_],
) -> dict[str, NDArray[np.float64]]:
    """The change under each mask by each method: quadratic models with all their pairs, flow
    through all that is left, the others summed over the removed edges.
    """
    removed = (~masks[:, graph.candidates]).astype(float)
    predicted = {
        name: removed @ found[name]
        for name in METHODS
        if name not in (*SECOND_ORDER, "first_order", "flow")
    }
    predicted["flow"] = importance.flow_of(graph, examples).change(masks)
    models = {"first_order": "none"} | {name: name for name in SECOND_ORDER}
    return predicted | {
        name: taylor_model(graph, examples, task.loss, curvature).change(masks)
        for name, curvature in models.items()
    }


def record(case: Case, settings: Settings, seed: int) -> tuple[str, dict[str, Any]]:
    """The file that a unit is kept in, and the parameters by which it is found again."""
    file = f"{case.network}_{case.task}_{seed}.csv.gz"
    own = {"methods": METHODS, "seed": seed}
    return file, asdict(case) | asdict(settings) | own


def units(
    some: Sequence[Case],
    settings: Settings,
    seeds: int,
    folder: Path,
    cores: int = 1,
    *,
    first: int = 0,
) -> pd.DataFrame:
    """The units of all cases and seeds, each kept in a file of its own
    (``records.kept_in_parallel``).

    Args:
        some: cases.
        settings: what to measure.
        seeds: how many for each case; below ``FRESH`` where they begin at 0.
        folder: of the kept tables.
        cores: processes at work; only the seconds in the tables depend on it.
        first: of the seeds.

    Returns:
        ``unit``'s columns, with ``network``, ``task`` and ``seed``.

    Raises:
        InvalidInput: a number of seeds or cores out of range; and as ``unit``.
    """
    count = whole("seeds", seeds, 2, None if first else FRESH)
    jobs = [(case, settings, first + seed) for case in some for seed in range(count)]
    tables = kept_in_parallel(unit, jobs, record, folder, cores, "network")
    return pd.concat(
        [
            table.assign(network=case.network, task=case.task, seed=seed)
            for table, (case, _, seed) in zip(tables, jobs, strict=True)
        ],
        ignore_index=True,
    )
