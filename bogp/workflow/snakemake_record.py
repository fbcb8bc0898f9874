"""What each file of the workflow was made from: Snakemake's memory of its jobs, kept beside the results so that it travels with them.

Snakemake remembers the parameters and the checksums of the inputs of every job, in a folder that is not committed. A checkout has results from git
without that memory, and the times of its files mean nothing. So a batch run writes what Snakemake knows to ``workflow.json`` beside the results, and
in a checkout it is handed back: Snakemake then judges those files as if it had made them.
"""

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from bogp import paths
from bogp.errors import BogpError
from bogp.records import write_atomically

UNKNOWN = "nothing says which parameters it was made with"
_KEPT = ("rule", "input", "params", "input_checksums", "starttime", "endtime")  # of Snakemake's metadata; the rest is of the machine
_FORMAT = 6  # of Snakemake's metadata; it sets older ones aside


def adopt(record: Path) -> int:
    """Hand a record to Snakemake, for files that it did not make itself.

    A file that is the recorded one, byte by byte, gets the recorded parameters, checksums of inputs and time; inputs that are newer than that time are then
    compared by checksum.

    Args:
        record: from ``keep``; where there is none, nothing is done.

    Returns:
        How many files were taken over.

    Raises:
        BogpError: the record is damaged.
    """
    from snakemake.persistence import MetadataRecord

    if not record.exists():
        return 0
    metadata, taken = _metadata(), 0
    try:
        for job in json.loads(record.read_text()):
            for name, checksum in job["outputs"].items():
                path = paths.home() / name
                if metadata._read_record(name) is None and path.is_file() and _sha256(path) == checksum:
                    metadata._write_record(name, MetadataRecord(record_format_version=_FORMAT, **{key: job[key] for key in _KEPT}))
                    os.utime(path, (job["endtime"], job["endtime"]))
                    taken += 1
    except OSError as error:
        raise BogpError(
            f"{error.filename} cannot be written ({error.strerror}); free some space, or check the folder's permissions."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BogpError(
            f"The record {record} is damaged ({error!r}); take it from git again, or delete it and run make reproduce."
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
    from snakemake.persistence import MetadataRecord

    metadata = _metadata()
    unknown = [name for name in names if metadata._read_record(name) is None]
    for name in unknown:
        metadata._write_record(name, MetadataRecord(record_format_version=_FORMAT, params=[UNKNOWN]))
    return unknown


def doubted(names: Sequence[str]) -> set[str]:
    """Those of the files that ``doubt`` marked."""
    metadata = _metadata()
    return {name for name in names if (known := metadata._read_record(name)) is not None and known.params == [UNKNOWN]}


def interrupted(names: Sequence[str]) -> Collection[str]:
    """Those of the files whose job was started and never ended."""
    return set(_metadata()._filter_incomplete_keys(names))


def keep(names: Sequence[str], record: Path) -> Path:
    """Write down what each file that exists was made from, as Snakemake knows it.

    Args:
        names: the files, as Snakemake names them.
        record: the JSON file: one entry a job, with the checksum of each of its outputs.
    """
    metadata = _metadata()
    jobs: dict[str, dict[str, Any]] = {}
    for name in sorted(set(names) - doubted(names) - set(interrupted(names))):
        known, path = metadata._read_record(name), paths.home() / name
        if known is not None and path.is_file():
            job = {key: known[key] for key in _KEPT}
            same = jobs.setdefault(json.dumps([job[key] for key in ("rule", "params", "input")]), job | {"outputs": {}})
            same["outputs"][name] = _sha256(path)
    write_atomically({record: (json.dumps(list(jobs.values()), indent=1) + "\n").encode()})
    return record


def _metadata() -> Any:
    """Snakemake's memory; the folder stands where the Snakefile works."""
    from snakemake.persistence.file import FilePersistence

    return FilePersistence(nolock=True, path=paths.home() / ".snakemake")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
