"""Full disk, read-only folder, limit of file size: a clear error, and what was written before is intact.

The disk is a real one of 8 MiB (a tmpfs in a mount namespace of its own, which Linux as a rule gives to users too); where that is not allowed, those cases are
skipped, and said to be. The limit of file size works everywhere on POSIX.
"""

import gzip
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import pooch
import pytest

from bogp import datasets, figures, provenance
from bogp.compiled import compiled
from bogp.database import DatabaseSpec, build
from bogp.errors import BogpError
from bogp.store import Store
from tests.reliability.report import ROOT, Count, record
from tests.reliability.samples import evaluations

PAGE = 4096
DISK = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=8m disk "$0" && exec "$@"']
SPEC = DatabaseSpec((0.5,), masks_per_sparsity=60, n=24, shard_size=30)

# --- what is written; each time more than there was ---


def add_rows(folder: Path, count: int = 4_000) -> None:
    with Store(folder / "evaluations.sqlite") as store:
        store.add(evaluations(count, seed=count))


def export(folder: Path) -> None:
    with Store(folder.parent / "outside.sqlite") as store:
        store.export(folder / "export.parquet")


def build_database(folder: Path) -> None:
    build(SPEC, folder / "database", workers=1)


def write_result(folder: Path, rows: int = 60_000) -> None:
    provenance.write_table(pd.DataFrame({"x": range(rows)}), folder / "result.csv", {})


def save_figure(folder: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(dpi=300)
    figure.subplots().plot(np.random.default_rng(0).random(4_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOGP_HOME", str(folder))
        figures.save(figure, "run", "figure")


def keep_download(folder: Path) -> None:
    content = b"\0" * 16 + np.random.default_rng(0).bytes(300_000)
    file = datasets._IdxFile("file", hashlib.sha256(content).hexdigest(), (300, 1_000, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(pooch, "HTTPDownloader", lambda **_: lambda url, path, _: Path(path).write_bytes(gzip.compress(content)))
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
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "filler"}


def rows(folder: Path) -> set[str]:
    """Keys in the store and the numbers with them; of a copy, for a store cannot be opened on a read-only disk."""
    for path in folder.glob("evaluations.sqlite*"):
        (folder.parent / path.name).write_bytes(path.read_bytes())
    with Store(folder.parent / "evaluations.sqlite") as store:
        return set(map(repr, store.table().itertuples(index=False, name=None)))


def attempt(folder: Path, writer: Callable[[Path], None], room: int, kind: str) -> str:
    """Write where there is little room; says what is not as it should be, and nothing else."""
    for path in folder.parent.glob("evaluations.sqlite*"):
        path.unlink()
    before, known, wrong = files(folder), rows(folder), ""
    if kind == "full":
        fill(folder, room)
    try:
        with limited(room * PAGE) if kind == "limit" else nullcontext():
            writer(folder)
        wrong = "written without room" if room == 0 else ""
    except BogpError as error:
        wrong = "" if str(folder.parent) in str(error) else f"file not named: {error}"
        after = files(folder)
        wrong += "".join(f", {name} changed" for name, content in before.items() if "sqlite" not in name and after.get(name) != content)
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    (folder / "filler").unlink(missing_ok=True) if kind == "full" else None
    for path in folder.parent.glob("evaluations.sqlite*"):
        path.unlink()
    return wrong + ("" if known <= rows(folder) else ", rows lost") + ", ".join(n for n in files(folder) if n.endswith(".tmp"))


def main(kind: str, folder: Path, rooms: Sequence[int]) -> dict[str, list[str]]:
    """Try each writer with so many pages of room; with room again it has to succeed."""
    build(SPEC, folder.parent / "outside", workers=1)  # what is compiled for it is kept elsewhere
    with Store(folder.parent / "outside.sqlite") as store:
        store.add(evaluations(4_000, seed=1))
    write_result(folder, 10)
    add_rows(folder, 10)
    (folder / "earlier.csv").write_text("x\n1\n")
    if kind == "readonly":
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    found = {what: [attempt(folder, writer, room, kind) for room in rooms] for what, writer in WRITERS.items()}
    if kind != "readonly":
        for writer in WRITERS.values():
            writer(folder)
    return found


def measure(kind: str, root: Path, rooms: Sequence[int]) -> list[Count]:
    """Run that in a process, on a disk of its own but for the limit of file size."""
    started, folder = time.perf_counter(), root / kind / "disk"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.reliability.test_full_disk", kind, str(folder), *map(str, rooms)]
    command = command if kind == "limit" else [*DISK, str(folder), *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"TQDM_DISABLE": "1"}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not any(any(ends) for ends in found.values()), found
    seconds = (time.perf_counter() - started) / len(found)
    where = {"full": "a full disk", "readonly": "a read-only disk", "limit": "a limit of file size"}[kind]
    return [Count(f"{where}: {what}", len(ends), sum(map(bool, ends)), seconds=seconds) for what, ends in found.items()]


def allowed() -> bool:
    """Whether a disk can be mounted here, in a namespace."""
    try:
        return subprocess.run([*DISK, "/mnt", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


mounted = pytest.mark.skipif(not allowed(), reason="no disk can be mounted here, not even in a namespace")


@pytest.mark.parametrize("kind", ["limit", pytest.param("full", marks=mounted), pytest.param("readonly", marks=mounted)])
def test_without_room_there_is_a_clear_error_and_nothing_is_lost(kind, tmp_path):
    measure(kind, tmp_path, [0] if kind == "readonly" else [0, 2])


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
    counts = [c for kind in ("full", "limit") for c in measure(kind, tmp_path, range(40))] + measure("readonly", tmp_path, [0])
    record("full_disk", counts, seed=0)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), list(map(int, sys.argv[3:])))))
