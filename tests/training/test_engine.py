"""The engine against a plain PyTorch loop, written here from the documentation alone."""

import gc
import hashlib
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import threadpoolctl
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from bogp.datasets import Dataset, Split
from bogp.errors import InvalidInput
from bogp.graphs.families import erdos_renyi, ws_flex
from bogp.graphs.relational import layer_masks
from bogp.training import engine as training_engine
from bogp.training.protocols import CALIBRATED, CONVERGED, LITERAL, NAMED, PAPER, RELEASED, Protocol

IMAGES = 300  # no multiple of the batch sizes, so that it shows which images are left out
SMALL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=64, steps=6)
STOPPING = replace(SMALL, name="stopping", steps=40, check_every=2, patience=2)


def tiny(train=IMAGES, validation=100, test=100, seed=0):
    """Noisy images of ten patterns, mostly black as digits are, hard enough that accuracies lie
    between chance and one.
    """
    rng = np.random.default_rng(seed)
    patterns = rng.random((10, 784))
    parts = []
    for size in (train, validation, test):
        labels = rng.integers(0, 10, size).astype(np.uint8)
        lit = rng.random((size, 784)) < 0.05 + 0.2 * patterns[labels]
        parts.append(Split((lit * rng.integers(0, 256, (size, 784))).astype(np.uint8), labels))
    return Dataset("tiny", *parts)


@pytest.fixture(scope="module")
def data():
    return tiny()


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Whatever machine this is, networks that may be trained in one group are, unless a test asks
    for more workers.
    """
    monkeypatch.setattr(training_engine, "cores", lambda: 1)


@pytest.fixture(
    params=["compiled float32", "compiled float64", "tensor float32", "tensor bfloat16"]
)
def precision(request, monkeypatch):
    """A precision, computed in one of the two ways. Tensors in float32 are what CUDA computes; here
    they are made to run on the CPU.
    """
    way, name = request.param.split()
    if way == "tensor":
        monkeypatch.setattr(training_engine, "_is_compiled", lambda precision, device: False)
    return name


as_plain = pytest.mark.parametrize(
    "precision", ["compiled float32", "compiled float64", "tensor float32"], indirect=True
)


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


class Residual(nn.Sequential):
    """Dense, blocks x + relu(M x + b), dense."""

    def forward(self, x):
        first, *blocks, last = self
        x = first(x)
        for block in blocks:
            x = x + block(x).relu()
        return last(x)


def network(seed, protocol):
    torch.manual_seed(seed)
    layers = [
        nn.Linear(d_in, d_out)
        for d_in, d_out in zip(protocol.widths, protocol.widths[1:], strict=False)
    ]
    for name, moves in (
        ("weight", protocol.first_layer == "trained"),
        ("bias", protocol.first_layer != "frozen"),
    ):
        getattr(layers[0], name).requires_grad_(moves)
    if protocol.blocks == "residual":
        return Residual(*layers)
    return nn.Sequential(*[m for layer in layers for m in (layer, nn.ReLU())][:-1])


KNOWN = {}


def reference(masks, seed, protocol, dataset, dtype, init=None):
    """What the plain loop gives, on one thread; computed once for all tests that ask for the same
    network.
    """
    key = (
        *(mask is not None and mask.tobytes() for mask in masks),
        seed,
        protocol.id,
        dataset.checksum,
        dtype,
    )
    if init is None and key in KNOWN:
        return KNOWN[key]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        found = plain_loop(masks, seed, protocol, dataset, dtype, init)
    finally:
        torch.set_num_threads(threads)
    return found if init else KNOWN.setdefault(key, found)


def plain_loop(masks, seed, protocol, dataset, dtype, init=None):
    """One network after the plain recipe: torch.nn.utils.prune, autograd, torch.optim.Adam."""
    model = network(seed, protocol).to(dtype)
    if init:
        for layer, (weight, bias) in zip(linears(model), init, strict=True):
            layer.weight.data, layer.bias.data = (
                weight.to(dtype, copy=True),
                bias.to(dtype, copy=True),
            )
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

    adam = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=protocol.learning_rate
    )
    factor = (
        (lambda t: 1 - t / protocol.steps) if protocol.schedule == "linear" else (lambda t: 1.0)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, factor)
    batch_order = order() if protocol.batch_size else None
    losses, looks, best, best_step, best_state, waited = [], [], -1.0, 0, None, 0
    for step in range(1, protocol.steps + 1):
        index = next(batch_order) if batch_order else slice(None)
        logits = model(x[index])
        loss = nn.functional.cross_entropy(
            logits.softmax(1) if protocol.loss == "softmax_cross_entropy" else logits, y[index]
        )
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
    """Float64 leaves no room for rounding; in float32 a ReLU may switch the other way, and an image
    stand on the edge between two classes.
    """
    found = np.concatenate([engine.loss[at][~np.isnan(engine.loss[at])], [engine.final_loss[at]]])
    np.testing.assert_allclose(
        found, [*plain.loss, plain.loss[-1]], rtol=1e-9 if precision == "float64" else 1e-4
    )
    # before rounding has grown
    np.testing.assert_allclose(
        found[:3], plain.loss[:3], rtol=1e-12 if precision == "float64" else 3e-6
    )
    found = [engine.train_accuracy[at], engine.validation_accuracy[at], engine.test_accuracy[at]]
    np.testing.assert_allclose(
        found,
        [plain.train, plain.validation, plain.test],
        atol=1e-12 if precision == "float64" else 1 / 100,
    )


SHORT = {
    "paper": PAPER,  # all of its steps
    "literal": replace(LITERAL, steps=5),
    "released": replace(RELEASED, steps=5),
    "calibrated": replace(CALIBRATED, steps=5),  # two batches an epoch
    "converged": replace(CONVERGED, steps=6, check_every=2, patience=1),
}


@as_plain
@pytest.mark.parametrize(
    ("name", "scope"),
    [
        (name, scope)
        for name in SHORT
        for scope in (("input",) if name == "literal" else ("hidden", "all"))
    ],
)
def test_every_named_protocol_computes_what_the_plain_loop_computes(name, scope, precision, data):
    protocol = replace(SHORT[name], scope=scope)
    nets = (
        [masks_for(protocol, 1), masks_for(protocol, 2, n=100)]
        if scope != "hidden"
        else [masks_for(protocol, 1), dense(protocol)]
    )
    engine = training_engine.train(nets, [3, 4], protocol, data, precision=precision)
    for at, (masks, seed) in enumerate(zip(nets, [3, 4], strict=True)):
        agree(
            engine, at, reference(masks, seed, protocol, data, getattr(torch, precision)), precision
        )


def test_named_protocols_are_all_compared_above():
    assert set(SHORT) == set(NAMED)


@as_plain
@pytest.mark.parametrize("scope", ["hidden", "all"])
@pytest.mark.parametrize("widths", [(784, 20, 12, 10), (784, 16, 16, 16, 10), (784, 17, 13, 3)])
def test_other_widths_and_depths_compute_what_the_plain_loop_computes(
    widths, scope, precision, data
):
    protocol = replace(SMALL, widths=widths, scope=scope)
    if widths[-1] < 10:
        data = Dataset(
            "threes",
            *(Split(s.images, s.labels % 3) for s in (data.train, data.validation, data.test)),
        )
    rng = np.random.default_rng(0)
    # the last layer too
    every = tuple(
        rng.random((d_out, d_in)) < 0.5 for d_in, d_out in zip(widths, widths[1:], strict=False)
    )
    nets = [masks_for(protocol, 1), dense(protocol), every]
    engine = training_engine.train(nets, [3, 4, 4], protocol, data, precision=precision)
    for at, (masks, seed) in enumerate(zip(nets, [3, 4, 4], strict=True)):
        agree(
            engine, at, reference(masks, seed, protocol, data, getattr(torch, precision)), precision
        )


@as_plain
@pytest.mark.parametrize(
    ("images", "batch_size"),
    [(2300, None), (2300, 1500), (1024, None), (1025, None), (2048, 2048)],
    ids=[
        "two tiles and a part",
        "batches of a tile and a part",
        "one tile",
        "one image in the last tile",
        "a batch of two tiles",
    ],
)
def test_more_images_than_a_tile_holds_compute_what_the_plain_loop_computes(
    images, batch_size, precision
):
    # tiles hold 1,024 images as tensors, and 128 in compiled loops; both have one filled in part
    large = tiny(train=images, validation=1100, test=1024)
    protocol = replace(SMALL, batch_size=batch_size, steps=4)
    nets = [masks_for(protocol, 1), dense(protocol)]
    engine = training_engine.train(nets, [3, 4], protocol, large, precision=precision)
    for at, (masks, seed) in enumerate(zip(nets, [3, 4], strict=True)):
        agree(
            engine,
            at,
            reference(masks, seed, protocol, large, getattr(torch, precision)),
            precision,
        )


@as_plain
@pytest.mark.parametrize("first_layer", ["trained", "bias", "frozen"])
@pytest.mark.parametrize("blocks", ["plain", "residual"])
@pytest.mark.parametrize("batch_size", [64, 150])
def test_residual_blocks_and_a_frozen_first_layer_compute_what_the_plain_loop_computes(
    batch_size, blocks, first_layer, precision, data
):
    protocol = replace(
        SMALL,
        widths=(784, 16, 16, 16, 16, 10),
        blocks=blocks,
        first_layer=first_layer,
        batch_size=batch_size,
    )
    nets = [masks_for(protocol, 1), dense(protocol), masks_for(protocol, 2, sparsity=0.2)]
    engine = training_engine.train(
        nets, [3, 4, 4], protocol, data, precision=precision, return_weights=True
    )
    for at, (masks, seed) in enumerate(zip(nets, [3, 4, 4], strict=True)):
        plain = reference(masks, seed, protocol, data, getattr(torch, precision))
        agree(engine, at, plain, precision)
    start = training_engine.initial_layers(3, protocol)[0]
    moved = [
        not torch.equal(own[0], first[0])
        for own, first in zip(engine.weights[0], start, strict=True)
    ]
    assert moved == [first_layer == "trained", first_layer != "frozen"]


def grey(pixels, seed=0):
    """Images without a dark background: ten patterns and noise."""
    rng = np.random.default_rng(seed)
    patterns, parts = rng.integers(30, 220, (10, pixels)), []
    for size in (300, 100, 100):
        labels = rng.integers(0, 10, size).astype(np.uint8)
        noisy = patterns[labels] + rng.normal(0, 60, (size, pixels))
        parts.append(Split(noisy.clip(0, 255).astype(np.uint8), labels))
    return Dataset("grey", *parts)


@as_plain
@pytest.mark.parametrize("scope", ["hidden", "all"])
@pytest.mark.parametrize("pixels", [3072, 100])
def test_images_without_a_dark_background_compute_what_the_plain_loop_computes(
    pixels, scope, precision
):
    protocol = replace(SMALL, widths=(pixels, 48, 48, 10), scope=scope, learning_rate=1e-3)
    images = grey(pixels)
    nets = [masks_for(protocol, 1, sparsity=s) for s in (0.9, 0.2)] + [dense(protocol)]
    engine = training_engine.train(nets, [3, 4, 4], protocol, images, precision=precision)
    for at, (masks, seed) in enumerate(zip(nets, [3, 4, 4], strict=True)):
        plain = reference(masks, seed, protocol, images, getattr(torch, precision))
        agree(engine, at, plain, precision)


def test_early_stopping_ends_where_the_plain_loop_ends_and_restores_the_best_weights(data):
    nets, seeds = [masks_for(STOPPING, k) for k in range(4)], [0, 1, 2, 3]
    engine = training_engine.train(
        nets, seeds, STOPPING, data, precision="float64", return_weights=True
    )
    plain = [
        reference(masks, seed, STOPPING, data, torch.float64)
        for masks, seed in zip(nets, seeds, strict=True)
    ]
    stops = [len(p.loss) for p in plain]
    assert len(set(stops)) > 1  # else the test says little: one network waits while another goes on
    assert min(stops) < STOPPING.steps
    assert engine.loss.shape == (4, max(stops))
    for at, p in enumerate(plain):
        agree(engine, at, p, "float64")
        assert engine.steps[at] == p.steps < len(p.loss)
        assert engine.validation_accuracy[at] == max(p.looks) == engine.looks[at, p.steps // 2 - 1]
        np.testing.assert_array_equal(engine.looks[at, : len(p.looks)], p.looks)
        for (weight, bias), (plain_weight, plain_bias) in zip(
            engine.weights, p.weights, strict=True
        ):
            torch.testing.assert_close(weight[at], plain_weight, rtol=1e-7, atol=1e-9)
            torch.testing.assert_close(bias[at], plain_bias, rtol=1e-7, atol=1e-9)


def test_the_weights_after_early_stopping_are_those_of_the_best_look(precision, data):
    nets, seeds = [masks_for(STOPPING, k) for k in range(5)], [0, 1, 2, 3, 3]
    stopped = training_engine.train(
        nets, seeds, STOPPING, data, precision=precision, return_weights=True
    )
    made = (~np.isnan(stopped.loss)).sum(1)
    assert len(set(made)) > 1
    for at in range(5):
        looks = stopped.looks[at][~np.isnan(stopped.looks[at])]
        # the first of equals
        assert stopped.steps[at] == STOPPING.check_every * (1 + looks.argmax())
        assert made[at] == min(
            stopped.steps[at] + STOPPING.check_every * STOPPING.patience, STOPPING.steps
        )
        to_there = replace(SMALL, steps=int(stopped.steps[at]))
        straight = training_engine.train(
            [nets[at]], [seeds[at]], to_there, data, precision=precision, return_weights=True
        )
        assert weight_bits(stopped, at) == weight_bits(straight, 0)
        for accuracy in ("train_accuracy", "validation_accuracy", "test_accuracy"):
            assert getattr(stopped, accuracy)[at] == getattr(straight, accuracy)[0]
        assert stopped.final_loss[at] == stopped.loss[at, made[at] - 1]


def test_without_early_stopping_every_step_counts_and_there_are_no_looks(data):
    result = training_engine.train([dense(SMALL)] * 2, [0, 1], SMALL, data)
    assert result.steps.tolist() == [6, 6]
    assert result.loss.shape == (2, 6)
    assert result.looks.shape == (2, 0)
    assert result.weights is None


@pytest.mark.parametrize("scope", ["hidden", "all", "every layer"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_pruned_weights_stay_exactly_zero_and_the_others_move(scope, steps, precision, data):
    protocol = (
        replace(SMALL, steps=steps)
        if scope == "every layer"
        else replace(SMALL, scope=scope, steps=steps)
    )
    masks = masks_for(protocol)
    if scope == "every layer":
        masks = tuple(
            np.random.default_rng(1).random((o, i)) < 0.3
            for i, o in zip(SMALL.widths, SMALL.widths[1:], strict=False)
        )
    result = training_engine.train(
        [dense(protocol), masks], [1, 0], protocol, data, precision=precision, return_weights=True
    )
    start = linears(network(0, protocol))
    for (weight, bias), mask, layer in zip(result.weights, masks, start, strict=True):
        moved = (weight[1] != layer.weight).numpy()
        if mask is not None:
            assert (weight[1].numpy()[~mask] == 0).all()
            moved = moved[mask]
        assert moved.mean() > 0.5  # units that no image switches on stay where they are
        assert (bias[1] != layer.bias).float().mean() > 0.5


def test_pruned_weights_are_zero_at_the_end_of_early_stopping(precision, data):
    masks = masks_for(replace(STOPPING, scope="all"))
    result = training_engine.train(
        [masks], [0], STOPPING, data, precision=precision, return_weights=True
    )
    for (weight, _), mask in zip(result.weights, masks, strict=True):
        assert mask is None or ((weight[0] != 0).numpy() <= mask).all()


def test_initial_weights_are_those_of_linear_layers_after_manual_seed():
    for seed in (0, 7):
        for (weight, bias), layer in zip(
            training_engine.initial_layers(seed, PAPER),
            linears(network(seed, PAPER)),
            strict=True,
        ):
            assert torch.equal(weight[0], layer.weight)
            assert torch.equal(bias[0], layer.bias)


def test_batches_follow_a_fresh_permutation_each_epoch_and_leave_out_an_incomplete_batch():
    generator = torch.Generator().manual_seed(5)
    epochs = [torch.randperm(23, generator=generator) for _ in range(2)]
    expected = [epoch[i : i + 10] for epoch in epochs for i in (0, 10)]
    found = training_engine.batches(5, 23, replace(SMALL, batch_size=10))
    for batch in expected:
        assert torch.equal(next(found), batch)


def in_a_fresh_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def surroundings():
    """What arithmetic elsewhere in the program depends on, but for BLAS threads."""
    return (
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        in_a_fresh_thread(torch.get_num_threads),
        torch.get_float32_matmul_precision(),
        subnormal_numbers_stay(),
        in_a_fresh_thread(subnormal_numbers_stay),
    )


def subnormal_numbers_stay():
    return bool(torch.full((1,), 1e-40).mul(0.5) > 0)


def blas_threads():
    return {
        info["filepath"]: info["num_threads"]
        for info in threadpoolctl.threadpool_info()
        if info["user_api"] == "blas"
    }


@pytest.mark.parametrize("matmul_precision", ["highest", "high"])
@pytest.mark.parametrize("fails", [False, True])
def test_training_leaves_torch_and_blas_as_they_were(fails, matmul_precision, precision, data):
    protocol, compiled, seen = (
        replace(SMALL, steps=20 * training_engine.CHUNK),
        training_engine._is_compiled(precision, "cpu"),
        [],
    )
    # loads every library
    training_engine.train([dense(SMALL)], [0], SMALL, data, precision=precision)

    def step(steps):
        seen.append({torch.get_num_threads(), *(blas_threads().values() if compiled else ())})
        if fails and len(seen) == 12:
            raise ZeroDivisionError

    threads, before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(3)
        torch.set_float32_matmul_precision(matmul_precision)
        torch.manual_seed(123)
        with threadpoolctl.threadpool_limits(2, user_api="blas"):
            there, blas = surroundings(), blas_threads()
            try:
                training_engine.train(
                    [dense(SMALL)] * 6,
                    range(6),
                    protocol,
                    data,
                    precision=precision,
                    workers=3,
                    on_step=step,
                )
            except ZeroDivisionError:
                assert fails
            assert blas_threads() == blas
            assert surroundings() == there
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(before)
    # in each step every library in use has the fixed number
    assert all(counts == {training_engine.THREADS} for counts in seen)


def test_a_setting_of_the_program_does_not_change_a_networks_numbers(precision, data):
    # "medium" lets PyTorch round the factors of float32 products, or multiply them in another
    # order, on some CPUs too.
    def trained(workers):
        result = training_engine.train(
            [dense(PAPER)] * 4,
            range(4),
            protocol,
            data,
            precision=precision,
            return_weights=True,
            workers=workers,
        )
        return [bits(result, at) for at in range(4)]

    before, protocol = torch.get_float32_matmul_precision(), replace(PAPER, steps=20)
    expected = trained(1)
    try:
        for workers in (1, 2, 2, 2, 2):  # more than once, for what happens between two threads
            torch.set_float32_matmul_precision("medium")
            assert trained(workers) == expected
            assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_programs_default_type_does_not_change_a_networks_numbers(precision, data):
    def trained():
        return bits(
            training_engine.train(
                [masks_for(SMALL)], [0], SMALL, data, precision=precision, return_weights=True
            ),
            0,
        )

    expected = trained()
    try:
        torch.set_default_dtype(torch.float64)
        assert trained() == expected
    finally:
        torch.set_default_dtype(torch.float32)


IN_A_PROCESS = """
from tests.training.test_engine import *
threads = []
result = training_engine.train(
    [dense(PAPER), masks_for(PAPER)], [0, 1], replace(PAPER, steps=4), tiny(),
    return_weights=True, on_step=lambda steps: threads.append(blas_threads()),
)
digest = hashlib.sha256(repr([bits(result, k) for k in range(2)]).encode()).hexdigest()
print(*{count for counts in threads for count in counts.values()}, digest)
"""


def test_another_process_gives_the_same_bits_and_its_first_training_too_uses_one_thread_a_library(
    data,
):
    # In a fresh process BLAS may be loaded only when training asks for it, after its threads were
    # limited.
    found = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    result = training_engine.train(
        [dense(PAPER), masks_for(PAPER)], [0, 1], replace(PAPER, steps=4), data, return_weights=True
    )
    assert found == [
        "1",
        hashlib.sha256(repr([bits(result, k) for k in range(2)]).encode()).hexdigest(),
    ]


@pytest.mark.parametrize("check_every", [None, 5, 24])
def test_progress_is_told_once_a_chunk_and_adds_up_to_the_steps_made(check_every, precision, data):
    protocol = replace(SMALL, steps=40, check_every=check_every, patience=check_every and 1)
    told = []
    result = training_engine.train(
        [dense(SMALL)] * 3,
        range(3),
        protocol,
        data,
        precision=precision,
        workers=1,
        on_step=told.append,
    )
    assert sum(told) == (~np.isnan(result.loss)).sum()
    if check_every is None:
        assert told == [3 * 16, 3 * 16, 3 * 8]
        assert training_engine.CHUNK == 16
    elif check_every == 24:
        assert told[:2] == [3 * 16, 3 * 8]
    else:
        assert sum(told) < 3 * 40  # some stopped, and were no longer counted
        assert told[0] == 3 * 5


def test_progress_of_full_batches_is_told_every_step(precision, data):
    told = []
    training_engine.train(
        [dense(SMALL)] * 2,
        range(2),
        replace(SMALL, batch_size=None),
        data,
        precision=precision,
        on_step=told.append,
    )
    assert told == [1] * 2 * SMALL.steps  # each network by itself


LONG = replace(SMALL, steps=3000)


def steps_after_the_end(at, end, error, data, precision="float32"):
    """Train six networks of one group each, two at a time, until ``end`` is called in the group of
    seed ``at``; the steps made after that.
    """
    seed_of, make, ended, after = {}, training_engine._networks, [], []

    def spy(members, *args):
        seed_of[threading.get_ident()] = members[0][2]
        return make(members, *args)

    def step(steps):
        if ended:
            after.append(steps)
            time.sleep(0.01)  # leaves the main thread the time to notice
        elif seed_of[threading.get_ident()] == at:
            ended.append(True)
            end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_engine, "_networks", spy)
        patch.setattr(training_engine, "GROUP", {"cpu": 1})
        with pytest.raises(error):
            training_engine.train(
                [dense(LONG)] * 6,
                range(6),
                LONG,
                data,
                precision=precision,
                workers=2,
                on_step=step,
            )
    assert ended
    # nobody trains on in the background
    assert not [thread for thread in threading.enumerate() if thread.ident in seed_of]
    return sum(after)


@pytest.mark.parametrize("precision", ["compiled float32", "tensor bfloat16"], indirect=True)
@pytest.mark.parametrize("at", [0, 1])
def test_an_error_in_any_group_ends_training_at_once(at, precision, data):
    assert (
        steps_after_the_end(at, lambda: 1 / 0, ZeroDivisionError, data, precision)
        <= 4 * training_engine.CHUNK
    )


@pytest.mark.parametrize("at", [0, 1])
def test_an_interruption_from_the_keyboard_ends_training_at_once(at, data):
    def interrupt():
        time.sleep(0.1)  # until the main thread waits
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)

    # a process in the background may have been started without
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # of 18,000 steps
        assert (
            steps_after_the_end(at, interrupt, KeyboardInterrupt, data)
            <= 40 * training_engine.CHUNK
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interruption_while_groups_are_handed_out_does_not_wait_for_those_that_were(
    data, monkeypatch
):
    submit, submitted, made = ThreadPoolExecutor.submit, [], []

    def interrupted(*args):
        submitted.append(submit(*args))
        if len(submitted) == 3:
            raise KeyboardInterrupt  # as a signal may, between any two lines
        return submitted[-1]

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    monkeypatch.setattr(training_engine, "GROUP", {"cpu": 1})
    with pytest.raises(KeyboardInterrupt):
        training_engine.train(
            [dense(LONG)] * 6, range(6), LONG, data, workers=2, on_step=made.append
        )
    assert sum(made) <= 40 * training_engine.CHUNK


@pytest.mark.parametrize("workers", [1, 2])
def test_at_most_one_group_a_worker_is_alive(workers, precision, data, monkeypatch):
    make, alive, seen = training_engine._networks, weakref.WeakSet(), []

    def spy(*args):
        networks = make(*args)
        alive.add(networks)
        held = [
            value
            for value in vars(networks).values()
            if isinstance(value, torch.Tensor | np.ndarray)
        ]
        arrays.extend(map(weakref.ref, held))
        seen.append((len(alive), sum(ref() is not None for ref in arrays) / max(1, len(held))))
        return networks

    arrays = []
    monkeypatch.setattr(training_engine, "_networks", spy)
    monkeypatch.setattr(training_engine, "GROUP", {"cpu": 2})
    gc.collect()
    # what only the garbage collector frees is not bounded: it does not see how large an array is
    gc.disable()
    try:
        training_engine.train(
            [dense(SMALL)] * 12, range(12), SMALL, data, precision=precision, workers=workers
        )
    finally:
        gc.enable()
    assert len(seen) == 6
    assert max(max(networks, arrays) for networks, arrays in seen) <= workers
    assert not alive


@pytest.mark.parametrize(("cores", "sizes"), [(1, [5]), (2, [2, 3]), (5, [1] * 5), (9, [1] * 5)])
def test_without_a_number_of_workers_there_is_one_a_core(cores, sizes, data, monkeypatch):
    make, seen = training_engine._networks, []

    def spy(members, *args):
        seen.append(len(members))
        return make(members, *args)

    monkeypatch.setattr(training_engine, "_networks", spy)
    monkeypatch.setattr(training_engine, "cores", lambda: cores)
    training_engine.train([dense(SMALL)] * 5, range(5), SMALL, data)
    assert sorted(seen) == sizes


@given(
    seeds=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    batch_size=st.sampled_from([None, 32, 128, 304, 512, 5000]),
    workers=st.integers(1, 9),
)
def test_groups_hold_every_network_once_equal_seeds_together_and_much_the_same_number_each(
    seeds, batch_size, workers
):
    protocol = replace(SMALL, batch_size=batch_size)
    groups = training_engine._groups(seeds, training_engine.group_size(protocol), workers)
    order, sizes = [k for group in groups for k in group], [len(group) for group in groups]
    assert sorted(order) == list(range(len(seeds)))
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert max(sizes) <= training_engine.group_size(protocol)
    changes = sum(seeds[a] != seeds[b] for a, b in zip(order, order[1:], strict=False))
    assert changes == len(set(seeds)) - 1  # each seed is one run of the order
    # no worker is idle in the last round, unless each network has one to itself
    assert len(groups) % workers == 0 or max(sizes) == 1
    fewest = -(-len(seeds) // training_engine.group_size(protocol))
    assert len(groups) < fewest + workers  # and not cut finer than that takes


@pytest.mark.parametrize(
    ("batch_size", "size"), [(None, 1), (5008, 1), (1024, 1), (512, 2), (304, 3), (128, 8), (16, 8)]
)
def test_a_group_reads_about_a_thousand_images_in_a_step(batch_size, size):
    assert training_engine.group_size(replace(SMALL, batch_size=batch_size)) == size


@pytest.mark.parametrize(
    "odd",
    [
        {"batch_size": 100},
        {"batch_size": 1},
        {"widths": (784, 20, 16, 10)},
        {"widths": (784, 16, 8, 10)},
    ],
    ids=str,
)
def test_networks_whose_layers_do_not_fill_vectors_train_alone(odd):
    assert training_engine.group_size(replace(SMALL, **odd)) == 1


def test_numbers_too_small_to_matter_are_zeros_and_no_weight_changes_by_it(
    precision, data, monkeypatch
):
    assert subnormal_numbers_stay()  # or there is nothing to see
    fast = replace(SMALL, learning_rate=0.05, schedule="constant")
    seen, threads = [], []

    def train(steps):
        return training_engine.train(
            [dense(fast)] * 2,
            [0, 1],
            replace(fast, steps=steps),
            data,
            precision=precision,
            return_weights=True,
            on_step=lambda _: seen.append(subnormal_numbers_stay()),
        )

    earlier, zeros = train(500), train(2_000)
    assert seen and not any(seen)
    # Units die within 500 steps, and after 1,000 more their Adam means are below 1e-38.
    dead = (earlier.weights[1][0] == zeros.weights[1][0]).all(dim=2)
    assert dead.any() and not dead.all()
    monkeypatch.setattr(torch, "set_flush_denormal", threads.append)
    seen.clear()
    kept = train(2_000)
    assert threads and all(seen)
    assert [bits(zeros, at) for at in (0, 1)] == [bits(kept, at) for at in (0, 1)]


def weight_bits(result, at):
    return [p[at].numpy().tobytes() for layer in result.weights for p in layer]


def bits(result, at):
    """Every number of one network, for a comparison bit by bit."""
    return [
        result.train_accuracy[at],
        result.validation_accuracy[at],
        result.test_accuracy[at],
        int(result.steps[at]),
        result.final_loss[at],
        result.loss[at][~np.isnan(result.loss[at])].tobytes(),
        result.looks[at][~np.isnan(result.looks[at])].tobytes(),
        *weight_bits(result, at),
    ]


COMPANY = {
    "mini-batch": replace(CALIBRATED, steps=4),
    "full batch": replace(PAPER, steps=3),
    "every layer": replace(CALIBRATED, scope="all", steps=4),
    "two layers": replace(LITERAL, batch_size=128, steps=4),
    "released": replace(RELEASED, batch_size=128, steps=4),
    "early stopping": replace(
        CONVERGED, widths=(784, 32, 32, 10), learning_rate=1e-2, steps=20, check_every=2, patience=1
    ),
    # Layers whose sizes are no multiples of a processor's vectors: in a group the next network
    # would begin in the middle of one.
    "odd widths": replace(
        CALIBRATED, widths=(784, 20, 12, 10), scope="all", batch_size=50, steps=8
    ),
    "odder widths": replace(CALIBRATED, widths=(784, 19, 11, 10), batch_size=50, steps=4),
    "batches of three": replace(CALIBRATED, widths=(784, 20, 12, 10), batch_size=3, steps=8),
    "batches of one": replace(CALIBRATED, batch_size=1, steps=8),
    "odd widths, full batch": replace(PAPER, widths=(784, 19, 11, 10), steps=3),
    "odd widths, two layers": replace(LITERAL, widths=(784, 13, 10), steps=3),
    "odd widths, early stopping": replace(
        STOPPING, widths=(784, 20, 12, 10), steps=20, batch_size=50, patience=1
    ),
}


@pytest.mark.parametrize("protocol", COMPANY.values(), ids=COMPANY)
def test_a_networks_numbers_do_not_depend_on_its_company(protocol, precision, data):
    nets = [masks_for(protocol, k, sparsity=0.3 + 0.05 * k) for k in range(12)]
    nets[2] = nets[5] = dense(protocol)
    seeds = [0, 1, 2, 3, 4, 5, 0, 0, 8, 9, 10, 11]
    prepared = training_engine.prepare(data, protocol, precision)

    def together(chosen, workers=1):
        masks, own = [nets[i] for i in chosen], [seeds[i] for i in chosen]
        result = training_engine.train(
            masks,
            own,
            protocol,
            data,
            precision=precision,
            prepared=prepared,
            return_weights=True,
            workers=workers,
        )
        return {i: bits(result, at) for at, i in enumerate(chosen)}

    # Alone, in pairs, threes, the eight of a group, and two groups of six; first, in the middle and
    # last; one group at a time or several.
    whole = together([7, 6, 5, 4, 3, 2, 1, 0])
    assert len({repr(b) for b in whole.values()}) == 8
    if protocol.check_every:
        assert len({b[3] for b in whole.values()}) > 1  # some had stopped while others went on
    different = []
    for chosen in ([0], [2], [0, 1], [3, 1, 2], [8, 9, 10, 11, 1, 0, 4, 5, 6, 7, 2, 3]):
        different += [
            (i, "in", chosen)
            for i, found in together(chosen).items()
            if i in whole and found != whole[i]
        ]
    different += [
        (i, "in a group for each of three workers")
        for i, found in together([2, 0, 1, 3], 3).items()
        if found != whole[i]
    ]
    assert different == []


@pytest.mark.parametrize(
    ("protocol", "seeds"),
    [(name, [0, 1, 0, 1, 2, 0, 1, 0]) for name in COMPANY]
    + [
        (name, seeds)
        for name in ("mini-batch", "early stopping")
        for seeds in (list(range(8)), [5] * 8)
    ],
)
def test_numbers_do_not_depend_on_how_wide_groups_are_or_how_many_workers_train(
    protocol, seeds, precision, data, monkeypatch
):
    protocol = COMPANY[protocol]
    nets = [masks_for(protocol, k, sparsity=0.3 + 0.05 * k) for k in range(8)]
    nets[1] = nets[4] = dense(protocol)
    prepared = training_engine.prepare(data, protocol, precision)
    found = {}
    alone = training_engine.group_size(protocol) == 1
    for width, workers in (
        [(1, 1), (8, 1), (8, 3)] if alone else [(1, 1), (2, 1), (3, 1), (8, 1), (3, 5)]
    ):
        monkeypatch.setattr(training_engine, "GROUP", {"cpu": width})
        result = training_engine.train(
            nets,
            seeds,
            protocol,
            data,
            precision=precision,
            prepared=prepared,
            return_weights=True,
            workers=workers,
        )
        found[width, workers] = [bits(result, at) for at in range(8)]
    first = found[1, 1]
    assert [
        (way, at) for way, networks in found.items() for at in range(8) if networks[at] != first[at]
    ] == []


@pytest.mark.parametrize(
    "protocol",
    [SMALL, replace(SMALL, batch_size=None), STOPPING],
    ids=["mini-batch", "full batch", "early stopping"],
)
@pytest.mark.parametrize(
    "scale", [torch.finfo(torch.float32).max, torch.inf], ids=["huge", "infinite"]
)
def test_a_network_that_diverges_leaves_the_others_alone(scale, protocol, precision, data):
    nets, init = (
        [masks_for(protocol), dense(protocol), masks_for(protocol, 1)],
        training_engine.initial_layers(0, protocol),
    )
    start = [(torch.cat([w, w * scale, w]), torch.cat([b, b, b])) for w, b in init]
    together = training_engine.train(
        nets, [0, 0, 1], protocol, data, start, precision=precision, return_weights=True, workers=1
    )
    # which holds the products of three huge numbers
    if scale == torch.inf or precision != "float64":
        assert np.isnan(together.final_loss[1])
        assert np.isnan(together.loss[1, -1])
    assert np.isfinite(together.final_loss[[0, 2]]).all()
    for at, seed in ((0, 0), (2, 1)):
        alone = training_engine.train(
            [nets[at]], [seed], protocol, data, init, precision=precision, return_weights=True
        )
        assert bits(together, at) == bits(alone, 0)


def test_a_learning_rate_that_is_far_too_large_leaves_no_trace_in_the_next_training(
    precision, data
):
    before = training_engine.train(
        [dense(SMALL)], [0], SMALL, data, precision=precision, return_weights=True
    )
    wild = replace(SMALL, learning_rate=99.0, steps=30, input_scaling="raw")
    diverged = training_engine.train(
        [dense(SMALL), masks_for(SMALL)], [0, 1], wild, data, precision=precision
    )
    assert not (diverged.final_loss < 10).any()
    after = training_engine.train(
        [dense(SMALL)], [0], SMALL, data, precision=precision, return_weights=True
    )
    assert bits(before, 0) == bits(after, 0)


def test_the_same_call_gives_the_same_bits(precision, data):
    first, again = (
        training_engine.train(
            [masks_for(SMALL)], [0], SMALL, data, precision=precision, return_weights=True
        )
        for _ in range(2)
    )
    assert bits(first, 0) == bits(again, 0)


def test_another_seed_gives_another_network(data):
    result = training_engine.train([masks_for(SMALL)] * 2, [0, 1], SMALL, data, return_weights=True)
    assert (result.loss[0] != result.loss[1]).all()
    assert not torch.equal(result.weights[0][0][0], result.weights[0][0][1])


def test_no_mask_equals_a_mask_of_ones(precision, data):
    ones = tuple(
        np.ones((d_out, d_in), bool)
        for d_in, d_out in zip(SMALL.widths, SMALL.widths[1:], strict=False)
    )
    masked, unmasked = (
        training_engine.train(
            [dense(SMALL), net], [0, 0], SMALL, data, precision=precision, return_weights=True
        )
        for net in (ones, dense(SMALL))
    )
    for at in range(2):
        assert bits(masked, at) == bits(unmasked, at)


@as_plain
def test_init_continues_from_given_layers_and_leaves_them_as_they_were(precision, data):
    masks = masks_for(SMALL)
    before = training_engine.train(
        [masks] * 2, [0, 1], SMALL, data, precision=precision, return_weights=True
    ).weights
    kept = [(w.clone(), b.clone()) for w, b in before]
    result = training_engine.train([masks] * 2, [5, 6], SMALL, data, before, precision=precision)
    for at, seed in enumerate((5, 6)):  # the seed still fixes the batch order
        init = [(w[at], b[at]) for w, b in kept]
        agree(
            result,
            at,
            reference(masks, seed, SMALL, data, getattr(torch, precision), init),
            precision,
        )
    for layer, old in zip(before, kept, strict=True):
        assert torch.equal(layer[0], old[0])
        assert torch.equal(layer[1], old[1])


def test_init_under_another_mask_is_pruned_by_it(precision, data):
    masks = masks_for(SMALL)
    start = training_engine.initial_layers(0, SMALL)
    result = training_engine.train(
        [masks], [0], replace(SMALL, steps=1), data, start, precision=precision, return_weights=True
    )
    assert (result.weights[1][0][0].numpy()[~masks[1]] == 0).all()
    assert (start[1][0] != 0).all()


def test_weights_that_are_returned_belong_to_the_caller(precision, data):
    first = training_engine.train(
        [dense(SMALL)], [0], SMALL, data, precision=precision, return_weights=True
    )
    kept = weight_bits(first, 0)
    training_engine.train(
        [dense(SMALL)], [0], replace(SMALL, steps=2), data, first.weights, precision=precision
    )
    assert weight_bits(first, 0) == kept
    for weight, bias in first.weights:
        weight.zero_()
        bias.zero_()
    again = training_engine.train(
        [dense(SMALL)], [0], SMALL, data, precision=precision, return_weights=True
    )
    assert weight_bits(again, 0) == kept


@pytest.mark.parametrize("networks", [1, 3])
def test_init_of_another_number_of_networks_is_refused(networks, data):
    start = [
        (torch.cat([w] * networks), torch.cat([b] * networks))
        for w, b in training_engine.initial_layers(0, SMALL)
    ]
    with pytest.raises(InvalidInput):
        training_engine.train([dense(SMALL)] * 2, [0, 1], SMALL, data, start)


def halves_swapped(a):
    """Two masks of equal sparsity, I (x) A and X (x) A: one graph falls into two parts, the other
    is connected (design, section 7).
    """
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
    (w1, b1), (w2, b2), (w3, b3) = training_engine.initial_layers(0, protocol)
    permuted = [
        (w1[:, columns], b1[:, columns]),
        (w2[:, rows][:, :, columns], b2[:, rows]),
        (w3[:, :, rows], b3),
    ]
    other = mask[rows][:, columns]
    assert (other != mask).any()
    first, second = (
        training_engine.train([(None, m, None)], [0], protocol, data, init, precision="float64")
        for m, init in ((mask, None), (other, permuted))
    )
    np.testing.assert_allclose(first.loss, second.loss, rtol=1e-11)
    assert first.loss[0, -1] < 0.9 * first.loss[0, 0]  # it did train
    untouched = training_engine.train(
        [(None, other, None)], [0], protocol, data, precision="float64"
    )
    # with other weights it is another network
    assert abs(untouched.loss / first.loss - 1).max() > 1e-3


def test_masks_and_seeds_must_be_as_many(data):
    with pytest.raises(InvalidInput, match="2 seeds"):
        training_engine.train([dense(SMALL)], [0, 1], SMALL, data)


def test_no_network_is_refused(data):
    with pytest.raises(InvalidInput, match="at least one"):
        training_engine.train([], [], SMALL, data)


def test_a_layer_without_an_entry_is_refused(data):
    with pytest.raises(InvalidInput, match="3 layers; 2"):
        training_engine.train([(None, None)], [0], SMALL, data)


def test_a_transposed_mask_is_refused(data):
    with pytest.raises(InvalidInput, match="layer 0"):
        training_engine.train([(np.ones((784, 16), bool), None, None)], [0], SMALL, data)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(InvalidInput, match="101"):
        training_engine.train([dense(SMALL)], [0], replace(SMALL, batch_size=101), tiny(train=100))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_label_without_an_output_is_refused(part, data):
    split = getattr(data, part)
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    parts[part] = Split(
        split.images, np.where(np.arange(len(split)) == 7, 10, split.labels).astype(np.uint8)
    )
    with pytest.raises(InvalidInput, match="11 classes"):
        training_engine.train([dense(SMALL)], [0], SMALL, Dataset("eleven", **parts))


@pytest.mark.parametrize("workers", [0, -1])
def test_no_worker_is_refused(workers, data):
    with pytest.raises(InvalidInput, match="workers"):
        training_engine.train([dense(SMALL)], [0], SMALL, data, workers=workers)


def test_an_input_width_that_is_not_the_images_is_refused(data):
    with pytest.raises(InvalidInput, match="784 pixels"):
        training_engine.train(
            [(None, None, None)], [0], replace(SMALL, widths=(100, 16, 16, 10)), data
        )


@pytest.mark.parametrize("precision", ["float16", "Float32", "", None, torch.float32], ids=repr)
def test_an_unknown_precision_is_refused(precision, data):
    with pytest.raises(InvalidInput, match="auto, float32, float64, bfloat16, tf32"):
        training_engine.train([dense(SMALL)], [0], SMALL, data, precision=precision)


@pytest.mark.parametrize("device", ["gpu", "mps", "", "CPU", "cpu:0", "cudax", "xcuda"])
def test_an_unknown_device_is_refused(device, data):
    with pytest.raises(InvalidInput, match="allowed: cpu, cuda"):
        training_engine.train([dense(SMALL)], [0], SMALL, data, device=device)
    with pytest.raises(InvalidInput, match="allowed: cpu, cuda"):
        training_engine.prepare(data, SMALL, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
@pytest.mark.parametrize("precision", [*training_engine.PRECISIONS, "auto"])
def test_cuda_without_a_cuda_device_is_refused_and_the_way_out_named(precision, device, data):
    with pytest.raises(InvalidInput, match=f"'{device}'.*no CUDA device.*use 'cpu'"):
        training_engine.train([dense(SMALL)], [0], SMALL, data, precision=precision, device=device)


def test_a_precision_that_the_device_has_not_got_is_refused(data, monkeypatch):
    with pytest.raises(InvalidInput, match=r"'tf32'.*'cpu'.*CUDA"):
        training_engine.train([dense(SMALL)], [0], SMALL, data, precision="tf32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(InvalidInput, match=rf"'float64'.*'{device}'"):
            training_engine.resolve_precision("float64", device)
    with pytest.raises(InvalidInput, match=r"'cuda:2'.*2 CUDA devices"):
        training_engine.resolve_precision("float32", "cuda:2")


def test_a_precision_that_the_device_has_got_stands_for_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device, names in (
        ("cpu", ["float32", "float64", "bfloat16"]),
        ("cuda", ["float32", "bfloat16", "tf32"]),
    ):
        assert [training_engine.resolve_precision(name, device) for name in names] == names


@pytest.mark.parametrize(("amx", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_hardware_multiplies_it(amx, expected, data, monkeypatch):
    monkeypatch.setattr(training_engine, "has_amx", lambda: amx)
    assert training_engine.resolve_precision("auto") == expected
    auto, named = (
        training_engine.train([dense(SMALL)], [0], SMALL, data, precision=name, return_weights=True)
        for name in ("auto", expected)
    )
    assert bits(auto, 0) == bits(named, 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: amx)
    assert training_engine.resolve_precision("auto", "cuda") == expected


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").exists(), reason="the system has no list of what its processor can do"
)
def test_amx_is_found_where_the_system_lists_it():
    assert training_engine.has_amx() is ("amx_bf16" in Path("/proc/cpuinfo").read_text().split())


def test_the_libraries_are_those_that_are_installed_and_compute():
    import numba
    import scipy

    tensors = f"torch {torch.__version__.split('+')[0]}"  # +cpu and +cu128 are one version
    compiled = f"numba {numba.__version__}, scipy {scipy.__version__}, {tensors}"
    assert [training_engine.libraries(p) for p in ("float32", "float64", "bfloat16")] == [
        compiled,
        compiled,
        tensors,
    ]
    assert [training_engine.libraries(p, "cuda") for p in ("float32", "tf32", "bfloat16")] == [
        tensors
    ] * 3


@pytest.mark.parametrize(
    "protocol",
    [SMALL, replace(SMALL, batch_size=None), PAPER],
    ids=["mini-batch", "full batch", "reported"],
)
def test_prepared_data_give_the_same_bits_however_often_they_are_used(protocol, precision, data):
    protocol = replace(protocol, steps=3)
    prepared = training_engine.prepare(data, protocol, precision)

    def trained(**options):
        result = training_engine.train(
            [dense(protocol)] * 3,
            [0, 1, 1],
            protocol,
            data,
            precision=precision,
            return_weights=True,
            **options,
        )
        return [bits(result, at) for at in range(3)]

    without = trained()
    assert trained(prepared=prepared) == without
    assert trained(prepared=prepared, workers=3) == without
    assert (
        trained(
            prepared=training_engine.prepare(
                data, replace(protocol, steps=9, scope="all"), precision
            )
        )
        == without
    )  # other protocols share it


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": replace(SMALL, split="reported")},
        {"protocol": replace(SMALL, input_scaling="raw")},
        {"precision": "float64"},
        {"precision": "bfloat16"},
        {"dataset": tiny(seed=1)},
    ],
    ids=["split", "scaling", "float64", "bfloat16", "data set"],
)
def test_data_prepared_for_something_else_are_refused(other, data):
    prepared = training_engine.prepare(
        **({"dataset": data, "protocol": SMALL, "precision": "float32"} | other)
    )
    with pytest.raises(InvalidInput, match="prepared data belong to another"):
        training_engine.train([dense(SMALL)], [0], SMALL, data, prepared=prepared)
