"""What each file of the workflow was made from, kept beside the results to travel with them.

Snakemake remembers the parameters and the checksums of the inputs of every job, in a folder that is
not committed. A checkout has results from git without that memory, and the times of its files mean
nothing. So a batch run writes what Snakemake knows to ``workflow.json`` beside the results, and in
a checkout it is handed back: Snakemake then judges those files as if it had made them.

Snakemake has no public way to its memory. The class ``_Memory`` is the only place in the package
that uses private names of it, as they are in Snakemake 9.27 (``requirements.lock``):
``snakemake.persistence.MetadataRecord``, and of ``snakemake.persistence.file.FilePersistence`` the
methods ``_read_record``, ``_write_record`` and ``_filter_incomplete_keys``. If another version
renames them, ``make status`` and ``make reproduce`` stop here with an ``AttributeError`` or an
``ImportError``, and ``tests/workflow/test_batch.py`` fails. If it changes the format of a record,
Snakemake sets records of the old ``FORMAT`` aside, and takes every committed file as stale.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bogp import paths
from bogp.errors import BogpError
from bogp.records import write_atomically

UNKNOWN = "nothing says which parameters it was made with"
FORMAT = 6  # of Snakemake's records
# The fields of a record that are kept; the rest belongs to one machine.
_KEPT = ("rule", "input", "params", "input_checksums", "starttime", "endtime")


class _Memory:
    """Snakemake's memory of the files in the home folder, where the Snakefile works."""

    def __init__(self) -> None:
        from snakemake.persistence.file import FilePersistence

        self._persistence: Any = FilePersistence(nolock=True, path=paths.home() / ".snakemake")

    def read(self, name: str) -> Any:
        """What is remembered of a file, ``record["params"]`` for example; None where nothing is."""
        return self._persistence._read_record(name)

    def write(self, name: str, fields: Mapping[str, Any]) -> None:
        """Have Snakemake remember that it made a file so."""
        from snakemake.persistence import MetadataRecord

        self._persistence._write_record(
            name, MetadataRecord(record_format_version=FORMAT, **fields)
        )

    def interrupted(self, names: Sequence[str]) -> set[str]:
        """Those of the files whose job was started and never ended."""
        return set(self._persistence._filter_incomplete_keys(names))


def adopt(record: Path) -> int:
    """Hand a record to Snakemake, for files that it did not make itself.

    A file that is the recorded one, byte by byte, gets the recorded parameters, checksums of inputs
    and time; inputs that are newer than that time are then compared by checksum.

    Args:
        record: from ``keep``; where there is none, nothing is done.

    Returns:
        How many files were taken over.

    Raises:
        BogpError: the record is damaged.
    """
    if not record.exists():
        return 0
    memory, taken = _Memory(), 0
    try:
        for job in json.loads(record.read_text()):
            for name, checksum in job["outputs"].items():
                path = paths.home() / name
                if memory.read(name) is None and path.is_file() and _sha256(path) == checksum:
                    memory.write(name, {key: job[key] for key in _KEPT})
                    os.utime(path, (job["endtime"], job["endtime"]))
                    taken += 1
    except OSError as error:
        raise BogpError(
            f"{error.filename} cannot be written ({error.strerror}); free some space, "
            "or check the folder's permissions."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BogpError(
            f"The record {record} is damaged ({error!r}); take it from git again, "
            "or delete it and run make reproduce."
        ) from None
    return taken


def doubt(names: Sequence[str]) -> list[str]:
    """Mark files of which nothing says how they were made, so that Snakemake makes them again.

    Without this it would go by their time alone.

    Args:
        names: files that exist, as Snakemake names them.

    Returns:
        Those that were marked now.
    """
    memory = _Memory()
    unknown = [name for name in names if memory.read(name) is None]
    for name in unknown:
        memory.write(name, {"params": [UNKNOWN]})
    return unknown


def doubted(names: Sequence[str]) -> set[str]:
    """Those of the files that ``doubt`` marked."""
    records = zip(names, map(_Memory().read, names), strict=True)
    return {name for name, record in records if record and record["params"] == [UNKNOWN]}


def interrupted(names: Sequence[str]) -> set[str]:
    """Those of the files whose job was started and never ended."""
    return _Memory().interrupted(names)


def keep(names: Sequence[str], record: Path) -> Path:
    """Write down what each file that exists was made from, as Snakemake knows it.

    Args:
        names: the files, as Snakemake names them.
        record: the JSON file: one entry a job, with the checksum of each of its outputs.
    """
    memory = _Memory()
    jobs: dict[str, dict[str, Any]] = {}
    for name in sorted(set(names) - doubted(names) - memory.interrupted(names)):
        remembered, path = memory.read(name), paths.home() / name
        if remembered is not None and path.is_file():
            job = {key: remembered[key] for key in _KEPT}
            same = json.dumps([job[key] for key in ("rule", "params", "input")])
            jobs.setdefault(same, job | {"outputs": {}})["outputs"][name] = _sha256(path)
    write_atomically({record: (json.dumps(list(jobs.values()), indent=1) + "\n").encode()})
    return record


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
