"""A record of scores in one JSON file, under keys made from all that a score depends on; with its checksum, so that no damage is read as a number."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bogp.errors import InvalidInput, StoreError
from bogp.provenance import write_atomically


def key(identity: Mapping[str, Any]) -> str:
    """The key of a score: a digest of all that it depends on.

    Raises:
        InvalidInput: it holds something that JSON cannot.
    """
    return hashlib.sha256(_as_json(identity)).hexdigest()[:32]


class Record:
    """Scores by key, written to the file as soon as they are added, so that an interruption loses at most the one in the making.

    Args:
        path: of a ``.json`` file, read if it exists, and written at once, so that a folder that cannot be written is known before any work;
            None keeps the scores in memory alone.

    Raises:
        InvalidInput: another suffix.
        StoreError: the file is damaged, or none of these.
        BogpError: it cannot be written; an earlier version stays as it was.
    """

    def __init__(self, path: Path | str | None) -> None:
        self._path = None if path is None else Path(path)
        self._scores: dict[str, dict[str, float]] = {}
        if self._path is not None:
            if self._path.suffix != ".json":
                raise InvalidInput(f"{self._path.name} is no name for a record; it ends in .json.")
            if self._path.exists():
                self._scores = _read(self._path)
            self._write()

    def get(self, key: str) -> dict[str, float] | None:
        """What was added under that key; None if nothing was."""
        return self._scores.get(key)

    def add(self, key: str, score: Mapping[str, float]) -> None:
        """Keep a score.

        Raises:
            BogpError: it cannot be written.
        """
        self._scores[key] = dict(score)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            content = {"sha256": hashlib.sha256(_as_json(self._scores)).hexdigest(), "scores": self._scores}
            write_atomically({self._path: (json.dumps(content, indent=0) + "\n").encode()})


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        content = json.loads(path.read_bytes())
        if content["sha256"] == hashlib.sha256(_as_json(content["scores"])).hexdigest():
            return content["scores"]
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise StoreError(f"{path} is damaged, or no record of scores. Move it away to begin a new record, or give another path.")


def _as_json(content: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(content, sort_keys=True).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"Settings are kept as JSON, which these are not ({error}); numbers, texts, lists and dictionaries are."
        ) from None
