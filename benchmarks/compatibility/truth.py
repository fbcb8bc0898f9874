"""What removing one edge does to the loss, without ``bogp``: the original network runs as it is,
and one operand of one of its sums or concatenations is overwritten with zeros on the way.

An edge is found again by its values: the operation that reads and gives the same numbers as the
edge's consumer. A dispatch mode of torch shows every operation of a running network, whoever wrote
it, so that also networks can be compared that no tracer takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.compatibility.models import Inputs, call

_ATEN = torch.ops.aten
_SUMS = {_ATEN.add.Tensor, _ATEN.add_.Tensor, _ATEN.sub.Tensor, _ATEN.sub_.Tensor}
_LISTS = {_ATEN.cat.default, _ATEN.stack.default}


@dataclass(frozen=True)
class Wanted:
    """An edge, as what its ends hold.

    Attributes:
        carried: what it carries.
        made: what its consumer makes of all its operands.
        repeat: how many operands of the consumer before this one carry the same.
    """

    carried: Tensor
    made: Tensor
    repeat: int = 0


Place = tuple[int, int]  # the number of a sum or concatenation in order, and of its operand


def places(model: nn.Module, inputs: Inputs, wanted: Sequence[Wanted]) -> list[Place | None]:
    """Where each edge is in a run of the original network; None where that is not clear."""
    found: list[list[Place]] = [[] for _ in wanted]

    def look(number: int, func: Any, args: Any, kwargs: Any) -> Any:
        # Operations in place overwrite an operand, so look at them before.
        operands = _operands(func, args)
        alike = [
            [i for i, o in enumerate(operands) if isinstance(o, Tensor) and _same(o, w.carried)]
            for w in wanted
        ]
        made = func(*args, **kwargs)
        for which, (one, at) in enumerate(zip(wanted, alike, strict=True)):
            if len(at) > one.repeat and _same(made, one.made):
                found[which].append((number, at[one.repeat]))
        return made

    _run(model, inputs, look)
    return [those[0] if len(those) == 1 else None for those in found]


def outputs_without(model: nn.Module, inputs: Inputs, place: Place) -> Any:
    """What the original network gives where that operand is zeros."""

    def replace(number: int, func: Any, args: Any, kwargs: Any) -> Any:
        if number != place[0]:
            return func(*args, **kwargs)
        if func in _LISTS:
            whole = [torch.zeros_like(t) if i == place[1] else t for i, t in enumerate(args[0])]
            return func(whole, *args[1:], **kwargs)
        if func in (_ATEN.add_.Tensor, _ATEN.sub_.Tensor) and place[1] == 0:
            args[0].zero_()  # the sum is written there in any case
            return func(*args, **kwargs)
        pair = [torch.zeros_like(a) if i == place[1] else a for i, a in enumerate(args)]
        return func(*pair, **kwargs)

    return _run(model, inputs, replace)


Visit = Callable[[int, Any, Any, Any], Any]


class _Operations(TorchDispatchMode):
    """Hands each sum and concatenation to a function, with its number."""

    def __init__(self, visit: Visit) -> None:
        super().__init__()
        self._visit, self._number = visit, -1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _SUMS and func not in _LISTS:
            return func(*args, **(kwargs or {}))
        self._number += 1
        return self._visit(self._number, func, args, kwargs or {})


def _run(model: nn.Module, inputs: Inputs, visit: Visit) -> Any:
    copied = (
        {k: v.clone() for k, v in inputs.items()}
        if isinstance(inputs, dict)
        else tuple(i.clone() for i in inputs)
    )
    with torch.no_grad(), _Operations(visit):
        return call(model, copied)


def _operands(func: Any, args: Any) -> Sequence[Any]:
    return args[0] if func in _LISTS else args[:2]


def _same(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    largest = expected.abs().max().item() if expected.numel() else 0.0
    return bool(torch.allclose(found, expected, rtol=0, atol=1e-4 * largest))
