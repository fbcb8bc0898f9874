"""The computation graph of any network: ``capture(model, example_inputs)``.

A network is traced into a flat list of operations by ``torch.fx``, and where Python code in the way
stops it, by ``torch.export``. Operations in place become ordinary ones, tuples are taken apart, and
``traced.contraction`` joins the operations to vertices.

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
import inspect
import io
import logging
import math
import operator
import re
import traceback
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from bogp.checks import choice
from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.graph import ComputationGraph, open_gates, with_candidates
from bogp.structural.levels import LEVELS, at_level
from bogp.structural.traced.containers import (
    BASIC,
    Container,
    Leaf,
    alike,
    as_call,
    by_name,
    checked,
    close,
    filled,
    flattened,
    has_items,
    is_plain,
    mapped,
    parts,
    positional,
    tensors_of,
)
from bogp.structural.traced.contraction import contracted, holds_tensor, is_batched
from bogp.structural.traced.nodes import (
    MODULES,
    Mode,
    arguments,
    check_evaluation_mode,
    cleaned,
    first_line,
    free_name,
    keep_state_names,
    last,
    node_values,
    results_node,
    run,
    with_arguments,
)
from bogp.structural.traced.sizes import INPUT, assert_size

Check = tuple[Any, Any]  # inputs, and the outputs of the model

_DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout,
    functional.dropout1d: nn.Dropout1d,
    functional.dropout2d: nn.Dropout2d,
    functional.dropout3d: nn.Dropout3d,
    functional.alpha_dropout: nn.AlphaDropout,
    functional.feature_alpha_dropout: nn.FeatureAlphaDropout,
}
# Of a longer network for images only the batch is free: cut into windows, with the height and width
# as symbols too, one of 600 operations kept torch.export busy for more than three minutes.
_MOST_FREE = 400
_FEW = 8  # examples
_MADE = {
    torch.ops.aten.zeros.default: "new_zeros",
    torch.ops.aten.ones.default: "new_ones",
    torch.ops.aten.full.default: "new_full",
}
_IN_PLACE = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
} | {operator.iand: operator.and_, operator.ior: operator.or_, operator.ixor: operator.xor}


def capture(model: nn.Module, example_inputs: Any, level: str = "all") -> ComputationGraph:
    """The computation graph of a network.

    Args:
        model: in evaluation mode; it is not changed, and the graph's module shares its parameters.
            What ``nn.DataParallel`` and ``torch.compile`` put around a network is taken off.
        example_inputs: what ``model`` is called with: a tensor, a tuple of arguments, or a mapping
            of keyword arguments. Arguments can be containers of tensors; a dict or a list that is
            the only argument stands in a tuple, ``({"x": x},)``. The batch is the first dimension.
        level: which removals are candidates: ``all`` edges, ``residual`` branches, or whole
            ``blocks`` (``levels``).

    Returns:
        The graph. With all gates at one its module gives the model's outputs on the example, which
        is checked. It is called as the model is, and gives the model's own containers.

    Raises:
        InvalidInput: a layer that mixes examples or draws at random is in training mode; a tensor
            has no values (meta, lazy), is sparse, nested or quantised, or lies on another device
            than the others; the model's outputs on the example are not finite, or differ between
            two calls; or there is no such level.
        NothingToRemove: the network has no removal of that level.
        NotCapturable: the model cannot be traced, or what was traced does something else than the
            model; the message names the operation.
    """
    choice("level", level, LEVELS)
    inputs = example_inputs if isinstance(example_inputs, Mapping) else as_call(example_inputs)[0]
    with _as_written():
        model = _unwrapped(model)
        _check_tensors(model, inputs)
        checks = [(inputs, _outputs(model, inputs))]
        few = _few(model, inputs)
        checks += _further(model, few)
        module, traced_by = _traced(model, checks)
        values = node_values(module, inputs)
        vertices, edges = contracted(module, values)
        batched = is_batched(module, few, edges)
        trains = _trains_alike(model, module, few)
        classes = {
            name: type(layer).__name__
            for name, layer in model.named_modules(remove_duplicate=False)
        }
        graph = ComputationGraph(
            module, vertices, edges, batched, traced_by, inputs, trains, classes=classes
        )
        ones = open_gates(graph)
        if not _reproduces(partial(graph.gated, ones, None), checks):
            operations = dict.fromkeys(n.name for n in module.graph.nodes if n.op[:4] == "call")
            raise NotCapturable(
                "The gated network gives other outputs than the model; its operations: "
                f"{', '.join(operations)}."
            )
    return at_level(with_candidates(graph), level)


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """Models run the operations that their code says, not ones that stand for many of them.

    ``torch.compile`` and the fused kernel of transformer layers do the same by one operation, in
    which there is no edge.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, without what was put around it to run it otherwise.

    Raises:
        InvalidInput: it is no module of Python code.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise InvalidInput(
            f"model is a {type(model).__name__}; a torch.nn.Module is needed, with its Python code."
        )
    inner: Any = getattr(model, "_orig_mod", None)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner = model.module
    return model if inner is None else _unwrapped(inner)


def _check_tensors(model: nn.Module, inputs: Any) -> None:
    """Refuse tensors that cannot be computed with as others are.

    Raises:
        InvalidInput: names the tensor or the layer.
    """
    for name, module in model.named_modules():
        static = "nn.quantized.modules" in type(module).__module__
        if static and not name.endswith("_packed_params"):  # those dynamic layers have too
            raise InvalidInput(
                f"{name} ({type(module).__name__}) computes with quantised numbers, which no gate "
                "can scale; capture the network before it is quantised."
            )
    given = ((f"Input {at}", t) for at, t in enumerate(tensors_of(inputs)))
    devices: dict[torch.device, str] = {}
    for name, t in (*model.named_parameters(), *model.named_buffers(), *given):
        _check_tensor(name, t)
        devices.setdefault(t.device, name)
    if len(devices) > 1:
        where = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise InvalidInput(
            f"The model and its inputs lie on several devices ({where}); move them to one."
        )


def _check_tensor(name: str, tensor: Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        why = "has no shape yet; call the model once, so that its lazy layers get theirs"
    elif tensor.is_meta or isinstance(tensor, FakeTensor):
        why = "is on the meta device and has no values; load or initialise them first"
    elif tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
        kinds = {"quantised": tensor.is_quantized, "nested": tensor.is_nested, "sparse": True}
        why = f"is {next(k for k, yes in kinds.items() if yes)}; only dense ones can be followed"
    else:
        return
    raise InvalidInput(f"{name} {why}.")


def _outputs(model: nn.Module, inputs: Any) -> Any:
    """The model's outputs on the example.

    Raises:
        InvalidInput: model or inputs are not what ``capture`` takes.
    """
    check_evaluation_mode(model)
    try:
        expected, again = run(model, inputs), run(model, inputs)
    except Exception as error:  # the model's own code, which can raise anything
        hint = " A dict that is one argument stands in a tuple." * isinstance(inputs, Mapping)
        raise InvalidInput(
            f"The model cannot be called with the example inputs: {first_line(error)}{hint}"
        ) from error
    for at, tensor in enumerate(tensors_of(expected)):
        _check_tensor(f"Output {at}", tensor)
    if not all(t.isfinite().all() for t in tensors_of(expected) if t.is_floating_point()):
        raise InvalidInput(
            "The model's outputs on the example inputs are not finite; check its weights and "
            "the example."
        )
    if not alike(again, expected):
        raise InvalidInput(
            "The model gives other outputs when it is called again; it draws at random or "
            "keeps a state, and has no one graph."
        )
    return expected


def _few(model: nn.Module, inputs: Any) -> Any:
    """The first of many examples, on which further checks cost little; all where few do not run."""
    batch = next((len(i) for i in tensors_of(inputs) if i.dim()), 0)
    if batch <= _FEW:
        return inputs
    few = mapped(lambda i: i[:_FEW] if i.dim() and len(i) == batch else i, inputs)
    try:
        run(model, few)
    except Exception:  # the model's own code, which can raise anything
        return inputs
    return few


def _further(model: nn.Module, inputs: Any) -> list[Check]:
    """Other inputs made from the example, with the model's outputs.

    Where the model itself raises an error, such as for a batch size that it has fixed, there is
    nothing to compare.
    """
    batch = next((len(i) for i in tensors_of(inputs) if i.dim()), 0)

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
        with contextlib.suppress(Exception):
            others = mapped(change, inputs)
            found.append((others, run(model, others)))
    return found


def _trains_alike(model: nn.Module, module: nn.Module, inputs: Any) -> bool:
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
    return alike(ours, theirs) and all(close(state[name], buffers[name]) for name in shared)


def _reordered(value: Tensor) -> Tensor:
    order = torch.randperm(value.numel(), generator=torch.Generator().manual_seed(0))
    return value.flatten()[order.to(value.device)].view(value.shape)


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
        if not alike(outputs, expected):
            return False
    return True


def _traced(model: nn.Module, checks: Sequence[Check]) -> tuple[fx.GraphModule, str]:
    """The network, and the name of the first tracer that reproduces the model's outputs."""
    errors: list[Exception] = []
    for name, trace in (("torch.fx", _by_fx), ("torch.export", _by_export)):
        try:
            module = trace(model, checks[0][0])
            if _reproduces(module, checks):
                keep_state_names(module, model.state_dict())
                return module, name
            errors.append(NotCapturable(f"{name} gives other outputs than the model"))
        except Exception as error:  # tracing runs the model's own code, which can raise anything
            errors.append(error)
    raise NotCapturable(_stopped_at(model, *errors)) from None


class _Flat:
    """A model as a function from tensors to tensors, whatever containers they come in.

    Attributes:
        tensors: of the example inputs.
        arguments: forms of the model's arguments, by name.
        optional: names of those that were left out.
        names: of the tensors.
        result: the form of what the model gave when it was called last.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self.tensors, self._form = flattened(as_call(inputs))
        self.arguments, self.optional = by_name(model, *self._form)
        self.names = [""] * len(self.tensors)
        for name, form in self.arguments.items():
            self._name(name, form)
        self.result: Any = None

    def _name(self, name: str, form: Any) -> None:
        if isinstance(form, Leaf):
            name = re.sub(r"\W", "_", name)
            self.names[form.index] = name if name not in self.names else f"{name}_{form.index}"
        for key, part in (parts(form) or {}).items():
            self._name(f"{name}_{key}", part)

    def call(self, forward: Callable[..., Any], *tensors: Any) -> tuple[Any, ...]:
        args, kwargs = filled(self._form, tensors)
        found, self.result = flattened(forward(*args, **kwargs))
        return tuple(found)

    def dressed(self, root: nn.Module, graph: fx.Graph, name: str) -> fx.GraphModule:
        """A network on tensors as one that is called as the model is, and gives what it gives.

        Args:
            root: has the parameters.
            graph: from tensors to the leaves of ``result``.
            name: of the class.
        """
        flat = [n for n in graph.nodes if n.op == "placeholder"]
        new, place = fx.Graph(), dict[fx.Node, fx.Node]()

        def spread(node: fx.Node, form: Any) -> None:
            if isinstance(form, Leaf):
                place[flat[form.index]] = node
                node.meta[INPUT] = True
            elif isinstance(form, BASIC):
                same = new.call_function(operator.eq, (node, form))
                assert_size(new, same, f"{node.name} == {form!r}")
            take = operator.getitem if has_items(form) else getattr
            if inner := parts(form):
                whole = new.call_function(checked, (node, tuple(inner)))
                for key, part in inner.items():
                    text = re.sub(r"\W", "_", f"{node.name}_{key}")
                    spread(new.create_node("call_function", take, (whole, key), name=text), part)

        given: list[fx.Node] = []
        for argument, form in self.arguments.items():
            # Python wants a default behind each default.
            default = {"default_value": form if argument in self.optional else None}
            follows = argument in self.optional or (given and given[-1].args)
            given.append(new.placeholder(argument, **(default if follows else {})))
        for node, form in zip(given, self.arguments.values(), strict=True):
            spread(node, form)
        for node in graph.nodes:
            if node.op not in ("placeholder", "output"):
                place[node] = new.node_copy(node, place.__getitem__)
        results = [place[r] if isinstance(r, fx.Node) else r for r in last(graph).args[0]]  # type: ignore[union-attr]
        if is_plain(self.result):
            new.output(filled(self.result, results))
            return fx.GraphModule(root, new, name)
        new.output(tuple(results))
        module = fx.GraphModule(root, new, name)
        module.add_submodule(free := free_name("outputs", dir(module)), Container(self.result))
        end = last(new)
        with new.inserting_before(end):
            end.args = (new.call_module(free, tuple(results)),)
        module.recompile()
        return module


class _Tracer(fx.Tracer):
    """Follows a model into layers of ``torch.nn`` that have branches of their own."""

    def __init__(self, flat: _Flat) -> None:
        super().__init__()
        self._flat = flat

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        tensors = [self.create_proxy("placeholder", name, (), {}) for name in self._flat.names]
        return self._flat.call, [partial(root_fn, self.root), *tensors]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        inside = ("torch.nn.modules.transformer", "torch.nn.parallel")
        layer = super().is_leaf_module(m, module_qualified_name)
        return _is_a_dropout(m) or (layer and not m.__module__.startswith(inside))


def _is_a_dropout(module: nn.Module) -> bool:
    """Whether a module of the user's is one function of one value, another in training: as a whole
    it follows the mode, as a stochastic depth does; its code alone would be that of evaluation.
    """
    forward = type(module).forward
    return (
        not module._parameters
        and not module._buffers
        and not module._modules
        and "training" in getattr(getattr(forward, "__code__", None), "co_names", ())
        and list(inspect.signature(module.forward).parameters.values())[1:] == []
    )


def _by_fx(model: nn.Module, inputs: Any) -> fx.GraphModule:
    flat = _Flat(model, inputs)
    traced = _Tracer(flat).trace(model)
    _note_modules(traced)
    module = flat.dressed(model, traced, type(model).__name__)
    memory = _Memory(module)
    run(memory.run, tuple(positional(module, inputs)))
    place = {node: i for i, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        if _out_of_place(model, module, node):
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
        versions = [(a, t, t._version) for a in read for t in tensors_of(self.env[a])]
        value = super().run_node(n)
        for a, tensor, version in versions:
            if tensor._version != version:
                self.written.setdefault(n, a.name)
        tensors = tensors_of(value)
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


def _note_modules(graph: fx.Graph) -> None:
    """Let each node know the calls of modules that it was traced in.

    Tracers say for each module its name, and in a key how many times it was called before. Of the
    rest only whether a function is traced as a whole is kept, which saved code has to say.
    """
    for node in graph.nodes:
        stack = (node.meta.get("nn_module_stack") or {}).items()
        calls = (f"{name}{''.join(key.partition('@')[1:])}" for key, (name, _) in stack if name)
        whole = {key: node.meta[key] for key in ("is_wrapped",) if key in node.meta}
        node.meta, node.type = {MODULES: tuple(calls), **whole}, None


def _differentiable_copies(graph: fx.Graph) -> None:
    """``y.copy_(x)`` without its place is an operation that torch has no derivative of: x in the
    shape and type of y, which is written so here.
    """
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.copy.default:
            with graph.inserting_before(node):
                expanded = graph.call_method("expand_as", (node.args[1], node.args[0]))
                same = graph.call_method("type_as", (expanded, node.args[0]))
            expanded.meta, same.meta = dict(node.meta), dict(node.meta)
            node.replace_all_uses_with(same)
            graph.erase_node(node)


def _factories(graph: fx.Graph) -> None:
    """Let tensors of given sizes be made by methods of an input, which can be traced again.

    torch traces no function that gets values in nothing but a list of sizes.
    """
    first = next(node for node in graph.nodes if node.op == "placeholder")
    for node in list(graph.nodes):
        method = _MADE.get(node.target)
        if method is None or not any(isinstance(size, fx.Node) for size in node.args[0]):
            continue
        fill = node.args[1] if len(node.args) > 1 else 0.0
        kind = {bool: torch.bool, int: torch.int64}.get(type(fill), torch.get_default_dtype())
        kwargs = {"dtype": node.kwargs.get("dtype") or kind, "device": node.kwargs.get("device")}
        with graph.inserting_before(node):
            new = graph.call_method(method, (first, *node.args), kwargs)
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.erase_node(node)


def _follow_the_mode(module: fx.GraphModule) -> None:
    """Let functions that work otherwise in training follow the mode again.

    Tracing writes ``training=self.training`` as the constant that it is in evaluation mode. A
    dropout becomes a layer; other functions, such as ``batch_norm``, are told the mode.
    """
    graph = module.graph
    for node in list(graph.nodes):
        if getattr(node.target, "__module__", "") != functional.__name__:
            continue
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if given.get("training") is not False:
            continue
        layer = _DROPOUTS.get(node.target)
        with graph.inserting_before(node):
            if layer is not None and not isinstance(given["p"], fx.Node):
                module.add_submodule(f"{node.name}_layer", layer(given["p"]).eval())
                new = graph.call_module(f"{node.name}_layer", (given["input"],))
            else:
                module.add_submodule(f"{node.name}_mode", Mode().eval())
                mode = graph.call_module(f"{node.name}_mode")
                new = graph.call_function(node.target, (), {**given, "training": mode})
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.erase_node(node)


def _taken_apart(module: fx.GraphModule, inputs: Any) -> fx.GraphModule:
    """Hand the parts of a tuple, each a value of its own, to whatever reads the whole."""
    values = node_values(module, inputs)
    graph = module.graph

    def parts(node: fx.Node, value: Any) -> Any:
        if type(value) not in (tuple, list) or not holds_tensor(value):
            return node
        items = [graph.call_function(operator.getitem, (node, i)) for i in range(len(value))]
        for item in items:
            item.meta = {MODULES: node.meta.get(MODULES, ())}
        return type(value)(map(parts, items, value))

    for node in list(graph.nodes):
        takes = node.target in (operator.getitem, checked)
        if not takes and results_node(module) not in node.all_input_nodes:
            with graph.inserting_before(node):
                whole = {i: parts(a, values[a.name]) for i, a in enumerate(arguments(node))}
            node.args, node.kwargs = with_arguments(node, whole)
    return cleaned(module)


def _out_of_place(model: nn.Module, module: fx.GraphModule, node: fx.Node) -> bool:
    """Make an operation that overwrites its first argument one that does not.

    Args:
        model: as it is; one of its layers may be called in several places.
        module, node: what was traced, and an operation in it.

    Returns:
        Whether it was such an operation.
    """
    target = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__") and not name.startswith("_")
    if node.op == "call_module":
        layer: Any = dict(model.named_modules(remove_duplicate=False)).get(name)
        if not getattr(layer, "inplace", False):
            return False
        layer = copy.copy(layer)  # the model keeps its own
        layer.inplace = False
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


def _by_export(model: nn.Module, inputs: Any) -> fx.GraphModule:
    flat = _Flat(model, inputs)
    with _quiet():
        program = _exported(model, flat).run_decompositions({})  # without operations in place
        exported: Any = program.module()
    graph = fx.Graph()
    results = graph.graph_copy(exported.graph, {})
    graph.output(pytree.tree_leaves(results, is_leaf=lambda leaf: leaf is None))
    for node in reversed(list(graph.nodes)):
        # Export's own checks are of many kinds; those that inputs can violate come next.
        if not node.users and (node.op == "call_module" or "assert" in str(node.target)):
            graph.erase_node(node)
    _assert_sizes(graph, program)
    _note_modules(graph)
    _reshape_views(graph)
    _differentiable_copies(graph)
    _factories(graph)
    return cleaned(flat.dressed(exported, graph, type(model).__name__))


def _exported(model: nn.Module, flat: _Flat) -> Any:
    """The exported program, with as many free sizes as its operations allow."""
    shell = copy.copy(model)  # shares all layers and parameters
    own = vars(model).get("forward") or types.MethodType(type(model).forward, shell)

    def forward(*tensors: Tensor) -> tuple[Any, ...]:
        return flat.call(own, *tensors)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [inspect.Parameter(name, kind) for name in flat.names]
    forward.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
    vars(shell)["forward"] = forward

    def export(dims: Callable[[Tensor], Iterable[int]]) -> Any:
        auto = torch.export.Dim.AUTO
        shapes = tuple(dict.fromkeys(dims(tensor), auto) for tensor in flat.tensors)
        return torch.export.export(shell, tuple(flat.tensors), dynamic_shapes=shapes, strict=False)

    program = None
    if any(tensor.dim() > 3 for tensor in flat.tensors):  # images
        program = export(lambda x: range(min(x.dim(), 1)))
        if sum(node.op == "call_function" for node in program.graph.nodes) > _MOST_FREE:
            return program
    try:
        return export(lambda x: range(x.dim()))
    except Exception:  # some operations know their rule for a fixed size only
        return program or export(lambda x: range(min(x.dim(), 1)))


def _assert_sizes(graph: fx.Graph, program: Any) -> None:
    """Write into the network what ``torch.export`` took for granted of its inputs.

    It follows one branch of each condition on sizes, writes numbers for fixed sizes, and assumes
    that free ones are at least two. With other inputs the network would be another one.
    """
    # by the name of the argument; a node's is another where Python has that name for its own
    placeholders = {str(node.target): node for node in graph.nodes if node.op == "placeholder"}
    after = list(placeholders.values())[-1].next
    conditions = [(text, ast.parse(text, mode="eval").body) for text in program._guards_code]
    with graph.inserting_before(after):
        for text, condition in conditions:
            _assert(graph, _written(graph, condition, placeholders), text)
        for node in placeholders.values():
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
    ast.Div: operator.truediv,
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
        case ast.BoolOp(op=sign, values=several):
            join = operator.or_ if isinstance(sign, ast.Or) else operator.and_
            sides = (_written(graph, side, placeholders) for side in several)
            return reduce(lambda a, b: graph.call_function(join, (a, b)), sides)
        case ast.Call(func=ast.Name(id="max" | "min" as extreme), args=several):
            choose = torch.sym_max if extreme == "max" else torch.sym_min
            sides = (_written(graph, side, placeholders) for side in several)
            return reduce(lambda a, b: graph.call_function(choose, (a, b)), sides)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="math"), attr="ceil" | "floor" as way), args=[one]
        ):
            whole = math.ceil if way == "ceil" else math.floor
            return graph.call_function(whole, (_written(graph, one, placeholders),))
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
    reasons = "; ".join(first_line(error) for error in errors)
    return (
        f"{type(model).__name__} cannot be captured: {where} depends on values that are known only "
        f"when it runs, or cannot be traced. torch says: {reasons}"
    )
