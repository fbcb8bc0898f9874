"""The store of evaluations: one row for every network ever trained, addressed by what its numbers
depend on.

It is an SQLite file in write-ahead mode, safe to share between the processes of one machine. Each
row carries a digest of its values, and an export one of all its rows, so that damage to a file is
noticed and never read as a result. Rows are exported as Parquet and merge by union: ``python -m
bogp.training.store merge FILE...`` takes over what other machines trained, ``python -m
bogp.training.store export FILE`` writes all rows.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd

from bogp import paths
from bogp.checks import refuse, texts
from bogp.errors import BogpError, StoreError

# ``method``: settings of a pruning method as JSON, empty for layer masks; ``trainings``: how many
# the row took; ``layer_sparsity``: a JSON list.
COLUMNS = {
    "key": "TEXT PRIMARY KEY",
    "recipe": "TEXT",
    "seed": "INTEGER",
    "protocol": "TEXT",
    "protocol_name": "TEXT",
    "dataset": "TEXT",
    "dataset_checksum": "TEXT",
    "precision": "TEXT",
    "engine_version": "INTEGER",
    "libraries": "TEXT",
    "device": "TEXT",
    "method": "TEXT",
    "trainings": "INTEGER",
    "model_sparsity": "REAL",
    "effective_sparsity": "REAL",
    "layer_sparsity": "TEXT",
    "train_accuracy": "REAL",
    "validation_accuracy": "REAL",
    "test_accuracy": "REAL",
    "final_loss": "REAL",
    "steps": "INTEGER",
    "seconds": "REAL",
    "finished": "TEXT",
}
_PYTHON = {"TEXT": str, "INTEGER": int, "REAL": float}
_KINDS = [_PYTHON[kind.split()[0]] for kind in COLUMNS.values()]
_DIGEST = "bogp_digest"  # of an export's rows, in the metadata of its schema
# the file's whole schema, as SQLite keeps its text
_COLUMNS = ", ".join(f"{k} {v}" for k, v in {**COLUMNS, "digest": "TEXT"}.items())
_SCHEMA = f"CREATE TABLE evaluations ({_COLUMNS}) WITHOUT ROWID"
_RECOVER = "move it away: its rows can be imported again from the exported Parquet files."


class Store(AbstractContextManager["Store"]):
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
            # SQLite would take it for a new one
            refuse(
                path.exists() and path.stat().st_size == 0 and Path(f"{path}.lock").exists(),
                f"The store {path} is empty, though evaluations were kept in it. It was "
                "cut off: delete it with its -wal, -shm "
                "and .lock files and import the exported Parquet files.",
                StoreError,
            )
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"The store {path} cannot be opened ({error}). Check the folder's permissions "
                f"and space; if the file is damaged, {_RECOVER}"
            ) from None

    def _open(self) -> None:
        """Refuse a file with anything but the one table in it (a view or a trigger would run what
        its maker wrote), or one that is damaged.
        """
        self._db.execute("PRAGMA trusted_schema = OFF")
        refuse(
            self._schema() not in ("", _SCHEMA),
            f"The store {self.path} has other columns, or more in it, than the table of "
            "evaluations of this version of bogp; "
            "move it away, or export it with the bogp that wrote it.",
            StoreError,
        )
        if (problem := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise StoreError(
                f"The store {self.path} is damaged ({' '.join(problem.split())}); {_RECOVER}"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        if self._schema() != _SCHEMA:
            self._db.execute("BEGIN IMMEDIATE")  # another process may be doing the same
            if not self._schema():
                self._db.execute(_SCHEMA)
            self._db.execute("COMMIT")

    def _schema(self) -> str:
        return "; ".join(
            sql or name for name, sql in self._db.execute("SELECT name, sql FROM sqlite_master")
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The rows of those keys that the store holds.

        Raises:
            StoreError: the file cannot be read, or one of the rows is damaged.
        """
        found: dict[str, dict[str, Any]] = {}
        with _explained(self.path):
            for i in range(0, len(keys), 500):
                some = list(keys[i : i + 500])
                marks = ", ".join("?" * len(some))
                rows = self._sound(f"SELECT * FROM evaluations WHERE key IN ({marks})", some)
                found |= {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows}
        return found

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows in one transaction; a key that is there already keeps its row."""
        values = [_plain([row[c] for c in COLUMNS]) for row in rows]
        insert = f"INSERT OR IGNORE INTO evaluations VALUES (?{', ?' * len(COLUMNS)})"
        with _explained(self.path), self._db:  # commits, or rolls back
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(insert, [(*row, _digest(row)) for row in values])

    def table(self) -> pd.DataFrame:
        """All rows, ordered by key.

        Raises:
            StoreError: the file cannot be read, or one of the rows is damaged.
        """
        with _explained(self.path):
            return pd.DataFrame(
                self._sound("SELECT * FROM evaluations ORDER BY key"), columns=list(COLUMNS)
            )

    def _sound(self, query: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Rows without their digest, each checked against it."""
        rows = []
        for *row, digest in self._db.execute(query, values):
            if digest != _digest(row):
                raise StoreError(
                    f"The store {self.path} is damaged: evaluation {row[0]!r} is not what was "
                    f"stored. To go on, {_RECOVER}"
                )
            rows.append(tuple(row))
        return rows

    def export(self, path: Path, keys: Sequence[str] | None = None) -> Path:
        """Write rows to a Parquet file, ordered by key.

        Args:
            path: of the file.
            keys: which rows; None is all.

        Raises:
            StoreError: one of the keys is not in the store, or the file cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        from bogp.records import write_atomically

        table = self.table()
        if keys is not None:
            keys = texts("keys", keys)
            missing = set(keys) - set(table["key"])
            refuse(
                missing,
                f"{len(missing)} of the {len(set(keys))} evaluations to export are not in "
                f"the store {self.path}; run them first.",
                StoreError,
            )
            table = table[table["key"].isin(set(keys))]
        content, buffer = pa.Table.from_pandas(table, preserve_index=False), io.BytesIO()
        metadata = {**(content.schema.metadata or {}), _DIGEST: _digest_of_all(_rows(content))}
        content = content.replace_schema_metadata(metadata)
        pq.write_table(content, buffer, compression="zstd", write_page_checksum=True)
        write_atomically({path: buffer.getvalue()})
        return path

    def merge(self, path: Path) -> int:
        """Add the rows of an exported Parquet file; returns how many were new.

        Raises:
            StoreError: the file is no export of this version, is damaged, or contradicts the store:
                two rows of one key with other accuracies.
        """
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in _exported(path)]
        present = self.get([row["key"] for row in rows])
        known = dict(present)
        for row in rows:
            there = known.setdefault(row["key"], row)
            refuse(
                any(there[c] != row[c] for c in ("validation_accuracy", "test_accuracy")),
                f"{path} contradicts the store on evaluation {row['key']} (seed "
                f"{row['seed']}): same identity, other accuracy. "
                "If it comes from another kind of processor, keep it in a store of its "
                "own (another BOGP_HOME).",
                StoreError,
            )
        self.add(rows)
        return len(known) - len(present)

    @contextmanager
    def locked(self, keys: Sequence[str]) -> Iterator[None]:
        """Hold the right to train these keys; another process that wants one of them waits.

        The locks are bytes of one file, taken in ascending order (so that no two processes wait for
        each other), and the system releases them when the process ends, however it ends.
        """
        try:
            file = open(f"{self.path}.lock", "ab")  # noqa: PTH123, SIM115
            for offset in sorted({int(key[:15], 16) for key in keys}):
                fcntl.lockf(file, fcntl.LOCK_EX, 1, offset, os.SEEK_SET)
        except OSError as error:
            raise StoreError(
                f"The store {self.path} cannot be locked ({error.strerror}). Check space and "
                "permissions, or keep it on a local disk."
            ) from None
        with file:
            yield


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    """The values as SQLite gives them back: of the column's type, or None, which also stands for
    NaN.
    """
    return tuple(_of_kind(kind, value) for kind, value in zip(_KINDS, row, strict=True))


def _of_kind(kind: type, value: Any) -> Any:
    if value is None or value != value:
        return None
    if kind is int and value != int(value):
        raise ValueError(f"{value} stands where a whole number is needed")
    return kind(value)


def _digest(row: Sequence[Any]) -> str:
    return hashlib.blake2b(repr(tuple(row)).encode(), digest_size=12).hexdigest()


def _digest_of_all(rows: Sequence[tuple[Any, ...]]) -> str:
    return hashlib.sha256("".join(map(_digest, rows)).encode()).hexdigest()


def _exported(path: Path) -> list[tuple[Any, ...]]:
    """The rows of an exported file, checked against its digest (which files of earlier versions do
    not have).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = _decoded(
            pq.read_table(io.BytesIO(path.read_bytes()), page_checksum_verification=True)
        )
        kinds = pa.types
        plain = (kinds.is_string, kinds.is_large_string, kinds.is_integer, kinds.is_floating)
        strange = [
            f.name
            for f in table.schema
            if not any(is_kind(f.type) for is_kind in (*plain, kinds.is_null))
        ]
        rows = [] if strange else _rows(table)
    except Exception as error:  # pyarrow raises many kinds
        raise StoreError(
            f"{path} cannot be read as an export of evaluations ({str(error)[:200]})."
        ) from None
    refuse(
        table.schema.names != list(COLUMNS) or strange,
        f"{path} has other columns than exports of this version of bogp. Move it away: "
        "its networks are trained again.",
        StoreError,
    )
    expected = (table.schema.metadata or {}).get(_DIGEST.encode())
    refuse(
        expected is not None and expected.decode(errors="replace") != _digest_of_all(rows),
        f"{path} is damaged: its rows are not those that were exported. Fetch it anew, or "
        "move it away: its networks are trained again.",
        StoreError,
    )
    return rows


def _decoded(table: Any) -> Any:
    """A table that other programs wrote in their own forms of text, in the plain one."""
    import pyarrow as pa

    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) or str(field.type) == "string_view":
            column = table.column(at).cast(getattr(field.type, "value_type", pa.string()))
            table = table.set_column(at, field.name, column)
    return table


def _rows(table: Any) -> list[tuple[Any, ...]]:
    """The rows of an Arrow table as plain values."""
    return [
        _plain(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"The store {path} failed ({error}). Free some space or check permissions, all "
            f"that was committed before is kept; or, if it is damaged, {_RECOVER}"
        ) from None


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bogp.training.store",
        description="Merge evaluations of other machines into the store, or export all.",
    )
    parser.add_argument("what", choices=["merge", "export"])
    parser.add_argument(
        "files", nargs="+", type=Path, help="Parquet files to read; for export, the one to write"
    )
    arguments = parser.parse_args(argv)
    if arguments.what == "export" and len(arguments.files) != 1:
        parser.error("export writes one file")
    try:
        with Store(paths.store_path()) as store:
            for path in arguments.files:
                print(
                    store.export(path)
                    if arguments.what == "export"
                    else f"{path}: {store.merge(path)} new evaluations"
                )
    except BogpError as error:
        print(f"bogp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
