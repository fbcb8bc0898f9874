"""The record of scores: kept at once, read back to the last bit, and never read when damaged."""

import json

import pytest

from bogp.errors import BogpError, InvalidInput, StoreError
from bogp.records import ScoreRecord, score_key

SCORES = {"a": {"objective": 0.1 + 0.2, "seconds": 1e-9}, "b": {"objective": -3.0, "seconds": 12.5}}


@pytest.fixture
def path(tmp_path):
    record = ScoreRecord(tmp_path / "scores.json")
    for name, score in SCORES.items():
        record.add(name, score)
    return tmp_path / "scores.json"


def test_what_was_added_is_there_in_the_next_process(path):
    record = ScoreRecord(path)
    assert {name: record.get(name) for name in SCORES} == SCORES
    assert record.get("c") is None
    assert ScoreRecord(None).get("a") is None


def test_every_bit_flip_and_truncation_is_found_or_harmless(path):
    sound = path.read_bytes()
    flipped = [sound[:i] + bytes([sound[i] ^ 1 << bit]) + sound[i + 1 :] for i in range(len(sound)) for bit in range(8)]
    found = 0
    for content in flipped + [sound[:size] for size in range(len(sound))]:
        path.write_bytes(content)
        try:
            record = ScoreRecord(path)
        except StoreError as error:
            found += 1
            assert "damaged" in str(error)
            assert path.read_bytes() == content, "nothing is thrown away"
        else:
            assert {name: record.get(name) for name in SCORES} == SCORES
    assert found > 0.9 * 9 * len(sound)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, b'{"scores": {}}'])
def test_another_file_is_no_record(path, content):
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged, or no record"):
        ScoreRecord(path)


def test_keys_differ_by_anything_that_a_score_depends_on():
    one = {"settings": {"epochs": 1, "rate": 0.1}, "seed": 1}
    assert score_key(one) == score_key(json.loads(json.dumps(one))) == score_key({"seed": 1, "settings": {"rate": 0.1, "epochs": 1}})
    others = [one | {"seed": 2}, one | {"settings": {"epochs": 1}}, one | {"settings": {"epochs": "1", "rate": 0.1}}]
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
