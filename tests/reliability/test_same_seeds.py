"""Same seeds, twice, on one worker and on two: the same bytes."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from tests.reliability import victim
from tests.reliability.report import ROOT, Count, record

WORKERS = (1, 2, 1, 2)
SMALL = "{run: t, n_initial: 2, n_iterations: 2, searches: 2, fresh_seeds: 1}"


def compared(what: str, folders: list[Path], read, started: float) -> Count:
    """Count the files of later runs that differ from the first run's."""
    first, *others = [
        {str(p.relative_to(f)): read(p) for p in sorted(f.rglob("*.csv"))} for f in folders
    ]
    assert first and all(set(other) == set(first) for other in others)
    different = [
        name for other in others for name, content in other.items() if content != first[name]
    ]
    assert not different, different
    return Count(
        what,
        len(first) * len(others),
        len(different),
        seconds=time.perf_counter() - started,
        note=f"identical {len(first) * len(others)}",
    )


def library(root: Path, runs: Sequence[int] = WORKERS) -> Count:
    """A search through the library."""
    started, folders = time.perf_counter(), []
    for number, workers in enumerate(runs):
        folders.append(root / f"{number}")
        process = victim.PROCESSES.Process(
            target=victim.searched, args=(folders[-1], workers), daemon=True
        )
        process.start()
        process.join(300)
        assert process.exitcode == 0
    return compared("CSVs of a search through the library", folders, Path.read_bytes, started)


def notebooks(root: Path) -> Count:
    """Notebooks 02 and 03 through the runner, each run with a home of its own."""
    started, folders = time.perf_counter(), []
    for number, workers in enumerate(WORKERS):
        home = root / f"home{number}"
        folders.append(home / "data" / "results")
        cores = sorted(os.sched_getaffinity(0))[:workers]
        for name, parameters in (("02_mask_database", "{run: t}"), ("03_fixed_sparsity_bo", SMALL)):
            command = [
                sys.executable,
                "-m",
                "bogp.run",
                str(ROOT / "notebooks" / f"{name}.ipynb"),
                str(home / f"{name}.ipynb"),
                "-y",
                parameters,
            ]
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"import os, sys; os.sched_setaffinity(0, {cores}); os.execv(sys.argv[1], "
                    "sys.argv[1:])",
                    *command,
                ],
                env=os.environ | {"BOGP_HOME": str(home), "TQDM_DISABLE": "1"},
                check=True,
                capture_output=True,
            )
    return compared("CSVs of notebooks 02 and 03", folders, without_times, started)


def without_times(path: Path) -> bytes:
    return (
        pd.read_csv(path, dtype=str)
        .drop(columns="seconds", errors="ignore")
        .to_csv(index=False)
        .encode()
    )


def test_a_search_gives_the_same_bytes_again_and_on_two_workers(tmp_path):
    assert library(tmp_path, (1, 2)).failed == 0


@pytest.mark.full
@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or os.cpu_count() == 1,
    reason="a process cannot be kept to one of several cores here",
)
def test_so_do_notebooks(tmp_path):
    record(
        "same_seeds",
        [library(tmp_path / "library"), notebooks(tmp_path / "notebooks")],
        victim.SPEC.seed,
    )
