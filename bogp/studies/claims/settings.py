"""Which training settings give which unpruned accuracy: the path from ``paper`` to ``calibrated``,
and readings.

The paper (section 6.3) prints full batches, 50 epochs, Adam and a learning rate of "3 * 10^4", and
reports 0.970 for the unpruned network.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pandas as pd

from bogp.datasets import Dataset
from bogp.search.loop import unpruned_job
from bogp.statistics import group_intervals
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import CALIBRATED, CONVERGED, LITERAL, PAPER, RELEASED, Protocol


def protocols(images: Dataset, count: int) -> tuple[Protocol, ...]:
    """The first of ``path`` and ``readings``, whose epochs are of the data set's images; there are
    16.
    """
    return (*path(), *readings(len(images.train) + len(images.validation)))[:count]


def path() -> tuple[Protocol, ...]:
    """From ``paper`` to ``calibrated`` by one change at a time; each protocol's name says what
    changed.
    """
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("held-out images", {"split": CALIBRATED.split}),
        ("learning rate 0.01", {"learning_rate": CALIBRATED.learning_rate}),
        ("batches of 128", {"batch_size": CALIBRATED.batch_size}),
        ("780 steps", {"steps": CALIBRATED.steps}),
    )
    steps = accumulate(
        changes, lambda one, step: replace(one, name=f"... {step[0]}", **step[1]), initial=PAPER
    )
    return (*steps, CALIBRATED)


def readings(images: int = 60_000) -> tuple[Protocol, ...]:
    """What the printed settings could mean, and what the released code changed.

    Each protocol differs from ``paper`` in what its name says.

    Args:
        images: that ``paper`` trains on (training and validation part), for the number of steps in
            an epoch of batches.
    """
    rates = {"3e-3": 3e-3, "3e-2": 3e-2, "3e-1": 3e-1, "3e4, as printed": 3e4}
    return (
        *(
            replace(PAPER, name=f"paper, learning rate {name}", learning_rate=rate)
            for name, rate in rates.items()
        ),
        replace(
            PAPER,
            name="paper, 50 epochs in batches of 128",
            batch_size=128,
            steps=50 * (images // 128),
        ),
        replace(PAPER, name="paper, raw inputs", input_scaling="raw"),
        replace(PAPER, name="paper, softmax twice", loss="softmax_cross_entropy"),
        RELEASED,
        LITERAL,
        CONVERGED,
    )


def audit(
    protocols: Sequence[Protocol], seeds: int, dataset: str, evaluator: Evaluator
) -> pd.DataFrame:
    """Train the unpruned network under each protocol.

    Args:
        protocols: such as ``path`` and ``readings``; each once.
        seeds: trainings of each, from the seeds 0, 1, ...
        dataset: name of the data set; batches must fit it.
        evaluator: looks up what is known and trains the rest.

    Returns:
        One row a training: ``protocol``, ``seed``, ``validation_accuracy`` (under a protocol that
        selects on the reported split these are the reported images), ``test_accuracy``, ``key``.
    """
    asked = [(protocol, seed) for protocol in protocols for seed in range(seeds)]
    rows = evaluator.evaluate([unpruned_job(seed, protocol, dataset) for protocol, seed in asked])
    labels = pd.DataFrame({"protocol": [p.name for p, _ in asked], "seed": [s for _, s in asked]})
    return labels.join(rows[["validation_accuracy", "test_accuracy", "key"]])


def summary(audited: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy under each protocol, with its 95 % t interval.

    Returns:
        ``protocol``, ``mean``, ``low``, ``high``, ``n``, in the order of ``audit``.
    """
    return group_intervals(audited, ["protocol"], "test_accuracy")
