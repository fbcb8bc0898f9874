"""How removals move the moments of a value, operation by operation: the rules behind ``flow``.

What a value becomes under a mask is described by three things, worked out from what it is in the
full network (x, with the mean m of each channel):

- ``signal``: the share s of its variation x - m that is left
- ``noise``: what else varies, uncorrelated with it, as a share n of its variation's energy
- ``mean``: the mean of each channel

so that masked values are like mean + s (x - m) + noise. A *rule* takes these moments of an
operation's arguments to those of its result. It holds the few numbers that it needs of the full
network's values, all of them read off as the operation runs in one forward pass, and none of its
arguments is computed again. Sums and affine operations are exact for means, and for signal and
noise where arguments are; for what is not linear, a sample of entries is taken through the
operation, with normal noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

_LEAST = 1e-30
_CHUNK = 2**22  # numbers at a time
# Entries that are looked at: of a value (2^15 tell a share to about .005), and of each channel.
_OF_A_VALUE, _FEWEST, _MOST = 2**15, 16, 2048
_OUTPUTS = 64  # of a layer, whose weights its gain of noise is taken from


@dataclass(frozen=True, eq=False)
class Moments:
    """Of a value under M masks; see the module's docstring.

    Attributes:
        signal, noise: (M,).
        mean: (M, C).
    """

    signal: Tensor
    noise: Tensor
    mean: Tensor

    def times(self, gates: Tensor) -> Moments:
        """Under gates, (M,) zeros and ones."""
        return Moments(self.signal * gates, self.noise * gates, self.mean * gates[:, None])


Rule = Callable[[Sequence[Moments]], Moments]


@dataclass(frozen=True, eq=False)
class Channels:
    """A value of the full network by channel.

    Attributes:
        axis: of the value that its channels lie along.
        mean: (C,), over all entries.
        variation: (C, K) entries of each channel, without their mean: all of a small value, and a
            sample of a large one, at the same places in values of one shape.
        energy: the mean square of the variation.
        hidden: (C, K) entries that are left out of the others, such as those that a mask of minus
            infinity keeps a softmax from looking at; None if there are none.
    """

    axis: int
    mean: Tensor
    variation: Tensor = field(repr=False)
    energy: float
    hidden: Tensor | None = field(default=None, repr=False)

    @property
    def variance(self) -> Tensor:
        """(C,) of each channel."""
        return self.variation.square().mean(dim=1)

    def scaled(self, scale: Tensor, mean: Tensor) -> Channels:
        """Each channel times a number, with another mean; both (C,)."""
        entries = self.variation * scale[:, None]
        return Channels(self.axis, mean, entries, energy(entries))

    def without_entries(self) -> Channels:
        """The same, its entries forgotten."""
        return replace(self, variation=self.variation[:, :0], hidden=None)


def channels(value: Tensor, axis: int, least: float = -math.inf) -> Channels:
    """A value by channel, in double precision; what is below ``least``, or minus infinity, is
    hidden.
    """
    rows, count = value.detach().movedim(axis, 0), value.shape[axis]
    if (at := _places(tuple(rows.shape[1:]), count)) is None:
        entries = rows.reshape(count, -1).double()
        mean = entries.mean(dim=1)
    else:
        index: tuple[slice | Tensor, ...] = (slice(None), *at)
        entries, mean = rows[index].double(), channel_means(value, axis)
    if least > -math.inf or (mean == -math.inf).any():
        every = rows.reshape(count, -1)
        left = ~_hidden(every, least)
        mean = every.where(left, 0).double().sum(dim=1) / left.sum(dim=1).clamp(min=1)
        hidden = _hidden(entries, least)
        if hidden.any():
            entries = (entries - mean[:, None]).masked_fill(hidden, 0.0)
            share = 1 - float(hidden.double().mean())
            return Channels(axis, mean, entries, energy(entries) / max(share, _LEAST), hidden)
    entries = entries - mean[:, None]
    return Channels(axis, mean, entries, energy(entries))


def _hidden(entries: Tensor, least: float) -> Tensor:
    return (entries < least) | (entries == -math.inf)


def energy(variation: Tensor) -> float:
    """The mean square, which is not 0."""
    return float(variation.square().mean()) + _LEAST


def channel_means(value: Tensor, axis: int) -> Tensor:
    """(C,) in double precision; added up in that of the value."""
    others = [other for other in range(value.dim()) if other != axis]
    return (value.detach().mean(dim=others) if others else value.detach()).double()


@lru_cache(maxsize=256)
def _places(shape: tuple[int, ...], channels: int) -> tuple[Tensor, ...] | None:
    """Where to look in what has such a shape beside its channels; None is everywhere."""
    count = math.prod(shape)
    most = max(_FEWEST, min(_MOST, _OF_A_VALUE // channels))
    if count <= most:
        return None
    picked = torch.randint(count, (most,), generator=torch.Generator().manual_seed(0))
    return torch.unravel_index(picked.sort().values, shape)  # memory is read in its order


def open_moments(of: Channels, masks: int) -> Moments:
    """Those of the full network, M times."""
    ones = torch.ones(masks, dtype=torch.float64)
    return Moments(ones, torch.zeros_like(ones), of.mean.expand(masks, -1))


# the rules


@dataclass(frozen=True, eq=False)
class Sum:
    """h = sum of h_e, some of them constants: signal is a sum of *flow shares*,
    <h_e - m_e, h - m> / |h - m|^2, and noise what the products of pairs leave beside it.

    Attributes:
        products: (P, P) of the arguments' variations over the energy of the sum's.
        signs: (P,) the factor that each enters with, 1 or -1 as a rule.
    """

    products: Tensor
    signs: Tensor

    def __call__(self, arguments: Sequence[Moments]) -> Moments:
        """Of the sum."""
        signal = torch.stack([one.signal for one in arguments], dim=1)
        kept = signal @ self.products.sum(dim=1)
        energy = torch.einsum("mp,pq,mq->m", signal, self.products, signal)
        own = torch.stack([one.noise for one in arguments], dim=1) @ self.products.diagonal()
        means = [one.mean * sign for one, sign in zip(arguments, self.signs, strict=True)]
        mean = sum(means[1:], means[0])
        return Moments(kept, (energy - kept**2).clamp(min=0) + own, mean)


def sum_rule(values: Sequence[Channels], result: Channels, signs: Sequence[float]) -> Sum:
    """The rule of a sum of values that have been brought to one shape."""
    signed = [sign * one.variation for sign, one in zip(signs, values, strict=True)]
    flat = torch.stack([one.flatten() for one in signed])
    products = flat @ flat.T / (result.energy * flat.shape[1])
    return Sum(products, torch.tensor(signs, dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Cat:
    """Values side by side.

    Attributes:
        shares: (P,) of the arguments in the energy of the whole.
        counts: (P,) of the arguments in its entries, where they lie side by side along another
            axis, such as tokens.
    """

    shares: Tensor
    counts: Tensor | None = None

    def __call__(self, arguments: Sequence[Moments]) -> Moments:
        """Of the whole."""
        signal = torch.stack([one.signal for one in arguments], dim=1)
        noise = torch.stack([one.noise for one in arguments], dim=1)
        kept = signal @ self.shares
        apart = (noise + (signal - kept[:, None]) ** 2) @ self.shares
        means = [one.mean for one in arguments]
        if self.counts is None:
            return Moments(kept, apart, torch.cat(means, dim=1))
        return Moments(kept, apart, torch.stack(means, dim=2) @ self.counts)


@dataclass(frozen=True, eq=False)
class Affine:
    """A linear map of channels plus a constant.

    Attributes:
        weight: (C_out, C_in), or (C,) where each channel is scaled by itself.
        before, after: (C,) means of argument and result in the full network.
        gain: of independent noise over that of the signal, to the power that ``flow`` gives it.
    """

    weight: Tensor
    before: Tensor
    after: Tensor
    gain: float = 1.0

    def __call__(self, arguments: Sequence[Moments]) -> Moments:
        """The constant goes with the mean alone."""
        one = arguments[0]
        moved = (one.mean - self.before).to(self.weight.dtype)
        moved = moved @ self.weight.T if self.weight.dim() == 2 else moved * self.weight
        return Moments(one.signal, one.noise * self.gain, self.after + moved)


@dataclass(frozen=True, eq=False)
class Moved:
    """Entries move, or are averaged, within their channels.

    Attributes:
        before, after: (C,) means in the full network; of different lengths where channels are not
            the same any more, such as the heads of an attention.
        gain: of noise over that of the signal, where entries are averaged.
        of: place of the argument that this is done to; others count as constants.
        scale: of what means move by, where values do not just move.
    """

    before: Tensor
    after: Tensor
    gain: float = 1.0
    of: int = 0
    scale: float = 1.0

    def __call__(self, arguments: Sequence[Moments]) -> Moments:
        """Signal stays."""
        one = arguments[self.of]
        if len(self.before) == len(self.after):
            mean = self.after + self.scale * (one.mean - self.before)
        else:  # as much of the mean as is left of it along its own direction
            size = self.before.square().sum().clamp(min=_LEAST)
            mean = (one.mean @ self.before / size)[:, None] * self.after
        return Moments(one.signal, one.noise * self.gain, mean)


def moved(known: Channels, own: Channels, gain: float = 1.0) -> Moved:
    """The rule of an operation that is only known by its result: where the means of channels do not
    stay as they are, what they move by is scaled as their variation is.
    """
    scale = 1.0
    if len(known.mean) == len(own.mean):
        apart = (known.mean - own.mean).abs()
        stays = (apart <= 1e-3 * (known.mean.abs() + known.energy**0.5)).all()
        scale = 1.0 if stays else (own.energy / known.energy) ** 0.5
    return Moved(known.mean, own.mean, gain, scale=scale)


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the channels of a value, from ``start`` until before ``stop``."""

    start: int
    stop: int

    def __call__(self, arguments: Sequence[Moments]) -> Moments:
        """Of the part."""
        one = arguments[0]
        return Moments(one.signal, one.noise, one.mean[:, self.start : self.stop])


def place_of(part: Tensor, whole: Tensor) -> int | None:
    """Where the means of some channels stand among those of all; None if they do not."""
    places = len(whole) - len(part) + 1
    if places < 1:
        return None
    near = 1e-5 * part.abs() + 1e-6 * whole.abs().max()
    for start in torch.nonzero((whole[:places] - part[0]).abs() <= near[0]).flatten().tolist():
        if ((whole[start : start + len(part)] - part).abs() <= near).all():
            return int(start)
    return None


@dataclass(frozen=True, eq=False)
class Sampled:
    """An operation on a sample of entries, or of rows, with normal noise.

    Attributes:
        function: of the arguments' samples, (..., C, K, w) each, to (..., C, K); or of rows,
            (..., K, C), to the same.
        after: (C,) means of the result in the full network.
        means: (C,) of each argument in the full network.
        entries: variations of each, in the form that the function takes.
        deviations: (C,) standard deviation of each argument's channels.
        draws: of each argument's noise, (R, ...) in the same form.
        rows: whether the channels come last.
    """

    function: Callable[[Sequence[Tensor]], Tensor]
    after: Tensor
    means: tuple[Tensor, ...]
    entries: tuple[Tensor, ...]
    deviations: tuple[Tensor, ...]
    draws: tuple[Tensor, ...]
    rows: bool = False

    def __call__(self, arguments: Sequence[Moments]) -> Moments:
        """The moments of the results, against those of the full network's sample."""
        zero = [torch.zeros(1, dtype=torch.float64)] * len(self.means)
        one = [torch.ones(1, dtype=torch.float64)] * len(self.means)
        full = self.function(
            [
                self._at(i, m[None], o, z, None)
                for i, (m, o, z) in enumerate(zip(self.means, one, zero, strict=True))
            ]
        )[0]
        over = 0 if self.rows else 1
        start = full.mean(dim=over)
        varies = full - start.unsqueeze(over)
        energy = varies.square().mean().clamp(min=_LEAST)
        masks = len(arguments[0].signal)
        step = max(1, _CHUNK // max(full.numel() * len(self.draws[0]), 1))
        parts = [
            self._part(arguments, slice(k, k + step), start, varies, energy)
            for k in range(0, masks, step)
        ]
        signal, noise, mean = (torch.cat([part[j] for part in parts]) for j in range(3))
        if energy <= _LEAST:  # what varies of it was not sampled
            signal, noise = arguments[0].signal, arguments[0].noise
        return Moments(signal, noise, mean)

    def _part(
        self,
        arguments: Sequence[Moments],
        rows: slice,
        start: Tensor,
        varies: Tensor,
        energy: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        over, count = (1 if self.rows else 2), len(self.draws[0])
        first = second = torch.zeros((), dtype=torch.float64)
        for r in range(count):
            given = [
                self._at(i, one.mean[rows], one.signal[rows], one.noise[rows], r)
                for i, one in enumerate(arguments[: len(self.entries)])
            ]
            made = self.function(given)
            first = first + made / count
            second = second + made.square() / count
        mean = first.mean(dim=over)
        apart = first - mean.unsqueeze(over)
        axes = (-2, -1)
        signal = (apart * varies).mean(dim=axes) / energy
        whole = (second - mean.square().unsqueeze(over)).mean(dim=axes) / energy
        return signal, (whole - signal**2).clamp(min=0), self.after + (mean - start)

    def _at(self, i: int, mean: Tensor, signal: Tensor, noise: Tensor, draw: int | None) -> Tensor:
        """Argument i under masks: (M, C, K, w), or (M, K, C) of rows."""
        entries = self.entries[i]
        wide = (slice(None), *[None] * entries.dim())
        if self.rows:
            centre, spread = mean[:, None, :], self.deviations[i]
        else:
            shape = (-1, *[1] * (entries.dim() - 1))
            centre = mean.view(len(mean), *shape)
            spread = self.deviations[i].view(shape)
        made = centre + signal[wide] * entries
        if draw is not None:
            made = made + noise.clamp(min=0).sqrt()[wide] * (spread * self.draws[i][draw])
        return made


@dataclass(frozen=True, eq=False)
class Product:
    """What several values are multiplied to where no sample can be taken, such as in attention:
    shares multiply.

    Attributes:
        result: in the full network.
        of: places of the arguments that count.
    """

    result: Channels
    of: tuple[int, ...]

    def __call__(self, arguments: Sequence[Moments]) -> Moments:
        """Of the product."""
        signal = torch.ones_like(arguments[0].signal)
        whole = torch.ones_like(signal)
        for place in self.of:
            one = arguments[place]
            signal = signal * one.signal
            whole = whole * (one.signal**2 + one.noise)
        mean = signal[:, None] * self.result.mean
        return Moments(signal, (whole - signal**2).clamp(min=0), mean)


@dataclass(frozen=True)
class Convolution:
    """How a convolution walks over its input, as torch takes it; it is padded with zeros."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


def coverage(kernel: Sequence[int], how: Convolution, size: Sequence[int]) -> Tensor:
    """The share of places at which each tap of a kernel lies within an image of a size (without
    batch and channels), in the kernel's shape.
    """
    taps = math.prod(kernel)
    eye = torch.eye(taps, dtype=torch.float64).view(taps, 1, *kernel)
    run = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)[len(size) - 1]
    ones = torch.ones(1, 1, *size, dtype=torch.float64)
    inside = run(ones, eye, None, how.stride, how.padding, how.dilation)
    return inside.flatten(2).mean(dim=2).view(*kernel)


def channel_weight(weight: Tensor, share: Tensor, groups: int = 1) -> Tensor:
    """(C_out, C_in) what a convolution does to the means of channels: the sum of its taps, each
    weighted by the share of places where it lies within the image.

    Args:
        weight: (C_out, C_in / groups, ...) in one to three dimensions.
        share: of each tap, from ``coverage``.
        groups: of channels.
    """
    own = weight.flatten(2) @ share.flatten().to(weight.dtype)
    return own if groups == 1 else torch.block_diag(*own.view(groups, -1, own.shape[1]))


def channel_squares(weight: Tensor, share: Tensor | None = None, groups: int = 1) -> Tensor:
    """(C_in,) the squares of all weights behind each channel, each weighted as in
    ``channel_weight``: what independent noise of variance 1 becomes in all outputs together. Of
    many outputs, some are looked at.
    """
    own = weight.view(groups, -1, weight.shape[1], weight[0, 0].numel())
    step = -(-own.shape[1] // _OUTPUTS)
    some = own[:, ::step]
    squares = some.square().sum(dim=1) * (own.shape[1] / some.shape[1])
    return (
        (squares if share is None else squares * share.flatten().to(weight.dtype))
        .sum(dim=2)
        .flatten()
    )


def same_axis(before: Channels, value: Tensor) -> int | None:
    """The axis of a value along which the channels of an argument still lie, by their means."""
    for axis in range(1, value.dim()):
        if value.shape[axis] != len(before.mean):
            continue
        if torch.allclose(channel_means(value, axis), before.mean, rtol=1e-4, atol=1e-6):
            return axis
    return None


def default_axis(value: Any) -> int:
    """Where channels lie if nothing is known: second in images and volumes, else last."""
    return 1 if value.dim() >= 4 else max(value.dim() - 1, 0)
