"""Networks in compiled loops: float32 and float64 on a CPU, one network after the other, each for a
few steps in a row, so that its weights are still in the cache when they are needed again.

Every layer is of one of three kinds, chosen by what is zero in it: ``KEPT`` multiplies the weights
that a mask keeps, ``LIT`` the lit pixels of the images (four fifths of MNIST are black), ``DENSE``
everything. Leaving out products with zeros changes nothing but the order of rounding. How each
kind is multiplied stands in ``kernels``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bogp.compiled import compiled
from bogp.datasets import Split
from bogp.graphs.relational import Mask
from bogp.training import kernels
from bogp.training.kernels import BLOCK_PIXELS, BYTE, TILE, Kept, Parameters, Pixels
from bogp.training.tensor_networks import Group, Layers

KEPT, LIT, DENSE = range(3)
# Where leaving out zeros becomes faster than BLAS (docs/speed.md has both sides): share of weights
# that are kept, or of pixels that are lit; of two such shares the smaller one counts.
SPARSE = 0.6
FEW_UNITS = 32  # matrices with fewer rows are slow in BLAS, so kept weights win even with all kept
STEPS_IN_A_ROW = 8  # of one network, before the next one's turn


class CompiledImages:
    """The images of one split: as their lit pixels where these are few, else as they are.

    Args:
        split: the images.
        input_scaling: see ``Protocol.input_scaling``.
        dtype: float32 or float64.
        dark: keep the lit pixels alone (``is_dark`` of the training part, for all parts of a data
            set: a layer reads them all in one way).

    Attributes:
        matrix: the images, and a black one behind them, which fills up tiles.
        labels: (N + 1,).
        pixels: in an image.
        share: of all pixels that are lit.
        dark: as given.
        dtype: of the values.
    """

    def __init__(self, split: Split, input_scaling: str, dtype: np.dtype, dark: bool) -> None:
        self.pixels, self.dtype, self.dark = split.images.shape[1], np.dtype(dtype), dark
        self.labels = np.append(split.labels, 0).astype(np.int64)
        values = (np.arange(256) / (255 if input_scaling == "unit" else 1)).astype(dtype)
        blocks = -(-self.pixels // BLOCK_PIXELS)
        self.share = lit_share(split)
        lit = np.flatnonzero(split.images.any(axis=0)).astype(np.uint32)
        black = np.zeros((1, self.pixels), np.uint8)
        grey = black[:0] if self.dark else np.concatenate([split.images, black])
        start, entry = _compress(split.images[:0] if len(grey) else split.images, blocks)
        self.matrix = Pixels(blocks, start, entry, values, lit, grey)

    def __len__(self) -> int:
        return len(self.labels) - 1


def lit_share(split: Split) -> float:
    """Share of all pixels of these images that are not black."""
    return float(np.count_nonzero(split.images) / max(1, split.images.size))


def is_dark(split: Split) -> bool:
    """Whether so few pixels of these images are lit that they are worth multiplying alone."""
    return lit_share(split) <= SPARSE


class Tiles(NamedTuple):
    """Some tiles of images, as layers read them.

    Attributes:
        images: (tiles, width) which images; labels: theirs; number: (tiles,) how many are no
            filling.
        stop, entry: each tile's transpose: pixel p has entries p * TILE to stop[t, p], 256 times an
            image's place in the tile, and the brightness; of length 0 where no layer reads it.
        dense: (tiles, pixels, width), of length 0 likewise.
    """

    images: NDArray[np.uint32]
    labels: NDArray[np.int64]
    number: NDArray[np.int64]
    stop: NDArray[np.uint32]
    entry: NDArray[np.uint16]
    dense: NDArray[np.floating]


class Layer(NamedTuple):
    """One layer of one network.

    Attributes:
        kind: ``KEPT``, ``LIT`` or ``DENSE``.
        shape: (d_out, d_in).
        through_relu: a ReLU follows.
        skips: the layer's input is added behind the ReLU.
        weight_moves, bias_moves: whether it is trained.
        kept: KEPT: which weights; else of length 0.
        mask: LIT and DENSE with a mask: 1 where a weight is kept; else of length 0.
        weight: KEPT: the kept ones; LIT: (pixels, units filled up to whole vectors); DENSE: (d_out,
            d_in).
        bias: (d_out,).
    """

    kind: int
    shape: tuple[int, int]
    through_relu: bool
    skips: bool
    weight_moves: bool
    bias_moves: bool
    kept: Kept
    mask: NDArray[np.floating]
    weight: Parameters
    bias: Parameters


class Buffers(NamedTuple):
    """What passes between layers, for one tile: matrices (units, width), one a layer.

    Attributes:
        outputs: of each layer; branches: the same before what it skips is added.
        deltas: the derivative of the loss by the outputs; inner: by what goes into the ReLU.
        filled_up: the first layer's branches and inner, of whole vectors in both directions, of
            which ``branches`` and ``inner`` hold a part; turned: (width, units), their transpose.
        column: (2, width) for the loss.
    """

    outputs: tuple[NDArray[np.floating], ...]
    branches: tuple[NDArray[np.floating], ...]
    deltas: tuple[NDArray[np.floating], ...]
    inner: tuple[NDArray[np.floating], ...]
    filled_up: tuple[NDArray[np.floating], NDArray[np.floating]]
    turned: NDArray[np.floating]
    column: NDArray[np.floating]


class CompiledNetworks:
    """K networks that advance together.

    Args:
        group: their masks, initial layers and batches.
        images: the training part.
    """

    def __init__(self, group: Group, images: CompiledImages) -> None:
        protocol = self._protocol = group.protocol
        self.count, self._images, self._runs = len(group.masks), images, group.runs
        self._orders = group.orders
        self._networks = [
            tuple(
                _layer(i, mask, weight[0].numpy(), bias[0].numpy(), group, images)
                for i, (mask, (weight, bias)) in enumerate(zip(masks, start, strict=True))
            )
            for masks, start in zip(group.masks, group.starts, strict=True)
        ]
        kinds = {network[0].kind for network in self._networks}
        self._reads_lit, self._reads_dense = LIT in kinds, bool({KEPT, DENSE} & kinds)
        size = protocol.batch_size or len(images)
        self._width = min(TILE, _filled_up(size))
        self._buffers = {w: _buffers(group, w, images) for w in {self._width, TILE}}
        self._room = {w: self._empty_tiles(w) for w in {self._width, TILE}}

    def run(self, first: int, last: int) -> NDArray[np.float64]:
        """Make optimiser steps first to last - 1; (K, steps) loss before each."""
        loss, steps = np.zeros((self.count, last - first)), range(first, last)
        dtype = self._images.dtype
        adam_steps = np.array(
            [_adam_step(self._protocol.learning_rate_at(step), step) for step in steps], dtype
        )
        orders: Sequence[list[NDArray[np.int64]]] = [
            [next(order).numpy() for _ in steps] for order in self._orders
        ] or [[np.arange(len(self._images))] * len(steps)]
        for run, batches in zip(self._runs, orders, strict=True):
            tiles_a_step = -(-len(batches[0]) // self._width)
            rows = [part for batch in batches for part in _cut(batch, self._width)]
            for at in range(0, len(rows), STEPS_IN_A_ROW):
                tiles = self._tiles(self._images, rows[at : at + STEPS_IN_A_ROW], self._width)
                for k in range(run.start, run.stop):
                    _advance(
                        self._images.matrix,
                        tiles,
                        self._networks[k],
                        self._buffers[self._width],
                        adam_steps,
                        at,
                        tiles_a_step,
                        1.0 / len(batches[0]),
                        self._protocol.loss == "softmax_cross_entropy",
                        loss[k],
                    )
        return loss

    def accuracy(self, images: CompiledImages, limit: int | None = None) -> NDArray[np.float64]:
        """(K,) shares of the images (of the first ``limit``) that are classified correctly."""
        rows = _cut(np.arange(len(images))[:limit], TILE)
        correct = np.zeros(self.count)
        for at in range(0, len(rows), STEPS_IN_A_ROW):
            tiles = self._tiles(images, rows[at : at + STEPS_IN_A_ROW], TILE, transposed=False)
            for k, network in enumerate(self._networks):
                correct[k] += _correct(images.matrix, tiles, network, self._buffers[TILE])
        return correct / sum(map(len, rows))

    def layers(self) -> Layers:
        """A copy of the layers: weights (K, d_out, d_in) and biases (K, d_out)."""
        return [
            (
                torch.from_numpy(np.stack([_written_out(layer) for layer in same])),
                torch.from_numpy(np.stack([layer.bias.value[: layer.shape[0]] for layer in same])),
            )
            for same in zip(*self._networks, strict=True)
        ]

    def set_layers(self, layers: Layers) -> None:
        """Put such layers in place."""
        for same, (weights, biases) in zip(zip(*self._networks, strict=True), layers, strict=True):
            for layer, weight, bias in zip(same, weights.numpy(), biases.numpy(), strict=True):
                _put(layer, weight, bias)

    def _tiles(
        self,
        images: CompiledImages,
        rows: list[NDArray[np.int64]],
        width: int,
        transposed: bool = True,
    ) -> Tiles:
        """These images as tiles, in the room that is there; the next call overwrites them."""
        room = self._room[width]
        tiles = room._replace(**{name: a[: len(rows)] for name, a in room._asdict().items()})
        tiles.images[:] = len(images)
        for at, part in enumerate(rows):
            tiles.images[at, : len(part)] = part
            tiles.number[at] = len(part)
        _fill(images.matrix, images.labels, tiles, transposed)
        return tiles

    def _empty_tiles(self, width: int) -> Tiles:
        tiles, pixels = STEPS_IN_A_ROW, self._images.pixels
        lit, dense = (tiles if reads else 0 for reads in (self._reads_lit, self._reads_dense))
        dtype = self._images.dtype
        return Tiles(
            np.zeros((tiles, width), np.uint32),
            np.zeros((tiles, width), np.int64),
            np.zeros(tiles, np.int64),
            np.zeros((lit, pixels), np.uint32),
            np.zeros((lit, pixels * TILE), np.uint16),
            _zeros((dense, pixels, width), dtype),
        )


def _cut(images: NDArray[np.int64], width: int) -> list[NDArray[np.int64]]:
    return [images[i : i + width] for i in range(0, len(images), width)]


def _filled_up(size: int) -> int:
    """The next multiple of 16: whole vectors in either precision."""
    return -(-size // 16) * 16


def _zeros(shape: int | tuple[int, ...], dtype: np.dtype) -> NDArray[np.floating]:
    """Zeros that begin at a cache line, as PyTorch's memory does and numpy's does not: vectors then
    never straddle one.
    """
    return torch.zeros(shape, dtype=torch.float64 if dtype == np.float64 else torch.float32).numpy()


def kind_of(mask: Mask, first: bool, images: CompiledImages) -> int:
    """How a layer is multiplied: ``KEPT``, ``LIT`` or ``DENSE``.

    Args:
        mask: (d_out, d_in).
        first: whether it reads the images.
        images: the training part.
    """
    kept, lit = mask.mean(), images.share if first and images.dark else 1.0
    if not first and len(mask) < FEW_UNITS:
        return KEPT
    if min(kept, lit) > SPARSE:
        return DENSE
    return KEPT if kept < lit else LIT


def _layer(
    at: int,
    mask: Mask | None,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    group: Group,
    images: CompiledImages,
) -> Layer:
    """A layer with its initial parameters: weight (d_out, d_in), bias (d_out,)."""
    every = np.ones(weight.shape, bool) if mask is None else mask
    kind, dtype = kind_of(every, at == 0, images), images.dtype
    (d_out, d_in), depth, protocol = weight.shape, len(group.protocol.widths) - 1, group.protocol
    residual = protocol.blocks == "residual"
    kept = _kept(every if kind == KEPT else every[:0])
    weights = {KEPT: len(kept.column), LIT: d_in * _filled_up(d_out), DENSE: weight.size}[kind]
    masked = kind != KEPT and not every.all()
    layer = Layer(
        kind,
        (d_out, d_in),
        through_relu=at < depth - 1 and (at > 0 or not residual),
        skips=residual and 0 < at < depth - 1,
        weight_moves=at > 0 or protocol.first_layer == "trained",
        bias_moves=at > 0 or protocol.first_layer != "frozen",
        kept=kept,
        mask=_zeros(_filled_up(weights) if masked else 0, dtype),
        weight=Parameters(*(_zeros(_filled_up(weights), dtype) for _ in range(4))),
        bias=Parameters(*(_zeros(_filled_up(d_out), dtype) for _ in range(4))),
    )
    if masked:
        _put(layer._replace(weight=Parameters(*[layer.mask] * 4)), every.astype(dtype), bias)
        weight = weight * every
    _put(layer, weight, bias)
    return layer


def _kept(mask: Mask) -> Kept:
    row, column = np.nonzero(mask)
    order = np.argsort(column, kind="stable")
    start, back_start = (
        np.concatenate([[0], np.cumsum(np.bincount(of, minlength=n))])
        for of, n in zip((row, column), mask.shape, strict=True)
    )
    parts = start, column, back_start, row[order], order
    return Kept(*(part.astype(np.uint32) for part in parts))


def _put(layer: Layer, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> None:
    """Set a layer's weights (d_out, d_in) and biases."""
    d_out, d_in = layer.shape
    layer.bias.value[:d_out] = bias
    if layer.kind == KEPT:
        rows = np.repeat(np.arange(d_out), np.diff(layer.kept.start).astype(np.int64))
        layer.weight.value[: len(rows)] = weight[rows, layer.kept.column]
    elif layer.kind == LIT:
        layer.weight.value.reshape(d_in, -1)[:, :d_out] = weight.T
    else:
        layer.weight.value[: weight.size] = weight.ravel()


def _written_out(layer: Layer) -> NDArray[np.floating]:
    """A copy of a layer's weights, (d_out, d_in)."""
    d_out, d_in = layer.shape
    if layer.kind == LIT:
        return layer.weight.value.reshape(d_in, -1)[:, :d_out].T.copy()
    if layer.kind == DENSE:
        return layer.weight.value[: d_out * d_in].reshape(d_out, d_in).copy()
    weight = np.zeros((d_out, d_in), layer.weight.value.dtype)
    rows = np.repeat(np.arange(d_out), np.diff(layer.kept.start).astype(np.int64))
    weight[rows, layer.kept.column] = layer.weight.value[: len(rows)]
    return weight


def _buffers(group: Group, width: int, images: CompiledImages) -> Buffers:
    dtype, units = images.dtype, group.protocol.widths[1:]

    def matrices() -> list[NDArray[np.floating]]:
        return [_zeros((_filled_up(d), width), dtype) for d in units]

    whole, deltas = matrices(), matrices()
    outputs, by_outputs = (
        tuple(w[:d] for w, d in zip(side, units, strict=True)) for side in (whole, deltas)
    )
    branches, inner = outputs, by_outputs
    if group.protocol.blocks == "residual":
        blocks = [_zeros((2, d, width), dtype) for d in units[1:-1]]
        branches = (outputs[0], *(block[0] for block in blocks), outputs[-1])
        inner = (by_outputs[0], *(block[1] for block in blocks), by_outputs[-1])
    turned = _zeros((width, _filled_up(units[0])), dtype)
    return Buffers(
        outputs,
        branches,
        by_outputs,
        inner,
        (whole[0], deltas[0]),
        turned,
        _zeros((2, width), dtype),
    )


def _adam_step(learning_rate: float, step: int) -> tuple[float, float]:
    """Adam's step size and the factor of the root of its second moment, both with the correction
    for the first steps (Kingma & Ba 2015).
    """
    return learning_rate / (1 - 0.9 ** (step + 1)), 1 / math.sqrt(1 - 0.999 ** (step + 1))


@compiled
def _advance(
    images,
    tiles,
    layers,
    buffers,
    adam_steps,
    first_tile,
    tiles_a_step,
    share,
    extra_softmax,
    loss,
):
    """Take one network through some tiles; a step ends with the last tile of its batch.

    images: the training part, see ``Pixels``; first_tile: number of the first of these
    tiles since the first of adam_steps (steps, 2), see ``_adam_step``; share: of one image in its
    batch; loss: (steps,), added to.
    """
    for t in range(len(tiles.images)):
        step, part = (first_tile + t) // tiles_a_step, (first_tile + t) % tiles_a_step
        _forward(images, tiles, t, layers, buffers)
        loss[step] += share * kernels.loss_and_delta(
            buffers.outputs[len(layers) - 1],
            tiles.labels[t],
            tiles.number[t],
            buffers.column.dtype.type(share),
            extra_softmax,
            buffers.deltas[len(layers) - 1],
            buffers.column[0],
            buffers.column[1],
        )
        _backward(
            images, tiles, t, layers, buffers, adam_steps[step], part == 0, part == tiles_a_step - 1
        )


@compiled
def _forward(images, tiles, t, layers, buffers):
    """Outputs of each layer over tile t; the last ones are the logits."""
    for i in range(len(layers)):
        layer, branch = layers[i], buffers.branches[i]
        width = branch.shape[1]
        x = buffers.outputs[i - 1] if i else tiles.dense[t] if len(tiles.dense) else branch[:0]
        if layer.kind == LIT:
            turned = buffers.turned
            kernels.lit_outputs(
                images,
                tiles.images[t],
                layer.weight.value,
                layer.bias.value,
                turned.ravel(),
                turned.shape[1],
                layer.through_relu,
            )
            kernels.transpose(turned, buffers.filled_up[0])
        elif layer.kind == KEPT:
            kernels.kept_outputs(
                layer.kept,
                layer.weight.value,
                layer.bias.value,
                x.ravel(),
                branch.ravel(),
                width,
                layer.through_relu,
            )
        else:
            d_out, d_in = layer.shape
            np.dot(layer.weight.value[: d_out * d_in].reshape(d_out, d_in), x, branch)
            kernels.add_bias(layer.bias.value, branch.ravel(), width, layer.through_relu)
        if layer.skips:
            buffers.outputs[i][:] = branch + x


@compiled
def _backward(images, tiles, t, layers, buffers, adam_step, first, last):
    """Gradients over tile t, and Adam's step where it is the batch's last one."""
    for i in range(len(layers) - 1, -1, -1):
        layer, dy, inner = layers[i], buffers.deltas[i], buffers.inner[i]
        width = dy.shape[1]
        if not layer.bias_moves:  # a frozen first layer
            break
        kernels.behind_relu(
            dy.ravel(),
            buffers.branches[i].ravel(),
            inner.ravel(),
            layer.bias.gradient,
            width,
            layer.through_relu,
            first,
        )
        if i > 1 or (i and layers[0].bias_moves):  # before the weights move
            _through_weights(layer, inner, buffers.deltas[i - 1])
            if layer.skips:
                buffers.deltas[i - 1][:] += dy
        x = buffers.outputs[i - 1] if i else tiles.dense[t] if len(tiles.dense) else inner[:0]
        if layer.weight_moves:
            _move_weights(images, tiles, t, layer, x, inner, buffers, adam_step, first, last)
        if last:
            kernels.adam_of(layer.bias, adam_step)


@compiled
def _move_weights(images, tiles, t, layer, x, inner, buffers, adam_step, first, last):
    """The gradient of a layer's weights over tile t, and Adam's step with the batch's."""
    if layer.kind == LIT:
        kernels.transpose(buffers.filled_up[1], buffers.turned)
        kernels.lit_step(
            images,
            tiles.stop[t],
            tiles.entry[t],
            buffers.turned.ravel(),
            layer.mask,
            layer.weight,
            buffers.turned.shape[1],
            adam_step,
            first,
            last,
        )
        return
    if layer.kind == KEPT:
        kernels.kept_gradient(
            layer.kept,
            inner.ravel(),
            x.ravel(),
            layer.weight.gradient,
            inner.shape[1],
            first,
        )
    else:
        d_out, d_in = layer.shape
        gradient = layer.weight.gradient[: d_out * d_in].reshape(d_out, d_in)
        if first:
            np.dot(inner, x.T, gradient)
        else:
            gradient += np.dot(inner, x.T)
        if last and len(layer.mask):
            layer.weight.gradient[:] *= layer.mask
    if last:
        kernels.adam_of(layer.weight, adam_step)


@compiled
def _through_weights(layer, inner, dx):
    """The derivative by a layer's inputs: ``dx = weight.T inner``."""
    if layer.kind == KEPT:
        kernels.kept_inputs(
            layer.kept,
            layer.weight.value,
            inner.ravel(),
            dx.ravel(),
            inner.shape[1],
        )
    else:
        d_out, d_in = layer.shape
        np.dot(layer.weight.value[: d_out * d_in].reshape(d_out, d_in).T, inner, dx)


@compiled
def _correct(images, tiles, layers, buffers):
    """Number of the tiles' images that a network classifies correctly."""
    correct, logits = 0, buffers.outputs[len(layers) - 1]
    for t in range(len(tiles.images)):
        _forward(images, tiles, t, layers, buffers)
        for i in range(tiles.number[t]):
            best = 0
            for c in range(1, len(logits)):
                if logits[c, i] > logits[best, i]:
                    best = c
            correct += best == tiles.labels[t, i]
    return correct


@compiled
def _fill(images, labels, tiles, transposed):
    """Write images into tiles, whose ``images`` and ``count`` stand there already."""
    for t in range(len(tiles.images)):
        for i in range(tiles.images.shape[1]):
            tiles.labels[t, i] = labels[tiles.images[t, i]]
        if transposed and len(tiles.stop):
            _fill_transpose(images, tiles.images[t], tiles.stop[t], tiles.entry[t])
        if len(tiles.dense):
            _fill_dense(images, tiles.images[t], tiles.dense[t])


@compiled
def _fill_transpose(images, chosen, stop, entry):
    for p in range(len(stop)):
        stop[p] = p * TILE
    for i in range(len(chosen)):
        first, place = np.int64(chosen[i]) * images.blocks, np.uint32(256 * i)
        for e in range(
            np.int64(images.start[first]), np.int64(images.start[first + images.blocks])
        ):
            pixel = images.entry[e] >> np.uint32(8)
            entry[stop[pixel]] = place | (images.entry[e] & BYTE)
            stop[pixel] += np.uint32(1)


@compiled
def _fill_dense(images, chosen, dense):
    if len(images.grey):
        for block in range(0, len(dense), 64):  # lines of ``dense`` stay in the cache
            for i in range(len(chosen)):
                for p in range(block, min(block + 64, len(dense))):
                    dense[p, i] = images.values[images.grey[chosen[i], p]]
        return
    dense[:] = 0
    for i in range(len(chosen)):
        first = np.int64(chosen[i]) * images.blocks
        for e in range(
            np.int64(images.start[first]), np.int64(images.start[first + images.blocks])
        ):
            dense[images.entry[e] >> np.uint32(8), i] = images.values[images.entry[e] & BYTE]


@compiled
def _compress(images, blocks):
    """Images (N, pixels) uint8 as a sparse matrix (start, entry) of their lit pixels, see
    ``Pixels``.
    """
    start = np.zeros((len(images) + 1) * blocks + 1, np.uint32)
    entry = np.zeros(np.count_nonzero(images), np.uint32)
    e = 0
    for r in range(len(images)):
        for j in range(images.shape[1]):
            if images[r, j]:
                entry[e] = 256 * j + images[r, j]
                e += 1
            if (j + 1) % BLOCK_PIXELS == 0 or j + 1 == images.shape[1]:
                start[r * blocks + j // BLOCK_PIXELS + 1] = e
    start[len(images) * blocks :] = e
    return start, entry
