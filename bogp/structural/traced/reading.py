"""Reads a traced network as it runs, and makes of each operation the rule by which moments pass it
(``traced.moments``).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from bogp.structural.traced import moments
from bogp.structural.traced.containers import tensors_of
from bogp.structural.traced.moments import Channels, Moments, Rule
from bogp.structural.traced.nodes import CATS, SUMS, arguments, bypass, signs_of

_ENTRIES, _ROWS, _DRAWS = 64, 256, 6  # of a channel; of rows; of noise
_POINTWISE = {
    *("relu", "relu_", "relu6", "gelu", "silu", "silu_", "mish", "elu", "selu", "softplus"),
    *("leaky_relu", "leaky_relu_", "hardtanh", "hardswish", "hardswish_", "hardsigmoid", "tanh"),
    *("sigmoid", "exp", "sqrt", "rsqrt", "square", "pow", "abs", "clamp", "clamp_min", "log"),
    *("mul", "mul_", "div", "truediv", "neg", "sin", "cos", "maximum", "minimum", "reciprocal"),
}
_ROWWISE = {"layer_norm", "rms_norm"}
_SOFTMAX = {
    **{"softmax": torch.softmax, "_softmax": torch.softmax},
    **{"log_softmax": torch.log_softmax, "_log_softmax": torch.log_softmax},
}
# Operations that are not defined everywhere, or not bounded, and the place of the argument that
# this is so for: masks and noise must not take it where the network does not.
_BOUNDED = {"sqrt": 0, "rsqrt": 0, "log": 0, "reciprocal": 0, "div": 1, "truediv": 1}
_FILLS = {"masked_fill", "masked_fill_", "where"}
_PARTS = {"getitem", "slice", "narrow", "select"}
# What scores pass on their way to a softmax.
_SCORES = {
    *_FILLS,
    *("getitem", "slice", "float", "to", "type_as", "_to_copy", "view", "reshape", "dropout"),
    *("clamp", "max", "maximum", "mul", "div", "truediv"),
    *("expand", "clone", "contiguous", "unsqueeze", "squeeze"),
}
_HIDES = -1e3  # what is filled in or added to keep a softmax from looking there is below this
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
_EXPORTED_NORM = "_native_batch_norm_legit_no_training"  # gives a tuple
_TURNS = {"transpose", "permute", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "getattr"}
_AVERAGES = {"mean", "avg_pool2d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"}


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


class Reader(fx.Interpreter):
    """Runs a traced network, and makes a rule of each operation as it goes by.

    Args:
        module: the network.
        vertices: the vertex that each node is part of.
        gates: the gate on the value that a node reads in a slot.
        noise_gain: see ``flow.flow_model``.
        seed: of samples.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        vertices: dict[str, int],
        gates: dict[tuple[str, int], int],
        noise_gain: float,
        seed: int,
    ) -> None:
        super().__init__(module)
        self.random = torch.Generator().manual_seed(seed)
        self.noise_gain = noise_gain
        self.vertex, self.gates = vertices, gates
        self.known: dict[str, Channels] = {}
        # Of tuples, truth values, and other results without moments: what they were made of, and
        # the gates on that.
        self.behind: dict[str, list[tuple[str, int | None]]] = {}
        self.fixed: set[str] = set()  # what no input reaches
        self.unmoved: set[str] = set()  # what no removal reaches
        self.terms: dict[str, list[_Term]] = {}  # of sums
        self.steps: list[Step] = []
        # Steps of their own of constants that were widened, by the name of the constant.
        self.instead: dict[str, str] = {}
        self.noise: dict[tuple[int, ...], Tensor] = {}  # by shape

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "output" or not _varies(result):
            if _holds_numbers(result):
                self.behind[n.name] = self._sources(n)
            if self._is_fixed(n) or (n.op != "output" and not tensors_of(result)):
                self.fixed.add(n.name)  # a size or a mode is the same for all examples as well
            return result
        of = arguments(n)
        given = [(place, a) for place, a in enumerate(of) if a.name in self.known]
        read = tuple((a.name, self.gates.get((n.name, place))) for place, a in given)
        moved = [name for name, gate in read if gate is not None or name not in self.unmoved]
        sources = [] if moved else self._sources(n)
        rule: Rule | Channels
        if sources:
            rule = self._from_behind(n, [name for name, _ in sources], result)
            read = tuple(sources)
        elif not moved:
            rule = self._constant(n, result)
        else:
            values = [self.env[a] for _, a in given]
            self.instead.clear()
            rule = self._rule(n, [a.name for _, a in given], values, result)
            if isinstance(rule, moments.Sampled):
                read = tuple((self.instead.get(name, name), gate) for name, gate in read)
        if isinstance(rule, Channels):
            read = ()
            self.unmoved.add(n.name)
        elif n.name in self.terms:
            read = tuple((term.name, term.gate) for term in self.terms[n.name])
        self.steps.append(Step(n.name, read, self.vertex.get(n.name), rule))
        self._forget(n)
        return result

    def _sources(self, n: fx.Node) -> list[tuple[str, int | None]]:
        """The values with moments that a node reads, at once or through results without them."""
        found: dict[tuple[str, int | None], None] = {}
        for place, a in enumerate(arguments(n)):
            gate = self.gates.get((n.name, place))
            if a.name in self.known:
                if gate is not None or a.name not in self.unmoved:
                    found[a.name, gate] = None
            else:
                found |= dict.fromkeys(self.behind.get(a.name, ()))
        return list(found)

    def _from_behind(self, n: fx.Node, names: list[str], result: Tensor) -> Rule:
        """Of what comes out of a tuple, or of numbers that have no moments: channels that are a
        part of those of the source stay as they are, else shares stay, or multiply.
        """
        first = self.known[names[0]]
        axis = first.axis if first.axis < result.dim() else moments.default_axis(result)
        own = self.known[n.name] = self._channels(result, axis)
        if len(names) > 1:
            return moments.Product(own, tuple(range(len(names))))
        source = arguments(n)[0]
        if _word(source, None) == _EXPORTED_NORM and first.axis == axis == 1:
            given: Any = source.args
            _, weight, _, _, variance, _, eps = given
            scale = torch.rsqrt(self.known[variance.name].mean + eps)
            scale = scale if weight is None else scale * self.known[weight.name].mean
            return moments.Affine(scale, first.mean, own.mean)
        start = moments.place_of(own.mean, first.mean)
        if start is not None:
            return moments.Part(start, start + len(own.mean))
        return moments.moved(first, own)

    def _is_fixed(self, n: fx.Node) -> bool:
        made = n.op not in ("placeholder", "output")
        return made and self.fixed.issuperset(a.name for a in arguments(n))

    def _constant(self, n: fx.Node, result: Tensor) -> Channels:
        """What no removal reaches: a parameter, an input, or what is made of these alone."""
        names = [a.name for a in arguments(n)]
        if self._is_fixed(n):
            self.fixed.add(n.name)
        known = [self.known[name] for name in names if name in self.known]
        axis = moments.default_axis(result)
        if known and n.name not in self.fixed:
            layer = self.submodules[n.target] if n.op == "call_module" else None
            axis = self._axis(n, layer, _word(n, layer), known, result)
        bare = n.name in self.fixed or result.dim() != 1
        make = moments.channels if bare else self._channels
        self.known[n.name] = make(result, axis)
        return self.known[n.name].without_entries()

    def _channels(self, value: Tensor, axis: int, least: float = -math.inf) -> Channels:
        """A value by channel. One number an example is one channel."""
        if value.dim() == 1:
            return moments.channels(value[:, None], 1, least)
        return moments.channels(value, axis, least)

    def _forget(self, n: fx.Node) -> None:
        """Entries of values that no later operation reads."""
        for one in self.user_to_last_uses.get(n, ()):
            self.terms.pop(one.name, None)
            if one.name in self.known:
                self.known[one.name] = self.known[one.name].without_entries()

    def _rule(self, n: fx.Node, names: list[str], values: list[Tensor], result: Tensor) -> Rule:
        known = [self.known[name] for name in names]
        layer = self.submodules[n.target] if n.op == "call_module" else None
        word = _word(n, layer)
        adds = layer is None and n.target in SUMS  # a layer can be called add or sub
        axis = self._axis(n, layer, word, known, result)
        kind, parts = self._parameters(n, layer)
        scale = _batch_scale(kind, parts) if known[0].axis == axis == 1 else None
        hides = (
            word in _FILLS
            or any(k.hidden is not None for k in known)
            or (adds and self._hides(n, result))
        ) and self._are_scores(n)
        own = self.known[n.name] = (
            self._channels(result, axis, _HIDES if hides else -math.inf)
            if scale is None
            else known[0].scaled(scale, moments.channel_means(result, axis))
        )
        if adds and hides:  # the scores of an attention, and where it may look
            moving = [place for place, name in enumerate(names) if name not in self.unmoved]
            of = zip(arguments(n), signs_of(n), strict=False)
            kept = [(i, sign) for i, (a, sign) in enumerate(of) if a.name in self.known]
            masks = [at for at, (slot, _) in enumerate(kept) if (n.name, slot) in self.gates]
            if len(moving) == 1 and set(masks) <= set(moving):
                at = moving[0]
                return moments.Moved(known[at].mean, own.mean, of=at, scale=kept[at][1])
            if len(moving) == 1:  # without its mask a softmax looks elsewhere
                return moments.Product(own, (moving[0], *(at for at in masks if at != moving[0])))
        if adds:
            return self._sum(n, names, result, own)
        if n.target in CATS and (found := self._side_by_side(known, values, axis, own, word)):
            return found
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
        by_row = (word in _ROWWISE or word in _SOFTMAX) and fixed and axis == result.dim() - 1
        if by_row and (found := self._rows(n, layer, word, known[0], own, result)):
            return found
        if len(known) == 1:
            start = moments.place_of(own.mean, known[0].mean) if word in _PARTS else None
            if start is not None:
                return moments.Part(start, start + len(own.mean))
            gain = 1.0  # of noise
            if word in _AVERAGES and result.numel() < values[0].numel():
                averaged = values[0].numel() / result.numel()
                gain = min(known[0].energy / averaged / own.energy, 1.0)
            return moments.moved(known[0], own, gain)
        counted = self._values(n, names) if "attention" in word else range(len(known))
        return moments.Product(own, tuple(counted))

    def _values(self, n: fx.Node, names: list[str]) -> tuple[int]:
        """The place of an attention's values among what it reads: the third argument."""
        value = n.kwargs.get("value", n.args[2] if len(n.args) > 2 else None)
        if isinstance(value, fx.Node) and value.name in names:
            return (len(names) - 1 - names[::-1].index(value.name),)
        return (len(names) - 1,)

    def _are_scores(self, n: fx.Node) -> bool:
        """Whether a softmax reads them, as they are or by what leaves them where they are."""
        seen, ahead = {n}, [n]
        while ahead:
            for user in ahead.pop().users:
                layer = self.submodules[user.target] if user.op == "call_module" else None
                if (word := _word(user, layer)) in _SOFTMAX:
                    return True
                passes = word in _SCORES or (layer is None and user.target in SUMS)
                if passes and user not in seen:
                    seen.add(user)
                    ahead.append(user)
        return False

    def _hides(self, n: fx.Node, result: Tensor) -> bool:
        """Whether a sum adds what keeps a softmax from looking somewhere."""
        given = [self.env[a] for a in arguments(n) if a.name in self.unmoved]
        large = any(float(value.abs().amax()) > -_HIDES for value in given if value.numel())
        return large and float(result.amin()) < _HIDES

    def _side_by_side(
        self, known: list[Channels], values: list[Tensor], axis: int, own: Channels, word: str
    ) -> Rule | None:
        """Of a concatenation along the channels, or along another axis, which averages means."""
        axes = {k.axis for k in known}
        if not all(len(k.mean) for k in known) or (axes != {axis} and word != "stack"):
            return None
        counts = None
        if len(known) > 1 and {len(k.mean) for k in known} == {len(own.mean)}:
            sizes = [float(value.numel()) for value in values]
            counts = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
            weights = [k.energy * size for k, size in zip(known, sizes, strict=True)]
        elif sum(len(k.mean) for k in known) == len(own.mean):
            weights = [k.energy * len(k.mean) for k in known]
        else:
            return None
        return moments.Cat(torch.tensor(weights, dtype=torch.float64) / sum(weights), counts)

    def _axis(
        self, n: fx.Node, layer: nn.Module | None, word: str, known: list[Channels], result: Tensor
    ) -> int:
        first = known[0]
        if word in _TURNS and (same := moments.same_axis(first, result)) is not None:
            return same  # sizes do not tell which axis it is where two are equal
        if isinstance(layer, nn.modules.conv._ConvNd | nn.modules.batchnorm._BatchNorm):
            return 1
        if word in _FUNCTIONS and word.startswith(("conv", "batch")):
            return 1
        if isinstance(layer, nn.Linear) or word in _ROWWISE | _FUNCTIONS.keys() | _SOFTMAX.keys():
            return result.dim() - 1
        if word == "stack" and result.dim() > 1:
            dim: Any = n.args[1] if len(n.args) > 1 else n.kwargs.get("dim", 0)
            return int(first.axis + (dim % result.dim() <= first.axis))
        if first.axis < result.dim() and result.shape[first.axis] == len(first.mean):
            return first.axis
        found = moments.same_axis(first, result)
        return moments.default_axis(result) if found is None else found

    def _sum(self, n: fx.Node, names: list[str], result: Tensor, own: Channels) -> Rule:
        """All terms of a sum of sums at once: pairs of them count wherever they are added."""
        moving = [place for place, name in enumerate(names) if name not in self.unmoved]
        if any(len(self.known[names[place]].mean) not in (1, len(own.mean)) for place in moving):
            return moments.Product(own, tuple(moving))
        terms: list[_Term] = []
        for place, (a, sign) in enumerate(zip(arguments(n), signs_of(n), strict=False)):
            inner = self.vertex.get(a.name) == self.vertex.get(n.name) and len(a.users) == 1
            inner = inner and self.env[a].shape == result.shape
            if inner and a.name in self.terms and (n.name, place) not in self.gates:
                parts = self.terms[a.name]
                terms += [replace(part, sign=part.sign * sign) for part in parts]
            elif a.name in self.known:
                name, wide = self._wide(n, a.name, self.env[a], result, own)
                terms.append(_Term(name, self.gates.get((n.name, place)), sign, wide))
        self.terms[n.name] = terms
        every = [term.sign for term in terms]
        if any(self.env[a].shape != result.shape for a in arguments(n) if a.name in self.known):
            # Each channel's own mean, which a narrow term has from a few entries, is not rounded.
            added = torch.stack([term.sign * term.value.variation for term in terms]).sum(dim=0)
            own = self.known[n.name] = replace(own, variation=added, energy=moments.energy(added))
        rule = moments.sum_rule([term.value for term in terms], own, every)
        # what is added that no removal reaches
        rest = own.mean - sum((term.sign * term.value.mean for term in terms), torch.zeros(1))
        return rule if float(rest.abs().max()) < 1e-4 * own.energy**0.5 else _Shifted(rule, rest)

    def _wide(
        self, n: fx.Node, name: str, value: Tensor, result: Tensor, own: Channels
    ) -> tuple[str, Channels]:
        """A value in the shape of what is made of it, by its channels, and the step that gives its
        moments: one of its own where no removal reaches it, or its channels lie along another axis.
        """
        known = self.known[name]
        if value.shape == result.shape and known.axis == own.axis:
            return name, known
        wide = self._channels(value.expand(result.shape), own.axis)
        made, vertex = f"{name} for {n.name}", self.vertex.get(name)
        if name in self.unmoved:
            self.steps.append(Step(made, (), vertex, wide.without_entries()))
        elif known.axis != wide.axis and len(known.mean) == len(wide.mean) > 1:
            rule = moments.Moved(known.mean, wide.mean)
            self.steps.append(Step(made, ((name, None),), vertex, rule))
        else:
            return name, wide
        return made, wide

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
            matrix = given[order[1]]
            return "linear", {"weight": matrix[None] if matrix.dim() == 1 else matrix.mT}
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
                made, one = self._wide(n, name, value, result, own)
            except RuntimeError:
                return None
            if made == name and len(self.known[name].mean) not in (1, len(own.mean)):
                return None
            wide.append(one)
            self.instead[name] = made
        count = own.variation.shape[1]
        pick = torch.randint(count, (len(own.mean), min(_ENTRIES, count)), generator=self.random)
        entries = [torch.gather(one.variation, 1, pick) for one in wide]
        entries = [one - one.mean(dim=1, keepdim=True) for one in entries]
        constants = {a.name: self.env[a] for a in arguments(n) if a.name not in names}
        if any(isinstance(c, Tensor) and c.dim() for c in constants.values()):
            return None
        bounds = self._bounds(n, names, values, layer)

        def function(samples: Sequence[Tensor]) -> Tensor:
            within = [sample.clamp(*bound) for sample, bound in zip(samples, bounds, strict=True)]
            return _called(n, layer, dict(zip(names, within, strict=True)) | constants)

        return moments.Sampled(
            function,
            own.mean,
            tuple(one.mean for one in wide),
            tuple(entries),
            tuple(one.variance.sqrt() for one in wide),
            tuple(self._draws(one.shape, place) for place, one in enumerate(entries)),
        )

    def _bounds(
        self, n: fx.Node, names: list[str], values: list[Tensor], layer: nn.Module | None
    ) -> list[tuple[float, float]]:
        """Of each argument the range that it has in the full network, in which masked values are
        kept too, or no bounds.
        """
        word, of = _word(n, layer), [*n.args, *n.kwargs.values()]
        place = _BOUNDED.get(word)
        if word == "pow" and len(of) > 1 and not (isinstance(of[1], int) and of[1] >= 0):
            place = 0
        only = of[place] if place is not None and place < len(of) else None
        return [
            (float(value.amin()), float(value.amax()))
            if isinstance(only, fx.Node) and name == only.name
            else (-math.inf, math.inf)
            for name, value in zip(names, values, strict=True)
        ]

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
        self,
        n: fx.Node,
        layer: nn.Module | None,
        word: str,
        known: Channels,
        own: Channels,
        result: Tensor,
    ) -> Rule | None:
        """What works on rows, of which some are looked at; None where the last axis is not what is
        normalised, or not all of it.
        """
        if known.axis != own.axis or not _by_last_axis(n, layer, word, result):
            return None
        flat = known.variation.T
        pick = torch.randint(len(flat), (min(_ROWS, len(flat)),), generator=self.random)
        entries = flat[pick]
        hidden = None if known.hidden is None else known.hidden.T[pick]
        if hidden is not None:  # a row with nothing left to look at is as the network has it
            hidden = hidden & ~hidden.all(dim=1, keepdim=True)
        entries = entries - entries.mean(dim=0)

        doubled = None if layer is None else copy.deepcopy(layer).double()
        first, *others = arguments(n)
        constants = {
            a.name: self.env[a].double() if _varies(self.env[a]) else self.env[a] for a in others
        }

        def function(samples: Sequence[Tensor]) -> Tensor:
            (rows,) = samples
            if hidden is not None:
                rows = rows.masked_fill(hidden, -torch.inf)
            if word in _SOFTMAX:
                return _SOFTMAX[word](rows, -1)
            return _called(n, doubled, {first.name: rows} | constants)

        return moments.Sampled(
            function,
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
    """An operation again, on other values of what it reads; that of a layer comes first."""
    args, kwargs = fx.node.map_arg((n.args, n.kwargs), lambda a: values[a.name])
    if layer is not None:
        return layer(next(iter(values.values())))
    if n.op == "call_method":
        return getattr(args[0], str(n.target))(*args[1:], **kwargs)
    return n.target(*args, **kwargs)  # type: ignore[operator]


def _batch_scale(kind: str, parts: dict[str, Any]) -> Tensor | None:
    """(C,) what a batch norm multiplies each channel by; None for all else."""
    if kind != "batch_norm" or parts.get("running_var") is None:
        return None
    scale = torch.rsqrt(parts["running_var"].double() + parts["eps"])
    weight = parts.get("weight")
    return scale if weight is None else scale * weight.detach().double()


def _varies(value: Any) -> bool:
    full = isinstance(value, Tensor) and value.dim() > 0 and value.numel() > 0
    return full and value.is_floating_point()


def _holds_numbers(value: Any) -> bool:
    """Whether there are tensors in it that follow from what goes in, such as in a tuple."""
    if isinstance(value, tuple | list):
        return any(_holds_numbers(part) for part in value)
    return isinstance(value, Tensor)


def _by_last_axis(n: fx.Node, layer: nn.Module | None, word: str, result: Tensor) -> bool:
    """Whether a norm or a softmax works along the last axis, and no other."""
    name = "dim" if word in _SOFTMAX else "normalized_shape"
    if layer is not None:
        over = getattr(layer, name, None)
    else:
        over = n.args[1] if len(n.args) > 1 else n.kwargs.get(name)
    if word in _SOFTMAX:
        return over in (-1, result.dim() - 1)
    return over is None or isinstance(over, int) or len(over) == 1


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
    "LogSoftmax": "log_softmax",
}
