"""Interrupted: a process that builds a database and trains is killed at random moments, again and
again, and ends where an uninterrupted one does.
"""

import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bogp.training.store import Store
from tests.reliability import victim
from tests.reliability.report import Count, record

SEED = 10


def start(folder: Path) -> tuple[victim.PROCESSES.Process, Path]:
    """A process that has begun its work."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    log.unlink(missing_ok=True)
    process = victim.PROCESSES.Process(target=victim.work, args=(folder, log), daemon=True)
    process.start()
    deadline = time.monotonic() + 120
    while not log.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    return process, log


def kept(folder: Path) -> pd.DataFrame:
    if not (folder / "evaluations.sqlite").exists():
        return pd.DataFrame({"key": []})
    with Store(folder / "evaluations.sqlite") as store:
        return store.table().drop(columns=["seconds", "finished"])


def measure(kills: int, root: Path) -> Count:
    """Kill runs at random moments until so many kills were survived; each run is started again
    until it is done.
    """
    started, rng = time.perf_counter(), np.random.default_rng(SEED)
    process, _ = start(root / "whole")
    begun = time.perf_counter()
    while process.is_alive() and not (root / "whole" / "database" / "manifest.json").exists():
        time.sleep(0.001)
    build_takes = time.perf_counter() - begun
    process.join(300)
    whole_takes = time.perf_counter() - begun
    rows, database = kept(root / "whole"), victim.files(root / "whole" / "database")
    assert (process.exitcode, len(rows)) == (0, 96)
    killed = runs = failed = lost = duplicated = building = 0
    while killed < kills:
        folder, done, runs = root / f"run{runs}", False, runs + 1
        while not done:
            before = set(kept(folder)["key"])
            process, log = start(folder)
            latest = build_takes if killed % 2 else whole_takes  # half of the kills are early ones
            process.join(rng.uniform(0, latest) if killed < kills else 300)
            if process.exitcode is None:
                building += not (folder / "database" / "manifest.json").exists()
                process.kill()
                process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            done, killed = process.exitcode == 0, killed + (process.exitcode != 0)
            noted, after = log.read_text().split()[1:], set(kept(folder)["key"])
            duplicated += len(noted) - len(set(noted) - before)
            lost = max(lost, len(set(noted) - after))
            failed += not before <= after
        failed += not (kept(folder).equals(rows) and victim.files(folder / "database") == database)
    note = (
        f"{runs} runs, each ended as an uninterrupted one; {building} of the kills while the "
        f"database was built, {killed - building} later"
    )
    return Count(
        "kills of a build and its evaluations",
        killed,
        failed,
        lost,
        duplicated,
        time.perf_counter() - started,
        note,
    )


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.full)])
def test_whatever_the_moment_a_killed_run_ends_as_an_uninterrupted_one(kills, tmp_path):
    count = measure(kills, tmp_path)
    assert count.failed == 0
    assert count.lost <= victim.GROUP  # the group in flight
    assert count.duplicated == 0
    if kills == 50:
        record("interrupted", [count], SEED)
