"""Damaged: bit flips and cuts over every kind of file that is stored; each is noticed, or changes
nothing, and none is read as good with other content.
"""

import gzip
import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bogp import datasets
from bogp.errors import BogpError
from bogp.graphs.database import DatabaseSpec, build, open_database
from bogp.records import read_table, recorded_table, write_table
from bogp.training.store import COLUMNS, Store
from tests.reliability.report import Count, ended, record
from tests.reliability.samples import evaluations

SEED = 20
SPEC = DatabaseSpec((0.3, 0.8), masks_per_sparsity=6, n=12, seed=1, shard_size=6)
ROWS = evaluations(40)
RIGHT = {row["key"]: {c: row[c] for c in COLUMNS} for row in ROWS}
PARAMETERS = {"seed": 3}
Change = Callable[[bytes], bytes]
Read = Callable[[Path], Any]  # what a folder's file says; None where it is taken as missing


class RowsGone(Exception):
    """All that was read is right, but so many rows are missing."""


def changes(size: int, count: int, rng: np.random.Generator) -> Iterator[tuple[str, Change]]:
    """Ways to damage a file of that many bytes: three bit flips for each cut; of a file smaller
    than that, each byte in turn.
    """

    def flipped(at: int, bit: int) -> Change:
        return lambda content: content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]

    def cut(length: int) -> Change:
        return lambda content: content[:length]

    flips = 3 * count // 4
    for at in range(size) if size <= flips else rng.integers(0, size, flips).tolist():
        bit = 1 << int(rng.integers(8))
        yield f"byte {at} ^ {bit}", flipped(at, bit)
    for length in (0, size - 1, *rng.integers(0, size, count // 4 - 2).tolist()):
        yield f"cut to {length} bytes", cut(length)


def measure(what: str, folder: Path, file: str, read: Read, count: int) -> Count:
    """Damage a copy of the folder's file in so many ways, and read it."""
    started, ends, lost, bad = time.perf_counter(), Counter[str](), 0, []
    content, copy = (folder / file).read_bytes(), folder.with_name(f"{folder.name}-damaged")
    good = read(copied(folder, copy))
    assert good is not None
    for how, change in changes(len(content), count, np.random.default_rng([SEED, *what.encode()])):
        copied(folder, copy)
        (copy / file).write_bytes(change(content))
        try:
            found = read(copy)
            end = "noticed" if found is None else "harmless" if found == good else "READ AS GOOD"
        except BogpError as error:
            end = "noticed" if str(copy) in str(error) else f"FILE NOT NAMED {error}"
        except RowsGone as gone:
            end, lost = "trained again", lost + gone.args[0]
        except Exception as error:
            end = f"{type(error).__name__.upper()} {error}"
        ends[end] += 1
        if end not in ("noticed", "harmless", "trained again"):
            bad.append(f"{how}: {end}")
    assert not bad, f"{what}: {bad[:5]}"
    return Count(what, ends.total(), len(bad), lost, 0, time.perf_counter() - started, ended(ends))


def copied(folder: Path, copy: Path) -> Path:
    shutil.rmtree(copy, ignore_errors=True)
    return shutil.copytree(folder, copy)


def content_of(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, float_format="%.17g").encode()


# --- what is read, kind by kind ---


def database(folder: Path) -> Any:
    found = open_database(folder)
    return found.spec, content_of(found.table), found.bits.tobytes()


def rebuilt(folder: Path) -> Any:
    build(SPEC, folder, workers=1)
    return database(folder)


def store(folder: Path) -> Any:
    """Rows of the store, asked for by their keys, and all of them."""
    with Store(folder / "evaluations.sqlite") as opened:
        asked, whole = opened.get(list(RIGHT)), opened.table()
    found = {
        row["key"]: row
        for row in whole.astype(object).where(whole.notna(), None).to_dict("records")
    }
    if (
        asked == found
        and found.items() != RIGHT.items()
        and all(RIGHT.get(key) == row for key, row in found.items())
    ):
        raise RowsGone(len(RIGHT) - len(found))
    return asked, found


def export(folder: Path) -> Any:
    with Store(folder / "other.sqlite") as other:
        other.merge(folder / "export.parquet")
        return content_of(other.table())


def data_set(folder: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOGP_DATA_DIR", str(folder))
        return datasets._read("mnist", IDX, ()).tobytes()


def recorded(folder: Path) -> Any:
    found = recorded_table(folder / "t.csv", PARAMETERS)
    return None if found is None else content_of(found)


def result(folder: Path) -> Any:
    return content_of(read_table(folder / "t.csv"))


# --- the files ---

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
RAW = b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in IMAGES.shape) + IMAGES.tobytes()
IDX = datasets._IdxFile("train-images-idx3-ubyte", hashlib.sha256(RAW).hexdigest(), IMAGES.shape)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of each kind."""
    root = tmp_path_factory.mktemp("files")
    build(SPEC, root / "database", workers=1)
    for name in ("store", "wal", "export", "plain", "gz", "table"):
        (root / name).mkdir()
    with Store(root / "store" / "evaluations.sqlite") as whole:
        with whole.locked(list(RIGHT)):
            whole.add(ROWS)
        whole.export(root / "export" / "export.parquet")
    with (
        Store(root / "open.sqlite") as working,
        working.locked(list(RIGHT)),
    ):  # as a process leaves it that is killed: the last rows are in the write-ahead log alone
        working.add(ROWS[:20])
        working._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        working.add(ROWS[20:30])
        working.add(ROWS[30:])
        for end in ("", "-wal", "-shm", ".lock"):
            shutil.copy(root / f"open.sqlite{end}", root / "wal" / f"evaluations.sqlite{end}")
    (root / "plain" / IDX.name).write_bytes(RAW)
    (root / "gz" / f"{IDX.name}.gz").write_bytes(gzip.compress(RAW, mtime=0))
    rng = np.random.default_rng(1)
    write_table(
        pd.DataFrame({"x": rng.normal(size=30), "name": "a,b"}),
        root / "table" / "t.csv",
        PARAMETERS,
    )
    return root


KINDS = {
    "database: a shard": ("database", "part-00001.parquet", database),
    "database: manifest.json, opened": ("database", "manifest.json", database),
    "database: manifest.json, built again": ("database", "manifest.json", rebuilt),
    "database: spec.json, built again": ("database", "spec.json", rebuilt),
    "store: the SQLite file": ("store", "evaluations.sqlite", store),
    "store: the SQLite file of a killed process": ("wal", "evaluations.sqlite", store),
    "store: its write-ahead log": ("wal", "evaluations.sqlite-wal", store),
    "store: its shared memory": ("wal", "evaluations.sqlite-shm", store),
    "exported evaluations (Parquet)": ("export", "export.parquet", export),
    "data cache: an IDX file": ("plain", IDX.name, data_set),
    "data cache: a compressed IDX file": ("gz", f"{IDX.name}.gz", data_set),
    "result: the CSV, found again": ("table", "t.csv", recorded),
    "result: its provenance, found again": ("table", "t.json", recorded),
    "result: the CSV, read": ("table", "t.csv", result),
    "result: its provenance, read": ("table", "t.json", result),
}


@pytest.mark.parametrize("what", KINDS)
def test_damage_is_noticed_or_harmless(what, files):
    folder, file, read = KINDS[what]
    measure(what, files / folder, file, read, count=24)


@pytest.mark.full
def test_damage_is_noticed_or_harmless_in_many_places(files):
    counts = [
        measure(what, files / folder, file, read, count=1_000)
        for what, (folder, file, read) in KINDS.items()
    ]
    record("damaged", counts, SEED)
