"""Fixtures of the tests of claims."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bogp import datasets
from bogp.datasets import Dataset
from bogp.training.evaluation import Evaluator


@pytest.fixture
def evaluator(home: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Evaluator]:
    """An evaluator with a store of its own, which knows ``mnist-5k`` alone; databases are built
    without further processes.
    """
    monkeypatch.setattr(datasets, "load", lambda name: {"mnist-5k": digits}[name])
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    evaluator = Evaluator(progress=False)
    yield evaluator
    evaluator.store.close()
