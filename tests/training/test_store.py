"""What the store notices about its own files; what it does for an evaluator is in
test_evaluation.py, damage at random in tests/reliability.
"""

import sqlite3
from contextlib import closing

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bogp.errors import StoreError
from bogp.training.store import COLUMNS, Store
from tests.reliability.samples import evaluations

ROWS = evaluations(12)


def before_digests(path):
    """A store as it was made before rows had digests."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "CREATE TABLE IF NOT EXISTS evaluations "
            f"({', '.join(f'{k} {v}' for k, v in COLUMNS.items())}) WITHOUT ROWID"
        )
        db.executemany(
            f"INSERT INTO evaluations VALUES ({', '.join('?' * len(COLUMNS))})",
            [[row[c] for c in COLUMNS] for row in ROWS],
        )


@pytest.fixture
def path(tmp_path):
    with Store(tmp_path / "e.sqlite") as store:
        store.add(ROWS)
    return tmp_path / "e.sqlite"


def change(path, sql):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)


def test_rows_come_back_as_they_were_stored(path):
    with Store(path) as store:
        found = store.get([row["key"] for row in ROWS])
    assert found == {row["key"]: {c: row[c] for c in COLUMNS} for row in ROWS}


def test_a_store_of_other_columns_is_refused(tmp_path):
    before_digests(tmp_path / "old.sqlite")
    with pytest.raises(StoreError, match="has other columns"):
        Store(tmp_path / "old.sqlite")


@pytest.mark.parametrize("column", [*COLUMNS, "digest"])
def test_a_changed_value_of_any_column_is_noticed(column, path):
    value = (
        f"'{'0' * 32}'" if column == "key" else "NULL" if column in ("digest", "libraries") else "7"
    )
    key = ROWS[3]["key"]
    change(path, f"UPDATE evaluations SET {column} = {value} WHERE key = '{key}'")
    with Store(path) as store:
        with pytest.raises(StoreError, match=r"e\.sqlite is damaged"):
            store.table()
        with pytest.raises(StoreError, match=r"e\.sqlite is damaged"):
            store.get(["0" * 32 if column == "key" else key])
        assert len(store.get([ROWS[4]["key"]])) == 1  # the others can be read


def test_a_store_cut_to_nothing_is_refused_only_where_evaluations_were_kept_in_it(path, tmp_path):
    with Store(path) as store, store.locked([ROWS[0]["key"]]):
        pass
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="is empty, though evaluations were kept in it"):
        Store(path)
    (tmp_path / "new.sqlite").touch()
    with Store(tmp_path / "new.sqlite") as new:
        assert new.table().empty


def test_an_export_that_was_changed_and_written_anew_is_refused(path, tmp_path):
    with Store(path) as store:
        file = store.export(tmp_path / "e.parquet")
    table = pq.read_table(file)
    at = table.schema.get_field_index("seed")
    pq.write_table(table.set_column(at, "seed", [[*range(1, 13)]]), file)
    with Store(tmp_path / "other.sqlite") as other:
        with pytest.raises(StoreError, match=r"e\.parquet is damaged"):
            other.merge(file)
        assert other.table().empty


def test_an_export_from_before_digests_is_taken(path, tmp_path):
    with Store(path) as store:
        store.table().to_parquet(tmp_path / "old.parquet", index=False, compression="zstd")
        whole = store.table()
    with Store(tmp_path / "other.sqlite") as other:
        assert other.merge(tmp_path / "old.parquet") == len(ROWS)
        pd.testing.assert_frame_equal(other.table(), whole)


def test_the_export_has_the_columns_that_it_always_had(path, tmp_path):
    with Store(path) as store:
        assert list(pd.read_parquet(store.export(tmp_path / "e.parquet")).columns) == list(COLUMNS)


def merged(path, tmp_path, changed):
    """How many rows another store takes from an export that a program has changed."""
    with Store(path) as store:
        file = store.export(tmp_path / "theirs.parquet")
    pq.write_table(changed(pq.read_table(file).replace_schema_metadata(None)), file)
    with Store(tmp_path / "other.sqlite") as other:
        return other.merge(file)


def test_a_seed_that_is_no_whole_number_is_refused(path, tmp_path):
    def changed(table):
        at = table.schema.get_field_index("seed")
        seeds = pc.add(table["seed"].cast(pa.float64()), 0.7)
        return table.set_column(at, "seed", seeds)

    with pytest.raises(StoreError, match="whole number"):
        merged(path, tmp_path, changed)


@pytest.mark.parametrize("kind", [pa.dictionary(pa.int32(), pa.string()), pa.string_view()])
def test_texts_in_other_forms_are_read(path, tmp_path, kind):
    def changed(table):
        encode = pa.types.is_dictionary(kind)
        column = table["protocol"].dictionary_encode() if encode else table["protocol"].cast(kind)
        return table.set_column(table.schema.get_field_index("protocol"), "protocol", column)

    assert merged(path, tmp_path, changed) == len(ROWS)
