"""How the sizes of all values follow from the sizes of the inputs, for any sizes.

Surgery has to make zeros, and to widen what is left of a sum, in the shape that the whole network
would have had. The example's own sizes would be wrong for any other batch or length. So the network
is run once with symbols in place of sizes (``torch.fx.experimental.symbolic_shapes``), and the
resulting expressions, such as ``2 * s0 + 1``, become operations on the sizes of the inputs.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from itertools import product
from typing import Any

import sympy
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)
from torch.utils._sympy import functions

from bogp.errors import NotCapturable
from bogp.structural.traced.containers import OTHER_SIZES, mapped, tensors_of

_OPERATIONS: dict[type, Any] = {
    sympy.Add: operator.add,
    sympy.Mul: operator.mul,
    functions.FloorDiv: operator.floordiv,
    functions.CleanDiv: operator.floordiv,
    functions.PythonMod: operator.mod,
    functions.Mod: operator.mod,
}


class Sizes:
    """The sizes of a traced network's values, as expressions in the sizes of its inputs.

    Args:
        module: the traced network.
        inputs: an example, an item for each argument.
    """

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Any]) -> None:
        self._shapes: dict[str, tuple[Any, ...]] = {}
        self._symbols: dict[sympy.Symbol, tuple[str, int]] = {}
        with contextlib.suppress(Exception):  # inputs that cannot stand for others
            self._run(module, inputs)

    def known(self, name: str) -> bool:
        """Whether the sizes of a node's value are known for any inputs."""
        return name in self._shapes

    def shape(self, name: str) -> tuple[Any, ...]:
        """The sizes of a node's value: numbers, and expressions that compare by what they say."""
        return self._shapes[name]

    def size(self, graph: fx.Graph, name: str, dim: int) -> Any:
        """One size of a node's value: a number, or a node (inserted where the graph inserts).

        Raises:
            NotCapturable: it follows from the inputs' sizes in a way that has no operation here.
        """
        size = self._shapes[name][dim]
        if isinstance(size, int):
            return size
        return self._made(graph, size)

    def _run(self, module: fx.GraphModule, inputs: Sequence[Any]) -> None:
        # Sizes that happen to be equal, or 1, in the example need not be so in other inputs.
        environment = ShapeEnv(duck_shape=False, specialize_zero_one=False)
        mode = FakeTensorMode(shape_env=environment, allow_non_fake_inputs=True)

        def symbolic(value: Tensor) -> Any:
            dynamic: Any = StatelessSymbolicContext(
                dynamic_sizes=[DimDynamic.DYNAMIC] * value.dim()
            )
            return mode.from_tensor(value, symbolic_context=dynamic)

        with mode:
            shapes = _shapes(module, mapped(symbolic, list(inputs)), in_part=True)
        for node in input_nodes(module.graph):
            for dim, size in enumerate(shapes.get(node.name, ())):
                if isinstance(size, sympy.Symbol):
                    self._symbols.setdefault(size, (node.name, dim))
        self._shapes = shapes
        self._check(module, inputs)

    def _check(self, module: fx.GraphModule, inputs: Sequence[Any]) -> None:
        """Compare with longer inputs: some operations fix sizes when they see symbols.

        A size that was fixed so is that of an input, up to a constant, where both grow alike; else
        it is not known.
        """
        now = _shapes(module, mapped(torch.clone, list(inputs)))
        lengths = {(dim, size) for t in tensors_of(inputs) for dim, size in enumerate(t.shape)}
        for (dim, size), more in product(lengths, (1, 2, 3)):
            longer = partial(_longer, dim=dim, size=size, more=more)
            with contextlib.suppress(Exception):  # it may take no other size
                then = _shapes(module, mapped(longer, list(inputs)))
                given = {s: then[n][d] for s, (n, d) in self._symbols.items()}
                start = {s: now[n][d] for s, (n, d) in self._symbols.items()}
                grown = next(s for s in given if given[s] > start[s])
                for name, shape in list(self._shapes.items()):
                    pairs = list(zip(shape, now[name], then[name], strict=True))
                    fitted = [
                        size if _at(size, given) == after else grown + before - start[grown]
                        for size, before, after in pairs
                    ]
                    self._shapes[name] = tuple(fitted)
                    if [_at(size, given) for size in fitted] != list(then[name]):
                        del self._shapes[name]

    def _made(self, graph: fx.Graph, expression: sympy.Expr) -> Any:
        if expression.is_Integer:
            return int(expression)
        if expression in self._symbols:
            name, dim = self._symbols[expression]
            node = next(n for n in input_nodes(graph) if n.name == name)
            return graph.call_method("size", (node, dim))
        if isinstance(expression, sympy.Pow) and expression.exp.is_Integer and expression.exp > 0:
            return graph.call_function(
                operator.pow, (self._made(graph, expression.base), int(expression.exp))
            )
        operation = _OPERATIONS.get(expression.func)
        if operation is None:
            raise NotCapturable(
                f"A size of the network is {expression} of its inputs' sizes, which cannot be "
                "written as operations on them."
            )
        parts = [self._made(graph, part) for part in expression.args]
        return reduce(lambda a, b: graph.call_function(operation, (a, b)), parts)


def _at(size: Any, given: dict[sympy.Symbol, int]) -> Any:
    """A size where those of the inputs are given."""
    return sympy.sympify(size).subs(given)


def _longer(value: Tensor, dim: int, size: int, more: int) -> Tensor:
    """A copy, longer in a dimension if that has this size."""
    if value.dim() <= dim or value.shape[dim] != size:
        return value.clone()
    return torch.cat([value, *[value.narrow(dim, 0, 1)] * more], dim)


def _shapes(
    module: fx.GraphModule, inputs: Sequence[Any], in_part: bool = False
) -> dict[str, tuple[Any, ...]]:
    """The sizes of all values, by name of the node: numbers, or expressions at that point.

    Args:
        module, inputs: what is run.
        in_part: whether values are left out that an operation has no rule for, and all that read
            them; otherwise its error is raised.
    """
    found: dict[str, tuple[Any, ...]] = {}
    missing = object()

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            if any(self.env[a] is missing for a in n.all_input_nodes):
                return missing
            try:
                value = super().run_node(n)
            except Exception:
                if not in_part:
                    raise
                return missing
            if isinstance(value, Tensor):
                found[n.name] = tuple(map(_settled, value.shape))
            return value

    with torch.no_grad():
        Recorder(module).run(*inputs)
    return found


def _settled(size: Any) -> Any:
    """A size as a number where all inputs give the same one, else as an expression."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression) if expression.is_Integer else expression


INPUT = "bogp input"  # marks, in a node's meta, a tensor that the network is called with


def input_nodes(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that are tensors of the inputs: arguments, or parts of containers among them."""
    return [node for node in graph.nodes if INPUT in node.meta]


def after_inputs(graph: fx.Graph) -> fx.Node:
    """The node that follows all arguments and their parts."""
    return [n for n in graph.nodes if n.op == "placeholder" or INPUT in n.meta][-1].next


def assert_size(graph: fx.Graph, condition: Any, text: str) -> None:
    """Write a condition on the inputs' sizes into a network, which then refuses other inputs."""
    graph.call_function(torch._assert, (condition, f"{OTHER_SIZES} {text}."))


def assert_sizes(graph: fx.Graph, values: Mapping[str, Tensor]) -> None:
    """Let a network refuse inputs of other sizes than these, by name of the input's node."""
    with graph.inserting_before(after_inputs(graph)):
        for node in input_nodes(graph):
            for dim, size in enumerate(values[node.name].shape):
                own = graph.call_method("size", (node, dim))
                same = graph.call_function(operator.eq, (own, size))
                assert_size(graph, same, f"{node.name}.shape[{dim}] == {size}")
