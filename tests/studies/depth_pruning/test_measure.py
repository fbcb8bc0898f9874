"""Blocks removed and measured: against networks cut by hand, and plain loops."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from bogp import structural, zoo
from bogp.errors import InvalidInput
from bogp.studies.depth_pruning import measure
from bogp.studies.depth_pruning.measure import BLOCKS, METHODS, Study
from bogp.zoo import pretrained

SMALL = Study("vit", "synthetic", calibration=12, test=40, draws=2, steps=4)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return measure.unit(SMALL, 0)


def without(name: str, blocks: list[str]) -> nn.Module:
    """A trained network whose blocks do nothing, put out of work by hand."""
    model = zoo.trained(name, 0)
    for block in blocks:
        owner, _, key = block.rpartition(".")
        model.get_submodule(owner)[int(key)] = nn.Identity()
    return model


def test_each_measurement_is_that_of_the_network_cut_by_hand(table):
    task = measure.task_of(SMALL)
    rows = np.unique(np.linspace(0, len(task.test) - 1, 40).astype(int))
    x, y = task.test.inputs[0][rows], task.test.targets[rows]
    kept = table[table.weights == "kept"]
    assert len(kept) == 1 + 2 * 3 * len(METHODS)
    with torch.no_grad():
        full = nn.functional.cross_entropy(zoo.trained("vit", 0)(x), y).item()
        for one in kept.drop_duplicates("blocks").itertuples():
            model = without("vit", one.blocks.replace("none", "").split())
            outputs = model(x)
            loss = nn.functional.cross_entropy(outputs, y).item()
            assert (one.loss, one.change) == pytest.approx((loss, loss - full), abs=1e-4)
            assert one.accuracy == pytest.approx((outputs.argmax(1) == y).double().mean().item())
            assert one.parameters == sum(p.numel() for p in model.parameters())
    flops = kept.groupby("count").flops.agg(["min", "max"])
    assert (flops["min"] == flops["max"]).all() and flops["min"].is_monotonic_decreasing


def test_orders_read_the_draw_of_calibration_examples_alone(table):
    task, model = measure.task_of(SMALL), zoo.trained("vit", 0)
    draws = [measure.calibration(SMALL, task, draw) for draw in range(2)]
    first, second = ({one.numpy().tobytes() for one in d.inputs[0]} for d in draws)
    assert len(first) == len(second) == 12 and not first & second, "no example in both"
    graph = structural.capture(model, task.train.part(slice(2)).inputs, level="blocks")
    kept = table[(table.weights == "kept") & (table["count"] == 3)]
    found = kept.set_index(["method", "draw"]).blocks
    for draw, examples in enumerate(draws):
        losses = []
        for block in BLOCKS["vit"]:
            with torch.no_grad():
                outputs = without("vit", [block])(examples.inputs[0])
            losses.append(nn.functional.cross_entropy(outputs, examples.targets).item())
        best = [BLOCKS["vit"][i] for i in np.argsort(losses)[:3]]
        assert found["leave_one_out", draw].split() == best
        influence = structural.removal_order(graph, examples, task.loss, "block_influence")[:3]
        assert found["block_influence", draw].split() == [graph.name(e) for e in influence]
    assert found["magnitude", 0] == found["magnitude", 1], "it reads no data"


def test_what_is_fine_tuned(table):
    tuned = table[table.weights == "tuned"]
    assert set(tuned["count"]) == {0, 2}
    draws = tuned.groupby("method").draw.agg(list)
    assert draws["random"] == [0, 1] and draws.drop("random").map(lambda d: d == [0]).all()
    assert tuned.rate.nunique() == 1 and tuned.rate.iloc[0] in SMALL.rates
    same = tuned.groupby("blocks")[["loss", "accuracy"]].nunique()
    assert (same == 1).all(axis=None), "one network, one fine-tuning"


def test_fine_tuning_takes_the_steps_that_are_asked_for_and_leaves_the_network():
    task, model = measure.task_of(SMALL), zoo.trained("vit", 0)
    before, steps = copy.deepcopy(model.state_dict()), []
    hook = register_optimizer_step_post_hook(lambda optimiser, *_: steps.append(optimiser))
    try:
        measure.fine_tuned(SMALL, model, task, 0, 1e-3)
        assert len(steps) == 4
        measure.fine_tuned(dataclasses.replace(SMALL, steps=7, batch=3), model, task, 0, 1e-3)
        assert len(steps) == 4 + 7
    finally:
        hook.remove()
    assert all(group["weight_decay"] == 0 for one in steps for group in one.param_groups)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", pretrained.NAMES)
def test_the_blocks_are_those_that_a_capture_finds(name):
    task = measure.task_of(dataclasses.replace(SMALL, network=name))
    graph = structural.capture(zoo.trained(name, 0), task.train.part(slice(2)).inputs, "blocks")
    assert tuple(graph.name(e) for e in graph.candidates) == BLOCKS[name]


def test_latencies_are_of_the_networks_that_are_left(tmp_path):
    found = measure.studied([dataclasses.replace(SMALL, draws=1)], 1, tmp_path)
    times = pd.read_csv(tmp_path / "latency_vit.csv.gz").set_index("blocks").latency
    assert (times > 0).all()
    for one in found.itertuples():
        assert one.latency == times[" ".join(sorted(one.blocks.split()))]
    by_count = found.groupby("count").latency.mean()
    assert by_count[3] < by_count[0], "three blocks of eight less"
    longest = measure.timed("vit", [" ".join(BLOCKS["vit"][:-1]), "none"]).latency
    assert longest[0] < longest[1] / 2


def test_a_unit_is_found_by_study_seed_and_weights():
    name, parameters = measure.record(SMALL, 0)
    assert name == "vit_0.csv.gz" and parameters["steps"] == 4 and parameters["seed"] == 0
    other = measure.record(dataclasses.replace(SMALL, network="char_transformer"), 0)[1]
    assert other["weights"] != parameters["weights"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "resnet50"}, "resnet50"),
        ({"data": "mnist"}, "own, synthetic"),
        ({"steps": 151}, "150"),
        ({"tuned": 4}, "tuned"),
        ({"most": 8}, "most"),
        ({"rates": (0.0,)}, "rates"),
        ({"methods": ("magnitude",)}, "random"),
    ],
)
def test_a_study_out_of_range_is_refused(change, message):
    with pytest.raises(InvalidInput, match=message):
        dataclasses.replace(SMALL, **change)


def test_too_many_draws_or_seeds_are_refused(tmp_path):
    task = measure.task_of(SMALL)
    with pytest.raises(InvalidInput, match="take fewer or smaller draws"):
        measure.calibration(dataclasses.replace(SMALL, calibration=201), task, 0)
    with pytest.raises(InvalidInput, match="each once"):
        measure.studied([SMALL, SMALL], 1, tmp_path)
    with pytest.raises(InvalidInput, match="no vit of seed 7"):
        measure.record(SMALL, 7)
