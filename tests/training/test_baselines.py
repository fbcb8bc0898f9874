"""Pruning methods: what they remove, to one weight, and the whole of them against plain PyTorch,
written here from the publications' words.
"""

import json
import math
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from bogp import datasets
from bogp.datasets import Dataset, Split
from bogp.errors import BogpError, InvalidInput, UnreachableSparsity
from bogp.graphs.relational import effective_sparsity, model_sparsity
from bogp.training import baselines, engine, weight_scores
from bogp.training.baselines import ALLOCATIONS, SCORES, Method, first_masks, fit, named
from bogp.training.protocols import PAPER, Protocol

SMALL = Protocol("small", widths=(784, 32, 16, 10), learning_rate=1e-2, batch_size=48, steps=5)
SHAPES, WEIGHTS = [(32, 784), (16, 32), (10, 16)], 25_760
# the paper's 784-128-128-10
WIDE = replace(PAPER, name="wide", batch_size=50, steps=2, split="held_out")
SPARSITIES = (0.15, 0.30, 0.45, 0.60, 0.75, 0.90)


@pytest.fixture(scope="module")
def whole():
    return datasets.load("mnist-5k")


@pytest.fixture(scope="module")
def digits(whole):
    """A tenth of the images."""
    return Dataset(
        "digits",
        *(
            Split(p.images[:n], p.labels[:n])
            for p, n in ((whole.train, 300), (whole.validation, 100), (whole.test, 100))
        ),
    )


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setattr(engine, "cores", lambda: 1)


@pytest.fixture
def calls(monkeypatch):
    """Every training that a method asked for: masks, seeds, and (K, ...) weights before and
    after.
    """
    made, train = [], baselines.train

    def spy(masks, seeds, protocol, dataset, init, **options):
        before = [(w.clone(), b.clone()) for w, b in init]
        result = train(masks, seeds, protocol, dataset, init, **options)
        made.append(
            {"masks": list(masks), "seeds": list(seeds), "before": before, "after": result.weights}
        )
        return result

    monkeypatch.setattr(baselines, "train", spy)
    return made


def plain_network(seed, widths, dtype=torch.float64):
    torch.manual_seed(seed)
    modules = []
    for d_in, d_out in zip(widths, widths[1:], strict=False):
        modules += [nn.Linear(d_in, d_out), nn.ReLU()]
    return nn.Sequential(*modules[:-1]).to(dtype)


def linears(model):
    return [module for module in model if isinstance(module, nn.Linear)]


def initial_weights(seed, widths):
    return [linear.weight.detach().numpy() for linear in linears(plain_network(seed, widths))]


def lamp_by_hand(weights):
    """Each square over the sum of those at least as large, equal ones included;
    tests/training/test_weight_scores.py has the double loop.
    """
    sizes, at, number = np.unique(weights.reshape(-1) ** 2, return_inverse=True, return_counts=True)
    at_least = np.cumsum((sizes * number)[::-1])[::-1]
    return (sizes / at_least)[at].reshape(weights.shape)


def by_hand(worth, alive, count):
    """Sort the living weights of the layers by worth, equal ones by position, and keep the first
    ``count``.
    """
    flat, living = (
        np.concatenate([w.reshape(-1) for w in worth]),
        np.concatenate([a.reshape(-1) for a in alive]),
    )
    places = np.flatnonzero(living)
    ranked = places[np.argsort(-flat[places], kind="stable")]
    keep = np.zeros(len(flat), bool)
    keep[ranked[:count]] = True
    return [
        part.reshape(w.shape)
        for part, w in zip(
            np.split(keep, np.cumsum([w.size for w in worth])[:-1]), worth, strict=True
        )
    ]


def assert_left(masks, shapes, allocation, density):
    """That so many weights are left, to one: in all, and where each layer has its own share, in
    each layer.
    """
    left = [int(mask.sum()) for mask in masks]
    sizes = [a * b for a, b in shapes]
    assert [mask.shape for mask in masks] == shapes
    if allocation == "uniform":
        assert all(
            abs(count - density * size) <= 0.5 for count, size in zip(left, sizes, strict=True)
        )
    else:
        assert sum(left) == round(density * sum(sizes))
    if allocation == "erk":
        assert left == weight_scores.erk(sum(left), shapes)


# How many weights stay


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("score", SCORES)
def test_what_is_left_is_exact_to_one_weight(score, allocation, digits):
    # synflow takes a hundred times as long as the others, and counts as they do
    for sparsity in SPARSITIES[-1:] if score == "synflow" else SPARSITIES:
        for scope, layers in (("all", [0, 1]), ("hidden", [1]), ("input", [0])):
            method = Method(sparsity, score, allocation, layers="masked", allow_empty=True)
            found = first_masks(method, 3, replace(SMALL, scope=scope), digits)
            assert [i for i, mask in enumerate(found) if mask is not None] == layers
            assert_left(
                [found[i] for i in layers], [SHAPES[i] for i in layers], allocation, 1 - sparsity
            )
        found = first_masks(Method(sparsity, score, allocation, allow_empty=True), 3, SMALL, digits)
        assert_left(found, SHAPES, allocation, 1 - sparsity)
        assert model_sparsity(found, SMALL.widths) == pytest.approx(
            sparsity, abs=(1.5 if allocation == "uniform" else 0.5) / WEIGHTS
        )


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("pretrain", [False, True], ids=["from the start", "after training"])
def test_each_round_leaves_its_share_and_what_it_leaves_outranks_what_it_removes(
    rounds, pretrain, digits, calls
):
    """All scores that need the trained weights, allocations and sparsities in one company."""
    methods = [
        Method(s, score, allocation, rounds=rounds, pretrain=pretrain)
        for s in SPARSITIES
        for score in ("magnitude", "lamp")
        for allocation in ALLOCATIONS
    ]
    seeds = [7 + k // 6 for k in range(len(methods))]
    fitted = fit(methods, seeds, SMALL, digits)
    assert len(calls) == rounds + pretrain == methods[0].trainings
    if pretrain:
        assert calls[0]["masks"] == [(None, None, None)] * len(methods)
    for k, method in enumerate(methods):
        alive = [np.ones(shape, bool) for shape in SHAPES]
        weights = (
            [w[k].double().numpy() for w, _ in calls[0]["after"]]
            if pretrain
            else initial_weights(seeds[k], SMALL.widths)
        )
        for number, call in enumerate(calls[pretrain:], 1):
            masks = call["masks"][k]
            assert_left(
                masks, SHAPES, method.allocation, (1 - method.sparsity) ** (number / rounds)
            )
            # nothing comes back
            assert all(not (now & ~before).any() for now, before in zip(masks, alive, strict=True))
            worth = [
                lamp_by_hand(w * a) if method.score == "lamp" else abs(w)
                for w, a in zip(weights, alive, strict=True)
            ]
            groups = [[0, 1, 2]] if method.allocation == "global" else [[0], [1], [2]]
            for group in groups:
                count = sum(int(masks[i].sum()) for i in group)
                expected = by_hand([worth[i] for i in group], [alive[i] for i in group], count)
                if method.score == "magnitude":
                    assert all((masks[i] == e).all() for i, e in zip(group, expected, strict=True))
                else:  # LAMP by hand may round equal weights' sums otherwise
                    assert (
                        sum(
                            int((masks[i] != e).sum()) for i, e in zip(group, expected, strict=True)
                        )
                        <= 2
                    )
                    lowest = min(worth[i][masks[i]].min() for i in group)
                    highest = max(
                        (worth[i][alive[i] & ~masks[i]].max(initial=0.0) for i in group),
                        default=0.0,
                    )
                    assert lowest >= highest * (1 - 1e-12)
            alive, weights = list(masks), [w[k].double().numpy() for w, _ in call["after"]]
            # exactly
            assert all((w[~mask] == 0).all() for w, mask in zip(weights, masks, strict=True))
            assert all((w[mask] != 0).any() for w, mask in zip(weights, masks, strict=True))
        assert all((a == b).all() for a, b in zip(fitted.masks[k], masks, strict=True))
    assert fitted.training.weights is None


def test_of_equal_weights_those_that_stand_first_stay(digits, monkeypatch):
    start = [(torch.ones(1, a, b), torch.zeros(1, a)) for a, b in SHAPES]
    monkeypatch.setattr(baselines, "initial_layers", lambda seed, protocol: start)
    for method in (Method(0.3), Method(0.3, allocation="uniform"), Method(0.3, "lamp", "uniform")):
        flat = [
            mask.reshape(-1)
            for mask in first_masks(replace(method, allow_empty=True), 0, SMALL, digits)
        ]
        for part in [np.concatenate(flat)] if method.allocation == "global" else flat:
            assert part[: int(part.sum())].all()


def test_a_method_of_several_rounds_trains_a_network_of_its_own_for_each_seed(digits, calls):
    methods, seeds = (
        [Method(0.6, rounds=3), Method(0.9, "lamp", rounds=3), Method(0.6, rounds=3)],
        [4, 5, 6],
    )
    together = fit(methods, seeds, SMALL, digits)
    assert [call["seeds"] for call in calls] == [
        [seed + t * 2**20 for seed in seeds] for t in range(3)
    ]
    for before, after in pairwise(calls):
        for (weight, bias), (next_weight, next_bias) in zip(
            before["after"], after["before"], strict=True
        ):
            assert torch.equal(bias, next_bias)  # trained on from where it was
            assert torch.equal(weight, next_weight)
    for k, (method, seed) in enumerate(zip(methods, seeds, strict=True)):
        alone = fit([method], [seed], SMALL, digits)
        assert all((a == b).all() for a, b in zip(alone.masks[0], together.masks[k], strict=True))
        for column in ("train_accuracy", "validation_accuracy", "test_accuracy", "final_loss"):
            assert getattr(alone.training, column)[0] == getattr(together.training, column)[k]
        assert (alone.training.loss[0] == together.training.loss[k]).all()


def test_what_was_pruned_stays_pruned_whatever_the_score_says_later(digits, calls, monkeypatch):
    """Here the score of the second round is the first one's turned round: it would rather have back
    what is gone.
    """
    place = np.arange(WEIGHTS, dtype=float)
    monkeypatch.setattr(
        baselines,
        "score_weights",
        lambda *_: [
            p.reshape(s)
            for p, s in zip(
                np.split(-place if calls else place, [25_088, 25_600]), SHAPES, strict=True
            )
        ],
    )
    fit([Method(0.75, rounds=2, allow_empty=True)], [0], SMALL, digits)
    found = [
        np.flatnonzero(np.concatenate([mask.reshape(-1) for mask in call["masks"][0]]))
        for call in calls
    ]
    assert found[0].tolist() == list(range(WEIGHTS // 2, WEIGHTS))
    assert found[1].tolist() == list(range(WEIGHTS // 2, WEIGHTS // 4 * 3))


def test_masks_that_are_at_hand_are_used(digits, calls):
    methods = [Method(0.5), Method(0.8, "random")]
    masks = [first_masks(method, 1, SMALL, digits) for method in methods]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_prune", None)  # asked for no masks of its own
        fitted = fit(methods, [1, 1], SMALL, digits, first=masks)
    assert all(
        found is mask
        for network, given in zip(fitted.masks, masks, strict=True)
        for found, mask in zip(network, given, strict=True)
    )


# Whole methods against plain PyTorch


def plain_training(model, seed, protocol, dataset):
    """Adam from its beginning over the batches of a seed; leaves the weights that are multiplied
    with behind.
    """
    x, y = (
        torch.from_numpy(dataset.train.images).double() / 255,
        torch.from_numpy(dataset.train.labels).long(),
    )
    adam, order = (
        torch.optim.Adam(model.parameters(), lr=protocol.learning_rate),
        engine.batches(seed, len(y), protocol),
    )
    for step in range(protocol.steps):
        for group in adam.param_groups:
            group["lr"] = protocol.learning_rate * (
                1 - step / protocol.steps if protocol.schedule == "linear" else 1
            )
        index = next(order)
        loss = nn.functional.cross_entropy(model(x[index]), y[index])
        adam.zero_grad()
        loss.backward()
        adam.step()
    model(x[:1])  # torch.nn.utils.prune computes the masked weight in a forward pass


def plain_accuracy(model, part, limit=None):
    x, y = (
        torch.from_numpy(part.images[:limit]).double() / 255,
        torch.from_numpy(part.labels[:limit]).long(),
    )
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


def plain_pruning(model, amounts, lamp=False):
    """Remove so many weights more: one number of all layers together, or one a layer."""
    parameters = [(linear, "weight") for linear in linears(model)]
    importance = (
        {
            (linear, "weight"): torch.from_numpy(lamp_by_hand(linear.weight.detach().numpy()))
            for linear in linears(model)
        }
        if lamp
        else None
    )
    if len(amounts) == 1:
        prune.global_unstructured(parameters, prune.L1Unstructured, importance, amount=amounts[0])
    else:
        for (linear, name), amount in zip(parameters, amounts, strict=True):
            prune.l1_unstructured(linear, name, amount)


def plain_amounts(sparsity, rounds, sizes):
    """Weights to remove in each round, so that round i of n leaves the share (1 - s)^(i / n)."""
    left = [
        [round((1 - sparsity) ** (i / rounds) * size) for size in sizes] for i in range(rounds + 1)
    ]
    return [[a - b for a, b in zip(before, after, strict=True)] for before, after in pairwise(left)]


def plain_method(name, sparsity, seed, protocol, dataset):
    """The words of the publications: "prune by magnitude, then train", so often; and the lottery
    ticket; one network after another.
    """
    model = plain_network(seed, protocol.widths)
    start = [
        (linear.weight.detach().clone(), linear.bias.detach().clone()) for linear in linears(model)
    ]
    rounds = int(name.split("_")[1]) if "_" in name else 1
    sizes = [linear.weight.numel() for linear in linears(model)]
    done = 0
    if name in ("lottery", "lamp"):
        plain_training(model, seed, protocol, dataset)
        done = 1
    for amounts in plain_amounts(
        sparsity, rounds, sizes if name.startswith("unif") else [sum(sizes)]
    ):
        plain_pruning(model, amounts, lamp=name.startswith("lamp"))
        if name == "lottery":
            for linear, (weight, bias) in zip(linears(model), start, strict=True):
                linear.weight_orig.data, linear.bias.data = weight.clone(), bias.clone()
            done = 0
        plain_training(model, seed + done * 2**20, protocol, dataset)
        done += 1
    return model


@pytest.mark.parametrize(
    "name", ["glob_1", "glob_3", "unif_1", "unif_2", "lamp_2", "lottery", "lamp"]
)
def test_a_method_is_what_plain_pytorch_makes_of_its_words(name, digits, calls):
    protocol, sparsities, seeds = replace(SMALL, schedule="linear", steps=30), (0.6, 0.9), (11, 12)
    methods = [named(name, sparsity) for sparsity in sparsities]
    fitted = fit(methods, seeds, protocol, digits, precision="float64")
    distinct = set()
    for k, (sparsity, seed) in enumerate(zip(sparsities, seeds, strict=True)):
        model = plain_method(name, sparsity, seed, protocol, digits)
        for linear, mask, (weight, bias) in zip(
            linears(model), fitted.masks[k], calls[-1]["after"], strict=True
        ):
            assert (linear.weight_mask.numpy() == mask).all()
            np.testing.assert_allclose(weight[k], linear.weight.detach(), rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(bias[k], linear.bias.detach(), rtol=1e-6, atol=1e-9)
        assert fitted.training.train_accuracy[k] == pytest.approx(
            plain_accuracy(model, digits.train, len(digits.validation)), abs=1e-12
        )
        assert fitted.training.validation_accuracy[k] == pytest.approx(
            plain_accuracy(model, digits.validation), abs=1e-12
        )
        assert fitted.training.test_accuracy[k] == pytest.approx(
            plain_accuracy(model, digits.test), abs=1e-12
        )
        distinct.add(fitted.training.test_accuracy[k])
    # the networks did learn something, so that the comparison says something
    assert min(distinct) > 0.15


def test_a_lottery_ticket_starts_from_the_initial_weights_in_every_round(digits, calls):
    fit([replace(named("lottery", 0.8), rounds=2)], [5], SMALL, digits)
    start = initial_weights(5, SMALL.widths)
    assert len(calls) == 3
    for call in calls:
        assert call["seeds"] == [5]  # and sees the same batches
        assert all(
            (found[0].double().numpy() == expected).all()
            for (found, _), expected in zip(call["before"], start, strict=True)
        )
    trained = calls[0]["after"]
    assert any(
        (weight[0].double().numpy() != expected).any()
        for (weight, _), expected in zip(trained, start, strict=True)
    )
    found = [mask.copy() for mask in calls[1]["masks"][0]]
    worth, alive = (
        [abs(w[0].double().numpy()) for w, _ in trained],
        [np.ones(shape, bool) for shape in SHAPES],
    )
    # of the trained weights, not of the initial ones
    expected = by_hand(worth, alive, round(0.2**0.5 * WEIGHTS))
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))


# Scores at the initial weights


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_cross_entropy"])
@pytest.mark.parametrize("scaling", ["unit", "raw"])
@pytest.mark.parametrize("split", ["held_out", "reported"])
def test_snip_reads_images_and_loss_as_the_protocol_does(split, scaling, loss, digits):
    """300 or 400 images are fewer than SNIP would take, so it takes them all; by definition, with a
    factor c = 1 in front of each weight.
    """
    protocol = replace(SMALL, input_scaling=scaling, loss=loss, split=split)
    parts = [digits.train] if split == "held_out" else [digits.train, digits.validation]
    x = torch.from_numpy(np.concatenate([p.images for p in parts])).double() / (
        255 if scaling == "unit" else 1
    )
    y = torch.from_numpy(np.concatenate([p.labels for p in parts])).long()
    model = plain_network(2, SMALL.widths)
    factors = [torch.ones(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    h = x
    for i, (linear, c) in enumerate(zip(linears(model), factors, strict=True)):
        h = nn.functional.linear(h.relu() if i else h, linear.weight * c, linear.bias)
    nn.functional.cross_entropy(
        h.softmax(1) if loss == "softmax_cross_entropy" else h, y
    ).backward()
    network = [
        (linear.weight.detach().numpy(), linear.bias.detach().numpy()) for linear in linears(model)
    ]
    alive = [np.ones(shape, bool) for shape in SHAPES]
    found = baselines.score_weights(Method(0.5, "snip"), network, alive, 2, protocol, digits)
    for score, c in zip(found, factors, strict=True):
        np.testing.assert_allclose(score, c.grad.abs(), rtol=1e-9, atol=1e-13)
    expected = by_hand([c.grad.abs().numpy() for c in factors], alive, round(0.1 * WEIGHTS))
    masks = first_masks(Method(0.9, "snip"), 2, protocol, digits)
    assert sum(int((a != b).sum()) for a, b in zip(masks, expected, strict=True)) == 0


def test_snip_draws_its_images_from_the_training_part_by_its_seed(whole, monkeypatch):
    seen = []
    monkeypatch.setattr(
        weight_scores,
        "snip",
        lambda weights, biases, images, labels, extra: (
            seen.append((images, labels)) or [abs(w) for w in weights]
        ),
    )
    for seed in (0, 1, 0):
        first_masks(Method(0.5, "snip"), seed, SMALL, whole)
    place = {image.tobytes(): at for at, image in enumerate(whole.train.images)}
    rows = [
        [place[(image * 255).round().astype(np.uint8).tobytes()] for image in images]
        for images, _ in seen
    ]
    assert [len(set(r)) for r in rows] == [1_000] * 3
    assert rows[0] == rows[2] != rows[1]
    assert all(
        (labels == whole.train.labels[r]).all() for r, (_, labels) in zip(rows, seen, strict=True)
    )


def test_a_pruned_weight_counts_as_zero_in_a_score(digits):
    network = [
        (w, b.detach().numpy())
        for w, b in zip(
            initial_weights(0, SMALL.widths),
            [m.bias for m in linears(plain_network(0, SMALL.widths))],
            strict=True,
        )
    ]
    alive = [np.random.default_rng(0).random(shape) < 0.5 for shape in SHAPES]
    zeroed = [(np.where(a, w, 0.0), b) for (w, b), a in zip(network, alive, strict=True)]
    for score in ("magnitude", "lamp", "snip", "grasp", "synflow"):
        found = baselines.score_weights(Method(0.5, score), network, alive, 0, SMALL, digits)
        expected = baselines.score_weights(
            Method(0.5, score), zeroed, [np.ones(s, bool) for s in SHAPES], 0, SMALL, digits
        )
        assert all((a == b).all() for a, b in zip(found, expected, strict=True))
        assert all((f[~a] == 0).all() and f[a].any() for f, a in zip(found, alive, strict=True))


@pytest.mark.parametrize("left", [2_576, 258, 64, 16, 3], ids="{} weights left".format)
def test_synflow_keeps_every_layer_down_to_maximal_compression_where_one_shot_loses_one(
    left, digits, monkeypatch
):
    method = Method(1 - left / WEIGHTS, "synflow")
    found = first_masks(method, 1, SMALL, digits)
    assert sum(int(mask.sum()) for mask in found) == left
    assert all(mask.any() for mask in found)
    if left == 3:
        # one path from an input to an output
        assert effective_sparsity(found, SMALL.widths) == pytest.approx(method.sparsity)
    monkeypatch.setattr(baselines, "SYNFLOW_STEPS", 1)
    if left <= 64:
        with pytest.raises(InvalidInput, match="every weight of layer 0"):
            first_masks(method, 1, SMALL, digits)


def test_synflow_prunes_in_a_hundred_steps_and_looks_again_after_each(digits, monkeypatch):
    left, synflow = [], weight_scores.synflow

    def spy(weights):
        left.append(sum(int((w != 0).sum()) for w in weights))
        return synflow(weights)

    monkeypatch.setattr(weight_scores, "synflow", spy)
    first_masks(Method(0.9, "synflow"), 0, SMALL, digits)
    assert left == [round(0.1 ** (step / 100) * WEIGHTS) for step in range(100)]


# Random masks, and the control


def subsets(masks):
    """How often each subset of a small layer's weights stays."""
    found = {}
    for mask in masks:
        found[mask.tobytes()] = found.get(mask.tobytes(), 0) + 1
    return found


@pytest.mark.parametrize(
    "method",
    [Method(0.5, "random", "uniform"), Method(0.5, allocation="uniform", shuffle=True)],
    ids=["random", "shuffled"],
)
def test_every_mask_of_a_layer_is_equally_likely(method, digits, monkeypatch):
    protocol, draws = Protocol("tiny", widths=(3, 2, 2, 2)), 4_000
    start = engine.initial_layers(0, protocol)
    # one network, so that chance is the method's alone
    monkeypatch.setattr(baselines, "initial_layers", lambda seed, protocol: start)
    masks = [first_masks(method, seed, protocol, digits) for seed in range(draws)]
    for layer, number in ((0, 20), (1, 6), (2, 6)):  # 6 choose 3, 4 choose 2
        found = subsets(m[layer] for m in masks)
        assert len(found) == number
        expected = draws / number
        chi_square = sum((count - expected) ** 2 / expected for count in found.values())
        assert chi_square < (number - 1) + 5 * math.sqrt(2 * (number - 1))
    together = subsets(np.concatenate([m[1].reshape(-1), m[2].reshape(-1)]) for m in masks)
    assert len(together) == 36  # layers are drawn independently
    assert max(together.values()) < 2 * draws / 36


@pytest.mark.parametrize("name", ["random", "erk", "glob_1_shuffled", "snip_shuffled"])
def test_a_seed_gives_one_mask_and_another_seed_another(name, digits):
    one, again, other = (first_masks(named(name, 0.6), seed, SMALL, digits) for seed in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert all((a != b).any() for a, b in zip(one, other, strict=True) if a.sum() < a.size)


def test_random_masks_owe_nothing_to_the_weights(digits):
    mask, weights = (
        first_masks(named("random", 0.5), 0, SMALL, digits)[0],
        initial_weights(0, SMALL.widths)[0],
    )
    assert abs(abs(weights)[mask].mean() - abs(weights)[~mask].mean()) < 5 * abs(
        weights
    ).std() * 2 / math.sqrt(weights.size)


@pytest.mark.parametrize("name", ["glob_1", "snip", "grasp", "synflow", "unif_1"])
def test_shuffling_keeps_each_layers_number_and_nothing_else(name, digits):
    plain, shuffled = (
        first_masks(named(n, 0.75), 2, SMALL, digits) for n in (name, f"{name}_shuffled")
    )
    for layer, (before, after) in enumerate(zip(plain, shuffled, strict=True)):
        assert before.sum() == after.sum()
        kept, size = int(before.sum()), before.size
        both = int((before & after).sum())
        # of the hypergeometric distribution
        spread = math.sqrt(kept * kept * (size - kept) * (size - kept) / size / size / (size - 1))
        assert abs(both - kept * kept / size) < 5 * spread + 1, layer
    assert any((a != b).any() for a, b in zip(plain, shuffled, strict=True))


def test_a_shuffled_mask_no_longer_ranks_by_magnitude(digits):
    weights = [abs(w) for w in initial_weights(2, SMALL.widths)]
    for name, ranks in (("glob_1", True), ("glob_1_shuffled", False)):
        masks = first_masks(named(name, 0.75), 2, SMALL, digits)
        lowest = min(w[mask].min() for w, mask in zip(weights, masks, strict=True))
        highest = max(
            w[~mask].max() for w, mask in zip(weights, masks, strict=True) if not mask.all()
        )
        assert (lowest >= highest) == ranks


def test_a_mask_that_comes_after_training_is_shuffled_too(digits):
    plain, shuffled = (
        fit([named(n, 0.75)], [2], SMALL, digits).masks[0] for n in ("lottery", "lottery_shuffled")
    )
    assert [int(a.sum()) for a in plain] == [int(b.sum()) for b in shuffled]
    assert all((a != b).any() for a, b in zip(plain, shuffled, strict=True) if a.sum() < a.size)


# One pruned layer


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_where_one_layer_is_pruned_allocation_makes_no_difference(sparsity, digits):
    for seed in range(4):
        found = {
            n: first_masks(named(n, sparsity, "masked"), seed, WIDE, digits)
            for n in ("glob_1", "unif_1", "lamp_1", "erk", "random")
        }
        assert all(masks[0] is None and masks[2] is None for masks in found.values())
        hidden = {name: masks[1] for name, masks in found.items()}
        assert (hidden["glob_1"] == hidden["unif_1"]).all()
        assert (hidden["glob_1"] == hidden["lamp_1"]).all()
        assert {int(mask.sum()) for mask in hidden.values()} == {round((1 - sparsity) * 128 * 128)}
        assert (hidden["random"] != hidden["glob_1"]).any()


def test_where_one_layer_is_pruned_the_others_train_dense(digits, calls):
    fit([named("glob_3", 0.9, "masked")], [0], SMALL, digits)
    for call in calls:
        first, hidden, last = call["masks"][0]
        assert first is None
        assert last is None
        assert hidden.shape == SHAPES[1]
        assert all((w != 0).all() for i, (w, _) in enumerate(call["after"]) if i != 1)


# An emptied layer


def test_global_magnitude_empties_the_first_layer_where_the_initial_distributions_say(
    digits,
):
    """PyTorch draws a layer's weights from U(-1 / sqrt(d_in), 1 / sqrt(d_in)): the 784-wide layer's
    all lie below .0357, the others' reach .0884.

    When the first layer is gone, the share 1 - sqrt(128 / 784) of the others' 17,664 weights is
    left of all 118,016.
    """
    others, total = 128 * 128 + 10 * 128, 784 * 128 + 128 * 128 + 10 * 128
    share = 1 - math.sqrt(128 / 784)
    expected, spread = 1 - others * share / total, math.sqrt(others * share * (1 - share)) / total
    assert expected == pytest.approx(0.911, abs=5e-4)
    for seed in range(5):
        first, *rest = (abs(w) for w in initial_weights(seed, WIDE.widths))
        larger = sum(int((w > first.max()).sum()) for w in rest)
        edge = 1 - larger / total  # with one weight more, the largest of the first layer stays
        assert abs(edge - expected) < 5 * spread
        kept = first_masks(Method(1 - (larger + 1) / total), seed, WIDE, digits)
        assert int(kept[0].sum()) == 1
        with pytest.raises(
            InvalidInput,
            match=rf"every weight of layer 0 \(784 x 128\) for seed {seed}.*allow_empty",
        ):
            first_masks(Method(edge), seed, WIDE, digits)
        empty = first_masks(Method(edge, allow_empty=True), seed, WIDE, digits)
        assert [int(mask.sum()) for mask in empty] == [
            0,
            *(int((w > first.max()).sum()) for w in rest),
        ]


def test_a_layer_that_training_would_lose_is_refused_in_its_round(digits, calls):
    """The first round leaves a tenth of the weights, some of them in the first layer; the second
    leaves a hundredth.
    """
    with pytest.raises(
        InvalidInput,
        match=r"\(global, 2 rounds\) at sparsity 0\.99 would remove every weight of layer 0 ",
    ):
        fit([Method(0.99, rounds=2)], [0], replace(SMALL, learning_rate=1e-6), digits)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "method",
    [
        Method(0.998, allocation="uniform", rounds=5),
        Method(0.998, allocation="uniform", pretrain=True),
    ],
    ids=str,
)
def test_a_layer_that_its_own_share_leaves_without_a_weight_is_refused_before_training(
    method, digits, calls
):
    with pytest.raises(InvalidInput, match=r"every weight of layer 2 \(16 x 10\)"):
        fit([method], [0], SMALL, digits)
    assert calls == []


# Bad input


@pytest.mark.parametrize(
    "sparsity",
    [float("nan"), 0, 0.0, 1, 1.0, -0.5, 1.5, True, False, "0.5", None, float("inf"), np.True_],
    ids=repr,
)
def test_a_sparsity_that_is_none_is_refused(sparsity):
    with pytest.raises(InvalidInput, match="strictly between 0 and 1"):
        Method(sparsity)
    with pytest.raises(InvalidInput, match="strictly between 0 and 1"):
        named("glob_1", sparsity)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"score": "magnitud"}, "score.*magnitude, lamp, snip, grasp, synflow, random"),
        ({"allocation": "local"}, "allocation.*global, uniform, erk"),
        ({"layers": "hidden"}, "layers.*all, masked"),
        ({"rounds": 0}, "rounds.*1 to 100"),
        ({"rounds": 101}, "rounds.*1 to 100"),
        ({"rounds": -1}, "rounds.*1 to 100"),
        ({"rounds": True}, "rounds.*1 to 100"),
        ({"rounds": 2.0}, "rounds.*1 to 100"),
        ({"score": "synflow", "rounds": 2}, "synflow.*one round"),
        ({"shuffle": True, "rounds": 2}, "shuffled"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(bad, message):
    with pytest.raises(InvalidInput, match=message):
        Method(0.5, **bad)


@pytest.mark.parametrize(
    "name",
    [
        "glob",
        "glob_0",
        "glob_05",
        "glob_100",
        "glob_-1",
        "unif",
        "lamp_",
        "magnitude",
        "",
        "Glob_1",
        "_shuffled",
        "glob_1 ",
    ],
)
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(
        InvalidInput,
        match="glob_N, unif_N, lamp_N, random, erk, snip, grasp, synflow, lottery, lamp",
    ):
        named(name, 0.5)


def test_a_method_of_several_rounds_has_no_shuffled_name():
    with pytest.raises(InvalidInput, match="shuffled"):
        named("glob_5_shuffled", 0.5)


@pytest.mark.parametrize("pretrain", [False, True])
@pytest.mark.parametrize("rounds", [1, 5])
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_a_sparsity_that_leaves_no_weight_is_refused_before_training(
    allocation, rounds, pretrain, digits, calls
):
    method = Method(
        1 - 0.4 / WEIGHTS, allocation=allocation, rounds=rounds, pretrain=pretrain, allow_empty=True
    )
    with pytest.raises(
        UnreachableSparsity, match=r"none of 25,760 weights; the highest sparsity is 0\.999961"
    ):
        fit([Method(0.5, rounds=rounds, pretrain=pretrain), method], [0, 0], SMALL, digits)
    assert calls == []
    with pytest.raises(UnreachableSparsity, match="none of 512 weights"):
        first_masks(replace(method, sparsity=0.9999, layers="masked"), 0, SMALL, digits)


@pytest.mark.parametrize("other", [{"rounds": 2}, {"pretrain": True}, {"rewind": True}], ids=str)
def test_methods_that_disagree_do_not_advance_together(other, digits, calls):
    with pytest.raises(InvalidInput, match="same rounds, pretrain and rewind"):
        fit([Method(0.5), Method(0.5, **other)], [0, 1], SMALL, digits)
    with pytest.raises(InvalidInput, match="one seed each"):
        fit([Method(0.5)], [0, 1], SMALL, digits)
    with pytest.raises(InvalidInput):
        fit([], [], SMALL, digits)
    assert calls == []


def test_a_network_that_diverged_is_not_pruned_on(digits, monkeypatch):
    train = baselines.train

    def diverging(*args, **options):
        result = train(*args, **options)
        result.weights[1][0][1, 0, 0] = torch.nan
        return result

    monkeypatch.setattr(baselines, "train", diverging)
    with pytest.raises(BogpError, match=r"seed 8 diverged.*Lower the learning rate"):
        fit([Method(0.5, rounds=2)] * 2, [7, 8], SMALL, digits)
    # after the last training there is nothing to prune
    assert len(fit([Method(0.5)] * 2, [7, 8], SMALL, digits).masks) == 2


# Names and identities


def test_names_stand_for_these_methods():
    assert named("glob_1", 0.5) == Method(0.5)
    assert named("glob_5", 0.5) == Method(0.5, rounds=5)
    assert named("unif_12", 0.5) == Method(0.5, allocation="uniform", rounds=12)
    assert named("lamp_3", 0.5) == Method(0.5, "lamp", rounds=3)
    assert named("random", 0.5) == Method(0.5, "random", "uniform")
    assert named("erk", 0.5) == Method(0.5, "random", "erk")
    assert named("snip", 0.5) == Method(0.5, "snip")
    assert named("grasp", 0.5) == Method(0.5, "grasp")
    assert named("synflow", 0.5) == Method(0.5, "synflow")
    assert named("lottery", 0.5) == Method(0.5, pretrain=True, rewind=True)
    assert named("lamp", 0.5) == Method(0.5, "lamp", pretrain=True)
    assert named("snip_shuffled", 0.5, "masked") == Method(
        0.5, "snip", shuffle=True, layers="masked"
    )
    assert [named(n, 0.5).trainings for n in ("glob_1", "glob_5", "lottery", "lamp", "snip")] == [
        1,
        5,
        2,
        2,
        1,
    ]


def test_the_id_changes_with_every_setting_and_with_nothing_else():
    other = {
        "sparsity": 0.4,
        "score": "lamp",
        "allocation": "uniform",
        "rounds": 2,
        "pretrain": True,
        "rewind": True,
        "shuffle": True,
        "layers": "masked",
        "allow_empty": True,
    }
    assert set(other) == {field.name for field in fields(Method)}
    ids = [
        Method(0.5).id,
        *(replace(Method(0.5), **{field: value}).id for field, value in other.items()),
    ]
    assert len(set(ids)) == len(ids)
    assert Method(np.float64(0.5)).id == Method(0.5).id
    assert Method(**json.loads(Method(0.3, "lamp").settings)) == Method(0.3, "lamp")


def test_a_stored_methods_id_stays_what_it_is():
    # Another way to hash, or a new field, would orphan every stored result: change these on purpose
    # only.
    assert {name: named(name, 0.9).id for name in ("glob_1", "glob_5", "lottery")} == {
        "glob_1": "429ae7eca6593eb4",
        "glob_5": "2565165b7827e2fc",
        "lottery": "bc676a7e88cd736c",
    }


def test_the_training_part_is_what_the_protocol_trains_on(digits):
    held_out, reported = (
        engine.training_part(digits, replace(SMALL, split=split))
        for split in ("held_out", "reported")
    )
    assert (held_out.images == digits.train.images).all()
    assert (held_out.labels == digits.train.labels).all()
    assert (
        reported.images == np.concatenate([digits.train.images, digits.validation.images])
    ).all()
    assert (
        reported.labels == np.concatenate([digits.train.labels, digits.validation.labels])
    ).all()


@pytest.mark.parametrize("score", ["snip", "grasp", "synflow"])
def test_scores_that_follow_paths_refuse_residual_blocks(score, digits):
    residual = replace(PAPER, blocks="residual")
    with pytest.raises(InvalidInput, match="has residual blocks"):
        baselines.first_masks(Method(0.5, score=score, pretrain=True), 0, residual, digits)
