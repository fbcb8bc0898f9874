"""Untrusted files: opening a database, a store, an export, a data set, a result, or parameters
never runs code that is in the file.
"""

import ast
import gzip
import hashlib
import json
import pickle
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bogp import datasets
from bogp.errors import BogpError
from bogp.graphs import database
from bogp.graphs.database import DatabaseSpec, build, open_database
from bogp.records import read_table, recorded_table, write_table
from bogp.training.store import Store
from bogp.workflow import notebook as workflow_notebook
from tests.reliability.report import ROOT, Count, record
from tests.reliability.samples import evaluations

SPEC = DatabaseSpec((0.5,), masks_per_sparsity=4, n=8)

# --- the library does not even have the means ---

MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "jsonpickle", "skops"}
CALLS = {
    "eval",
    "exec",
    "__import__",
    "read_pickle",
    "enable_load_extension",
    "unsafe_load",
    "full_load",
    "load_extension",
}


def suspicious(source: str) -> list[str]:
    """What in a module could run what is in a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            found += [f"import {name}" for name in names if name.split(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            whole = ast.unparse(node.func)
            settings = {k.arg: ast.unparse(k.value) for k in node.keywords}
            mode = (
                whole.endswith(".eval") and not node.args and not node.keywords
            )  # a network's evaluation mode, which runs nothing that is handed in
            found += (
                [whole]
                if whole.split(".")[-1] in CALLS and not whole.startswith("re.") and not mode
                else []
            )
            found += [whole] if whole in ("joblib.load", "yaml.load") else []
            found += (
                [whole] if whole == "torch.load" and settings.get("weights_only") != "True" else []
            )
            found += (
                [f"{whole}(allow_pickle)"]
                if settings.get("allow_pickle", "False") != "False"
                else []
            )
    return found


def test_the_search_for_means_finds_them():
    bad = (
        "import pickle\nfrom dill import loads\neval(x)\ntorch.load(f)\nnp.load(f, "
        "allow_pickle=True)\nyaml.load(f)\npd.read_pickle(f)\nframe.eval(x)"
    )
    assert len(suspicious(bad)) == 8
    assert not suspicious(
        "torch.load(f, weights_only=True)\nnp.load(f)\nyaml.safe_load(f)\nmodel.eval()"
    )


def test_the_library_has_no_means_to_run_what_is_in_a_file():
    sources = sorted((ROOT / "bogp").rglob("*.py"))
    assert len(sources) > 40
    assert {str(path): found for path in sources if (found := suspicious(path.read_text()))} == {}


# --- files made to run code ---


class Payload:
    """Whoever unpickles it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.sentinel,)


def extension(table: pa.Table, column: str, payload: bytes) -> pa.Table:
    """A column that says to be of a Python type that travels as a pickle, as old versions of
    pyarrow would have it.
    """
    fields = [
        f.with_metadata(
            {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": payload}
        )
        if f.name == column
        else f
        for f in table.schema
    ]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def shard(folder: Path, payload: bytes) -> None:
    build(SPEC, folder / "d", workers=1)
    path, manifest = (
        folder / "d" / "part-00000.parquet",
        json.loads((folder / "d" / "manifest.json").read_text()),
    )
    pq.write_table(extension(pq.read_table(path), "parameters", payload), path)
    manifest["shards"] = [hashlib.sha256(path.read_bytes()).hexdigest()]
    manifest["sha256"] = database._checksum(manifest)
    (folder / "d" / "manifest.json").write_text(json.dumps(manifest))
    open_database(folder / "d")


def pickled_manifest(folder: Path, payload: bytes) -> None:
    build(SPEC, folder / "d", workers=1)
    (folder / "d" / "manifest.json").write_bytes(payload)
    open_database(folder / "d")


def exported(folder: Path) -> Path:
    with Store(folder / "s.sqlite") as store:
        store.add(evaluations(3))
        return store.export(folder / "e.parquet")


def merged(path: Path) -> None:
    with Store(path.parent / "other.sqlite") as other:
        other.merge(path)


def export_extension(folder: Path, payload: bytes) -> None:
    path = exported(folder)
    pq.write_table(extension(pq.read_table(path), "method", payload), path)
    merged(path)


def export_objects(folder: Path, payload: bytes) -> None:
    path = exported(folder)
    table = pq.read_table(path)
    at = table.schema.get_field_index("method")
    pq.write_table(
        table.set_column(at, "method", pa.array([payload] * len(table), pa.binary())), path
    )
    merged(path)


def export_pickle(folder: Path, payload: bytes) -> None:
    (folder / "e.parquet").write_bytes(payload)
    merged(folder / "e.parquet")


def data_set(folder: Path, content: bytes, suffix: str) -> None:
    (folder / f"train-images-idx3-ubyte{suffix}").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOGP_DATA_DIR", str(folder))
        datasets.load("mnist", mirrors=())


def array_of_objects(folder: Path, payload: bytes) -> None:
    np.save(
        folder / "x.npy",
        np.array([pickle.loads(pickle.dumps(b"")), payload], dtype=object),
        allow_pickle=True,
    )
    data_set(folder, (folder / "x.npy").read_bytes(), "")


def pickled_result(folder: Path, payload: bytes, file: str) -> None:
    write_table(pd.DataFrame({"x": [1]}), folder / "t.csv", {})
    (folder / file).write_bytes(payload)
    recorded_table(folder / "t.csv", {})
    read_table(folder / "t.csv")


def parameters(folder: Path, *command: str) -> None:
    notebook = ROOT / "notebooks" / "03_fixed_sparsity_bo.ipynb"
    if workflow_notebook.main(
        [str(notebook), str(folder / "out.ipynb"), "--no-progress", *command]
    ):
        raise BogpError("refused")


def declared(folder: Path, sentinel: Path) -> None:
    import nbformat

    cell = nbformat.v4.new_code_cell(
        f"x: int = __import__('pathlib').Path({str(sentinel)!r}).touch()",
        metadata={"tags": ["parameters"]},
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), folder / "n.ipynb")
    workflow_notebook.check_parameters(
        workflow_notebook.declared_parameters(folder / "n.ipynb"), {}
    )


def crafted(sentinel: Path) -> dict[str, Callable[[Path], None]]:
    """Ways to smuggle code in, each opened as a user would."""
    payload = pickle.dumps(Payload(sentinel))
    tag = (
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.PosixPath "
        f"['{sentinel}']]"
    )

    def yaml_file(folder: Path) -> None:
        (folder / "p.yaml").write_text(f"n: {tag}\n")
        parameters(folder, "-f", str(folder / "p.yaml"))

    return {
        "database: a shard with a pickled extension type": lambda folder: shard(folder, payload),
        "database: a manifest that is a pickle": lambda folder: pickled_manifest(folder, payload),
        "export: a column of a pickled extension type": lambda folder: export_extension(
            folder, payload
        ),
        "export: a column of pickles": lambda folder: export_objects(folder, payload),
        "export: a pickle": lambda folder: export_pickle(folder, payload),
        "store: a pickle": lambda folder: (
            (folder / "s.sqlite").write_bytes(payload),
            Store(folder / "s.sqlite").close(),
        )[1],
        "data set: a pickle": lambda folder: data_set(folder, payload, ""),
        "data set: a compressed pickle": lambda folder: data_set(
            folder, gzip.compress(payload), ".gz"
        ),
        "data set: a numpy array of objects": lambda folder: array_of_objects(folder, payload),
        "result: a CSV that is a pickle": lambda folder: pickled_result(folder, payload, "t.csv"),
        "result: a provenance that is a pickle": lambda folder: pickled_result(
            folder, payload, "t.json"
        ),
        "parameters: a YAML file with a Python object": yaml_file,
        "parameters: a YAML text with a Python object": lambda folder: parameters(
            folder, "-y", f"searches: {tag}"
        ),
        "parameters: a value with a Python object": lambda folder: parameters(
            folder, "-p", "columns", f"[{tag}]"
        ),
        "notebook: code in the cell of parameters, looked at": lambda folder: declared(
            folder, sentinel
        ),
    }


def opened(what: str, root: Path) -> Count:
    """Open one crafted file."""
    started, sentinel, folder = time.perf_counter(), root / "sentinel", root / "crafted"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        crafted(sentinel)[what](folder)
        note = "read, nothing ran"
    except BogpError:
        note = "refused"
    assert not sentinel.exists(), f"{what}: code ran"
    return Count(what, 1, 0, seconds=time.perf_counter() - started, note=note)


def test_the_payload_works(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "sentinel")))
    assert (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("what", crafted(Path("sentinel")))
def test_opening_a_file_runs_nothing(what, tmp_path):
    opened(what, tmp_path)


# --- stores that hold more than the table ---

COPY = "CREATE TABLE other AS SELECT * FROM evaluations"
SCHEMAS = {
    "a view in place of the table": f"{COPY}; DROP TABLE evaluations; CREATE VIEW evaluations AS "
    "SELECT "
    "* "
    "FROM "
    "other",
    "a trigger on the table": "CREATE TRIGGER t AFTER INSERT ON evaluations BEGIN DELETE FROM "
    "evaluations; "
    "END",
    "a further table": "CREATE TABLE other (x)",
    "an index over an expression": "CREATE INDEX i ON evaluations (upper(recipe))",
    "a view beside the table": "CREATE VIEW v AS SELECT load_extension('x')",
    "a virtual table": "CREATE VIRTUAL TABLE v USING fts5(x)",
    "a generated column": "ALTER TABLE evaluations ADD COLUMN g TEXT AS (hex(key))",
    "a default that is an expression": f"{COPY}; DROP TABLE evaluations; CREATE TABLE evaluations "
    "(key "
    "TEXT "
    "PRIMARY "
    "KEY "
    "DEFAULT "
    "(hex(1))) WITHOUT ROWID",
    "a check": f"{COPY}; DROP TABLE evaluations; CREATE TABLE evaluations (key TEXT PRIMARY KEY "
    "CHECK "
    "(length(key) > 0)) WITHOUT ROWID",
    "a schema that was edited": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
    "replace(sql, "
    "'finished "
    "TEXT', 'finished TEXT CHECK (1)')",
}


def refused_store(what: str, root: Path) -> Count:
    """Open a store with more in it."""
    started, path = time.perf_counter(), root / "s.sqlite"
    path.unlink(missing_ok=True)
    with Store(path) as store:
        store.add(evaluations(3))
    db = sqlite3.connect(path)
    db.executescript(SCHEMAS[what])
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(BogpError, match=r"s\.sqlite"):
        Store(path)
    assert path.read_bytes() == before
    return Count(f"store: {what}", 1, 0, seconds=time.perf_counter() - started, note="refused")


@pytest.mark.parametrize("what", SCHEMAS)
def test_a_store_with_more_in_it_than_the_table_is_refused_and_left_alone(what, tmp_path):
    refused_store(what, tmp_path)


@pytest.mark.full
def test_all_of_them_for_the_report(tmp_path):
    record(
        "untrusted",
        [opened(what, tmp_path) for what in crafted(tmp_path)]
        + [refused_store(what, tmp_path) for what in SCHEMAS],
        seed=0,
    )
