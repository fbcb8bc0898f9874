"""What the engine is compared with trains the same networks, and lines of the table say so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import peers, plain_training, trainings
from benchmarks.timing import row, verdict
from bogp import datasets
from bogp.training import engine
from bogp.training.protocols import CALIBRATED

SHORT = replace(CALIBRATED, steps=4)  # before rounding has grown


@pytest.fixture(scope="module")
def dataset():
    return datasets.load("mnist-5k")


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(0)
    return [(None, rng.random((128, 128)) < 0.4, None) for _ in range(2)]


def test_torch_func_trains_what_the_engine_trains(dataset, masks):
    ours = engine.train(masks, [0, 0], SHORT, dataset, workers=1)
    parts = trainings._parts(dataset, SHORT)
    loss, accuracy = peers.with_torch_func(masks, 0, SHORT, parts)
    np.testing.assert_allclose(loss, ours.final_loss, rtol=1e-4)
    np.testing.assert_allclose(accuracy, ours.test_accuracy, atol=0.01)


@pytest.mark.skipif(not peers.has_jax(), reason="JAX is not installed (the extra 'peers')")
def test_jax_trains_what_the_engine_trains(dataset, masks):
    ours = engine.train(masks, [0, 0], SHORT, dataset, workers=1)
    loss, accuracy = peers.with_jax(masks, 0, SHORT, trainings._parts(dataset, SHORT))()
    np.testing.assert_allclose(loss, ours.final_loss, rtol=1e-4)
    np.testing.assert_allclose(accuracy, ours.test_accuracy, atol=0.01)


@pytest.mark.parametrize("first_layer", ["trained", "frozen"])
@pytest.mark.parametrize("blocks", ["plain", "residual"])
def test_the_plain_loop_trains_what_the_engine_trains(blocks, first_layer, dataset, masks):
    protocol = replace(SHORT, blocks=blocks, first_layer=first_layer)
    ours = engine.train(masks[:1], [0], protocol, dataset, workers=1)
    with torch.random.fork_rng():
        losses, accuracies = plain_training.train(
            masks[0], 0, protocol, *trainings._parts(dataset, protocol)
        )
    np.testing.assert_allclose(losses, ours.loss[0], rtol=1e-4)
    np.testing.assert_allclose(accuracies[2], ours.test_accuracy[0], atol=0.01)


def test_lines_of_the_table():
    assert row("x", "s", 2.0, 9.0, 4, 5)["verdict"] == "met"
    assert row("x", "s", 2.0, 11.0, 4, 5)["verdict"] == "aim met"
    assert row("x", "s", 2.0, 7.0, 4, 5)["verdict"] == "missed"
    assert row("x", "s", 2.0, 7.0)["verdict"] == ""
    assert verdict(-1.9, -2.0, -1.8) == "met"
