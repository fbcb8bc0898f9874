"""Chooses the ``calibrated`` protocol: the fewest training FLOPs at which the unpruned network
reaches 0.970 on the validation part.

Sweeps schedule, batch size, learning rate and number of epochs on full MNIST, five seeds each, and
takes, of the settings whose mean validation accuracy reaches the target, the one with the fewest
FLOPs; ties go to the higher accuracy. With a constant learning rate the network after t steps of a
long run is the network of a protocol with t steps, so one run gives every length; a linear schedule
needs a run a length.

    python benchmarks/calibrate.py  # 10 minutes on 2 cores; writes paper/calibration.csv

The test part is never used. The result is frozen in ``bogp.training.protocols.CALIBRATED``, before
any mask is trained.
"""

import itertools

import pandas as pd
from tqdm.auto import tqdm

from bogp import datasets, paths
from bogp.records import write_table
from bogp.training import engine
from bogp.training.protocols import Protocol

TARGET, SEEDS, LOOKS_AN_EPOCH = 0.970, range(5), 4
CONSTANT = list(itertools.product(("constant",), (64, 128, 256), (1e-3, 2e-3, 3e-3, 5e-3), (6,)))
LINEAR = list(
    itertools.product(
        ("linear",), (32, 64, 128, 256), (2e-3, 3e-3, 5e-3, 1e-2), (0.75, 1, 1.25, 1.5, 2)
    )
)
KEYS = ["schedule", "batch_size", "learning_rate", "steps"]


def sweep() -> pd.DataFrame:
    """One row per setting, number of steps and seed, with validation accuracy and training FLOPs
    (in 1e9).
    """
    dataset = datasets.load("mnist")
    rows = []
    for schedule, batch_size, learning_rate, epochs in tqdm([*CONSTANT, *LINEAR], unit="setting"):
        looks = LOOKS_AN_EPOCH * epochs if schedule == "constant" else 1
        every = int(len(dataset.train) // batch_size * epochs / looks)
        protocol = Protocol(
            "sweep",
            learning_rate=learning_rate,
            schedule=schedule,
            batch_size=batch_size,
            steps=every * looks,
            check_every=every,
            patience=looks,
        )
        result = engine.train([(None, None, None)] * len(SEEDS), list(SEEDS), protocol, dataset)
        gflop = protocol.training_flops(len(dataset.train)) / protocol.steps / 1e9
        for seed, look in itertools.product(SEEDS, range(looks)):
            steps, accuracy = every * (look + 1), result.looks[seed, look]
            rows.append((schedule, batch_size, learning_rate, steps, seed, accuracy, steps * gflop))
    return pd.DataFrame(rows, columns=[*KEYS, "seed", "validation_accuracy", "gflop"])


def choose(table: pd.DataFrame) -> pd.Series:
    """The setting with the fewest FLOPs among those whose mean validation accuracy reaches the
    target.
    """
    mean = table.groupby(KEYS, as_index=False)[["validation_accuracy", "gflop"]].mean()
    good = mean[mean.validation_accuracy >= TARGET]
    return good.sort_values(["gflop", "validation_accuracy"], ascending=[True, False]).iloc[0]


if __name__ == "__main__":
    table = sweep()
    write_table(
        table,
        paths.results_dir("paper") / "calibration.csv",
        parameters={"target": TARGET, "seeds": list(SEEDS)},
    )
    print(choose(table))
