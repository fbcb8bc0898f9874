"""Networks that graph properties cannot tell apart, and networks that they tell apart although they
are the same.

*Scope hidden.* The masked matrix stands between two dense layers, so its units are exchangeable on
both sides: with permutation matrices P and Q the networks under M and under P M Q are one, up to
the
numbering of their hidden units. P M Q need not be isomorphic to M as a graph, nor have its
properties.

*Scope all.* Inputs are pixels, and the argument fails. Three changes of a mask then show what its
properties carry: ``relabel`` changes which channels a node holds and no graph property; ``rewire``
keeps the degree of each node alone; ``shuffle`` keeps the number of weights in each layer alone.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.datasets import Dataset
from bogp.graphs.bipartite import exchangeable_pair
from bogp.graphs.database import MaskDatabase
from bogp.graphs.relational import LayerMasks, Mask, layer_masks
from bogp.studies.claims import crossed
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol
from bogp.training.symmetries import Orders, loss_gap, losses
from bogp.variance import nested

CHANGES = ("relabelled", "rewired", "shuffled")


def blocks(sets: Mapping[str, MaskDatabase]) -> dict[str, Mask]:
    """Of the first mask of each Bernoulli set, the upper left quarter, by sparsity such as ``s =
    0.60``.
    """
    return {
        name.split(", ")[1]: masks.mask(0)[: masks.spec.n // 2, : masks.spec.n // 2]
        for name, masks in sets.items()
        if name.startswith("bernoulli")
    }


def twins(
    blocks: Mapping[str, Mask], protocol: Protocol, dataset: Dataset, steps: int = 50, seed: int = 0
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Train the exchangeable pair of each block from renumbered starts, and, as a control, from the
    same start.

    Args:
        blocks: symmetric (n, n) masks A by name.
        protocol: with two hidden layers of 2n units.
        dataset, seed: as in ``symmetries.losses``.
        steps: of a training.

    Returns:
        The evidence of claim 4, one row a block: ``case``, ``difference`` (``loss_gap`` from
        renumbered starts), ``same_start`` (from the same start) and ``n`` (losses compared); and
        the (2, steps) losses of the first block from renumbered starts.
    """
    short = replace(protocol, name="twins", steps=steps)

    def both_starts(block: Mask) -> list[NDArray[np.float64]]:
        masks = [(None, mask, None) for mask in exchangeable_pair(block)]
        as_is: Orders = [None] * 4
        swapped: Orders = [None, None, np.roll(np.arange(2 * len(block)), len(block)), None]
        return [losses(masks, [as_is, second], short, dataset, seed) for second in (swapped, as_is)]

    curves = {case: both_starts(block) for case, block in blocks.items()}
    rows = [(case, *map(loss_gap, both), steps) for case, both in curves.items()]
    table = pd.DataFrame(rows, columns=["case", "difference", "same_start", "n"])
    return table, next(iter(curves.values()))[0]


def relabel(mask: Mask, rng: np.random.Generator) -> Mask:
    """The same graph with its nodes numbered anew: every graph property stays (``cycle_length`` is
    none).
    """
    order = rng.permutation(len(mask))
    return mask[np.ix_(order, order)]


def rewire(mask: Mask, rng: np.random.Generator, swaps_per_edge: int = 10) -> Mask:
    """Double edge swaps: two edges a-b, c-d become a-d, c-b where neither exists; each node keeps
    its degree and its self-loop (Maslov & Sneppen 2002).

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
    """Each layer's mask with its entries in random order: as many weights in each layer, and no
    graph.
    """
    return tuple(None if m is None else rng.permutation(m.ravel()).reshape(m.shape) for m in layers)


def changed(mask: Mask, change: str, protocol: Protocol, rng: np.random.Generator) -> LayerMasks:
    """A changed version of a mask, laid over the protocol's layers; the change is one of
    ``CHANGES``.
    """
    if change == "shuffled":
        return shuffle(layer_masks(mask, protocol.widths, protocol.masked_layers), rng)
    graph = {"relabelled": relabel, "rewired": rewire}[change](mask, rng)
    return layer_masks(graph, protocol.widths, protocol.masked_layers)


def variants(masks: Mask, change: str, versions: int, protocol: Protocol) -> list[LayerMasks]:
    """Layer masks of changed versions of each mask, mask after mask; version v of mask i is drawn
    from (i, v) alone.
    """
    return [
        changed(mask, change, protocol, rng_of(change, i, version))
        for i, mask in enumerate(masks)
        for version in range(versions)
    ]


def rng_of(change: str, index: int, version: int) -> np.random.Generator:
    """Randomness of one version: it depends on nothing else, so that what was trained once is drawn
    again.
    """
    return np.random.default_rng(
        np.random.SeedSequence(index, spawn_key=(6, CHANGES.index(change), version))
    )


def train(
    database: MaskDatabase,
    each: int,
    versions: int,
    seeds: int,
    protocol: Protocol,
    dataset: str,
    evaluator: Evaluator,
) -> pd.DataFrame:
    """Train versions of graphs, changed in each way of ``CHANGES``, from each seed.

    Args:
        database: graphs of several families, from ``crossed.mixture``.
        each: how many of each family, the first ones.
        versions: of each graph.
        seeds, protocol, dataset, evaluator: as in ``crossed.train``.

    Returns:
        One row a training, change after change: the columns of ``crossed.train`` (``mask`` counts
        the versions), ``change``, ``graph`` (its number) and ``version``.
    """
    masks, how = crossed.first_of_each(database, each).masks(), (protocol, dataset, evaluator)
    found = [
        crossed.train_layers(variants(masks, change, versions, protocol), seeds, *how).assign(
            change=change
        )
        for change in CHANGES
    ]
    rows = pd.concat(found, ignore_index=True)
    return rows.assign(graph=rows["mask"] // versions, version=rows["mask"] % versions)


def parts(trainings: pd.DataFrame) -> pd.DataFrame:
    """What of the test accuracy belongs to the graph, to the version of it, and to neither, for
    each change.

    Args:
        trainings: from ``train``.

    Returns:
        Rows of ``change``, ``graphs``, ``versions``, ``seeds`` (their numbers), ``mean``, ``part``
        (``graphs``, ``versions`` within a graph, ``residual``: standard deviations; ``share``: of
        the graph in the variance of graph and version), ``value``, ``low``, ``high`` (95 %), and
        ``p`` of the F test (graphs against versions, versions against the residual).
    """
    rows = []
    for change, one in trainings.groupby("change", sort=False):
        shape = (one["graph"].nunique(), one["version"].nunique(), -1)
        ordered = one.sort_values(["graph", "version", "seed"])["test_accuracy"]
        values = ordered.to_numpy().reshape(shape)
        found = nested(values)
        labels = {
            "change": change,
            "graphs": found.graphs,
            "versions": found.versions,
            "seeds": found.seeds,
            "mean": float(values.mean()),
        }
        named = {
            "graphs": (found.between_graphs, found.p_graphs),
            "versions": (found.between_versions, found.p_versions),
            "residual": (found.residual, np.nan),
            "share": (found.share, np.nan),
        }
        rows += [
            labels | {"part": part} | vars(estimate) | {"p": p}
            for part, (estimate, p) in named.items()
        ]
    return pd.DataFrame(rows)
