import errno
import gzip
import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bogp import records
from bogp.errors import BogpError, InvalidInput, StoreError
from bogp.records import ScoreRecord, score_key

TABLE = pd.DataFrame(
    {"sparsity": [0.1, 0.9], "accuracy": [0.97, 1 / 3], "rule": ["a,b", 'say "c"']}
)


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_table_is_written_with_its_provenance_beside_it(home):
    data = home / "data" / "input.bin"
    data.parent.mkdir()
    data.write_bytes(b"abc")
    path = records.write_table(
        TABLE,
        home / "data" / "results" / "smoke" / "t.csv",
        {"seed": 3, "sparsities": (0.1, 0.9)},
        inputs=[data],
    )
    assert path == home / "data" / "results" / "smoke" / "t.csv"
    pd.testing.assert_frame_equal(
        pd.read_csv(path, converters={"accuracy": float}), TABLE, check_exact=True
    )
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["rows"] == 2
    assert record["parameters"] == {"seed": 3, "sparsities": [0.1, 0.9]}
    assert record["inputs"] == {"data/input.bin": hashlib.sha256(b"abc").hexdigest()}
    assert record["packages"]["numpy"] == np.__version__
    assert set(record["hardware"]) >= {"processor", "cores"}
    assert record["wall_seconds"] >= 0
    assert 10 < record["peak_memory_mib"] < 1_000_000
    assert sorted(files(path.parent)) == ["t.csv", "t.json"]


def test_the_git_commit_is_the_one_the_code_stands_at():
    here = Path(records.__file__).parent
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    if head.returncode:
        pytest.skip("bogp is not imported from a git checkout")
    assert records.provenance({})["git_commit"].removesuffix("+changes") == head.stdout.strip()


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert records.provenance({})["git_commit"] == "unknown"


def test_an_input_outside_the_home_is_recorded_by_its_name_alone(home, tmp_path_factory):
    outside = tmp_path_factory.mktemp("private") / "input.bin"
    outside.write_bytes(b"")
    assert list(records.provenance({}, [outside])["inputs"]) == ["input.bin"]


def test_a_second_table_replaces_the_first(home):
    path = home / "t.csv"
    records.write_table(TABLE, path, {})
    records.write_table(TABLE[:1], path, {})
    assert len(pd.read_csv(path)) == json.loads(path.with_suffix(".json").read_text())["rows"] == 1


@pytest.mark.parametrize("target", ["bogp.records.os.replace", "pathlib.Path.write_bytes"])
def test_a_full_disk_is_told_and_the_earlier_version_stays(home, monkeypatch, target):
    folder = home / "results"
    records.write_table(TABLE, folder / "t.csv", {})
    before = files(folder)
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(BogpError, match=r"t\.csv cannot be written \(No space left"):
            records.write_table(TABLE[:1], folder / "t.csv", {})
    assert files(folder) == before  # no temporary file either


def test_a_disk_that_fills_up_after_the_csv_leaves_no_csv_with_the_provenance_of_another(
    home, monkeypatch
):
    folder = home / "results"
    records.write_table(TABLE, folder / "t.csv", {})
    write = Path.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(
            Path,
            "write_bytes",
            lambda self, content: full_disk() if "json" in self.name else write(self, content),
        )
        with pytest.raises(BogpError):
            records.write_table(TABLE[:1], folder / "t.csv", {})
    record = json.loads((folder / "t.json").read_text())
    assert record["sha256"] == hashlib.sha256((folder / "t.csv").read_bytes()).hexdigest()


def test_a_folder_that_is_a_file_is_told(home):
    (home / "file").write_text("")
    with pytest.raises(BogpError, match="cannot be written"):
        records.write_atomically({home / "file" / "t.csv": b""})


def test_an_input_that_is_missing_is_told_before_anything_is_written(home):
    with pytest.raises(BogpError):
        records.write_table(TABLE, home / "t.csv", {}, inputs=[home / "absent"])
    assert list(home.iterdir()) == []


PARAMETERS = {"seed": 3, "sparsities": (0.1, 0.9), "home": Path("data"), "rule": None}


@pytest.fixture(params=["t.csv", "t.csv.gz"])
def recorded(home, request):
    rng = np.random.default_rng(0)
    floats = np.concatenate(
        [
            rng.normal(size=500),
            10.0 ** rng.uniform(-300, 300, 500),
            [np.nan, 0.1 + 0.2, 5e-324, 1 / 3, -0.0],
        ]
    )
    table = pd.DataFrame(
        {"at": np.arange(len(floats)), "x": floats, "rule": "a,b", "met": floats > 0}
    )
    path = records.write_table(table, home / request.param, PARAMETERS)
    assert {p.name for p in home.iterdir()} == {request.param, "t.json"}
    return path, table


def edited(path, edit):
    """The bytes of a file after an edit of the table in it."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        return edit(content)
    return gzip.compress(edit(gzip.decompress(content)))


def test_a_recorded_table_is_found_by_its_parameters_to_the_last_bit(recorded):
    path, table = recorded
    found = records.recorded_table(path, dict(reversed(PARAMETERS.items())))
    pd.testing.assert_frame_equal(found, table, check_exact=True)
    assert found["x"].to_numpy().tobytes() == table["x"].to_numpy().tobytes()
    # as JSON has it
    pd.testing.assert_frame_equal(
        records.recorded_table(path, PARAMETERS | {"sparsities": [0.1, 0.9]}), table
    )


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"seed": "3"},
        {"sparsities": (0.1,)},
        {"sparsities": (0.9, 0.1)},
        {"more": 1},
        {"rule": 0},
        {"home": Path("x")},
    ],
    ids=str,
)
def test_a_table_of_other_parameters_is_not_taken(other, recorded):
    assert records.recorded_table(recorded[0], PARAMETERS | other) is None


@pytest.mark.parametrize("missing", PARAMETERS)
def test_a_table_of_more_parameters_is_not_taken(missing, recorded):
    assert (
        records.recorded_table(
            recorded[0], {name: value for name, value in PARAMETERS.items() if name != missing}
        )
        is None
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda b: b.replace(b"0.3333", b"0.3334", 1),
        lambda b: b + b"1,1,1,1\n",
        lambda b: b[:-1],
        lambda b: b"",
    ],
    ids=["digit", "row", "cut", "empty"],
)
def test_an_edited_table_is_not_taken(edit, recorded):
    path, _ = recorded
    before = path.read_bytes()
    assert edited(path, edit) != before
    path.write_bytes(edited(path, edit))
    assert records.recorded_table(path, PARAMETERS) is None
    path.write_bytes(before)
    assert records.recorded_table(path, PARAMETERS) is not None


def test_a_packed_table_is_its_csv_and_a_damaged_one_is_not_taken(home):
    table, path = pd.DataFrame({"x": range(1_000)}), home / "t.csv.gz"
    records.write_table(table, path, PARAMETERS)
    before, plain = path.read_bytes(), home / "plain.csv"
    assert records.write_table(table, path, PARAMETERS).read_bytes() == before
    records.write_table(table, plain, PARAMETERS)
    assert gzip.decompress(before) == plain.read_bytes() and len(before) < plain.stat().st_size
    one, other = (json.loads(records.record_of(p).read_text()) for p in (path, plain))
    assert one["sha256"] == other["sha256"]
    for damaged in (b"", before[:-9], before[:20], b"x" + before, before[:50] + b"?" + before[51:]):
        path.write_bytes(damaged)
        assert records.recorded_table(path, PARAMETERS) is None
        with pytest.raises(BogpError, match=r"t\.csv\.gz"):
            records.read_table(path)


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"\xff\xfe", b"{}", b"[]", b"null", b"3", b'"text"'], ids=repr
)
def test_a_table_whose_record_is_missing_or_broken_is_not_taken(content, recorded):
    record = records.record_of(recorded[0])
    record.unlink() if content is None else record.write_bytes(content)
    assert records.recorded_table(recorded[0], PARAMETERS) is None


def test_a_table_that_is_missing_is_not_found(recorded):
    recorded[0].unlink()
    assert records.recorded_table(recorded[0], PARAMETERS) is None
    assert records.recorded_table(recorded[0].with_name("other.csv"), {}) is None


def test_a_table_is_read_as_it_was_written(recorded):
    path, table = recorded
    pd.testing.assert_frame_equal(records.read_table(path), table, check_exact=True)


def test_a_table_that_was_edited_or_has_lost_its_record_is_refused(recorded):
    path, _ = recorded
    path.write_bytes(edited(path, lambda b: b.replace(b"0.3333", b"0.3334", 1)))
    with pytest.raises(BogpError, match=r"t\.csv(\.gz)? is not what was written"):
        records.read_table(path)
    records.record_of(path).unlink()
    with pytest.raises(BogpError, match=r"t\.json beside it, cannot be read"):
        records.read_table(path)


def test_every_committed_table_is_what_was_written():
    folder = Path(__file__).resolve().parent.parent / "data" / "results"
    found = sorted(folder.rglob("*.csv"))
    assert len(found) > 30
    for path in found:
        records.read_table(path)


@pytest.mark.parametrize("parameters", [{(1, 2): 3}, {"a": {(1,): 2}}], ids=str)
def test_parameters_that_json_cannot_hold_are_refused_and_nothing_is_written(parameters, home):
    with pytest.raises(BogpError, match=r"t\.csv cannot be written with its parameters"):
        records.write_table(TABLE, home / "t.csv", parameters)
    assert list(home.iterdir()) == []


# --- the record of scores: kept at once, read back to the last bit, never read when damaged ---

SCORES = {"a": {"objective": 0.1 + 0.2, "seconds": 1e-9}, "b": {"objective": -3.0, "seconds": 12.5}}


@pytest.fixture
def scores_file(tmp_path):
    record = ScoreRecord(tmp_path / "scores.json")
    for name, score in SCORES.items():
        record.add(name, score)
    return tmp_path / "scores.json"


def test_what_was_added_is_there_in_the_next_process(scores_file):
    record = ScoreRecord(scores_file)
    assert {name: record.get(name) for name in SCORES} == SCORES
    assert record.get("c") is None
    assert ScoreRecord(None).get("a") is None


def test_every_bit_flip_and_truncation_is_found_or_harmless(scores_file):
    sound = scores_file.read_bytes()
    flipped = [
        sound[:i] + bytes([sound[i] ^ 1 << bit]) + sound[i + 1 :]
        for i in range(len(sound))
        for bit in range(8)
    ]
    found = 0
    for content in flipped + [sound[:size] for size in range(len(sound))]:
        scores_file.write_bytes(content)
        try:
            record = ScoreRecord(scores_file)
        except StoreError as error:
            found += 1
            assert "damaged" in str(error)
            assert scores_file.read_bytes() == content, "nothing is thrown away"
        else:
            assert {name: record.get(name) for name in SCORES} == SCORES
    assert found > 0.9 * 9 * len(sound)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, b'{"scores": {}}']
)
def test_another_file_is_no_record(scores_file, content):
    scores_file.write_bytes(content)
    with pytest.raises(StoreError, match="damaged, or no record"):
        ScoreRecord(scores_file)


def test_keys_differ_by_anything_that_a_score_depends_on():
    one = {"settings": {"epochs": 1, "rate": 0.1}, "seed": 1}
    assert (
        score_key(one)
        == score_key(json.loads(json.dumps(one)))
        == score_key({"seed": 1, "settings": {"rate": 0.1, "epochs": 1}})
    )
    others = [
        one | {"seed": 2},
        one | {"settings": {"epochs": 1}},
        one | {"settings": {"epochs": "1", "rate": 0.1}},
    ]
    assert len({score_key(o) for o in [one, *others]}) == 4
    with pytest.raises(InvalidInput, match="JSON"):
        score_key({"settings": {1, 2}})


def test_a_path_that_cannot_be_written_is_known_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BogpError, match="cannot be written"):
        ScoreRecord(tmp_path / "file" / "scores.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        ScoreRecord(tmp_path / "folder.json")
    with pytest.raises(InvalidInput, match=r"ends in \.json"):
        ScoreRecord(tmp_path / "scores.csv")


def made_of(number, factor):
    if number == 3:
        raise ValueError("three is not made")
    return pd.DataFrame({"product": [number * factor]})


def record_of(number, factor):
    return f"{number}.csv", {"number": number, "factor": factor}


@pytest.mark.parametrize("cores", [1, 2])
def test_tables_of_jobs_are_made_once_and_come_in_order(cores, tmp_path, monkeypatch):
    jobs = [(5, 2), (1, 2), (4, 2)]
    records.kept(
        tmp_path / "1.csv", {"number": 1, "factor": 2}, lambda: pd.DataFrame({"product": [-1]})
    )
    found = records.kept_in_parallel(made_of, jobs, record_of, tmp_path, cores, "table")
    assert [t["product"].item() for t in found] == [10, -1, 8], "the second was recorded before"
    with pytest.raises(ValueError, match="three"):
        records.kept_in_parallel(made_of, [(3, 2), (6, 2)], record_of, tmp_path, 1, "table")

    def none_started(work, jobs, *_, **__):
        assert not jobs, "all are recorded"
        return []

    monkeypatch.setattr(records, "in_parallel", none_started)
    again = records.kept_in_parallel(made_of, jobs, record_of, tmp_path, cores, "table")
    assert [t["product"].item() for t in again] == [10, -1, 8]
