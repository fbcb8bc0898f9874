"""The three scenarios of the paper (section 2): edge removal, edge removal with fine-tuning, and transfer learning, for any method of importance.

One *unit* is a network trained with one seed and all that is measured on it: a table of its own, kept as it is made (``studied``). Seed k gives the data
split (and the synthetic data), the initial weights, the order of the examples, and the draws at random. Nothing is chosen by test data: the checkpoint is the
last one, the shares of removed edges are fixed beforehand, and importances read calibration examples alone.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bogp import parallel
from bogp.checks import is_one_of, listed, number, texts, whole
from bogp.errors import InvalidInput
from bogp.parallel import worker_options
from bogp.records import recorded_table, write_table
from bogp.structural import importance, surgery
from bogp.structural.gates import Examples, Loss, losses_under
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
    "first_order": "first order, signed",
    "absolute_first_order": "first order, absolute",
    "unsigned_taylor": "unsigned Taylor = Fisher diagonal",  # the one is half of the other, so they give one order
    "fisher": "Fisher, full",
    "gauss_newton": "Gauss-Newton",
    "hessian": "Hessian",
    "hessian_greedy": "Hessian, edge after edge",
    "leave_one_out": "measured loss",
    "exact_greedy": "measured loss, edge after edge",
}
NETWORKS = ("dag", "residual", "inception", "transformer")
STEPS = 12  # levels of removal lie at multiples of 1/12 of the candidate edges
_ANEW = 50_000  # seeds of new initial weights begin here

Orders = dict[
    tuple[str, str, int], NDArray[np.intp]
]  # of a method, the task that it was chosen on, and a draw: edges, the first to go first


@dataclass(frozen=True)
class Study:
    """One kind of network on one task, and what is done with it.

    Attributes:
        network: of ``NETWORKS``.
        task: of ``tasks.NAMES``; photographs for ``residual`` and ``inception``, texts for ``transformer``, rows of features for ``dag``.
        epochs: of the first training.
        deepest: share of the candidate edges that is removed at most, in (0, 1).
        share: of the candidate edges that is removed before fine-tuning and in transfer, at most ``deepest``.
        tuning_epochs: passes of fine-tuning.
        tuning_part: share of the training examples that each of them goes over, in (0, 1].
        methods: of ``METHODS``.
        draws: orders at random, whose mean is the method ``random``.
        anew: methods whose pruned structure is also trained from new initial weights, and then fine-tuned, just as the network was.
        calibration: examples that importances are computed from, at most; ``test``: examples that are reported on, at most.
        old, new: classes to learn first, and classes to transfer to; none for no transfer.
        head_epochs: passes over the new task's examples in which its new head is trained.
        rate, tuning_rate, head_rate: highest learning rates of training, of fine-tuning, and of the new head.
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
        for what, value, allowed in (
            ("network", self.network, NETWORKS),
            ("task", self.task, tasks.NAMES),
            ("size", self.size, networks.SIZES),
        ):
            if not is_one_of(value, allowed):
                raise InvalidInput(f"{what} is {value!r}; one of: {', '.join(allowed)}.")
        for what in ("methods", "anew"):
            object.__setattr__(self, what, texts(what, getattr(self, what)))
        for what in ("old", "new"):
            object.__setattr__(self, what, tuple(whole(f"An item of {what}", c, 0) for c in listed(what, getattr(self, what))))
        if bad := [m for m in (*self.methods, *self.anew) if not is_one_of(m, METHODS)]:
            raise InvalidInput(f"There are no methods {bad}; there are: {', '.join(METHODS)}.")
        if "random" not in self.methods or not set(self.anew) <= set(self.methods):
            raise InvalidInput("methods include 'random', which the others are compared with, and all that are trained anew.")
        for what, low in (("epochs", 1), ("tuning_epochs", 1), ("draws", 1), ("calibration", 1), ("test", 1), ("head_epochs", 1)):
            whole(what, getattr(self, what), low)
        if not 0 < number("share", self.share) <= number("deepest", self.deepest) < 1:
            raise InvalidInput(f"share is {self.share} and deepest {self.deepest}; 0 < share <= deepest < 1 is needed.")
        if not 0 < number("tuning_part", self.tuning_part) <= 1:
            raise InvalidInput(f"tuning_part is {self.tuning_part}; it lies in (0, 1].")
        for what in ("rate", "tuning_rate", "head_rate"):
            if not 0 < number(what, getattr(self, what)) <= tasks.MOST_RATE:
                raise InvalidInput(f"{what} is {getattr(self, what)}; it is positive and at most {tasks.MOST_RATE:g}.")
        if bool(self.old) != bool(self.new) or set(self.old) & set(self.new):
            raise InvalidInput(f"old classes are {self.old} and new ones {self.new}; name both, without a class in common, or neither.")

    @property
    def levels(self) -> NDArray[np.float64]:
        """Shares of the candidate edges that are removed: multiples of 1/12 up to ``deepest``."""
        return np.arange(0, int(STEPS * self.deepest + 1e-9) + 1) / STEPS


def studied(studies: Sequence[Study], seeds: int, folder: Path, cores: int = 1) -> pd.DataFrame:
    """All units of some studies; those that are recorded are read, the others made, each recorded as soon as it is done.

    Args:
        studies: no two of one network and task.
        seeds: of each, 0 to seeds - 1.
        folder: of the records.
        cores: units at the same time; the numbers do not depend on it.

    Returns:
        Long table, see ``unit``, with ``network`` and ``seed``.

    Raises:
        InvalidInput: no studies, two of one name, or a number out of range; and as ``unit``.
    """
    from joblib import Parallel, delayed, parallel_config

    whole("seeds", seeds, 1), whole("cores", cores, 1)
    if not studies or len({(s.network, s.task) for s in studies}) < len(studies):
        raise InvalidInput("One or more studies are needed, no two of one network and task: their units could not be told apart.")
    asked = [(study, seed) for study in studies for seed in range(seeds)]
    found = {one: recorded_table(_path(folder, *one), _parameters(*one)) for one in asked}
    missing = [one for one in asked if found[one] is None]
    with (
        parallel.progress_bar(len(asked), "network", done=len(asked) - len(missing)) as bar,
        parallel_config("loky", inner_max_num_threads=1),
    ):
        made = Parallel(n_jobs=cores, return_as="generator_unordered", **worker_options())(
            delayed(_unit)(study, seed) for study, seed in missing
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A worker stopped")  # joblib renews workers that have grown, and no job is lost
            for study, seed, table in made:
                path = write_table(table, _path(folder, study, seed), _parameters(study, seed))
                found[study, seed] = recorded_table(path, _parameters(study, seed))
                bar.update(1)
    return pd.concat([table for one in asked if (table := found[one]) is not None], ignore_index=True)


def _path(folder: Path, study: Study, seed: int) -> Path:
    return folder / f"{study.network}_{study.task}_{seed}.csv"


def _parameters(study: Study, seed: int) -> dict[str, Any]:
    return asdict(study) | {"seed": seed}


def _unit(study: Study, seed: int) -> tuple[Study, int, pd.DataFrame]:
    return study, seed, unit(study, seed)


def unit(study: Study, seed: int) -> pd.DataFrame:
    """Train one network, prune it by each method, fine-tune and transfer what is left.

    Args:
        study: what to do.
        seed: of all that is random.

    Returns:
        A row a measurement on test examples: ``network``, ``seed``, ``scenario`` (``removal``, ``transfer``), ``method`` (of ``METHODS``, or ``unpruned``),
        ``chosen_on`` (the task whose calibration examples importances were computed from: ``this``, ``old``, or ``none``), ``draw`` (of ``random``),
        ``weights`` (``kept``: as they were; ``tuned``: trained further; ``new``: trained from new initial values), ``level`` (multiple of 1/12, NaN at
        ``share``), ``share_edges`` (of the candidates, removed), ``share_parameters`` (removed), ``loss``, ``change`` (of the loss from that of the unpruned
        network with the weights as they were), ``absolute_change``, ``accuracy``.

    Raises:
        InvalidInput: an order of removals ends before ``deepest``.
        DatasetError: the task's data are missing.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the numbers do not depend on how many units run side by side
    try:
        task = tasks.load(study.task, seed)
        rows = removal(study, task, seed)
        if study.new:
            rows += transfer(study, task, seed)
    finally:
        torch.set_num_threads(threads)
    table = pd.DataFrame(rows)
    table.insert(0, "network", study.network)
    table.insert(1, "seed", seed)
    return table


def removal(study: Study, task: Task, seed: int) -> list[dict[str, Any]]:
    """Edge removal at all levels, and with fine-tuning at ``share``; rows as in ``unit``."""
    model = tasks.train(network(study, task, seed), task.train, task.loss, epochs=study.epochs, seed=seed, rate=study.rate)
    graph = capture(model, _example(task))
    orders = {
        (method, "none" if method == "random" else "this", draw): o for (method, draw), o in _orders(study, graph, task, seed).items()
    }
    rows = [{"scenario": "removal"} | row for row in _pruned(study, graph, task, orders, seed, study.levels)]
    full = rows[0]
    for method in study.anew:
        chosen_on = "none" if method == "random" else "this"
        mask = graph.without(orders[method, chosen_on, 0][: _removed(graph, study.share)])
        fresh = capture(network(study, task, _ANEW + seed), _example(task))
        smaller = copy.deepcopy(surgery.remove(fresh, mask))
        anew = _tuned(study, tasks.train(smaller, task.train, task.loss, epochs=study.epochs, seed=seed, rate=study.rate), task, seed)
        row = {"scenario": "removal", "method": method, "chosen_on": chosen_on, "draw": 0, "weights": "new", "level": np.nan}
        rows.append(row | _sizes(graph, mask, anew) | _measures(tasks.measure(anew, _test(study, task), _both(task)), full["loss"]))
    return rows


def transfer(study: Study, task: Task, seed: int) -> list[dict[str, Any]]:
    """Train on the old classes, replace the head, prune, and fine-tune on the new classes; rows as in ``unit``.

    The new head is linear and trained alone, on what the old network's body makes of the new examples: the body, its normalisation statistics included, stays
    as it was. Fine-tuning then trains all weights that are left.
    """
    before, after = tasks.classes(task, study.old), tasks.classes(task, study.new)
    old = tasks.train(network(study, before, seed), before.train, before.loss, epochs=study.epochs, seed=seed, rate=study.rate)
    new = with_new_head(old, after, epochs=study.head_epochs, seed=seed, rate=study.head_rate)
    chosen = {("this", after): capture(new, _example(after)), ("old", before): capture(old, _example(before))}
    orders: Orders = {}
    for (chosen_on, on), graph in chosen.items():
        found = _orders(study, graph, on, seed)
        orders |= {(m, "none" if m == "random" else chosen_on, d): o for (m, d), o in found.items()}
    return [{"scenario": "transfer"} | row for row in _pruned(study, chosen["this", after], after, orders, seed, study.levels[:1])]


def with_new_head(model: nn.Module, task: Task, *, epochs: int, seed: int, rate: float) -> nn.Module:
    """A copy of a network whose ``head`` is a new linear layer for another task, trained alone on what the network's body makes of its training examples.

    Raises:
        InvalidInput: the network has no linear layer of the name ``head``.
    """
    new = copy.deepcopy(model).eval()
    if not isinstance(head := getattr(new, "head", None), nn.Linear):
        raise InvalidInput(f"{type(model).__name__} has no linear layer of the name 'head' to replace.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = nn.Linear(head.in_features, task.outputs)
    new.head = nn.Identity()
    with torch.no_grad():
        made = torch.cat([new(*(i[rows] for i in task.train.inputs)) for rows in torch.arange(len(task.train)).split(1024)])
    new.head = tasks.train(fresh, Examples((made,), task.train.targets), task.loss, epochs=epochs, seed=seed, rate=rate)
    return new


def network(study: Study, task: Task, seed: int) -> nn.Module:
    """The study's network for a task, untrained, in evaluation mode. New initial weights (seeds from 50,000) have the graph of the seed that they stand beside.

    Raises:
        InvalidInput: the task's inputs are not what such a network reads.
    """
    inputs = task.train.inputs[0]
    reads = {"dag": inputs.is_floating_point() and inputs.dim() == 2, "transformer": not inputs.is_floating_point()}
    if not reads.get(study.network, inputs.dim() == 4):
        raise InvalidInput(f"A network {study.network} cannot read {study.task}, whose inputs have shape {tuple(inputs.shape)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if study.network == "dag":
            model: nn.Module = networks.RandomDag(networks.random_parents(study.size, seed % _ANEW), inputs.shape[1], 16, task.outputs)
        elif study.network == "transformer":
            model = networks.Transformer(task.outputs, inputs.shape[1])
        else:
            model = {"residual": networks.Residual, "inception": networks.Inception}[study.network](task.outputs, channels=inputs.shape[1])
    return model.eval()


def _example(task: Task) -> tuple[Tensor, ...]:
    return tuple(i[:2] for i in task.train.inputs)


def _test(study: Study, task: Task) -> Examples:
    """At most ``study.test`` test examples, evenly spread over all."""
    count = len(task.test)
    return task.test.part(np.unique(np.linspace(0, count - 1, min(study.test, count)).astype(np.intp)))


def _both(task: Task) -> list[Loss]:
    return [task.loss, task.accuracy]


def _orders(study: Study, graph: ComputationGraph, task: Task, seed: int) -> dict[tuple[str, int], NDArray[np.intp]]:
    """The order of removals of each method, from the task's calibration examples."""
    examples, deepest = task.calibration.part(slice(study.calibration)), _removed(graph, study.deepest)
    single = [m for m in study.methods if m in importance.METHODS and m not in ("random", "hessian")]
    table = importance.importances(graph, examples, task.loss, single) if single else pd.DataFrame()
    found = {(m, 0): importance.order(graph, table[m]) for m in single}
    if {"hessian", "hessian_greedy"} & set(study.methods):  # one matrix for both
        quadratic = taylor_model(graph, examples, task.loss)
        both = {
            "hessian": importance.order(graph, importance.second_order(quadratic)),
            "hessian_greedy": importance.greedy(graph, quadratic.change, deepest),
        }
        found |= {(m, 0): order for m, order in both.items() if m in study.methods}
    if "exact_greedy" in study.methods:
        found["exact_greedy", 0] = importance.removal_order(graph, examples, task.loss, "exact_greedy", limit=deepest)
    for draw in range(study.draws):
        found["random", draw] = importance.order(graph, importance.random(graph, study.draws * seed + draw))
    for (method, _), order in found.items():
        if len(order) < deepest:
            raise InvalidInput(
                f"{method} can remove {len(order)} of {len(graph.candidates)} candidate edges of {study.network} (seed {seed}) before an output is cut "
                f"off, and deepest = {study.deepest:g} asks for {deepest}; take a smaller deepest."
            )
    return found


def _removed(graph: ComputationGraph, share: float) -> int:
    return round(share * len(graph.candidates))


def _pruned(
    study: Study, graph: ComputationGraph, task: Task, orders: Orders, seed: int, levels: NDArray[np.float64]
) -> list[dict[str, Any]]:  # fmt: skip
    """The network under each order at each level, and at ``share`` before and after fine-tuning; the unpruned network first, then fine-tuned as well."""
    asked = [(("unpruned", "none", 0), 0.0, graph.without([]))]
    asked += [(who, level, graph.without(order[: _removed(graph, level)])) for who, order in orders.items() for level in levels]
    asked += [(who, np.nan, graph.without(order[: _removed(graph, study.share)])) for who, order in orders.items()]
    masks, test = np.stack([mask for *_, mask in asked]), _test(study, task)
    measured = losses_under(graph, masks, test, lambda o, t: torch.stack([m(o, t) for m in _both(task)], dim=1), batch=max(1024, len(test)))
    kept: dict[bytes, nn.Module] = {}
    tuned: dict[bytes, NDArray[np.float64]] = {}
    rows: list[dict[str, Any]] = []
    for (who, level, mask), gates, now in zip(asked, graph.gates(masks), measured, strict=True):
        key = gates.tobytes()  # masks with the same gates are the same network
        if key not in kept:
            kept[key] = surgery.remove(graph, mask)
        row = dict(zip(("method", "chosen_on", "draw"), who, strict=True)) | {"weights": "kept", "level": level}
        row |= _sizes(graph, mask, kept[key])
        rows.append(row | _measures(now, measured[0, 0]))
        if who[0] == "unpruned" or np.isnan(level):
            if key not in tuned:
                tuned[key] = tasks.measure(_tuned(study, kept[key], task, seed), test, _both(task))
            rows.append(row | {"weights": "tuned", "level": np.nan} | _measures(tuned[key], measured[0, 0]))
    return rows


def _tuned(study: Study, model: nn.Module, task: Task, seed: int) -> nn.Module:
    """A copy of a network, trained a little further."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(task.train))[: max(2, round(study.tuning_part * len(task.train)))])
    part = task.train.part(rows)
    return tasks.train(copy.deepcopy(model), part, task.loss, epochs=study.tuning_epochs, seed=seed + 1, rate=study.tuning_rate)


def _sizes(graph: ComputationGraph, mask: NDArray[np.bool_], smaller: nn.Module) -> dict[str, float]:
    full, left = (sum(p.numel() for p in m.parameters()) for m in (graph.module, smaller))
    return {"share_edges": float((~mask).sum() / len(graph.candidates)), "share_parameters": 1 - left / full}


def _measures(now: NDArray[np.float64], full: float) -> dict[str, float]:
    change = float(now[0] - full)
    return {"loss": float(now[0]), "change": change, "absolute_change": abs(change), "accuracy": float(now[1])}
