"""Trains the networks of ``bogp.zoo.pretrained`` and writes their weights.

    python -m bogp.zoo.train                             # all, three seeds each
    python -m bogp.zoo.train resnet20 vit --seeds 0 1    # some

Weights go to ``data/weights`` in half precision; beside them ``summary.csv`` (how well each does,
checksums) and ``curves.csv`` (losses epoch by epoch). What was trained again takes the place of
what was there. The epoch is chosen on the validation part, by its loss; the test part is used once,
at the end, for the weights as they will be read.
"""

import argparse
import copy
import hashlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bogp import parallel, paths, records
from bogp.checks import refuse
from bogp.errors import BogpError, NotFinite
from bogp.structural.gates import Examples
from bogp.zoo import pretrained
from bogp.zoo.tasks import Task, measure


@dataclass(frozen=True)
class Settings:
    """How a network is trained: by AdamW, the learning rate rising for a tenth of the steps, then
    falling to zero by a cosine.

    Attributes:
        epochs: at most, passes over the training part.
        patience: epochs without a lower validation loss after which training stops.
        batch: examples a step.
        rate: the highest learning rate.
        decay: of the weights.
        shift: images are shifted by up to as many pixels each way, at random.
        flip: whether half of the images are mirrored, at random.
        bfloat16: whether a step computes in bfloat16 where torch deems it safe.
    """

    epochs: int
    patience: int
    batch: int
    rate: float
    decay: float
    shift: int = 0
    flip: bool = False
    bfloat16: bool = False


SETTINGS = {
    "resnet20": Settings(15, 8, 64, 4e-3, 5e-2, shift=2, flip=True, bfloat16=True),
    "vit": Settings(9, 5, 32, 1.5e-3, 5e-2, shift=1, flip=True),
    "char_transformer": Settings(4, 3, 8, 3e-3, 1e-2),
}


def fit(model: nn.Module, task: Task, settings: Settings, seed: int, label: str) -> pd.DataFrame:
    """Train a network in place; it keeps the weights of the epoch with the lowest validation loss.

    Args:
        model: the network.
        task: of which it sees the training and the validation part.
        settings: how.
        seed: of the order of the examples, shifts and mirrorings.
        label: of the progress bar.

    Returns:
        A row for each epoch: ``epoch`` from 1, ``training_loss`` (mean over the epoch's steps),
        ``validation_loss``, ``validation_accuracy``, ``seconds`` since the start.

    Raises:
        NotFinite: a loss became NaN or infinite.
    """
    draw = torch.Generator().manual_seed(seed)
    batch = min(settings.batch, len(task.train))
    each = len(task.train) // batch  # the last few, too few for a batch, wait for another epoch
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on images
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        settings.rate,
        total_steps=settings.epochs * each,
        pct_start=0.1,
        cycle_momentum=False,
    )
    rows: list[dict[str, float]] = []
    best, start = copy.deepcopy(model.state_dict()), time.perf_counter()
    with parallel.progress_bar(settings.epochs * each, "step", label=label) as bar:
        for epoch in range(1, settings.epochs + 1):
            model.train()
            total = 0.0
            order = torch.randperm(len(task.train), generator=draw)
            for chosen in order[: each * batch].split(batch):
                part = varied(task.train.part(chosen), settings, draw)
                with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
                    outputs = model(*part.inputs)
                loss = task.loss(outputs.float(), part.targets).mean()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                bar.update()
                total += float(loss.detach())
            validation_loss, accuracy = measure(model, task.validation, [task.loss, task.accuracy])
            refuse(
                not math.isfinite(total + validation_loss),
                f"A loss was not finite in epoch {epoch} of {label}; lower the learning rate "
                f"(now {settings.rate}).",
                NotFinite,
            )
            if validation_loss < min((row["validation_loss"] for row in rows), default=math.inf):
                best = copy.deepcopy(model.state_dict())
            rows.append(
                {
                    "epoch": epoch,
                    "training_loss": total / each,
                    "validation_loss": validation_loss,
                    "validation_accuracy": accuracy,
                    "seconds": time.perf_counter() - start,
                }
            )
            bar.set_description(f"{label}, validation loss {validation_loss:.3f}")
            if epoch - best_epoch(rows) >= settings.patience:
                break
    model.load_state_dict(best)
    model.eval()
    return pd.DataFrame(rows)


def best_epoch(rows: Sequence[dict[str, float]]) -> int:
    """The epoch with the lowest validation loss, the first of several."""
    return int(min(rows, key=lambda row: row["validation_loss"])["epoch"])


def varied(part: Examples, settings: Settings, draw: torch.Generator) -> Examples:
    """Examples as a step sees them: images mirrored and shifted at random, the rim filled with
    zeros, which is the mean colour.
    """
    x = part.inputs[0]
    if settings.flip:
        mirrored = torch.rand(len(x), 1, 1, 1, generator=draw) < 0.5
        x = torch.where(mirrored, x.flip(-1), x)
    if settings.shift:
        x = _shifted(x, settings.shift, draw)
    return Examples((x,), part.targets)


def _shifted(x: Tensor, most: int, draw: torch.Generator) -> Tensor:
    count, channels, height, width = x.shape
    begin = torch.randint(2 * most + 1, (2, count, 1), generator=draw)
    rows, columns = begin[0] + torch.arange(height), begin[1] + torch.arange(width)
    return F.pad(x, [most] * 4)[
        torch.arange(count)[:, None, None, None],
        torch.arange(channels)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def make(name: str, seed: int, task: Task, settings: Settings, folder: Path) -> None:
    """Train one network and write its weights, its curve and its row of the summary.

    Args:
        name: one of ``pretrained.NAMES``.
        seed: of the initial weights and of the training.
        task: what it learns.
        settings: how.
        folder: where to write.

    Raises:
        NotFinite: a loss became NaN or infinite.
        BogpError: a file cannot be written, or a table that is there was changed.
    """
    model = pretrained.architecture(name, seed)
    curve = fit(model, task, settings, seed, f"{name} {seed}")
    content = pretrained.in_half(model)
    pretrained.from_half(model, content)
    test_loss, test_accuracy = measure(model, task.test, [task.loss, task.accuracy])
    best = curve.loc[curve["validation_loss"].idxmin()]
    row = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": task.name,
        "epochs": len(curve),
        "best_epoch": int(best["epoch"]),
        "validation_loss": best["validation_loss"],
        "validation_accuracy": best["validation_accuracy"],
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "seconds": curve["seconds"].iloc[-1],
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    records.write_atomically({folder / pretrained.file_name(name, seed): content})
    parameters = {"settings": {n: asdict(s) for n, s in (SETTINGS | {name: settings}).items()}}
    for file, table in (("curves.csv", curve), ("summary.csv", pd.DataFrame([row]))):
        table = table.assign(name=name, seed=seed).round(
            {"seconds": 1} | {column: 5 for column in table if "loss" in column or "acc" in column}
        )
        columns = ["name", "seed", *(c for c in table if c not in ("name", "seed"))]
        records.write_table(_together(folder / file, table[columns]), folder / file, parameters)


def _together(path: Path, new: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table that is there, those of the same network replaced."""
    if not path.exists():
        return new
    old = records.read_table(path)
    same = (old["name"] == new["name"].iloc[0]) & (old["seed"] == new["seed"].iloc[0])
    order = {name: i for i, name in enumerate(pretrained.NAMES)}
    return pd.concat([old[~same], new]).sort_values(
        ["name", "seed"], key=lambda c: c.map(order) if c.name == "name" else c, kind="stable"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bogp.zoo.train", description=__doc__)
    parser.add_argument("names", nargs="*", default=pretrained.NAMES, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=pretrained.SEEDS)
    options: Any = parser.parse_args(arguments)
    try:
        every = {name: pretrained.data(name) for name in options.names}
        for seed in options.seeds:
            for name, task in every.items():
                make(name, seed, task, SETTINGS[name], paths.weights_dir())
    except BogpError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
