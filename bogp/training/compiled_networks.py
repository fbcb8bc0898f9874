"""Networks in compiled loops: float32 and float64 on a CPU, each step of each network in one piece
of machine code.

Most pixels are black (four fifths of MNIST), and the first layer is most of the arithmetic, so
images are kept as their lit pixels alone. Leaving out products with zeros changes nothing but the
order of rounding. The other products are BLAS calls, one thread each.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bogp.compiled import compiled
from bogp.datasets import Split
from bogp.training.tensor_networks import Group, Layers

TILE_ROWS = 1024  # images in flight, so that their activations stay in the cache
_UNROLL = 4  # entries of a sparse row multiplied at a time; rows are filled up with zeros

# A sparse matrix (start, column, value): row r holds entries start[r] to start[r + 1] of the other
# two.
Sparse = tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.floating]]
Arrays = tuple[NDArray[np.floating], ...]  # one a layer


class LitImages:
    """The images of one split as their lit pixels.

    Args:
        split: the images.
        input_scaling: see ``Protocol.input_scaling``.
        dtype: float32 or float64.
        full_batch: also keep the transpose that a step over all images needs.
    """

    def __init__(
        self, split: Split, input_scaling: str, dtype: np.dtype, full_batch: bool = False
    ) -> None:
        self.labels = split.labels.astype(np.int64)
        self.every = np.arange(len(split), dtype=np.uint32)
        self.pixels = split.images.shape[1]
        self.sparse: Sparse = _compress(
            split.images, (np.arange(256) / (255 if input_scaling == "unit" else 1)).astype(dtype)
        )
        self.transposed: Sparse = _transpose(
            self.sparse, self.every if full_batch else self.every[:0], self.pixels
        )

    def __len__(self) -> int:
        return len(self.labels)


class CompiledNetworks:
    """K networks that advance together.

    Args:
        group: their masks, initial layers and batches.
        images: the training part.
    """

    def __init__(self, group: Group, images: LitImages) -> None:
        masks, starts, protocol = group.masks, group.starts, group.protocol
        self.count, self._protocol, self._images, self._orders = (
            len(masks),
            protocol,
            images,
            group.orders,
        )
        dtype, depth = images.sparse[2].dtype, range(len(protocol.widths) - 1)
        self._weights: Arrays = tuple(
            _aligned([start[i][0][0].T.numpy() for start in starts], dtype) for i in depth
        )
        self._biases: Arrays = tuple(
            _aligned([start[i][1][0].numpy() for start in starts], dtype) for i in depth
        )
        self._masks = tuple(_stacked([own[i] for own in masks], self._weights[i]) for i in depth)
        for weight, mask in zip(self._weights, self._masks, strict=True):
            if len(mask):
                weight *= mask
        self._first_of_run = np.array([run.start for run in group.runs] + [self.count])
        self._moments = tuple(
            tuple(_zeros(p.shape, dtype) for p in parameters)
            for parameters in (self._weights, self._biases) * 2
        )
        self._gradients = tuple(
            tuple(_zeros(p.shape[1:], dtype) for p in parameters)
            for parameters in (self._weights, self._biases)
        )
        rows = min(TILE_ROWS, protocol.batch_size or TILE_ROWS)
        self._buffers = {rows: self._empty_buffers(rows)}

    def run(self, first: int, last: int) -> NDArray[np.float64]:
        """Make optimiser steps first to last - 1; (K, steps) loss before each."""
        protocol, loss = self._protocol, np.zeros((self.count, last - first))
        taken = [[next(order).numpy() for _ in range(first, last)] for order in self._orders]
        batches = np.array(taken or [[self._images.every] * (last - first)], dtype=np.uint32)
        steps = np.array(
            [_adam_step(protocol.learning_rate_at(step), step) for step in range(first, last)],
            dtype=self._weights[0].dtype,
        )
        outputs, deltas = self._buffers[min(TILE_ROWS, protocol.batch_size or TILE_ROWS)]
        _run(
            self._images.sparse,
            self._images.transposed,
            self._images.labels,
            self._images.pixels,
            batches,
            not self._orders,
            self._first_of_run,
            self._weights,
            self._biases,
            self._masks,
            self._moments,
            self._gradients,
            outputs,
            deltas,
            steps,
            protocol.loss == "softmax_cross_entropy",
            loss,
        )
        return loss

    def accuracy(self, images: LitImages, limit: int | None = None) -> NDArray[np.float64]:
        """(K,) shares of the images (of the first ``limit``) that are classified correctly."""
        rows = images.every[:limit]
        if TILE_ROWS not in self._buffers:
            self._buffers[TILE_ROWS] = self._empty_buffers(TILE_ROWS)
        outputs, _ = self._buffers[TILE_ROWS]
        return np.array(
            [
                _correct(
                    images.sparse, rows, images.labels, self._weights, self._biases, k, outputs
                )
                for k in range(self.count)
            ]
        ) / len(rows)

    def layers(self) -> Layers:
        """A copy of the layers: weights (K, d_out, d_in) and biases (K, d_out)."""
        return [
            (torch.from_numpy(w).mT.clone(), torch.from_numpy(b).clone())
            for w, b in zip(self._weights, self._biases, strict=True)
        ]

    def set_layers(self, layers: Layers) -> None:
        """Put such layers in place."""
        for weight, bias, (w, b) in zip(self._weights, self._biases, layers, strict=True):
            weight[:], bias[:] = w.mT.numpy(), b.numpy()

    def _empty_buffers(self, rows: int) -> tuple[Arrays, Arrays]:
        outputs, deltas = (
            tuple(_zeros((rows, b.shape[1]), b.dtype) for b in self._biases) for _ in range(2)
        )
        return outputs, deltas


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> NDArray[np.floating]:
    """Zeros that begin at a cache line, as PyTorch's memory does and numpy's does not: rows of 128
    then never straddle one.
    """
    return torch.zeros(shape, dtype=torch.float64 if dtype == np.float64 else torch.float32).numpy()


def _aligned(arrays: Sequence[NDArray[np.generic]], dtype: np.dtype) -> NDArray[np.floating]:
    stacked = _zeros((len(arrays), *arrays[0].shape), dtype)
    stacked[:] = arrays
    return stacked


def _stacked(
    masks: list[NDArray[np.bool_] | None], weights: NDArray[np.floating]
) -> NDArray[np.floating]:
    """One layer's masks as numbers, (K, d_in, d_out); of length 0 where the layer is dense in every
    network.
    """
    ones = np.ones(weights.shape[1:], bool)
    return (
        weights[:0]
        if all(mask is None for mask in masks)
        else _aligned([ones if mask is None else mask.T for mask in masks], weights.dtype)
    )


def _adam_step(learning_rate: float, step: int) -> tuple[float, float]:
    """Adam's step size and the factor of the root of its second moment, both with the correction
    for the first steps (Kingma & Ba 2015).
    """
    return learning_rate / (1 - 0.9 ** (step + 1)), 1 / math.sqrt(1 - 0.999 ** (step + 1))


@compiled
def _run(
    images,
    fixed,
    labels,
    pixels,
    batches,
    full_batch,
    first_of_run,
    weights,
    biases,
    masks,
    moments,
    gradients,
    outputs,
    deltas,
    steps,
    extra_softmax,
    loss,
):
    """The training loop.

    images: the training part as a sparse matrix; fixed: its transpose, where full_batch; labels
        (N,); pixels: columns of the matrix.
    batches: (runs, steps, batch_size) image indices; first_of_run: (runs + 1,) first network of
        each run of networks with the same batches, and K.
    weights, biases, masks: a layer each, (K, d_in, d_out), (K, d_out), and as weights or of length
        0; changed in place.
    moments: Adam's means of weights and of biases, then its mean squares of both; gradients: of one
        network's weights, and biases.
    outputs, deltas: a layer each, (tile, d_out); steps: (steps, 2), see ``_adam_step``; loss: (K,
        steps), filled in.
    """
    for step in range(len(steps)):
        for run in range(len(first_of_run) - 1):
            batch = batches[run, step]
            transposed = fixed if full_batch else _transpose(images, batch, pixels)
            for k in range(first_of_run[run], first_of_run[run + 1]):
                loss[k, step] = _gradients(
                    images,
                    transposed,
                    labels,
                    batch,
                    weights,
                    biases,
                    k,
                    gradients,
                    outputs,
                    deltas,
                    extra_softmax,
                )
                for i in range(len(weights)):
                    if len(masks[i]):
                        gradients[0][i][:] *= masks[i][k]
                    _adam(
                        weights[i][k].ravel(),
                        gradients[0][i].ravel(),
                        moments[0][i][k].ravel(),
                        moments[2][i][k].ravel(),
                        steps[step],
                    )
                    _adam(
                        biases[i][k],
                        gradients[1][i],
                        moments[1][i][k],
                        moments[3][i][k],
                        steps[step],
                    )


@compiled
def _gradients(
    images, transposed, labels, batch, weights, biases, k, gradients, outputs, deltas, extra_softmax
):
    """Forward and backward pass of network k over a batch; sets the gradients (of weights, of
    biases) and returns the mean loss.
    """
    last, pixels, loss = len(weights) - 1, len(gradients[0][0]), 0.0
    for i in range(last + 1):
        gradients[0][i][:] = 0
        gradients[1][i][:] = 0
    for first in range(0, len(batch), TILE_ROWS):
        rows = batch[first : first + TILE_ROWS]
        n = len(rows)
        _forward(images, rows, weights, biases, k, outputs)
        loss += _loss_and_delta(
            outputs[last][:n], labels, rows, len(batch), extra_softmax, deltas[last][:n]
        )
        for i in range(last, -1, -1):
            delta = deltas[i][:n]
            _through_relu(outputs[i][:n], delta, i < last, gradients[1][i])
            if i:
                gradients[0][i][:] += np.dot(outputs[i - 1][:n].T, delta)
                np.dot(delta, weights[i][k].T, deltas[i - 1][:n])
            else:
                of_tile = np.arange(
                    first // TILE_ROWS * pixels, (first // TILE_ROWS + 1) * pixels
                ).astype(np.uint32)
                _add_sparse_product(transposed, of_tile, delta, gradients[0][0])
    return loss


@compiled
def _forward(images, rows, weights, biases, k, outputs):
    """Outputs of each layer of network k for these images: after the ReLU, and the last one's
    logits.
    """
    n, last, zero = len(rows), len(weights) - 1, biases[0].dtype.type(0)
    for i in range(last + 1):
        out, bias = outputs[i][:n], biases[i][k]
        if i:
            np.dot(outputs[i - 1][:n], weights[i][k], out)
        else:
            out[:] = 0
            _add_sparse_product(images, rows, weights[0][k], out)
        for r in range(n):
            for j in range(len(bias)):
                x = out[r, j] + bias[j]
                out[r, j] = zero if i < last and x <= zero else x


@compiled
def _through_relu(output, delta, relu, bias_gradient):
    """Zero the derivative where the ReLU (if there is one) gave zero, and add its sum over the
    images to the bias's gradient.
    """
    zero = delta.dtype.type(0)
    for r in range(len(output)):
        for j in range(output.shape[1]):
            if relu:
                delta[r, j] = zero if output[r, j] <= zero else delta[r, j]
            bias_gradient[j] += delta[r, j]


@compiled
def _loss_and_delta(logits, labels, rows, batch_size, extra_softmax, delta):
    """This tile's part of the mean cross-entropy, and its derivative by the logits; extra_softmax:
    a softmax goes before the loss's own.
    """
    total, share, one = 0.0, logits.dtype.type(1.0 / batch_size), logits.dtype.type(1.0)
    for r in range(len(rows)):
        label, inputs, p = labels[rows[r]], logits[r], delta[r]
        if extra_softmax:
            _softmax(logits[r], inputs)
        largest, log_sum = _softmax(inputs, p)
        total += log_sum - (inputs[label] - largest)
        p[label] -= one
        if extra_softmax:  # through the extra softmax: J' d = q * (d - <q, d>)
            p[:] = inputs * (p - np.sum(inputs * p))
        p[:] *= share
    return total / batch_size


@compiled
def _softmax(x, p):
    """Set p (which may be x itself) to the softmax of x; returns the largest of x, and the log of
    the sum of exponentials less that.
    """
    largest, total = x[0], x.dtype.type(0)
    for j in range(len(x)):
        largest = max(largest, x[j])
    for j in range(len(x)):
        p[j] = np.exp(x[j] - largest)
        total += p[j]
    for j in range(len(x)):
        p[j] /= total
    return largest, np.log(total)


@compiled
def _correct(images, rows, labels, weights, biases, k, outputs):
    """Number of these images that network k classifies correctly."""
    correct = 0
    for first in range(0, len(rows), TILE_ROWS):
        tile = rows[first : first + TILE_ROWS]
        _forward(images, tile, weights, biases, k, outputs)
        for r in range(len(tile)):
            correct += np.argmax(outputs[len(weights) - 1][r]) == labels[tile[r]]
    return correct


@compiled
def _adam(parameter, gradient, mean, square, step):
    """One step of Adam (betas .9 and .999, eps 1e-8); step: size, and factor of the root, see
    ``_adam_step``.
    """
    kind = parameter.dtype.type
    keep, new, keep_square, new_square, tiny = (
        kind(0.9),
        kind(1 - 0.9),
        kind(0.999),
        kind(1 - 0.999),
        kind(1e-8),
    )
    size, root = step[0], step[1]
    for j in range(len(parameter)):
        g = gradient[j]
        mean[j] = keep * mean[j] + new * g
        square[j] = keep_square * square[j] + new_square * g * g
        parameter[j] -= size * mean[j] / (np.sqrt(square[j]) * root + tiny)


@compiled
def _add_sparse_product(sparse, rows, dense, out):
    """out[i] += row ``rows[i]`` of a sparse matrix times a dense one."""
    start, column, value = sparse
    width = out.shape[1]
    for i in range(len(rows)):
        total = out[i]
        for e in range(start[rows[i]], start[rows[i] + np.uint32(1)], _UNROLL):
            a, b, c, d = value[e], value[e + 1], value[e + 2], value[e + 3]
            wa, wb, wc, wd = (
                dense[column[e]],
                dense[column[e + 1]],
                dense[column[e + 2]],
                dense[column[e + 3]],
            )
            for j in range(width):
                total[j] += a * wa[j] + b * wb[j] + c * wc[j] + d * wd[j]


@compiled
def _compress(images, pixel_values):
    """Images (N, pixels) uint8 as a sparse matrix; pixel_values (256,) says what a pixel counts."""
    start = np.zeros(len(images) + 1, np.uint32)
    for r in range(len(images)):
        start[r + 1] = start[r] + _filled_up(np.count_nonzero(images[r]))
    column = np.zeros(start[-1], np.uint32)
    value = np.zeros(start[-1], pixel_values.dtype)
    for r in range(len(images)):
        e = start[r]
        for j in range(images.shape[1]):
            if images[r, j]:
                column[e] = j
                value[e] = pixel_values[images[r, j]]
                e += np.uint32(1)
    return start, column, value


@compiled
def _transpose(sparse, rows, columns):
    """Transposes of chosen rows, TILE_ROWS at a time, one below the other: row t * columns + j says
    where in tile t column j is set.
    """
    start, column, value = sparse
    tiles = (len(rows) + TILE_ROWS - 1) // TILE_ROWS
    count = np.zeros(tiles * columns, np.uint32)
    for i in range(len(rows)):
        for e in range(start[rows[i]], start[rows[i] + np.uint32(1)]):
            count[i // TILE_ROWS * columns + column[e]] += value[e] != 0
    first = np.zeros(tiles * columns + 1, np.uint32)
    for j in range(len(count)):
        first[j + 1] = first[j] + _filled_up(count[j])
    position = np.zeros(first[-1], np.uint32)
    transposed = np.zeros(first[-1], value.dtype)
    free = first[:-1].copy()
    for i in range(len(rows)):
        for e in range(start[rows[i]], start[rows[i] + np.uint32(1)]):
            if value[e] != 0:
                j = i // TILE_ROWS * columns + column[e]
                position[free[j]] = i % TILE_ROWS
                transposed[free[j]] = value[e]
                free[j] += np.uint32(1)
    return first, position, transposed


@compiled
def _filled_up(count):
    return np.uint32((count + _UNROLL - 1) // _UNROLL * _UNROLL)
