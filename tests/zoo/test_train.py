"""Training of the networks that are committed: what a step sees, when it stops, which epoch it
keeps, and what it writes.
"""

import hashlib
import json
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from torch import nn

from bogp import paths, zoo
from bogp.errors import NotFinite
from bogp.structural.gates import Examples, cross_entropy
from bogp.zoo import pretrained, tasks, train

SHORT = train.Settings(epochs=3, patience=3, batch=16, rate=1e-2, decay=0.0)


def rows(count: int, seed: int, sign: int = 1) -> Examples:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return Examples((x,), (sign * x).argmax(dim=1))


def task(validation: Examples) -> tasks.Task:
    return tasks.Task("made up", rows(70, 0), rows(20, 1), validation, rows(50, 3), 4)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 4)


def test_it_learns_and_keeps_the_epoch_with_the_lowest_validation_loss():
    given, model = task(rows(60, 2)), network()
    before = tasks.measure(model, given.validation, [cross_entropy])[0]
    state = torch.random.get_rng_state()
    curve = train.fit(model, given, replace(SHORT, epochs=12, patience=12), 0, "test")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training
    assert curve["epoch"].tolist() == list(range(1, 13))
    kept = tasks.measure(model, given.validation, [cross_entropy, tasks.accuracy])
    best = curve.loc[curve["validation_loss"].idxmin()]
    assert kept == pytest.approx([best["validation_loss"], best["validation_accuracy"]])
    assert kept[0] < 0.8 * before
    assert curve["seconds"].is_monotonic_increasing


def test_it_stops_when_the_validation_loss_no_longer_falls():
    # what is learnt is the opposite of what is asked for: each epoch is worse than the one before
    given = task(rows(60, 2, sign=-1))
    models = [network(), network()]
    curve = train.fit(models[0], given, replace(SHORT, epochs=40), 0, "test")
    assert len(curve) == 1 + SHORT.patience
    assert curve["validation_loss"].is_monotonic_increasing
    # what it keeps is the first epoch's: that of a training that ended there
    kept = tasks.measure(models[0], given.validation, [cross_entropy])[0]
    assert kept == pytest.approx(curve["validation_loss"][0])


def test_the_same_seed_gives_the_same_weights():
    states = []
    for seed in (1, 1, 2):
        train.fit(model := network(), task(rows(60, 2)), SHORT, seed, "test")
        states.append(model.weight.detach())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_loss_that_is_not_finite_is_refused():
    broken = replace(task(rows(60, 2)), loss=lambda o, y: cross_entropy(o, y) * float("nan"))
    with pytest.raises(NotFinite, match="epoch 1 of test"):
        train.fit(network(), broken, SHORT, 0, "test")


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_shifted_and_mirrored(flip):
    x = torch.randn(400, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    settings = replace(SHORT, shift=1, flip=flip)
    seen = train.varied(
        Examples((x,), torch.arange(400)), settings, torch.Generator().manual_seed(0)
    )
    assert torch.equal(seen.targets, torch.arange(400))
    padded = torch.zeros(400, 3, 7, 8)
    padded[:, :, 1:-1, 1:-1] = x
    ways = {
        (down, right, mirrored): (torch.flip(padded, (3,)) if mirrored else padded)[
            :, :, down : down + 5, right : right + 6
        ]
        for down in range(3)
        for right in range(3)
        for mirrored in ((False, True) if flip else (False,))
    }
    counts = {
        way: sum(torch.equal(a, b) for a, b in zip(image, seen.inputs[0], strict=True))
        for way, image in ways.items()
    }
    assert sum(counts.values()) == 400  # each image is one of them
    assert min(counts.values()) > 0.4 * 400 / len(ways)


def test_texts_are_seen_as_they_are():
    tokens = Examples((torch.randint(9, (5, 7)),), torch.randint(9, (5, 7)))
    seen = train.varied(tokens, SHORT, torch.Generator())
    assert torch.equal(seen.inputs[0], tokens.inputs[0])


def test_settings_are_known_for_each_network_and_varied_for_images_alone():
    assert tuple(train.SETTINGS) == pretrained.NAMES
    assert not train.SETTINGS["char_transformer"].shift
    assert not train.SETTINGS["char_transformer"].flip


@pytest.fixture
def made_up(home, monkeypatch):
    """Data of no meaning in the place of the real ones, and a folder of its own."""

    def data(name: str) -> tasks.Task:
        draw = torch.Generator().manual_seed(0)
        if name == "char_transformer":
            tokens = torch.randint(pretrained.CHARACTERS, (24, 9), generator=draw)
            every, outputs = Examples((tokens[:, :-1],), tokens[:, 1:]), pretrained.CHARACTERS
        else:
            x = torch.randn(24, 3, 32, 32, generator=draw)
            every, outputs = Examples((x,), torch.arange(24) % 10), 10
        parts = (every.part(slice(i, i + 6)) for i in range(0, 24, 6))
        return tasks.Task(name, *parts, outputs)

    monkeypatch.setattr(pretrained, "data", data)
    monkeypatch.setattr(paths, "weights_dir", lambda: home / "weights")
    for name, settings in train.SETTINGS.items():
        monkeypatch.setitem(train.SETTINGS, name, replace(settings, epochs=2))
    return home / "weights"


def test_the_command_writes_what_is_read(made_up):
    assert train.main(["--seeds", "0"]) == 0
    assert train.main(["vit", "char_transformer", "--seeds", "4", "0"]) == 0
    summary, curves = (pd.read_csv(made_up / f"{file}.csv") for file in ("summary", "curves"))
    pairs = [(n, s) for n in pretrained.NAMES for s in (0, 4) if (n, s) != ("resnet20", 4)]
    assert list(zip(summary["name"], summary["seed"], strict=True)) == pairs
    assert len(curves) == 2 * len(pairs)
    record = json.loads((made_up / "summary.json").read_text())["parameters"]["settings"]
    assert record == {name: asdict(settings) for name, settings in train.SETTINGS.items()}
    for row in summary.itertuples():
        path = made_up / pretrained.file_name(row.name, row.seed)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256
        assert path.stat().st_size == row.bytes
        given = pretrained.data(row.name)
        found = tasks.measure(zoo.trained(row.name, row.seed), given.test, [given.loss])[0]
        assert found == pytest.approx(row.test_loss, abs=1e-4)


def test_the_command_refuses_in_words(made_up, capsys):
    (made_up).mkdir()
    (made_up / "summary.csv").write_text("name,seed\n")
    for arguments in (["vit", "--seeds", "0"], ["vit", "--seeds", "-1"]):
        assert train.main(arguments) == 1
        message = capsys.readouterr().err
        assert "summary.csv" in message or "whole number" in message
        assert "Traceback" not in message


def test_weights_are_rounded_to_half_precision_and_nothing_else():
    model = pretrained.architecture("resnet20", 5)
    model.train()(torch.randn(4, 3, 32, 32))  # statistics of its own, and a count of batches
    read = pretrained.from_half(pretrained.architecture("resnet20"), pretrained.in_half(model))
    assert not read.training
    for (key, value), found in zip(
        model.state_dict().items(), read.state_dict().values(), strict=True
    ):
        floats = value.is_floating_point()
        assert torch.equal(found, value.half().float() if floats else value), key
        assert found.dtype == value.dtype
