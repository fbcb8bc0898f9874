"""Networks as PyTorch tensors: any device, and products of rounded numbers (bfloat16, TF32) where
hardware multiplies matrices of them.

All K networks of a group advance in each call. A step is written out by hand, without autograd.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bogp.datasets import Split
from bogp.graphs.relational import LayerMasks
from bogp.training.protocols import Protocol

# images in flight; on a CPU their activations stay in the cache
TILE_ROWS = {"cpu": 1024, "cuda": 65_536}
# of matrix products; all else is float32
FACTORS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}

Layers = list[tuple[Tensor, Tensor]]  # one a layer: weights (K, d_out, d_in) and biases (K, d_out)


@dataclass(frozen=True)
class Group:
    """Networks that advance together, in either back end.

    Attributes:
        masks: K tuples, one mask a layer, (d_out, d_in) or None.
        starts: for each network its initial layers: weights (1, d_out, d_in) and biases (1, d_out).
        protocol: see ``Protocol``.
        orders: batches of image indices, an iterator for each run of networks that share them;
            empty for full batch.
        runs: the networks of each run.
    """

    masks: Sequence[LayerMasks]
    starts: Sequence[Layers]
    protocol: Protocol
    orders: Sequence[Iterator[Tensor]]
    runs: Sequence[slice]


@dataclass(frozen=True)
class Tile:
    """Some images as a factor in products: x (rows, pixels), labels (rows,)."""

    x: Tensor
    labels: Tensor

    @cached_property
    def transposed(self) -> Tensor:
        """(pixels, rows) in memory order: matrix units stumble over a transposed view."""
        return self.x.T.contiguous()


class TensorImages:
    """The images of one split on a device.

    Args:
        split: the images.
        input_scaling: see ``Protocol.input_scaling``.
        precision: a key of ``FACTORS``.
        device: where they lie.
    """

    def __init__(self, split: Split, input_scaling: str, precision: str, device: str) -> None:
        pixels = torch.from_numpy(split.images).to(device).float()
        self._x = (pixels / 255 if input_scaling == "unit" else pixels).to(FACTORS[precision])
        self._labels = torch.from_numpy(split.labels).long().to(device)
        self.rows = TILE_ROWS[self._x.device.type]

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, index: Tensor) -> list[Tile]:
        """The images of these indices, cut into tiles."""
        return [
            Tile(self._x[part], self._labels[part])
            for part in index.to(self._x.device).split(self.rows)
        ]

    @cached_property
    def tiles(self) -> list[Tile]:
        """All images in order."""
        return self.first(None)

    def first(self, limit: int | None) -> list[Tile]:
        """The first images in order; None is all."""
        return [
            Tile(x, labels)
            for x, labels in zip(
                self._x[:limit].split(self.rows), self._labels[:limit].split(self.rows), strict=True
            )
        ]


class TensorNetworks:
    """K networks that advance together: parameters, gradients, masks and optimiser.

    Weights are (K, d_in, d_out) and outputs (K, rows, d_out), but for the last layer: (K, classes,
    d_in) and (K, classes, rows), since products with a side of ten are quicker that way round. The
    last layer, 1 % of the work, is not rounded.

    Args:
        group: their masks, initial layers and batches.
        images: the training part.
        precision: a key of ``FACTORS``.
        device: where the networks lie.
    """

    def __init__(self, group: Group, images: TensorImages, precision: str, device: str) -> None:
        masks, starts, protocol = group.masks, group.starts, group.protocol
        self.count, self._protocol, self._images, self._orders, self._runs = (
            len(masks),
            protocol,
            images,
            group.orders,
            group.runs,
        )
        shapes = list(zip(protocol.widths, protocol.widths[1:], strict=False))
        parameters, self._layers = _flat(self.count, shapes, torch.float32, device)
        self._all_gradients, self._gradients = _flat(self.count, shapes, torch.float32, device)
        parameters.grad = self._all_gradients
        self._adam = torch.optim.Adam([parameters], lr=protocol.learning_rate, fused=True)
        for k, start in enumerate(starts):
            for (weight, bias), (w, b) in zip(_as_pytorch(self._layers), start, strict=True):
                weight[k], bias[k] = w[0], b[0]
        self._masks = [
            _stacked(own, w)
            for own, (w, _) in zip(zip(*masks, strict=True), _as_pytorch(self._layers), strict=True)
        ]
        _prune(self._layers, self._masks)
        self._parameters, self._factors = parameters, parameters
        self._weights = [w for w, _ in self._layers]
        if FACTORS[precision] != torch.float32:
            self._factors, rounded = _flat(self.count, shapes, FACTORS[precision], device)
            self._weights = [w for w, _ in rounded[:-1]] + self._weights[-1:]
        self._round()
        self._buffers: dict[int, tuple[list[Tensor], ...]] = {}

    @torch.no_grad()
    def run(self, first: int, last: int) -> NDArray[np.float64]:
        """Make optimiser steps first to last - 1; (K, steps) loss before each."""
        loss = torch.zeros(
            self.count, last - first, dtype=torch.float64, device=self._parameters.device
        )
        for step in range(first, last):
            self._all_gradients.zero_()
            for tiles in self._batch():
                loss[:, step - first] += self._add_gradients(tiles)
            _prune(self._gradients, self._masks)
            self._adam.param_groups[0]["lr"] = self._protocol.learning_rate_at(step)
            self._adam.step()
            self._round()
        return loss.cpu().numpy()

    @torch.no_grad()
    def accuracy(self, images: TensorImages, limit: int | None = None) -> NDArray[np.float64]:
        """(K,) shares of the images (of the first ``limit``) that are classified correctly."""
        tiles = images.first(limit)
        correct = [
            (self._forward([(slice(None), tile)])[-1].argmax(1) == tile.labels).sum(1)
            for tile in tiles
        ]
        return torch.stack(correct).sum(0).cpu().numpy() / sum(len(tile.labels) for tile in tiles)

    def layers(self) -> Layers:
        """A copy of the layers: weights (K, d_out, d_in) and biases (K, d_out)."""
        return [
            (w.to("cpu", copy=True), b.to("cpu", copy=True)) for w, b in _as_pytorch(self._layers)
        ]

    def set_layers(self, layers: Layers) -> None:
        """Put such layers in place."""
        for (weight, bias), (w, b) in zip(_as_pytorch(self._layers), layers, strict=True):
            weight.copy_(w)
            bias.copy_(b)
        self._round()

    def _round(self) -> None:
        if self._factors is not self._parameters:
            self._factors.copy_(self._parameters)

    def _batch(self) -> Iterator[list[tuple[slice, Tile]]]:
        """The next batch, tile by tile: for each run of networks the images that it reads."""
        if not self._orders:
            yield from ([(slice(None), tile)] for tile in self._images.tiles)
        for parts in zip(*(self._images.batch(next(order)) for order in self._orders), strict=True):
            yield list(zip(self._runs, parts, strict=True))

    def _forward(self, inputs: list[tuple[slice, Tile]]) -> list[Tensor]:
        """The output of each layer: after the ReLU, and the last one's logits."""
        outputs, branches, _ = self._buffers_for(len(inputs[0][1].labels))
        for i, ((_, bias), weight, out) in enumerate(
            zip(self._layers, self._weights, branches, strict=True)
        ):
            if i == len(outputs) - 1:
                torch.bmm(weight, outputs[i - 1].mT, out=out).add_(bias[:, :, None])
            elif i:
                _add_products(outputs[i - 1], weight, out.zero_())
            else:
                for run, tile in inputs:
                    for w, o in zip(weight[run], out[run], strict=True):
                        o.copy_(torch.mm(tile.x, w))
            if i < len(outputs) - 1:
                out.add_(bias[:, None])
                if self._through_relu(i):
                    out.relu_()
                if self._skips(i):
                    torch.add(outputs[i - 1], out, out=outputs[i])
        return outputs

    def _through_relu(self, i: int) -> bool:
        return i < len(self._layers) - 1 and (i > 0 or self._protocol.blocks == "plain")

    def _skips(self, i: int) -> bool:
        return 0 < i < len(self._layers) - 1 and self._protocol.blocks == "residual"

    def _add_gradients(self, inputs: list[tuple[slice, Tile]]) -> Tensor:
        """Forward and backward pass over a tile; gradients are added up. Returns (K,) its part of
        the mean loss, float64.
        """
        outputs = self._forward(inputs)
        _, branches, (*deltas, _) = self._buffers_for(len(inputs[0][1].labels))
        labels = torch.cat(
            [
                tile.labels.expand(run.stop - run.start if self._orders else self.count, 1, -1)
                for run, tile in inputs
            ]
        )
        value, delta = _loss_and_delta(
            outputs[-1],
            labels,
            self._protocol.loss,
            1.0 / (self._protocol.batch_size or len(self._images)),
        )
        self._gradients[-1][1].add_(delta.sum(2))
        _add_products(delta, outputs[-2], self._gradients[-1][0])
        torch.bmm(delta.mT, self._weights[-1], out=deltas[-1])
        for i in reversed(range(len(deltas))):
            inner = deltas[i]  # what the layer gives to its ReLU
            if self._through_relu(i):
                to = torch.empty_like(inner) if self._skips(i) else inner
                inner = torch.ops.aten.threshold_backward.grad_input(
                    inner, branches[i], 0, grad_input=to
                )
            if i or self._protocol.first_layer != "frozen":
                self._gradients[i][1].add_(inner.sum(1))
            rounded = inner.to(self._factors.dtype)
            if i:
                _add_products(outputs[i - 1].mT, rounded, self._gradients[i][0])
                torch.bmm(rounded, self._weights[i].mT, out=deltas[i - 1])
                if self._skips(i):
                    deltas[i - 1].add_(deltas[i])
            elif self._protocol.first_layer == "trained":
                for run, tile in inputs:
                    for d, g in zip(rounded[run], self._gradients[0][0][run], strict=True):
                        g.add_(torch.mm(tile.transposed, d))
        return value

    def _buffers_for(self, rows: int) -> tuple[list[Tensor], ...]:
        """For tiles of so many rows: outputs, what they are before an input is added that the layer
        skips, and derivatives by the outputs. The last hidden layer feeds the last layer, which is
        not rounded.
        """
        if rows not in self._buffers:
            *hidden, classes = self._protocol.widths[1:]
            types = [self._factors.dtype] * (len(hidden) - 1) + [torch.float32]
            outputs, deltas, branches = (
                [
                    torch.empty(self.count, rows, d, dtype=t, device=self._parameters.device)
                    for d, t in zip(hidden, types, strict=True)
                ]
                for _ in range(3)
            )
            logits = torch.empty(
                self.count, classes, rows, dtype=torch.float32, device=self._parameters.device
            )
            separate = [b if self._skips(i) else outputs[i] for i, b in enumerate(branches)]
            self._buffers[rows] = [*outputs, logits], [*separate, logits], [*deltas, logits]
        return self._buffers[rows]


def _add_products(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Add ``a[k] @ b[k]`` to each ``out[k]``. Products of bfloat16 numbers are summed in float32; a
    product is rounded once before it is added.
    """
    if out.dtype == a.dtype == torch.float32 and len(out) > 1:
        out.baddbmm_(a, b)
    elif out.dtype == a.dtype == torch.float32:
        out[0].addmm_(a[0], b[0])  # what baddbmm does for two and more; for one it goes another way
    else:
        out.add_(torch.bmm(a, b))


def _loss_and_delta(
    logits: Tensor, labels: Tensor, loss: str, share: float
) -> tuple[Tensor, Tensor]:
    """Each network's part of the mean loss, (K,) float64, and its derivative by the logits, (K,
    classes, rows); labels (K, 1, rows).
    """
    inputs = logits.softmax(1) if loss == "softmax_cross_entropy" else logits
    log_p = inputs.log_softmax(1)
    value = -log_p.gather(1, labels).double().sum((1, 2)) * share
    delta = log_p.exp_()
    delta.scatter_add_(1, labels, torch.full_like(delta[:, :1], -1))
    if loss == "softmax_cross_entropy":  # through the extra softmax: J' d = p * (d - <p, d>)
        delta = inputs * (delta - (inputs * delta).sum(1, keepdim=True))
    return value, delta.mul_(share)


def _prune(layers: Layers, masks: list[Tensor | None]) -> None:
    for mask, (weight, _) in zip(masks, _as_pytorch(layers), strict=True):
        if mask is not None:
            weight.mul_(mask)


def _flat(
    networks: int, shapes: list[tuple[int, int]], dtype: torch.dtype, device: str
) -> tuple[Tensor, Layers]:
    """A vector of zeros, and views of it as the layers of K networks, ordered as ``TensorNetworks``
    says.

    Each part begins at a multiple of 16 numbers, a whole vector of the processor. What does not
    fill one at the end the optimiser rounds in another way; here nothing but padding stands there.
    """
    weights = [(networks, i, o) for i, o in shapes[:-1]] + [
        (networks, o, i) for i, o in shapes[-1:]
    ]
    parts = [
        part
        for weight, (_, o) in zip(weights, shapes, strict=True)
        for part in (weight, (networks, o))
    ]
    ends = np.cumsum([-(-math.prod(part) // 16) * 16 for part in parts]).tolist()
    flat = torch.zeros(ends[-1], dtype=dtype, device=device)
    views = [
        flat[start : start + math.prod(part)].view(part)
        for part, start in zip(parts, [0, *ends], strict=False)
    ]
    return flat, list(zip(views[::2], views[1::2], strict=True))


def _as_pytorch(layers: Layers) -> Layers:
    """The same layers with weights (K, d_out, d_in), as ``torch.nn.Linear`` has them."""
    return [(weight.mT, bias) for weight, bias in layers[:-1]] + layers[-1:]


def _stacked(masks: tuple[NDArray[np.bool_] | None, ...], like: Tensor) -> Tensor | None:
    """One layer's masks as numbers, (K, d_out, d_in) in the memory order of the weights; None where
    it is dense in every network.
    """
    if all(mask is None for mask in masks):
        return None
    stacked = torch.empty_like(like)
    for k, mask in enumerate(masks):
        stacked[k] = 1 if mask is None else torch.from_numpy(np.ascontiguousarray(mask))
    return stacked
