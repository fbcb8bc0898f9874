"""The nodes of a traced network, and how it is run: what the rest of the room builds on."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, count
from typing import Any

import torch
from torch import fx, nn

from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.traced.containers import (
    Container,
    as_call,
    checked,
    mapped,
    positional,
    tensors_of,
)

Inputs = Any  # a tuple of arguments, or a mapping of keyword arguments

_ATEN = torch.ops.aten
# The operations that go on when one of their arguments is cut; all others die with an argument.
SUMS = {
    *(operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub),
    *("add", "add_", "sub", "sub_"),
    *(_ATEN.add.Tensor, _ATEN.add_.Tensor, _ATEN.sub.Tensor, _ATEN.sub_.Tensor),
}
SUBTRACTIONS = {
    *(operator.sub, operator.isub, torch.sub, "sub", "sub_"),
    *(_ATEN.sub.Tensor, _ATEN.sub_.Tensor),
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
MODULES = "bogp modules"  # in a node's meta: the calls of modules it was traced in, outermost first


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


def signs_of(node: fx.Node) -> list[float]:
    """Of a sum or a difference the factors of its ``arguments``, in order.

    Raises:
        NotCapturable: a factor that is no number.
    """
    signs = [1.0, -1.0 if node.target in SUBTRACTIONS else 1.0]
    alpha: Any = node.kwargs.get("alpha", 1.0)
    if isinstance(alpha, fx.Node):
        raise NotCapturable(
            f"{node.name} adds with a factor (alpha) that is only known when it runs; multiply by "
            "it instead."
        )
    signs[1] *= float(alpha)
    number_first = bool(node.args) and not isinstance(node.args[0], fx.Node)
    return signs[1:] if number_first else signs


def factors(nodes: Sequence[fx.Node]) -> dict[tuple[str, int], float]:
    """What each value enters a sum with that is made of several sums and differences.

    Args:
        nodes: of the sum, in the order of the network.

    Returns:
        By the name of the node that reads the value, and its place among the ``arguments``.
    """
    of: dict[fx.Node, float] = {}
    for node in reversed(nodes):
        entering = [
            of[user] * signs_of(user)[place]
            for user in node.users
            if user in of and user.target in SUMS
            for place, a in enumerate(arguments(user))
            if a is node
        ]
        of[node] = sum(entering) if entering else 1.0
    return {
        (node.name, place): factor * sign
        for node, factor in of.items()
        if node.target in SUMS
        for place, sign in enumerate(signs_of(node))
    }


def bypass(around: Any, through: Any) -> Any:
    """What a block makes of a value (``through``); where it is removed, the value itself."""
    return through


def calls_of(node: fx.Node) -> tuple[str, ...]:
    """The calls of modules that a node was traced in, outermost first.

    A module that is called again has ``@1``, ``@2`` behind its name.
    """
    return tuple(node.meta.get(MODULES, ()))


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


def shortened(text: str, width: int) -> str:
    """A text of at most that many characters; what is in the middle goes first."""
    half = width // 2
    return text if len(text) <= width else f"{text[: half - 2]}..{text[len(text) - half :]}"


def first_line(error: Exception) -> str:
    """The first line of an error's message that says something, or its class."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


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


def device_of(module: nn.Module, inputs: Inputs) -> torch.device:
    """Where a network lies; one without parameters and buffers lies where its inputs do."""
    tensors = chain(module.parameters(), module.buffers(), tensors_of(inputs))
    return next((t.device for t in tensors), torch.device("cpu"))


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
