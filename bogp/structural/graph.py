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

import contextlib
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import networkx as nx
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx

from bogp.checks import bits, indices
from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.traced.containers import (
    OTHER_SIZES,
    as_call,
    positional,
    tensors_of,
)
from bogp.structural.traced.nodes import (
    Inputs,
    arguments,
    bypass,
    check_evaluation_mode,
    device_of,
    first_line,
    free_name,
    last,
    node_values,
    shortened,
    with_arguments,
)
from bogp.structural.traced.passes import Program
from bogp.structural.traced.sizes import Sizes

NOT_FLOAT = "carries no floating-point numbers"
ROWS = 8  # of candidates in a graph's text

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
        module: the name of the module that makes what it carries: a block, or the branch that ends
            in it; empty where the network's own code does.
    """

    index: int
    source: int
    target: int
    producer: str
    consumer: str
    slot: int
    shape: tuple[int, ...]
    why_kept: str = ""
    module: str = ""

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
        level: which removals are its candidates (``levels``).
        classes: of the model's modules, by name.
        why_no_block: at level ``blocks``, why modules are none, by name.
    """

    module: fx.GraphModule
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    batched: bool
    traced_by: str
    example_inputs: Inputs = field(repr=False)
    trains: bool = True
    level: str = "all"
    classes: Mapping[str, str] = field(default_factory=dict, repr=False)
    why_no_block: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        """The network in about ten lines: what it is, and its first candidates."""
        name = self.classes.get("", type(self.module).__name__)
        chosen = self.candidates.tolist()
        shown = chosen if len(chosen) <= ROWS else chosen[: ROWS - 1]
        rows = [("edge", "removes", "into", "shape of an example")]
        for edge in (self.edges[index] for index in shown):
            into = self.vertices[edge.target].name
            rows.append((str(edge.index), self.name(edge.index), into, str(edge.shape)))
        cells = [[shortened(cell, 44) for cell in row] for row in rows]
        width = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.ljust, row, width)).rstrip() for row in cells]
        more = len(chosen) - len(shown)
        return "\n".join(
            [
                f"{name} by {self.traced_by}: {len(self.vertices)} vertices, {len(self.edges)} "
                f"edges, {len(chosen)} candidates for removal (level {self.level})",
                *(lines if chosen else []),
                *([f"and {more} more: graph.candidates, graph.edges"] if more else []),
            ]
        )

    def name(self, edge: int) -> str:
        """What goes with an edge, in words: a module's name, or else its producer's vertex."""
        one = self.edges[edge]
        return one.module or self.vertices[one.source].name

    def edges_of(self, module: str) -> NDArray[np.intp]:
        """Indices of the candidates that a module makes: itself, or what lies in it.

        Sums inside a function, such as those of a rotary embedding or an activation, between which
        no weights lie, are left out.

        Args:
            module: its name in the model, such as ``model.layers.3``.

        Raises:
            InvalidInput: the model has no such module.
        """
        if not isinstance(module, str) or module not in self.classes:
            near = (
                []
                if not isinstance(module, str)
                else difflib.get_close_matches(module, self.classes, 3)
            )
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise InvalidInput(f"The model has no module {module!r}.{hint}")
        inner = self.vertices_inside_functions
        return np.array(
            [
                e
                for e in self.candidates
                if f"{self.edges[e].module}.".startswith(f"{module}." if module else "")
                and self.edges[e].target not in inner
            ],
            dtype=np.intp,
        )

    @cached_property
    def vertices_inside_functions(self) -> set[int]:
        """Sums whose arguments part from one value with no weights between.

        Rotary embeddings and activation functions have such sums.
        """
        parted = parting(self)
        return {
            v.index
            for v in self.vertices
            if v.kind == "sum" and v.index in parted and not self._between(parted[v.index], v.index)
        }

    def _between(self, start: int, end: int) -> bool:
        """Whether a vertex with parameters lies between two, the ends left out."""
        source, target = self.ends
        after, before = {start}, {end}
        for edge in range(len(self.edges)):  # in topological order of targets
            if source[edge] in after:
                after.add(int(target[edge]))
        for edge in reversed(range(len(self.edges))):
            if target[edge] in before:
                before.add(int(source[edge]))
        return any(self.vertices[v].parameters for v in (after & before) - {start, end})

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return device_of(self.module, self.example_inputs)

    @cached_property
    def gated(self) -> fx.GraphModule:
        """The network with a gate on each edge, called with gates, references and the inputs.

        Gates are (E,) for all examples or (N, E), one row an example; references are a value for
        each edge, or None. It shares the network's parameters.
        """
        return _with_gates(self.module, self.edges)

    def _gated_at(self, edges: tuple[int, ...]) -> fx.GraphModule:
        if self._some.get("edges") != edges:
            chosen = [self.edges[edge] for edge in edges]
            self._some.update(edges=edges, module=_with_gates(self.module, chosen))
        return self._some["module"]

    @cached_property
    def _some(self) -> dict[str, Any]:
        """The network with gates on some edges, as it was needed last."""
        return {}

    @cached_property
    def program(self) -> Program:
        """The network as steps of which passes leave out what a removal makes unneeded."""
        return Program(self.module, self.edges, self.example_inputs)

    @cached_property
    def sizes(self) -> Sizes:
        """How the sizes of all values follow from those of the inputs."""
        return Sizes(self.module, positional(self.module, self.example_inputs))

    def outputs(
        self,
        gates: Tensor,
        references: References,
        inputs: Inputs,
        only: Sequence[int] | None = None,
    ) -> Any:
        """What the network gives under gates.

        Args:
            gates, references, inputs: as for ``gated``.
            only: the edges that have a gate; the others stay open. None for all.

        Raises:
            NotCapturable: the inputs have sizes that the network was not captured for.
        """
        args, kwargs = as_call(inputs)
        with self.sizes_in_words(inputs):
            module = self.gated if only is None else self._gated_at(tuple(only))
            return module(gates, references, *args, **kwargs)

    @contextlib.contextmanager
    def sizes_in_words(self, inputs: Inputs) -> Iterator[None]:
        """Says in words that inputs have sizes, or are of a kind, that the network cannot take.

        Raises:
            NotCapturable: they do.
        """
        kwargs = as_call(inputs)[1]
        known = [n.target for n in self.module.graph.nodes if n.op == "placeholder"]
        if unknown := [name for name in kwargs if name not in known]:
            raise NotCapturable(
                f"The network was captured without {', '.join(unknown)}; capture it with them."
            )
        elsewhere = {t.device for t in tensors_of(inputs)} - {self.device}
        if elsewhere:
            raise InvalidInput(
                f"The inputs lie on {', '.join(map(str, elsewhere))}, the network on "
                f"{self.device}; move one to the other."
            )
        try:
            yield
        except (AssertionError, RuntimeError) as error:
            shapes = [[t.shape for t in tensors_of(i)] for i in (inputs, self.example_inputs)]
            refused = str(error).startswith(OTHER_SIZES)
            if not refused and (isinstance(error, AssertionError) or shapes[0] == shapes[1]):
                raise  # the model's own
            text = (
                str(error)
                if refused
                else f"It fails on inputs of these sizes: {first_line(error)}."
            )
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


def parting(graph: ComputationGraph) -> dict[int, int]:
    """For each vertex the last one that all ways to it pass: its immediate dominator.

    Vertices that two inputs reach on ways of their own are left out.
    """
    root = -1
    flow = nx.DiGraph([(e.source, e.target) for e in graph.edges])
    flow.add_edges_from((root, v.index) for v in graph.vertices if v.kind == "input")
    found = nx.immediate_dominators(flow, root)
    return {v: d for v, d in found.items() if d not in (root, None) and v != root}


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
            scaled = {}
            for slot, source in enumerate(arguments(node)):
                if (name, slot) in gated:
                    stand_in = (gates, gated[name, slot], references)
                    around = (node.args[0],) if node.target is bypass and slot else ()
                    scaled[slot] = copy.call_function(_gate, (source, *stand_in, *around))
        node.args, node.kwargs = with_arguments(node, scaled)
    for node in copy.nodes:
        if node.target in ("detach", torch.detach, torch.ops.aten.detach.default):
            # It keeps a part from training; what its removal does, it does all the same.
            node.replace_all_uses_with(node.args[0])
    copy.lint()
    return fx.GraphModule(module, copy)


def _gate(
    value: Tensor, gates: Tensor, edge: int, references: References, around: Tensor | None = None
) -> Tensor:
    z = gates[..., edge].to(value.dtype)  # a network can have several types
    if z.dim():
        z = z.view(-1, *[1] * (value.dim() - 1))
    if torch.is_grad_enabled() and value.detach().sum().isfinite():  # so is all of it, at one look
        scaled = value * z
    elif torch.is_grad_enabled():
        # 0 * inf is NaN, in derivatives too: what is not finite passes open gates as a constant.
        usual = value.isfinite() | (z == 0)
        scaled = torch.where(usual, torch.where(value.isfinite(), value, 0) * z, value)
    else:
        scaled = torch.where(z == 0, 0, value * z)  # zeros, whatever it carried
    reference = around if references is None else references[edge]
    return scaled if reference is None else scaled + (1 - z) * reference.to(value.dtype)


def edge_values(graph: ComputationGraph, inputs: Inputs) -> dict[str, Tensor]:
    """What the full network's nodes give for those inputs, by name of the node.

    Raises:
        InvalidInput, NotCapturable: the inputs lie elsewhere, or have sizes that it cannot take.
    """
    with graph.sizes_in_words(inputs):
        return node_values(graph.module, inputs)


def open_gates(graph: ComputationGraph, *examples: int) -> Tensor:
    """(E,) gates of one, or (N, E), where the network lies."""
    size = (*examples, len(graph.edges))
    return torch.ones(size, dtype=float_type(graph), device=graph.device)


def as_gates(graph: ComputationGraph, values: ArrayLike) -> Tensor:
    """Gates as a tensor where the network lies."""
    return torch.as_tensor(np.asarray(values), dtype=float_type(graph), device=graph.device)


def float_type(graph: ComputationGraph) -> torch.dtype:
    """The type of gates: the widest of the network's floating-point types, at least float32."""
    tensors = [*graph.module.parameters(), *tensors_of(graph.example_inputs)]
    types = {t.dtype for t in tensors if t.is_floating_point()}
    return reduce(torch.promote_types, types, torch.float32)


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
