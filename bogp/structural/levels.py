"""Which removals are candidates: all edges, branches into residual sums, or whole blocks.

- ``all``: each edge whose removal leaves every output a way to an input
- ``residual``: the branches of residual sums: what is added to a value that comes by a shorter way,
  such as an attention or an MLP of a transformer, or the convolutions of a ResNet's block
- ``blocks``: whole layers. A block is the call of a module that one value enters and one value
  leaves, of the same shape and type, with a way around all its weights: a skip connection. Its
  removal hands on the value that enters. Where the skip runs through sums alone (pre-norm
  transformers, ResNets) that is the removal of all its branches; where a norm stands on it
  (post-norm ones, such as BERT) the norm goes with the layer, which no removal of branches can say.

The depth pruning of transformers removes blocks: ShortGPT (Men et al. 2024), SLEB (Song et al.
2024).
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import networkx as nx
from torch import Tensor, fx

from bogp.checks import choice
from bogp.errors import InvalidInput, NothingToRemove
from bogp.structural.graph import ComputationGraph, Edge, parting, with_candidates
from bogp.structural.traced.contraction import contracted
from bogp.structural.traced.nodes import (
    MODULES,
    SUMS,
    arguments,
    bypass,
    calls_of,
    node_values,
    results_node,
)

LEVELS = ("all", "residual", "blocks")
NOT_OF_LEVEL = "another level's removal"
_MIXING = ("conv", "linear", "matmul", "mm", "einsum", "attention", "embedding", "lstm", "gru")


@dataclass(frozen=True)
class Block:
    """A module's call that a value can be led around.

    Attributes:
        call: the module's name.
        entry, exit: names of the nodes whose values enter and leave it.
    """

    call: str
    entry: str
    exit: str


def at_level(graph: ComputationGraph, level: str) -> ComputationGraph:
    """The same network with other candidates.

    Args:
        graph: as ``capture`` gives it at level ``all``.
        level: one of ``LEVELS``.

    Raises:
        InvalidInput: there is no such level, or the graph is at another level than ``all``.
        NothingToRemove: the network has no removal of that level; says what stands in the way.
    """
    choice("level", level, LEVELS)
    if graph.level != "all":
        raise InvalidInput(
            f"This graph is at level {graph.level}; capture the network once more for another."
        )
    if level == "all":
        return graph
    found = _residual(graph) if level == "residual" else _blocks(graph)
    if not len(found.candidates):
        raise NothingToRemove(_nothing(graph, level))
    return found


def _only(graph: ComputationGraph, names: Mapping[int, str], level: str) -> ComputationGraph:
    """The graph with those of its candidates alone that have a name here."""
    edges = tuple(
        edge
        if edge.why_kept
        else replace(edge, module=names[edge.index])
        if edge.index in names
        else replace(edge, why_kept=NOT_OF_LEVEL)
        for edge in graph.edges
    )
    return replace(graph, edges=edges, level=level)


# residual branches


def _residual(graph: ComputationGraph) -> ComputationGraph:
    flow, start = nx.DiGraph([(e.source, e.target) for e in graph.edges]), parting(graph)
    names: dict[int, str] = {}
    for vertex in graph.vertices:
        into = [e for e in graph.edges if e.target == vertex.index]
        if vertex.kind == "sum" and all(e.is_floating for e in into):
            at, branches = _parted(graph, flow, into, start.get(vertex.index))
            names |= {e.index: _title(graph, flow, at, e) for e in branches}
    return _only(graph, names, "residual")


def _parted(
    graph: ComputationGraph, flow: nx.DiGraph[int], into: list[Edge], start: int | None
) -> tuple[int, list[Edge]]:
    """The vertex at which the arguments of a sum part, and those of them that are branches.

    Where all others are made from one argument, that is the skip, whatever else goes into them,
    such as a mask. Elsewhere, as at a ResNet's shortcut with a convolution, the skip is the one
    argument that passes the fewest weights since all parted (``start``).
    """
    before = {e.index: nx.ancestors(flow, e.source) for e in into}
    first = [e for e in into if all(o is e or e.source in before[o.index] for o in into)]
    at = first[0].source if first else start
    if at is None or not all(e.is_floating for e in graph.edges if e.source == at):
        return -1, []  # what parts are names of words, or separate inputs
    weights = _weights_after(graph, at)
    lengths = {e.index: weights.get(e.source, 0) for e in into}
    shortest = min(lengths.values())
    if list(lengths.values()).count(shortest) > 1:
        return at, []
    return at, [e for e in into if lengths[e.index] > shortest]


def _weights_after(graph: ComputationGraph, start: int) -> dict[int, int]:
    """Of each vertex behind a start, the most weights on a way to it."""
    shapes = dict(graph.module.named_parameters(remove_duplicate=False))
    most = {start: 0}
    for edge in graph.edges:  # in topological order of targets
        if edge.source in most:
            vertex = graph.vertices[edge.target]
            weighs = sum(shapes[name].dim() > 1 for name in vertex.parameters)
            weighs += vertex.kind == "product"
            most[edge.target] = max(most.get(edge.target, 0), most[edge.source] + weighs)
    return most


def _title(graph: ComputationGraph, flow: nx.DiGraph[int], start: int, edge: Edge) -> str:
    """The modules with weights that a branch runs through: one by its name, or first..last."""
    nodes = {n.name: n for n in graph.module.graph.nodes}
    around = calls_of(nodes[edge.consumer])
    between = nx.descendants(flow, start) & (nx.ancestors(flow, edge.source) | {edge.source})
    found: dict[str, None] = {}
    for name in (n for v in sorted(between) for n in graph.vertices[v].nodes):
        outer = [c for c in calls_of(nodes[name]) if c not in around]
        if outer and _has_weights(graph.module, nodes[name]):
            found[outer[0]] = None
    first, *rest = found or {edge.module: None}
    return f"{first}..{rest[-1].rpartition('.')[2]}" if rest else first


# blocks


def _blocks(graph: ComputationGraph) -> ComputationGraph:
    found, why = blocks_of(graph)
    if not found:
        return _only(graph, {}, "blocks")
    module = _with_bypasses(graph.module, found)
    values = node_values(module, graph.example_inputs)
    vertices, edges = contracted(module, values)
    bypassed = with_candidates(
        replace(graph, module=module, vertices=vertices, edges=edges, why_no_block=why)
    )
    names = {bypass_name(b): b.call for b in found}
    return _only(
        bypassed,
        {e.index: names[e.consumer] for e in edges if e.consumer in names and e.slot == 1},
        "blocks",
    )


def bypass_name(block: Block) -> str:
    """The name of the node that stands behind a block."""
    return "bypass_" + block.call.replace(".", "_").replace("@", "_call_")


def _with_bypasses(module: fx.GraphModule, blocks: list[Block]) -> fx.GraphModule:
    """The network with a ``bypass`` behind each block."""
    graph, made = fx.Graph(), dict[fx.Node, fx.Node]()
    graph.output(graph.graph_copy(module.graph, made))
    by_name = {old.name: new for old, new in made.items()}
    for block in blocks:
        entry, exit_ = by_name[block.entry], by_name[block.exit]
        inside = {n for n in graph.nodes if block.call in calls_of(n)}
        with graph.inserting_after(exit_):
            new = graph.create_node(
                "call_function", bypass, (entry, exit_), name=bypass_name(block)
            )
        outer = calls_of(exit_)
        new.meta = {**exit_.meta, MODULES: outer[: outer.index(block.call)]}
        exit_.replace_all_uses_with(new, partial(_reads_later, new=new, inside=inside))
        # the next block may begin with the value that this one gives
        by_name |= {name: new for name, node in by_name.items() if node is exit_}
    graph.lint()
    return fx.GraphModule(module, graph)


def _reads_later(user: fx.Node, new: fx.Node, inside: set[fx.Node]) -> bool:
    return user is not new and user not in inside


def blocks_of(graph: ComputationGraph) -> tuple[list[Block], dict[str, str]]:
    """The blocks of a network in the order in which they run, and why other modules are none.

    Of blocks within blocks the outermost counts, but for stages: a module that holds several blocks
    of one class side by side is no layer, they are.

    Args:
        graph: at level ``all``.
    """
    values = node_values(graph.module, graph.example_inputs)
    nodes = {n.name: n for n in graph.module.graph.nodes}
    data = [nodes[name] for v in graph.vertices if v.kind != "output" for name in v.nodes]
    data.sort(key=list(nodes.values()).index)
    calls = _Calls(graph.module, data, values)
    found: dict[str, Block] = {}
    why: dict[str, str] = {}
    for call in calls.inside:
        block = calls.block(call)
        if isinstance(block, Block):
            found[call] = block
        else:
            why[call] = block
    stages = {call for call in found if _is_stage(call, found, graph.classes)}
    layers = found.keys() - stages
    # A layer that is no block, such as one whose positions others read, is not taken in pieces.
    kinds = {_kind(c, graph.classes) for c in layers}
    alike = [c for c in calls.inside if _kind(c, graph.classes) in kinds]
    nested = {c for c in layers if any(_within(calls, c, o) for o in alike)}
    why |= dict.fromkeys(nested, "is a part of a layer")
    why |= dict.fromkeys(stages, "holds several blocks of one class, which are removed one by one")
    return [found[c] for c in calls.inside if c in layers - nested], why


def _within(calls: _Calls, call: str, outer: str) -> bool:
    inside = calls.inside[call]
    return inside < calls.inside[outer] or (
        inside == calls.inside[outer] and call.startswith(f"{outer}.")
    )


def _kind(call: str, classes: Mapping[str, str]) -> tuple[str, str]:
    """The module that a call lies in, and its class: layers side by side have both in common."""
    return call.rpartition(".")[0], classes.get(call, call)


def _is_stage(call: str, found: Mapping[str, Block], classes: Mapping[str, str]) -> bool:
    under = [c for c in found if c.startswith(f"{call}.")]
    kinds = Counter(_kind(c, classes) for c in under)
    return max(kinds.values(), default=0) > 1


class _Calls:
    """Which values enter and leave each call of a module.

    Args:
        module: the traced network.
        data: its nodes that depend on the inputs, in order.
        values: of all nodes on the example.
    """

    def __init__(
        self, module: fx.GraphModule, data: list[fx.Node], values: Mapping[str, Any]
    ) -> None:
        self._module, self._values = module, values
        self.inside: dict[str, set[fx.Node]] = defaultdict(set)
        self._enters: dict[str, dict[fx.Node, None]] = defaultdict(dict)
        self._leaves: dict[str, dict[fx.Node, str]] = defaultdict(dict)
        known, end = set(data), results_node(module)
        for node in data:
            for call in calls_of(node):
                self.inside[call].add(node)
        for node in module.graph.nodes:
            own = set(calls_of(node)) if node is not end else set()
            reader = "the outputs" if node is end else next(reversed(calls_of(node)), node.name)
            for source in arguments(node):
                theirs = calls_of(source)
                for call in own.difference(theirs) if source in known else ():
                    self._enters[call][source] = None
                # What is made of weights alone, such as a bias for positions, can leave as well.
                made = source.op != "get_attr" and isinstance(values[source.name], Tensor)
                for call in set(theirs) - own if made else ():
                    self._leaves[call].setdefault(source, reader)

    def block(self, call: str) -> Block | str:
        """The block that a call is, or why it is none."""
        leaves = self._leaves[call]
        if not any(_has_weights(self._module, n) for n in self.inside[call]):
            return "has no weights of its own"
        if "@" in call or f"{call}@1" in self.inside:
            return "is called more than once"
        if len(leaves) != 1:
            readers = ", ".join(dict.fromkeys(leaves.values()))
            return f"gives {len(leaves)} values, which {readers or 'nothing'} reads"
        (exit_,) = leaves
        ways = [n for n in self._enters[call] if self._is_led_around(call, n, exit_)]
        if len(ways) == 1 and not self._made_from(ways[0]).isdisjoint(self._enters[call]):
            return "goes on with what others made of the value that enters it"
        if len(ways) == 1:
            return Block(call, ways[0].name, exit_.name)
        alike = any(self._same_form(n, exit_) for n in self._enters[call])
        return (
            "has no way around its weights (no skip connection)"
            if alike
            else "gives a value of another shape than those that it gets"
        )

    def _made_from(self, start: fx.Node) -> set[fx.Node]:
        """The nodes that a value goes into, on any way."""
        found, ahead = set[fx.Node](), [*start.users]
        while ahead:
            if (node := ahead.pop()) not in found:
                found.add(node)
                ahead += node.users
        return found

    def _same_form(self, one: fx.Node, other: fx.Node) -> bool:
        a, b = self._values[one.name], self._values[other.name]
        tensors = isinstance(a, Tensor) and isinstance(b, Tensor)
        return tensors and a.is_floating_point() and (a.shape, a.dtype) == (b.shape, b.dtype)

    def _is_led_around(self, call: str, entry: fx.Node, exit_: fx.Node) -> bool:
        """Whether a way from entry to exit passes nothing that has weights."""
        if not self._same_form(entry, exit_):
            return False
        inside, seen, ahead = self.inside[call], set[fx.Node](), [exit_]
        while ahead:
            node = ahead.pop()
            if node is entry:
                return True
            if node in inside and node not in seen and not self._stops(node):
                seen.add(node)
                # the second argument of type_as and the like gives its form alone
                ahead += arguments(node)[: 1 if _operation(node).endswith("_as") else None]
        return False

    def _stops(self, node: fx.Node) -> bool:
        """Whether a node computes with weights, or multiplies values with each other."""
        name = _operation(node)
        product = name in ("mul", "mul_") and sum(a.op != "get_attr" for a in arguments(node)) > 1
        return product or _has_weights(self._module, node)


def _operation(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]


def _has_weights(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node computes with matrices of weights, or is a product of matrices."""
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        return any(p.dim() > 1 for p in layer.parameters())
    if node.target in SUMS or node.op not in ("call_function", "call_method"):
        return False
    if any(part in _operation(node) for part in _MIXING):
        return True
    weights = [operator.attrgetter(str(a.target))(module) for a in _constants(node)]
    return any(isinstance(w, Tensor) and w.dim() > 1 for w in weights)


def _constants(node: fx.Node) -> list[fx.Node]:
    return [a for a in arguments(node) if a.op == "get_attr"]


def _nothing(graph: ComputationGraph, level: str) -> str:
    """Why a network has no removal of a level."""
    name = graph.classes.get("", "The network")
    if level == "residual":
        return (
            f"{name} has no residual branch: no sum adds to a value what weights make of it. "
            "Level 'all' has each edge."
        )
    reasons = blocks_of(graph)[1]
    shown = [f"{call} {why}" for call, why in reasons.items() if "." in call][:3]
    hint = (
        " Values of single layers among the outputs hold them fast; call the model without "
        "(use_cache=False, output_hidden_states=False)."
    )
    given = any("the outputs" in why for why in reasons.values())
    return (
        f"{name} has no block that a value can be led around"
        + f" ({'; '.join(shown)})" * bool(shown)
        + "."
        + hint * given
        + " Level 'residual' has its branches, 'all' each edge."
    )
