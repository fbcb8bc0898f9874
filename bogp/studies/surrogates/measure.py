"""Notebook 14 measured: random networks that learned digits, and the losses of their masks.

*Calibration* images give derivatives and the losses that surrogates are fitted to; the losses that
they are to rank are of *test* images, those that a search reads of *validation* images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from bogp import datasets
from bogp.checks import choice, whole
from bogp.errors import InvalidInput
from bogp.records import kept_in_parallel
from bogp.structural import surrogate
from bogp.structural.gates import Examples, losses_under
from bogp.structural.graph import ComputationGraph
from bogp.structural.taylor import (
    TaylorModel,
    closable,
    fisher,
    gate_gradients,
    gauss_newton,
    hessian,
)
from bogp.structural.tracing import capture
from bogp.zoo import networks, tasks

Masks = NDArray[np.bool_]
SUFFIX = {"removed": "", "zeroed": "_zeroed"}  # of the columns of each reading


@dataclass(frozen=True)
class Settings:
    """What a network learns and what is measured on it.

    Attributes:
        dataset: a task of digits, ``mnist-5k`` or ``mnist``.
        width: features of each vertex.
        train: training images.
        epochs: passes over them.
        images: of calibration, and as many held-out ones.
        masks: of each kind that is to be ranked.
        design: connected masks an edge that the larger design has.
    """

    dataset: str = "mnist-5k"
    width: int = 32
    train: int = 2_000
    epochs: int = 4
    images: int = 250
    masks: int = 500
    design: int = 4

    def __post_init__(self) -> None:
        choice("data set of digits", self.dataset, ("mnist-5k", "mnist"))
        least = {"width": 2, "train": 64, "epochs": 1, "images": 10, "masks": 10, "design": 1}
        for name, low in least.items():
            whole(name, getattr(self, name), low)


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network with its graph.

    Attributes:
        graph: as captured.
        calibration, validation, test: the examples that are measured on.
        accuracy: of the full network on the test examples.
    """

    graph: ComputationGraph
    calibration: Examples
    validation: Examples
    test: Examples
    accuracy: float


@cache
def blank_graph(size: str, seed: int) -> ComputationGraph:
    """The graph of a random network, before any training: everything of it but the weights."""
    inputs = torch.zeros(2, 784)
    return capture(networks.untrained("dag", inputs, 10, seed, size=size, width=4), inputs)


def own_edges(graph: ComputationGraph) -> NDArray[np.intp]:
    """The edges between inner vertices: neither that from the input nor that to the output."""
    ends = {v.index for v in graph.vertices if v.kind in ("input", "output")}
    own = [e.index for e in graph.edges if ends.isdisjoint((e.source, e.target))]
    return np.array(own, dtype=np.intp)


@cache
def task_of(name: str) -> tasks.Task:
    """A data set, loaded once in each process."""
    return tasks.load(name)


def trained(size: str, seed: int, settings: Settings) -> Network:
    """The network of a graph, trained; the seed gives graph, initial weights and order of the
    images.

    Raises:
        InvalidInput: the data set has fewer images than are asked for.
    """
    task, count = task_of(settings.dataset), settings.images
    train = _balanced(task, "train", settings.train)
    calibration, validation, test = (
        _balanced(task, part, count) for part in ("calibration", "validation", "test")
    )
    model = networks.untrained("dag", train.inputs[0], 10, seed, size=size, width=settings.width)
    tasks.train(model, train, task.loss, epochs=settings.epochs, seed=seed)
    accuracy = float(tasks.measure(model, test, [task.accuracy])[0])
    graph = capture(model, calibration.part(slice(0, 4)).inputs)
    return Network(graph, calibration, validation, test, accuracy)


def _balanced(task: tasks.Task, name: str, count: int) -> Examples:
    """``count`` examples of a part, the classes as in all of them, the same ones each time."""
    part: Examples = getattr(task, name)
    if count > len(part):
        raise InvalidInput(f"{task.name} has {len(part)} {name} images; {count} are asked for.")
    if count == len(part):
        return part
    labels = part.targets.numpy().astype(np.uint8)
    return part.part(datasets.stratified(labels, (count, len(part) - count), 0)[0])


def drawn(
    graph: ComputationGraph,
    count: int,
    rng: np.random.Generator,
    *,
    connected: bool = False,
    without: ArrayLike | None = None,
) -> Masks:
    """Distinct Bernoulli(1/2) masks over a graph's own edges.

    Args:
        graph: of the network.
        count: how many; fewer where 200 times as many draws do not give them, for small graphs have
            few masks.
        rng: of the draws.
        connected: only those that connect input and output, by rejection.
        without: (M, E) masks that are left out.

    Returns:
        (at most count, E) masks.
    """
    own = own_edges(graph)
    taken = set(map(bytes, np.asarray([] if without is None else without, dtype=bool)))
    found: dict[bytes, NDArray[np.bool_]] = {}
    for _ in range(200):
        masks = np.ones((count, len(graph.edges)), dtype=bool)
        masks[:, own] = rng.random((count, len(own))) < 0.5
        for mask in masks[graph.connected(masks)] if connected else masks:
            if bytes(mask) not in taken:
                found.setdefault(bytes(mask), mask)
        if len(found) >= count:
            break
    return np.array(list(found.values())[:count], dtype=bool).reshape(-1, len(graph.edges))


def published_design(graph: ComputationGraph) -> Masks:
    """(E + 2, edges) all of the graph's own edges, none of them, and each left out."""
    own = own_edges(graph)
    return np.stack([graph.without(removed) for removed in ([], own, *own[:, None])])


def taylor_models(
    graph: ComputationGraph, examples: Examples, loss: Callable[..., torch.Tensor]
) -> tuple[NDArray[np.float64], dict[str, TaylorModel]]:
    """The (N, E) gate gradients, and the Taylor models of the first order and of each curvature."""
    gradients = gate_gradients(graph, examples, loss)
    curvatures = {
        "first_order": np.zeros((len(graph.edges),) * 2),
        "fisher": fisher(gradients),
        "gauss_newton": gauss_newton(graph, examples, loss, gates=closable(graph)),
        "hessian": hessian(graph, examples, loss, gates=closable(graph)),
    }
    return gradients, {
        name: TaylorModel(graph, gradients.mean(axis=0), matrix)
        for name, matrix in curvatures.items()
    }


def measure(size: str, seed: int, settings: Settings) -> pd.DataFrame:
    """Train one network and measure all its masks: the table that every correlation of this graph
    follows from.

    Returns:
        A row a mask: ``part`` (``published``, ``larger``: designs; ``half``, ``connected``: to be
        ranked), ``mask`` (``as_text``), ``calibration`` (mean loss, nats; of the designs) and
        ``test`` (of all but the larger design), the same with ``_zeroed`` (a vertex without live
        inputs goes on with its biases; of ``published`` and ``half``), and what the zero-shot
        predictors say; ``accuracy`` of the full network.
    """
    network = trained(size, seed, settings)
    graph, loss = network.graph, task_of(settings.dataset).loss
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(14,)))
    design = published_design(graph)
    more = settings.design * len(own_edges(graph))
    larger = drawn(graph, more, rng, connected=True, without=design)
    both = np.concatenate([design, larger])
    half = drawn(graph, settings.masks, rng, without=both)
    connected = drawn(graph, settings.masks, rng, connected=True, without=both)
    parts = {"published": design, "larger": larger, "half": half, "connected": connected}
    masks = np.concatenate(list(parts.values()))
    table = pd.DataFrame(
        {
            "part": np.repeat(list(parts), [len(m) for m in parts.values()]),
            "mask": as_text(masks),
            "connected": graph.connected(masks),
            "accuracy": network.accuracy,
        }
    )
    zeros = [torch.zeros(edge.shape) for edge in graph.edges]
    for column, of, examples, references in (
        ("calibration", ("published", "larger"), network.calibration, None),
        ("test", ("published", "half", "connected"), network.test, None),
        ("calibration_zeroed", ("published", "larger"), network.calibration, zeros),
        ("test_zeroed", ("published", "half"), network.test, zeros),
    ):
        rows = np.flatnonzero(table["part"].isin(of))
        found = losses_under(graph, masks[rows], examples, loss, references=references)
        table.loc[rows, column] = found
    gradients, models = taylor_models(graph, network.calibration, loss)
    zero_shot = {
        "magnitude": surrogate.kept_sum(surrogate.reader_magnitude(graph))(masks),
        "published_taylor": surrogate.kept_sum(np.square(gradients).mean(axis=0))(masks),
        "live_edges": -graph.live(masks).sum(axis=1).astype(float),
    }
    changes = {name: model.change(masks) for name, model in models.items()}
    return shortened(table.assign(**zero_shot, **changes))


def shortened(table: pd.DataFrame) -> pd.DataFrame:
    """Seven significant digits: what is recorded is what is used, and equal networks have equal
    numbers whatever was summed first.
    """
    numbers = table.select_dtypes("float").columns
    return table.assign(**{c: [float(f"{x:.7g}") for x in table[c]] for c in numbers})


def as_text(masks: Masks) -> list[str]:
    """Masks as short strings: m, and the bits in hexadecimal."""
    return ["m" + row.tobytes().hex() for row in np.packbits(masks, axis=1)]


def as_masks(texts: Iterable[str], edges: int) -> Masks:
    """The (M, E) masks of such strings."""
    packed = np.stack([np.frombuffer(bytes.fromhex(text[1:]), np.uint8) for text in texts])
    return np.unpackbits(packed, axis=1, count=edges).astype(bool)


def looked_up(masks: Masks, values: ArrayLike) -> surrogate.Predictor:
    """A predictor that knows those masks only."""
    known = dict(zip(map(bytes, masks), np.asarray(values, dtype=np.float64), strict=True))
    return lambda asked: np.array([known[bytes(mask)] for mask in np.asarray(asked, dtype=bool)])


def record(size: str, seed: int, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The file that a graph's table of ``measure`` is kept in, and the parameters by which it is
    found again.
    """
    name = f"ranks-{size.replace('> ', 'over-')}-{seed}.csv.gz"
    return name, {"size": size, "seed": seed} | vars(settings)


def measured(
    sizes: Iterable[str], graphs: int, settings: Settings, folder: Path, cores: int = 1
) -> dict[tuple[str, int], pd.DataFrame]:
    """The tables of ``measure`` by class and seed, each kept in a file of its own
    (``records.kept_in_parallel``).

    Args:
        sizes: classes of ``networks.SIZES``.
        graphs: of each class, 0 to graphs - 1.
        settings: what to measure.
        folder: of the files.
        cores: graphs at once; the numbers do not depend on it.

    Raises:
        InvalidInput: an unknown class, or a number out of range; and as ``measure``.
    """
    jobs = [(size, seed, settings) for size in sizes for seed in range(whole("graphs", graphs, 2))]
    if not jobs or not {size for size, *_ in jobs} <= set(networks.SIZES):
        raise InvalidInput(f"sizes are {list(sizes)}; one or more of: {', '.join(networks.SIZES)}.")
    tables = kept_in_parallel(measure, jobs, record, folder, cores, "graph")
    return {(size, seed): table for (size, seed, _), table in zip(jobs, tables, strict=True)}
