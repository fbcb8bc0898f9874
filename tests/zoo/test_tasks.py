"""Tasks: parts that share nothing, the same numbers each time, and training that refuses what it
cannot do.
"""

import pytest
import torch
from torch import nn

from bogp.errors import DatasetError, InvalidInput, NotFinite
from bogp.structural.gates import Examples, cross_entropy
from bogp.zoo import tasks

PARTS = ("train", "calibration", "validation", "test")


@pytest.mark.parametrize("name", ["mixture", "patterns", "sentences", "mnist-5k"])
def test_parts_are_disjoint_and_the_same_each_time(home, name):
    task, again, other = tasks.load(name, 1), tasks.load(name, 1), tasks.load(name, 2)
    seen: set[bytes] = set()
    for part in PARTS:
        one = getattr(task, part)
        rows = {x.numpy().tobytes() for x in one.inputs[0]}
        if name != "sentences":  # a piece of text of few words can occur twice
            assert not rows & seen
            assert len(rows) == len(one)
        seen |= rows
        assert torch.equal(one.inputs[0], getattr(again, part).inputs[0])
        assert torch.equal(one.targets, getattr(again, part).targets)
        assert int(one.targets.max()) < task.outputs
    assert not torch.equal(task.calibration.inputs[0], other.calibration.inputs[0])
    if name == "sentences":
        text = torch.cat([getattr(task, part).inputs[0].flatten() for part in PARTS])
        following = torch.cat([getattr(task, part).targets.flatten() for part in PARTS])
        assert torch.equal(text[1:], following[:-1]), (
            "consecutive pieces of one text, each in one part"
        )


def test_an_unknown_task_is_refused():
    with pytest.raises(DatasetError, match="mixture"):
        tasks.load("imagenet")


@pytest.mark.parametrize("length", [0, -1, 64.0, True, tasks.MOST_LENGTH + 1])
def test_pieces_of_no_length_are_refused(length):
    with pytest.raises(InvalidInput, match=f"from 1 to {tasks.MOST_LENGTH}"):
        tasks.load("wikitext-2", length=length)


def test_classes_are_renumbered_in_the_order_given():
    task = tasks.load("mixture", 0)
    two = tasks.classes(task, [3, 1])
    assert two.outputs == 2
    for part in PARTS:
        whole, chosen = getattr(task, part), getattr(two, part)
        rows = torch.nonzero((whole.targets == 3) | (whole.targets == 1)).ravel()
        assert torch.equal(chosen.inputs[0], whole.inputs[0][rows])
        assert torch.equal(chosen.targets == 0, whole.targets[rows] == 3)
    for bad in ([1], [1, 1], [0, 5], [0, -1], [0, 1.5]):
        with pytest.raises(InvalidInput):
            tasks.classes(task, bad)
    with pytest.raises(InvalidInput, match="no classes"):
        tasks.classes(tasks.load("sentences"), [0, 1])


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Examples((x := torch.randn(70, 4),), x.argmax(dim=1) % 3)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 3)
    )


def test_training_is_reproducible_learns_and_leaves_torch_as_it_was(small):
    torch.manual_seed(5)
    expected = torch.rand(1)
    trained = []
    for seed in (1, 1, 2):
        model = network()
        torch.manual_seed(5)
        trained.append(tasks.train(model, small, cross_entropy, epochs=8, seed=seed, batch=16))
        assert torch.equal(torch.rand(1), expected)
    states = [m.state_dict() for m in trained]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["0.weight"], states[2]["0.weight"])
    assert not trained[0].training
    loss, share = tasks.measure(trained[0], small, (cross_entropy, tasks.accuracy), batch=32)
    assert loss < tasks.measure(network(), small, (cross_entropy,))[0]
    with torch.no_grad():
        outputs = trained[0](*small.inputs)
    assert loss == pytest.approx(
        float(nn.functional.cross_entropy(outputs, small.targets)), rel=1e-5
    )
    assert share == pytest.approx(float((outputs.argmax(1) == small.targets).double().mean()))


def test_frozen_parameters_and_no_epochs_change_nothing(small):
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tasks.train(model, small, cross_entropy, epochs=0, seed=0)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model[0].weight.requires_grad_(False)
    tasks.train(model, small, cross_entropy, epochs=1, seed=0, batch=16)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[4].weight, before["4.weight"])


@pytest.mark.parametrize("steps", range(1, 9))
def test_training_works_with_few_steps(small, steps):
    model = tasks.train(
        network(), small.part(slice(0, 2)), cross_entropy, epochs=steps, seed=0, batch=2
    )
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": -1},
        {"epochs": 1.5},
        {"batch": 1},
        {"seed": -1},
        {"rate": 0},
        {"rate": float("nan")},
        {"decay": -1},
    ],
)
def test_bad_settings_of_training_are_refused(small, bad):
    model = network()
    before = model[0].weight.clone()
    with pytest.raises(InvalidInput):
        tasks.train(model, small, cross_entropy, **{"epochs": 1, "seed": 0} | bad)
    assert torch.equal(model[0].weight, before)


def test_nothing_to_train_and_losses_that_are_not_finite_are_refused(small):
    with pytest.raises(InvalidInput, match="no parameters"):
        tasks.train(nn.ReLU(), small, cross_entropy, epochs=1, seed=0)
    with pytest.raises(NotFinite, match="epoch 1"):
        tasks.train(
            network(), small, lambda o, y: cross_entropy(o, y) * float("nan"), epochs=1, seed=0
        )
