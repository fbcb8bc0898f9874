"""The computation graph of any network: ``capture(model, example_inputs)``.

A network is traced into a flat list of operations by ``torch.fx``, and where Python code in the way
stops it, by ``torch.export``. Operations in place become ordinary ones, tuples are taken apart, and
``contraction`` joins the operations to vertices. What was traced is compared with the model twice:
as it is, and with all its gates at one.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import operator
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.contraction import contracted, holds_tensor, is_batched
from bogp.structural.graph import (
    ComputationGraph,
    arguments,
    check_evaluation_mode,
    float_type,
    node_values,
    run,
    with_arguments,
    with_candidates,
)

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
    expected = _outputs(model, inputs)
    module, traced_by = _traced(model, inputs, expected)
    values = node_values(module, inputs)
    vertices, edges = contracted(module, values)
    batched = is_batched(module, inputs, edges, values)
    graph = ComputationGraph(module, vertices, edges, batched, traced_by, inputs)
    ones = torch.ones(len(edges), dtype=float_type(graph))
    if not _equal(run(graph.gated, (ones, None, *inputs)), expected):
        operations = dict.fromkeys(n.name for n in module.graph.nodes if n.op.startswith("call"))
        raise NotCapturable(
            "The gated network gives other outputs than the model; "
            f"its operations: {', '.join(operations)}."
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
                f"Input {at} is a {type(value).__name__} of tensors; "
                "give each tensor as an argument of its own."
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
            "The model's outputs on the example inputs are not finite; "
            "check its weights and the example."
        )
    if not _equal(again, expected):
        raise InvalidInput(
            "The model gives other outputs when it is called again; "
            "it draws at random or keeps a state, and has no one graph."
        )
    return expected


def _equal(found: Any, expected: Any) -> bool:
    """Whether outputs are the same to 1e-5 of their size, in the same containers."""
    (ours, form), (theirs, wanted) = pytree.tree_flatten(found), pytree.tree_flatten(expected)
    return form == wanted and all(
        o.shape == t.shape and torch.allclose(o, t, rtol=1e-5, atol=1e-6)
        if isinstance(o, Tensor) and isinstance(t, Tensor)
        else o == t
        for o, t in zip(ours, theirs, strict=True)
    )


def _traced(model: nn.Module, inputs: tuple[Any, ...], expected: Any) -> tuple[fx.GraphModule, str]:
    """The network, and the name of the first tracer that reproduces the model's outputs."""
    errors: list[Exception] = []
    for name, trace in (("torch.fx", _by_fx), ("torch.export", _by_export)):
        try:
            module = trace(model, inputs)
            if _equal(run(module, inputs), expected):
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
            # Whatever reads the changed value later reads the result from now on.
            for user in [u for u in changed.users if place[u] > place[node]]:
                user.replace_input_with(changed, node)
    return _taken_apart(_cleaned(module), inputs)


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
    return _cleaned(module)


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
    shapes = pytree.tree_map(
        lambda x: {0: torch.export.Dim.AUTO} if isinstance(x, Tensor) and x.dim() else None, inputs
    )
    with _quiet():
        program = torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
        exported = program.run_decompositions({}).module()  # without operations in place
    graph, old = fx.Graph(), exported.graph
    outputs = graph.graph_copy(old, {})
    information = getattr(old._codegen, "pytree_info", None)
    if information is not None and information.out_spec is not None:
        # Exported outputs are a flat list; give them the model's own containers again.
        outputs = pytree.tree_unflatten(pytree.tree_leaves(outputs), information.out_spec)
    graph.output(outputs)
    for node in reversed(list(graph.nodes)):
        node.meta, node.type = {}, None
        # Export adds checks of the example's shapes, which would refuse batches of another size.
        if not node.users and (node.op == "call_module" or "assert" in str(node.target)):
            graph.erase_node(node)
    return _cleaned(fx.GraphModule(exported, graph, type(model).__name__))


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


def _cleaned(module: fx.GraphModule) -> fx.GraphModule:
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return module


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
