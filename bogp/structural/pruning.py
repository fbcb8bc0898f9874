"""The usual case in one call: a smaller model, and what it costs before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bogp.checks import choice, refuse, whole
from bogp.checks import share as checked_share
from bogp.errors import InvalidInput, NotFinite
from bogp.structural.drop import drop
from bogp.structural.gates import Examples, Loss, check_losses
from bogp.structural.graph import ComputationGraph
from bogp.structural.importance import GREEDY, METHODS, removal_order
from bogp.structural.levels import LEVELS
from bogp.structural.surgery import cost, remove
from bogp.structural.traced.containers import as_call, mapped
from bogp.structural.traced.passes import MEMORY
from bogp.structural.tracing import capture

_FEW = 4  # examples that a network is captured with


@dataclass(frozen=True, eq=False)
class Pruned:
    """A smaller model and the report on it.

    Attributes:
        model: without what was removed.
        removed: what went, in order: modules' names, or what the edges carried.
        table: a row for ``before`` and ``after`` (and ``fine-tuned``): ``loss`` on the examples,
            ``parameters``, ``flops`` of the examples that were measured, ``latency`` in s.
        graph: of the whole model, at the level that was asked for.
        edges: that were removed, in order.
    """

    model: nn.Module
    removed: tuple[str, ...]
    table: pd.DataFrame
    graph: ComputationGraph = field(repr=False)
    edges: tuple[int, ...] = field(repr=False)

    def __repr__(self) -> str:
        """What went, and the table."""
        rows = self.table.assign(
            loss=self.table["loss"].map("{:.4g}".format),
            parameters=self.table["parameters"].map("{:,}".format),
            flops=self.table["flops"].map("{:,}".format),
            latency=self.table["latency"].map("{:.3g} s".format),
        )
        return f"removed {', '.join(self.removed)}\n{rows.to_string()}"


def prune(
    model: nn.Module,
    examples: Examples | tuple[Any, Tensor],
    loss: Loss,
    share: float = 0.25,
    level: str = "blocks",
    method: str = "leave_one_out",
    finetune: Callable[[nn.Module], Any] | None = None,
    *,
    seed: int = 0,
    memory: int = MEMORY,
    record: str | Path | None = None,
    progress: bool = True,
) -> Pruned:
    """A smaller model without its least important blocks, branches or edges.

    Args:
        model: in evaluation mode; it stays as it is.
        examples: for calibration: ``Examples``, or a pair of inputs and targets. Inputs are what
            the model is called with: a tensor, a tuple, or a mapping of keyword arguments.
        loss: (outputs, targets) -> (N,), a loss for each example, such as ``cross_entropy``,
            ``next_token`` or ``own_loss``.
        share: of the level's candidates that go, between 0 and 1; at least one goes.
        level: ``blocks``, ``residual`` or ``all``.
        method: ``magnitude``, ``block_influence`` (ShortGPT), ``flow_greedy`` (one forward pass,
            without labels), ``first_order``, ``fisher``, ``leave_one_out`` (exact),
            ``exact_greedy`` (SLEB), or another of ``importance.METHODS`` and ``GREEDY``.
        finetune: trains the smaller model, in place; None for no fine-tuning. It gets the model in
            training mode.
        seed: of ``random``.
        memory: bytes that values may take while losses are measured.
        record: a file that keeps measured losses, with which an interrupted scoring goes on.
        progress: shows a bar.

    Returns:
        The smaller model, of the same class where it can be changed in place (``drop``), and a
        report.

    Raises:
        InvalidInput: something is out of range, before any work starts; or as ``capture`` and
            ``drop``.
        NothingToRemove: the model has no removal of that level; says what it has.
        NotCapturable: the model cannot be captured; names the operation.
        NotFinite: a loss is NaN or infinite.

    Example:
        >>> small = structural.prune(model, (inputs, labels), structural.cross_entropy)
        >>> print(small)
        >>> small.model.save_pretrained("small")
    """
    part = checked_share("share", share)
    choice("level", level, LEVELS)
    choice("method", method, (*METHODS, *GREEDY))
    whole("seed", seed, 0)
    whole("memory", memory, 1)
    refuse(not callable(loss), "loss is no function; (outputs, targets) -> (N,) is needed.")
    refuse(
        finetune is not None and not callable(finetune),
        "finetune is no function; one that takes the smaller model is needed, or None.",
    )
    some = examples if isinstance(examples, Examples) else _as_examples(examples)
    some = _without_cache(model, some)
    few = some.part(slice(_FEW))
    graph = capture(model, few.inputs, level=level)
    before = _row(model, some, loss, few)
    count = max(1, round(part * len(graph.candidates)))
    order = removal_order(
        graph, some, loss, method, seed, count, memory=memory, record=record, progress=progress
    )
    edges = tuple(int(e) for e in order[:count])
    mask = graph.without(edges)
    smaller = remove(graph, mask) if level == "all" else drop(model, graph, edges)
    rows = {"before": before, "after": _row(smaller, some, loss, few)}
    if finetune is not None:
        finetune(smaller.train())
        rows["fine-tuned"] = _row(smaller.eval(), some, loss, few)
    table = pd.DataFrame(rows).T.astype({"parameters": int, "flops": int})
    return Pruned(smaller, tuple(graph.name(e) for e in edges), table, graph, edges)


def _as_examples(examples: Any) -> Examples:
    if not isinstance(examples, tuple) or len(examples) != 2 or not isinstance(examples[1], Tensor):
        raise InvalidInput(
            "examples are structural.Examples(inputs, targets), or a pair of both, targets a "
            f"tensor; got a {type(examples).__name__}."
        )
    return Examples(*examples)


def _without_cache(model: nn.Module, examples: Examples) -> Examples:
    """Keys and values of single layers are no outputs: a layer could not go without them.

    Hugging Face's models give them by default, for texts that go on.
    """
    caches = getattr(getattr(model, "config", None), "use_cache", False)
    if not caches or not isinstance(examples.inputs, Mapping) or "use_cache" in examples.inputs:
        return examples
    return Examples({**examples.inputs, "use_cache": False}, examples.targets)


def _row(module: nn.Module, examples: Examples, loss: Loss, few: Examples) -> dict[str, float]:
    """Loss on all examples; parameters, operations and latency on a few."""
    total, size = 0.0, 16 * len(few)
    with torch.inference_mode():
        for part in examples.batches(size):
            args, kwargs = as_call(mapped(torch.clone, part.inputs))
            losses = loss(module(*args, **kwargs), part.targets)
            check_losses(losses, len(part))
            total += float(losses.double().sum())
    if not np.isfinite(total):
        raise NotFinite("The loss on the examples is not finite; check weights, data and loss.")
    measured = cost(module, few.inputs)
    return {
        "loss": total / len(examples),
        "parameters": measured.parameters,
        "flops": measured.flops,
        "latency": measured.latency,
    }
