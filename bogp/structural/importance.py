"""Importance of edges, and the order in which they go: what each method says about the removal of
single edges and of sets.

A method gives each candidate edge a number, larger for what should stay. ``importances`` gives them
for several methods at once:

- ``random``: drawn at random: the floor of each comparison
- ``magnitude``: mean ``|w|`` of the parameters that go with it, or else of those before it
  (``magnitude``); no data
- ``activation``: sum over S of the root mean square of what the edge carries
- ``block_influence``: 1 - cosine similarity between what its consumer makes with and without it
  (Men et al. 2024)
- ``flow``: how far the outputs move, from one forward pass over a few examples, without labels or
  gradients (``flow.flow_model``)
- ``first_order``: - sum of g over S: the predicted change of the loss, with its sign
- ``absolute_first_order``: | sum of g over S |
- ``unsigned_taylor``: sum over S of the mean of (gradient x activation)^2 over examples: the
  published form, without sign
- ``fisher_diagonal``: 1/2 sum over S of the diagonal of the Fisher matrix: half of
  ``unsigned_taylor``, so the same order
- ``fisher``: - sum of g over S + 1/2 sum of F over S x S: pairs within S count
- ``gauss_newton``: the same with the Gauss-Newton matrix
- ``hessian``: the same with the exact Hessian: the full second order
- ``leave_one_out``: the exact change of the loss (loss-based importance)

The last five and ``first_order`` are changes of the mean loss, in its unit. ``removal_order`` turns
a method into an order of removals. With ``_greedy`` behind its name a quadratic method, or the
flow, looks again after each removal, at the whole set removed so far, and ``exact_greedy`` does so
with the exact loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx

from bogp.checks import floats, is_one_of, texts, whole
from bogp.errors import InvalidInput, NotCapturable
from bogp.structural.flow import FlowModel, flow_model
from bogp.structural.gates import (
    Examples,
    Loss,
    Removals,
    leave_one_out,
    single_removals,
    spread,
    stand_alone,
)
from bogp.structural.graph import ComputationGraph, Edge, check_ready, edge_values
from bogp.structural.taylor import TaylorModel, fisher, gate_gradients, mean_gradient, taylor_model
from bogp.structural.traced.nodes import arguments, bypass, with_arguments
from bogp.structural.traced.passes import MEMORY

Floats = NDArray[np.float64]
METHODS = (
    "random",
    "magnitude",
    "activation",
    "block_influence",
    "flow",
    "first_order",
    "absolute_first_order",
    "unsigned_taylor",
    "fisher_diagonal",
    "fisher",
    "gauss_newton",
    "hessian",
    "leave_one_out",
)
SECOND_ORDER = ("fisher", "gauss_newton", "hessian")
GREEDY = (*(f"{name}_greedy" for name in SECOND_ORDER), "flow_greedy", "exact_greedy")
_READ = 64  # examples that the flow is read from, at most
_FROM_GRADIENTS = (
    "first_order",
    "absolute_first_order",
    "unsigned_taylor",
    "fisher_diagonal",
    "fisher",
)


def importances(
    graph: ComputationGraph,
    examples: Examples,
    loss: Loss,
    names: Sequence[str] = METHODS,
    seed: int = 0,
) -> pd.DataFrame:
    """Importance of each candidate edge by several methods, from one subset of the data.

    Args:
        graph: of the network, in evaluation mode.
        examples: N of them, for calibration.
        loss: of each example.
        names: some of ``METHODS``.
        seed: of ``random``.

    Returns:
        A row a candidate: ``edge`` (its index in the graph), and a column a method; larger is more
            important.

    Raises:
        InvalidInput: no such method, or a layer in training mode.
        NothingToRemove: the graph has no candidates.
        NotCapturable: a method needs single examples or derivatives that the network does not give.
        NotFinite: a loss or a derivative is NaN or infinite.
    """
    wanted = texts("names", names)
    if not wanted or unknown(wanted, METHODS):
        raise InvalidInput(f"names are {list(wanted)}; one or more of: {', '.join(METHODS)}.")
    whole("seed", seed, 0)
    single_removals(graph)
    check_ready(graph)
    needed = set(wanted) & set(_FROM_GRADIENTS)
    gradients, closing = np.empty((0, 0)), np.flatnonzero(closed_gates(graph).any(axis=0)).tolist()
    if needed and needed <= {"first_order", "absolute_first_order"} and not graph.batched:
        # a mean needs no single examples
        gradients = mean_gradient(graph, examples, loss, gates=closing)[None]
    elif needed:
        gradients = gate_gradients(graph, examples, loss, gates=closing)
    ways: dict[str, Callable[[], Floats]] = {
        "random": lambda: random(graph, seed),
        "magnitude": lambda: magnitude(graph),
        "activation": lambda: activation(graph, examples),
        "block_influence": lambda: block_influence(graph, examples),
        "flow": lambda: flow_of(graph, examples).change(single_removals(graph)),
        "first_order": lambda: first_order(graph, gradients),
        "absolute_first_order": lambda: np.abs(first_order(graph, gradients)),
        "unsigned_taylor": lambda: unsigned_taylor(graph, gradients),
        "fisher_diagonal": lambda: unsigned_taylor(graph, gradients) / 2,
        "fisher": lambda: second_order(
            TaylorModel(graph, gradients.mean(axis=0), fisher(gradients))
        ),
        "gauss_newton": lambda: second_order(taylor_model(graph, examples, loss, "gauss_newton")),
        "hessian": lambda: second_order(taylor_model(graph, examples, loss, "hessian")),
        "leave_one_out": lambda: leave_one_out(graph, examples, loss),
    }
    return pd.DataFrame({"edge": graph.candidates} | {name: ways[name]() for name in wanted})


def unknown(names: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """The names that are not among those allowed."""
    return [name for name in names if not is_one_of(name, allowed)]


def closed_gates(graph: ComputationGraph) -> Floats:
    """(C, E) 1 where the removal of a candidate closes a gate."""
    return 1.0 - graph.gates(single_removals(graph))


def random(graph: ComputationGraph, seed: int) -> Floats:
    """(C,) uniform random numbers."""
    return np.random.default_rng(whole("seed", seed, 0)).random(len(graph.candidates))


def magnitude(graph: ComputationGraph) -> Floats:
    """(C,) the mean of ``|w|``, biases and norms included, over the parameters that would go with
    the edge: those that only vertices read which no live path passes any more. Where none go (the
    edge carries something that others read as well, such as a skip connection) over the parameters
    of its producer's vertex, or of the nearest vertices before that which have any; 0 where there
    are none.
    """
    weights = {
        name: p.detach().double().abs()
        for name, p in graph.module.named_parameters(remove_duplicate=False)
    }
    before = graph.networkx().reverse(copy=False)
    found = []
    for edge, useful in zip(graph.candidates, graph.useful(single_removals(graph)), strict=True):
        staying = {p for v in graph.vertices if useful[v.index] for p in v.parameters}
        of = {p for v in graph.vertices for p in v.parameters} - staying
        for layer in nx.bfs_layers(before, graph.edges[edge].source):
            of = of or {p for v in layer for p in graph.vertices[v].parameters}
        sizes = sum(weights[p].numel() for p in of)
        found.append(sum(float(weights[p].sum()) for p in of) / max(sizes, 1))
    return np.array(found)


def activation(graph: ComputationGraph, examples: Examples, batch: int = 256) -> Floats:
    """(C,) the root mean square of what the edge carries, over entries and examples; summed where a
    removal closes several gates. Of a block: of what it adds to the value that enters it.
    """
    squares = np.zeros(len(graph.edges))
    with torch.inference_mode():
        for part in examples.batches(batch):
            values = edge_values(graph, part.inputs)
            for edge in graph.edges:
                if edge.is_floating:
                    value = values[edge.producer]
                    if graph.level == "blocks" and not edge.why_kept:
                        value = value - _enters(graph, edge, values)
                    # An empty value has no mean square; nothing goes with it.
                    mean = float(value.double().square().mean()) if value.numel() else 0.0
                    squares[edge.index] += mean * len(part)
    return closed_gates(graph) @ np.sqrt(squares / len(examples))


def block_influence(graph: ComputationGraph, examples: Examples, batch: int = 256) -> Floats:
    """(C,) 1 - the mean over examples of the cosine similarity between what the consumer makes with
    and without the edge (ShortGPT, Men et al. 2024, there for blocks of a transformer). Where a
    removal closes gates of several consumers: their mean.
    """
    closed, total = closed_gates(graph), np.zeros(len(graph.candidates))

    if not graph.batched and not stand_alone(graph, examples, spread):
        raise NotCapturable(
            "block_influence compares single examples, which this network does not run one at a "
            "time with the same outputs; use leave_one_out or first_order."
        )
    blocks = {edge.index: edge for edge in graph.edges if graph.level == "blocks"}
    with torch.inference_mode():
        for part in examples.batches(batch if graph.batched else 1):
            values = edge_values(graph, part.inputs)
            if blocks:
                total += [_influence(graph, blocks[int(e)], values) for e in graph.candidates]
                continue
            for c, gates in enumerate(closed):
                cut = [graph.edges[e] for e in np.flatnonzero(gates)]
                consumers = sorted({edge.target for edge in cut})
                slots = {(edge.consumer, edge.slot) for edge in cut}
                unlike = (_dissimilarity(graph, v, slots, values, len(part)) for v in consumers)
                total[c] += sum(unlike) / len(consumers)
    return total / len(examples)


def flow_of(graph: ComputationGraph, examples: Examples) -> FlowModel:
    """The flow model from the first 64 examples; their targets are not read."""
    return flow_model(graph, examples.part(slice(_READ)).inputs)


def _enters(graph: ComputationGraph, block: Edge, values: dict[str, Any]) -> Tensor:
    """The value that enters a block."""
    consumer = next(n for n in graph.module.graph.nodes if n.name == block.consumer)
    found: Tensor = values[arguments(consumer)[0].name]
    return found


def _influence(graph: ComputationGraph, edge: Edge, values: dict[str, Any]) -> float:
    """The sum over examples of 1 - cosine similarity between what enters a block and what leaves
    it: of each token where values are (N, T, C), and their mean; else of all at once.
    """
    before, after = _enters(graph, edge, values).double(), values[edge.producer].double()
    if before.dim() != 3:
        before, after = before.flatten(1), after.flatten(1)
    similar = torch.nn.functional.cosine_similarity(before, after, dim=-1)
    similar = torch.where((before == after).all(dim=-1), 1.0, similar)
    return float((1 - similar).view(len(similar), -1).mean(dim=1).sum())


class _WithCuts(fx.Interpreter):
    """Runs single nodes of a traced module on given values, zeros in the place of some
    arguments.
    """

    def __init__(self, module: fx.GraphModule, cut: set[tuple[str, int]]) -> None:
        super().__init__(module)
        self.cut = cut

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        values = {slot: self.env[a] for slot, a in enumerate(arguments(n))}
        cut = {s: torch.zeros_like(v) for s, v in values.items() if (n.name, s) in self.cut}
        if n.target is bypass and cut:
            cut = {1: values[0]}
        return with_arguments(n, values | cut)


def _dissimilarity(
    graph: ComputationGraph,
    vertex: int,
    cut: set[tuple[str, int]],
    values: dict[str, Any],
    count: int,
) -> float:
    """The sum over ``count`` examples of 1 - cosine similarity of a vertex's results with and
    without those arguments; 0 where they are equal.
    """
    nodes = [n for n in graph.module.graph.nodes if n.name in graph.vertices[vertex].nodes]
    interpreter = _WithCuts(graph.module, cut)
    interpreter.env = {n: values[n.name] for n in graph.module.graph.nodes if n.op != "output"}
    for node in nodes:
        interpreter.env[node] = interpreter.run_node(node)
    read = {edge.producer for edge in graph.edges if edge.source == vertex}
    results = [n for n in nodes if n.name in read and isinstance(values[n.name], Tensor)]
    before = torch.cat([values[n.name].double().reshape(count, -1) for n in results], dim=1)
    after = torch.cat([interpreter.env[n].double().reshape(count, -1) for n in results], dim=1)
    similar = torch.where(
        (before == after).all(dim=1),
        1.0,
        torch.nn.functional.cosine_similarity(before, after, dim=1),
    )
    return float((1 - similar).sum())


def first_order(graph: ComputationGraph, gradients: Floats) -> Floats:
    """(C,) the change of the loss predicted by its gradient, from the (N, E) gate gradients of
    single examples.
    """
    return -closed_gates(graph) @ gradients.mean(axis=0)


def unsigned_taylor(graph: ComputationGraph, gradients: Floats) -> Floats:
    """(C,) mean over examples of (gradient x activation)^2, which is the squared gate gradient
    (after Molchanov et al. 2019), from (N, E) gate gradients.
    """
    return closed_gates(graph) @ np.square(gradients).mean(axis=0)


def second_order(model: TaylorModel) -> Floats:
    """(C,) the change of the loss that a quadratic model predicts for the removal of each
    candidate.
    """
    return model.change(single_removals(model.graph))


def order(graph: ComputationGraph, importance: ArrayLike) -> NDArray[np.intp]:
    """The order in which edges go, least important first; one whose removal would cut off an
    output, after those before it, is skipped.

    Args:
        graph: of the network.
        importance: (C,) of its candidates, finite; the earlier edge goes first among equals.

    Returns:
        (K,) indices of edges; any first part of them can be removed together (``graph.without``).

    Raises:
        InvalidInput: not one finite number a candidate.
        NothingToRemove: the graph has no candidates.
    """
    values = floats("importance", importance)
    single_removals(graph)
    if values.shape != graph.candidates.shape or not np.isfinite(values).all():
        raise InvalidInput(
            f"importance has shape {values.shape}; one finite number a candidate is needed, "
            f"{len(graph.candidates)} here."
        )
    gone: list[int] = []
    for edge in graph.candidates[np.argsort(values, kind="stable")]:
        if graph.connected(graph.without([*gone, int(edge)]))[0]:
            gone.append(int(edge))
    return np.array(gone, dtype=np.intp)


def greedy(
    graph: ComputationGraph, change: Callable[[NDArray[np.bool_]], Floats], limit: int | None = None
) -> NDArray[np.intp]:
    """The order in which edges go when each removal is the one that leaves the least loss, given
    those before it.

    Args:
        graph: of the network.
        change: of (M, E) masks the (M,) losses or their changes: ``TaylorModel.change``,
            ``FlowModel.change``, or the exact loss.
        limit: the most edges to remove; None goes on until nothing can be removed.

    Returns:
        (K,) indices of edges, as from ``order``.

    Raises:
        InvalidInput: a limit that is not positive.
        NothingToRemove: the graph has no candidates.
    """
    most = len(single_removals(graph)) if limit is None else whole("limit", limit, 1)
    gone: list[int] = []
    left = graph.candidates
    while len(gone) < most:
        masks = np.repeat(graph.without(gone)[None], len(left), axis=0)
        masks[np.arange(len(left)), left] = False
        possible = graph.connected(masks)  # what would cut an output off now will do so later too
        left, masks = left[possible], masks[possible]
        if len(left) == 0:
            break
        best = int(np.argmin(change(masks)))
        gone.append(int(left[best]))
        left = np.delete(left, best)
    return np.array(gone, dtype=np.intp)


def removal_order(
    graph: ComputationGraph,
    examples: Examples,
    loss: Loss,
    name: str = "leave_one_out",
    seed: int = 0,
    limit: int | None = None,
    *,
    memory: int = MEMORY,
    record: str | Path | None = None,
    progress: bool = False,
) -> NDArray[np.intp]:
    """The order in which edges go by one method.

    Args:
        graph: of the network.
        examples: for calibration.
        loss: of each example.
        name: of ``METHODS`` (importances of single edges, sorted) or of ``GREEDY`` (each removal
            given those before it). ``leave_one_out`` measures each removal, in a forward pass an
            edge; of single edges it knows most or nearly so at each size of graph (notebook 14).
        seed: of ``random``.
        limit: the most edges to remove; None for all that can go.
        memory: bytes that values may take in ``leave_one_out`` and ``exact_greedy``.
        record: a file that keeps what these two have measured, with which they go on after an
            interruption; None for none.
        progress: whether they show a bar.

    Returns:
        (K,) indices of edges; any first part of them can be removed together.

    Raises:
        InvalidInput: no such method, a limit that is not positive, and as ``importances``.
    """
    if not is_one_of(name, (*METHODS, *GREEDY)):
        raise InvalidInput(
            f"There is no method {name!r}; there are: {', '.join((*METHODS, *GREEDY))}."
        )
    whole("seed", seed, 0)
    limit = limit if limit is None else whole("limit", limit, 1)
    exact: Any = {"memory": memory, "record": record, "progress": progress}
    if name == "leave_one_out":
        return order(graph, leave_one_out(graph, examples, loss, **exact))[:limit]
    if name in METHODS:
        return order(graph, importances(graph, examples, loss, [name], seed)[name])[:limit]
    if name == "exact_greedy":
        check_ready(graph)
        single_removals(graph)
        return greedy(graph, Removals(graph, examples, loss, rounds=True, **exact).under, limit)
    if name == "flow_greedy":
        return greedy(graph, flow_of(graph, examples).change, limit)
    return greedy(
        graph, taylor_model(graph, examples, loss, name.removesuffix("_greedy")).change, limit
    )
