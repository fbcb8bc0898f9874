"""Small networks, one for each way in which branches come about, to show what ``capture`` takes and
what it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from bogp.errors import BogpError
from bogp.structural.tracing import capture

Forward = Callable[["Example", Tensor], Any]


class Example(nn.Module):
    """Layers a, b, c of six features, an LSTM and an attention, put together by a function."""

    def __init__(self, forward: Forward, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.a, self.b, self.c, self.wide = (nn.Linear(size, 6) for size in (6, 6, 6, 12))
            self.lstm, self.attention = (
                nn.LSTM(6, 6, batch_first=True),
                nn.MultiheadAttention(6, 2, batch_first=True),
            )
        self.how = forward

    def forward(self, x: Tensor) -> Any:
        return self.how(self, x)


def _in_place(m: Example, x: Tensor) -> Tensor:
    y = m.a(x)
    y += m.b(x)
    return y.relu_() + x


def _item_assigned(m: Example, x: Tensor) -> Tensor:
    y = m.a(x)
    y[:, 0] = 0.0
    return y + m.b(x)


def _split(m: Example, x: Tensor) -> Tensor:
    first, second = m.wide(torch.cat([x, x], dim=-1)).chunk(2, dim=-1)
    return F.pad(torch.tanh(first) + torch.relu(second), (0, 3)) + m.c(x)


def _steps(m: Example, x: Tensor) -> Tensor:
    state = torch.zeros_like(x[:, 0])
    for step in range(x.shape[1]):
        state = torch.tanh(m.a(state) + m.b(x[:, step]))
    return state


def _asserts(m: Example, x: Tensor) -> Tensor:
    if x.shape[-1] != 6:
        raise ValueError("six features are needed")
    return m.a(x) + m.b(x)


def _branches_on_data(m: Example, x: Tensor) -> Tensor:
    if x.sum() > 0:
        return m.a(x) + x
    return m.b(x) + x


FORWARDS: dict[str, Forward] = {
    "a residual": lambda m, x: x + torch.relu(m.a(x)),
    "three branches, one subtracted": lambda m, x: m.a(x) + torch.tanh(m.b(x)) - m.c(x),
    "a concatenation": lambda m, x: m.wide(torch.cat([m.a(x), m.b(x)], dim=-1)),
    "a split": _split,
    "several outputs, in a dictionary": lambda m, x: {"one": m.a(x) + m.b(x), "two": m.c(x) + x},
    "a layer used twice": lambda m, x: x + m.a(torch.relu(m.a(x))),
    "functions and keyword arguments": lambda m, x: torch.add(
        input=F.linear(x, m.a.weight), other=m.b(x), alpha=0.5
    ),
    "operations in place": _in_place,
    "an item assigned": _item_assigned,
    "attention": lambda m, x: x + m.attention(m.a(x), x, x, need_weights=False)[0],
    "an LSTM beside a layer": lambda m, x: m.lstm(x)[0] + m.a(x),
    "a loop over a length": _steps,
    "a check of a shape": _asserts,
    "a product of branches": lambda m, x: m.a(x) * torch.sigmoid(m.b(x)) + x,
    "a chain": lambda m, x: m.b(torch.relu(m.a(x))),
    "control flow by data": _branches_on_data,
    "a tensor made a Python number": lambda m, x: m.a(x) * x.mean().item() + m.b(x),
    "a detour through numpy": lambda m, x: m.a(x) + torch.from_numpy(m.b(x).detach().numpy() * 2),
    "randomness": lambda m, x: m.a(x) + F.dropout(m.b(x)),
}


def captured() -> pd.DataFrame:
    """What capture makes of each example.

    Returns:
        Columns ``network``, ``traced_by`` (empty where it is refused), ``vertices``, ``edges``,
        ``candidates``, ``difference`` (the largest from the model's outputs, gates all one) and
        ``refused_because``.
    """
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0))
    return pd.DataFrame([_tried(name, Example(how).eval(), x) for name, how in FORWARDS.items()])


def _tried(name: str, model: nn.Module, x: Tensor) -> dict[str, Any]:
    try:
        graph = capture(model, x)
    except BogpError as error:
        nothing = {"vertices": 0, "edges": 0, "candidates": 0, "difference": float("nan")}
        return {"network": name, "traced_by": "", **nothing, "refused_because": str(error)}
    with torch.no_grad():
        return {
            "network": name,
            "traced_by": graph.traced_by,
            "vertices": len(graph.vertices),
            "edges": len(graph.edges),
            "candidates": len(graph.candidates),
            "difference": difference(graph.gated(torch.ones(len(graph.edges)), None, x), model(x)),
            "refused_because": "",
        }


def difference(found: Any, expected: Any) -> float:
    """The largest absolute difference between outputs of the same form."""
    pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)
