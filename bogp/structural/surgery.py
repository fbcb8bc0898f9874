"""The pruned network as an ordinary, smaller module: what ``graph.gated`` does with closed gates,
carried out.

On a sum a removed argument is dropped; on a concatenation its block is, together with the weights
that read it, where the readers are convolutions or linear layers, and it is a block of zeros
elsewhere. Branches that lead nowhere go with their parameters. What comes out knows nothing of
gates. It needs this package only where it has to refuse training (``EvaluationOnly``), to tell a
function the mode (``graph.Mode``), or to hand out containers that are not Python's own
(``containers.Container``).
"""

from __future__ import annotations

import contextlib
import copy
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import benchmark
from torch.utils.flop_counter import FlopCounterMode

from bogp.checks import indices, number, whole
from bogp.errors import Disconnected, InvalidInput, NotCapturable
from bogp.structural.graph import ComputationGraph, Edge, References, as_gates
from bogp.structural.traced.containers import as_call, close, tensors_of
from bogp.structural.traced.nodes import (
    CATS,
    SUBTRACTIONS,
    SUMS,
    Inputs,
    arguments,
    bypass,
    cleaned,
    keep_state_names,
    reads_shape_only,
    run,
    with_arguments,
)
from bogp.structural.traced.sizes import INPUT, after_inputs, assert_sizes, input_nodes

_ATEN = torch.ops.aten
# What works channel by channel and leaves zeros zero, so that a block of zeros can be taken away
# before it as well as after it.
_CHANNELWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
)
_CHANNELWISE += (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_ELEMENTWISE = {
    torch.relu,
    nn.functional.relu,
    torch.tanh,
    nn.functional.gelu,
    nn.functional.silu,
    "relu",
    "tanh",
    _ATEN.relu.default,
}

MOST_THREADS = 1024  # more is a slip of the hand


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: their number, shared ones once.
        flops: floating-point operations of the products and convolutions of one forward pass.
        latency: median time of one forward pass, s.
    """

    parameters: int
    flops: int
    latency: float


def cost(module: nn.Module, inputs: Inputs, seconds: float = 0.2, threads: int = 1) -> Cost:
    """Parameters, operations and measured latency of a network.

    Args:
        module: in evaluation mode.
        inputs: of one forward pass, a tuple of arguments or a mapping of keyword arguments;
            operations and latency are for this batch.
        seconds: how long to measure, at least.
        threads: of torch.

    Raises:
        InvalidInput: no time to measure in, or no threads.
    """
    if not 0 < number("seconds", seconds) < math.inf:
        raise InvalidInput(f"seconds is {seconds}; a positive time is needed.")
    whole("threads", threads, 1, MOST_THREADS)
    args, kwargs = as_call(inputs)
    call = partial(module, *args, **kwargs)
    with torch.inference_mode():
        # fused attention is not counted everywhere
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            call()
        timer = benchmark.Timer("call()", globals={"call": call}, num_threads=threads)
        latency = timer.blocked_autorange(min_run_time=seconds).median
    return Cost(sum(p.numel() for p in module.parameters()), counter.get_total_flops(), latency)


def without_vertices(
    graph: ComputationGraph, vertices: Sequence[int] | NDArray[np.intp]
) -> NDArray[np.bool_]:
    """(E,) the mask that removes those vertices: all edges from and to them.

    Raises:
        InvalidInput: there is no such vertex.
        Disconnected: it is an input or an output.
    """
    chosen = set(indices("vertices", vertices, len(graph.vertices)))
    for vertex in chosen:
        if graph.vertices[vertex].kind in ("input", "output"):
            raise Disconnected(
                f"Vertex {vertex} ({graph.vertices[vertex].name}) is an "
                f"{graph.vertices[vertex].kind} and cannot be removed."
            )
    return graph.without(
        [e.index for e in graph.edges if e.is_floating and {e.source, e.target} & chosen]
    )


def remove(
    graph: ComputationGraph, mask: ArrayLike, references: References = None
) -> fx.GraphModule:
    """The network without the removed edges, and without all that they leave unused.

    Args:
        graph: of the network, which stays as it is.
        mask: (E,) True where an edge stays.
        references: a value for each edge that stands in for it where it is removed
            (``gates.mean_activations``), kept as a buffer; None is zero.

    Returns:
        A module of its own, called with the same inputs; its outputs are those of ``graph.gated``
        at ``graph.gates(mask)`` (with references at the mask).

    Raises:
        InvalidInput: a mask of the wrong length or several masks.
        Disconnected: an output would not be reached from an input any more.
        NotCapturable: the pruned network gives other outputs than the gated one on the example.
    """
    rows = graph.masks(mask)
    if len(rows) != 1:
        raise InvalidInput(f"One mask at a time is carried out; these are {len(rows)}.")
    alive = graph.alive(rows)[0]
    if dead := [v.name for v in graph.vertices if v.kind == "output" and not alive[v.index]]:
        raise Disconnected(
            f"Without these edges no input reaches {', '.join(dead)}; keep a path "
            "(graph.connected tells which masks do)."
        )
    closed = rows[0] if references is not None else graph.gates(rows)[0]
    edges = [edge for edge in graph.edges if not closed[edge.index]]
    module = copy.deepcopy(graph.module)
    known = _Known(graph, module)
    if references is not None:
        _stand_in(graph, module, edges, references)
    else:
        _cut(module, edges, known)
        _forget_values(cleaned(module), known)
    for node in module.graph.nodes:
        if node.target is bypass:  # of a block that stays
            node.replace_all_uses_with(node.args[1])
    if not graph.trains:
        _refuse_training(module, graph.traced_by)
    _tidy(module)
    stand_ins = [f"reference_{edge.index}" for edge in edges if references is not None]
    keep_state_names(module, {*graph.module.state_dict(), *stand_ins})
    _check(graph, module, closed, references, edges)
    return module


def _check(
    graph: ComputationGraph,
    module: fx.GraphModule,
    open_: NDArray[Any],
    references: References,
    edges: Sequence[Edge],
) -> None:
    """Compare a pruned network with the gated one on the example.

    Raises:
        NotCapturable: they give other outputs.
    """
    if graph.module.training:
        return  # it may draw at random
    gates = as_gates(graph, open_)
    pair = (
        run(partial(graph.gated, gates, references), graph.example_inputs),
        run(module, graph.example_inputs),
    )
    expected, found = map(tensors_of, pair)
    if not all(close(f, e, least=1e-3) for f, e in zip(found, expected, strict=True)):
        names = ", ".join(dict.fromkeys(edge.consumer for edge in edges))
        raise NotCapturable(
            "The network without these edges would give other outputs than the gated one; keep "
            f"the edges into {names}."
        )


class _Known:
    """What is known of the values in a network: their type, and their shape for any inputs.

    Args:
        graph: of the whole network.
        module: a copy of its module, which is being changed.
    """

    def __init__(self, graph: ComputationGraph, module: fx.GraphModule) -> None:
        values = graph.program.example
        self._values = {name: v for name, v in values.items() if isinstance(v, Tensor)}
        self._alike = {node: node.name for node in module.graph.nodes}
        self._graph, self._module, self._fixed = graph, module, False

    def of(self, node: fx.Node) -> Tensor:
        """The node's value on the example, without its numbers."""
        return self._values[self._alike[node]]

    def note(self, made: fx.Node, like: fx.Node) -> fx.Node:
        """Remember that a new node's value has the shape and type of another's."""
        self._alike[made] = self._alike[like]
        return made

    def same_shape(self, one: fx.Node, other: fx.Node) -> bool:
        """Whether two values have the same shape, whatever the inputs' sizes."""
        shape = self.of(one).shape
        if shape == self.of(other).shape and 1 not in shape:
            return True  # no side is spread along the other, or the model would fail elsewhere
        a, b = self._alike[one], self._alike[other]
        sizes = self._graph.sizes
        if sizes.known(a) and sizes.known(b):
            return sizes.shape(a) == sizes.shape(b)
        return shape == self.of(other).shape

    def is_sized(self, node: fx.Node) -> bool:
        """Whether the sizes of a tensor follow from those of the inputs."""
        name = self._alike.get(node, "")
        return name in self._values and self._graph.sizes.known(name)

    def shape(self, node: fx.Node) -> list[Any]:
        """The sizes of a node's value: numbers, and nodes that follow from the inputs' sizes."""
        name, sizes = self._alike[node], self._graph.sizes
        if sizes.known(name):
            with contextlib.suppress(NotCapturable):
                dims = range(len(sizes.shape(name)))
                return [sizes.size(self._module.graph, name, dim) for dim in dims]
        if not self._fixed:  # the example's sizes hold for inputs of its sizes alone
            assert_sizes(self._module.graph, self._values)
            self._fixed = True
        return list(self.of(node).shape)


class EvaluationOnly(nn.Module):
    """Passes a value on; refuses to in training mode.

    Args:
        reason: of the refusal.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def forward(self, value: Any) -> Any:
        """The value itself.

        Raises:
            RuntimeError: the network is in training mode.
        """
        if self.training:
            raise RuntimeError(self.reason)
        return value


def _refuse_training(module: fx.GraphModule, traced_by: str) -> None:
    """Let a network say that it cannot train as the model does, instead of training otherwise."""
    reason = (
        f"This network was captured in evaluation mode by {traced_by}, which wrote that mode into "
        "it: dropout and batch statistics would stay switched off in training. Call .eval(), or "
        "remove the same parts from the model itself."
    )
    module.add_submodule("evaluation_only", EvaluationOnly(reason).eval())
    first = next(node for node in input_nodes(module.graph) if node.users)
    with module.graph.inserting_before(after_inputs(module.graph)):
        passed = module.graph.call_module("evaluation_only", (first,))
    first.replace_all_uses_with(passed, lambda user: user is not passed)


def _cut(module: fx.GraphModule, edges: Sequence[Edge], known: _Known) -> None:
    """Drop the cut arguments of sums and concatenations, the only ones that can live without one.

    Args:
        module: is changed.
        edges: whose gates are closed.
        known: of its values.
    """
    cut = {(edge.consumer, edge.slot) for edge in edges}
    gone: set[fx.Node] = set()  # sums that are zero, read by the next sum of their vertex only
    for node in list(module.graph.nodes):
        slots = enumerate(arguments(node))
        # None stands for an argument that was cut; the operations here take none otherwise.
        lost = {slot: None for slot, a in slots if a in gone or (node.name, slot) in cut}
        if not lost:
            continue
        args, kwargs = with_arguments(node, lost)
        if node.target is bypass:
            node.replace_all_uses_with(node.args[1] if 0 in lost else node.args[0])
            continue
        if node.target in CATS:
            _shorten(module, node, args, kwargs, known)
            continue
        assert node.target in SUMS, f"{node.name} cannot lose an argument"
        left, right, factor = _operands(node, args, kwargs)
        if left is None and right is None:
            gone.add(node)
            continue
        with module.graph.inserting_before(node):
            rest = left if right is None else _times(module.graph, right, factor, known)
            rest = _like_the_sum(module.graph, rest, node, known)
        if isinstance(rest, fx.Node):
            node.replace_all_uses_with(rest)
            continue
        for user in list(node.users):  # what stays of the sum is a number
            slots = enumerate(arguments(user))
            number = {slot: rest for slot, a in slots if a is node}
            user.args, user.kwargs = with_arguments(user, number)


def _forget_values(module: fx.GraphModule, known: _Known) -> None:
    """Let nothing be computed of which only the shape is read."""
    graph = module.graph
    for node in reversed(list(graph.nodes)):
        shape_only = node.users and all(reads_shape_only(user, node) for user in node.users)
        if not shape_only or INPUT in node.meta or not known.is_sized(node):
            continue
        first = input_nodes(graph)[0]
        with graph.inserting_before(node):
            sizes, dtype = known.shape(node), known.of(node).dtype
            one = graph.call_method("new_zeros", (first, ()), {"dtype": dtype})
            alike = graph.call_method("expand", (one, *sizes))
        node.replace_all_uses_with(alike)


def _operands(
    node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, Any, float]:
    """Both sides of a sum, and what the second is multiplied by."""
    left = args[0] if args else kwargs.get("input", kwargs.get("self"))
    right = args[1] if len(args) > 1 else kwargs["other"]
    return left, right, (-1 if node.target in SUBTRACTIONS else 1) * kwargs.get("alpha", 1)


def _times(graph: fx.Graph, value: Any, factor: float, known: _Known) -> Any:
    if factor == 1 or not isinstance(value, fx.Node):
        return value if factor == 1 else value * factor
    call = (operator.neg, (value,)) if factor == -1 else (operator.mul, (value, factor))
    return known.note(graph.call_function(*call), value)


def _like_the_sum(graph: fx.Graph, value: Any, total: fx.Node, known: _Known) -> Any:
    """The value in the shape and type of the sum, which the argument that is gone may have given.

    A number needs neither: a sum that has lost all else is dead, and the next argument of a longer
    one has both.
    """
    if not isinstance(value, fx.Node):
        return value
    if not known.same_shape(value, total):
        expanded = graph.call_method("expand", (value, *known.shape(total)))
        value = known.note(expanded, total)
    if known.of(value).dtype != known.of(total).dtype or value.op == "get_attr":
        value = known.note(graph.call_method("to", (value, known.of(total).dtype)), total)
    return value


def _shorten(
    module: fx.GraphModule,
    node: fx.Node,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    known: _Known,
) -> None:
    """A concatenation without its cut blocks, or with zeros in their place."""
    graph = module.graph
    old: list[Any] = list(node.args[0] if node.args else node.kwargs["tensors"])  # type: ignore[arg-type]
    new = list(args[0] if args else kwargs["tensors"])
    pairs = list(zip(old, new, strict=True))
    rest = [n for n in new if n is not None]
    stacks = node.target in (torch.stack, _ATEN.stack.default)
    dim = _cat_dim(node, known.of(old[0]).dim())
    if not stacks and len({known.of(o).dtype for o in old}) == 1:
        keep = torch.cat([torch.full((known.of(o).shape[dim],), n is not None) for o, n in pairs])
        if (edits := _readers(module, node, keep, dim, known)) is not None:
            for reader, kept in edits:
                _narrow(module, reader, kept)
            with graph.inserting_before(node):
                joined = rest[0] if len(rest) == 1 else graph.call_function(torch.cat, (rest, dim))
            node.replace_all_uses_with(joined)
            return
    with graph.inserting_before(node):
        blocks = [_zeros(graph, rest[0], o, known) if n is None else n for o, n in pairs]
    if node.args:
        node.args = (blocks, *args[1:])
    else:
        node.kwargs = {**kwargs, "tensors": blocks}


def _cat_dim(node: fx.Node, dims: int) -> int:
    if node.target is torch.hstack:
        return min(1, dims - 1)
    if node.target is torch.vstack:
        return 0
    given = (
        node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
    )
    assert isinstance(given, int)
    return given % (dims + (node.target in (torch.stack, _ATEN.stack.default)))


def _zeros(graph: fx.Graph, like: fx.Node, gone: fx.Node, known: _Known) -> fx.Node:
    """Zeros in the shape and type of a block that is gone, made where another value lies."""
    sizes, dtype = known.shape(gone), known.of(gone).dtype
    return known.note(graph.call_method("new_zeros", (like, sizes), {"dtype": dtype}), gone)


def _readers(
    module: fx.GraphModule, node: fx.Node, keep: Tensor, dim: int, known: _Known
) -> list[tuple[fx.Node, Tensor]] | None:
    """The layers that read a value through steps that leave zeros zero, each with the inputs that
    it keeps; None if anything else reads it.
    """
    found: list[tuple[fx.Node, Tensor]] = []
    dims = known.of(node).dim()
    for user in node.users:
        layer = module.get_submodule(str(user.target)) if user.op == "call_module" else None
        convolves = (
            isinstance(layer, nn.Conv2d)
            and _is_plain(layer)
            and layer.groups == 1
            and dims == 4
            and dim == 1
        )
        if convolves or (isinstance(layer, nn.Linear) and _is_plain(layer) and dim == dims - 1):
            found.append((user, keep))
        else:
            through = keep if _keeps_channels(user, layer, dim, dims) else None
            if _flattens(user, layer) and dim == 1:
                through = keep.repeat_interleave(math.prod(known.of(node).shape[2:]))
            further = None if through is None else _readers(module, user, through, dim, known)
            if further is None:
                return None
            found += further
    return found


def _is_plain(layer: nn.Module) -> bool:
    """Whether its weight is its own, not one that hooks or parametrisations make."""
    return (
        type(layer) in (nn.Conv2d, nn.Linear)
        and "weight" in layer._parameters
        and not layer._forward_pre_hooks
    )


def _keeps_channels(user: fx.Node, layer: nn.Module | None, dim: int, dims: int) -> bool:
    if isinstance(layer, _CHANNELWISE):
        return dim == 1 and dims == 4
    if len(user.all_input_nodes) != 1 or user.op not in ("call_function", "call_method"):
        return False
    if user.target in _ELEMENTWISE:
        return True
    if user.target in ("mean", torch.mean, _ATEN.mean.dim):
        over = user.args[1] if len(user.args) > 1 else user.kwargs.get("dim")
        over = over if isinstance(over, (tuple, list)) else [over]
        return all(isinstance(d, int) and d % dims > dim for d in over)
    return False


def _flattens(user: fx.Node, layer: nn.Module | None) -> bool:
    if layer is not None:
        return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
    return user.target in ("flatten", torch.flatten) and (
        *user.args[1:],
        *user.kwargs.values(),
    ) == (1,)


def _narrow(module: fx.GraphModule, node: fx.Node, keep: Tensor) -> None:
    """Give the node a layer of its own that reads the kept inputs only."""
    name = str(node.target)
    layer: Any = copy.deepcopy(module.get_submodule(name))
    layer.weight = nn.Parameter(
        layer.weight.detach()[:, keep].clone(), requires_grad=layer.weight.requires_grad
    )
    setattr(
        layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", int(keep.sum())
    )
    called = {str(n.target) for n in module.graph.nodes if n is not node and n.op == "call_module"}
    while name in called:  # the layer works elsewhere too, on all of its inputs
        name += "_narrow"
    module.add_submodule(name, layer)
    node.target = name


def _stand_in(
    graph: ComputationGraph,
    module: fx.GraphModule,
    edges: Sequence[Edge],
    references: Sequence[Tensor | None],
) -> None:
    """Buffers in place of the removed edges, as many times over as there are examples."""
    nodes = {node.name: node for node in module.graph.nodes}
    first = input_nodes(module.graph)[0]
    for edge in edges:
        value, node, name = references[edge.index], nodes[edge.consumer], f"reference_{edge.index}"
        if value is None:
            raise InvalidInput(
                f"There is no reference value for edge {edge.index}, which is to be removed."
            )
        module.register_buffer(name, value.detach().clone())
        with module.graph.inserting_before(node):
            batch = module.graph.call_method("size", (first, 0))
            buffer = module.graph.get_attr(name)
            constant = module.graph.call_method("expand", (buffer, batch, *[-1] * value.dim()))
        node.args, node.kwargs = with_arguments(node, {edge.slot: constant})


def _tidy(module: fx.GraphModule) -> None:
    """Take away nodes, layers, parameters and buffers that nothing reads."""
    cleaned(module)
    module.delete_all_unused_submodules()
    called = [str(n.target) for n in module.graph.nodes if n.op == "call_module"]
    read = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"}
    for name in [
        n
        for kind in (module.named_parameters, module.named_buffers)
        for n, _ in kind(remove_duplicate=False)
    ]:
        if name not in read and not any(name.startswith(layer + ".") for layer in called):
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)
    module.recompile()
