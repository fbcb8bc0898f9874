"""The three scenarios of the paper (section 2): edge removal, edge removal with fine-tuning, and
transfer learning, for any method of importance.

One *unit* is a network trained with one seed and all that is measured on it: a table of its own,
kept as it is made (``studied``). Seed k gives the data
split (and the synthetic data), the initial weights, the order of the examples, and the draws at
random. Nothing is chosen by test data: the checkpoint is the last one, the shares of removed edges
are fixed beforehand, and importances read calibration examples alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from bogp.checks import choice, listed, number, texts, whole
from bogp.errors import InvalidInput
from bogp.records import kept_in_parallel
from bogp.structural import importance, surgery
from bogp.structural.gates import Examples, losses_under
from bogp.structural.graph import ComputationGraph
from bogp.structural.taylor import taylor_model
from bogp.structural.tracing import capture
from bogp.zoo import networks, tasks
from bogp.zoo.tasks import Task

METHODS = {
    "random": "random",
    "magnitude": "L1 magnitude",
    "activation": "activation norm",
    "block_influence": "block influence",
    "flow": "flow",
    "flow_greedy": "flow, edge after edge",
    "first_order": "first order, signed",
    "absolute_first_order": "first order, absolute",
    # the one is half of the other, so they give one order
    "unsigned_taylor": "unsigned Taylor = Fisher diagonal",
    "fisher": "Fisher, full",
    "gauss_newton": "Gauss-Newton",
    "hessian": "Hessian",
    "hessian_greedy": "Hessian, edge after edge",
    "leave_one_out": "measured loss",
    "exact_greedy": "measured loss, edge after edge",
}
_GREEDY = ("flow_greedy", "exact_greedy")
STEPS = 12  # levels of removal lie at multiples of 1/12 of the candidate edges
_ANEW = 50_000  # seeds of new initial weights begin here

# Of a method, the task that it was chosen on, and a draw: edges, the first to go first.
Orders = dict[tuple[str, str, int], NDArray[np.intp]]


@dataclass(frozen=True)
class Study:
    """One kind of network on one task, and what is done with it.

    Attributes:
        network: of ``networks.KINDS``.
        task: of ``tasks.NAMES``; photographs for ``residual`` and ``inception``, texts for
            ``transformer``, rows of features for ``dag``.
        epochs: of the first training.
        deepest: share of the candidate edges that is removed at most, in (0, 1).
        share: of the candidate edges that is removed before fine-tuning and in transfer, at most
            ``deepest``.
        tuning_epochs: passes of fine-tuning.
        tuning_part: share of the training examples that each of them goes over, in (0, 1].
        methods: of ``METHODS``.
        draws: orders at random, whose mean is the method ``random``.
        anew: methods whose pruned structure is also trained from new initial weights, and then
            fine-tuned, just as the network was.
        calibration: examples that importances are computed from, at most; ``test``: examples that
            are reported on, at most.
        old, new: classes to learn first, and classes to transfer to; none for no transfer.
        head_epochs: passes over the new task's examples in which its new head is trained.
        rate, tuning_rate, head_rate: highest learning rates of training, of fine-tuning, and of the
            new head.
        size: of random graphs, a class of ``zoo.SIZES``.
    """

    network: str
    task: str
    epochs: int
    deepest: float = 0.5
    share: float = 1 / 3
    tuning_epochs: int = 1
    tuning_part: float = 1.0
    methods: tuple[str, ...] = tuple(METHODS)
    draws: int = 3
    anew: tuple[str, ...] = ("leave_one_out",)
    calibration: int = 200
    test: int = 1000
    old: tuple[int, ...] = ()
    new: tuple[int, ...] = ()
    head_epochs: int = 30
    rate: float = 3e-3
    tuning_rate: float = 1e-3
    head_rate: float = 3e-2
    size: str = "20-40"

    def __post_init__(self) -> None:
        choice("network", self.network, networks.KINDS)
        choice("task", self.task, tasks.NAMES)
        choice("size", self.size, networks.SIZES)
        for what in ("methods", "anew"):
            named = texts(what, getattr(self, what))
            object.__setattr__(self, what, tuple(choice("method", m, METHODS) for m in named))
        for what in ("old", "new"):
            numbers = listed(what, getattr(self, what))
            checked = tuple(whole(f"An item of {what}", c, 0) for c in numbers)
            object.__setattr__(self, what, checked)
        if "random" not in self.methods or not set(self.anew) <= set(self.methods):
            raise InvalidInput(
                "methods include 'random', which the others are compared with, "
                "and all that are trained anew."
            )
        for what in ("epochs", "tuning_epochs", "draws", "calibration", "test", "head_epochs"):
            whole(what, getattr(self, what), 1)
        if not 0 < number("share", self.share) <= number("deepest", self.deepest) < 1:
            raise InvalidInput(
                f"share is {self.share} and deepest {self.deepest}; 0 < share <= deepest < 1 "
                "is needed."
            )
        rates = dict.fromkeys(("rate", "tuning_rate", "head_rate"), tasks.MOST_RATE)
        for what, high in ({"tuning_part": 1.0} | rates).items():
            if not 0 < number(what, value := getattr(self, what)) <= high:
                raise InvalidInput(f"{what} is {value}; it is positive and at most {high:g}.")
        if bool(self.old) != bool(self.new) or set(self.old) & set(self.new):
            raise InvalidInput(
                f"old classes are {self.old} and new ones {self.new}; "
                "name both, without a class in common, or neither."
            )

    @property
    def levels(self) -> NDArray[np.float64]:
        """Shares of the candidate edges that are removed: multiples of 1/12 up to ``deepest``."""
        return np.arange(0, int(STEPS * self.deepest + 1e-9) + 1) / STEPS


def studied(
    studies: Sequence[Study], seeds: int, first: Mapping[str, int], folder: Path, cores: int = 1
) -> pd.DataFrame:
    """All units of some studies, each kept in a file of its own (``records.kept_in_parallel``).

    Args:
        studies: no two of one network and task.
        seeds, first: see ``jobs``.
        folder: of the records.
        cores: units at the same time; the numbers do not depend on it.

    Returns:
        Long table, see ``unit``, with ``network`` and ``seed``.

    Raises:
        InvalidInput: no studies, two of one name, or a number out of range; and as ``unit``.
    """
    if not studies or len({(s.network, s.task) for s in studies}) < len(studies):
        raise InvalidInput(
            "One or more studies are needed, no two of one network and task: "
            "their units could not be told apart."
        )
    units = jobs(studies, seeds, first)
    tables = kept_in_parallel(unit, units, record, folder, cores, "network")
    return pd.concat(tables, ignore_index=True)


def jobs(studies: Sequence[Study], seeds: int, first: Mapping[str, int]) -> list[tuple[Study, int]]:
    """The units of some studies.

    Args:
        studies: of which units are made.
        seeds: trained networks of each study.
        first: by kind of network, the seed of its first one; 0 where none is given.

    Returns:
        Arguments of ``unit``, study after study.

    Raises:
        InvalidInput: no network is asked for, or a seed is negative.
    """
    count = whole("seeds", seeds, 1)
    return [
        (study, whole("first", first.get(study.network, 0), 0) + k)
        for study in studies
        for k in range(count)
    ]


def record(study: Study, seed: int) -> tuple[str, dict[str, Any]]:
    """The file that a unit is kept in, and the parameters by which it is found again."""
    return f"{study.network}_{study.task}_{seed}.csv.gz", asdict(study) | {"seed": seed}


def unit(study: Study, seed: int) -> pd.DataFrame:
    """Train one network, prune it by each method, fine-tune and transfer what is left.

    Args:
        study: what to do.
        seed: of all that is random.

    Returns:
        A row a measurement on test examples: ``network``, ``seed``, ``scenario`` (``removal``,
        ``transfer``), ``method`` (of ``METHODS``, or ``unpruned``), ``chosen_on`` (the task whose
        calibration examples importances were computed from: ``this``, ``old``, or ``none``),
        ``draw`` (of ``random``), ``weights`` (``kept``: as they were; ``tuned``: trained further;
        ``new``: trained from new initial values), ``level`` (multiple of 1/12, NaN at ``share``),
        ``share_edges`` (of the candidates, removed), ``share_parameters`` (removed), ``loss``,
        ``change`` (of the loss from that of the unpruned network with the weights as they were),
        ``absolute_change``, ``accuracy``.

    Raises:
        InvalidInput: an order of removals ends before ``deepest``.
        DatasetError: the task's data are missing.
    """
    task = tasks.load(study.task, seed)
    rows = removal(study, task, seed) + (transfer(study, task, seed) if study.new else [])
    return pd.DataFrame([{"network": study.network, "seed": seed} | row for row in rows])


def removal(study: Study, task: Task, seed: int) -> list[dict[str, Any]]:
    """Edge removal at all levels, and with fine-tuning at ``share``; rows as in ``unit``."""
    graph = capture(_trained(network(study, task, seed), study, task, seed), _example(task))
    orders = _orders(study, graph, task, seed, "this")
    rows = _pruned(study, graph, task, orders, seed, study.levels)
    for method in study.anew:
        who = (method, "none" if method == "random" else "this", 0)
        mask = graph.without(orders[who][: _removed(graph, study.share)])
        fresh = capture(network(study, task, _ANEW + seed), _example(task))
        smaller = _trained(copy.deepcopy(surgery.remove(fresh, mask)), study, task, seed)
        anew = _tuned(study, smaller, task, seed)
        found = tasks.measure(anew, _test(study, task), (task.loss, task.accuracy))
        measured = _measures(found, rows[0]["loss"])
        rows.append(_row(who, "new", np.nan) | _sizes(graph, mask, anew) | measured)
    return [{"scenario": "removal"} | row for row in rows]


def transfer(study: Study, task: Task, seed: int) -> list[dict[str, Any]]:
    """Train on the old classes, replace the head, prune, and fine-tune on the new classes; rows as
    in ``unit``.

    The new head is linear and trained alone, on what the old network's body makes of the new
    examples: the body, its normalisation statistics included, stays as it was. Fine-tuning then
    trains all weights that are left.
    """
    before, after = tasks.classes(task, study.old), tasks.classes(task, study.new)
    old = _trained(network(study, before, seed), study, before, seed)
    new = with_new_head(old, after, epochs=study.head_epochs, seed=seed, rate=study.head_rate)
    graph = capture(new, _example(after))
    orders = _orders(study, graph, after, seed, "this")
    orders |= _orders(study, capture(old, _example(before)), before, seed, "old")
    rows = _pruned(study, graph, after, orders, seed, study.levels[:1])
    return [{"scenario": "transfer"} | row for row in rows]


def with_new_head(
    model: nn.Module, task: Task, *, epochs: int, seed: int, rate: float
) -> nn.Module:
    """A copy of a network whose ``head`` is a new linear layer for another task, trained alone on
    what the network's body makes of its training examples.

    Raises:
        InvalidInput: the network has no linear layer of the name ``head``.
    """
    new = copy.deepcopy(model).eval()
    if not isinstance(head := getattr(new, "head", None), nn.Linear):
        raise InvalidInput(
            f"{type(model).__name__} has no linear layer of the name 'head' to replace."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = nn.Linear(head.in_features, task.outputs)
    new.head = nn.Identity()
    with torch.no_grad():
        parts = zip(*(i.split(1024) for i in task.train.inputs), strict=True)
        made = Examples((torch.cat([new(*part) for part in parts]),), task.train.targets)
    new.head = tasks.train(fresh, made, task.loss, epochs=epochs, seed=seed, rate=rate)
    return new


def network(study: Study, task: Task, seed: int) -> nn.Module:
    """The study's network for a task, untrained, in evaluation mode.

    New initial weights (seeds from 50,000) have the graph of the seed that they stand beside.

    Raises:
        InvalidInput: the task's inputs are not what such a network reads.
    """
    return networks.untrained(
        study.network, task.train.inputs[0], task.outputs, seed, size=study.size, graph=seed % _ANEW
    )


def _trained(model: nn.Module, study: Study, task: Task, seed: int) -> nn.Module:
    return tasks.train(
        model, task.train, task.loss, epochs=study.epochs, seed=seed, rate=study.rate
    )


def _example(task: Task) -> tuple[torch.Tensor, ...]:
    return tuple(i[:2] for i in task.train.inputs)


def _test(study: Study, task: Task) -> Examples:
    """At most ``study.test`` test examples, evenly spread over all."""
    last = len(task.test) - 1
    rows = np.linspace(0, last, min(study.test, last + 1)).astype(np.intp)
    return task.test.part(np.unique(rows))


def _orders(study: Study, graph: ComputationGraph, task: Task, seed: int, on: str) -> Orders:
    """The order of removals of each method, from the calibration examples of a task; ``on`` names
    it.
    """
    examples = task.calibration.part(slice(study.calibration))
    deepest = _removed(graph, study.deepest)
    # Those of one score an edge; random and hessian are made below.
    single = [
        m for m in study.methods if m in importance.METHODS and m not in ("random", "hessian")
    ]
    table = importance.importances(graph, examples, task.loss, single) if single else pd.DataFrame()
    found = {(m, on, 0): importance.order(graph, table[m]) for m in single}
    if {"hessian", "hessian_greedy"} & set(study.methods):  # one matrix for both
        model = taylor_model(graph, examples, task.loss)
        both = {
            "hessian": importance.order(graph, importance.second_order(model)),
            "hessian_greedy": importance.greedy(graph, model.change, deepest),
        }
        found |= {(m, on, 0): order for m, order in both.items() if m in study.methods}
    found |= {
        (m, on, 0): importance.removal_order(graph, examples, task.loss, m, limit=deepest)
        for m in _GREEDY
        if m in study.methods
    }
    found |= {
        ("random", "none", draw): importance.order(
            graph, importance.random(graph, study.draws * seed + draw)
        )
        for draw in range(study.draws)
    }
    for (method, *_), order in found.items():
        if len(order) < deepest:
            raise InvalidInput(
                f"{method} can remove {len(order)} of {len(graph.candidates)} candidate edges of "
                f"{study.network} (seed {seed}) before an output is cut off, and deepest = "
                f"{study.deepest:g} asks for {deepest}; take a smaller deepest."
            )
    return found


def _removed(graph: ComputationGraph, share: float) -> int:
    return round(share * len(graph.candidates))


def _pruned(
    study: Study,
    graph: ComputationGraph,
    task: Task,
    orders: Orders,
    seed: int,
    levels: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """The network under each order at each level, and at ``share`` before and after fine-tuning.

    The unpruned network comes first, and is fine-tuned as well.
    """
    at_levels, at_share = [(level, level) for level in levels], [(np.nan, study.share)]
    asked = [(("unpruned", "none", 0), 0.0, graph.without([]))]
    asked += [
        (who, level, graph.without(order[: _removed(graph, share)]))
        for steps in (at_levels, at_share)
        for who, order in orders.items()
        for level, share in steps
    ]
    masks, test = np.stack([mask for *_, mask in asked]), _test(study, task)
    measures = (task.loss, task.accuracy)
    measured = losses_under(
        graph,
        masks,
        test,
        lambda o, t: torch.stack([m(o, t) for m in measures], dim=1),
        batch=max(1024, len(test)),
    )

    kept: dict[bytes, nn.Module] = {}
    tuned: dict[bytes, NDArray[np.float64]] = {}
    rows: list[dict[str, Any]] = []
    for (who, level, mask), gates, now in zip(asked, graph.gates(masks), measured, strict=True):
        key = gates.tobytes()  # masks with the same gates are the same network
        if key not in kept:
            kept[key] = surgery.remove(graph, mask)
        sizes = _sizes(graph, mask, kept[key])
        rows.append(_row(who, "kept", level) | sizes | _measures(now, measured[0, 0]))
        if who[0] == "unpruned" or np.isnan(level):
            if key not in tuned:
                tuned[key] = tasks.measure(_tuned(study, kept[key], task, seed), test, measures)
            rows.append(_row(who, "tuned", np.nan) | sizes | _measures(tuned[key], measured[0, 0]))
    return rows


def _tuned(study: Study, model: nn.Module, task: Task, seed: int) -> nn.Module:
    """A copy of a network, trained a little further."""
    count = max(2, round(study.tuning_part * len(task.train)))
    rows = np.sort(np.random.default_rng(seed).permutation(len(task.train))[:count])
    return tasks.train(
        copy.deepcopy(model),
        task.train.part(rows),
        task.loss,
        epochs=study.tuning_epochs,
        seed=seed + 1,
        rate=study.tuning_rate,
    )


def _row(who: tuple[str, str, int], weights: str, level: float) -> dict[str, Any]:
    names = ("method", "chosen_on", "draw", "weights", "level")
    return dict(zip(names, (*who, weights, level), strict=True))


def _sizes(
    graph: ComputationGraph, mask: NDArray[np.bool_], smaller: nn.Module
) -> dict[str, float]:
    full, left = (sum(p.numel() for p in m.parameters()) for m in (graph.module, smaller))
    share = float((~mask).sum() / len(graph.candidates))
    return {"share_edges": share, "share_parameters": 1 - left / full}


def _measures(now: NDArray[np.float64], full: float) -> dict[str, float]:
    loss, change, accuracy = float(now[0]), float(now[0] - full), float(now[1])
    return {"loss": loss, "change": change, "absolute_change": abs(change), "accuracy": accuracy}
