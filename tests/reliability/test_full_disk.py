"""Full disk, read-only folder, limit of file size: a clear error, and what was written before is
intact.

The disk is a real one of 8 MiB (a tmpfs in a mount namespace of its own, which Linux as a rule
gives to users too); where that is not allowed, those cases are skipped, and said to be. The limit
of file size works everywhere on POSIX.
"""

import gzip
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import pooch
import pytest

from bogp import datasets, plotting, records
from bogp.compiled import compiled
from bogp.errors import BogpError
from bogp.graphs.database import DatabaseSpec, build
from bogp.training.store import Store
from tests.reliability.report import ROOT, Count, ended, record
from tests.reliability.samples import evaluations

PAGE = 4096
DISK = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o size=8m disk "$0" && exec "$@"',
]
KINDS = {"full": "a full disk", "limit": "a limit of file size", "readonly": "a read-only disk"}
SPEC = DatabaseSpec((0.5,), masks_per_sparsity=60, n=24, shard_size=30)


def outside() -> Path:
    """A folder where there is room, of the process that writes."""
    return Path(os.environ["BOGP_TEST_OUTSIDE"])


# --- what is written; each time more than there was ---


def add_rows(folder: Path, count: int = 4_000) -> None:
    with Store(folder / "evaluations.sqlite") as store:
        store.add(evaluations(count, seed=count))


def export(folder: Path) -> None:
    with Store(outside() / "whole.sqlite") as store:
        store.export(folder / "export.parquet")


def build_database(folder: Path) -> None:
    build(SPEC, folder / "database", workers=1)


def write_result(folder: Path, rows: int = 60_000) -> None:
    records.write_table(pd.DataFrame({"x": range(rows)}), folder / "result.csv", {})


def save_figure(folder: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(dpi=300)
    figure.subplots().plot(np.random.default_rng(0).random(4_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOGP_HOME", str(folder))
        plotting.save(figure, "run", "figure")


def keep_download(folder: Path) -> None:
    content = b"\0" * 16 + np.random.default_rng(0).bytes(300_000)
    file = datasets._IdxFile("file", hashlib.sha256(content).hexdigest(), (300, 1_000, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(
            pooch,
            "HTTPDownloader",
            lambda **_: lambda url, path, _: Path(path).write_bytes(gzip.compress(content)),
        )
        datasets._download("mnist", file, ["http://mirror/"])


WRITERS: dict[str, Callable[[Path], None]] = {
    "evaluations added to a store": add_rows,
    "evaluations exported": export,
    "a mask database built": build_database,
    "a result written": write_result,
    "a figure saved": save_figure,
    "a data set kept in the cache": keep_download,
}


# --- where there is no room, in a process of its own ---


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file may grow beyond a size."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def fill(folder: Path, room: int) -> None:
    """Leave so many pages of the disk."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * PAGE)
        except OSError:
            file.truncate(max(0, file.tell() // PAGE - room) * PAGE)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "filler"
    }


def rows(folder: Path) -> set[str]:
    """What is in the store; of a copy, for a store cannot be opened on a read-only disk."""
    for path in outside().glob("evaluations.sqlite*"):
        path.unlink()
    for path in folder.glob("evaluations.sqlite*"):
        (outside() / path.name).write_bytes(path.read_bytes())
    with Store(outside() / "evaluations.sqlite") as store:
        return set(map(repr, store.table().itertuples(index=False, name=None)))


def attempt(folder: Path, writer: Callable[[Path], None], room: int, kind: str) -> str:
    """Write where there is little room; ``written``, ``clear error``, or what is not as it should
    be.
    """
    before, known, end, wrong = files(folder), rows(folder), "written", ""
    if kind == "full":
        fill(folder, room)
    try:
        with limited(room * PAGE) if kind == "limit" else nullcontext():
            writer(folder)
        wrong = "written without room" if room == 0 else ""
    except BogpError as error:
        end = "clear error"
        wrong = (
            ""
            if str(folder) in str(error) or str(outside()) in str(error)
            else f"file not named: {error}"
        )
        after = files(folder)
        wrong += "".join(
            f", {name} changed"
            for name, content in before.items()
            if "sqlite" not in name and after.get(name) != content
        )
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    if kind == "full":
        (folder / "filler").unlink()
    wrong += ("" if known <= rows(folder) else ", rows lost") + ", ".join(
        n for n in files(folder) if n.endswith(".tmp")
    )
    return wrong or end


def main(disk: Path, kinds: Sequence[str], rooms: Sequence[int]) -> dict[str, list[str]]:
    """Try each writer with so many pages of room; with room again it has to succeed."""
    build(SPEC, outside() / "database", workers=1)  # what is compiled for it is kept elsewhere
    with Store(outside() / "whole.sqlite") as store:
        store.add(evaluations(4_000, seed=1))
    found: dict[str, list[str]] = {}
    for kind in kinds:
        folder = disk / kind
        write_result(folder, 10)
        add_rows(folder, 10)
        (folder / "earlier.csv").write_text("x\n1\n")
        if kind == "readonly":
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for what, writer in WRITERS.items():
            found[f"{KINDS[kind]}: {what}"] = [
                attempt(folder, writer, room, kind)
                for room in (rooms if kind != "readonly" else [0])
            ]
        for writer in WRITERS.values() if kind != "readonly" else ():
            writer(folder)
        if kind != "readonly":
            shutil.rmtree(folder)
    return found


def measure(root: Path, kinds: Sequence[str], rooms: Sequence[int]) -> list[Count]:
    """Run that in a process, on a disk of its own but where there is only a limit of file size."""
    started, disk, room = time.perf_counter(), root / "disk", root / "room"
    disk.mkdir()
    room.mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.reliability.test_full_disk",
        str(disk),
        ",".join(kinds),
        *map(str, rooms),
    ]
    command = command if kinds == ["limit"] else [*DISK, str(disk), *command]
    environment = os.environ | {"TQDM_DISABLE": "1", "BOGP_TEST_OUTSIDE": str(room)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == len(kinds) * len(WRITERS)
    bad = {what: set(ends) - {"written", "clear error"} for what, ends in found.items()}
    assert not any(bad.values()), bad
    seconds = (time.perf_counter() - started) / len(found)
    return [
        Count(what, len(ends), len(bad[what]), seconds=seconds, note=ended(Counter(ends)))
        for what, ends in found.items()
    ]


def allowed() -> bool:
    """Whether a disk can be mounted here, in a namespace."""
    try:
        return (
            subprocess.run([*DISK, "/mnt", "true"], capture_output=True, check=False).returncode
            == 0
        )
    except OSError:
        return False


mounted = pytest.mark.skipif(
    not allowed(), reason="no disk can be mounted here, not even in a namespace"
)


@pytest.mark.parametrize(
    "kinds", [["limit"], pytest.param(["full", "readonly"], marks=mounted)], ids=" ".join
)
def test_without_room_there_is_a_clear_error_and_nothing_is_lost(kinds, tmp_path):
    measure(tmp_path, kinds, [0, 2])


def _next(x: int) -> int:
    return x + 1


def test_machine_code_that_cannot_be_kept_is_run_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    with limited(0):
        assert compiled(_next)(1) == 2
    assert not list(tmp_path.rglob("*.nbc"))


@pytest.mark.full
@mounted
def test_nor_with_room_for_a_part(tmp_path):
    record("full_disk", measure(tmp_path, list(KINDS), range(40)), seed=0)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2].split(","), list(map(int, sys.argv[3:])))))
