"""The arithmetic of pruning against its definitions: plain loops, autograd, and what the
publications prove.
"""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bogp.errors import InvalidInput
from bogp.training import weight_scores

seeds = st.integers(0, 2**32 - 1)
widths = st.lists(st.integers(1, 9), min_size=2, max_size=5)


def layers(seed, widths, levels=None):
    """Weights (d_out, d_in) of each layer, of either sign; with ``levels`` of so many sizes only,
    so that many are equal.
    """
    rng = np.random.default_rng(seed)
    shapes = [(d_out, d_in) for d_in, d_out in zip(widths, widths[1:], strict=False)]
    if levels:
        return [
            rng.integers(1, levels + 1, shape) * rng.choice([-0.5, 0.5], shape) for shape in shapes
        ]
    return [rng.normal(size=shape) for shape in shapes]


def everything(network):
    return [np.ones(w.shape, bool) for w in network]


def by_hand(worth, alive, count):
    """Sort the living weights of all layers by worth, equal ones by position, and keep the first
    ``count``.
    """
    places = [(layer, *at) for layer, mask in enumerate(alive) for at in np.argwhere(mask).tolist()]
    # a sort that leaves equal ones in their order
    places.sort(key=lambda place: -worth[place[0]][place[1:]])
    keep = [np.zeros(mask.shape, bool) for mask in alive]
    for layer, row, column in places[:count]:
        keep[layer][row, column] = True
    return keep


def same(found, expected):
    return all((a == b).all() for a, b in zip(found, expected, strict=True))


# LAMP


@given(seeds, st.integers(1, 7), st.integers(1, 7))
def test_lamp_is_each_square_over_the_sum_of_those_at_least_as_large(seed, d_in, d_out):
    (weights,) = layers(seed, (d_in, d_out))
    expected = np.zeros_like(weights)
    for at in np.ndindex(weights.shape):
        expected[at] = weights[at] ** 2 / sum(
            w**2 for w in weights.reshape(-1) if abs(w) >= abs(weights[at])
        )
    np.testing.assert_allclose(weight_scores.lamp(weights), expected, rtol=1e-12)


@given(seeds, st.integers(1, 8), st.integers(1, 8), st.sampled_from([None, 1, 3]), st.floats(0, 1))
def test_in_one_layer_lamp_ranks_as_magnitude_does_equal_weights_too(
    seed, d_in, d_out, levels, share
):
    network = layers(seed, (d_in, d_out), levels)
    count = round(share * network[0].size)
    found = weight_scores.highest([weight_scores.lamp(network[0])], everything(network), count)
    assert same(found, by_hand([abs(network[0])], everything(network), count))


@given(seeds, widths, st.sampled_from([None, 1, 2]), st.integers(-30, 30))
def test_lamp_empties_no_layer_before_every_layer_is_down_to_one_weight(
    seed, widths, levels, scale
):
    network = layers(seed, widths, levels)
    network[0] = network[0] * 10.0**scale  # by magnitude alone this layer would go first, or last
    kept = weight_scores.highest(
        [weight_scores.lamp(w) for w in network], everything(network), len(network)
    )
    assert [int(mask.sum()) for mask in kept] == [1] * len(network)
    assert [w[mask].item() ** 2 for w, mask in zip(network, kept, strict=True)] == [
        (w**2).max() for w in network
    ]


def test_lamp_gives_pruned_weights_nothing_and_the_others_what_they_have_without_them():
    (weights,) = layers(0, (6, 5))
    alive = weights > -0.3
    found = weight_scores.lamp(np.where(alive, weights, 0.0))
    assert (found[~alive] == 0).all()
    np.testing.assert_allclose(
        found[alive], weight_scores.lamp(weights[alive].reshape(1, -1))[0], rtol=1e-12
    )
    assert (weight_scores.lamp(np.zeros((2, 3))) == 0).all()


# SNIP


class Gated(nn.Module):
    """A network whose every weight has a factor in front of it, 1 at first: the mask c of Lee et
    al. (2019).
    """

    def __init__(self, weights, biases):
        super().__init__()
        self.c = nn.ParameterList(torch.ones(w.shape, dtype=torch.float64) for w in weights)
        self.linears = nn.ModuleList(
            nn.Linear(w.shape[1], w.shape[0], dtype=torch.float64) for w in weights
        )
        for linear, w, b in zip(self.linears, weights, biases, strict=True):
            linear.weight.data, linear.bias.data = torch.tensor(w), torch.tensor(b)

    def forward(self, x):
        for at, (c, linear) in enumerate(zip(self.c, self.linears, strict=True)):
            x = nn.functional.linear(torch.relu(x) if at else x, c * linear.weight, linear.bias)
        return x


@pytest.mark.parametrize("extra_softmax", [False, True])
@pytest.mark.parametrize("widths", [(6, 4), (6, 5, 4), (6, 5, 7, 4)], ids=str)
def test_snip_is_how_the_loss_feels_a_factor_in_front_of_each_weight(widths, extra_softmax):
    rng = np.random.default_rng(7)
    weights, biases = layers(7, widths), [rng.normal(size=d) for d in widths[1:]]
    images, labels = rng.normal(size=(40, 6)), rng.integers(0, 4, 40)
    gated = Gated(weights, biases)
    logits = gated(torch.from_numpy(images))
    likelihood = (logits.softmax(1) if extra_softmax else logits).log_softmax(1)[
        torch.arange(40), torch.from_numpy(labels)
    ]
    (-likelihood.mean()).backward()
    found = weight_scores.snip(weights, biases, images, labels, extra_softmax)
    assert max(float(score.max()) for score in found) > 1e-3
    for score, c in zip(found, gated.c, strict=True):
        np.testing.assert_allclose(score, c.grad.abs(), rtol=1e-10, atol=1e-15)


def test_snip_agrees_with_turning_each_factor_a_little():
    rng = np.random.default_rng(1)
    weights, biases = layers(1, (4, 3, 3)), [rng.normal(size=3), rng.normal(size=3)]
    images, labels = rng.normal(size=(9, 4)), rng.integers(0, 3, 9)
    found = weight_scores.snip(weights, biases, images, labels)

    def loss(factor, layer, at):
        x = images
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            w = w.copy()
            if i == layer:
                w[at] *= factor
            x = (np.maximum(x, 0) if i else x) @ w.T + b
        return float(np.mean(np.log(np.exp(x).sum(axis=1)) - x[np.arange(9), labels]))

    for layer, score in enumerate(found):
        for at in np.ndindex(score.shape):
            slope = (loss(1 + 1e-6, layer, at) - loss(1 - 1e-6, layer, at)) / 2e-6
            assert score[at] == pytest.approx(abs(slope), abs=1e-8)


# SynFlow


def test_synflow_is_the_sum_over_all_paths_of_the_product_of_absolute_weights():
    widths = (3, 2, 4, 2)
    network = layers(3, widths)
    expected = [np.zeros_like(w) for w in network]
    for units in product(*map(range, widths)):
        steps = list(zip(units[1:], units, strict=False))
        share = np.prod([abs(w[step]) for w, step in zip(network, steps, strict=True)])
        for score, step in zip(expected, steps, strict=True):
            score[step] += share
    for found, score in zip(weight_scores.synflow(network), expected, strict=True):
        np.testing.assert_allclose(found, score, rtol=1e-12)


@given(seeds, widths)
def test_synflow_is_weight_times_gradient_of_what_leaves_the_network(seed, widths):
    network = layers(seed, widths)
    parameters = [torch.tensor(w, requires_grad=True) for w in network]
    flow = torch.ones(widths[0], dtype=torch.float64)
    for parameter in parameters:
        flow = parameter.abs() @ flow
    flow.sum().backward()
    for found, parameter in zip(weight_scores.synflow(network), parameters, strict=True):
        np.testing.assert_allclose(found, (parameter.grad * parameter).detach(), rtol=1e-10)


@given(seeds, widths, st.floats(0, 0.9))
def test_synflow_conserves_what_flows_through_each_layer_and_hidden_unit(seed, widths, pruned):
    rng = np.random.default_rng(seed)
    found = weight_scores.synflow(
        [np.where(rng.random(w.shape) < pruned, 0.0, w) for w in layers(seed, widths)]
    )
    np.testing.assert_allclose(
        [score.sum() for score in found], found[0].sum(), rtol=1e-9, atol=1e-12
    )
    for into, out in zip(found, found[1:], strict=False):
        np.testing.assert_allclose(into.sum(axis=1), out.sum(axis=0), rtol=1e-9, atol=1e-12)


def test_a_path_that_is_cut_carries_nothing():
    network = layers(0, (3, 2, 2))
    network[1][:, 0] = 0.0  # hidden unit 0 leads nowhere
    found = weight_scores.synflow(network)
    assert (found[0][0] == 0).all()
    assert (found[0][1] > 0).all()


# Which weights stay


@given(seeds, widths, st.sampled_from([None, 1, 3]), st.floats(0, 1), st.floats(0, 1))
def test_the_weights_of_highest_worth_stay_and_of_equal_ones_the_first(
    seed, widths, levels, living, share
):
    worth = [abs(w) for w in layers(seed, widths, levels)]
    rng = np.random.default_rng(seed)
    alive = [rng.random(w.shape) < living for w in worth]
    count = round(share * sum(int(mask.sum()) for mask in alive))
    before = [mask.copy() for mask in alive]
    found = weight_scores.highest(worth, alive, count)
    assert same(found, by_hand(worth, alive, count))
    assert sum(int(mask.sum()) for mask in found) == count
    assert same(alive, before)  # what was handed over is left as it was


@pytest.mark.parametrize("count", [-1, 6])
def test_more_weights_than_are_alive_cannot_stay(count):
    alive = [np.array([[True, False, True]]), np.array([[True], [True], [True]])]
    with pytest.raises(InvalidInput, match=f"{count} weights are to stay; 5 are there"):
        weight_scores.highest([np.ones(a.shape) for a in alive], alive, count)


# Erdos-Renyi kernel


def shares_by_bisection(total, shapes):
    """min(size, eps * (d_in + d_out)) of each layer, for the eps at which they sum up to
    ``total``.
    """
    low, high = 0.0, float(max(a * b for a, b in shapes))
    for _ in range(200):
        eps = (low + high) / 2
        low, high = (
            (eps, high) if sum(min(a * b, eps * (a + b)) for a, b in shapes) < total else (low, eps)
        )
    return [min(a * b, high * (a + b)) for a, b in shapes]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_erk_keeps_in_proportion_to_the_units_at_both_ends_and_full_layers_dense(shapes, density):
    total = round(density * sum(a * b for a, b in shapes))
    found, expected = weight_scores.erk(total, shapes), shares_by_bisection(total, shapes)
    assert sum(found) == total
    for count, share, (a, b) in zip(found, expected, shapes, strict=True):
        assert 0 <= count <= a * b
        assert abs(count - share) < 1
        assert share < a * b - 1e-6 or count == a * b
    rest = [
        (count >= share + 1e-6, share - int(share + 1e-9))
        for count, share in zip(found, expected, strict=True)
    ]
    up, down = (
        [r for rounded_up, r in rest if rounded_up],
        [r for rounded_up, r in rest if not rounded_up and r > 1e-6],
    )
    # the largest remainders are rounded up
    assert not up or not down or min(up) >= max(down) - 1e-6


def test_erk_of_the_papers_network_by_hand():
    shapes = [(128, 784), (128, 128), (10, 128)]
    # 11,802 weights at sparsity .90, shared 912 : 256 : 138 = 8,241.52 : 2,313.41 : 1,247.07.
    assert weight_scores.erk(11_802, shapes) == [8_242, 2_313, 1_247]
    # At .60, 47,206: the last layer is full, and 45,926 are shared 912 : 256 = 35,860.03 :
    # 10,065.97.
    assert weight_scores.erk(47_206, shapes) == [35_860, 10_066, 1_280]
    # At .15, 100,314: the hidden layer is full too.
    assert weight_scores.erk(100_314, shapes) == [100_314 - 16_384 - 1_280, 16_384, 1_280]


# Threads


@pytest.mark.parametrize("score", ["snip", "synflow"])
def test_the_bits_do_not_depend_on_the_number_of_threads_which_is_left_as_it_was(score):
    rng = np.random.default_rng(0)
    network, threads, found = layers(0, (300, 200, 10)), torch.get_num_threads(), []
    biases, images, labels = (
        [rng.normal(size=200), rng.normal(size=10)],
        rng.random((500, 300)),
        rng.integers(0, 10, 500),
    )
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(
                weight_scores.synflow(network)
                if score == "synflow"
                else weight_scores.snip(network, biases, images, labels)
            )
            assert torch.get_num_threads() == number
        with pytest.raises(ValueError, match="shorter"):
            weight_scores.snip(network, biases[:1], images, labels)
        assert torch.get_num_threads() == 3  # after an error too
    finally:
        torch.set_num_threads(threads)
    assert same(found[0], found[1])
    assert same(found[0], found[2])


# GraSP


@given(seeds)
def test_grasp_is_the_fall_of_the_squared_gradient_when_a_weight_shrinks(seed):
    rng = np.random.default_rng(seed)
    weights = layers(seed, (4, 5, 3))
    biases = [rng.normal(size=len(w)) for w in weights]
    images, labels = rng.normal(size=(12, 4)), rng.integers(0, 3, 12)

    def flow(changed):
        """Squared norm of the gradient over the weights, at a network."""
        parameters = [torch.from_numpy(w).requires_grad_() for w in changed]
        hidden = (torch.from_numpy(images) @ parameters[0].T + torch.from_numpy(biases[0])).relu()
        logits = (hidden @ parameters[1].T + torch.from_numpy(biases[1])) / 2.0
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        return sum(float((g**2).sum()) for g in torch.autograd.grad(loss, parameters))

    found = weight_scores.grasp(weights, biases, images, labels, temperature=2.0)
    step = 1e-6
    for layer, at in ((0, (1, 2)), (0, (4, 0)), (1, (2, 3))):
        sides = []
        for sign in (1, -1):
            moved = [w.copy() for w in weights]
            moved[layer][at] *= 1 - sign * step
            sides.append(flow(moved))
        # d/de |g((1 - e) w)|^2 = -2 w (Hg)
        slope = (sides[0] - sides[1]) / (2 * step)
        assert -2 * found[layer][at] == pytest.approx(slope, rel=2e-4, abs=1e-7)
