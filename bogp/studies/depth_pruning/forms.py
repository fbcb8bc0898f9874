"""Other forms of flow, asked for the same sets of blocks: which of its choices matter.

One *unit* is a trained network of one seed. A form reads the examples that flow reads in
``subsets`` and predicts the sets whose losses are measured there; nothing is measured anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bogp import structural, zoo
from bogp.records import kept_in_parallel
from bogp.structural import ComputationGraph, flow
from bogp.structural.graph import edge_values
from bogp.structural.traced.nodes import Inputs
from bogp.studies.depth_pruning.measure import task_of
from bogp.studies.depth_pruning.subsets import Sets, fresh, masks_of, record_of_sets, set_names

Floats = NDArray[np.float64]
FORMS = {
    "flow": "flow",
    "without_means": "without the means of channels",
    "signal": "signal alone",
    "noise_as_signal": "noise passes layers as the signal does",
    "noise_independent": "noise passes layers as if independent",
    "shares": "shares along paths: projections",
    "centred": "shares along paths: projections, centred",
    "energies": "shares along paths: energies",
}


def predictions(graph: ComputationGraph, masks: NDArray[np.bool_], inputs: Inputs) -> pd.DataFrame:
    """What each form says of masks; larger is worse.

    Args:
        graph: of the network.
        masks: (M, E), True where an edge stays.
        inputs: examples that it is run on.

    Returns:
        (M, forms), in the order of ``FORMS``.
    """
    model = flow.flow_model(graph, inputs)
    outputs = model.moments(masks).values()
    signal = sum(((1 - one.signal) ** 2).numpy() for one in outputs)
    found = {
        "flow": model.change(masks),
        "without_means": signal + sum(one.noise.numpy() for one in outputs),
        "signal": signal,
        "noise_as_signal": flow.flow_model(graph, inputs, noise_gain=0).change(masks),
        "noise_independent": flow.flow_model(graph, inputs, noise_gain=1).change(masks),
    }
    weights = {
        "shares": flow.shares(graph, inputs),
        "centred": weights_of(graph, inputs, lambda part, whole: _centred(part) * _centred(whole)),
        "energies": weights_of(graph, inputs, lambda part, _: part.square()),
    }
    found |= {name: 1 - flow.path_flow(graph, masks, one) for name, one in weights.items()}
    return pd.DataFrame(found)[list(FORMS)]


def weights_of(
    graph: ComputationGraph, inputs: Inputs, size: Callable[[Tensor, Tensor], Tensor]
) -> Floats:
    """(E,) of each edge into a sum its size over that of all, else 1: ``flow.shares`` with another
    size, for networks whose sums have no signs.

    Args:
        graph: of the network.
        inputs: that it is run on, once.
        size: of a term, from it and the sum; its entries are added up.
    """
    with torch.inference_mode():
        values = edge_values(graph, inputs)
    found = np.ones(len(graph.edges))
    for vertex in graph.vertices:
        into = [edge for edge in graph.edges if edge.target == vertex.index]
        if vertex.kind == "sum":
            parts = [values[edge.producer].double() for edge in into]
            whole = sum(parts[1:], parts[0])
            sizes = np.array([float(size(part, whole).sum()) for part in parts])
            found[[edge.index for edge in into]] = sizes / sizes.sum()
    return found


def _centred(value: Tensor) -> Tensor:
    """A value less the mean of each channel, which is the second axis of images, the last of
    tokens.
    """
    channel = 1 if value.dim() == 4 else value.dim() - 1
    others = [axis for axis in range(value.dim()) if axis != channel]
    return value - value.mean(dim=others, keepdim=True)


def unit(sets: Sets, seed: int) -> pd.DataFrame:
    """What each form says of the sets of blocks of one trained network.

    Returns:
        A row a set: ``network``, ``seed``, ``blocks`` (as in ``subsets.unit``), and each of
        ``FORMS``.

    Raises:
        InvalidInput, DatasetError: as ``subsets.unit``.
    """
    study = sets.study
    model, task = zoo.trained(study.network, seed), task_of(study)
    graph = structural.capture(model, task.train.part(slice(4)).inputs, level="blocks")
    calibration, _ = fresh(study, task)
    masks = masks_of(graph, sets.most)
    who = {"network": study.network, "seed": seed, "blocks": set_names(graph, masks)}
    return pd.DataFrame(who).join(predictions(graph, masks, calibration.inputs))


def record(sets: Sets, seed: int) -> tuple[str, dict[str, Any]]:
    """The file that a unit is kept in, and the parameters by which it is found again."""
    name = f"forms-{sets.study.network}-{seed}.csv.gz"
    return name, record_of_sets(sets, seed) | {"forms": list(FORMS)}


def predicted(
    kinds: Sequence[Sets], seeds: int, measured: pd.DataFrame, folder: Path, cores: int = 1
) -> pd.DataFrame:
    """The units of some networks beside the measured losses.

    Args:
        kinds: of each network, which sets.
        seeds: of each, 0 to seeds - 1.
        measured: from ``subsets.measured``, of the same.
        folder: of the records.
        cores: units at the same time; the numbers do not depend on it.

    Returns:
        Long table: ``network``, ``seed``, ``blocks``, ``number``, ``change``, and each of
        ``FORMS``.
    """
    jobs = [(sets, seed) for sets in kinds for seed in range(seeds)]
    tables = kept_in_parallel(unit, jobs, record, folder, cores, "network")
    keys = ["network", "seed", "blocks"]
    truth = measured[[*keys, "number", "change"]]
    return truth.merge(pd.concat(tables, ignore_index=True), on=keys, validate="1:1")
