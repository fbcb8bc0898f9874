"""Images as compiled networks read them, and how each layer is multiplied. That whole trainings are
right is tested in ``test_engine``, the kernels' arithmetic in ``test_kernels``.
"""

import numpy as np
import pytest
import torch

from bogp.datasets import Split
from bogp.training import compiled_networks, engine, kernels
from bogp.training.compiled_networks import (
    DENSE,
    KEPT,
    LIT,
    CompiledImages,
    CompiledNetworks,
    is_dark,
    kind_of,
)
from bogp.training.kernels import BLOCK_PIXELS, TILE
from bogp.training.protocols import Protocol
from bogp.training.tensor_networks import Group

TYPES = [np.float32, np.float64]
SMALL = Protocol("small", widths=(60, 20, 48, 10), batch_size=40, steps=4)


def split(images):
    return Split(images, np.random.default_rng(9).integers(0, 10, len(images)).astype(np.uint8))


def scattered(count, pixels, density, seed=0):
    """Images of which a share of the pixels is lit."""
    rng = np.random.default_rng(seed)
    return ((rng.random((count, pixels)) < density) * rng.integers(1, 256, (count, pixels))).astype(
        np.uint8
    )


def scaled(images, input_scaling, dtype):
    return images.astype(dtype) / dtype(255) if input_scaling == "unit" else images.astype(dtype)


IMAGES = {
    "sparse": scattered(50, 60, 0.2),
    "dense": scattered(50, 60, 0.9),
    "all black": np.zeros((9, 60), np.uint8),
    "all lit": np.full((9, 60), 255, np.uint8),
    "one pixel": np.arange(256, dtype=np.uint8)[:, None],
    "several blocks of pixels": scattered(20, 2 * BLOCK_PIXELS + 7, 0.3),
    "whole blocks of pixels": scattered(20, 2 * BLOCK_PIXELS, 0.3),
    "a view": np.asfortranarray(scattered(40, 30, 0.3))[::2, ::3],
}
AS_IMAGES = pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)


def networks(images, masks=(None, None, None), protocol=SMALL, dtype=np.float32):
    """Networks of one seed with these layer masks, ready to train on images."""
    own = CompiledImages(split(images), "unit", dtype, is_dark(split(images)))
    start = engine.initial_layers(0, protocol)
    order = engine.batches(0, len(own), protocol)
    group = Group([masks], [start], protocol, [order], [slice(0, 1)])
    return CompiledNetworks(group, own), own


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("input_scaling", ["unit", "raw"])
@pytest.mark.parametrize("dark", [True, False])
@AS_IMAGES
def test_images_are_kept_as_they_are_and_a_black_one_behind_them(
    images, dark, input_scaling, dtype
):
    own = CompiledImages(split(images), input_scaling, dtype, dark)
    assert (len(own), own.pixels, own.dark) == (len(images), images.shape[1], dark)
    matrix, written = own.matrix, np.zeros((len(images) + 1, images.shape[1]), dtype)
    if dark:
        for image in range(len(written)):
            for block in range(matrix.blocks):
                row = image * matrix.blocks + block
                entries = matrix.entry[matrix.start[row] : matrix.start[row + 1]].astype(int)
                assert (entries // 256 // BLOCK_PIXELS == block).all()
                assert (entries % 256 > 0).all()  # black pixels are left out
                written[image, entries // 256] = matrix.values[entries % 256]
    else:
        assert len(matrix.entry) == 0
        written = matrix.values[matrix.grey]
    np.testing.assert_array_max_ulp(written[:-1], scaled(images, input_scaling, dtype), 1)
    assert not written[-1].any()
    np.testing.assert_array_equal(matrix.lit, np.flatnonzero(images.any(axis=0)))
    assert own.share == np.count_nonzero(images) / images.size


@pytest.mark.parametrize(("density", "dark"), [(0.1, True), (0.5, True), (0.7, False), (1, False)])
def test_images_that_are_mostly_lit_are_kept_as_they_are(density, dark):
    assert is_dark(split(scattered(50, 200, density))) is dark


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("width", [16, 48, TILE])
@AS_IMAGES
def test_tiles_hold_the_chosen_images_in_either_form(images, width, dark, dtype):
    own = CompiledImages(split(images), "raw", dtype, dark)
    rng = np.random.default_rng(1)
    # in any order, some twice; the second tile is not full
    chosen = [rng.integers(0, len(images), size) for size in (width, width // 2)]
    pixels = images.shape[1]
    tiles = compiled_networks.Tiles(
        np.full((2, width), len(images), np.uint32),
        np.full((2, width), -1),
        np.array([width, width // 2]),
        np.full((2 * dark, pixels), 99, np.uint32),
        np.zeros((2 * dark, pixels * TILE), np.uint16),
        np.full((2, pixels, width), np.nan, dtype),
    )
    for t, rows in enumerate(chosen):
        tiles.images[t, : len(rows)] = rows
    compiled_networks._fill(own.matrix, own.labels, tiles, True)
    for t, rows in enumerate(chosen):
        expected = np.zeros((pixels, width))
        expected[:, : len(rows)] = images[rows].T
        np.testing.assert_array_equal(tiles.dense[t], expected)
        np.testing.assert_array_equal(tiles.labels[t, : len(rows)], own.labels[rows])
        if dark:
            found = np.zeros_like(expected)
            for p in range(pixels):
                entries = tiles.entry[t, p * TILE : tiles.stop[t, p]].astype(int)
                found[p, entries // 256] = entries % 256
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [16, 48, 128])
@pytest.mark.parametrize("name", ["sparse", "all black", "several blocks of pixels"])
def test_products_with_lit_pixels_are_dense_products(name, width, dtype):
    images, rng = IMAGES[name], np.random.default_rng(0)
    own = CompiledImages(split(images), "unit", dtype, True)
    weight = rng.standard_normal((own.pixels, width)).astype(dtype)
    bias = rng.standard_normal(width).astype(dtype)
    rows = rng.integers(0, len(images), 32).astype(np.uint32)
    x, y = images[rows] / 255, np.full((32, width), np.nan, dtype)
    for through_relu in (False, True):
        kernels.lit_outputs(own.matrix, rows, weight.ravel(), bias, y.ravel(), width, through_relu)
        exact = x @ weight + bias
        exact = np.maximum(exact, 0) if through_relu else exact
        np.testing.assert_allclose(y, exact, atol=1e-12 if dtype is np.float64 else 2e-5)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [16, 48, 128])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_over_lit_pixels_moves_the_weights_as_adam_would(masked, width, dtype):
    rng = np.random.default_rng(0)
    images = scattered(64, 30, 0.3)
    images[:, 4] = 0  # lit nowhere: its weights stay
    own = CompiledImages(split(images), "unit", dtype, True)
    mask = (rng.random((30, width)) < 0.5).astype(dtype)
    weight, delta = (rng.standard_normal(s).astype(dtype) for s in ((30, width), (64, width)))
    weight *= mask if masked else 1
    theirs = torch.from_numpy(weight.astype(float).copy()).requires_grad_()
    adam = torch.optim.Adam([theirs], lr=0.01)
    mine, moments = weight.copy(), np.zeros((3, 30 * width), dtype)
    parameters = kernels.Parameters(mine.reshape(-1), *moments)
    for step in range(3):
        gradient = (images / 255).T @ delta
        theirs.grad = torch.from_numpy(gradient * mask if masked else gradient)
        adam.step()
        for part, rows in enumerate((np.arange(32), np.arange(32, 64))):  # a batch of two tiles
            tile = compiled_networks.Tiles(
                rows[None].astype(np.uint32),
                np.zeros((1, 32), np.int64),
                np.array([32]),
                np.zeros((1, 30), np.uint32),
                np.zeros((1, 30 * TILE), np.uint16),
                np.zeros((0, 30, 32), dtype),
            )
            compiled_networks._fill(own.matrix, own.labels, tile, True)
            kernels.lit_step(
                own.matrix,
                tile.stop[0],
                tile.entry[0],
                delta[rows].ravel(),
                mask.ravel() if masked else mask.ravel()[:0],
                parameters,
                width,
                np.array(compiled_networks._adam_step(0.01, step), dtype),
                part == 0,
                part == 1,
            )
    atol = 1e-12 if dtype is np.float64 else 1e-5
    np.testing.assert_allclose(mine, theirs.detach(), atol=atol)
    np.testing.assert_array_equal(mine[4], weight[4])
    assert not masked or not mine[mask == 0].any()


DARK, LIGHT = scattered(60, 60, 0.2), scattered(60, 60, 0.9)


@pytest.mark.parametrize(
    ("images", "first", "density", "kind"),
    [
        (DARK, True, 1.0, LIT),
        (DARK, True, 0.4, LIT),
        (DARK, True, 0.05, KEPT),
        (LIGHT, True, 1.0, DENSE),
        (LIGHT, True, 0.4, KEPT),
        (DARK, False, 1.0, DENSE),
        (DARK, False, 0.4, KEPT),
        (DARK, False, 0.0, KEPT),
    ],
)
def test_a_layer_is_multiplied_by_what_is_sparsest_in_it(images, first, density, kind):
    mask = np.random.default_rng(0).random((64, 60)) < density
    own = CompiledImages(split(images), "unit", np.float32, is_dark(split(images)))
    assert kind_of(mask, first, own) == kind
    assert kind_of(np.ones((10, 64), bool), False, own) == KEPT


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("density", [1.0, 0.8, 0.3, 0.05])
@pytest.mark.parametrize("images", [DARK, LIGHT], ids=["dark", "light"])
def test_layers_are_what_was_put_in_whatever_their_kind(images, density, dtype):
    rng = np.random.default_rng(0)
    masks = tuple(
        rng.random((d_out, d_in)) < density
        for d_in, d_out in zip(SMALL.widths, SMALL.widths[1:], strict=False)
    )
    group, _ = networks(images, masks, dtype=dtype)
    start = engine.initial_layers(0, SMALL)
    for (weight, bias), (first, zero), mask in zip(group.layers(), start, masks, strict=True):
        np.testing.assert_array_equal(weight[0], first[0].numpy() * mask)
        np.testing.assert_array_equal(bias[0], zero[0])
    other = [
        (torch.randn(w.shape) * torch.from_numpy(m), b + 1)
        for (w, b), m in zip(start, masks, strict=True)
    ]
    group.set_layers(other)
    for found, put in zip(group.layers(), other, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(found, put, strict=True))


def test_layers_are_copies():
    group, _ = networks(DARK)
    before = group.layers()
    group.run(0, 2)
    assert not torch.equal(before[0][0], group.layers()[0][0])
    after = group.layers()
    after[0][0][:] = 7
    assert not (group.layers()[0][0] == 7).any()


@pytest.mark.parametrize("limit", [None, 1, 30, 60, 99])
def test_accuracy_is_the_share_of_images_whose_largest_logit_is_the_labels(limit):
    group, own = networks(DARK)
    x = torch.from_numpy(DARK[:limit]).float() / 255
    for i, (weight, bias) in enumerate(group.layers()):
        x = torch.nn.functional.linear(x.relu() if i else x, weight[0], bias[0])
    expected = (x.argmax(1).numpy() == own.labels[:-1][:limit]).mean()
    assert group.accuracy(own, limit) == [expected]


def test_memory_begins_at_a_cache_line():
    for shape in ((3, 5), (1,), (7, 13, 11)):
        for dtype in TYPES:
            zeros = compiled_networks._zeros(shape, np.dtype(dtype))
            assert zeros.ctypes.data % 64 == 0
            assert (zeros.dtype, zeros.shape, zeros.any()) == (dtype, shape, False)
