"""Trained networks as committed: whole, small, as good as their summary says, and such that
structural pruning takes them.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from bogp import paths, structural, zoo
from bogp.errors import BogpError, InvalidInput
from bogp.zoo import pretrained
from bogp.zoo.tasks import measure

FOLDER = paths.weights_dir()
NETWORKS = [(name, seed) for name in pretrained.NAMES for seed in pretrained.SEEDS]


def example(name: str, count: int = 3) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    if name == "char_transformer":
        return torch.randint(pretrained.CHARACTERS, (count, pretrained.LENGTH), generator=draw)
    return torch.randn(count, 3, 32, 32, generator=draw)


@pytest.mark.parametrize("name", pretrained.NAMES)
def test_architectures_are_captured_as_they_are(name):
    model, x = zoo.trained(name), example(name)
    graph = structural.capture(model, x)
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(graph.gated(torch.ones(len(graph.edges)), None, x), expected)
        # and on other inputs, of another number
        more = example(name, 5)
        torch.testing.assert_close(structural.remove(graph, graph.without([]))(more), model(more))
    # each block is a sum of its input and its branches: two in the ResNet, else four, in two sums
    branches = 2 * 9 if name == "resnet20" else 8 * (3 + 1 + 1)
    assert len(graph.candidates) >= branches


def test_the_transformer_reads_nothing_ahead():
    model, x = zoo.trained("char_transformer"), example("char_transformer")
    other = x.clone()
    other[:, 70:] = (other[:, 70:] + 1) % pretrained.CHARACTERS
    with torch.no_grad():
        torch.testing.assert_close(model(other)[:, :70], model(x)[:, :70])
        assert not torch.allclose(model(other)[:, 70:], model(x)[:, 70:])


def test_the_vision_transformer_reads_every_patch():
    x = example("vit").requires_grad_()
    zoo.trained("vit")(x).square().sum().backward()
    assert (x.grad.unfold(2, 4, 4).unfold(3, 4, 4).abs().sum(dim=(1, 4, 5)) > 0).all()


@pytest.mark.parametrize("name", pretrained.NAMES)
def test_a_seed_gives_its_own_network_each_time_and_leaves_torch_as_it_was(home, name):
    before = torch.random.get_rng_state()
    x, models = example(name), [zoo.trained(name, seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not models[0].training
    assert all(p.dtype is torch.float32 for p in models[0].parameters())
    with torch.no_grad():
        outputs = [model(x) for model in models]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])
    assert not torch.allclose(outputs[0], pretrained.architecture(name, 0)(x))


def test_all_are_there_and_small():
    summary = pd.read_csv(FOLDER / "summary.csv")
    assert list(zip(summary["name"], summary["seed"], strict=True)) == NETWORKS
    files = {path.name: path.stat().st_size for path in FOLDER.glob("*.safetensors")}
    assert set(files) == {pretrained.file_name(*network) for network in NETWORKS}
    assert sum(files.values()) <= 5_000_000
    for row in summary.itertuples():
        model = zoo.trained(row.name, row.seed)
        assert row.parameters == sum(p.numel() for p in model.parameters()) <= 1_500_000
        content = (FOLDER / pretrained.file_name(row.name, row.seed)).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row.sha256
        kinds = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert {v["dtype"] for k, v in kinds.items() if "tracked" not in k} == {"F16"}


def test_the_page_gives_the_summary():
    page = (FOLDER.parent / "README.md").read_text()
    summary = pd.read_csv(FOLDER / "summary.csv").groupby("name")
    for name, rows in summary:
        accuracies, losses = (
            ", ".join(f"{value:.3f}" for value in rows[f"test_{kind}"])
            for kind in ("accuracy", "loss")
        )
        assert f"| `{name}` | {rows['parameters'].iloc[0]:,} | {accuracies} | {losses} |" in page


def test_the_epoch_was_chosen_on_the_curve():
    summary, curves = (pd.read_csv(FOLDER / f"{file}.csv") for file in ("summary", "curves"))
    for row in summary.itertuples():
        curve = curves[(curves["name"] == row.name) & (curves["seed"] == row.seed)]
        assert curve["epoch"].tolist() == list(range(1, row.epochs + 1))
        best = curve.loc[curve["validation_loss"].idxmin()]
        assert (best["epoch"], best["validation_loss"], best["validation_accuracy"]) == (
            row.best_epoch,
            row.validation_loss,
            row.validation_accuracy,
        )


def folder_of(file: str) -> Path | None:
    given = os.environ.get("BOGP_DATA_DIR")
    return Path(given) if given and (Path(given) / file).exists() else None


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet20", "cifar10-12k.npz"),
        ("vit", "cifar10-12k.npz"),
        ("char_transformer", "wikitext-2/test.txt"),
    ],
)
def test_they_are_as_good_as_the_summary_says(name, file):
    if folder_of(file) is None:
        pytest.skip(f"set BOGP_DATA_DIR to a folder that holds {file}")
    task = zoo.data(name)
    row = pd.read_csv(FOLDER / "summary.csv").set_index(["name", "seed"]).loc[name, 0]
    measured = measure(zoo.trained(name), task.validation, [task.loss, task.accuracy])
    # what was measured in training had not been rounded to half precision
    assert measured[0] == pytest.approx(row["validation_loss"], abs=5e-3)
    assert measured[1] == pytest.approx(row["validation_accuracy"], abs=5e-3)
    assert zoo.trained(name)(task.test.inputs[0][:2]).shape[-1] == task.outputs
    if name == "char_transformer":
        assert task.outputs == pretrained.CHARACTERS
        assert task.test.inputs[0].shape[1] == pretrained.LENGTH
        assert torch.equal(task.test.inputs[0][:, 1:], task.test.targets[:, :-1])
        shares = torch.bincount(task.test.targets.flatten()) / task.test.targets.numel()
        entropy = float(torch.special.entr(shares).sum())
        assert row["test_loss"] < 0.75 * entropy
    else:
        assert row["test_accuracy"] > 0.4


@pytest.mark.parametrize(
    ("name", "seed"), [("vgg", 0), (3, 0), ("vit", -1), ("vit", 1.0), ("vit", True), ("vit", 99)]
)
def test_what_is_not_there_is_refused(name, seed):
    with pytest.raises(InvalidInput, match=r"there are: |whole number"):
        zoo.trained(name, seed)


def test_data_of_no_network_are_refused():
    with pytest.raises(InvalidInput, match="char_transformer"):
        zoo.data("vgg")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    shutil.copytree(FOLDER, tmp_path / "weights")
    monkeypatch.setattr(paths, "weights_dir", lambda: tmp_path / "weights")
    return tmp_path / "weights"


def test_damaged_and_missing_files_are_refused(copied):
    whole = (copied / "vit_0.safetensors").read_bytes()
    for content in (b"", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        (copied / "vit_0.safetensors").write_bytes(content)
        with pytest.raises(BogpError, match=r"vit_0.*train it anew"):
            zoo.trained("vit", 0)
    zoo.trained("vit", 1)
    (copied / "vit_0.safetensors").unlink()
    with pytest.raises(BogpError, match=r"cannot be read.*Restore"):
        zoo.trained("vit", 0)
    summary = copied / "summary.csv"
    summary.write_text(summary.read_text().replace("vit", "tiv"))
    with pytest.raises(BogpError, match=r"summary\.csv is not what was written"):
        zoo.trained("vit", 1)
