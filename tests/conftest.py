"""Fixtures and settings that several test files share."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from bogp import datasets
from bogp.datasets import Dataset
from bogp.training import protocols

# Shared, slow cores: no deadline; and the same examples in every run, so that a red test can be run
# again.
settings.register_profile("bogp", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("bogp")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: results and downloads of a test stay in its folder, and the user's data
    sets are out of sight.
    """
    monkeypatch.setenv("BOGP_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BOGP_DATA_DIR", raising=False)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol ``calibrated`` with a third of its steps, where any trained network will do."""
    short = replace(protocols.CALIBRATED, steps=260)
    monkeypatch.setitem(protocols.NAMED, "calibrated", short)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The small data set, which takes seconds to read."""
    return datasets.load("mnist-5k")
