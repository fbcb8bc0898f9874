"""Notebook 10 measured: four small networks, their graphs, and removals that are carried out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from bogp.datasets import Split
from bogp.structural.gates import Examples, cross_entropy
from bogp.structural.graph import ComputationGraph
from bogp.zoo import capture_cases, networks


def models(seed: int) -> dict[str, nn.Module]:
    """Four networks, untrained, small enough for two cores, each with another kind of branches."""
    torch.manual_seed(seed)
    return {
        "random graph": networks.RandomDag(networks.random_parents("20-40", seed), 784, 32, 10),
        "residual": networks.Residual(10, (8, 16, 24), channels=1),
        "inception": networks.Inception(10, channels=1),
        "transformer": networks.Transformer(16, 48, 24, 2, 2),
    }


def examples(name: str, part: Split) -> Examples:
    """Images as one of ``models`` reads them.

    The transformer reads an image as 49 tokens, the grey level (16 of them) of each block of 4 x 4
    pixels, and predicts the next from those before. The random graph reads rows of pixels.
    """
    images, labels = torch.from_numpy(part.images).float() / 255, torch.from_numpy(part.labels)
    squares = images.view(-1, 1, 28, 28)
    if name == "transformer":
        tokens = (functional.avg_pool2d(squares, 4).flatten(1) * 15.99).long()
        return Examples((tokens[:, :-1],), tokens[:, 1:])
    return Examples((images if name == "random graph" else squares,), labels.long())


def train(
    model: nn.Module, some: Examples, *, steps: int, batch: int, rate: float, seed: int
) -> nn.Module:
    """Train by Adam on batches that are drawn with replacement; the model itself, in evaluation
    mode.
    """
    optimiser = torch.optim.Adam(model.parameters(), rate)
    rng = torch.Generator().manual_seed(seed)
    for rows in torch.randint(len(some), (steps, batch), generator=rng):
        part = some.part(rows)
        optimiser.zero_grad()
        cross_entropy(model(*part.inputs), part.targets).mean().backward()
        optimiser.step()
    return model.eval()


@torch.no_grad()
def difference(
    graph: ComputationGraph, mask: ArrayLike, module: nn.Module, inputs: tuple[Tensor, ...]
) -> float:
    """The largest difference between a module's outputs and those of the graph under a mask.

    Returns:
        It in units of the largest output of the module, or of 1 where that is smaller.
    """
    gates = torch.as_tensor(graph.gates(mask)[0], dtype=torch.float32)
    masked = graph.gated(gates, None, *inputs)
    return capture_cases.difference(module(*inputs), masked) / max(1.0, float(masked.abs().max()))


def cheapest(
    graph: ComputationGraph, scores: NDArray[np.float64], removed: int
) -> NDArray[np.bool_]:
    """The mask without the candidate edges of the lowest scores, passing over those that would
    disconnect the network.
    """
    mask = graph.without([])
    for edge in graph.candidates[np.argsort(scores)]:
        if (~mask).sum() < removed and graph.connected(mask & graph.without([edge]))[0]:
            mask[edge] = False
    return mask
