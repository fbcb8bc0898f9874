"""The compiled loops one by one: against dense products of numpy, autograd and PyTorch's own
optimiser.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bogp.datasets import Split
from bogp.training import compiled_networks
from bogp.training.compiled_networks import TILE_ROWS, LitImages
from bogp.training.protocols import CALIBRATED, PAPER, Protocol

TYPES = [np.float32, np.float64]
CLOSE = {np.float32: 2e-6, np.float64: 1e-14}  # relative, of sums of some dozen terms


def split(images):
    return Split(images, np.zeros(len(images), np.uint8))


def scattered(count, pixels, density, seed=0):
    """Images of which a share of the pixels is lit."""
    rng = np.random.default_rng(seed)
    return ((rng.random((count, pixels)) < density) * rng.integers(1, 256, (count, pixels))).astype(
        np.uint8
    )


def with_lit_pixels(counts, pixels=20):
    """One image for each of these numbers of lit pixels."""
    images = np.zeros((len(counts), pixels), np.uint8)
    for row, (image, count) in enumerate(zip(images, counts, strict=True)):
        image[np.random.default_rng(row).permutation(pixels)[:count]] = 255 - np.arange(count)
    return images


def dense(sparse, columns):
    """A sparse matrix written out; entries that stand twice add up."""
    start, column, value = sparse
    matrix = np.zeros((len(start) - 1, columns), value.dtype)
    for row in range(len(matrix)):
        for e in range(start[row], start[row + 1]):
            matrix[row, column[e]] += value[e]
    return matrix


def scaled(images, input_scaling, dtype):
    return images.astype(dtype) / dtype(255) if input_scaling == "unit" else images.astype(dtype)


IMAGES = {
    "sparse": scattered(50, 60, 0.2),
    "dense": scattered(50, 60, 0.9),
    "all black": np.zeros((9, 60), np.uint8),
    "all lit": np.full((9, 60), 255, np.uint8),
    "0 to 9 lit pixels": with_lit_pixels(range(10)),  # entries are multiplied four at a time
    "black between others": with_lit_pixels([3, 0, 0, 4, 0, 5, 1, 0]),
    "black at the end": with_lit_pixels([4, 5, 0, 0]),
    "one pixel": np.arange(256, dtype=np.uint8)[:, None],
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("input_scaling", ["unit", "raw"])
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_lit_pixels_are_the_images(images, input_scaling, dtype):
    lit = LitImages(split(images), input_scaling, dtype)
    assert len(lit) == len(images)
    np.testing.assert_array_max_ulp(
        dense(lit.sparse, images.shape[1]), scaled(images, input_scaling, dtype), 1
    )
    start, _, value = lit.sparse
    assert (np.count_nonzero(value), len(value) % 4) == (np.count_nonzero(images), 0)
    # black pixels are left out
    assert (np.diff(start.astype(int)) < np.count_nonzero(images, axis=1) + 4).all()


def test_pixels_that_are_not_lit_in_the_images_of_a_view_are_left_out_too():
    images = np.asfortranarray(scattered(40, 30, 0.3))[::2, ::3]
    images.flags.writeable = False
    np.testing.assert_array_equal(
        dense(LitImages(split(images), "raw", np.float32).sparse, 10), images
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [1, 3, 16, 33])
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_a_product_with_lit_pixels_is_the_dense_product(images, width, dtype):
    rng = np.random.default_rng(0)
    lit, weights = (
        LitImages(split(images), "unit", dtype),
        rng.standard_normal((images.shape[1], width)).astype(dtype),
    )
    # in any order, some twice
    rows = rng.permutation(np.repeat(np.arange(len(images), dtype=np.uint32), 2))[: len(images) + 3]
    before = rng.standard_normal((len(rows), width)).astype(dtype)
    out = before.copy()
    compiled_networks._add_sparse_product(lit.sparse, rows, weights, out)
    x = images[rows] / 255
    exact, size = before + x @ weights, np.abs(before) + x @ np.abs(weights)
    assert (np.abs(out - exact) <= 10 * CLOSE[dtype] * size).all()


@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_a_product_with_any_number_of_lit_pixels_is_exact_where_nothing_is_rounded(
    counts, width, seed
):
    images = with_lit_pixels(counts)
    weights = np.random.default_rng(seed).integers(-9, 10, (20, width)).astype(np.float32)
    out, rows = np.zeros((len(images), width), np.float32), np.arange(len(images), dtype=np.uint32)
    compiled_networks._add_sparse_product(
        LitImages(split(images), "raw", np.float32).sparse, rows, weights, out
    )
    np.testing.assert_array_equal(out, images.astype(int) @ weights.astype(int))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rows", [0, 1, 5, 1023, 1024, 1025, 2048, 2300])
def test_the_transpose_is_that_of_each_tile(rows, dtype):
    images, pixels = scattered(1500, 12, 0.2), 12
    images[:, 3] = 0  # lit nowhere
    images[:, 5] = 7  # lit everywhere
    lit = LitImages(split(images), "raw", dtype)
    chosen = np.random.default_rng(1).integers(0, len(images), rows).astype(np.uint32)
    transposed = compiled_networks._transpose(lit.sparse, chosen, pixels)
    tiles = [images[chosen[first : first + TILE_ROWS]] for first in range(0, rows, TILE_ROWS)]
    assert len(transposed[0]) == len(tiles) * pixels + 1
    lit_in = np.array([np.count_nonzero(tile, axis=0) for tile in tiles]).ravel()
    # filled up to four entries, and no further
    assert (np.diff(transposed[0].astype(int)) == -(-lit_in // 4) * 4).all()
    whole = dense(transposed, TILE_ROWS)
    for t, tile in enumerate(tiles):
        found = whole[t * pixels : (t + 1) * pixels]
        np.testing.assert_array_equal(found[:, : len(tile)], tile.T)
        assert not found[:, len(tile) :].any()


def test_the_transpose_of_all_images_is_kept_for_full_batches_only():
    images = scattered(1100, 12, 0.2)
    kept = LitImages(split(images), "raw", np.float32, full_batch=True).transposed
    np.testing.assert_array_equal(dense(kept, TILE_ROWS)[:12], images[:TILE_ROWS].T)
    np.testing.assert_array_equal(dense(kept, TILE_ROWS)[12:, :76], images[TILE_ROWS:].T)
    assert all(len(part) <= 1 for part in LitImages(split(images), "raw", np.float32).transposed)


LOGITS = {
    "ordinary": np.random.default_rng(0).normal(0, 3, (40, 10)),
    "equal": np.zeros((3, 10)),
    "extreme": np.random.default_rng(1).choice([-1e4, 0.0, 1e4], (60, 10)),
    "one extreme": np.eye(10) * 1e4,
    "large": np.random.default_rng(2).normal(0, 100, (40, 10)),
    "two classes": np.random.default_rng(3).normal(0, 1, (7, 2)),
    "one class": np.zeros((2, 1)),
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
@pytest.mark.parametrize("in_place", [False, True])
def test_softmax_and_its_logarithm_are_torchs(in_place, logits, dtype):
    for row in logits.astype(dtype):
        x = row.copy()
        p = x if in_place else np.full_like(x, np.nan)
        largest, log_sum = compiled_networks._softmax(x, p)
        exact = torch.from_numpy(row.astype(float))
        np.testing.assert_allclose(p, exact.softmax(0), rtol=10 * CLOSE[dtype], atol=1e-30)
        assert largest == exact.max()
        np.testing.assert_allclose(
            log_sum, (exact - exact.max()).logsumexp(0), rtol=CLOSE[dtype], atol=CLOSE[dtype]
        )
        if not in_place:
            np.testing.assert_array_equal(x, row)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("extra_softmax", [False, True])
@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
def test_the_loss_and_its_derivative_are_autograds(logits, extra_softmax, dtype):
    count, classes = logits.shape
    rng = np.random.default_rng(5)
    # labels of the whole split
    labels, rows = rng.integers(0, classes, 100), rng.permutation(100)[:count].astype(np.uint32)
    own = logits.astype(dtype)
    delta = np.full_like(own, np.nan)
    batch_size = count + 11  # this is one tile of a batch
    loss = compiled_networks._loss_and_delta(
        own.copy(), labels, rows, batch_size, extra_softmax, delta
    )
    exact = torch.from_numpy(own.astype(float)).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        exact.softmax(1) if extra_softmax else exact,
        torch.from_numpy(labels[rows]),
        reduction="sum",
    )
    expected = expected / batch_size
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=5 * CLOSE[dtype], atol=CLOSE[dtype])
    np.testing.assert_allclose(delta, exact.grad, rtol=0, atol=CLOSE[dtype] / batch_size)


def test_a_logit_that_is_no_number_gives_a_loss_that_is_none():
    for wrong in (np.nan, np.inf):
        logits = np.zeros((2, 3), np.float32)
        logits[1, 2] = wrong
        arguments = (
            np.zeros(2, np.int64),
            np.arange(2, dtype=np.uint32),
            2,
            False,
            np.zeros_like(logits),
        )
        assert np.isnan(compiled_networks._loss_and_delta(logits, *arguments))


@pytest.mark.parametrize(
    "protocol",
    [PAPER, CALIBRATED, Protocol("x", learning_rate=0.5, schedule="linear", steps=10)],
    ids=lambda p: p.name,
)
@pytest.mark.parametrize("size", [1, 7, 16, 33])  # whole vectors of the processor and parts
def test_adam_is_torchs(size, protocol):
    rng = np.random.default_rng(0)
    start = rng.standard_normal(size)
    # some below Adam's epsilon
    gradients = rng.standard_normal((10, size)) * 10.0 ** rng.integers(-12, 3, (10, size))
    gradients[:, :1] = 0  # that of a pruned weight
    gradients[3] = 0
    theirs = torch.from_numpy(start.copy()).requires_grad_()
    adam = torch.optim.Adam([theirs], lr=protocol.learning_rate)
    mine, mean, square = start.copy(), np.zeros(size), np.zeros(size)
    for step, gradient in enumerate(gradients):
        adam.param_groups[0]["lr"] = protocol.learning_rate_at(step)
        theirs.grad = torch.from_numpy(gradient)
        adam.step()
        compiled_networks._adam(
            mine,
            gradient,
            mean,
            square,
            np.array(compiled_networks._adam_step(protocol.learning_rate_at(step), step)),
        )
        np.testing.assert_allclose(
            mine, theirs.detach(), rtol=1e-12, atol=1e-12 * protocol.learning_rate
        )
    assert mine[0] == start[0]
    assert size == 1 or (mine[1:] != start[1:]).all()


def test_adam_in_float32_is_adam_in_float64_but_for_rounding():
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(50), rng.standard_normal((10, 50))
    found = {}
    for dtype in TYPES:
        parameter, mean, square = start.astype(dtype), np.zeros(50, dtype), np.zeros(50, dtype)
        for step, gradient in enumerate(gradients.astype(dtype)):
            compiled_networks._adam(
                parameter,
                gradient,
                mean,
                square,
                np.array(compiled_networks._adam_step(0.01, step), dtype),
            )
        found[dtype] = parameter
    assert found[np.float32].dtype == np.float32
    np.testing.assert_allclose(found[np.float32], found[np.float64], atol=2e-6)


def test_memory_begins_at_a_cache_line():
    for shape in ((3, 5), (1,), (7, 13, 11)):
        for dtype in TYPES:
            zeros = compiled_networks._zeros(shape, np.dtype(dtype))
            assert zeros.ctypes.data % 64 == 0
            assert (zeros.dtype, zeros.shape, zeros.any()) == (dtype, shape, False)
