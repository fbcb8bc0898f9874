"""Flow: what any removal does, from one forward pass, without labels, gradients or evaluated masks
(paper section 2, "estimation of information flow").

*Flow shares.* Where a vertex sums h = sum of h_e, edge e carries the share <h_e, h> / |h|^2; where
it concatenates, |h_e|^2 / |h|^2. ``shares`` reads them off, and ``path_flow`` scores a mask by the
sum over surviving paths of the product of shares: the published surrogate with its weights measured
instead of fitted. For a linear network of parallel paths that meet in one sum this is exact: it is
the coefficient of the masked output on the full one.

*Flow model.* Behind a normalisation shares are not enough: what matters there is not how much of a
value is left but what else has moved. ``flow_model`` therefore follows three moments through the
network (``traced.moments``): the share of the signal that is left, noise beside it, and the mean of
each channel. A mask costs a product of small matrices an operation then, and no pass. What comes
out is the relative distance of the outputs, (1 - signal)^2 + noise + moved means.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import fx

from bogp.checks import floats, number, refuse, whole
from bogp.errors import NotFinite
from bogp.structural.gates import Examples
from bogp.structural.graph import ComputationGraph, check_ready, edge_values
from bogp.structural.traced import moments
from bogp.structural.traced.containers import mapped, positional, tensors_of
from bogp.structural.traced.moments import Channels, Moments
from bogp.structural.traced.nodes import Inputs, arguments, factors, results_node
from bogp.structural.traced.reading import Reader, Step

Floats = NDArray[np.float64]
_HELP = "Look for numbers in the data and the weights that are not finite, or very large."


def shares(graph: ComputationGraph, inputs: Inputs) -> Floats:
    """(E,) the flow share of each edge: of its consumer's sum or concatenation, else 1.

    Args:
        graph: of the network.
        inputs: that it is run on, once.

    Raises:
        InvalidInput: a layer in training mode, or no examples.
        NotCapturable: as ``edge_values``.
        NotFinite: values that are no finite numbers.
    """
    _check(graph, inputs)
    with torch.inference_mode():
        values = edge_values(graph, inputs)
    nodes = {node.name: node for node in graph.module.graph.nodes}
    found = np.ones(len(graph.edges))
    for vertex in graph.vertices:
        into = [edge for edge in graph.edges if edge.target == vertex.index]
        if vertex.kind in ("sum", "cat") and all(edge.is_floating for edge in into):
            parts = [values[edge.producer].double() for edge in into]
            if vertex.kind == "sum":
                enters = factors([nodes[name] for name in vertex.nodes])
                parts = [
                    part * enters.get((edge.consumer, edge.slot), 1.0)
                    for part, edge in zip(parts, into, strict=True)
                ]
                added = sum(parts[1:], parts[0])
                seen = added != -math.inf  # where a mask leaves nothing
                sizes = [float((part * added)[seen].sum()) for part in parts]
            else:
                sizes = [float(part.square().sum()) for part in parts]
            total = sum(sizes)
            if not math.isfinite(total):
                raise NotFinite(f"{vertex.name} has values that are no finite numbers. {_HELP}")
            for edge, size in zip(into, sizes, strict=True):
                found[edge.index] = size / total if total else 1.0 / len(into)
    return found


def path_flow(graph: ComputationGraph, masks: ArrayLike, weights: ArrayLike) -> Floats:
    """(M,) the sum over surviving paths of the product of their edges' weights, 1 for the full
    network where ``weights`` are ``shares``; of a product, or an operation of several inputs, the
    product over its inputs. Several outputs count alike.

    Args:
        graph: of the network.
        masks: (M, E), True where an edge stays.
        weights: (E,).

    Raises:
        InvalidInput: not one entry of a mask, or one finite weight, an edge.
    """
    rows, each = graph.masks(masks), floats("weights", weights)
    refuse(
        each.shape != (len(graph.edges),) or not np.isfinite(each).all(),
        f"weights have shape {each.shape}; one finite number is needed for each of "
        f"{len(graph.edges)} edges.",
    )
    kept = graph.gates(rows) * each
    alive, target = graph.alive(rows), graph.ends[1]
    reached = np.ones((len(rows), len(graph.vertices)))
    for vertex in graph.vertices:
        into = np.flatnonzero(target == vertex.index)
        if len(into):
            flows = kept[:, into] * reached[:, graph.ends[0][into]]
            joined = flows.sum(axis=1) if vertex.kind in ("sum", "cat") else flows.prod(axis=1)
            reached[:, vertex.index] = joined * alive[:, vertex.index]
    outputs = [vertex.index for vertex in graph.vertices if vertex.kind == "output"]
    return np.asarray(reached[:, outputs].mean(axis=1))


@dataclass(frozen=True, eq=False)
class FlowModel:
    """Predicts what removals do to the outputs.

    Attributes:
        graph: of the network.
        steps: in the order of the network.
        outputs: the values that the network gives, by name of their node.
        ends: the gate behind each of them, if there is one.
    """

    graph: ComputationGraph
    steps: tuple[Step, ...]
    outputs: dict[str, Channels] = field(repr=False)
    ends: dict[str, int | None] = field(repr=False)

    @torch.no_grad()
    def moments(self, masks: ArrayLike) -> dict[str, Moments]:
        """Of each output under (M, E) masks, at least one.

        Raises:
            InvalidInput: masks that do not fit.
            NotFinite: an operation through which no finite numbers come.
        """
        rows = self.graph.masks(masks)
        gates = torch.as_tensor(self.graph.gates(rows), dtype=torch.float64)
        alive = torch.as_tensor(self.graph.alive(rows), dtype=torch.float64)
        found: dict[str, Moments] = {}
        needed = _last_uses(self.steps, self.outputs)
        for place, step in enumerate(self.steps):
            given = [
                found[name] if gate is None else found[name].times(gates[:, gate])
                for name, gate in step.arguments
            ]
            made = (
                moments.open_moments(step.rule, len(rows))
                if isinstance(step.rule, Channels)
                else step.rule(given)
            )
            if not all(part.isfinite().all() for part in (made.signal, made.noise, made.mean)):
                raise NotFinite(
                    f"Flow cannot follow the values through {step.name}: what it predicts behind "
                    f"it is not finite. {_HELP}"
                )
            if step.vertex is not None:
                made = made.times(alive[:, step.vertex])
            found[step.name] = made
            for name in needed.get(place, ()):
                found.pop(name, None)
        return {
            name: found[name] if gate is None else found[name].times(gates[:, gate])
            for name, gate in self.ends.items()
        }

    def change(self, masks: ArrayLike, *, scores: bool = True) -> Floats:
        """(M,) the predicted distance of the outputs from the full network's, over the energy of
        their variation.

        Args:
            masks: (M, E), True where an edge stays.
            scores: whether outputs are scores of classes, along their channels: what is added to
                all of them a softmax does not see, so it is left out. One number an example is
                taken as it is.

        Raises:
            InvalidInput: masks that do not fit.
            NotFinite: the prediction is none.
        """
        found = np.zeros(len(self.graph.masks(masks)))
        if not len(found):
            return found
        for name, moved in self.moments(masks).items():
            full = self.outputs[name]
            shift = moved.mean - full.mean
            if scores and shift.shape[1] > 1:
                shift = shift - shift.mean(dim=1, keepdim=True)
            apart = shift.square().mean(dim=1) / full.energy
            found += ((1 - moved.signal) ** 2 + moved.noise + apart).numpy()
        return found


def flow_model(
    graph: ComputationGraph, inputs: Inputs, *, noise_gain: float = 0.5, seed: int = 0
) -> FlowModel:
    """Read off what predicts removals, in one forward pass. Weights are looked up as they are
    needed: read again what has been trained on. A network on another device is read on a copy on
    the CPU.

    Args:
        graph: of the network, in evaluation mode.
        inputs: examples that it is run on, some 16 to 64 different ones; no targets.
        noise_gain: how far noise passes linear layers as independent entries would, compared with
            the signal: 0 is as the signal does, 1 as if independent.
        seed: of the samples.

    Raises:
        InvalidInput: a layer in training mode, a number out of range, or outputs that do not vary
            over the examples, or hold no floating-point numbers for each of them.
        NotCapturable: inputs of sizes that the network was not captured for.
        NotFinite: outputs that are no finite numbers.

    Example:
        Which of the blocks matters least, without a single evaluation.

        >>> from bogp.structural import capture
        >>> from bogp.zoo.networks import Residual
        >>> model, images = Residual().eval(), torch.randn(16, 3, 32, 32)
        >>> graph = capture(model, images, level="blocks")
        >>> single = [graph.without([edge]) for edge in graph.candidates]
        >>> change = flow_model(graph, (images,)).change(single)
        >>> len(change) == len(graph.candidates) and bool((change > 0).all())
        True
    """
    refuse(
        not 0 <= number("noise_gain", noise_gain) <= 1,
        f"noise_gain is {noise_gain}; a number from 0 to 1 is needed.",
    )
    draws = whole("seed", seed, 0, 2**63 - 1)
    _check(graph, inputs)
    with graph.sizes_in_words(inputs), torch.no_grad():
        module = _on_cpu(graph)
        vertices = {node: v.index for v in graph.vertices for node in v.nodes}
        gates = {(e.consumer, e.slot): e.index for e in graph.edges if e.is_floating}
        reader = Reader(module, vertices, gates, noise_gain, draws)
        reader.run(*positional(module, mapped(lambda value: value.cpu(), inputs)))
    end = results_node(module)
    ends = {
        node.name: reader.gates.get((end.name, slot))
        for slot, node in enumerate(arguments(end))
        if node.name in reader.known
    }
    outputs = {name: reader.known[name].without_entries() for name in ends}
    refuse(
        not ends,
        "The network gives no floating-point numbers for each example, such as the scores of "
        "classes, so flow has nothing to compare; capture the part of it that does.",
    )
    for name, value in outputs.items():
        if not (math.isfinite(value.energy) and value.mean.isfinite().all()):
            raise NotFinite(f"The output {name} is no finite number for these inputs. {_HELP}")
    varied = [name for name, value in outputs.items() if _is_varied(value)]
    refuse(
        not varied,
        "What the network gives does not vary over these inputs (or by less than rounding), so "
        "there is nothing to compare changes with; some 16 to 64 different examples are needed.",
    )
    steps, outputs = tuple(reader.steps), {name: outputs[name] for name in varied}
    return FlowModel(graph, steps, outputs, {name: ends[name] for name in varied})


def _check(graph: ComputationGraph, inputs: Inputs) -> None:
    """Refuse a network in training mode, and what is no examples."""
    check_ready(graph)
    given = [] if isinstance(inputs, Examples) else tensors_of(inputs)
    refuse(
        not given,
        f"inputs is of the class {type(inputs).__name__}; a tensor, a tuple of arguments, or a "
        "mapping of keyword arguments is needed, of Examples their inputs.",
    )
    refuse(any(not len(t) for t in given if t.dim()), "inputs hold no example.")


def _is_varied(value: Channels) -> bool:
    """Whether it varies by more than rounding."""
    return value.energy > 1e-12 * float(value.mean.square().mean()) + 1e-28


def _on_cpu(graph: ComputationGraph) -> fx.GraphModule:
    """The traced network, copied if it lies elsewhere: what is read of it are small numbers."""
    here = graph.device.type == "cpu"
    return graph.module if here else copy.deepcopy(graph.module).cpu()


def _last_uses(steps: Sequence[Step], outputs: dict[str, Channels]) -> dict[int, list[str]]:
    """Names that no later step reads, by place."""
    seen: set[str] = set(outputs)
    found: dict[int, list[str]] = {}
    for place in reversed(range(len(steps))):
        for name, _ in steps[place].arguments:
            if name not in seen:
                seen.add(name)
                found.setdefault(place, []).append(name)
    return found
