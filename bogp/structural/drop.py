"""Blocks and branches removed from the user's own model, which stays of its class.

A block leaves its list of layers, and a configuration that counts them follows (Hugging Face's
``config.num_hidden_layers`` and the like). A branch leaves its place empty: a ``Zeros`` where
its value is added, ``Skipped`` where modules only led to that. What comes out is compared with the
gated network on the example; where a model cannot be changed in place, ``drop`` gives the module
that ``surgery.remove`` makes, and warns.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from bogp.checks import indices, listed
from bogp.errors import BogpError, InvalidInput
from bogp.structural.graph import ComputationGraph, as_gates
from bogp.structural.surgery import remove
from bogp.structural.traced.containers import close, mapped, tensors_of
from bogp.structural.traced.nodes import calls_of, first_line, run

TOLERANCE = 1e-5  # of the largest value, in float32
_COUNTS = re.compile(r"^(n_layers?|num(_hidden)?_layers|depth|(num_)?(en|de)coder_layers)$")
_STAGES = re.compile(r"(^|_)(depths|block_sizes)$")
_INDEX = ("layer_idx", "layer_id", "layer_index", "layer_number")
EMPTIED = "emptied_modules"  # in a configuration: where branches were removed


class NotInPlace(UserWarning):
    """The model could not be changed in place; a module of another class was given instead."""


class _Unfit(Exception):
    """A change in place that does not give what the gated network gives; says why."""


class Skipped(nn.Module):
    """Hands on the first tensor that it gets.

    Args:
        values: how many values the module gave that stood here, the rest None; 0 for no tuple.
    """

    def __init__(self, values: int = 0) -> None:
        super().__init__()
        self.values = values

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The tensor, or a tuple that begins with it."""
        value = self._of(next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)))
        return (value, *[None] * (self.values - 1)) if self.values else value

    def _of(self, value: Tensor) -> Tensor:
        return value

    def extra_repr(self) -> str:
        """What it gives."""
        return f"values={self.values}" if self.values else ""


class Zeros(Skipped):
    """Gives zeros in the form of the first tensor that it gets."""

    def _of(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value)


def drop(
    model: nn.Module, graph: ComputationGraph, removed: Sequence[str] | Sequence[int]
) -> nn.Module:
    """The same model without some of its blocks or branches.

    Args:
        model: that ``graph`` was captured from; it stays as it is.
        graph: at level ``blocks`` or ``residual``.
        removed: names of modules, such as ``model.layers.3``, or indices of the graph's candidates.

    Returns:
        A copy of the model, of the same class. It gives what the gated network gives, to 1e-5 of
        the largest value, and trains, generates and is saved as before; with branches removed it is
        loaded again by ``load`` or ``empty``. Where the model cannot be changed in place, the
        module of ``surgery.remove``, with a ``NotInPlace`` warning that says why.

    Raises:
        InvalidInput: a name or index is no candidate, with the reason; a block shares parameters
            with what stays; or the configuration has no field that counts the layers.
        Disconnected: an output would not be reached any more.
    """
    edges = chosen(graph, removed)
    if graph.level == "all":
        raise InvalidInput(
            "drop takes a graph at level 'blocks' or 'residual'; for edges of level 'all' use "
            "structural.remove, which gives an ordinary module."
        )
    mask = graph.without(edges)
    names = [graph.edges[e].module for e in edges]
    if graph.level == "blocks":
        _check_shared(model, names)
        ways = [lambda: _without_layers(model, names), lambda: _skipped(model, graph, names)]
    else:
        ways = [lambda: _emptied(model, graph, mask, edges)]
    gates = as_gates(graph, graph.gates(mask)[0])
    with torch.no_grad():
        expected = graph.outputs(gates, None, mapped(torch.clone, graph.example_inputs))
    reasons: list[str] = []
    for way in ways:
        try:
            dropped = way()
            _check(dropped, graph, expected)
            return dropped
        except BogpError:
            raise
        except Exception as error:  # the model's own code, which can raise anything
            reasons.append(first_line(error))
    warnings.warn(
        f"{type(model).__name__} cannot be changed in place ({'; '.join(reasons)}). This is the "
        "pruned network as a module of its own (structural.remove).",
        NotInPlace,
        stacklevel=2,
    )
    return remove(graph, mask)


def chosen(graph: ComputationGraph, removed: Any) -> list[int]:
    """The candidates that are meant by names or indices.

    Raises:
        InvalidInput: one is no candidate; says why it is none.
    """
    given = [removed] if isinstance(removed, str) else list(listed("removed", removed))
    if not given:
        raise InvalidInput("There is nothing to remove; give names or indices of candidates.")
    if all(isinstance(one, str) for one in given):
        names = {graph.edges[e].module: int(e) for e in graph.candidates}
        for name in given:
            if name not in names:
                raise InvalidInput(_no_candidate(graph, name))
        return [names[name] for name in dict.fromkeys(given)]
    found = indices("removed", given, len(graph.edges))
    for edge in found:
        if graph.edges[edge].why_kept:
            raise InvalidInput(f"Edge {edge} is no candidate: {graph.edges[edge].why_kept}.")
    return list(dict.fromkeys(found))


def _no_candidate(graph: ComputationGraph, name: str) -> str:
    allowed = [graph.edges[e].module for e in graph.candidates]
    if name not in graph.classes:
        return f"The model has no module {name!r}; {graph.level}: {', '.join(allowed)}."
    why = graph.why_no_block.get(name, "holds no removal of this level")
    return f"{name} cannot be removed: it {why}. What can be, at level {graph.level}: " + (
        ", ".join(allowed) + "."
    )


def _check_shared(model: nn.Module, names: Sequence[str]) -> None:
    """Refuse to remove layers whose parameters others use as well.

    Raises:
        InvalidInput: names both.
    """
    inside: dict[int, str] = {}
    for name in names:
        inside |= {id(p): name for p in model.get_submodule(name).parameters()}
    for name, p in model.named_parameters(remove_duplicate=False):
        if id(p) in inside and not any(name.startswith(f"{n}.") for n in names):
            raise InvalidInput(
                f"{inside[id(p)]} shares parameters with {name}, which stays; removing it would "
                "make the model no smaller. Give each layer its own parameters."
            )


# blocks


def _without_layers(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """A copy without those entries of its lists of layers; its configuration follows."""
    by_list: dict[str, list[str]] = {}
    for name in names:
        owner, _, key = name.rpartition(".")
        if not isinstance(model.get_submodule(owner), (nn.ModuleList, nn.Sequential)):
            raise _Unfit(f"{name} is no entry of a list of layers")
        by_list.setdefault(owner, []).append(key)
    for owner, keys in by_list.items():
        _counted(model, owner, len(model.get_submodule(owner)._modules), len(keys))
    dropped = copy.deepcopy(model)
    for owner, keys in by_list.items():
        _shorten(dropped, owner, keys)
    return dropped


def _shorten(model: nn.Module, owner: str, keys: Sequence[str]) -> None:
    layers = model.get_submodule(owner)
    old = list(layers._modules)
    kept = [key for key in old if key not in keys]
    # An empty nn.Sequential, such as a stage of a ResNet, hands on what it gets.
    if not kept and not isinstance(layers, nn.Sequential):
        raise _Unfit(f"all layers of {owner} would go")
    numbered = old == [str(i) for i in range(len(old))]
    modules = {str(i) if numbered else key: layers._modules[key] for i, key in enumerate(kept)}
    layers._modules.clear()
    layers._modules.update(modules)
    places = [old.index(key) for key in kept]
    for new, (place, layer) in enumerate(zip(places, modules.values(), strict=True)):
        _renumber(layer, place, new)
    for config, fields in _counted(model, owner, len(old), len(keys)):
        _follow(config, fields, owner, places, len(old))


def _follow(
    config: Any, fields: Sequence[str], owner: str, places: Sequence[int], count: int
) -> None:
    """Let a configuration count the layers that stay.

    Args:
        config, fields: as ``_counted`` gives them.
        owner: the name of the list of layers.
        places: of those that stay, among the ``count`` before.
    """
    for field in fields:
        value = getattr(config, field)
        if isinstance(value, (list, tuple)):  # a number for each stage
            at = _stage(owner)
            setattr(config, field, type(value)([*value[:at], len(places), *value[at + 1 :]]))
        else:
            setattr(config, field, len(places))
    for field, value in list(vars(config).items()):
        one_each = isinstance(value, (list, tuple)) and len(value) == count
        if one_each and "layer" in field:  # others can be as long by chance
            setattr(config, field, type(value)(value[place] for place in places))
    if getattr(config, "stage_names", None) == ["stem", *(f"stage{i + 1}" for i in range(count))]:
        config.stage_names = ["stem", *(f"stage{i + 1}" for i in range(len(places)))]
        for field, last in (
            ("_out_features", config.stage_names[-1]),
            ("_out_indices", len(places)),
        ):
            if hasattr(config, field):
                setattr(config, field, [last])


def _stage(owner: str) -> int:
    """The first number in a name, such as 1 of ``encoder.stages.1.layers``; -1 for none."""
    return next((int(part) for part in owner.split(".") if part.isdigit()), -1)


def _renumber(layer: nn.Module | None, old: int, new: int) -> None:
    """Tell a layer its new place, by which it finds its keys and values when it generates."""
    for module in layer.modules() if layer is not None else ():
        for name in _INDEX:
            if getattr(module, name, None) == old:
                setattr(module, name, new)


def _counted(model: nn.Module, owner: str, count: int, fewer: int) -> list[tuple[Any, list[str]]]:
    """The configurations around a list of layers, and those of their fields that count it.

    Raises:
        InvalidInput: there is a configuration, and none of its fields does.
    """
    parts = owner.split(".")
    around = [model.get_submodule(".".join(parts[:i])) for i in range(len(parts) + 1)]
    configs = {id(c): c for m in around if (c := getattr(m, "config", None)) is not None}
    known = [c for c in configs.values() if any(_COUNTS.search(f) for f in vars(c))]
    found = [(c, fields) for c in configs.values() if (fields := _fields(c, owner, count))]
    if known and not found:
        listed = ", ".join(f"{f}={v}" for f, v in vars(known[0]).items() if _COUNTS.search(f))
        raise InvalidInput(
            f"The configuration ({type(known[0]).__name__}) has no field that counts the {count} "
            f"layers of {owner} ({listed}), so that it cannot follow when {fewer} go; set the "
            "field, or use structural.remove."
        )
    if hasattr(model, "save_pretrained") and not found:
        raise _Unfit(f"no field of the configuration counts the layers of {owner}")
    return found


def _fields(config: Any, owner: str, count: int) -> list[str]:
    """Fields that count a list of layers; of an encoder's and a decoder's the one that is meant."""
    at, fields = _stage(owner), []
    for field, value in vars(config).items():
        stages = _STAGES.search(field) and isinstance(value, (list, tuple)) and at >= 0
        if (_COUNTS.search(field) and value == count) or (stages and value[at : at + 1] == [count]):
            fields.append(field)
    if staged := [f for f in fields if _STAGES.search(f)]:
        return staged  # a list in a stage is counted there, whatever else is as large
    for own, other in (("encoder", "decoder"), ("decoder", "encoder")):
        if own in owner:
            return [f for f in fields if own in f] or [f for f in fields if other not in f]
    return fields


def _skipped(model: nn.Module, graph: ComputationGraph, names: Sequence[str]) -> nn.Module:
    """A copy in which those modules hand on what they get."""
    forms = _forms(model, graph, names)
    return empty(model, {name: {"gives": "input", "values": forms[name]} for name in names})


# branches


def _emptied(
    model: nn.Module, graph: ComputationGraph, mask: NDArray[np.bool_], edges: Sequence[int]
) -> nn.Module:
    """A copy in which the modules that a removal leaves without use stand empty."""
    plans, _ = graph.program.plans(graph.gates(mask) == 0)
    nodes = [n for n in graph.program.nodes if n.op not in ("get_attr", "placeholder", "output")]
    place = graph.program.place
    used = {name for n in nodes if plans[0, place[n]] for name in _modules_of(n)}
    gone = [n for n in nodes if not plans[0, place[n]]]
    # A module that is called elsewhere too, such as a dropout, stays.
    outermost = {n: next((m for m in _modules_of(n) if m not in used), "") for n in gone}
    dead = [name for name in dict.fromkeys(outermost.values()) if name]
    if not dead:
        raise _Unfit("no module belongs to the branch alone")
    # Zeros stand where a value leaves all that is dead, or goes on outside of modules.
    cut = {graph.edges[e].producer for e in edges}
    ends = {
        outermost[n] for n in gone if n.name in cut or any(not outermost.get(u) for u in n.users)
    }
    forms = _forms(model, graph, dead)
    return empty(
        model,
        {
            name: {"gives": "zeros" if name in ends else "input", "values": forms[name]}
            for name in dead
        },
    )


def _modules_of(node: fx.Node) -> list[str]:
    """The modules that a node was traced in, outermost first, whichever call it was."""
    return [call.partition("@")[0] for call in calls_of(node)]


def _forms(model: nn.Module, graph: ComputationGraph, names: Iterable[str]) -> dict[str, int]:
    """How many values each module gives in a tuple; 0 where it gives a tensor."""
    found: dict[str, int] = {}

    def hook(name: str) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[name] = 0
            elif isinstance(output, tuple) and output and isinstance(output[0], Tensor):
                found[name] = len(output)
            else:
                raise _Unfit(f"{name} gives a {type(output).__name__}")

        return note

    hooks = [model.get_submodule(n).register_forward_hook(hook(n)) for n in names]
    try:
        run(model, graph.example_inputs)
    finally:
        for one in hooks:
            one.remove()
    if missing := [name for name in names if name not in found]:
        raise _Unfit(f"{missing[0]} is not called as a module")
    return found


def empty(model: nn.Module, modules: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """A copy of a model in which some modules stand empty, as ``drop`` leaves removed branches.

    Args:
        model: stays as it is.
        modules: for each module's name what it ``gives`` (``zeros``, or its ``input``) and how many
            ``values`` in a tuple (0 for a tensor); ``emptied`` tells those of a model.

    Raises:
        InvalidInput: the model has no such module.
    """
    for name in modules:
        if name not in dict(model.named_modules()) or not name:
            raise InvalidInput(f"{type(model).__name__} has no module {name!r} to be emptied.")
    kept = copy.deepcopy(
        model, {id(model.get_submodule(n)): _stand_in(m) for n, m in modules.items()}
    )
    config = getattr(kept, "config", None)
    if hasattr(config, "to_dict"):
        setattr(config, EMPTIED, {name: dict(one) for name, one in emptied(kept).items()})
    _renumber_attention(kept)
    return kept


def _stand_in(one: Mapping[str, Any]) -> Skipped:
    return (Zeros if one["gives"] == "zeros" else Skipped)(int(one["values"]))


def emptied(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The modules of a model that ``drop`` left empty, as ``empty`` takes them."""
    return {
        name: {"gives": "zeros" if isinstance(m, Zeros) else "input", "values": m.values}
        for name, m in model.named_modules()
        if isinstance(m, Skipped)
    }


def _renumber_attention(model: nn.Module) -> None:
    """Let the first attention that is left be number 0.

    Caches of keys and values tell the length of the text by their first layer. Where layers are of
    several kinds, each finds its kind by its number, and numbers stay.
    """
    kinds = getattr(getattr(model, "config", None), "layer_types", None) or [None]
    by_number: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        number = getattr(module, "layer_idx", None)
        if isinstance(number, int) and any(True for _ in module.parameters(recurse=True)):
            by_number.setdefault(number, []).append(module)
    if len(set(kinds)) > 1:
        return
    for new, old in enumerate(sorted(by_number)):
        for module in by_number[old]:
            module.layer_idx = new  # type: ignore[assignment]


def load(kind: type[Any], folder: str | Path) -> Any:
    """A model of Hugging Face's ``transformers`` that was saved after ``drop``.

    ``from_pretrained`` by itself builds removed branches anew; models without blocks need no help.

    Args:
        kind: the model's class, such as ``GPT2LMHeadModel``.
        folder: that ``save_pretrained`` wrote.

    Raises:
        InvalidInput: the folder's weights are not those of such a model.
    """
    modules = getattr(kind.config_class.from_pretrained(str(folder)), EMPTIED, None) or {}

    def build(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, config, *args, **kwargs)
        for name, one in modules.items():
            self.set_submodule(name, _stand_in(one))
        _renumber_attention(self)

    built = type(kind.__name__, (kind,), {"__init__": build, "__module__": kind.__module__})
    model, info = built.from_pretrained(str(folder), output_loading_info=True)  # type: ignore[attr-defined]
    wrong = {
        name: info.get(name) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(wrong.values()):
        counts = ", ".join(f"{len(keys)} {name}" for name, keys in wrong.items() if keys)
        raise InvalidInput(
            f"The weights in {Path(folder).name} are not those of this {kind.__name__} ({counts})."
        )
    model.__class__ = kind
    return model.eval()


def _check(dropped: nn.Module, graph: ComputationGraph, expected: Any) -> None:
    found = tensors_of(run(dropped, graph.example_inputs))
    wanted = tensors_of(expected)
    if len(found) != len(wanted) or not all(map(_alike, found, wanted)):
        raise _Unfit("it would give other outputs than the gated network")


def _alike(found: Tensor, expected: Tensor) -> bool:
    return close(found, expected, least=TOLERANCE)
