"""The computation graph of any network: ``capture(model, example_inputs)``.

A network is traced into a flat list of operations by ``torch.fx``, and where Python code in the way
stops it, by ``torch.export``. Operations in place become ordinary ones, tuples are taken apart, and
``contraction`` joins the operations to vertices.

What was traced has to give the model's outputs, as it is and with all its gates at one: on the
example, and on others made from it (scaled, negated, in another order, another batch size). Because
no set of inputs shows everything, operations in place on memory that another value shares are
refused by ``torch.fx`` whatever they do on these inputs, and conditions on sizes that
``torch.export`` relied on stay in the network as assertions.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import logging
import operator
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.contraction import contracted, holds_tensor, is_batched
from bogp.structural.graph import (
    ComputationGraph,
    arguments,
    check_evaluation_mode,
    cleaned,
    float_type,
    node_values,
    run,
    with_arguments,
    with_candidates,
)
from bogp.structural.sizes import assert_size

Check = tuple[tuple[Any, ...], Any]  # inputs, and the outputs of the model

_DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout,
    functional.dropout1d: nn.Dropout1d,
    functional.dropout2d: nn.Dropout2d,
    functional.dropout3d: nn.Dropout3d,
    functional.alpha_dropout: nn.AlphaDropout,
    functional.feature_alpha_dropout: nn.FeatureAlphaDropout,
}
_IN_PLACE = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
} | {operator.iand: operator.and_, operator.ior: operator.or_, operator.ixor: operator.xor}


def capture(model: nn.Module, example_inputs: Any) -> ComputationGraph:
    """The computation graph of a network.

    Args:
        model: in evaluation mode; it is not changed, and the graph's module shares its parameters.
        example_inputs: a tensor or a tuple of what ``model`` is called with; the batch is the first
            dimension.

    Returns:
        The graph. With all gates at one its module gives the model's outputs on the example, which
        is checked.

    Raises:
        InvalidInput: a layer that mixes examples or draws at random is in training mode; or the
            model's outputs on the example are not finite, or differ between two calls.
        NotCapturable: the model cannot be traced, or what was traced does something else than the
            model; the message names the operation.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    checks = [(inputs, _outputs(model, inputs)), *_further(model, inputs)]
    module, traced_by = _traced(model, checks)
    values = node_values(module, inputs)
    vertices, edges = contracted(module, values)
    batched = is_batched(module, inputs, edges)
    trains = _trains_alike(model, module, inputs)
    graph = ComputationGraph(module, vertices, edges, batched, traced_by, inputs, trains)
    ones = torch.ones(len(edges), dtype=float_type(graph))
    if not _reproduces(lambda *given: graph.gated(ones, None, *given), checks):
        operations = dict.fromkeys(n.name for n in module.graph.nodes if n.op.startswith("call"))
        raise NotCapturable(
            "The gated network gives other outputs than the model; its operations: "
            f"{', '.join(operations)}."
        )
    return with_candidates(graph)


def _outputs(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """The model's outputs on the example.

    Raises:
        InvalidInput: model or inputs are not what ``capture`` takes.
    """
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"model is a {type(model).__name__}; a torch.nn.Module is needed.")
    for at, value in enumerate(inputs):
        if not isinstance(value, Tensor) and holds_tensor(value):
            raise InvalidInput(
                f"Input {at} is a {type(value).__name__} of tensors; give each tensor as an "
                "argument of its own."
            )
    check_evaluation_mode(model)
    try:
        expected, again = run(model, inputs), run(model, inputs)
    except Exception as error:  # the model's own code, which can raise anything
        raise InvalidInput(
            f"The model cannot be called with the example inputs: {_first_line(error)}"
        ) from error
    leaves = [leaf for leaf in pytree.tree_leaves(expected) if isinstance(leaf, Tensor)]
    if not all(torch.isfinite(leaf).all() for leaf in leaves if leaf.is_floating_point()):
        raise InvalidInput(
            "The model's outputs on the example inputs are not finite; check its weights and "
            "the example."
        )
    if not _equal(again, expected):
        raise InvalidInput(
            "The model gives other outputs when it is called again; it draws at random or "
            "keeps a state, and has no one graph."
        )
    return expected


def _further(model: nn.Module, inputs: tuple[Any, ...]) -> list[Check]:
    """Other inputs made from the example, with the model's outputs.

    Where the model itself raises an error, such as for a batch size that it has fixed, there is
    nothing to compare.
    """
    batch = next((len(i) for i in inputs if isinstance(i, Tensor) and i.dim()), 0)

    def of_examples(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda i: change(i) if i.dim() and len(i) == batch else i

    def of_numbers(factor: float) -> Callable[[Tensor], Tensor]:
        # Whole numbers are names of things: in another order they stay names that there are.
        return lambda i: i * factor if i.is_floating_point() else _reordered(i)

    found = []
    for change in (
        *(of_numbers(10), of_numbers(-1), of_numbers(0.1)),
        of_examples(lambda i: i.flip(0)),
        of_examples(lambda i: torch.cat([i, i.flip(0), i[:1]])),
        of_examples(lambda i: i[:1]),
    ):
        others = tuple(change(i) if isinstance(i, Tensor) else i for i in inputs)
        with contextlib.suppress(Exception):
            found.append((others, run(model, others)))
    return found


def _trains_alike(model: nn.Module, module: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Whether training mode makes the traced network do what it makes the model do."""
    outcomes = []
    for one in (model, module):
        try:
            trained = copy.deepcopy(one).train()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                outputs = run(trained, inputs)
        except Exception:  # what cannot be copied or run is not known to train
            return False
        state = {
            name: value for name, value in trained.named_buffers() if "num_batches" not in name
        }
        outcomes.append((outputs, state))
    (ours, state), (theirs, buffers) = outcomes[1], outcomes[0]
    shared = state.keys() & buffers.keys()
    return _equal(ours, theirs) and all(_close(state[name], buffers[name]) for name in shared)


def _reordered(value: Tensor) -> Tensor:
    order = torch.randperm(value.numel(), generator=torch.Generator().manual_seed(0))
    return value.flatten()[order.to(value.device)].view(value.shape)


def _equal(found: Any, expected: Any) -> bool:
    """Whether outputs are the same up to rounding, in the same containers.

    Rounding is relative to the largest value of a tensor: small ones among large carry its error.
    """
    (ours, form), (theirs, wanted) = pytree.tree_flatten(found), pytree.tree_flatten(expected)
    return form == wanted and all(
        _close(o, t) if isinstance(o, Tensor) and isinstance(t, Tensor) else bool(o == t)
        for o, t in zip(ours, theirs, strict=True)
    )


def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(found, expected)
    tolerance = min(100 * torch.finfo(expected.dtype).eps, 0.05)
    finite = expected[expected.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 0.0
    return torch.allclose(found, expected, rtol=0, atol=tolerance * largest, equal_nan=True)


def _reproduces(module: Callable[..., Any], checks: Sequence[Check]) -> bool:
    """Whether a traced module gives the model's outputs; only the example itself has to run.

    Other inputs may be refused, which tells the user; they must not give another number.
    """
    for number, (inputs, expected) in enumerate(checks):
        try:
            outputs = run(module, inputs)
        except Exception:
            if number == 0:
                raise
            continue
        if not _equal(outputs, expected):
            return False
    return True


def _traced(model: nn.Module, checks: Sequence[Check]) -> tuple[fx.GraphModule, str]:
    """The network, and the name of the first tracer that reproduces the model's outputs."""
    errors: list[Exception] = []
    for name, trace in (("torch.fx", _by_fx), ("torch.export", _by_export)):
        try:
            module = trace(model, checks[0][0])
            if _reproduces(module, checks):
                return module, name
            errors.append(NotCapturable(f"{name} gives other outputs than the model"))
        except Exception as error:  # tracing runs the model's own code, which can raise anything
            errors.append(error)
    raise NotCapturable(_stopped_at(model, *errors)) from None


def _by_fx(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    module = fx.symbolic_trace(model)
    memory = _Memory(module)
    run(memory.run, inputs)
    place = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        node.type = None  # annotations that are strings cannot be saved
        if _out_of_place(module, node):
            changed = arguments(node)[0]
            # Whatever reads the changed value later reads the result from now on.
            for user in [u for u in changed.users if place[u] > place[node]]:
                user.replace_input_with(changed, node)
            others = [n for n in memory.shared(node, changed) if n is not changed]
            later = [n.name for n in others if any(place[u] > place[node] for u in n.users)]
            if later:
                raise NotCapturable(
                    f"{node.name} writes into memory that {later[0]} shares, which is read later"
                )
        elif node in memory.written:
            raise NotCapturable(f"{node.name} writes into {memory.written[node]}")
    _follow_the_mode(module)
    _reshape_views(module.graph)
    return _taken_apart(cleaned(module), inputs)


class _Memory(fx.Interpreter):
    """Runs a module as it was traced, and sees which values share memory and which are written.

    Which memory a value lies in does not depend on numbers, so one example shows it.

    Attributes:
        written: nodes that write into an argument, and the name of that argument.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self._place: dict[fx.Node, set[int]] = {}
        self._alive: list[Tensor] = []  # so that no memory is used twice
        self.written: dict[fx.Node, str] = {}

    def run_node(self, n: fx.Node) -> Any:
        read = n.all_input_nodes if n.op.startswith("call") else []
        versions = [(a, t, t._version) for a in read for t in _tensors(self.env[a])]
        value = super().run_node(n)
        for a, tensor, version in versions:
            if tensor._version != version:
                self.written.setdefault(n, a.name)
        tensors = _tensors(value)
        self._alive += tensors
        self._place[n] = {t.untyped_storage()._cdata for t in tensors}
        return value

    def shared(self, node: fx.Node, changed: fx.Node) -> list[fx.Node]:
        """The nodes before ``node``, and constants, whose values share memory with ``changed``."""
        found, earlier = [], True
        for other in self.module.graph.nodes:  # type: ignore[union-attr]
            earlier &= other is not node
            if (earlier or other.op == "get_attr") and self._place[other] & self._place[changed]:
                found.append(other)
        return found


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _reshape_views(graph: fx.Graph) -> None:
    """Let views copy where they have to.

    A view needs values to lie in memory as they did when the network was traced. Behind a gate, in
    a derivative, or where the other side of a sum is gone, they may lie otherwise.
    """
    for node in graph.nodes:
        if node.target == "view" and not any(isinstance(a, torch.dtype) for a in node.args):
            node.target = "reshape"
        elif node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default


def _follow_the_mode(module: fx.GraphModule) -> None:
    """Make a dropout that was called as a function a layer, which training switches on again.

    Tracing writes ``training=self.training`` as the constant that it is in evaluation mode.
    """
    for node in list(module.graph.nodes):
        layer = _DROPOUTS.get(node.target) if node.op == "call_function" else None
        if layer is None:
            continue
        given = dict(zip(("input", "p", "training", "inplace"), node.args, strict=False))
        given |= node.kwargs
        if given.get("training") is not False or isinstance(given.get("p"), fx.Node):
            continue
        name = f"{node.name}_layer"
        module.add_submodule(name, layer(given.get("p", 0.5)).eval())
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(module.graph.call_module(name, (given["input"],)))
        module.graph.erase_node(node)


def _taken_apart(module: fx.GraphModule, inputs: tuple[Any, ...]) -> fx.GraphModule:
    """Hand the parts of a tuple, each a value of its own, to whatever reads the whole."""
    values = node_values(module, inputs)
    graph = module.graph

    def parts(node: fx.Node, value: Any) -> Any:
        if type(value) not in (tuple, list) or not holds_tensor(value):
            return node
        items = (graph.call_function(operator.getitem, (node, i)) for i in range(len(value)))
        return type(value)(map(parts, items, value))

    for node in list(graph.nodes):
        if node.target is not operator.getitem:
            with graph.inserting_before(node):
                whole = {i: parts(a, values[a.name]) for i, a in enumerate(arguments(node))}
            node.args, node.kwargs = with_arguments(node, whole)
    return cleaned(module)


def _out_of_place(module: fx.GraphModule, node: fx.Node) -> bool:
    """Make an operation that overwrites its first argument one that does not.

    Returns:
        Whether it was such an operation.
    """
    target = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__") and not name.startswith("_")
    if node.op == "call_module":
        layer = module.get_submodule(name)
        if not getattr(layer, "inplace", False):
            return False
        layer = copy.copy(layer)  # the model keeps its own
        layer.inplace = False  # type: ignore[assignment]
        module.add_submodule(name, layer)
    elif node.op == "call_function" and node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    elif node.op == "call_function" and target in _IN_PLACE:
        node.target = _IN_PLACE[target]
    elif node.op.startswith("call") and (in_place or target is operator.setitem):
        method = node.op == "call_method"
        plain = getattr(Tensor if method else torch, name[:-1], None)
        if plain is None:
            raise NotCapturable(f"{node.name} works in place and has no form that does not")
        node.target = name[:-1] if method else plain
    else:
        return False
    return True


def _by_export(model: nn.Module, inputs: tuple[Any, ...]) -> fx.GraphModule:
    with _quiet():
        program = _exported(model, inputs).run_decompositions({})  # without operations in place
        exported: Any = program.module()
    graph, old = fx.Graph(), exported.graph
    outputs = graph.graph_copy(old, {})
    information = getattr(old._codegen, "pytree_info", None)
    if information is not None and information.out_spec is not None:
        # Exported outputs are a flat list; give them the model's own containers again.
        outputs = pytree.tree_unflatten(pytree.tree_leaves(outputs), information.out_spec)
    graph.output(outputs)
    for node in reversed(list(graph.nodes)):
        # Export's own checks are of many kinds; those that inputs can violate come next.
        if not node.users and (node.op == "call_module" or "assert" in str(node.target)):
            graph.erase_node(node)
    _assert_sizes(graph, program, inputs)
    _reshape_views(graph)
    for node in graph.nodes:
        node.meta, node.type = {}, None
    return cleaned(fx.GraphModule(exported, graph, type(model).__name__))


def _exported(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """The exported program, with as many free sizes as its operations allow."""

    def free(dims: Callable[[Tensor], Iterable[int]]) -> Any:
        auto = torch.export.Dim.AUTO
        return pytree.tree_map(
            lambda x: dict.fromkeys(dims(x), auto) if isinstance(x, Tensor) else None, inputs
        )

    try:
        shapes = free(lambda x: range(x.dim()))
        return torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
    except Exception:  # some operations know their rule for a fixed size only
        shapes = free(lambda x: range(min(x.dim(), 1)))
        return torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)


def _assert_sizes(graph: fx.Graph, program: Any, inputs: tuple[Any, ...]) -> None:
    """Write into the network what ``torch.export`` took for granted of its inputs.

    It follows one branch of each condition on sizes, writes numbers for fixed sizes, and assumes
    that free ones are at least two. With other inputs the network would be another one.
    """
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    after = list(placeholders.values())[-1].next
    conditions = [(text, ast.parse(text, mode="eval").body) for text in program._guards_code]
    with graph.inserting_before(after):
        for text, condition in conditions:
            _assert(graph, _written(graph, condition, placeholders), text)
        for node, value in zip(placeholders.values(), inputs, strict=False):
            if not isinstance(value, Tensor):
                if isinstance(value, (bool, int, float, str)):
                    same = graph.call_function(operator.eq, (node, value))
                    _assert(graph, same, f"{node.name} == {value!r}")
                continue
            for dim, size in enumerate(node.meta["val"].shape):
                fixed = isinstance(size, int)
                least = 0 if dim == 0 else 2  # a batch of one is tried when the network is captured
                if fixed or least:
                    compare, bound = (operator.eq, size) if fixed else (operator.ge, least)
                    own = graph.call_method("size", (node, dim))
                    sign = "==" if fixed else ">="
                    _assert(
                        graph,
                        graph.call_function(compare, (own, bound)),
                        f"{node.name}.shape[{dim}] {sign} {bound}",
                    )


def _assert(graph: fx.Graph, condition: fx.Node, text: str) -> None:
    text = re.sub(r"L\['(\w+)'\]", r"\1", text).replace(".size()", ".shape")
    assert_size(graph, condition, text)


_COMPARISONS: dict[type, Any] = {
    **{ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le},
    **{ast.Gt: operator.gt, ast.GtE: operator.ge},
}
_ARITHMETIC: dict[type, Any] = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul},
    **{ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow},
}


def _written(graph: fx.Graph, part: ast.expr, placeholders: Mapping[str, fx.Node]) -> Any:
    """A condition on sizes, such as ``L['x'].size()[0] <= 16``, as nodes of the graph.

    Raises:
        NotCapturable: it holds something else than arithmetic on sizes.
    """
    match part:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return graph.call_function(operator.neg, (_written(graph, operand, placeholders),))
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _COMPARISONS:
            sides = (_written(graph, side, placeholders) for side in (left, right))
            return graph.call_function(_COMPARISONS[type(sign)], tuple(sides))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _ARITHMETIC:
            sides = (_written(graph, side, placeholders) for side in (left, right))
            return graph.call_function(_ARITHMETIC[type(sign)], tuple(sides))
        case ast.Subscript(
            value=ast.Call(func=ast.Attribute(value=source, attr="size")),
            slice=ast.Constant(value=dim),
        ):
            name = re.sub(r"\W+", "_", ast.unparse(source).removeprefix("L")).strip("_")
            if name in placeholders:
                return graph.call_method("size", (placeholders[name], int(str(dim))))
    raise NotCapturable(f"a condition on the inputs cannot be kept: {ast.unparse(part)}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings and logs of torch.export: a failure is reported anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _stopped_at(model: nn.Module, *errors: Exception) -> str:
    """Which line of whose code could not be traced, and the operation that torch names."""
    stack = traceback.extract_tb(errors[0].__traceback__)
    ours = str(Path(__file__).parent)
    frames = [f for f in stack if "/torch/" not in f.filename and not f.filename.startswith(ours)]
    last = frames[-1] if frames else None
    where = f"`{last.line}` ({last.name}, line {last.lineno})" if last else "an operation"
    reasons = "; ".join(_first_line(error) for error in errors)
    return (
        f"{type(model).__name__} cannot be captured: {where} depends on values that are known only "
        f"when it runs, or cannot be traced. torch says: {reasons}"
    )


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
