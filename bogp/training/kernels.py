"""What a step of the engine multiplies, one network at a time, each kernel with its arithmetic.

Images stand in *tiles* of at most ``TILE`` (a multiple of 16, filled up with black images). A
layer's outputs over a tile are a matrix (units, images), so that each row is whole vectors; kernels
take a matrix as one row of memory, with its ``width``. Three kinds of layer are multiplied in
different ways:

- **kept weights**: the weights are the entries of a sparse matrix (``Kept``);
- **lit pixels**: the images are one (``Pixels``), and the weights (pixels, units) are dense;
- **dense**: BLAS (in ``compiled_networks``), with biases and ReLU here.

Rows are computed in spans of eight, four or one vectors, whose sums stay in registers. All sums
have one order, whatever else is computed.
"""

from typing import NamedTuple

import numpy as np
from numba import literal_unroll
from numpy.typing import NDArray

from bogp.compiled import compiled
from bogp.training.vectors import (
    VECTOR_BYTES,
    adam,
    add,
    add_scaled,
    dot,
    exponential,
    filled,
    load,
    relu,
    size,
    store,
    times,
    total,
    transpose_square,
    where_positive,
    zeros,
)

TILE = 128  # images: as many as eight vectors hold, so that a row of outputs fits into registers
BYTE = np.uint32(255)  # a lit pixel is 256 times where it stands, and its brightness
BLOCK_PIXELS = 112  # pixels whose weights (128 units of float32 each) stay in the nearest cache


class Pixels(NamedTuple):
    """Images as a sparse matrix of their lit pixels.

    Attributes:
        blocks: rows an image, of BLOCK_PIXELS pixels each.
        start: row r has entries start[r] to start[r + 1]; the last image is a black one.
        entry: 256 times the pixel's number, and its brightness.
        values: (256,) what a brightness counts.
        lit: the pixels that any image lights.
        grey: (N + 1, pixels) the images themselves, where they are no sparse matrix: no layer
            then reads their lit pixels.
    """

    blocks: int
    start: NDArray[np.uint32]
    entry: NDArray[np.uint32]
    values: NDArray[np.floating]
    lit: NDArray[np.uint32]
    grey: NDArray[np.uint8]


class Kept(NamedTuple):
    """Which weights a mask keeps: row by row, and column by column for the way back.

    Attributes:
        start, column: row j has entries start[j] to start[j + 1], in these columns.
        back_start, back_row, back_entry: the same of the transposed matrix, and where each of its
            entries stands in the first order.
    """

    start: NDArray[np.uint32]
    column: NDArray[np.uint32]
    back_start: NDArray[np.uint32]
    back_row: NDArray[np.uint32]
    back_entry: NDArray[np.uint32]


class Parameters(NamedTuple):
    """Numbers that Adam moves, with its moments and their gradient; each one row of memory, filled
    up to whole vectors.
    """

    value: NDArray[np.floating]
    mean: NDArray[np.floating]
    square: NDArray[np.floating]
    gradient: NDArray[np.floating]


@compiled
def spans(like):
    """A block of each length, for matrices of an array's type; unrolled, they cover every row."""
    return zeros(like, 8), zeros(like, 4), zeros(like, 1)


@compiled
def kept_outputs(kept, weight, bias, x, y, width, through_relu):
    """``y = weight x + bias`` (and the ReLU of it): row j of y is bias[j] and, for each entry e of
    row j, row column[e] of x times weight[e].

    weight: (entries,), bias: (d_out,), x: (d_in, width), y: (d_out, width).
    """
    column = 0
    for block in literal_unroll(spans(y)):
        while width - column >= size(block):
            _kept_outputs(block, column, kept, weight, bias, x, y, width, through_relu)
            column += size(block)


@compiled
def _kept_outputs(block, column, kept, weight, bias, x, y, width, through_relu):
    start, columns = kept.start, kept.column
    for j in range(len(start) - 1):
        sums = filled(block, bias[j])
        for e in range(np.int64(start[j]), np.int64(start[j + 1])):
            sums = add_scaled(sums, weight[e], x, np.int64(columns[e]) * width + column)
        if through_relu:
            sums = relu(sums)
        store(sums, y, j * width + column)


@compiled
def kept_inputs(kept, weight, delta, dx, width):
    """``dx = weight.T delta``: row j of dx is, for each entry e of column j, row back_row[e] of
    delta times the weight at back_entry[e].

    weight: (entries,), delta: (d_out, width), dx: (d_in, width).
    """
    column = 0
    for block in literal_unroll(spans(dx)):
        while width - column >= size(block):
            _kept_inputs(block, column, kept, weight, delta, dx, width)
            column += size(block)


@compiled
def _kept_inputs(block, column, kept, weight, delta, dx, width):
    start, rows, entry = kept.back_start, kept.back_row, kept.back_entry
    for j in range(len(start) - 1):
        sums = block
        for e in range(np.int64(start[j]), np.int64(start[j + 1])):
            at = np.int64(rows[e]) * width + column
            sums = add_scaled(sums, weight[entry[e]], delta, at)
        store(sums, dx, j * width + column)


@compiled
def kept_gradient(kept, delta, x, gradient, width, first):
    """gradient[e] (+)= the sum over images of row j of delta times row column[e] of x, for each
    entry e of row j; first: nothing stands in gradient yet.

    delta: (d_out, width), x: (d_in, width), gradient: (entries,).
    """
    if first:
        gradient[:] = 0
    column = 0
    for block in literal_unroll(spans(x)):
        while width - column >= size(block):
            _kept_gradient(block, column, kept, delta, x, gradient, width)
            column += size(block)


@compiled
def _kept_gradient(block, column, kept, delta, x, gradient, width):
    start, columns = kept.start, kept.column
    for j in range(len(start) - 1):
        row = load(block, delta, j * width + column)
        for e in range(np.int64(start[j]), np.int64(start[j + 1])):
            gradient[e] += dot(row, x, np.int64(columns[e]) * width + column)


@compiled
def lit_outputs(images, chosen, weight, bias, y, width, through_relu):
    """``y = x weight + bias`` (and the ReLU of it), x the chosen images: row i of y is, for each
    lit pixel, its row of weight times its value.

    images: as ``Pixels``; chosen: (n,) which; weight: (pixels, width), bias: (width,), y: (n,
    width).
    """
    column = 0
    for block in literal_unroll(spans(y)):
        while width - column >= size(block):
            _lit_outputs(block, column, images, chosen, weight, bias, y, width, through_relu)
            column += size(block)


@compiled
def _lit_outputs(block, column, images, chosen, weight, bias, y, width, through_relu):
    blocks, start, entry, values = images.blocks, images.start, images.entry, images.values
    for part in range(blocks):
        for i in range(len(chosen)):
            row, at = np.int64(chosen[i]) * blocks + part, i * width + column
            sums = load(block, y, at) if part else load(block, bias, column)
            for e in range(np.int64(start[row]), np.int64(start[row + 1])):
                value, pixel = values[entry[e] & BYTE], np.int64(entry[e] >> np.uint32(8))
                sums = add_scaled(sums, value, weight, pixel * width + column)
            if through_relu and part == blocks - 1:
                sums = relu(sums)
            store(sums, y, at)


@compiled
def lit_step(images, stop, entry, delta, mask, weight, width, adam_step, first, last):
    """The gradient of a layer over lit pixels, and at once Adam's step with it: row p of the
    gradient is, for each image of the tile in which pixel p is lit, its row of delta times the
    pixel's value. It is never written to memory unless the batch has more tiles.

    images: as ``Pixels``, of which ``lit`` says which rows move; stop, entry: of the tile, see
    ``compiled_networks.Tiles``; delta: (n, width); mask: (pixels, width), 1 where a weight is kept,
    or of length 0; weight: ``Parameters`` (pixels, width); adam_step: (2,); first, last: whether
    this is the first and the last tile of its batch.
    """
    column = 0
    for block in literal_unroll(spans(delta)):
        while width - column >= size(block):
            _lit_step(
                block,
                column,
                images,
                stop,
                entry,
                delta,
                mask,
                weight,
                width,
                adam_step,
                first,
                last,
            )
            column += size(block)


@compiled
def _lit_step(
    block, column, images, stop, entry, delta, mask, weight, width, adam_step, first, last
):
    # named once: numba counts references wherever a field of a tuple is named
    values, gradient = images.values, weight.gradient
    moved, mean, square = weight.value, weight.mean, weight.square
    for p in images.lit:
        at = np.int64(p) * width + column
        sums = block if first else load(block, gradient, at)
        for e in range(np.int64(p) * TILE, np.int64(stop[p])):
            value, image = values[entry[e] & BYTE], np.int64(entry[e] >> np.uint32(8))
            sums = add_scaled(sums, value, delta, image * width + column)
        if last:
            if len(mask):
                sums = times(sums, mask, at)
            adam(sums, moved, mean, square, at, adam_step[0], adam_step[1])
        else:
            store(sums, gradient, at)


@compiled
def adam_of(parameters, adam_step):
    """Adam's step for ``Parameters`` whose gradient stands there; adam_step: (2,), see
    ``vectors.adam``.
    """
    value, gradient = parameters.value, parameters.gradient
    block = zeros(value, 1)
    for at in range(0, len(value), size(block)):
        g = load(block, gradient, at)
        adam(g, value, parameters.mean, parameters.square, at, adam_step[0], adam_step[1])


@compiled
def add_bias(bias, y, width, through_relu):
    """``y += bias`` (and the ReLU of it), row by row; bias: (d_out,), y: (d_out, width)."""
    column = 0
    for block in literal_unroll(spans(y)):
        while width - column >= size(block):
            _add_bias(block, column, bias, y, width, through_relu)
            column += size(block)


@compiled
def _add_bias(block, column, bias, y, width, through_relu):
    for j in range(len(y) // width):
        sums = add(filled(block, bias[j]), y, j * width + column)
        if through_relu:
            sums = relu(sums)
        store(sums, y, j * width + column)


@compiled
def behind_relu(dy, branch, delta, bias_gradient, width, through_relu, first):
    """The derivative by what a layer gives to its ReLU, from that by the ReLU's outputs: 0 where
    they are 0; and its sums over the images, the bias's gradient.

    dy, branch (the ReLU's outputs), delta: (d_out, width); bias_gradient: (d_out,), which nothing
    stands in yet where ``first``.
    """
    if first:
        bias_gradient[:] = 0
    column = 0
    for block in literal_unroll(spans(dy)):
        while width - column >= size(block):
            _behind_relu(block, column, dy, branch, delta, bias_gradient, width, through_relu)
            column += size(block)


@compiled
def _behind_relu(block, column, dy, branch, delta, bias_gradient, width, through_relu):
    for j in range(len(dy) // width):
        at = j * width + column
        row = load(block, dy, at)
        if through_relu:
            row = where_positive(row, branch, at)
        store(row, delta, at)
        bias_gradient[j] += total(row)


@compiled
def transpose(x, y):
    """``y = x.T``, both of whole vectors in either direction."""
    rows, columns = x.shape
    block, vector = zeros(x, 1), VECTOR_BYTES // x.itemsize
    from_x, to_y = x.ravel(), y.ravel()
    for top in range(0, rows, vector):
        for left in range(0, columns, vector):
            transpose_square(
                block, from_x, top * columns + left, columns, to_y, left * rows + top, rows
            )


@compiled
def loss_and_delta(logits, labels, count, share, extra_softmax, delta, largest, below):
    """The sum of cross-entropies over the first ``count`` images of a tile, and the derivative of
    ``share`` times it by the logits.

    logits, delta: (classes, width), both changed; labels: (width,); extra_softmax: a softmax goes
    before the loss's own; largest, below: (width,) to write into.
    """
    classes, width = logits.shape
    if extra_softmax:
        softmax(logits, logits, largest, below)
    softmax(logits, delta, largest, below)
    loss = 0.0
    for i in range(count):
        loss += np.log(below[i]) - (logits[labels[i], i] - largest[i])
        delta[labels[i], i] -= 1
    if extra_softmax:  # through it: J' d = q * (d - <q, d>)
        below[:] = 0
        for c in range(classes):
            for i in range(width):
                below[i] += logits[c, i] * delta[c, i]
        for c in range(classes):
            for i in range(width):
                delta[c, i] = logits[c, i] * (delta[c, i] - below[i])
    for c in range(classes):
        for i in range(count):
            delta[c, i] *= share
        delta[c, count:] = 0
    return loss


@compiled
def softmax(x, p, largest, below):
    """Set p (which may be x itself) to the softmax of each column of x; largest: that of the
    column, below: the sum of the exponentials of differences from it.
    """
    classes, width = x.shape
    largest[:] = x[0]
    for c in range(1, classes):
        for i in range(width):
            largest[i] = max(largest[i], x[c, i])
    for c in range(classes):
        for i in range(width):
            p[c, i] = x[c, i] - largest[i]
    flat, block = p.ravel(), zeros(x, 1)
    for at in range(0, len(flat), VECTOR_BYTES // x.itemsize):
        store(exponential(load(block, flat, at)), flat, at)
    below[:] = 0
    for c in range(classes):
        for i in range(width):
            below[i] += p[c, i]
    for c in range(classes):
        for i in range(width):
            p[c, i] /= below[i]
