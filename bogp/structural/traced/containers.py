"""What networks are called with and what they give: tensors in containers of any class.

A container is a tuple, a list, a mapping, a dataclass, or any other object whose attributes hold
something, such as a cache. A copy with other parts is of the same class, and no class has to be
known beforehand or is registered anywhere. A *form* is a container with a ``Leaf`` in the place of
each tensor.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

OTHER_SIZES = "The network was captured for inputs with"  # begins what its assertions say
BASIC = (type(None), bool, int, float, complex, str, bytes)
_TENSORS = (Tensor, fx.Proxy, torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass(frozen=True)
class Leaf:
    """The place of a tensor in a form.

    Attributes:
        index: of the tensor, in the order in which they are met.
    """

    index: int


def parts(value: Any) -> dict[Any, Any] | None:
    """The parts of a container by index, key or name, in order; None where it is none."""
    if isinstance(value, (*_TENSORS, *BASIC, Leaf, type, nn.Module, Enum)):
        return None
    if isinstance(value, (tuple, list)):
        return dict(enumerate(value))
    if isinstance(value, Mapping):
        return {key: value[key] for key in value}
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None if callable(value) else getattr(value, "__dict__", None)


def has_items(value: Any) -> bool:
    """Whether the parts of a container are items, and not attributes."""
    return isinstance(value, (tuple, list, Mapping))


def with_parts(like: Any, new: Mapping[Any, Any]) -> Any:
    """A container of the same class with other parts."""
    if isinstance(like, tuple):
        return (
            type(like)(*new.values()) if hasattr(like, "_fields") else type(like)([*new.values()])
        )
    made = copy.copy(like)
    for key, part in new.items():
        if has_items(like):
            made[key] = part
        if not has_items(like) or key in getattr(made, "__dict__", ()):
            object.__setattr__(made, key, part)  # past what a frozen dataclass forbids
    return made


def mapped(change: Callable[[Any], Any], value: Any, leaves: Any = _TENSORS) -> Any:
    """A copy of a container, each tensor (or what else counts as a leaf) changed."""
    if isinstance(value, leaves):
        return change(value)
    inner = parts(value)
    if inner is None:
        return value
    return with_parts(value, {key: mapped(change, part, leaves) for key, part in inner.items()})


def flattened(value: Any) -> tuple[list[Any], Any]:
    """The tensors of a container, in order, and its form."""
    found: list[Any] = []

    def leaf(tensor: Any) -> Leaf:
        found.append(tensor)
        return Leaf(len(found) - 1)

    return found, mapped(leaf, value)


def filled(form: Any, tensors: Sequence[Any]) -> Any:
    """The container of a form with tensors in their places."""
    return mapped(lambda leaf: tensors[leaf.index], form, Leaf)


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors of a container, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in (parts(value) or {}).values() for tensor in tensors_of(part)]


def alike(found: Any, expected: Any) -> bool:
    """Whether two containers are of the same classes and hold the same, tensors up to rounding."""
    if isinstance(expected, Tensor):
        return isinstance(found, Tensor) and close(found, expected)
    ours, theirs = parts(found), parts(expected)
    if type(found) is not type(expected) or (ours is None) != (theirs is None):
        return False
    if ours is None or theirs is None:
        known = isinstance(expected, BASIC)  # of other objects there is no saying
        return not known or found == expected or found != found
    return list(ours) == list(theirs) and all(alike(ours[key], theirs[key]) for key in theirs)


def close(found: Tensor, expected: Tensor, least: float = 0.0) -> bool:
    """Whether tensors are equal up to rounding, of the same shape and type.

    Rounding is relative to the largest value: small ones among large carry its error.

    Args:
        found, expected: of any shape.
        least: the least difference that is allowed, as a share of the largest value.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not (expected.is_floating_point() or expected.is_complex()):
        return torch.equal(found, expected)
    tolerance = max(least, min(100 * torch.finfo(expected.dtype).eps, 0.05))
    finite = expected[expected.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 0.0
    return torch.allclose(found, expected, rtol=0, atol=tolerance * largest, equal_nan=True)


def as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the keyword arguments of a call.

    Args:
        inputs: a tuple of positional arguments, a mapping of keyword arguments, or a single
            argument.
    """
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def by_name(model: nn.Module, args: Any, kwargs: Any) -> tuple[dict[str, Any], set[str]]:
    """The arguments of a call under the names that the network has for them, in its order.

    Arguments that were left out between others are there too, as their defaults, so that each
    keeps its place.

    Returns:
        The arguments, and the names of those that were left out.
    """
    signature = inspect.signature(model.forward)
    bound = signature.bind(*args, **kwargs)
    given = list(bound.arguments)
    bound.apply_defaults()
    kinds = {name: signature.parameters[name].kind for name in bound.arguments}
    in_place = [n for n in given if kinds[n] is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = kinds[name]
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"{name}_{at}": part for at, part in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        elif name in given or in_place:  # before one that was given
            found[name] = value
        in_place = [n for n in in_place if n != name]
    return found, set(found) & (set(bound.arguments) - set(given))


def positional(module: fx.GraphModule, inputs: Any) -> list[Any]:
    """The values of a network's arguments in its own order, without defaults at the end."""
    args, kwargs = as_call(inputs)
    rest = [n for n in module.graph.nodes if n.op == "placeholder"][len(args) :]
    values = [
        kwargs[str(n.target)] if str(n.target) in kwargs else n.args[0]
        for n in rest
        if n.args or str(n.target) in kwargs
    ]
    return [*args, *values]


class Container(nn.Module):
    """Hands values out in a container.

    Args:
        form: of the container.
    """

    def __init__(self, form: Any) -> None:
        super().__init__()
        # a function, because torch.export walks into containers that it finds in a module
        self._fill = partial(filled, form)

    def forward(self, *values: Any) -> Any:
        """The container with the values in it, in their order."""
        return self._fill(values)


def checked(value: Any, keys: Sequence[Any]) -> Any:
    """A container that has the parts of these keys and no others.

    Raises:
        AssertionError: it has others, which the network was not captured with.
    """
    if isinstance(value, fx.Proxy):  # a network that is loaded is traced again
        return value.tracer.create_proxy("call_function", checked, (value, tuple(keys)), {})
    if set(parts(value) or ()) != set(keys):
        raise AssertionError(
            f"{OTHER_SIZES} a {type(value).__name__} of {', '.join(map(str, keys))}."
        )
    return value


def is_plain(form: Any) -> bool:
    """Whether a form is made of Python's own tuples, lists, dicts and scalars."""
    if type(form) in (tuple, list):
        return all(map(is_plain, form))
    if type(form) is dict:
        return all(isinstance(k, str) and is_plain(v) for k, v in form.items())
    return isinstance(form, (*BASIC, Leaf))
