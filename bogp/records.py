"""Result tables: a tidy CSV, packed where its name ends in .csv.gz, and beside it a JSON that says
what produced it.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from bogp import paths
from bogp.errors import BogpError, InvalidInput, StoreError
from bogp.parallel import in_parallel

_PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "networkx",
    "scikit-learn",
    "scikit-optimize",
    "numba",
    "torch",
)
_STARTED = time.time()


def write_table(
    table: pd.DataFrame, path: Path, parameters: Mapping[str, Any], inputs: Sequence[Path] = ()
) -> Path:
    """Write a table as CSV with its provenance beside it, each under a temporary name first.

    Args:
        table: tidy, one observation a row.
        path: of the CSV; the provenance goes to the same name with ``.json``. What ends in
            ``.csv.gz`` is packed; the checksum is that of the CSV in it.
        parameters: what the numbers depend on, seeds included; anything that JSON can hold.
        inputs: files that were read; their sha256 is recorded.

    Returns:
        The path of the CSV.

    Raises:
        BogpError: it cannot be written (disk full, read-only folder); an earlier version then stays
            as it was.
    """
    if not path.name.endswith((".csv", ".csv.gz")):
        raise InvalidInput(f"{path.name} is no name for a table; it ends in .csv or .csv.gz.")
    try:
        content = table.to_csv(index=False, lineterminator="\n").encode()
        record = provenance(parameters, inputs) | {
            "rows": len(table),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        beside = (json.dumps(record, indent=2, default=str) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"The table {path.name} cannot be written with its parameters ({error})."
        ) from None
    # without the time, so that equal tables are equal files
    packed = gzip.compress(content, mtime=0) if path.suffix == ".gz" else content
    write_atomically({path: packed, record_of(path): beside})
    return path


def record_of(path: Path) -> Path:
    """Of a table: the file that says what produced it."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".csv") + ".json")


def _content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def recorded_table(path: Path, parameters: Mapping[str, Any]) -> pd.DataFrame | None:
    """A table that ``write_table`` wrote earlier, if it was made with exactly these parameters and
    was not changed since; else None.

    Args:
        path: of the CSV.
        parameters: as they would be given to ``write_table``.

    Returns:
        The table, its numbers as they were written to the last bit; None where there is none, one
        of other parameters, or one that was edited.
    """
    try:
        record, content = json.loads(record_of(path).read_text()), _content(path)
        wanted = (
            json.loads(json.dumps(dict(parameters), default=str)),
            hashlib.sha256(content).hexdigest(),
        )
    except (OSError, ValueError, EOFError, zlib.error):
        return None
    if not isinstance(record, dict) or (record.get("parameters"), record.get("sha256")) != wanted:
        return None
    return _read_csv(content)


def kept(
    path: Path,
    parameters: Mapping[str, Any],
    make: Callable[[], pd.DataFrame],
    inputs: Sequence[Path] = (),
) -> pd.DataFrame:
    """A table that is made once: read where it was recorded with exactly these parameters, else
    made and recorded.

    Args:
        path: of the CSV.
        parameters: all that the table depends on; anything that JSON can hold.
        make: makes the table.
        inputs: files that are read; their sha256 is recorded.

    Returns:
        The table as it stands in the file, so that it is the same whether it was read or made.

    Raises:
        BogpError: it cannot be written; and whatever ``make`` raises.
    """
    found = recorded_table(path, parameters)
    return read_table(write_table(make(), path, parameters, inputs)) if found is None else found


def kept_in_parallel(
    make: Callable[..., pd.DataFrame],
    jobs: Sequence[tuple[Any, ...]],
    record: Callable[..., tuple[str, Mapping[str, Any]]],
    folder: Path,
    cores: int,
    unit: str,
) -> list[pd.DataFrame]:
    """Tables of independent jobs, each made once (``kept``); those that are missing are made side
    by side.

    Each is recorded as soon as it is made, so that an interrupted run goes on from there. Where all
    are recorded, no process is started.

    Args:
        make: makes the table of a job; a function of a module, which processes can be sent.
        jobs: the arguments of ``make``, one tuple a job.
        record: takes the same arguments, and says the file of a job and all that its table depends
            on.
        folder: of the files.
        cores: processes at work; the tables do not depend on it.
        unit: what a job is, in the singular, for the progress bar.

    Returns:
        The tables as they stand in the files, in the order of the jobs.

    Raises:
        InvalidInput: cores is no whole number of at least 1.
        BogpError: a table cannot be written; and whatever ``make`` raises.
    """
    places = [(folder / name, parameters) for name, parameters in (record(*job) for job in jobs)]
    found = [recorded_table(*place) for place in places]
    missing = [
        (make, *one) for *one, table in zip(places, jobs, found, strict=True) if table is None
    ]
    made = iter(in_parallel(_made, missing, cores, unit, done=len(jobs) - len(missing)))
    return [next(made) if table is None else table for table in found]


def _made(
    make: Callable[..., pd.DataFrame], place: tuple[Path, Mapping[str, Any]], job: tuple[Any, ...]
) -> pd.DataFrame:
    return kept(*place, lambda: make(*job))


def read_table(path: Path) -> pd.DataFrame:
    """A table that ``write_table`` wrote, checked against the checksum beside it.

    Args:
        path: of the CSV.

    Returns:
        The table, its numbers as they were written to the last bit.

    Raises:
        BogpError: it or its provenance cannot be read, or it is not what was written.
    """
    beside = record_of(path)
    try:
        content, record = _content(path), json.loads(beside.read_text())
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise BogpError(
            f"{path}, or {beside.name} beside it, cannot be read ({error}). Make the table "
            "again, or restore both."
        ) from None
    if not isinstance(record, dict) or record.get("sha256") != hashlib.sha256(content).hexdigest():
        raise BogpError(
            f"{path} is not what was written: its checksum is not that in {beside.name}. Make "
            "the table again, or restore both."
        )
    return _read_csv(content)


def _read_csv(content: bytes) -> pd.DataFrame:
    # the default of pandas 2 may be off in the last bit
    return pd.read_csv(io.BytesIO(content), engine="python")


def provenance(parameters: Mapping[str, Any], inputs: Sequence[Path] = ()) -> dict[str, Any]:
    """Git commit, parameters, package versions, hardware, wall time (s), peak memory (MiB) and
    input checksums of this process.
    """
    return {
        "parameters": dict(parameters),
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
        "wall_seconds": round(time.time() - _STARTED, 1),
        "peak_memory_mib": peak_memory() // 2**20,
        "inputs": {_relative(p): _sha256(p) for p in inputs},
    }


def peak_memory() -> int:
    """Most memory that this process has had, bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says begins with the parent's peak
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def write_atomically(contents: Mapping[Path, bytes]) -> None:
    """Write files under temporary names and rename them when all are complete, so that a reader
    never sees half of one.

    Raises:
        BogpError: one cannot be written; the message names it and the reason, and all earlier
            versions stay.
    """
    temporaries = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in contents}
    path = next(iter(contents))
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path].write_bytes(content)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
    except (OSError, ValueError) as error:  # a name with a zero byte in it is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise BogpError(
            f"{path} cannot be written ({reason}). Free some space or check the folder's "
            "permissions; nothing was lost."
        ) from None
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError, ValueError):
                temporary.unlink(missing_ok=True)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BogpError(f"The input {path} cannot be read ({error.strerror}).") from None


def _relative(path: Path) -> str:
    home = paths.home()
    return str(path.relative_to(home)) if path.is_relative_to(home) else path.name


def _git_commit() -> str:
    """The commit that the code stands at, marked where the library differs from it."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "."],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed.strip() else "")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def score_key(identity: Mapping[str, Any]) -> str:
    """The key of a score: a digest of all that it depends on.

    Raises:
        InvalidInput: it holds something that JSON cannot.
    """
    return hashlib.sha256(_as_json(identity)).hexdigest()[:32]


class ScoreRecord:
    """Scores by key, written to the file as soon as they are added, so that an interruption loses
    at most the one in the making.

    Args:
        path: of a ``.json`` file, read if it exists, and written at once, so that a folder that
            cannot be written is known before any work; None keeps the scores in memory alone.

    Raises:
        InvalidInput: another suffix.
        StoreError: the file is damaged, or none of these.
        BogpError: it cannot be written; an earlier version stays as it was.
    """

    def __init__(self, path: Path | str | None) -> None:
        self._path = None if path is None else Path(path).expanduser()
        self._scores: dict[str, dict[str, float]] = {}
        if self._path is not None:
            if self._path.suffix != ".json":
                raise InvalidInput(f"{self._path.name} is no name for a record; it ends in .json.")
            if self._path.exists():
                self._scores = _read_scores(self._path)
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
            content = {
                "sha256": hashlib.sha256(_as_json(self._scores)).hexdigest(),
                "scores": self._scores,
            }
            write_atomically({self._path: (json.dumps(content, indent=0) + "\n").encode()})


def _read_scores(path: Path) -> dict[str, dict[str, float]]:
    try:
        content = json.loads(path.read_bytes())
        if content["sha256"] == hashlib.sha256(_as_json(content["scores"])).hexdigest():
            return content["scores"]
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise StoreError(
        f"{path} is damaged, or no record of scores. Move it away to begin a new record, or "
        "give another path."
    )


def _as_json(content: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(content, sort_keys=True).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"Settings are kept as JSON, which these are not ({error}); numbers, texts, lists "
            "and dictionaries are."
        ) from None
