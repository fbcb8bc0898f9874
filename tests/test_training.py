"""The engine against a plain PyTorch loop, written here from the documentation alone."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from bogp import training
from bogp.datasets import Dataset, Split
from bogp.errors import InvalidInput
from bogp.masks import erdos_renyi, ws_flex
from bogp.protocols import CALIBRATED, CONVERGED, LITERAL, NAMED, PAPER, RELEASED, Protocol
from bogp.relational import layer_masks

IMAGES = 300  # no multiple of the batch sizes, so that it shows which images are left out
SMALL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=64, steps=6)
STOPPING = replace(SMALL, name="stopping", steps=40, check_every=2, patience=2)


def tiny(train=IMAGES, seed=0):
    """Noisy images of ten patterns, mostly black as digits are, hard enough that accuracies lie between chance and one."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((10, 784))
    parts = []
    for size in (train, 100, 100):
        labels = rng.integers(0, 10, size).astype(np.uint8)
        lit = rng.random((size, 784)) < 0.05 + 0.2 * patterns[labels]
        parts.append(Split((lit * rng.integers(0, 256, (size, 784))).astype(np.uint8), labels))
    return Dataset("tiny", *parts)


@pytest.fixture(scope="module")
def data():
    return tiny()


class Reference(NamedTuple):
    """What the plain loop gave."""

    loss: list[float]
    looks: list[float]
    steps: int
    train: float
    validation: float
    test: float
    weights: list[tuple[torch.Tensor, torch.Tensor]]


def linears(model):
    return [m for m in model if isinstance(m, nn.Linear)]


def network(seed, widths):
    torch.manual_seed(seed)
    modules = []
    for d_in, d_out in zip(widths, widths[1:], strict=False):
        modules += [nn.Linear(d_in, d_out), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def reference(masks, seed, protocol, dataset, dtype, init=None):
    """One network after the plain recipe: torch.nn.utils.prune, autograd, torch.optim.Adam."""
    model = network(seed, protocol.widths).to(dtype)
    if init:
        for layer, (weight, bias) in zip(linears(model), init, strict=True):
            layer.weight.data, layer.bias.data = weight.to(dtype, copy=True), bias.to(dtype, copy=True)
    for layer, mask in zip(linears(model), masks, strict=True):
        if mask is not None:
            prune.custom_from_mask(layer, "weight", torch.from_numpy(mask))

    def tensors(*splits):
        images = torch.from_numpy(np.concatenate([s.images for s in splits])).to(dtype)
        labels = torch.from_numpy(np.concatenate([s.labels for s in splits])).long()
        return images / 255 if protocol.input_scaling == "unit" else images, labels

    train, selection, test = [dataset.train], dataset.validation, dataset.test
    if protocol.split == "reported":
        train, selection = [dataset.train, dataset.validation], dataset.test
    x, y = tensors(*train)

    def share_correct(images, labels):
        with torch.no_grad():
            return (model(images).argmax(1) == labels).sum().item() / len(labels)

    def order():
        generator = torch.Generator().manual_seed(seed)
        while True:
            permutation = torch.randperm(len(x), generator=generator)
            for i in range(len(x) // protocol.batch_size):
                yield permutation[i * protocol.batch_size : (i + 1) * protocol.batch_size]

    adam = torch.optim.Adam(model.parameters(), lr=protocol.learning_rate)
    factor = (lambda t: 1 - t / protocol.steps) if protocol.schedule == "linear" else (lambda t: 1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, factor)
    batch_order = order() if protocol.batch_size else None
    losses, looks, best, best_step, best_state, waited = [], [], -1.0, 0, None, 0
    for step in range(1, protocol.steps + 1):
        index = next(batch_order) if batch_order else slice(None)
        logits = model(x[index])
        loss = nn.functional.cross_entropy(logits.softmax(1) if protocol.loss == "softmax_cross_entropy" else logits, y[index])
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        losses.append(loss.item())
        if protocol.check_every and step % protocol.check_every == 0:
            looks.append(share_correct(*tensors(selection)))
            waited += 1
            if looks[-1] > best:
                best, best_step, waited = looks[-1], step, 0
                best_state = {name: value.clone() for name, value in model.state_dict().items()}
            if waited == protocol.patience:
                break
    if best_state:
        model.load_state_dict(best_state)
        model(x[:1])  # torch.nn.utils.prune recomputes the masked weight in a forward pass
    sample = slice(0, len(selection))
    return Reference(
        losses,
        looks,
        best_step if best_state else len(losses),
        share_correct(x[sample], y[sample]),
        share_correct(*tensors(selection)),
        share_correct(*tensors(test)),
        [(layer.weight.detach(), layer.bias.detach()) for layer in linears(model)],
    )


def masks_for(protocol, seed=0, sparsity=0.7, n=None):
    graph = erdos_renyi(n or min(protocol.widths[1:-1]), sparsity, np.random.default_rng(seed))
    return layer_masks(graph, protocol.widths, protocol.masked_layers)


def dense(protocol):
    return (None,) * (len(protocol.widths) - 1)


def agree(engine, at, plain, precision):
    """Float64 leaves no room for rounding; in float32 an image may stand on the edge between two classes."""
    steps = len(plain.loss)
    np.testing.assert_allclose(engine.loss[at, :steps], plain.loss, rtol=1e-9 if precision == "float64" else 1e-4)
    found = [engine.train_accuracy[at], engine.validation_accuracy[at], engine.test_accuracy[at]]
    np.testing.assert_allclose(found, [plain.train, plain.validation, plain.test], atol=1e-12 if precision == "float64" else 1 / 100)


SHORT = {
    "paper": replace(PAPER, steps=5),
    "literal": replace(LITERAL, steps=5),
    "released": replace(RELEASED, steps=5),
    "calibrated": replace(CALIBRATED, steps=5),  # two batches an epoch
    "converged": replace(CONVERGED, steps=6, check_every=2, patience=1),
}


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "scope"),
    [(name, scope) for name in SHORT for scope in (("input",) if name == "literal" else ("hidden", "all"))],
)
def test_every_named_protocol_computes_what_the_plain_loop_computes(name, scope, precision, data):
    protocol = replace(SHORT[name], scope=scope)
    nets = [masks_for(protocol, 1), masks_for(protocol, 2, n=100)] if scope != "hidden" else [masks_for(protocol, 1), dense(protocol)]
    engine = training.train(nets, [3, 4], protocol, data, precision=precision)
    for at, (masks, seed) in enumerate(zip(nets, [3, 4], strict=True)):
        agree(engine, at, reference(masks, seed, protocol, data, getattr(torch, precision)), precision)


def test_named_protocols_are_all_compared_above():
    assert set(SHORT) == set(NAMED)


@pytest.mark.parametrize("tile", [100, 256])
@pytest.mark.parametrize("batch_size", [None, 64])
def test_how_the_work_is_cut_into_tiles_changes_nothing_but_rounding(batch_size, tile, data, monkeypatch):
    monkeypatch.setattr(training, "TILE_ROWS", tile)  # several tiles a batch, an incomplete one among them
    protocol = replace(SMALL, batch_size=batch_size)
    nets = [masks_for(protocol, k) for k in range(5)]
    engine = training.train(nets, range(5), protocol, data, precision="float64")
    for at, masks in enumerate(nets):
        agree(engine, at, reference(masks, at, protocol, data, torch.float64), "float64")


def test_early_stopping_ends_where_the_plain_loop_ends_and_restores_the_best_weights(data):
    nets, seeds = [masks_for(STOPPING, k) for k in range(4)], [0, 1, 2, 3]
    engine = training.train(nets, seeds, STOPPING, data, precision="float64", return_weights=True)
    plain = [reference(masks, seed, STOPPING, data, torch.float64) for masks, seed in zip(nets, seeds, strict=True)]
    stops = [len(p.loss) for p in plain]
    assert len(set(stops)) > 1  # else the test says little: one network waits while another goes on
    assert min(stops) < STOPPING.steps
    assert engine.loss.shape == (4, max(stops))
    for at, p in enumerate(plain):
        agree(engine, at, p, "float64")
        assert engine.steps[at] == p.steps < len(p.loss)
        assert engine.validation_accuracy[at] == max(p.looks) == engine.looks[at, p.steps // 2 - 1]
        np.testing.assert_array_equal(engine.looks[at, : len(p.looks)], p.looks)
        for (weight, bias), (plain_weight, plain_bias) in zip(engine.weights, p.weights, strict=True):
            torch.testing.assert_close(weight[at], plain_weight, rtol=1e-7, atol=1e-9)
            torch.testing.assert_close(bias[at], plain_bias, rtol=1e-7, atol=1e-9)


def test_without_early_stopping_every_step_counts_and_there_are_no_looks(data):
    result = training.train([dense(SMALL)] * 2, [0, 1], SMALL, data)
    assert result.steps.tolist() == [6, 6]
    assert result.loss.shape == (2, 6)
    assert result.looks.shape == (2, 0)
    assert result.weights is None


@pytest.mark.parametrize("scope", ["hidden", "all"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_pruned_weights_stay_exactly_zero_and_the_others_move(scope, steps, data):
    protocol = replace(SMALL, scope=scope, steps=steps)
    masks = masks_for(protocol)
    result = training.train([masks], [0], protocol, data, return_weights=True)
    start = linears(network(0, protocol.widths))
    for (weight, bias), mask, layer in zip(result.weights, masks, start, strict=True):
        moved = (weight[0] != layer.weight).numpy()
        if mask is not None:
            assert (weight[0].numpy()[~mask] == 0).all()
            moved = moved[mask]
        assert moved.mean() > 0.5  # units that no image switches on stay where they are
        assert (bias[0] != layer.bias).float().mean() > 0.5


def test_pruned_weights_are_zero_at_the_end_of_early_stopping(data):
    masks = masks_for(replace(STOPPING, scope="all"))
    result = training.train([masks], [0], STOPPING, data, return_weights=True)
    for (weight, _), mask in zip(result.weights, masks, strict=True):
        assert mask is None or ((weight[0] != 0).numpy() <= mask).all()


def test_initial_weights_are_those_of_linear_layers_after_manual_seed():
    for seed in (0, 7):
        for (weight, bias), layer in zip(training.initial_layers(seed, PAPER), linears(network(seed, PAPER.widths)), strict=True):
            assert torch.equal(weight[0], layer.weight)
            assert torch.equal(bias[0], layer.bias)


def test_batches_follow_a_fresh_permutation_each_epoch_and_leave_out_an_incomplete_batch():
    generator = torch.Generator().manual_seed(5)
    epochs = [torch.randperm(23, generator=generator) for _ in range(2)]
    expected = [epoch[i : i + 10] for epoch in epochs for i in (0, 10)]
    found = training.batches(5, 23, replace(SMALL, batch_size=10))
    for batch in expected:
        assert torch.equal(next(found), batch)


def test_training_leaves_torchs_generator_and_thread_count_alone(data):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.manual_seed(123)
        before, seen = torch.get_rng_state(), []
        training.train([dense(SMALL)] * 2, [0, 1], SMALL, data, on_step=lambda: seen.append(torch.get_num_threads()))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 3
        assert seen == [training.THREADS] * 2 * SMALL.steps  # once a step of each, and with the fixed number of threads
        with pytest.raises(ZeroDivisionError):
            training.train([dense(SMALL)], [0], SMALL, data, on_step=lambda: 1 / 0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def bits(result, at):
    """Every number of one network, for a comparison bit by bit."""
    steps = result.steps[at]
    return [
        result.train_accuracy[at],
        result.validation_accuracy[at],
        result.test_accuracy[at],
        steps,
        result.loss[at, :steps].tobytes(),
        *(p[at].numpy().tobytes() for layer in result.weights for p in layer),
    ]


COMPANY = {
    "mini-batch": replace(CALIBRATED, steps=4),
    "full batch": replace(PAPER, steps=3),
    "every layer": replace(CALIBRATED, scope="all", steps=4),
    "released": replace(RELEASED, batch_size=128, steps=4),
    "early stopping": replace(CONVERGED, widths=(784, 32, 32, 10), learning_rate=1e-2, steps=20, check_every=2, patience=1),
}


@pytest.mark.parametrize("protocol", COMPANY.values(), ids=COMPANY)
def test_a_networks_numbers_do_not_depend_on_its_company(protocol, data):
    nets = [masks_for(protocol, k, sparsity=0.3 + 0.05 * k) for k in range(12)]
    nets[2] = nets[5] = dense(protocol)
    seeds = [0, 1, 2, 3, 4, 5, 0, 0, 8, 9, 10, 11]

    def together(chosen, workers=None):
        masks, own = [nets[i] for i in chosen], [seeds[i] for i in chosen]
        result = training.train(masks, own, protocol, data, return_weights=True, workers=workers)
        return {i: bits(result, at) for at, i in enumerate(chosen)}

    # Alone, in pairs, threes, the eight of an evaluation, and twelve; first, in the middle and last; one at a time or several.
    whole = together([7, 6, 5, 4, 3, 2, 1, 0])
    assert len({repr(b) for b in whole.values()}) == 8
    different = []
    for chosen in ([0], [1], [2], [0, 1], [2, 0], [3, 1, 2], [8, 9, 10, 11, 1, 0, 4, 5, 6, 7, 2, 3]):
        different += [(i, "in", chosen) for i, found in together(chosen).items() if i in whole and found != whole[i]]
    for workers in (1, 3):
        different += [(i, "with", workers, "workers") for i, found in together([2, 0, 1, 3], workers).items() if found != whole[i]]
    assert different == []


def test_the_same_call_gives_the_same_bits(data):
    first, again = (training.train([masks_for(SMALL)], [0], SMALL, data, return_weights=True) for _ in range(2))
    assert bits(first, 0) == bits(again, 0)


def test_another_seed_gives_another_network(data):
    result = training.train([masks_for(SMALL)] * 2, [0, 1], SMALL, data, return_weights=True)
    assert (result.loss[0] != result.loss[1]).all()
    assert not torch.equal(result.weights[0][0][0], result.weights[0][0][1])


def test_no_mask_equals_a_mask_of_ones(data):
    ones = tuple(np.ones((d_out, d_in), bool) for d_in, d_out in zip(SMALL.widths, SMALL.widths[1:], strict=False))
    masked, unmasked = (training.train([dense(SMALL), net], [0, 0], SMALL, data, return_weights=True) for net in (ones, dense(SMALL)))
    for at in range(2):
        assert bits(masked, at) == bits(unmasked, at)


def test_init_continues_from_given_layers_and_leaves_them_as_they_were(data):
    masks = masks_for(SMALL)
    before = training.train([masks] * 2, [0, 1], SMALL, data, precision="float64", return_weights=True).weights
    kept = [(w.clone(), b.clone()) for w, b in before]
    result = training.train([masks] * 2, [5, 6], SMALL, data, before, precision="float64")
    for at, seed in enumerate((5, 6)):  # the seed still fixes the batch order
        init = [(w[at], b[at]) for w, b in kept]
        agree(result, at, reference(masks, seed, SMALL, data, torch.float64, init), "float64")
    for layer, old in zip(before, kept, strict=True):
        assert torch.equal(layer[0], old[0])
        assert torch.equal(layer[1], old[1])


def test_init_under_another_mask_is_pruned_by_it(data):
    masks = masks_for(SMALL)
    start = training.initial_layers(0, SMALL)
    result = training.train([masks], [0], replace(SMALL, steps=1), data, start, return_weights=True)
    assert (result.weights[1][0][0].numpy()[~masks[1]] == 0).all()
    assert (start[1][0] != 0).all()


@pytest.mark.parametrize("networks", [1, 3])
def test_init_of_another_number_of_networks_is_refused(networks, data):
    start = [(torch.cat([w] * networks), torch.cat([b] * networks)) for w, b in training.initial_layers(0, SMALL)]
    with pytest.raises(InvalidInput):
        training.train([dense(SMALL)] * 2, [0, 1], SMALL, data, start)


def halves_swapped(a):
    """Two masks of equal sparsity, I (x) A and X (x) A: one graph falls into two parts, the other is connected (design, section 7)."""
    n = 2 * len(a)
    return np.kron(np.eye(2, dtype=bool), a), np.roll(np.arange(n), n // 2), np.arange(n)


def shuffled(mask):
    rng = np.random.default_rng(3)
    return mask, rng.permutation(len(mask)), rng.permutation(len(mask))


@pytest.mark.parametrize(
    "case",
    [
        halves_swapped(ws_flex(32, 0.7, np.random.default_rng(0))),
        shuffled(ws_flex(64, 0.8, np.random.default_rng(1))),
    ],
    ids=["two halves swapped", "random permutations"],
)
def test_in_scope_hidden_a_mask_permuted_on_both_sides_is_the_same_network(case, data):
    mask, rows, columns = case
    protocol = Protocol("permuted", widths=(784, 64, 64, 10), learning_rate=1e-2, steps=10)
    (w1, b1), (w2, b2), (w3, b3) = training.initial_layers(0, protocol)
    permuted = [(w1[:, columns], b1[:, columns]), (w2[:, rows][:, :, columns], b2[:, rows]), (w3[:, :, rows], b3)]
    other = mask[rows][:, columns]
    assert (other != mask).any()
    first, second = (
        training.train([(None, m, None)], [0], protocol, data, init, precision="float64") for m, init in ((mask, None), (other, permuted))
    )
    np.testing.assert_allclose(first.loss, second.loss, rtol=1e-11)
    assert first.loss[0, -1] < 0.9 * first.loss[0, 0]  # it did train
    untouched = training.train([(None, other, None)], [0], protocol, data, precision="float64")
    assert abs(untouched.loss / first.loss - 1).max() > 1e-3  # with other weights it is another network


def test_masks_and_seeds_must_be_as_many(data):
    with pytest.raises(InvalidInput, match="2 seeds"):
        training.train([dense(SMALL)], [0, 1], SMALL, data)


def test_no_network_is_refused(data):
    with pytest.raises(InvalidInput, match="at least one"):
        training.train([], [], SMALL, data)


def test_a_layer_without_an_entry_is_refused(data):
    with pytest.raises(InvalidInput, match="3 layers; 2"):
        training.train([(None, None)], [0], SMALL, data)


def test_a_transposed_mask_is_refused(data):
    with pytest.raises(InvalidInput, match="layer 0"):
        training.train([(np.ones((784, 16), bool), None, None)], [0], SMALL, data)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(InvalidInput, match="101"):
        training.train([dense(SMALL)], [0], replace(SMALL, batch_size=101), tiny(train=100))


def test_an_input_width_that_is_not_the_images_is_refused(data):
    with pytest.raises(InvalidInput, match="784 pixels"):
        training.train([(None, None, None)], [0], replace(SMALL, widths=(100, 16, 16, 10)), data)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "", torch.float32])
def test_an_unknown_precision_is_refused(precision, data):
    with pytest.raises(InvalidInput, match="float32, float64"):
        training.train([dense(SMALL)], [0], SMALL, data, precision=precision)
