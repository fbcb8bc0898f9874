"""What a step of the engine multiplies, one network at a time, each kernel with its arithmetic.

Images stand in *tiles* of at most ``TILE`` (a multiple of 16, filled up with black images). A
layer's outputs over a tile are a matrix (units, images), so that each row is whole vectors, and
lie in memory row after row; a matrix is handed over as such a row of numbers. Three kinds of layer
are multiplied in different ways:

- **kept weights**: the layer's weights are the entries of a sparse matrix (``start``, ``index``):
  row j has entries start[j] to start[j + 1], entry e stands in column index[e] and is weight[e].
- **lit pixels**: the images are the sparse matrix, and the weights (pixels, units) are dense.
- **dense**: BLAS (in ``compiled_networks``), with biases and ReLU here.

Rows are computed in spans of up to eight vectors, whose sums stay in registers. All sums have one
order, whatever else is computed.
"""

import numpy as np

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


@compiled
def _spans(width, like, span, arguments):
    raise NotImplementedError


@compiled
def _next(width, like, column):
    """How many vectors the next span over columns 0 to ``width`` has: 8, 4 or 1."""
    left = (width - column) * like.itemsize // VECTOR_BYTES
    return 8 if left >= 8 else 4 if left >= 4 else 1


@compiled
def kept_outputs(start, index, weight, bias, x, y, width, through_relu):
    """``y = weight x + bias`` (and the ReLU of it): row j of y is bias[j] and the sum of rows
    index[e] of x times weight[e].

    x: (d_in, width) and y: (d_out, width), each in one row; start: (d_out + 1,).
    """
    column = 0
    while column < width:
        vectors = _next(width, y, column)
        if vectors == 8:
            _kept_outputs(
                zeros(y, 8), column, start, index, weight, bias, x, y, width, through_relu
            )
        elif vectors == 4:
            _kept_outputs(
                zeros(y, 4), column, start, index, weight, bias, x, y, width, through_relu
            )
        else:
            _kept_outputs(
                zeros(y, 1), column, start, index, weight, bias, x, y, width, through_relu
            )
        column += vectors * VECTOR_BYTES // y.itemsize


@compiled
def _kept_outputs(block, column, start, index, weight, bias, x, y, width, through_relu):
    for j in range(len(start) - 1):
        sums = filled(block, bias[j])
        for e in range(np.int64(start[j]), np.int64(start[j + 1])):
            sums = add_scaled(sums, weight[e], x, np.int64(index[e]) * width + column)
        if through_relu:
            sums = relu(sums)
        store(sums, y, j * width + column)


@compiled
def kept_inputs(start, index, entry, weight, delta, dx, width):
    """``dx = weight.T delta``: row j of dx is the sum of rows index[e] of delta times the weight at
    entry[e]; start, index and entry are of the transposed matrix.
    """
    column = 0
    while column < width:
        vectors = _next(width, dx, column)
        if vectors == 8:
            _kept_inputs(zeros(dx, 8), column, start, index, entry, weight, delta, dx, width)
        elif vectors == 4:
            _kept_inputs(zeros(dx, 4), column, start, index, entry, weight, delta, dx, width)
        else:
            _kept_inputs(zeros(dx, 1), column, start, index, entry, weight, delta, dx, width)
        column += vectors * VECTOR_BYTES // dx.itemsize


@compiled
def _kept_inputs(block, column, start, index, entry, weight, delta, dx, width):
    for j in range(len(start) - 1):
        sums = block
        for e in range(np.int64(start[j]), np.int64(start[j + 1])):
            at = np.int64(index[e]) * width + column
            sums = add_scaled(sums, weight[entry[e]], delta, at)
        store(sums, dx, j * width + column)


@compiled
def kept_gradient(start, index, delta, x, gradient, width, first):
    """gradient[e] (+)= the sum over images of row j of delta times row index[e] of x, for each
    entry e of row j; first: nothing stands in gradient yet.
    """
    if first:
        gradient[:] = 0
    column = 0
    while column < width:
        vectors = _next(width, x, column)
        if vectors == 8:
            _kept_gradient(zeros(x, 8), column, start, index, delta, x, gradient, width)
        elif vectors == 4:
            _kept_gradient(zeros(x, 4), column, start, index, delta, x, gradient, width)
        else:
            _kept_gradient(zeros(x, 1), column, start, index, delta, x, gradient, width)
        column += vectors * VECTOR_BYTES // x.itemsize


@compiled
def _kept_gradient(block, column, start, index, delta, x, gradient, width):
    for j in range(len(start) - 1):
        row = load(block, delta, j * width + column)
        for e in range(np.int64(start[j]), np.int64(start[j + 1])):
            gradient[e] += dot(row, x, np.int64(index[e]) * width + column)


@compiled
def lit_outputs(blocks, start, entry, values, images, weight, bias, y, width, through_relu):
    """``y = x weight + bias`` (and the ReLU of it), x the images as lit pixels: row i of y is the
    sum of rows pixel[e] of weight times value[e].

    blocks: each image stands as so many rows of the sparse matrix, of BLOCK_PIXELS pixels each;
    images: (n,) which ones; weight: (pixels, width), y: (n, width).
    """
    column = 0
    while column < width:
        vectors = _next(width, y, column)
        if vectors == 8:
            _lit_outputs(
                zeros(y, 8),
                column,
                blocks,
                start,
                entry,
                values,
                images,
                weight,
                bias,
                y,
                width,
                through_relu,
            )
        elif vectors == 4:
            _lit_outputs(
                zeros(y, 4),
                column,
                blocks,
                start,
                entry,
                values,
                images,
                weight,
                bias,
                y,
                width,
                through_relu,
            )
        else:
            _lit_outputs(
                zeros(y, 1),
                column,
                blocks,
                start,
                entry,
                values,
                images,
                weight,
                bias,
                y,
                width,
                through_relu,
            )
        column += vectors * VECTOR_BYTES // y.itemsize


@compiled
def _lit_outputs(
    block,
    column,
    blocks,
    start,
    entry,
    values,
    images,
    weight,
    bias,
    y,
    width,
    through_relu,
):
    for part in range(blocks):
        for i in range(len(images)):
            row, at = np.int64(images[i]) * blocks + part, i * width + column
            sums = load(block, y, at) if part else load(block, bias, column)
            for e in range(np.int64(start[row]), np.int64(start[row + 1])):
                value, pixel = values[entry[e] & BYTE], np.int64(entry[e] >> np.uint32(8))
                sums = add_scaled(sums, value, weight, pixel * width + column)
            if through_relu and part == blocks - 1:
                sums = relu(sums)
            store(sums, y, at)


@compiled
def lit_step(
    pixels,
    stop,
    entry,
    values,
    delta,
    gradient,
    mask,
    weight,
    mean,
    square,
    width,
    adam_step,
    first,
    last,
):
    """The gradient of a layer over lit pixels, and at once Adam's step with it: row p of the
    gradient is the sum of rows image[e] of delta times value[e], and is never written to memory
    unless the batch has more tiles.

    pixels: those that any training image lights (the weights of others never move); stop: where
    the entries of each pixel end, which begin at p * TILE; delta: (n, width); mask: 1 where a
    weight is kept, or of length 0; first, last: whether this is the first and the last tile of its
    batch.
    """
    column = 0
    while column < width:
        vectors = _next(width, delta, column)
        if vectors == 8:
            _lit_step(
                zeros(delta, 8),
                column,
                pixels,
                stop,
                entry,
                values,
                delta,
                gradient,
                mask,
                weight,
                mean,
                square,
                width,
                adam_step,
                first,
                last,
            )
        elif vectors == 4:
            _lit_step(
                zeros(delta, 4),
                column,
                pixels,
                stop,
                entry,
                values,
                delta,
                gradient,
                mask,
                weight,
                mean,
                square,
                width,
                adam_step,
                first,
                last,
            )
        else:
            _lit_step(
                zeros(delta, 1),
                column,
                pixels,
                stop,
                entry,
                values,
                delta,
                gradient,
                mask,
                weight,
                mean,
                square,
                width,
                adam_step,
                first,
                last,
            )
        column += vectors * VECTOR_BYTES // delta.itemsize


@compiled
def _lit_step(
    block,
    column,
    pixels,
    stop,
    entry,
    values,
    delta,
    gradient,
    mask,
    weight,
    mean,
    square,
    width,
    adam_step,
    first,
    last,
):
    for p in pixels:
        at = np.int64(p) * width + column
        sums = block if first else load(block, gradient, at)
        for e in range(np.int64(p) * TILE, np.int64(stop[p])):
            value, image = values[entry[e] & BYTE], np.int64(entry[e] >> np.uint32(8))
            sums = add_scaled(sums, value, delta, image * width + column)
        if last:
            if len(mask):
                sums = times(sums, mask, at)
            adam(sums, weight, mean, square, at, adam_step[0], adam_step[1])
        else:
            store(sums, gradient, at)


@compiled
def adam_of(gradient, weight, mean, square, adam_step):
    """Adam's step for arrays of whole vectors."""
    block = zeros(weight, 1)
    for at in range(0, len(weight), VECTOR_BYTES // weight.itemsize):
        adam(load(block, gradient, at), weight, mean, square, at, adam_step[0], adam_step[1])


@compiled
def add_bias(bias, y, width, through_relu):
    """``y += bias`` (and the ReLU of it), row by row."""
    column = 0
    while column < width:
        vectors = _next(width, y, column)
        if vectors == 8:
            _add_bias(zeros(y, 8), column, bias, y, width, through_relu)
        elif vectors == 4:
            _add_bias(zeros(y, 4), column, bias, y, width, through_relu)
        else:
            _add_bias(zeros(y, 1), column, bias, y, width, through_relu)
        column += vectors * VECTOR_BYTES // y.itemsize


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
    """
    if first:
        bias_gradient[:] = 0
    column = 0
    while column < width:
        vectors = _next(width, dy, column)
        if vectors == 8:
            _behind_relu(
                zeros(dy, 8), column, dy, branch, delta, bias_gradient, width, through_relu
            )
        elif vectors == 4:
            _behind_relu(
                zeros(dy, 4), column, dy, branch, delta, bias_gradient, width, through_relu
            )
        else:
            _behind_relu(
                zeros(dy, 1), column, dy, branch, delta, bias_gradient, width, through_relu
            )
        column += vectors * VECTOR_BYTES // dy.itemsize


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
