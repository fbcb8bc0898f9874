"""The kernels one by one: against dense products of numpy, autograd and PyTorch's own optimiser."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bogp.training import compiled_networks, kernels
from bogp.training.kernels import Parameters
from bogp.training.protocols import CALIBRATED, PAPER, Protocol

TYPES = [np.float32, np.float64]
CLOSE = {np.float32: 2e-6, np.float64: 1e-14}  # relative, of sums of some dozen terms


def numbers(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def close(found, exact, size, dtype):
    """Within rounding of sums whose terms have absolute values that sum up to ``size``."""
    assert (np.abs(found - exact) <= 10 * CLOSE[dtype] * size + 1e-30).all()


# whole spans of eight vectors, of four, of one, and sums of them
WIDTHS = (16, 48, 64, 112, 128, 208)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_products_with_kept_weights_are_dense_products(density, width, dtype):
    rng = np.random.default_rng(0)
    mask = rng.random((13, 21)) < density
    kept = compiled_networks._kept(mask)
    dense = numbers(rng, mask.shape, dtype) * mask
    weight, bias = dense[mask], numbers(rng, 13, dtype)
    x, delta = numbers(rng, (21, width), dtype), numbers(rng, (13, width), dtype)
    for through_relu in (False, True):
        y = np.full((13, width), np.nan, dtype)
        kernels.kept_outputs(kept, weight, bias, x.ravel(), y.ravel(), width, through_relu)
        exact = dense.astype(float) @ x + bias[:, None]
        size = np.abs(dense) @ np.abs(x) + np.abs(bias)[:, None]
        close(y, np.maximum(exact, 0) if through_relu else exact, size, dtype)
    dx = np.full((21, width), np.nan, dtype)
    kernels.kept_inputs(kept, weight, delta.ravel(), dx.ravel(), width)
    close(dx, dense.T.astype(float) @ delta, np.abs(dense.T) @ np.abs(delta), dtype)
    gradient, exact = np.full(len(weight), np.nan, dtype), (delta.astype(float) @ x.T)[mask]
    size = (np.abs(delta) @ np.abs(x.T))[mask]
    for repeats, first in ((1, True), (2, False)):
        kernels.kept_gradient(kept, delta.ravel(), x.ravel(), gradient, width, first)
        close(gradient, repeats * exact, repeats * size, dtype)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_products_with_kept_weights_are_exact_where_nothing_is_rounded(seed, rows, columns, share):
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, columns)) < share
    kept = compiled_networks._kept(mask)
    dense = rng.integers(-9, 10, mask.shape) * mask
    x = rng.integers(-9, 10, (columns, 16))
    y = np.zeros((rows, 16), np.float32)
    kernels.kept_outputs(
        kept,
        dense[mask].astype(np.float32),
        np.zeros(rows, np.float32),
        x.astype(np.float32).ravel(),
        y.ravel(),
        16,
        False,
    )
    np.testing.assert_array_equal(y, dense @ x)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(16, 16), (48, 128), (128, 32)])
def test_a_transpose_is_the_transpose(shape, dtype):
    x = numbers(np.random.default_rng(0), shape, dtype)
    y = np.full(shape[::-1], np.nan, dtype)
    kernels.transpose(x, y)
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("through_relu", [False, True])
def test_biases_and_the_way_back_through_a_relu(through_relu, width, dtype):
    rng = np.random.default_rng(0)
    y, bias = numbers(rng, (5, width), dtype), numbers(rng, 16, dtype)
    expected = y + bias[:5, None]
    kernels.add_bias(bias, y.ravel(), width, through_relu)
    np.testing.assert_array_equal(y, np.maximum(expected, 0) if through_relu else expected)
    y[2, 3] = 0
    dy, delta, gradient = numbers(rng, (5, width), dtype), np.zeros_like(y), np.full(16, 7, dtype)
    exact = dy * (y > 0) if through_relu else dy
    for repeats, first in ((1, True), (2, False)):
        kernels.behind_relu(
            dy.ravel(), y.ravel(), delta.ravel(), gradient, width, through_relu, first
        )
        np.testing.assert_array_equal(delta, exact)
        close(gradient[:5], repeats * exact.sum(1), repeats * np.abs(exact).sum(1), dtype)


LOGITS = {
    "ordinary": np.random.default_rng(0).normal(0, 3, (48, 10)),
    "equal": np.zeros((16, 10)),
    "extreme": np.random.default_rng(1).choice([-1e4, 0.0, 1e4], (64, 10)),
    "one extreme": np.eye(16, 10) * 1e4,
    "large": np.random.default_rng(2).normal(0, 100, (48, 10)),
    "two classes": np.random.default_rng(3).normal(0, 1, (16, 2)),
    "one class": np.zeros((16, 1)),
}


def loss_and_delta(logits, labels, count, share, extra_softmax):
    """The kernel's loss and derivative, (images, classes) as PyTorch has them."""
    own = np.ascontiguousarray(logits.T)
    delta, column = np.full_like(own, np.nan), np.zeros((2, len(logits)), own.dtype)
    loss = kernels.loss_and_delta(
        own, labels, count, own.dtype.type(share), extra_softmax, delta, column[0], column[1]
    )
    return loss, delta.T


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
@pytest.mark.parametrize("in_place", [False, True])
def test_the_softmax_of_each_column_is_torchs(in_place, logits, dtype):
    x = np.ascontiguousarray(logits.T).astype(dtype)
    exact = torch.from_numpy(x.astype(float))
    p = x if in_place else np.full_like(x, np.nan)
    largest, below = np.zeros((2, x.shape[1]), dtype)
    kernels.softmax(x, p, largest, below)
    np.testing.assert_allclose(p, exact.softmax(0), rtol=10 * CLOSE[dtype], atol=1e-30)
    np.testing.assert_array_equal(largest, exact.max(0).values)
    log_sum = (exact - exact.max(0).values).logsumexp(0)
    np.testing.assert_allclose(np.log(below), log_sum, rtol=CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("extra_softmax", [False, True])
@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
@pytest.mark.parametrize("filling", [0, 5])
def test_the_loss_and_its_derivative_are_autograds(filling, logits, extra_softmax, dtype):
    width, classes = logits.shape
    count, labels = width - filling, np.random.default_rng(5).integers(0, classes, width)
    own = logits.astype(dtype)
    batch_size = count + 11  # this is one tile of a batch
    loss, delta = loss_and_delta(own, labels, count, 1 / batch_size, extra_softmax)
    exact = torch.from_numpy(own.astype(float)).requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        (exact.softmax(1) if extra_softmax else exact)[:count],
        torch.from_numpy(labels[:count]),
        reduction="sum",
    )
    (expected / batch_size).backward()
    close(loss, expected.item(), expected.item() + count, dtype)
    np.testing.assert_allclose(delta, exact.grad, rtol=0, atol=CLOSE[dtype] / batch_size)
    assert not delta[count:].any()  # what fills up a tile has no part in a gradient


def test_a_logit_that_is_no_number_gives_a_loss_that_is_none():
    for wrong in (np.nan, np.inf):
        logits = np.zeros((16, 3), np.float32)
        logits[1, 2] = wrong
        assert np.isnan(loss_and_delta(logits, np.zeros(16, np.int64), 16, 1 / 16, False)[0])


@pytest.mark.parametrize(
    "protocol",
    [PAPER, CALIBRATED, Protocol("x", learning_rate=0.5, schedule="linear", steps=10)],
    ids=lambda p: p.name,
)
@pytest.mark.parametrize("size", [16, 48])
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
        step_of = compiled_networks._adam_step(protocol.learning_rate_at(step), step)
        kernels.adam_of(Parameters(mine, mean, square, gradient), np.array(step_of))
        np.testing.assert_allclose(
            mine, theirs.detach(), rtol=1e-12, atol=1e-12 * protocol.learning_rate
        )
    assert mine[0] == start[0]
    assert (mine[1:] != start[1:]).all()


def test_adam_in_float32_is_adam_in_float64_but_for_rounding():
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(64), rng.standard_normal((10, 64))
    found = {}
    for dtype in TYPES:
        parameter, mean, square = start.astype(dtype), np.zeros(64, dtype), np.zeros(64, dtype)
        for step, gradient in enumerate(gradients.astype(dtype)):
            step_of = np.array(compiled_networks._adam_step(0.01, step), dtype)
            kernels.adam_of(Parameters(parameter, mean, square, gradient), step_of)
        found[dtype] = parameter
    assert found[np.float32].dtype == np.float32
    np.testing.assert_allclose(found[np.float32], found[np.float64], atol=2e-6)
