"""The computation graph of any network: ``capture(model, example_inputs)``.

*Vertices* are chains of operations with one input (a convolution with its norm and activation), sums, concatenations and products; *edges* are the data
dependencies between them, (producer, argument of the consumer). Tracing is ``torch.fx``'s, and where Python code in the way stops it, ``torch.export``'s.

What a removed edge means, everywhere in ``bogp.structural``: its consumer gets zeros in its place; a vertex that no live input reaches emits zero (a chain or
a product when its input is gone, a sum or a concatenation when all of them are), whatever its biases say; the network's output likewise. So to cut the input
of a branch and to cut its output are the same removal, and ``ComputationGraph.gates`` gives both the same gates.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import operator
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from bogp.checks import bits, indices
from bogp.errors import InvalidInput, NotCapturable

_ATEN = torch.ops.aten
SUMS = {operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub, "add", "add_", "sub", "sub_"}
SUMS |= {_ATEN.add.Tensor, _ATEN.add_.Tensor, _ATEN.sub.Tensor, _ATEN.sub_.Tensor}
CATS = {torch.cat, torch.concat, torch.concatenate, torch.stack, torch.hstack, torch.vstack, _ATEN.cat.default, _ATEN.stack.default}
_IN_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul, operator.itruediv: operator.truediv}
_IN_PLACE |= {
    operator.ipow: operator.pow,
    operator.imatmul: operator.matmul,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
}
_IN_PLACE |= {operator.iand: operator.and_, operator.ior: operator.or_, operator.ixor: operator.xor}
_TO_NUMBERS = {"item", "tolist", "numpy", "aten.item.default", "aten._local_scalar_dense.default"}
_NOT_FLOAT = "carries no floating-point numbers"
_MIXING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # in training: examples mixed, or outputs random


@dataclass(frozen=True)
class Vertex:
    """A chain of operations that is kept or removed as one.

    Attributes:
        index: its place in ``ComputationGraph.vertices``, which are in topological order.
        name: of what is in it, such as ``block.conv + block.norm + relu``.
        kind: ``input``, ``chain`` (one input), ``sum``, ``cat``, ``product`` (any other operation of several inputs) or ``output``.
        nodes: names of its nodes in ``ComputationGraph.module.graph``.
        parameters: names of the module's parameters that it reads.
    """

    index: int
    name: str
    kind: str
    nodes: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """A data dependency between two vertices.

    Attributes:
        index: its place in ``ComputationGraph.edges``, in masks and in gates.
        source, target: indices of its vertices.
        producer, consumer: names of the nodes at its ends.
        slot: which of the consumer's node arguments it is, counted from 0.
        shape: of one example's value.
        kept_for: why it is no candidate for removal; empty where it is one.
    """

    index: int
    source: int
    target: int
    producer: str
    consumer: str
    slot: int
    shape: tuple[int, ...]
    kept_for: str = ""

    @property
    def is_floating(self) -> bool:
        """Whether it carries floating-point numbers, which a gate can scale."""
        return self.kept_for != _NOT_FLOAT


@dataclass(frozen=True, eq=False)
class ComputationGraph:
    """A network as a directed graph of vertices and edges.

    Attributes:
        module: the traced network; it shares its parameters with the model.
        vertices, edges: in topological order.
        batched: whether the first dimension of each edge's value is the batch, for any size of it, which gates that differ between examples need.
        traced_by: ``torch.fx`` or ``torch.export``.
        example_inputs: what it was captured with.
    """

    module: fx.GraphModule
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    batched: bool
    traced_by: str
    example_inputs: tuple[Any, ...] = field(repr=False)

    @cached_property
    def gated(self) -> fx.GraphModule:
        """The network with a gate on each edge: a module called with gates, reference values (or None) and the inputs."""
        from bogp.structural.gates import with_gates

        return with_gates(self)

    @property
    def candidates(self) -> NDArray[np.intp]:
        """Indices of the edges that can be removed: no bridges to an output, no factors of a product, each removal once."""
        return np.array([edge.index for edge in self.edges if not edge.kept_for], dtype=np.intp)

    def masks(self, masks: ArrayLike) -> NDArray[np.bool_]:
        """Masks as a (M, E) array, True where an edge stays.

        Raises:
            InvalidInput: not one entry an edge, or entries that are neither 0 nor 1.
        """
        given = bits("Masks", masks)
        rows = given[None] if given.ndim == 1 else given
        if rows.ndim != 2 or rows.shape[1] != len(self.edges):
            raise InvalidInput(f"A mask has one entry an edge, {len(self.edges)} here; got an array of shape {given.shape}.")
        stuck = [edge.index for edge in self.edges if not edge.is_floating]
        if not rows[:, stuck].all():
            raise InvalidInput(f"Edges {stuck} carry no floating-point numbers and cannot be removed; a mask holds True there.")
        return rows

    def without(self, edges: Sequence[int] | NDArray[np.intp]) -> NDArray[np.bool_]:
        """(E,) the mask that removes those edges.

        Raises:
            InvalidInput: there is no such edge.
        """
        mask = np.ones(len(self.edges), dtype=bool)
        mask[indices("edges", edges, len(mask))] = False
        return mask

    def alive(self, masks: ArrayLike) -> NDArray[np.bool_]:
        """(M, V) whether a live path from an input reaches each vertex under each mask."""
        return self._follow(self.masks(masks))[0]

    def useful(self, masks: ArrayLike) -> NDArray[np.bool_]:
        """(M, V) whether each vertex lies on a live path from an input to an output under each mask."""
        return self._follow(self.masks(masks))[1]

    def live(self, masks: ArrayLike) -> NDArray[np.bool_]:
        """(M, E) whether each edge stays and lies on a live path from an input to an output: one that does not may as well be gone."""
        rows = self.masks(masks)
        alive, useful, _ = self._follow(rows)
        source, target = self.ends
        return rows & alive[:, source] & useful[:, target]

    def connected(self, masks: ArrayLike) -> NDArray[np.bool_]:
        """(M,) whether each output is still reached from an input."""
        outputs = [v.index for v in self.vertices if v.kind == "output"]
        return np.asarray(self.alive(masks)[:, outputs].all(axis=1))

    def gates(self, masks: ArrayLike) -> NDArray[np.float64]:
        """(M, E) gates that have the effect of each mask: 0 at an edge into a live vertex that is cut or comes from a dead one, 1 elsewhere.

        Two masks with equal gates are the same network.
        """
        return self._follow(self.masks(masks))[2]

    @cached_property
    def ends(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(E,) sources and (E,) targets of the edges."""
        return np.array([e.source for e in self.edges], dtype=np.intp), np.array([e.target for e in self.edges], dtype=np.intp)

    def _follow(self, masks: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
        """(M, V) alive, (M, V) useful and (M, E) gates of (M, E) masks, in one sweep forwards and one backwards."""
        into: list[list[int]] = [[] for _ in self.vertices]
        out: list[list[int]] = [[] for _ in self.vertices]
        for edge in self.edges:
            into[edge.target].append(edge.index)
            out[edge.source].append(edge.index)
        source, target = self.ends
        alive = np.ones((len(masks), len(self.vertices)), dtype=bool)
        for vertex in self.vertices:
            if into[vertex.index]:
                live = masks[:, into[vertex.index]] & alive[:, source[into[vertex.index]]]
                alive[:, vertex.index] = live.any(axis=1) if vertex.kind in ("sum", "cat") else live.all(axis=1)
        kept = masks & alive[:, source]
        useful = alive.copy()
        for vertex in reversed(self.vertices):
            if vertex.kind != "output":
                edges = out[vertex.index]
                useful[:, vertex.index] &= (kept[:, edges] & useful[:, target[edges]]).any(axis=1)
        outputs = np.array([v.kind == "output" for v in self.vertices])  # a dead output is to be zero as well
        return alive, useful, np.where(kept | ~(useful | outputs)[:, target], 1.0, 0.0)

    def networkx(self) -> nx.MultiDiGraph:
        """The same as a networkx graph: vertices carry ``name`` and ``kind``, edges (keyed by index) ``shape`` and ``kept_for``."""
        graph = nx.MultiDiGraph()
        for vertex in self.vertices:
            graph.add_node(vertex.index, name=vertex.name, kind=vertex.kind)
        for edge in self.edges:
            graph.add_edge(edge.source, edge.target, key=edge.index, shape=edge.shape, kept_for=edge.kept_for)
        return graph


def capture(model: nn.Module, example_inputs: Any) -> ComputationGraph:
    """The computation graph of a network.

    Args:
        model: in evaluation mode; it is not changed, and the graph's module shares its parameters.
        example_inputs: a tensor or a tuple of what ``model`` is called with; the batch is the first dimension.

    Returns:
        The graph. With all gates at one its module reproduces the model: that is checked on the example.

    Raises:
        InvalidInput: a layer that mixes examples or draws at random is in training mode; the model's outputs on the example are not finite.
        NotCapturable: the model cannot be traced, or what was traced does something else than the model; the message names the operation.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"model is a {type(model).__name__}; a torch.nn.Module is needed.")
    for at, value in enumerate(inputs):
        if not isinstance(value, Tensor) and _holds_tensor(value):
            raise InvalidInput(f"Input {at} is a {type(value).__name__} of tensors; give each tensor as an argument of its own.")
    check_evaluation_mode(model)
    try:
        expected, again = _run(model, inputs), _run(model, inputs)
    except Exception as error:  # the model's own code, which can raise anything
        raise InvalidInput(f"The model cannot be called with the example inputs: {_first_line(error)}") from error
    leaves = [leaf for leaf in pytree.tree_leaves(expected) if isinstance(leaf, Tensor)]
    if not all(torch.isfinite(leaf).all() for leaf in leaves if leaf.is_floating_point()):
        raise InvalidInput("The model's outputs on the example inputs are not finite; check its weights and the example.")
    if not _equal(again, expected):
        raise InvalidInput(
            "The model gives other outputs when it is called again; it draws at random or keeps a state, and has no one graph."
        )
    module, traced_by = _traced(model, inputs, expected)
    values = _values(module, inputs)
    vertices, edges = _contracted(module, values)
    graph = ComputationGraph(module, vertices, edges, _is_batched(module, inputs, edges, values), traced_by, inputs)
    if not _equal(_run(graph.gated, (torch.ones(len(edges), dtype=_float_type(module)), None, *inputs)), expected):
        raise NotCapturable(f"The gated network gives other outputs than the model; its operations: {_operations(module)}.")
    return _with_candidates(graph)


def _run(module: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """The outputs on copies of the inputs, which a model may overwrite."""
    with torch.no_grad():
        return module(*pytree.tree_map(lambda i: i.clone() if isinstance(i, Tensor) else i, inputs))


def _equal(found: Any, expected: Any) -> bool:
    """Whether outputs are the same to 1e-6 of their size, in the same containers."""
    ours, theirs = pytree.tree_flatten(found), pytree.tree_flatten(expected)
    return ours[1] == theirs[1] and all(
        o.shape == t.shape and torch.allclose(o, t, rtol=1e-5, atol=1e-6) if isinstance(o, Tensor) and isinstance(t, Tensor) else o == t
        for o, t in zip(ours[0], theirs[0], strict=True)
    )


def _operations(module: fx.GraphModule) -> str:
    return ", ".join(dict.fromkeys(n.name for n in module.graph.nodes if n.op.startswith("call")))


def check_evaluation_mode(model: nn.Module) -> None:
    """Refuse a layer that mixes the examples of a batch, or draws at random, in training mode.

    Raises:
        InvalidInput: names the layer.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise InvalidInput(
                f"{name or 'The model'} ({type(module).__name__}) mixes the examples of a batch: it keeps no running statistics."
            )
        if isinstance(module, _MIXING) and module.training and getattr(module, "p", 1.0) > 0:
            does = "draws at random" if isinstance(module, nn.modules.dropout._DropoutNd) else "mixes the examples of a batch"
            raise InvalidInput(f"{name or 'The model'} ({type(module).__name__}) {does} in training mode; call model.eval() first.")


def _traced(model: nn.Module, inputs: tuple[Any, ...], expected: Any) -> tuple[fx.GraphModule, str]:
    """The network out of place and without what has no effect, by whichever tracer reproduces the model's outputs."""
    errors: list[Exception] = []
    for name, trace in (("torch.fx", _by_fx), ("torch.export", _by_export)):
        try:
            module = trace(model, inputs)
            if _equal(_run(module, inputs), expected):
                return module, name
            errors.append(NotCapturable(f"{name} gives other outputs than the model"))
        except Exception as error:  # tracing runs the model's own code, which can raise anything
            errors.append(error)
    raise NotCapturable(_stopped_at(model, *errors)) from None


def _by_fx(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    module = fx.symbolic_trace(model)
    place = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        node.type = None  # annotations that are strings cannot be saved
        if _out_of_place(module, node):
            changed = arguments(node)[0]
            for user in [u for u in changed.users if place[u] > place[node]]:
                user.replace_input_with(changed, node)
    return _taken_apart(_cleaned(module), inputs)


def _taken_apart(module: fx.GraphModule, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """Hand the parts of a tuple, each a value of its own, to whatever reads the whole."""
    values = _values(module, inputs)

    def parts(node: fx.Node, value: Any) -> Any:
        if type(value) not in (tuple, list) or not _holds_tensor(value):
            return node
        return type(value)(parts(module.graph.call_function(operator.getitem, (node, i)), part) for i, part in enumerate(value))

    for node in list(module.graph.nodes):
        if node.target is not operator.getitem:
            with module.graph.inserting_before(node):
                node.args, node.kwargs = fx.node.map_arg((node.args, node.kwargs), lambda a: parts(a, values[a.name]))
    return _cleaned(module)


def _out_of_place(module: fx.GraphModule, node: fx.Node) -> bool:
    """Make an operation that overwrites its first argument one that does not; whether it was such a one."""
    layer, name = _module_of(module, node), node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if layer is not None:
        if not getattr(layer, "inplace", False):
            return False
        layer = copy.copy(layer)  # the model keeps its own
        layer.inplace = False  # type: ignore[assignment]
        owner, _, attribute = str(node.target).rpartition(".")
        setattr(module.get_submodule(owner), attribute, layer)
    elif node.op == "call_method" and name.endswith("_") and not name.endswith("__"):
        if not hasattr(Tensor, name[:-1]):
            raise NotCapturable(f"{node.name} works in place and has no form that does not")
        node.target = name[:-1]
    elif node.op == "call_function" and node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    elif node.op == "call_function" and node.target in _IN_PLACE:
        node.target = _IN_PLACE[node.target]
    elif node.op == "call_function" and (node.target is operator.setitem or (name.endswith("_") and not name.startswith("_"))):
        plain = getattr(torch, name[:-1], None)
        if plain is None:
            raise NotCapturable(f"{node.name} works in place and has no form that does not")
        node.target = plain
    else:
        return False
    return True


def _by_export(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    shapes = tuple(pytree.tree_map(lambda x: {0: torch.export.Dim.AUTO} if isinstance(x, Tensor) and x.dim() else None, i) for i in inputs)
    with _quiet():
        program = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False).run_decompositions(
            {}
        )  # without in-place operations
        exported = program.module()
    graph, old = fx.Graph(), exported.graph
    outputs = graph.graph_copy(old, {})
    information = getattr(old._codegen, "pytree_info", None)
    if information is not None and information.out_spec is not None:  # in the model's own containers again
        outputs = pytree.tree_unflatten(pytree.tree_leaves(outputs), information.out_spec)
    graph.output(outputs)
    for node in reversed(list(graph.nodes)):
        node.meta, node.type = {}, None
        if not node.users and (node.op == "call_module" or "assert" in str(node.target)):  # checks of the shapes of the example
            graph.erase_node(node)
    return _cleaned(fx.GraphModule(exported, graph, type(model).__name__))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export says about itself, and logs about a failure that is reported anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _cleaned(module: fx.GraphModule) -> fx.GraphModule:
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return module


def _stopped_at(model: nn.Module, *errors: Exception) -> str:
    """Which line of whose code could not be traced, and the operation that torch names."""
    frames = [
        f
        for f in traceback.extract_tb(errors[0].__traceback__)
        if "/torch/" not in f.filename and not f.filename.endswith("structural/capture.py")
    ]
    where = f"`{frames[-1].line}` ({frames[-1].name}, line {frames[-1].lineno})" if frames else "an operation"
    reasons = "; ".join(_first_line(error) for error in errors)
    return f"{type(model).__name__} cannot be captured: {where} depends on values that are known only when it runs, or cannot be traced. torch says: {reasons}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class _Recorder(fx.Interpreter):
    """Runs a traced module and keeps each node's value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


def _values(module: fx.GraphModule, inputs: tuple[Any, ...]) -> dict[str, Any]:
    recorder = _Recorder(module)
    _run(recorder.run, inputs)
    return recorder.values


def edge_values(graph: ComputationGraph, inputs: tuple[Any, ...]) -> dict[str, Tensor]:
    """What the full network's nodes give for those inputs, by name of the node."""
    return _values(graph.module, inputs)


def _holds_tensor(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(value))


def _data_nodes(module: fx.GraphModule, values: dict[str, Any]) -> set[fx.Node]:
    """The nodes whose value depends on an input's values (not only on its shape).

    Raises:
        NotCapturable: a tensor becomes a Python number, and nobody can follow it further.
    """
    data: set[fx.Node] = set()
    for node in module.graph.nodes:
        if str(node.target) in _TO_NUMBERS and any(n in data for n in node.all_input_nodes):
            raise NotCapturable(f"{node.name} turns a tensor into Python numbers, through which no gate acts; keep it a tensor.")
        if _holds_tensor(values[node.name]) and (node.op == "placeholder" or any(n in data for n in node.all_input_nodes)):
            data.add(node)
    return data


def arguments(node: fx.Node) -> list[fx.Node]:
    """The node's arguments that are nodes, in order; one that occurs twice is there twice."""
    found: list[fx.Node] = []

    def keep(argument: fx.Node) -> fx.Node:
        found.append(argument)
        return argument

    fx.node.map_arg((node.args, node.kwargs), keep)
    return found


def _contracted(module: fx.GraphModule, values: dict[str, Any]) -> tuple[tuple[Vertex, ...], tuple[Edge, ...]]:
    data = _data_nodes(module, values)
    nodes = [n for n in module.graph.nodes if n in data]
    readers = {n: [u for u in nodes if n in u.all_input_nodes] for n in nodes}
    place: dict[fx.Node, int] = {}  # of each node's vertex
    members: list[list[fx.Node]] = []
    slots = {n: [(slot, a) for slot, a in enumerate(arguments(n)) if a in data] for n in nodes}
    for node in nodes:
        sources = [a for _, a in slots[node]]
        joined: fx.Node | None = None
        if node.op == "output":
            continue
        if len(sources) == 1 and sources[0].op != "placeholder":
            source = sources[0]
            split = any(len(readers[a]) > 1 for _, a in slots[source] if not isinstance(values[a.name], Tensor))  # one part of several
            if not isinstance(values[source.name], Tensor) or (len(readers[source]) == 1 and not split):
                joined = source
        elif len(sources) > 1 and _kind(node, sources) == "sum":
            parts = [
                s
                for s in sources
                if s in place and len(readers[s]) == 1 and sources.count(s) == 1 and _ends_in_sum(s, slots, members[place[s]])
            ]
            if parts:
                joined = parts[0]
                for other in parts[1:]:
                    members[place[joined]] += members[place[other]]
                    members[place[other]], moved = [], members[place[other]]
                    place |= dict.fromkeys(moved, place[joined])
        if joined is None:
            place[node] = len(members)
            members.append([node])
        else:
            place[node] = place[joined]
            members[place[joined]].append(node)
    output = next(n for n in module.graph.nodes if n.op == "output")
    found = [(a, node, slot) for node in [*nodes, output] if node.op != "output" for slot, a in slots[node] if place[a] != place[node]]
    order = {n: i for i, n in enumerate(module.graph.nodes)}
    contracted = nx.DiGraph([(place[a], place[node]) for a, node, _ in found])
    contracted.add_nodes_from(place[n] for n in place)
    ranked = nx.lexicographical_topological_sort(contracted, key=lambda m: max(order[n] for n in members[m]))
    groups = [members[m] for m in ranked]
    index = {n: i for i, group in enumerate(groups) for n in group}
    vertices = [_vertex(i, sorted(group, key=order.__getitem__), module, slots, values) for i, group in enumerate(groups)]
    edges = [(a, node, slot, index[node]) for a, node, slot in found]
    for slot, a in enumerate(arguments(output)):
        if a in data:
            edges.append((a, output, slot, len(vertices)))
            vertices.append(
                Vertex(len(vertices), "output" if len(arguments(output)) == 1 else f"output {slot}", "output", (output.name,), ())
            )
    if odd := [a.name for a, *_ in edges if not isinstance(values[a.name], Tensor)]:
        raise NotCapturable(f"{', '.join(dict.fromkeys(odd))} hands several values at once to an operation; take the values apart first.")
    rows = sorted(edges, key=lambda e: (e[3], order[e[1]], e[2]))
    return tuple(vertices), tuple(
        Edge(
            i,
            index[a],
            target,
            a.name,
            node.name,
            slot,
            tuple(values[a.name].shape[1:]),
            "" if values[a.name].is_floating_point() else _NOT_FLOAT,
        )
        for i, (a, node, slot, target) in enumerate(rows)
    )


def _ends_in_sum(node: fx.Node, slots: dict[fx.Node, list[tuple[int, fx.Node]]], members: list[fx.Node]) -> bool:
    """Whether a vertex consists of sums alone, so that a sum that reads it is one longer sum."""
    return all(_is(member, SUMS) for member in members) and len(slots[node]) >= 1 and any(len(slots[m]) > 1 for m in members)


def _is(node: fx.Node, targets: set[Any]) -> bool:
    return node.op in ("call_function", "call_method") and node.target in targets


def _kind(node: fx.Node, sources: Sequence[fx.Node]) -> str:
    if node.op == "placeholder":
        return "input"
    if len(sources) == 1:
        return "chain"
    return "sum" if _is(node, SUMS) else "cat" if _is(node, CATS) else "product"


def _vertex(
    index: int, group: list[fx.Node], module: fx.GraphModule, slots: dict[fx.Node, list[tuple[int, fx.Node]]], values: dict[str, Any]
) -> Vertex:  # fmt: skip
    kinds = [_kind(n, [a for _, a in slots[n]]) for n in group]
    kind = next((k for k in kinds if k != "chain"), "chain")
    named = [n for n in group if n.op == "call_module" or not (_is(n, SUMS) and kind == "sum")]
    names = [str(n.target) if n.op == "call_module" else n.name for n in named if n.target is not operator.getitem]
    parameters: dict[str, None] = {}
    for node in group:
        if node.op == "call_module":
            parameters |= dict.fromkeys(f"{node.target}.{name}" for name, _ in module.get_submodule(str(node.target)).named_parameters())
        for a in node.all_input_nodes:
            if a.op == "get_attr" and isinstance(values[a.name], nn.Parameter):
                parameters |= {str(a.target): None}
    title = " + ".join(names) if kind != "sum" else " + ".join(["sum", *names])
    return Vertex(index, title or kind, kind, tuple(n.name for n in group), tuple(parameters))


def _module_of(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _float_type(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.get_default_dtype())


def _is_batched(module: fx.GraphModule, inputs: tuple[Any, ...], edges: Sequence[Edge], values: dict[str, Any]) -> bool:
    """Whether edges carry the batch first and no example acts on another, seen by running the example beside as many of zeros."""
    tensors = [i for i in inputs if isinstance(i, Tensor) and i.dim()]
    if not tensors:
        return False
    try:
        twice = _values(module, tuple(torch.cat([i, torch.zeros_like(i)]) if isinstance(i, Tensor) and i.dim() else i for i in inputs))
    except Exception:  # a size that the traced network has fixed
        return False
    for edge in edges:
        once, both = values[edge.producer], twice[edge.producer]
        if isinstance(once, Tensor) and once.is_floating_point():
            if once.dim() == 0 or len(once) != len(tensors[0]) or len(both) != 2 * len(once):
                return False
            if not torch.allclose(both[: len(once)], once, rtol=1e-4, atol=1e-5):
                return False
    return True


def _with_candidates(graph: ComputationGraph) -> ComputationGraph:
    """The same graph with the reasons why edges are no candidates."""
    count = len(graph.edges)
    alive, _, gates = graph._follow(~np.eye(count, dtype=bool))
    connected = np.asarray(alive[:, [v.index for v in graph.vertices if v.kind == "output"]].all(axis=1))
    own = [bool(gates[e].sum() == count - 1 and gates[e, e] == 0) for e in range(count)]
    same: dict[bytes, int] = {gates[e].tobytes(): e for e in range(count) if own[e]}
    reasons = []
    for edge in graph.edges:
        first = same.setdefault(gates[edge.index].tobytes(), edge.index)
        if edge.kept_for:
            reason = edge.kept_for
        elif not connected[edge.index]:
            reason = "bridge: an output depends on it"
        elif graph.vertices[edge.target].kind == "product" and own[edge.index]:
            reason = "factor: without it the product is zero"
        else:
            reason = "" if first == edge.index else f"same removal as edge {first}"
        reasons.append(reason)
    edges = tuple(replace(edge, kept_for=reason) for edge, reason in zip(graph.edges, reasons, strict=True))
    return replace(graph, edges=edges)
