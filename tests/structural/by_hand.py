"""What a removal means, worked out vertex by vertex with plain loops: the truth that gates and
surgery are held against.
"""

from collections import defaultdict

import torch
from torch import fx

from bogp.structural.graph import ComputationGraph
from bogp.structural.traced.nodes import arguments


def alive(graph: ComputationGraph, mask) -> list[bool]:
    """Whether each vertex is reached: sums and concatenations by any live input, all others by all
    of theirs.
    """
    into = defaultdict(list)
    for edge in graph.edges:
        into[edge.target].append(edge)
    found: list[bool] = []
    for vertex in graph.vertices:
        live = [bool(mask[e.index]) and found[e.source] for e in into[vertex.index]]
        found.append(not live or (any(live) if vertex.kind in ("sum", "cat") else all(live)))
    return found


class _Masked(fx.Interpreter):
    def __init__(self, graph: ComputationGraph, mask) -> None:
        super().__init__(graph.module)
        self.live = alive(graph, mask)
        self.home = {
            node: v.index for v in graph.vertices for node in v.nodes if v.kind != "output"
        }
        self.edges = {(e.consumer, e.slot): e for e in graph.edges}
        self.mask = mask

    def run_node(self, n):
        slot = iter(range(1000))

        def read(argument):
            edge, value = self.edges.get((n.name, next(slot))), self.env[argument]
            return (
                torch.zeros_like(value)
                if edge and not (self.mask[edge.index] and self.live[edge.source])
                else value
            )

        assert arguments(n) or not n.all_input_nodes
        args, kwargs = (
            fx.node.map_arg((n.args, n.kwargs), read)
            if n.op != "placeholder"
            else (n.args, n.kwargs)
        )
        value = getattr(self, n.op)(n.target, args, kwargs)
        if n.name in self.home and not self.live[self.home[n.name]]:
            value = torch.utils._pytree.tree_map(
                lambda v: torch.zeros_like(v) if isinstance(v, torch.Tensor) else v, value
            )
        return value


def outputs(graph: ComputationGraph, mask, inputs):
    """The network's outputs under one mask."""
    with torch.no_grad():
        return _Masked(graph, mask).run(*inputs)
