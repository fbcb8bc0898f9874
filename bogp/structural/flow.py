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
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx, nn

from bogp.checks import floats, number, refuse, whole
from bogp.structural.graph import ComputationGraph, check_ready, edge_values
from bogp.structural.traced import moments
from bogp.structural.traced.containers import mapped, positional
from bogp.structural.traced.moments import Channels, Moments, Rule
from bogp.structural.traced.nodes import CATS, SUBTRACTIONS, SUMS, Inputs, arguments, bypass, last

Floats = NDArray[np.float64]

_ENTRIES, _ROWS, _DRAWS = 64, 256, 6  # of a channel; of rows; of noise
_POINTWISE = {
    *("relu", "relu_", "relu6", "gelu", "silu", "silu_", "mish", "elu", "selu", "softplus"),
    *("leaky_relu", "leaky_relu_", "hardtanh", "hardswish", "hardswish_", "hardsigmoid", "tanh"),
    *("sigmoid", "exp", "sqrt", "rsqrt", "square", "pow", "abs", "clamp", "clamp_min", "log"),
    *("mul", "mul_", "div", "truediv", "neg", "sin", "cos", "maximum", "minimum", "reciprocal"),
}
_ROWWISE = {"layer_norm", "native_layer_norm", "rms_norm", "softmax", "_softmax", "log_softmax"}
_WALK = ("stride", "padding", "dilation", "groups")  # of a convolution
_CONVOLUTION = ("input", "weight", "bias", *_WALK)
# Affine operations that are functions, and their arguments in order; torch.export names its own.
_FUNCTIONS = {
    "linear": ("input", "weight", "bias"),
    "matmul": ("input", "other"),
    "mm": ("input", "mat2"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training"),
    "conv1d": _CONVOLUTION,
    "conv2d": _CONVOLUTION,
    "conv3d": _CONVOLUTION,
}
_AVERAGES = {"mean", "avg_pool2d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"}


def shares(graph: ComputationGraph, inputs: Inputs) -> Floats:
    """(E,) the flow share of each edge: of its consumer's sum or concatenation, else 1.

    Args:
        graph: of the network.
        inputs: that it is run on, once.

    Raises:
        InvalidInput, NotCapturable: as ``edge_values``.
    """
    with torch.inference_mode():
        values = edge_values(graph, inputs)
    found = np.ones(len(graph.edges))
    for vertex in graph.vertices:
        into = [edge for edge in graph.edges if edge.target == vertex.index]
        if vertex.kind in ("sum", "cat") and all(edge.is_floating for edge in into):
            parts = [values[edge.producer].double() for edge in into]
            if vertex.kind == "sum":
                added = sum(parts[1:], parts[0])
                sizes = [float((part * added).sum()) for part in parts]
            else:
                sizes = [float(part.square().sum()) for part in parts]
            total = sum(sizes)
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
class Step:
    """One operation of the network.

    Attributes:
        name: of its node.
        arguments: names of the nodes that it reads, and the gate on each, if there is one.
        vertex: that it is part of, or None.
        rule: from the moments of its arguments to those of its result; or the result itself, where
            no removal changes it.
    """

    name: str
    arguments: tuple[tuple[str, int | None], ...]
    vertex: int | None
    rule: Rule | Channels


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
        """Of each output under (M, E) masks."""
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
            if step.vertex is not None:
                made = made.times(alive[:, step.vertex])
            found[step.name] = made
            for name in needed.get(place, ()):
                found.pop(name, None)
        return {
            name: found[name] if gate is None else found[name].times(gates[:, gate])
            for name, gate in self.ends.items()
        }

    def change(self, masks: ArrayLike) -> Floats:
        """(M,) the predicted distance of the outputs from the full network's, over the energy of
        their variation; means over classes, which a softmax does not see, are left out.
        """
        found = np.zeros(len(self.graph.masks(masks)))
        for name, moved in self.moments(masks).items():
            full = self.outputs[name]
            shift = moved.mean - full.mean
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
        inputs: examples that it is run on, some 16 to 64; no targets.
        noise_gain: how far noise passes linear layers as independent entries would, compared with
            the signal: 0 is as the signal does, 1 as if independent.
        seed: of the samples.

    Raises:
        InvalidInput: a layer in training mode, or a number out of range.
        NotCapturable: inputs of sizes that the network was not captured for.

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
    check_ready(graph)
    with graph.sizes_in_words(inputs), torch.no_grad():
        module = _on_cpu(graph)
        reader = _Reader(graph, module, noise_gain, whole("seed", seed, 0))
        reader.run(*positional(module, mapped(lambda value: value.cpu(), inputs)))
    end = last(module.graph)
    ends = {
        node.name: reader.gates.get((end.name, slot))
        for slot, node in enumerate(arguments(end))
        if node.name in reader.known
    }
    outputs = {name: reader.known[name].without_entries() for name in ends}
    return FlowModel(graph, tuple(reader.steps), outputs, ends)


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


class _Reader(fx.Interpreter):
    """Runs a traced network, and makes a rule of each operation as it goes by."""

    def __init__(
        self, graph: ComputationGraph, module: fx.GraphModule, noise_gain: float, seed: int
    ) -> None:
        super().__init__(module)
        self.random = torch.Generator().manual_seed(seed)
        self.noise_gain = noise_gain
        self.vertex = {node: v.index for v in graph.vertices for node in v.nodes}
        self.gates = {(e.consumer, e.slot): e.index for e in graph.edges if e.is_floating}
        self.known: dict[str, Channels] = {}
        self.fixed: set[str] = set()  # what no input reaches
        self.terms: dict[str, list[_Term]] = {}  # of sums
        self.steps: list[Step] = []
        self.noise: dict[tuple[int, ...], Tensor] = {}  # by shape

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "output" or not _varies(result):
            return result
        of = arguments(n)
        given = [(place, a) for place, a in enumerate(of) if a.name in self.known]
        values = [self.env[a] for _, a in given]
        rule = self._rule(n, [a.name for _, a in given], values, result)
        read = tuple((a.name, self.gates.get((n.name, place))) for place, a in given)
        if isinstance(rule, Channels):
            read = ()
        elif n.name in self.terms:
            read = tuple((term.name, term.gate) for term in self.terms[n.name])
        self.steps.append(Step(n.name, read, self.vertex.get(n.name), rule))
        self._forget(n)
        return result

    def _forget(self, n: fx.Node) -> None:
        """Entries of values that no later operation reads."""
        for one in self.user_to_last_uses.get(n, ()):
            self.terms.pop(one.name, None)
            if one.name in self.known:
                self.known[one.name] = self.known[one.name].without_entries()

    def _rule(
        self, n: fx.Node, names: list[str], values: list[Tensor], result: Tensor
    ) -> Rule | Channels:
        if n.op == "get_attr" or (n.op != "placeholder" and self.fixed.issuperset(_names(n))):
            self.fixed.add(n.name)
        known = [self.known[name] for name in names]
        if not known or n.name in self.fixed:
            self.known[n.name] = moments.channels(result, moments.default_axis(result))
            return self.known[n.name].without_entries()
        layer = self.submodules[n.target] if n.op == "call_module" else None
        word = _word(n, layer)
        axis = self._axis(layer, word, known, result)
        kind, parts = self._parameters(n, layer)
        scale = _batch_scale(kind, parts) if known[0].axis == axis == 1 else None
        own = self.known[n.name] = (
            moments.channels(result, axis)
            if scale is None
            else known[0].scaled(scale, moments.channel_means(result, axis))
        )
        if n.target in SUMS:
            return self._sum(n, names, result, own)
        if n.target in CATS and all(len(k.mean) and k.axis == axis for k in known):
            weights = [k.energy * len(k.mean) for k in known]
            if sum(len(k.mean) for k in known) == len(own.mean):
                return moments.Cat(torch.tensor(weights, dtype=torch.float64) / sum(weights))
        if n.target is bypass:
            return self._bypass(known[0], own)
        fixed = self.fixed.issuperset(names[1:])  # one argument varies, the first
        if fixed and scale is not None:
            return moments.Affine(scale, known[0].mean, own.mean)
        if fixed and (found := self._affine(kind, parts, values[0], known[0], own)):
            return found
        if isinstance(layer, nn.MaxPool2d) and layer.dilation == 1 and known[0].axis == 1:
            return self._windows(layer, values[0], known[0], own)
        if word in _POINTWISE and (found := self._sampled(n, layer, names, values, result, own)):
            return found
        if word in _ROWWISE and fixed and axis == result.dim() - 1:
            return self._rows(n, layer, values[0], known[0], own)
        if len(known) == 1:
            gain = 1.0  # of noise
            if word in _AVERAGES and result.numel() < values[0].numel():
                averaged = values[0].numel() / result.numel()
                gain = min(known[0].energy / averaged / own.energy, 1.0)
            return moments.Moved(known[0].mean, own.mean, gain)
        counted = (len(known) - 1,) if "attention" in word else tuple(range(len(known)))
        return moments.Product(own, counted)

    def _axis(
        self, layer: nn.Module | None, word: str, known: list[Channels], result: Tensor
    ) -> int:
        first = known[0]
        if isinstance(layer, nn.modules.conv._ConvNd | nn.modules.batchnorm._BatchNorm):
            return 1
        if word in _FUNCTIONS and word.startswith(("conv", "batch")):
            return 1
        if isinstance(layer, nn.Linear) or word in _ROWWISE or word in _FUNCTIONS:
            return result.dim() - 1
        if first.axis < result.dim() and result.shape[first.axis] == len(first.mean):
            return first.axis
        found = moments.same_axis(first, result)
        return moments.default_axis(result) if found is None else found

    def _sum(self, n: fx.Node, names: list[str], result: Tensor, own: Channels) -> Rule:
        """All terms of a sum of sums at once: pairs of them count wherever they are added."""
        if any(len(self.known[name].mean) != len(own.mean) for name in names):
            return moments.Product(own, (0,))
        signs = [1.0, -1.0 if n.target in SUBTRACTIONS else 1.0]
        signs[1] *= float(n.kwargs.get("alpha", 1.0))  # type: ignore[arg-type]
        if n.args and not isinstance(n.args[0], fx.Node):  # a number first
            signs = signs[1:]
        terms: list[_Term] = []
        for place, (a, sign) in enumerate(zip(arguments(n), signs, strict=False)):
            inner = self.vertex.get(a.name) == self.vertex.get(n.name) and len(a.users) == 1
            if inner and a.name in self.terms and (n.name, place) not in self.gates:
                parts = self.terms[a.name]
                terms += [replace(part, sign=part.sign * sign) for part in parts]
            elif a.name in self.known:
                wide = self._wide(a.name, self.env[a], result, own)
                terms.append(_Term(a.name, self.gates.get((n.name, place)), sign, wide))
        self.terms[n.name] = terms
        every = [term.sign for term in terms]
        rule = moments.sum_rule([term.value for term in terms], own, every)
        # what is added that no removal reaches
        rest = own.mean - sum((term.sign * term.value.mean for term in terms), torch.zeros(1))
        return rule if float(rest.abs().max()) < 1e-4 * own.energy**0.5 else _Shifted(rule, rest)

    def _wide(self, name: str, value: Tensor, result: Tensor, own: Channels) -> Channels:
        """A value in the shape of what is made of it, by its channels."""
        known = self.known[name]
        if value.shape == result.shape and known.axis == own.axis:
            return known
        return moments.channels(value.expand(result.shape), own.axis)

    def _bypass(self, around: Channels, own: Channels) -> Rule:
        share = float((around.variation * own.variation).mean()) / own.energy
        rest = max(around.energy / own.energy - share**2, 0.0)
        return _Around(share, rest, around.energy / own.energy)

    def _affine(
        self, kind: str, parts: dict[str, Any], value: Tensor, known: Channels, own: Channels
    ) -> Rule | None:
        """Of linear layers and convolutions, as modules or as functions; None for all else."""
        if parts.get("weight") is None:
            return None
        weight = parts["weight"].detach()
        weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
        if kind == "convolution" and known.axis == 1:
            how = parts["how"]
            share = moments.coverage(weight.shape[2:], how, value.shape[2:])
            gain = self._gain(moments.channel_squares(weight, share, how.groups), known, own)
            wide = moments.channel_weight(weight, share, how.groups)
            return moments.Affine(wide, known.mean, own.mean, gain)
        fits = weight.shape == (len(own.mean), len(known.mean))
        if kind == "linear" and fits and known.axis == value.dim() - 1:
            gain = self._gain(moments.channel_squares(weight), known, own)
            return moments.Affine(weight, known.mean, own.mean, gain)
        return None

    def _parameters(self, n: fx.Node, layer: nn.Module | None) -> tuple[str, dict[str, Any]]:
        """What kind of affine operation it is, and its parameters; an empty kind for all else."""
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            names = ("weight", "running_var", "eps")
            return "batch_norm", {name: getattr(layer, name) for name in names}
        if isinstance(layer, nn.Linear):
            return "linear", {"weight": layer.weight}
        if isinstance(layer, nn.modules.conv._ConvNd):
            plain = not layer.transposed and layer.padding_mode == "zeros"
            how = moments.Convolution(*(getattr(layer, name) for name in _WALK))
            parts = {"weight": layer.weight, "how": how}
            return ("convolution", parts) if plain else ("", {})
        word = _word(n, layer)
        if layer is not None or word not in _FUNCTIONS:
            return "", {}
        schema = getattr(n.target, "_schema", None)
        order = tuple(a.name for a in schema.arguments) if schema else _FUNCTIONS[word]
        bound = dict(zip(order, n.args, strict=False)) | n.kwargs
        bound.pop(order[0], None)
        if any(isinstance(v, fx.Node) and v.name not in self.fixed for v in bound.values()):
            return "", {}
        given: dict[str, Any] = {
            k: self.env[v] if isinstance(v, fx.Node) else v for k, v in bound.items()
        }
        if word in ("matmul", "mm"):
            return "linear", {"weight": given[order[1]].T}
        if word in ("linear", "batch_norm"):
            return word, {"eps": 1e-5} | given
        walk = {name: given[name] for name in _WALK if name in given}
        return "convolution", given | {"how": moments.Convolution(**walk)}

    def _gain(self, squares: Tensor, known: Channels, own: Channels) -> float:
        """The gain of independent noise, whose variance is that of the signal's channels, over that
        of the signal; from the sum of squared weights behind each channel.
        """
        made = float(squares.double() @ known.variance)
        return float((made / own.variance.sum().clamp(min=1e-30)) ** self.noise_gain)

    def _sampled(
        self,
        n: fx.Node,
        layer: nn.Module | None,
        names: list[str],
        values: list[Tensor],
        result: Tensor,
        own: Channels,
    ) -> Rule | None:
        wide = []
        for name, value in zip(names, values, strict=True):
            try:
                wide.append(self._wide(name, value, result, own))
            except RuntimeError:
                return None
            if len(self.known[name].mean) not in (1, len(own.mean)):
                return None
        count = own.variation.shape[1]
        pick = torch.randint(count, (len(own.mean), min(_ENTRIES, count)), generator=self.random)
        entries = [torch.gather(one.variation, 1, pick) for one in wide]
        entries = [one - one.mean(dim=1, keepdim=True) for one in entries]
        constants = {a.name: self.env[a] for a in arguments(n) if a.name not in names}
        if any(isinstance(c, Tensor) and c.dim() for c in constants.values()):
            return None
        return moments.Sampled(
            lambda samples: _called(n, layer, dict(zip(names, samples, strict=True)) | constants),
            own.mean,
            tuple(one.mean for one in wide),
            tuple(entries),
            tuple(one.variance.sqrt() for one in wide),
            tuple(self._draws(one.shape, place) for place, one in enumerate(entries)),
        )

    def _windows(self, layer: nn.MaxPool2d, value: Tensor, known: Channels, own: Channels) -> Rule:
        """The largest of the entries in sampled windows."""
        size, step, pad = (
            (one, one) if isinstance(one, int) else tuple(one)
            for one in (layer.kernel_size, layer.stride, layer.padding)
        )
        around = (pad[1], pad[1], pad[0], pad[0])
        wide = nn.functional.pad(value, around, value=-torch.inf)
        windows = wide.unfold(2, size[0], step[0]).unfold(3, size[1], step[1])
        batch, count, *places = windows.shape[:4]
        shape = (count, min(_ENTRIES, batch * math.prod(places)))
        where = torch.unravel_index(
            torch.randint(batch * math.prod(places), shape, generator=self.random),
            (batch, *places),
        )
        channel = torch.arange(count)[:, None]
        entries = windows[where[0], channel, where[1], where[2]].flatten(2).double()  # (C, K, taps)
        entries = entries - known.mean[:, None, None]
        outside = entries.isinf()
        return moments.Sampled(
            lambda samples: samples[0].masked_fill(outside, -torch.inf).amax(dim=-1),
            own.mean,
            (known.mean,),
            (entries.masked_fill(outside, 0.0),),
            (known.variance.sqrt(),),
            (self._draws(entries.shape),),
        )

    def _rows(
        self, n: fx.Node, layer: nn.Module | None, value: Tensor, known: Channels, own: Channels
    ) -> Rule:
        flat = known.variation.T
        pick = torch.randint(len(flat), (min(_ROWS, len(flat)),), generator=self.random)
        entries = flat[pick]
        entries = entries - entries.mean(dim=0)

        doubled = None if layer is None else copy.deepcopy(layer).double()
        first, *others = arguments(n)
        constants = {
            a.name: self.env[a].double() if _varies(self.env[a]) else self.env[a] for a in others
        }
        return moments.Sampled(
            lambda samples: _called(n, doubled, {first.name: samples[0]} | constants),
            own.mean,
            (known.mean,),
            (entries,),
            (known.variance.sqrt(),),
            (self._draws(entries.shape),),
            rows=True,
        )

    def _draws(self, shape: Sequence[int], place: int = 0) -> Tensor:
        """Normal noise, each draw with its negative, for an operation's argument at a place. There
        is one for each shape, for to draw takes longer than what is done with it; arguments of one
        operation have their own.
        """
        key = (place, *shape)
        if key not in self.noise:
            half = torch.randn(_DRAWS // 2, *shape, generator=self.random, dtype=torch.float64)
            self.noise[key] = torch.cat([half, -half])
        return self.noise[key]


@dataclass(frozen=True, eq=False)
class _Term:
    """One of what a vertex adds up: the node that makes it, its gate, its factor, and its value."""

    name: str
    gate: int | None
    sign: float
    value: Channels


@dataclass(frozen=True, eq=False)
class _Shifted:
    """A sum with a constant beside its arguments."""

    rule: Rule
    shift: Tensor

    def __call__(self, given: Sequence[Moments]) -> Moments:
        made = self.rule(given)
        return Moments(made.signal, made.noise, made.mean + self.shift)


@dataclass(frozen=True)
class _Around:
    """A block, or, where its gate is closed, what goes around it.

    Attributes:
        share: of the value around, in the value behind the block, as in a sum.
        rest: energy of what of it points elsewhere.
        size: its energy over that behind the block.
    """

    share: float
    rest: float
    size: float

    def __call__(self, given: Sequence[Moments]) -> Moments:
        around, through = given
        open_ = ((through.signal != 0) | (through.noise != 0)).double()
        shut = 1 - open_
        signal = open_ * through.signal + shut * self.share * around.signal
        beside = self.rest * around.signal**2 + self.size * around.noise
        noise = open_ * through.noise + shut * beside
        mean = open_[:, None] * through.mean + shut[:, None] * around.mean
        return Moments(signal, noise, mean)


def _called(n: fx.Node, layer: nn.Module | None, values: dict[str, Any]) -> Tensor:
    """An operation again, on other values of the nodes that it reads; that of a layer comes first.
    Of several results, the first.
    """
    args, kwargs = fx.node.map_arg((n.args, n.kwargs), lambda a: values[a.name])
    if layer is not None:
        found = layer(next(iter(values.values())))
    elif n.op == "call_method":
        found = getattr(args[0], str(n.target))(*args[1:], **kwargs)
    else:
        found = n.target(*args, **kwargs)  # type: ignore[operator]
    return found[0] if isinstance(found, tuple) else found


def _batch_scale(kind: str, parts: dict[str, Any]) -> Tensor | None:
    """(C,) what a batch norm multiplies each channel by; None for all else."""
    if kind != "batch_norm" or parts.get("running_var") is None:
        return None
    scale = torch.rsqrt(parts["running_var"].double() + parts["eps"])
    weight = parts.get("weight")
    return scale if weight is None else scale * weight.detach().double()


def _varies(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0


def _names(n: fx.Node) -> list[str]:
    return [a.name for a in arguments(n)]


def _word(n: fx.Node, layer: nn.Module | None) -> str:
    """What an operation is called, without the dialect of its tracer."""
    if layer is not None:
        return _LAYERS.get(type(layer).__name__, type(layer).__name__.lower())
    name = getattr(n.target, "__name__", None) or str(n.target)
    return str(name).split(".")[0]


_LAYERS = {
    "LayerNorm": "layer_norm",
    "RMSNorm": "rms_norm",
    "AvgPool2d": "avg_pool2d",
    "AdaptiveAvgPool2d": "adaptive_avg_pool2d",
    "LeakyReLU": "leaky_relu",
}
