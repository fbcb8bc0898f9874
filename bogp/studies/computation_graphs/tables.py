"""Notebook 10 in tables: graphs, scores of their edges, removals carried out, and the answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from bogp.structural import surgery
from bogp.structural.gates import Examples, cross_entropy
from bogp.structural.graph import ComputationGraph
from bogp.studies.computation_graphs.measure import difference
from bogp.zoo import tasks

Graphs = Mapping[str, ComputationGraph]
FAITHFUL, EQUAL = 1e-6, 1e-5  # limits of the two rules: largest relative differences


def captured(graphs: Graphs, held: Mapping[str, Examples]) -> pd.DataFrame:
    """The size of each graph, and how far its network with all gates open is from the model.

    Args:
        graphs: by network.
        held: examples that the graphs were not captured with.

    Returns:
        ``network``, ``parameters``, ``vertices``, ``edges``, ``candidates``, ``difference``.
    """
    return pd.DataFrame(
        {
            "network": name,
            "parameters": sum(p.numel() for p in graph.module.parameters()),
            "vertices": len(graph.vertices),
            "edges": len(graph.edges),
            "candidates": len(graph.candidates),
            "difference": difference(graph, graph.without([]), graph.module, held[name].inputs),
        }
        for name, graph in graphs.items()
    )


def scored(graphs: Graphs, scores: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Each candidate edge by the vertices that it links, and the change of the loss without it.

    Returns:
        ``network``, ``edge``, ``source``, ``target``, ``change`` (nats).
    """
    return pd.DataFrame(
        {
            "network": name,
            "edge": edge,
            "source": graph.vertices[graph.edges[edge].source].name,
            "target": graph.vertices[graph.edges[edge].target].name,
            "change": change,
        }
        for name, graph in graphs.items()
        for edge, change in zip(graph.candidates, scores[name], strict=True)
    )


def pruned(
    graphs: Graphs,
    masks: Mapping[str, NDArray[np.bool_]],
    smaller: Mapping[str, nn.Module],
    held: Mapping[str, Examples],
) -> pd.DataFrame:
    """Networks before and after a removal that was carried out.

    Args:
        graphs: by network.
        masks: what was removed.
        smaller: the networks without it.
        held: test examples.

    Returns:
        ``network``, ``edges_removed``, ``difference`` (of the smaller network's outputs from those
        under the mask), and before and after ``parameters``, ``flops`` (of one example), ``loss``.
    """

    def sized(module: nn.Module, some: Examples, when: str) -> dict[str, float]:
        cost = surgery.cost(module, some.part(slice(0, 1)).inputs, seconds=0.01)
        return {
            f"parameters_{when}": cost.parameters,
            f"flops_{when}": cost.flops,
            f"loss_{when}": float(tasks.measure(module, some, [cross_entropy])[0]),
        }

    return pd.DataFrame(
        {
            "network": name,
            "edges_removed": int((~masks[name]).sum()),
            "difference": difference(graph, masks[name], smaller[name], held[name].inputs),
        }
        | sized(graph.module, held[name], "before")
        | sized(smaller[name], held[name], "after")
        for name, graph in graphs.items()
    )


def latency(
    graphs: Graphs, smaller: Mapping[str, nn.Module], held: Mapping[str, Examples], images: int = 32
) -> pd.DataFrame:
    """Median time of a forward pass on one thread, ms: ``network``, ``before``, ``after``."""

    def ms(module: nn.Module, name: str) -> float:
        return 1e3 * surgery.cost(module, held[name].part(slice(0, images)).inputs).latency

    return pd.DataFrame(
        {"network": name, "before": ms(graph.module, name), "after": ms(smaller[name], name)}
        for name, graph in graphs.items()
    )


def savings(removals: pd.DataFrame) -> pd.DataFrame:
    """The shares of ``parameters`` and ``operations`` that a removal saves, by network; from
    ``pruned``.
    """
    one = removals.set_index("network")
    return 1 - pd.DataFrame(
        {
            "parameters": one["parameters_after"] / one["parameters_before"],
            "operations": one["flops_after"] / one["flops_before"],
        }
    )


def answer(graphs: pd.DataFrame, removals: pd.DataFrame) -> str:
    """The answer to the notebook's question in words, by its two rules.

    Args:
        graphs: from ``captured``.
        removals: from ``pruned``.
    """
    faithful, equal = graphs["difference"] <= FAITHFUL, removals["difference"] <= EQUAL
    saved = savings(removals)["operations"]
    return (
        f"Captured graphs of {len(graphs)} networks have {graphs['edges'].min()} to "
        f"{graphs['edges'].max()} edges and compute what the networks do in {faithful.sum()} of "
        f"{len(graphs)} cases (relative difference at most {FAITHFUL:g}). A removed edge gives its "
        f"consumer zeros; the network that is left equals the masked one in {equal.sum()} of "
        f"{len(removals)} cases (at most {EQUAL:g}), with {saved.min():.0%} to "
        f"{saved.max():.0%} fewer "
        f"operations for {removals['edges_removed'].max()} edges."
    )
