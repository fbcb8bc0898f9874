"""Whole blocks removed from the trained networks of the zoo, by six methods and at random, before
and after a short fine-tuning.

One *unit* is a trained network of one seed and all that is measured on it: a table of its own, kept
as it is made (``studied``). What a network was trained on, its validation and its test part are the
same for all seeds. A *draw* is a part of the calibration examples, disjoint from the others; the
methods score blocks on it alone. Nothing is chosen by test data.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from bogp import structural, zoo
from bogp.checks import choice, listed, number, refuse, texts, whole
from bogp.records import kept, kept_in_parallel
from bogp.structural import ComputationGraph, Examples
from bogp.zoo import pretrained, tasks
from bogp.zoo.tasks import Task

METHODS = {
    "random": "random",
    "magnitude": "L1 magnitude",
    "block_influence": "block influence",
    "first_order": "first order, signed",
    "fisher": "Fisher, full",
    "leave_one_out": "measured loss",
    "exact_greedy": "measured loss, block after block",
}
_LAYERS = tuple(f"blocks.{i}" for i in range(8))
# The blocks of each network that can go, in the order in which they run.
BLOCKS = {
    "resnet20": (
        *("layer1.0", "layer1.1", "layer1.2"),
        *("layer2.1", "layer2.2", "layer3.1", "layer3.2"),
    ),
    "vit": _LAYERS,
    "char_transformer": _LAYERS,
}
# Of the same form as what a network learnt from, so that a run without any data can be tried.
_SYNTHETIC = {"resnet20": "patterns", "vit": "patterns", "char_transformer": "sentences"}
DATA = ("own", "synthetic")
TIMED = 8  # examples in the pass whose operations and latency are measured
_MOST_SEEDS = 100  # far beyond the trained networks that there are
TURNS = 12  # of measuring latencies

NONE = "none"  # where no block is removed

Rows = NDArray[np.intp]  # of examples
Removed = tuple[int, ...]  # edges, in the order in which they go


@dataclass(frozen=True)
class Study:
    """One kind of trained network, and what is done with it.

    Attributes:
        network: of ``pretrained.NAMES``.
        data: ``own``, what the network learnt from; or ``synthetic``, of the same form, which it
            has never seen.
        calibration: examples of a draw.
        test: examples that are reported on, at most, and examples that choose a learning rate.
        draws: of calibration examples, and orders at random.
        steps: of fine-tuning, at most 150; ``batch``: examples in each.
        most: blocks that are removed, one after another.
        tuned: blocks that are removed before fine-tuning, at most ``most``.
        rates: of fine-tuning; the one with the lower validation loss is taken.
        methods: of ``METHODS``, with ``random``, which the others are compared with.
    """

    network: str
    data: str
    calibration: int
    test: int
    draws: int
    steps: int
    batch: int = 16
    most: int = 3
    tuned: int = 2
    rates: tuple[float, ...] = (1e-4, 1e-3)
    methods: tuple[str, ...] = tuple(METHODS)

    def __post_init__(self) -> None:
        choice("trained network", self.network, pretrained.NAMES)
        choice("data", self.data, DATA)
        named = texts("methods", self.methods)
        object.__setattr__(self, "methods", tuple(choice("method", m, METHODS) for m in named))
        refuse("random" not in self.methods, "methods include 'random', to compare with.")
        for what in ("calibration", "test", "draws"):
            whole(what, getattr(self, what), 1)
        whole("steps", self.steps, 1, 150), whole("batch", self.batch, 2)
        whole("most", self.most, 1, len(BLOCKS[self.network]) - 1)
        whole("tuned", self.tuned, 1, self.most)
        rates = tuple(number("A rate", rate) for rate in listed("rates", self.rates))
        refuse(
            not rates or not all(0 < rate <= tasks.MOST_RATE for rate in rates),
            f"rates are {rates}; one or more are needed, each positive and at most "
            f"{tasks.MOST_RATE:g}.",
        )
        object.__setattr__(self, "rates", rates)


def studied(studies: Sequence[Study], seeds: int, folder: Path, cores: int = 1) -> pd.DataFrame:
    """All units of some studies, each kept in a file of its own (``records.kept_in_parallel``).

    Args:
        studies: no two of one network.
        seeds: of each, 0 to seeds - 1.
        folder: of the records.
        cores: units at the same time; the numbers do not depend on it, but for times.

    Returns:
        Long table, see ``unit``, with ``latency`` (s), see ``timed``.

    Raises:
        InvalidInput: no studies, two of one network, or a seed that no weights are there of; and as
            ``unit``.
    """
    networks = [study.network for study in studies]
    refuse(
        not networks or len(set(networks)) < len(networks),
        f"networks are {networks}; name one or more, each once.",
    )
    count = whole("seeds", seeds, 1, _MOST_SEEDS)
    jobs = [(study, seed) for study in studies for seed in range(count)]
    tables = kept_in_parallel(unit, jobs, record, folder, cores, "network")
    measured = pd.concat(tables, ignore_index=True)
    times = [
        kept(folder / name, parameters, partial(timed, study.network, parameters["removed"]))
        for study in studies
        for name, parameters in [record_of_times(study.network, measured)]
    ]
    keys = [measured["network"], measured["blocks"].map(_ordered)]
    latency = pd.concat(times).set_index(["network", "blocks"])["latency"]
    return measured.assign(latency=latency.loc[pd.MultiIndex.from_arrays(keys)].to_numpy())


def record(study: Study, seed: int) -> tuple[str, dict[str, Any]]:
    """The file that a unit is kept in, and the parameters by which it is found again: those of the
    study, the seed, and a checksum of the weights.
    """
    weights = pretrained.in_half(zoo.trained(study.network, seed))
    return f"{study.network}_{seed}.csv.gz", asdict(study) | {
        "seed": seed,
        "weights": hashlib.sha256(weights).hexdigest(),
    }


def record_of_times(network: str, measured: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """The file that a network's latencies are kept in, and the parameters by which they are found
    again: what is removed in any of its units.

    Args:
        network: of ``pretrained.NAMES``.
        measured: units, see ``unit``.
    """
    blocks = measured.loc[measured["network"] == network, "blocks"]
    removed = sorted(set(blocks.map(_ordered)))
    parameters = {"network": network, "removed": removed, "examples": TIMED, "turns": TURNS}
    return f"latency_{network}.csv.gz", parameters


def timed(network: str, removed: Sequence[str]) -> pd.DataFrame:
    """Latencies of a network without blocks: of a pass over ``TIMED`` examples, in one thread.

    The time is that of the processor, the least of ``TURNS`` passes, and networks take turns: so
    what else the machine does weighs little, and on none of them alone. On an idle machine it is
    the time on the clock. It does not depend on weights.

    Args:
        network: of ``pretrained.NAMES``.
        removed: for each measurement the names of blocks with spaces between, or ``none``.

    Returns:
        ``network``, ``blocks`` (as given), ``latency`` (s).
    """
    model = pretrained.architecture(network)
    tokens = network == "char_transformer"
    x = torch.zeros(TIMED, pretrained.LENGTH).long() if tokens else torch.zeros(TIMED, 3, 32, 32)
    modules = [_with_identities(model, names.split() if names != NONE else []) for names in removed]
    least = [np.inf] * len(modules)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(TURNS):
                for i, module in enumerate(modules):
                    start = time.thread_time()
                    module(x)
                    least[i] = min(least[i], time.thread_time() - start)
    finally:
        torch.set_num_threads(before)
    return pd.DataFrame({"network": network, "blocks": removed, "latency": least})


def _with_identities(model: nn.Module, blocks: Sequence[str]) -> nn.Module:
    """A copy in which some blocks do nothing: what ``drop`` gives, without capturing the model."""
    smaller = copy.deepcopy(model)
    for block in blocks:
        smaller.set_submodule(block, nn.Identity())
    return smaller


def _ordered(blocks: str) -> str:
    """The names of removed blocks, whichever went first."""
    return " ".join(sorted(blocks.split()))


def unit(study: Study, seed: int) -> pd.DataFrame:
    """Remove blocks from one trained network by each method and draw, and fine-tune what is left.

    Fine-tuned are the first draw of each method, all orders at random, and the whole network, for
    as many steps, on the same examples and at the same learning rate. The rate is chosen by the
    validation loss after fine-tuning the first order at random, which favours no method.

    Args:
        study: what to do.
        seed: of the trained network, of orders at random, and of the order of examples.

    Returns:
        A row a measurement on test examples: ``network``, ``seed``, ``method`` (of ``METHODS``, or
        ``unpruned``), ``draw``, ``count`` (of removed blocks), ``blocks`` (their names, the first
        to go first), ``weights`` (``kept`` or ``tuned``), ``loss`` (nats), ``change`` (from the
        whole network with the weights as they were), ``accuracy``, ``parameters``, ``flops`` of
        ``TIMED`` examples, ``rate`` of fine-tuning, and ``seconds`` that the
        order took.

    Raises:
        InvalidInput: there are no weights of that seed, or too few examples for the draws.
        DatasetError: the network's data are missing.
    """
    model, task = zoo.trained(study.network, seed), task_of(study)
    graph = structural.capture(model, task.train.part(slice(4)).inputs, level="blocks")
    test = _some(task.test, study.test)
    found = {
        (method, draw): order(study, graph, task, seed, method, draw)
        for draw in range(study.draws)
        for method in study.methods
    }
    asked: list[tuple[str, int, Removed]] = [("unpruned", 0, ())]
    asked += [
        (method, draw, edges[:count])
        for (method, draw), (edges, _) in found.items()
        for count in range(1, study.most + 1)
    ]
    again = [(m, d, e) for m, d, e in asked if len(e) in (0, study.tuned)]
    again = [(m, d, e) for m, d, e in again if d == 0 or m == "random"]
    # Orders that begin with the same blocks leave the same network.
    smaller = {_set(e): structural.drop(model, graph, e) if e else model for *_, e in asked}
    measured = {key: _losses(module, task, test) for key, module in smaller.items()}
    sizes = {key: _sizes(module, test) for key, module in smaller.items()}
    rate = _rate(study, smaller[_set(found["random", 0][0][: study.tuned])], task, seed)
    tuned = {
        key: _losses(fine_tuned(study, smaller[key], task, seed, rate), task, test)
        for key in dict.fromkeys(_set(e) for *_, e in again)
    }

    def row(method: str, draw: int, edges: Removed, weights: str) -> dict[str, Any]:
        names = " ".join(graph.name(e) for e in edges) or NONE
        who = {"network": study.network, "seed": seed, "method": method, "draw": draw}
        who |= {"count": len(edges), "blocks": names, "weights": weights}
        now = (measured if weights == "kept" else tuned)[_set(edges)]
        change = {"change": now["loss"] - measured[()]["loss"]}
        seconds = found[method, draw][1] if method in METHODS else np.nan
        took = {"rate": rate if weights == "tuned" else np.nan, "seconds": seconds}
        return who | now | change | sizes[_set(edges)] | took

    rows = [row(*one, "kept") for one in asked] + [row(*one, "tuned") for one in again]
    return pd.DataFrame(rows)


def _set(edges: Removed) -> Removed:
    return tuple(sorted(edges))


def task_of(study: Study) -> Task:
    """What a study's network is measured on and fine-tuned with.

    Raises:
        DatasetError: it is missing or damaged.
    """
    if study.data == "own":
        return zoo.data(study.network)
    return tasks.load(_SYNTHETIC[study.network], 0)


def order(
    study: Study, graph: ComputationGraph, task: Task, seed: int, method: str, draw: int
) -> tuple[Removed, float]:
    """The blocks that go first by a method on a draw of calibration examples, and the seconds that
    this took.

    Raises:
        InvalidInput: too few examples for the draws.
    """
    examples = calibration(study, task, draw)
    start = time.perf_counter()
    edges = structural.removal_order(
        graph, examples, task.loss, method, 100 * seed + draw, study.most
    )
    return tuple(int(e) for e in edges), time.perf_counter() - start


def calibration(study: Study, task: Task, draw: int) -> Examples:
    """The examples of a draw, none of which is in another.

    Raises:
        InvalidInput: there are too few for the draws.
    """
    size, every = study.calibration, len(task.calibration)
    refuse(
        study.draws * size > every,
        f"{study.draws} draws of {size} calibration examples are {study.draws * size}, and "
        f"{task.name} has {every}; take fewer or smaller draws.",
    )
    rows = _drawn(every)[draw * size : (draw + 1) * size]
    return task.calibration.part(np.sort(rows))


def used_rows(study: Study, task: Task) -> tuple[Rows, Rows]:
    """Calibration examples of all draws, and the test examples that are reported on."""
    drawn = _drawn(len(task.calibration))[: study.draws * study.calibration]
    return drawn, _spread(len(task.test), study.test)


def _drawn(every: int) -> Rows:
    return np.random.default_rng(0).permutation(every)


def fine_tuned(study: Study, model: nn.Module, task: Task, seed: int, rate: float) -> nn.Module:
    """A copy of a network, trained for the study's steps by Adam: the rate rises for a fifth of
    them and falls to zero.
    """
    rows = np.random.default_rng(seed).permutation(len(task.train))[: study.steps * study.batch]
    return tasks.train(
        copy.deepcopy(model),
        task.train.part(rows),
        task.loss,
        epochs=1,
        seed=seed,
        rate=rate,
        decay=0.0,
        batch=study.batch,
    )


def _rate(study: Study, model: nn.Module, task: Task, seed: int) -> float:
    """The learning rate that leaves the lowest validation loss; the first of equals."""
    validation = _some(task.validation, study.test)
    tuned = (fine_tuned(study, model, task, seed, rate) for rate in study.rates)
    losses = [float(tasks.measure(one, validation, [task.loss])[0]) for one in tuned]
    return study.rates[int(np.argmin(losses))]


def _some(examples: Examples, most: int) -> Examples:
    """At most so many examples, evenly spread over all."""
    return examples.part(_spread(len(examples), most))


def _spread(every: int, most: int) -> Rows:
    return np.unique(np.linspace(0, every - 1, min(most, every)).astype(np.intp))


def _losses(module: nn.Module, task: Task, test: Examples) -> dict[str, float]:
    loss, accuracy = tasks.measure(module, test, [task.loss, task.accuracy], batch=100)
    return {"loss": float(loss), "accuracy": float(accuracy)}


def _sizes(module: nn.Module, test: Examples) -> dict[str, int]:
    found = structural.cost(module, test.part(slice(TIMED)).inputs, 0.01)
    return {"parameters": found.parameters, "flops": found.flops}
