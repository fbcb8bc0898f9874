"""The example of notebook 07, to copy and change: everything here could be yours.

A small convolutional network and its training, in plain torch that knows nothing of masks; a mask
family, a property of masks, and a search method.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import prune

from bogp import paths
from bogp.checks import number, whole
from bogp.datasets import Dataset
from bogp.errors import InvalidInput
from bogp.graphs import database
from bogp.graphs.database import MaskDatabase
from bogp.graphs.families import Family
from bogp.graphs.relational import Mask
from bogp.search.searchers import FRESH_SEED, Proposal, SearchSettings, unit_values

COLUMNS = ("clustering", "eigenvector_centrality", "degree_spread")  # properties to search
LAYERS = ("conv2", "fc1")  # conv1 has one input channel and fc2 is the output: both stay dense


def make_model() -> nn.Sequential:
    """A new network: two convolutions and two linear layers."""
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(1, 16, 5, stride=3),
        "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(16, 32, 3, stride=2, padding=1),
        "relu2": nn.ReLU(),
        "flat": nn.Flatten(),
        "fc1": nn.Linear(512, 64),
        "relu3": nn.ReLU(),
        "fc2": nn.Linear(64, 10),
    }
    return nn.Sequential(OrderedDict(layers))


@dataclass(frozen=True)
class Task:
    """What networks are trained for, and how.

    Attributes:
        data: images and their classes.
        steps: of Adam.
        batch_size: images a step, drawn with replacement.
        learning_rate: of Adam.
    """

    data: Dataset
    steps: int
    batch_size: int
    learning_rate: float

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("batch_size", self.batch_size, 1)
        if not 0 < number("learning_rate", self.learning_rate) < np.inf:
            raise InvalidInput(
                f"learning_rate is {self.learning_rate}; it must be positive and finite."
            )

    @property
    def settings(self) -> dict[str, object]:
        """What scores depend on beside mask, seed and network."""
        return {
            "data": self.data.checksum,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
        }

    @cached_property
    def tensors(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Images (N, 1, 28, 28) in [0, 1] and classes (N,) of each part of the data."""
        parts = {name: getattr(self.data, name) for name in ("train", "validation", "test")}
        return {
            name: (
                torch.from_numpy(part.images).reshape(-1, 1, 28, 28) / 255,
                torch.from_numpy(part.labels).long(),
            )
            for name, part in parts.items()
        }

    def train(self, model: nn.Module, seed: int, steps: int | None = None) -> None:
        """Train in place; the seed chooses the batches."""
        images, labels = self.tensors["train"]
        optimiser = torch.optim.Adam(model.parameters(), lr=self.learning_rate)
        size = (self.steps if steps is None else steps, self.batch_size)
        rng = torch.Generator().manual_seed(seed)
        for batch in torch.randint(len(labels), size, generator=rng):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()

    def accuracy(self, model: nn.Module, part: str) -> float:
        """Share of the images of a part that are told right."""
        images, labels = self.tensors[part]
        with torch.no_grad():
            return (model(images).argmax(1) == labels).double().mean().item()

    def score(self, model: nn.Module, seed: int, part: str) -> float:
        """Train, then measure."""
        self.train(model, seed)
        return self.accuracy(model, part)

    def magnitude_score(self, model: nn.Module, seed: int, removed: float) -> float:
        """Test accuracy where half of the training is before the smallest weights are removed."""
        self.train(model, seed, self.steps - self.steps // 2)
        weights = [(model.get_submodule(name), "weight") for name in LAYERS]
        prune.global_unstructured(weights, prune.L1Unstructured, amount=removed)
        self.train(model, seed, self.steps // 2)
        return self.accuracy(model, "test")


def design(
    task: Task,
    dataset: str,
    nodes: int,
    sparsity: float,
    masks: int,
    settings: SearchSettings,
    searches: int,
) -> dict[str, object]:
    """What the tables depend on, to be written beside them."""
    return task.settings | {
        "dataset": dataset,
        "nodes": nodes,
        "sparsity": sparsity,
        "masks": masks,
        "family": "unequal",
        "layers": LAYERS,
        "search": vars(settings),
        "searches": searches,
    }


def without_search(
    task: Task, removed: float, searches: int, seeds: int
) -> list[dict[str, object]]:
    """Test accuracy of networks that need no search, on the fresh seeds of each search.

    Args:
        task: that they are trained for.
        removed: share of the weights of ``LAYERS`` that magnitude pruning removes.
        searches: how many searches are compared with.
        seeds: fresh seeds of each search.
    """
    scores = {
        "unpruned": lambda model, seed: task.score(model, seed, "test"),
        "magnitude": lambda model, seed: task.magnitude_score(model, seed, removed),
    }

    def model_of(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)  # the same initial weights as under a mask
        return make_model()

    first = range(FRESH_SEED, FRESH_SEED + searches * seeds, seeds)
    return [
        {
            "method": method,
            "search_seed": k,
            "fresh": np.mean([score(model_of(s), s) for s in range(seed, seed + seeds)]),
        }
        for method, score in scores.items()
        for k, seed in enumerate(first)
    ]


def unequal(n: int, sparsity: float, rng: np.random.Generator) -> Mask:
    """A mask family: nodes differ in attraction, from nearly equal to a few hubs.

    Each pair of nodes draws a ticket that favours attractive nodes; the largest ones win an edge,
    so that all masks of one sparsity have nearly the same number of edges.
    """
    attraction = rng.random(n) ** rng.uniform(0, 3)
    tickets = np.triu(rng.random((n, n)) ** (1 / np.outer(attraction, attraction)))
    tickets = np.maximum(tickets, tickets.T)
    return tickets > np.quantile(tickets, sparsity)


def degree_spread(mask: Mask) -> float:
    """A property: how unequal the nodes are, as the standard deviation of their degrees."""
    return float(mask.sum(axis=0).std())


def masks_of(family: str, nodes: int, sparsity: float, count: int) -> MaskDatabase:
    """A database of ``unequal`` or ``bernoulli`` masks with ``degree_spread``, built if need be."""
    sampler: Family | None = unequal if family == "unequal" else None
    folder = paths.database_dir(f"own-{family}-n{nodes}-s{sparsity:g}-{count}")
    spec = database.DatabaseSpec((sparsity,), count, nodes, family)
    built = database.build(spec, folder, workers=1, sampler=sampler)
    return built.with_property("degree_spread", degree_spread)


class Climb:
    """A search method: some masks at random, then the untried one nearest to the best so far.

    It reads nothing but its seed and what it was told, so that an interrupted search can be
    repeated from recorded scores.
    """

    name = "climb"

    def __init__(self, masks: MaskDatabase, settings: SearchSettings, seed: int) -> None:
        self.seed, self.budget, self.told = seed, settings.budget, list[float]()
        self.values: NDArray[np.float64] = unit_values(masks, settings.columns)
        rng = np.random.default_rng(seed)
        self.rows = rng.choice(len(masks), settings.n_initial, replace=False).tolist()

    def ask(self) -> list[Proposal]:
        """All random masks at once, then one mask a round."""
        if self.told and len(self.told) < self.budget:
            best = self.values[self.rows[np.argmax(self.told)]]
            distance = np.linalg.norm(self.values - best, axis=1)
            distance[self.rows] = np.inf
            self.rows.append(int(np.argmin(distance)))
        return [Proposal(row, "climb", {}) for row in self.rows[len(self.told) :]]

    def tell(self, scores: Sequence[float]) -> None:
        """Remember the scores."""
        self.told += scores
