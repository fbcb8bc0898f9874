"""The same for attention: one graph on all that reads and writes the stream of a small transformer.

Node i of the graph is feature i of the stream, and the units that belong to it in each layer: in
queries, keys and values feature i is read by the nodes that it is joined to, and heads share the
nodes in order; the layer behind the heads, and both layers of the perceptron (each node has as many
of its units), are masked alike. What a mask removes stays zero (``torch.nn.utils.prune``). The
heads group nodes, so a renumbering is a symmetry only where it keeps their groups.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.utils import prune

from bogp import parallel
from bogp.graphs.relational import Mask, expand
from bogp.records import kept_in_parallel
from bogp.studies.residual_stream.measure import first_alike, graph
from bogp.zoo import tasks
from bogp.zoo.networks import Transformer, TransformerBlock
from bogp.zoo.tasks import Task

WIDTH, HEADS, BLOCKS = 64, 4, 3


def masked(model: Transformer, mask: Mask) -> Transformer:
    """Put a graph on every block of a transformer, in place.

    Args:
        model: of width n, with heads that share it.
        mask: (n, n), symmetric.
    """
    for block in model.blocks:
        assert isinstance(block, TransformerBlock)
        heads = len(block.joins)
        rows = np.split(mask, heads)
        for read in (block.queries, block.keys, block.values):
            for layer, part in zip(read, rows, strict=True):
                _masked(layer, part)
        for layer, part in zip(block.joins, np.split(mask, heads, axis=1), strict=True):
            _masked(layer, part)
        first, second = block.mlp[0], block.mlp[2]
        n, units = len(mask), 4 * len(mask)
        _masked(first, expand(mask, n, units))
        _masked(second, expand(mask, units, n))
    return model


def _masked(layer: nn.Module, mask: Mask) -> None:
    prune.custom_from_mask(layer, "weight", torch.from_numpy(np.ascontiguousarray(mask)).float())


def trained(
    mask: Mask, task: Task, embeddings: str, seed: int, epochs: int, pieces: int
) -> dict[str, float]:
    """Train a transformer under a graph.

    Args:
        mask: (64, 64).
        task: of text.
        embeddings: ``fixed`` at their random start (the head, which is tied to them, too), or
            ``trained``.
        seed: of weights and batches.
        epochs: over the pieces.
        pieces: of text to learn from, the first.

    Returns:
        ``loss`` (nats a character) and ``accuracy`` on test pieces.
    """
    with parallel.one_thread():
        torch.manual_seed(seed)
        model = Transformer(task.outputs, task.train.inputs[0].shape[1], WIDTH, HEADS, BLOCKS)
        if embeddings == "fixed":
            # as large as a trained one: at its start, a tied head says next to nothing
            nn.init.normal_(model.embedding.weight, std=WIDTH**-0.5)
            model.embedding.weight.requires_grad_(False)
            model.position.requires_grad_(False)
        masked(model, mask)
        some = task.train.part(slice(0, pieces))
        tasks.train(model, some, task.loss, epochs=epochs, seed=seed)
        loss, accuracy = tasks.measure(model, task.test, [task.loss, task.accuracy])
    return {"loss": float(loss), "accuracy": float(accuracy)}


def unit(
    family: str, number: int, degree: int, embeddings: str, text: str, size: tuple[int, int, int]
) -> pd.DataFrame:
    """One graph, trained from each seed.

    Args:
        family, number, degree: of the graph (``measure.graph``).
        embeddings: as in ``trained``.
        text: name of the task.
        size: seeds, epochs and pieces.

    Returns:
        ``family``, ``graph``, ``seed``, ``embeddings``, ``loss``, ``test_accuracy``.
    """
    seeds, epochs, pieces = size
    mask, task = graph(family, degree, number, WIDTH), tasks.load(text)
    rows = []
    for seed in range(seeds):
        found = trained(mask, task, embeddings, seed, epochs, pieces)
        labels = {"family": family, "graph": number, "seed": seed, "embeddings": embeddings}
        rows.append(labels | {"loss": found["loss"], "test_accuracy": found["accuracy"]})
    return pd.DataFrame(rows)


def _record(
    family: str, number: int, degree: int, embeddings: str, text: str, size: tuple[int, int, int]
) -> tuple[str, dict[str, object]]:
    named = family.replace(" ", "_").replace(".", "")
    parameters = {
        "family": family,
        "graph": number,
        "degree": degree,
        "embeddings": embeddings,
        "text": text,
        "size": list(size),
        "network": [WIDTH, HEADS, BLOCKS],
    }
    return f"transformer_{embeddings}_{named}_{number}.csv.gz", parameters


def rows(
    families: Sequence[str],
    graphs: int,
    degree: int,
    text: str,
    size: tuple[int, int, int],
    folder: Path,
    cores: int,
) -> pd.DataFrame:
    """Graphs of several families in turn, with fixed and with trained embeddings.

    Args:
        families: of ``designs.FAMILIES``.
        graphs: in all.
        degree, text, size: as in ``unit``.
        folder: where each graph's table is kept.
        cores: processes at work.

    Returns:
        The rows of ``unit``, with ``mask``, the graph's number among all: that of the first that is
        the same.
    """
    chosen = [(families[k % len(families)], k // len(families)) for k in range(graphs)]
    jobs = [
        (family, number, degree, embeddings, text, size)
        for embeddings in ("fixed", "trained")
        for family, number in chosen
    ]
    tables = kept_in_parallel(unit, jobs, _record, folder, cores, "graph")
    masks = first_alike([graph(family, degree, k, WIDTH) for family, k in chosen])
    return pd.concat(
        [table.assign(mask=masks[k % graphs]) for k, table in enumerate(tables)], ignore_index=True
    )
