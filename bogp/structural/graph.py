"""A network as a graph: vertices, edges, a gate on each edge, and the value that each edge carries.

*Vertices* are chains of operations with one input (a convolution with its norm and activation),
sums, concatenations and products. *Edges* are the data dependencies between them: a producer, and
one argument of its consumer. ``tracing.capture`` makes the graph of a network.

What a removed edge means, everywhere in ``bogp.structural``: its consumer gets zeros in its place.
A vertex that no live input reaches emits zero, whatever its biases say, and so does an output. A
chain or a product is dead when one input is gone, a sum or a concatenation when all are. To cut the
input of a branch and to cut its output are therefore the same removal, and
``ComputationGraph.gates`` gives both the same gates.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from itertools import count
from typing import Any

import networkx as nx
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx, nn

from bogp.checks import bits, indices
from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.containers import (
    OTHER_SIZES,
    Container,
    as_call,
    checked,
    mapped,
    positional,
    tensors_of,
)
from bogp.structural.sizes import Sizes

_ATEN = torch.ops.aten
# The operations that go on when one of their arguments is cut; all others die with an argument.
SUMS = {
    *(operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub),
    *("add", "add_", "sub", "sub_"),
    *(_ATEN.add.Tensor, _ATEN.add_.Tensor, _ATEN.sub.Tensor, _ATEN.sub_.Tensor),
}
CATS = {
    *(torch.cat, torch.concat, torch.concatenate, torch.stack, torch.hstack, torch.vstack),
    *(_ATEN.cat.default, _ATEN.stack.default),
}
_SHAPE_READERS = {
    *("size", "dim", "sym_size", "numel", "sym_numel"),
    *("zeros_like", "ones_like", "full_like", "empty_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty"),
}
NOT_FLOAT = "carries no floating-point numbers"

Inputs = Any  # a tuple of arguments, or a mapping of keyword arguments
References = Sequence[Tensor | None] | None  # what stands in for each removed edge; None: zeros


@dataclass(frozen=True)
class Vertex:
    """A chain of operations that is kept or removed as one.

    Attributes:
        index: its place in ``ComputationGraph.vertices``, which are in topological order.
        name: of what is in it, such as ``block.conv + block.norm + relu``.
        kind: ``input``, ``chain`` (one input), ``sum``, ``cat``, ``product`` (any other operation
            of several inputs) or ``output``.
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
        why_kept: why it is no candidate for removal; empty where it is one.
    """

    index: int
    source: int
    target: int
    producer: str
    consumer: str
    slot: int
    shape: tuple[int, ...]
    why_kept: str = ""

    @property
    def is_floating(self) -> bool:
        """Whether it carries floating-point numbers, which a gate can scale."""
        return self.why_kept != NOT_FLOAT


@dataclass(frozen=True, eq=False)
class ComputationGraph:
    """A network as a directed graph of vertices and edges.

    Attributes:
        module: the traced network; it shares its parameters with the model.
        vertices, edges: in topological order.
        batched: whether the first dimension of each edge's value is the batch, for any size of it.
            Gates that differ between examples need that.
        traced_by: ``torch.fx`` or ``torch.export``.
        example_inputs: what it was captured with: a tuple of arguments, or keyword arguments.
        trains: whether training mode does to ``module`` what it does to the model. It does not
            where tracing wrote the evaluation mode into the network.
    """

    module: fx.GraphModule
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    batched: bool
    traced_by: str
    example_inputs: Inputs = field(repr=False)
    trains: bool = True

    @cached_property
    def gated(self) -> fx.GraphModule:
        """The network with a gate on each edge, called with gates, references and the inputs.

        Gates are (E,) for all examples or (N, E), one row an example; references are a value for
        each edge, or None. It shares the network's parameters.
        """
        return _with_gates(self.module, self.edges)

    @cached_property
    def sizes(self) -> Sizes:
        """How the sizes of all values follow from those of the inputs."""
        return Sizes(self.module, positional(self.module, self.example_inputs))

    def outputs(self, gates: Tensor, references: References, inputs: Inputs) -> Any:
        """What the network gives under gates; arguments as for ``gated``.

        Raises:
            NotCapturable: the inputs have sizes that the network was not captured for.
        """
        args, kwargs = as_call(inputs)
        known = [n.target for n in self.module.graph.nodes if n.op == "placeholder"]
        if unknown := [name for name in kwargs if name not in known]:
            raise NotCapturable(
                f"The network was captured without {', '.join(unknown)}; capture it with them."
            )
        try:
            return self.gated(gates, references, *args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            shapes = [[t.shape for t in tensors_of(i)] for i in (inputs, self.example_inputs)]
            refused = str(error).startswith(OTHER_SIZES)
            if not refused and (isinstance(error, AssertionError) or shapes[0] == shapes[1]):
                raise  # the model's own
            text = str(error) if refused else f"It fails on inputs of these sizes: {error}."
            raise NotCapturable(
                f"{text} Capture it with such inputs, or hand over examples, or batches of them, "
                "within its sizes."
            ) from None

    @property
    def candidates(self) -> NDArray[np.intp]:
        """Indices of the edges that can be removed.

        They are no bridges to an output and no factors of a product, and each removal stands once.
        """
        return np.array([edge.index for edge in self.edges if not edge.why_kept], dtype=np.intp)

    def masks(self, masks: ArrayLike) -> NDArray[np.bool_]:
        """Masks as a (M, E) array, True where an edge stays.

        Raises:
            InvalidInput: not one entry an edge, or entries that are neither 0 nor 1.
        """
        given = bits("Masks", masks)
        rows = given[None] if given.ndim == 1 else given
        if rows.ndim != 2 or rows.shape[1] != len(self.edges):
            raise InvalidInput(
                f"A mask has one entry an edge, {len(self.edges)} here; got an array of shape "
                f"{given.shape}."
            )
        stuck = [edge.index for edge in self.edges if not edge.is_floating]
        if not rows[:, stuck].all():
            raise InvalidInput(
                f"Edges {stuck} carry no floating-point numbers and cannot be removed; a mask "
                "holds True there."
            )
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
        """(M, V) whether each vertex lies on a live path from an input to an output."""
        return self._follow(self.masks(masks))[1]

    def live(self, masks: ArrayLike) -> NDArray[np.bool_]:
        """(M, E) whether each edge stays and lies on a live path from an input to an output.

        An edge that does not may as well be gone.
        """
        rows = self.masks(masks)
        alive, useful, _ = self._follow(rows)
        source, target = self.ends
        return rows & alive[:, source] & useful[:, target]

    def connected(self, masks: ArrayLike) -> NDArray[np.bool_]:
        """(M,) whether each output is still reached from an input."""
        return np.asarray(self.alive(masks)[:, self._outputs].all(axis=1))

    def gates(self, masks: ArrayLike) -> NDArray[np.float64]:
        """(M, E) gates that have the effect of each mask.

        A gate is 0 at an edge into a live vertex that is cut or comes from a dead one, 1 elsewhere.
        Two masks with equal gates are the same network.
        """
        return self._follow(self.masks(masks))[2]

    @cached_property
    def ends(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(E,) sources and (E,) targets of the edges."""
        pairs = np.array([(e.source, e.target) for e in self.edges], dtype=np.intp).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    @property
    def _outputs(self) -> NDArray[np.bool_]:
        return np.array([vertex.kind == "output" for vertex in self.vertices])

    def _follow(
        self, masks: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
        """(M, V) alive, (M, V) useful and (M, E) gates of (M, E) masks.

        One sweep forwards and one backwards over the vertices, for all masks at once.
        """
        source, target = self.ends
        alive = np.ones((len(masks), len(self.vertices)), dtype=bool)
        for vertex in self.vertices:
            into = np.flatnonzero(target == vertex.index)
            if len(into):
                live = masks[:, into] & alive[:, source[into]]
                survives = live.any if vertex.kind in ("sum", "cat") else live.all
                alive[:, vertex.index] = survives(axis=1)
        kept = masks & alive[:, source]
        useful = alive.copy()
        for vertex in reversed(self.vertices):
            if vertex.kind != "output":
                out = np.flatnonzero(source == vertex.index)
                useful[:, vertex.index] &= (kept[:, out] & useful[:, target[out]]).any(axis=1)
        # A dead output is to be zero as well, so its gates close too.
        read = (useful | self._outputs)[:, target]
        return alive, useful, np.where(kept | ~read, 1.0, 0.0)

    def networkx(self) -> nx.MultiDiGraph:
        """The same as a networkx graph.

        Vertices carry ``name`` and ``kind``; edges, keyed by index, ``shape`` and ``why_kept``.
        """
        graph = nx.MultiDiGraph()
        for v in self.vertices:
            graph.add_node(v.index, name=v.name, kind=v.kind)
        for e in self.edges:
            graph.add_edge(e.source, e.target, key=e.index, shape=e.shape, why_kept=e.why_kept)
        return graph


def with_candidates(graph: ComputationGraph) -> ComputationGraph:
    """The same graph, its edges with the reasons why they are no candidates for removal."""
    size = len(graph.edges)
    alive, _, gates = graph._follow(~np.eye(size, dtype=bool))
    connected = np.asarray(alive[:, graph._outputs].all(axis=1))
    # Whether a removal closes the edge's own gate and no other.
    own = (gates.sum(axis=1) == size - 1) & (np.diag(gates) == 0)
    # Of the edges that are the same removal, the one whose own gate closes stands for all.
    same = {gates[e].tobytes(): e for e in range(size) if own[e]}
    edges = []
    for edge in graph.edges:
        first = same.setdefault(gates[edge.index].tobytes(), edge.index)
        reason = edge.why_kept
        if not reason and not connected[edge.index]:
            reason = "bridge: an output depends on it"
        elif not reason and graph.vertices[edge.target].kind == "product" and own[edge.index]:
            reason = "factor: without it the product is zero"
        elif not reason and first != edge.index:
            reason = f"same removal as edge {first}"
        edges.append(replace(edge, why_kept=reason))
    return replace(graph, edges=tuple(edges))


# nodes and their arguments


def arguments(node: fx.Node) -> list[fx.Node]:
    """The node's arguments that are nodes, in order; one that occurs twice is there twice."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found


def with_arguments(node: fx.Node, changed: Mapping[int, Any]) -> tuple[Any, Any]:
    """The positional and keyword arguments of a node, some of them replaced.

    Args:
        node: stays as it is.
        changed: what to put in some slots, which count the places of ``arguments`` from 0.
    """
    slots = count()
    return fx.node.map_arg((node.args, node.kwargs), lambda a: changed.get(next(slots), a))


def reads_shape_only(node: fx.Node, of: fx.Node) -> bool:
    """Whether a node reads the shape or type of another, its first argument, and no number."""
    name = str(getattr(node.target, "__name__", node.target)).split(".")[0]
    named = name in _SHAPE_READERS or (name == "getattr" and node.args[1] in ("shape", "ndim"))
    first = bool(node.args) and node.args[0] is of
    return first and named and node.op in ("call_function", "call_method")


def cleaned(module: fx.GraphModule) -> fx.GraphModule:
    """The module without nodes that its outputs do not need; checks of the inputs' sizes stay.

    torch.fx by itself keeps all that might have an effect beside its value, such as assertions and
    attention, together with everything before it.
    """
    checks = {n for n in _read_sizes_only(module.graph) if n.target is torch._assert}
    module.graph.eliminate_dead_code(lambda n: n.op in ("placeholder", "output") or n in checks)
    module.graph.lint()
    module.recompile()
    return module


def keep_state_names(module: nn.Module, names: Collection[str]) -> None:
    """Let a traced network's state hold none but these names, so that checkpoints fit it.

    Tracers make constants of a model's code, and buffers that it does not save, ordinary buffers.
    """
    for name, _ in list(module.named_buffers(remove_duplicate=False)):
        if name not in names:
            owner, _, buffer = name.rpartition(".")
            module.get_submodule(owner)._non_persistent_buffers_set.add(buffer)


def _read_sizes_only(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that follow from sizes of inputs and parts of containers, by plain operators."""
    functions = (torch._assert, getattr, "size", torch.sym_max, torch.sym_min, checked)
    found: set[fx.Node] = set()
    for node in graph.nodes:
        module = getattr(node.target, "__module__", "")
        plain = node.target in functions or module in ("_operator", "math")
        called = node.op in ("call_function", "call_method") and plain
        if node.op == "placeholder" or (called and found.issuperset(node.all_input_nodes)):
            found.add(node)
    return found


def _with_gates(module: fx.GraphModule, edges: Sequence[Edge]) -> fx.GraphModule:
    copy = fx.Graph()
    made: dict[fx.Node, fx.Node] = {}
    copy.output(copy.graph_copy(module.graph, made))
    # The output node is the one that graph_copy leaves to its caller; it stands last in both.
    made |= {last(module.graph): last(copy)}
    consumers = {node.name: new for node, new in made.items()}
    taken = [str(n.target) for n in copy.nodes if n.op == "placeholder"]
    with copy.inserting_before(next(iter(copy.nodes))):
        gates = copy.placeholder(free_name("gates", taken))
        references = copy.placeholder(free_name("references", taken))
    gated = {(edge.consumer, edge.slot): edge.index for edge in edges if edge.is_floating}
    for name in dict.fromkeys(consumer for consumer, _ in gated):
        node = consumers[name]
        with copy.inserting_before(node):
            scaled = {
                slot: copy.call_function(_gate, (source, gates, gated[name, slot], references))
                for slot, source in enumerate(arguments(node))
                if (name, slot) in gated
            }
        node.args, node.kwargs = with_arguments(node, scaled)
    for node in copy.nodes:
        if node.target in ("detach", torch.detach, _ATEN.detach.default):
            # It keeps a part from training; what its removal does, it does all the same.
            node.replace_all_uses_with(node.args[0])
    copy.lint()
    return fx.GraphModule(module, copy)


def last(graph: fx.Graph) -> fx.Node:
    """The graph's output node."""
    return next(iter(reversed(graph.nodes)))


def results_node(module: fx.GraphModule) -> fx.Node:
    """The node whose arguments are what the network gives: its output, or the container of that."""
    end = last(module.graph)
    for node in end.all_input_nodes if isinstance(end.args[0], fx.Node) else ():
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            end = node if isinstance(layer, Container) else end
    return end


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, or one made from it that is not taken."""
    while name in taken:
        name += "_"
    return name


def first_line(error: Exception) -> str:
    """The first line of an error's message that says something, or its class."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def _gate(value: Tensor, gates: Tensor, edge: int, references: References) -> Tensor:
    z = gates[..., edge].to(value.dtype)  # a network can have several types
    if z.dim():
        z = z.view(-1, *[1] * (value.dim() - 1))
    if torch.is_grad_enabled():
        # 0 * inf is NaN, in derivatives too: what is not finite passes open gates as a constant.
        usual = value.isfinite() | (z == 0)
        scaled = torch.where(usual, torch.where(value.isfinite(), value, 0) * z, value)
    else:
        scaled = torch.where(z == 0, 0, value * z)  # zeros, whatever it carried
    reference = None if references is None else references[edge]
    return scaled if reference is None else scaled + (1 - z) * reference.to(value.dtype)


# running a network


def run(module: Callable[..., Any], inputs: Inputs) -> Any:
    """The outputs on copies of the inputs, which a model may overwrite."""
    args, kwargs = as_call(mapped(torch.clone, inputs))
    with torch.no_grad():
        return module(*args, **kwargs)


class _Recorder(fx.Interpreter):
    """Runs a traced module and keeps each node's value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n.name] = super().run_node(n)
        return self.values[n.name]


def node_values(module: fx.GraphModule, inputs: Inputs) -> dict[str, Any]:
    """What each node of a traced module gives for those inputs, by name of the node."""
    recorder = _Recorder(module)
    run(recorder.run, tuple(positional(module, inputs)))
    return recorder.values


def edge_values(graph: ComputationGraph, inputs: Inputs) -> dict[str, Tensor]:
    """What the full network's nodes give for those inputs, by name of the node."""
    return node_values(graph.module, inputs)


def float_type(graph: ComputationGraph) -> torch.dtype:
    """The type of gates: the widest of the network's floating-point types, at least float32."""
    tensors = [*graph.module.parameters(), *tensors_of(graph.example_inputs)]
    types = {t.dtype for t in tensors if t.is_floating_point()}
    return reduce(torch.promote_types, types, torch.float32)


class Mode(nn.Module):
    """Tells whether the network is in training mode, to functions that ask for it."""

    def forward(self) -> bool:
        """Whether it is."""
        return self.training


def check_evaluation_mode(model: nn.Module) -> None:
    """Refuse a layer that mixes the examples of a batch, or draws at random, in training mode.

    Raises:
        InvalidInput: names the layer.
    """
    norms, dropouts = nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd
    for name, module in model.named_modules():
        layer = f"{name or 'The model'} ({type(module).__name__})"
        if isinstance(module, norms) and module.running_mean is None:
            raise InvalidInput(
                f"{layer} mixes the examples of a batch: it keeps no running statistics."
            )
        draws = isinstance(module, Mode) or (isinstance(module, dropouts) and module.p > 0)
        if module.training and (draws or isinstance(module, norms)):
            does = "draws at random" if draws else "mixes the examples of a batch"
            raise InvalidInput(f"{layer} {does} in training mode; call model.eval() first.")


def check_ready(graph: ComputationGraph, *, for_each_example: bool = False) -> None:
    """Refuse a network in training mode, and, if asked to, one that moves the batch.

    Args:
        graph: of the network.
        for_each_example: gates are to differ between examples, so that the batch has to come first.

    Raises:
        InvalidInput: a layer that mixes examples or draws at random is in training mode.
        NotCapturable: an edge does not carry the batch first.
    """
    check_evaluation_mode(graph.module)
    if for_each_example and not graph.batched:
        raise NotCapturable(
            "This needs the batch as the first dimension of each value, for any number of "
            "examples; the network moves it, or fixes its size."
        )
