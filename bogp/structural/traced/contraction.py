"""From the nodes of a traced network to the vertices and edges of its ``ComputationGraph``."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import networkx as nx
import torch
from torch import Tensor, fx, nn

from bogp.errors import NotCapturable
from bogp.structural.graph import NOT_FLOAT, Edge, Vertex
from bogp.structural.traced.containers import close, filled, flattened, tensors_of
from bogp.structural.traced.nodes import (
    CATS,
    SUMS,
    Inputs,
    arguments,
    bypass,
    calls_of,
    node_values,
    reads_shape_only,
    results_node,
)
from bogp.structural.traced.sizes import INPUT

_TO_NUMBERS = {
    *("item", "tolist", "numpy"),
    *("aten.item.default", "aten._local_scalar_dense.default"),
}
Slots = dict[fx.Node, list[tuple[int, fx.Node]]]  # of each node: its arguments that carry data


def contracted(
    module: fx.GraphModule, values: dict[str, Any]
) -> tuple[tuple[Vertex, ...], tuple[Edge, ...]]:
    """Vertices and edges of a traced network, both in topological order.

    Args:
        module: out of place, its tuples taken apart (``tracing``).
        values: of each node, by its name, on the example inputs.

    Raises:
        NotCapturable: a tensor becomes a Python number, or several values go on as one.
    """
    data = _data_nodes(module, values)
    slots = {
        n: [(slot, a) for slot, a in enumerate(arguments(n)) if a in data]
        for n in module.graph.nodes
        if n in data
    }
    output = results_node(module)
    place = _places(slots, values, output)
    links = [(a, n, slot) for n in place for slot, a in slots[n] if place[a] != place[n]]
    groups = _ranked(place, links)
    index = {n: i for i, group in enumerate(groups) for n in group}
    vertices = [_vertex(i, group, module, slots, values) for i, group in enumerate(groups)]
    edges = [(a, n, slot, index[n]) for a, n, slot in links]
    results = arguments(output)
    for slot, a in enumerate(results):
        if a in data:
            name = "output" if len(results) == 1 else f"output {slot}"
            edges.append((a, output, slot, len(vertices)))
            vertices.append(Vertex(len(vertices), name, "output", (output.name,), ()))
    if odd := [a.name for a, *_ in edges if not isinstance(values[a.name], Tensor)]:
        raise NotCapturable(
            f"{', '.join(dict.fromkeys(odd))} hands several values at once to an operation; "
            "take the values apart first."
        )
    order = {n: i for i, n in enumerate(module.graph.nodes)}
    found: list[Edge] = []
    for a, n, slot, target in sorted(edges, key=lambda e: (e[3], order[e[1]], e[2])):
        value = values[a.name]
        why = "" if value.is_floating_point() else NOT_FLOAT
        shape = tuple(value.shape[1:])
        ends = (len(found), index[a], target, a.name, n.name, slot)
        found.append(Edge(*ends, shape, why, _branch(a, n)))
    return tuple(vertices), tuple(found)


def _branch(producer: fx.Node, consumer: fx.Node) -> str:
    """The module that makes a value for a consumer: the outermost that the consumer is not in."""
    around = set(calls_of(consumer))
    return next((call for call in calls_of(producer) if call not in around), "")


def holds_tensor(value: Any) -> bool:
    """Whether a tensor is among the leaves of a nested container."""
    return bool(tensors_of(value))


def _data_nodes(module: fx.GraphModule, values: dict[str, Any]) -> set[fx.Node]:
    """The nodes whose value depends on an input's values, not only on its shape, and on whose
    values an output depends.

    Raises:
        NotCapturable: a tensor becomes a Python number, and nobody can follow it further.
    """
    data: set[fx.Node] = set()
    for node in module.graph.nodes:
        reads = any(n in data and not reads_shape_only(node, n) for n in node.all_input_nodes)
        if reads and str(node.target) in _TO_NUMBERS:
            raise NotCapturable(
                f"{node.name} turns a tensor into Python numbers, through which no gate acts; "
                "keep it a tensor."
            )
        if (reads and holds_tensor(values[node.name])) or INPUT in node.meta:
            data.add(node)
    live: set[fx.Node] = set()  # of those whose numbers an output reads, and not only their shape
    for node in reversed(module.graph.nodes):
        if node in data and (node.op == "output" or INPUT in node.meta or live & set(node.users)):
            live.add(node)
    return live


def _places(slots: Slots, values: dict[str, Any], output: fx.Node) -> dict[fx.Node, int]:
    """The vertex of each node but the output, as a number; nodes of one vertex have the same.

    A node goes on with the vertex of its only source where both are one chain, and a sum with the
    sums among its sources, so that a long sum is one vertex. Any other node begins a vertex.
    """
    readers = {n: sum(user in slots for user in n.users) for n in slots}
    place: dict[fx.Node, int] = {}
    members: list[list[fx.Node]] = []
    for node in slots:
        if node is output or node.op == "output":
            continue
        sources = [a for _, a in slots[node]]
        joined: list[fx.Node] = []
        if len(sources) == 1 and _is_one_chain(sources[0], slots, values, readers):
            joined = sources
        elif len(sources) > 1 and _is(node, SUMS):
            alone = [s for s in sources if readers[s] == 1 and sources.count(s) == 1]
            joined = [s for s in alone if _are_sums(members[place[s]], slots)]
        homes = [place[s] for s in joined]
        members.append([*(n for home in homes for n in members[home]), node])
        place |= dict.fromkeys(members[-1], len(members) - 1)
    return place


def _is_one_chain(
    source: fx.Node, slots: Slots, values: dict[str, Any], readers: dict[fx.Node, int]
) -> bool:
    """Whether a node that reads nothing but this source goes on with the source's vertex."""
    if INPUT in source.meta:
        return False
    if not isinstance(values[source.name], Tensor):
        return True  # a tuple is no edge: what takes a part from it stays in its vertex
    tuples = [a for _, a in slots[source] if not isinstance(values[a.name], Tensor)]
    # One of several parts of a tuple ends the vertex as a value that others read would.
    return readers[source] == 1 and all(readers[a] == 1 for a in tuples)


def _are_sums(members: list[fx.Node], slots: Slots) -> bool:
    """Whether a vertex consists of sums alone, so that a sum that reads it is one longer sum."""
    return all(_is(n, SUMS) for n in members) and any(len(slots[n]) > 1 for n in members)


def _ranked(
    place: dict[fx.Node, int], links: list[tuple[fx.Node, fx.Node, int]]
) -> list[list[fx.Node]]:
    """The nodes of each vertex; vertices in topological order, else as their last nodes are."""
    members: dict[int, list[fx.Node]] = {}
    for node, at in place.items():
        members.setdefault(at, []).append(node)
    order = {node: i for i, node in enumerate(place)}
    graph = nx.DiGraph([(place[a], place[n]) for a, n, _ in links])
    graph.add_nodes_from(members)
    ranked = nx.lexicographical_topological_sort(graph, key=lambda m: order[members[m][-1]])
    return [members[m] for m in ranked]


def _vertex(
    index: int,
    group: list[fx.Node],
    module: fx.GraphModule,
    slots: Slots,
    values: dict[str, Any],
) -> Vertex:
    kinds = (_kind(n, len(slots[n])) for n in group)
    kind = next((k for k in kinds if k != "chain"), "chain")
    names = [kind] if kind == "sum" else []
    parameters: dict[str, None] = {}
    for n in group:
        target = str(n.target)
        if n.op == "call_module":
            layer = module.get_submodule(target)
            parameters |= {f"{target}.{name}": None for name, _ in layer.named_parameters()}
            names.append(target)
        elif n.target is not operator.getitem and not (_is(n, SUMS) and kind == "sum"):
            names.append(n.name)
        for a in n.all_input_nodes:
            if a.op == "get_attr" and isinstance(values[a.name], nn.Parameter):
                parameters[str(a.target)] = None
    title = " + ".join(names) or kind
    return Vertex(index, title, kind, tuple(n.name for n in group), tuple(parameters))


def _is(node: fx.Node, targets: set[Any]) -> bool:
    return node.op in ("call_function", "call_method") and node.target in targets


def _kind(node: fx.Node, sources: int) -> str:
    if INPUT in node.meta:
        return "input"
    if sources == 1:
        return "chain"
    return "sum" if _is(node, SUMS | {bypass}) else "cat" if _is(node, CATS) else "product"


def is_batched(module: fx.GraphModule, inputs: Inputs, edges: Sequence[Edge]) -> bool:
    """Whether edges carry the batch first and no example acts on another.

    It is seen by running the examples with others before and behind them: larger ones, and zeros.

    Args:
        module: the traced network.
        inputs: the example.
        edges: of the network.
    """
    tensors, form = flattened(inputs)
    size = next((len(i) for i in tensors if i.dim()), 0)
    if not size:
        return False

    def stacked(i: Tensor, before: float, behind: float) -> Tensor:
        if i.dim() == 0 or len(i) != size:
            return i
        # Whole numbers are names of things; other examples' names stand for other examples.
        others = [i.flip(0) * f if i.is_floating_point() else i.flip(0) for f in (before, behind)]
        return torch.cat([others[0], i, others[1]])

    try:
        values = node_values(module, inputs)
        beside = [
            node_values(module, filled(form, [stacked(i, *factors) for i in tensors]))
            for factors in ((3.0, -2.0), (-1.5, 0.0))
        ]
    except Exception:  # a size that the traced network has fixed
        return False
    for name in (edge.producer for edge in edges if edge.is_floating):
        once = values[name]
        for others in (each[name] for each in beside):
            if once.dim() == 0 or len(once) != size or len(others) != 3 * size:
                return False
            if not close(others[size : 2 * size], once, least=1e-4):
                return False
    return True
