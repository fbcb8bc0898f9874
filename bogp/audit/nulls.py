"""Networks that graph properties cannot tell apart, and networks that they tell apart although they are the same.

*Scope hidden.* The masked matrix stands between two dense layers, so its units are exchangeable on both sides: with permutation matrices P and Q the
networks under M and under P M Q are one, up to the numbering of their hidden units. P M Q need not be isomorphic to M as a graph, nor have its properties.

*Scope all.* Inputs are pixels, and the argument fails. Three changes of a mask then show what its properties carry: ``relabel`` changes which channels a
node holds and no graph property; ``rewire`` keeps the degree of each node alone; ``shuffle`` keeps the number of weights in each layer alone.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.audit import crossed
from bogp.database import MaskDatabase
from bogp.errors import InvalidInput
from bogp.evaluation import Evaluator
from bogp.protocols import Protocol
from bogp.relational import LayerMasks, Mask, layer_masks


def exchangeable_pair(mask: Mask) -> tuple[Mask, Mask]:
    """Two masks of one network: I (x) A and X (x) A with X = [[0, 1], [1, 0]], which is the first with two halves of its rows swapped.

    The first graph is two copies of A and disconnected; the second is connected if A's is and has an odd cycle, and has no triangle, for it is bipartite.

    Args:
        mask: A, (n, n).

    Returns:
        Two symmetric (2n, 2n) masks.
    """
    return np.kron(np.eye(2, dtype=bool), mask), np.kron(~np.eye(2, dtype=bool), mask)


def relabel(mask: Mask, rng: np.random.Generator) -> Mask:
    """The same graph with its nodes numbered anew: every graph property stays (``cycle_length`` is none)."""
    order = rng.permutation(len(mask))
    return mask[np.ix_(order, order)]


def rewire(mask: Mask, rng: np.random.Generator, swaps_per_edge: int = 10) -> Mask:
    """Double edge swaps: two edges a-b, c-d become a-d, c-b where neither exists; each node keeps its degree and its self-loop (Maslov & Sneppen 2002).

    Args:
        mask: (n, n).
        rng: source of randomness.
        swaps_per_edge: attempted swaps, times the number of edges.
    """
    adjacency = mask.copy()
    edges = np.argwhere(np.triu(mask, 1))
    if len(edges) < 2:
        return adjacency
    for _ in range(swaps_per_edge * len(edges)):
        i, j = rng.integers(len(edges)), rng.integers(len(edges))
        (a, b), (c, d) = edges[i], edges[j] if rng.random() < 0.5 else edges[j][::-1]
        if len({a, b, c, d}) < 4 or adjacency[a, d] or adjacency[c, b]:
            continue
        for x, y, value in ((a, b, False), (c, d, False), (a, d, True), (c, b, True)):
            adjacency[x, y] = adjacency[y, x] = value
        edges[i], edges[j] = (a, d), (c, b)
    return adjacency


def shuffle(layers: LayerMasks, rng: np.random.Generator) -> LayerMasks:
    """Each layer's mask with its entries in random order: as many weights in each layer, and no graph."""
    return tuple(None if m is None else rng.permutation(m.ravel()).reshape(m.shape) for m in layers)


def _relabelled(mask: Mask, protocol: Protocol, rng: np.random.Generator) -> LayerMasks:
    return layer_masks(relabel(mask, rng), protocol.widths, protocol.masked_layers)


def _rewired(mask: Mask, protocol: Protocol, rng: np.random.Generator) -> LayerMasks:
    return layer_masks(rewire(mask, rng), protocol.widths, protocol.masked_layers)


def _shuffled(mask: Mask, protocol: Protocol, rng: np.random.Generator) -> LayerMasks:
    return shuffle(layer_masks(mask, protocol.widths, protocol.masked_layers), rng)


CHANGES: dict[str, Callable[[Mask, Protocol, np.random.Generator], LayerMasks]] = {
    "relabelled": _relabelled,
    "rewired": _rewired,
    "shuffled": _shuffled,
}


def variants(masks: Mask, change: str, versions: int, protocol: Protocol) -> list[LayerMasks]:
    """Layer masks of changed versions of each mask, mask after mask; version v of mask i is drawn from (i, v) alone.

    Raises:
        InvalidInput: an unknown change.
    """
    if change not in CHANGES:
        raise InvalidInput(f"There is no change {change!r}; there are: {', '.join(CHANGES)}.")
    key = list(CHANGES).index(change)
    return [
        CHANGES[change](mask, protocol, np.random.default_rng(np.random.SeedSequence(i, spawn_key=(6, key, version))))
        for i, mask in enumerate(masks)
        for version in range(versions)
    ]


def train(
    database: MaskDatabase, change: str, versions: int, seeds: int, protocol: Protocol, dataset: str, evaluator: Evaluator
) -> pd.DataFrame:
    """Train changed versions of each mask from each seed.

    Args:
        database: the masks.
        change: ``relabelled``, ``rewired`` or ``shuffled``.
        versions: of each mask.
        seeds, protocol, dataset, evaluator: as in ``crossed.train``.

    Returns:
        One row a training: ``change``, ``graph`` (the mask's number), ``version``, and the columns of ``crossed.train`` (``mask`` counts the versions).
    """
    rows = crossed.train_layers(variants(database.masks(), change, versions, protocol), seeds, protocol, dataset, evaluator)
    return rows.assign(change=change, graph=rows["mask"] // versions, version=rows["mask"] % versions)


def numbering(index: int, n: int) -> NDArray[np.intp]:
    """The order that version 0 of ``relabelled`` gives the nodes of mask ``index``."""
    return np.random.default_rng(np.random.SeedSequence(index, spawn_key=(6, 0, 0))).permutation(n)
