"""Networks whose units are renumbered have the same losses; others do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bogp.errors import InvalidInput
from bogp.graphs.bipartite import exchangeable_pair
from bogp.graphs.families import erdos_renyi
from bogp.training import engine
from bogp.training.protocols import Protocol
from bogp.training.symmetries import loss_gap, losses, renumbered_layers, renumbered_masks

N = 24
PLAIN = Protocol(
    "plain", widths=(784, N, N, N, 10), learning_rate=1e-2, batch_size=50, steps=20, scope="all"
)
RESIDUAL = replace(PLAIN, name="residual", blocks="residual", scope="hidden")
AS_IS = [None] * 5


def rng(seed=0):
    return np.random.default_rng(seed)


def gap(first, second, orders, protocol, digits, seed=0):
    return loss_gap(losses([first, second], [AS_IS, orders], protocol, digits, seed))


@pytest.mark.parametrize("seed", range(2))
def test_any_order_of_each_layer_is_the_same_plain_network(seed, digits):
    """Masks need not be symmetric nor square blocks of one another."""
    source = rng(seed)
    masks = (*(source.random((N, d)) < 0.4 for d in (784, N, N)), None)
    orders = [None, *(source.permutation(N) for _ in range(3)), None]
    moved = renumbered_masks(masks, orders)
    assert gap(masks, moved, orders, PLAIN, digits, seed) < 1e-12
    assert gap(masks, moved, AS_IS, PLAIN, digits, seed) > 1e-4
    assert gap(masks, masks, orders, PLAIN, digits, seed) > 1e-4


@pytest.mark.parametrize("layers", [1, 2])
def test_a_symmetric_twin_in_one_layer_is_one_in_a_chain(layers, digits):
    """Two copies of a graph and its bipartite double cover, over one layer and over two."""
    first, second = exchangeable_pair(erdos_renyi(N // 2, 0.6, rng()))
    swap = np.roll(np.arange(N), N // 2)
    masks = [(None, m, m if layers == 2 else None, None) for m in (first, second)]
    orders = [None, None, swap, None, None]
    assert gap(*masks, orders, PLAIN, digits) < 1e-12
    assert gap(*masks, AS_IS, PLAIN, digits) > 1e-3


def test_a_residual_stream_has_one_order(digits):
    mask, source = erdos_renyi(N, 0.7, rng()), rng(1)
    masks = (None, mask, mask, None)
    order = source.permutation(N)
    together = [None, order, order, order, None]
    moved = renumbered_masks(masks, together)
    np.testing.assert_array_equal(moved[1], mask[np.ix_(order, order)])
    assert gap(masks, moved, together, RESIDUAL, digits) < 1e-12
    apart = [None, order, source.permutation(N), order, None]
    assert gap(masks, renumbered_masks(masks, apart), apart, RESIDUAL, digits) > 1e-3
    # what two plain layers cannot tell apart, the stream does
    pair = [(None, m, m, None) for m in exchangeable_pair(erdos_renyi(N // 2, 0.6, rng()))]
    swap = [None, None, np.roll(np.arange(N), N // 2), None, None]
    assert gap(*pair, swap, RESIDUAL, digits) > 1e-3


def test_inputs_keep_their_numbers(digits):
    source = rng(2)
    mask, order = source.random((N, 784)) < 0.1, source.permutation(784)
    masks = (mask, None, None, None)
    inputs = [order, None, None, None, None]
    moved = renumbered_masks(masks, inputs)
    np.testing.assert_array_equal(moved[0], mask[:, order])
    assert gap(masks, moved, inputs, PLAIN, digits) > 1e-3


def test_renumbered_layers_compute_the_same(digits):
    layers, source = engine.initial_layers(3, PLAIN), rng(3)
    orders = [source.permutation(784), *(source.permutation(N) for _ in range(3)), None]
    x = torch.from_numpy(digits.train.images[:5]).float() / 255

    def computed(layers, x):
        for i, (weight, bias) in enumerate(layers):
            x = (x if i == 0 else x.relu()) @ weight[0].T + bias[0]
        return x

    moved = renumbered_layers(layers, orders)
    torch.testing.assert_close(computed(moved, x[:, orders[0]]), computed(layers, x))


def test_all_are_trained_in_float64_on_the_same_batches(digits, monkeypatch):
    asked, train = {}, engine.train

    def spy(masks, seeds, *args, **kwargs):
        asked.update(seeds=seeds, **kwargs)
        return train(masks, seeds, *args, **kwargs)

    monkeypatch.setattr(engine, "train", spy)
    masks = [(None, mask, None, None) for mask in (np.eye(N, dtype=bool), np.ones((N, N), bool))]
    found = losses(masks, [AS_IS, AS_IS], PLAIN, digits, 7)
    assert (asked["precision"], asked["seeds"]) == ("float64", [7, 7])
    own = train(masks[:1], [7], PLAIN, digits, precision="float64")
    np.testing.assert_array_equal(found[0], own.loss[0])
    assert found.shape == (2, PLAIN.steps)


def test_the_gap_is_the_largest_relative_difference_of_two_curves():
    curves = np.array([[4.0, 2.0, 0.5], [4.0, 1.6, 0.49]])
    assert loss_gap(curves) == loss_gap(curves[::-1]) == pytest.approx(0.2)
    assert np.isnan(loss_gap(np.array([[1.0, np.nan], [1.0, 1.0]])))


def test_a_training_that_diverges_has_no_gap(digits):
    wild, dense = replace(PLAIN, learning_rate=1e300), (None,) * 4
    assert np.isnan(gap(dense, dense, AS_IS, wild, digits))


@pytest.mark.parametrize(
    "orders", [AS_IS[1:], [*AS_IS, None], [None, np.zeros(N, int), *AS_IS[2:]]]
)
def test_what_is_no_order_is_refused(orders, digits):
    with pytest.raises(InvalidInput, match="permutation"):
        losses([(None,) * 4], [orders], PLAIN, digits, 0)
