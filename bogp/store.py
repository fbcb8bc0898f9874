"""The store of evaluations: one row for every network ever trained, addressed by what its numbers depend on.

It is an SQLite file in write-ahead mode, safe to share between the processes of one machine; rows are exported as Parquet and merge by union:
``python -m bogp.store merge FILE...`` takes over what other machines trained, ``python -m bogp.store export FILE`` writes all rows.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from bogp import paths
from bogp.errors import BogpError, StoreError

# ``method``: settings of a pruning method as JSON, empty for layer masks; ``trainings``: how many the row took; ``layer_sparsity``: a JSON list.
COLUMNS = {
    "key": "TEXT PRIMARY KEY", "recipe": "TEXT", "seed": "INTEGER", "protocol": "TEXT", "protocol_name": "TEXT", "dataset": "TEXT",
    "dataset_checksum": "TEXT", "precision": "TEXT", "engine_version": "INTEGER", "libraries": "TEXT", "device": "TEXT",
    "method": "TEXT", "trainings": "INTEGER", "model_sparsity": "REAL", "effective_sparsity": "REAL", "layer_sparsity": "TEXT",
    "train_accuracy": "REAL", "validation_accuracy": "REAL", "test_accuracy": "REAL",
    "final_loss": "REAL", "steps": "INTEGER", "seconds": "REAL", "finished": "TEXT",
}  # fmt: skip


class Store:
    """The SQLite file of evaluations; use it as a context manager, or close it.

    Args:
        path: of the file; made if it does not exist.

    Raises:
        StoreError: it cannot be opened, is damaged, or is no store of this version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"CREATE TABLE IF NOT EXISTS evaluations ({', '.join(f'{k} {v}' for k, v in COLUMNS.items())}) WITHOUT ROWID")
            found = [row[1] for row in self._db.execute("PRAGMA table_info(evaluations)")]
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"The store {path} cannot be opened ({error}). Check the folder's permissions and space; if the file is "
                             "damaged, move it away: its rows can be imported again from the exported Parquet files.") from None  # fmt: skip
        if found != list(COLUMNS):
            raise StoreError(
                f"The store {path} has other columns than this version of bogp; move it away, or export it with the bogp that wrote it."
            )

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The rows of those keys that the store holds."""
        found: dict[str, dict[str, Any]] = {}
        with _explained(self.path):
            for i in range(0, len(keys), 500):
                some = list(keys[i : i + 500])
                marks = ", ".join("?" * len(some))
                for row in self._db.execute(f"SELECT * FROM evaluations WHERE key IN ({marks})", some):
                    found[row[0]] = dict(zip(COLUMNS, row, strict=True))
        return found

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows in one transaction; a key that is there already keeps its row."""
        marks = ", ".join("?" * len(COLUMNS))
        with _explained(self.path):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(f"INSERT OR IGNORE INTO evaluations VALUES ({marks})", [[row[c] for c in COLUMNS] for row in rows])
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def table(self) -> pd.DataFrame:
        """All rows, ordered by key."""
        with _explained(self.path):
            return pd.DataFrame(self._db.execute("SELECT * FROM evaluations ORDER BY key").fetchall(), columns=list(COLUMNS))

    def export(self, path: Path, keys: Sequence[str] | None = None) -> Path:
        """Write rows to a Parquet file, ordered by key.

        Args:
            path: of the file.
            keys: which rows; None is all.

        Raises:
            StoreError: one of the keys is not in the store.
        """
        import io

        from bogp.provenance import write_atomically

        table = self.table()
        if keys is not None:
            missing = set(keys) - set(table["key"])
            if missing:
                raise StoreError(
                    f"{len(missing)} of the {len(set(keys))} evaluations to export are not in the store {self.path}; run them first."
                )
            table = table[table["key"].isin(set(keys))]
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False, compression="zstd")
        write_atomically({path: buffer.getvalue()})
        return path

    def merge(self, path: Path) -> int:
        """Add the rows of an exported Parquet file; returns how many were new.

        Raises:
            StoreError: the file is no export of this version, is damaged, or contradicts the store: two rows of one key with other accuracies.
        """
        try:
            table = pd.read_parquet(path)
        except Exception as error:  # pyarrow raises many kinds
            raise StoreError(f"{path} cannot be read as an export of evaluations ({str(error)[:200]}).") from None
        if list(table.columns) != list(COLUMNS):
            raise StoreError(f"{path} was exported by another version of bogp. Delete it, or move it away: its networks are trained again.")
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        present = self.get([row["key"] for row in rows])
        known = dict(present)
        for row in rows:
            there = known.setdefault(row["key"], row)
            if any(there[c] != row[c] for c in ("validation_accuracy", "test_accuracy")):
                raise StoreError(
                    f"{path} contradicts the store on evaluation {row['key']} (seed {row['seed']}): same identity, other accuracy. "
                    "If it comes from another kind of processor, keep it in a store of its own (another BOGP_HOME)."
                )
        self.add(rows)
        return len(known) - len(present)

    @contextmanager
    def locked(self, keys: Sequence[str]) -> Iterator[None]:
        """Hold the right to train these keys; another process that wants one of them waits.

        The locks are bytes of one file, taken in ascending order (so that no two processes wait for each other), and the system releases
        them when the process ends, however it ends.
        """
        try:
            file = open(f"{self.path}.lock", "ab")  # noqa: PTH123, SIM115
            for offset in sorted({int(key[:15], 16) for key in keys}):
                fcntl.lockf(file, fcntl.LOCK_EX, 1, offset, os.SEEK_SET)
        except OSError as error:
            raise StoreError(
                f"The store {self.path} cannot be locked ({error.strerror}). Check space and permissions, or keep it on a local disk."
            ) from None
        with file:
            yield


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"The store {path} failed ({error}). Free some space or check permissions; all that was committed before is kept."
        ) from None


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bogp.store", description="Merge evaluations of other machines into the store, or export all."
    )
    parser.add_argument("what", choices=["merge", "export"])
    parser.add_argument("files", nargs="+", type=Path, help="Parquet files to read; for export, the one to write")
    arguments = parser.parse_args(argv)
    if arguments.what == "export" and len(arguments.files) != 1:
        parser.error("export writes one file")
    try:
        with Store(paths.store_path()) as store:
            if arguments.what == "export":
                print(store.export(arguments.files[0]))
            for path in arguments.files if arguments.what == "merge" else ():
                print(f"{path}: {store.merge(path)} new evaluations")
    except BogpError as error:
        print(f"bogp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
