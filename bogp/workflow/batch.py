"""Regenerates figures and tables, and says what is fresh.

``python -m bogp.workflow.batch reproduce|status PROFILE [--only NAME]``. What to run, and in which
order, is for Snakemake to say (``Snakefile``); this asks it, runs it, and puts the answer in plain
words. It adds two things: one run at a time, however the last one ended, and a summary of what
failed and why.
"""

import argparse
import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bogp import paths
from bogp.checks import refuse
from bogp.errors import BogpError, InvalidInput
from bogp.workflow import snakemake_record

ROOT = Path(__file__).resolve().parents[2]
STATES = ("fresh", "stale", "missing")
WHEN_NEEDED = "made when something needs it"
_REASONS = {
    "updated input files": "a table that it is made from changed",
    "set of input files changed": "it is made from other files now",
    "params changed": "a parameter, the notebook's code or the engine version changed",
    "ok": "something that it is made from has to be made again",
}


@dataclass(frozen=True)
class Output:
    """One file of the workflow.

    Attributes:
        path: from the home folder.
        rule: the rule of the Snakefile that makes it.
        notebook: number of the notebook behind it, such as ``03``.
        state: one of ``STATES``.
        why: the reason, in words, where it is not plain.
    """

    path: Path
    rule: str
    notebook: str
    state: str
    why: str = ""


def profile_path(profile: str) -> Path:
    """The YAML file of a profile: one of ``notebooks/profiles`` by its name, or any by its path.

    Raises:
        InvalidInput: there is none.
    """
    folder = ROOT / "notebooks" / "profiles"
    for path in (folder / f"{profile}.yaml", Path(profile)):
        if path.is_file():
            return path.resolve()
    raise InvalidInput(
        f"There is no profile {profile!r}; there are "
        f"{', '.join(sorted(p.stem for p in folder.glob('*.yaml')))}, "
        "or give the path of a YAML file of your own."
    )


def run_of(profile: Path) -> str:
    """The name of a profile's run: the folder of its results.

    Raises:
        InvalidInput: the profile is no YAML, or does not name its run.
    """
    try:
        return str(yaml.safe_load(profile.read_text())["run"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        raise InvalidInput(
            f"The profile {profile} is no YAML file with a line 'run: NAME'; "
            "copy one of notebooks/profiles."
        ) from None


def outputs(profile: Path) -> list[Output]:
    """Every file that the workflow keeps, as Snakemake judges it now; nothing is run.

    Args:
        profile: path of its YAML file.

    Raises:
        BogpError: Snakemake cannot read the profile or the workflow.
    """
    done = _snakemake(profile, "--summary")
    refuse(
        done.returncode,
        f"The profile {profile} cannot be planned: {_last_words(done.stderr)}",
        BogpError,
    )
    table = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 5]
    rows = [row for row in table[1:] if row[4] != "removed temp file"]
    names = [row[0] for row in rows]
    interrupted, doubted = snakemake_record.interrupted(names), snakemake_record.doubted(names)
    # The number of a notebook stands in the names of its rule's folders and files.
    numbers = {row[2]: n[1] for row in rows if (n := re.search(r"(?:^|/)(\d\d)_", row[0]))}
    found = []
    for name, _, rule, _, status, plan in rows:
        to_make = plan == "update pending"
        judgements = {  # the first that holds
            ("missing", ""): status == "missing" and to_make,
            ("missing", WHEN_NEEDED): status == "missing",
            ("stale", "the run that made it was interrupted"): name in interrupted,
            ("fresh", ""): not to_make,
            ("stale", snakemake_record.UNKNOWN): name in doubted,
            ("stale", _REASONS.get(status, status)): True,
        }
        state = next(judgement for judgement, holds in judgements.items() if holds)
        found.append(Output(Path(name), rule, numbers.get(rule, ""), *state))
    return sorted(found, key=lambda one: (one.notebook, str(one.path)))


def select(found: Sequence[Output], only: str) -> list[Output]:
    """The outputs that a name stands for.

    Args:
        found: from ``outputs``.
        only: a notebook's number, a rule, or a table or figure (``table1`` for
            ``calibrated_table1.csv``); empty is all.

    Raises:
        InvalidInput: nothing has that name.
    """
    chosen = [
        one
        for one in found
        if only in ("", one.notebook, one.rule, one.path.name, one.path.stem, str(one.path))
        or any(name.endswith(f"_{only}") for name in (one.path.stem, one.rule))
    ]
    numbers, rules = (
        ", ".join(sorted({getattr(one, kind) for one in found} - {""}))
        for kind in ("notebook", "rule")
    )
    refuse(
        not chosen,
        f"Nothing is named {only!r}. ONLY takes the number of a notebook ({numbers}), a rule "
        f"({rules}), or a table or figure as make status lists them, such as table1 or "
        "06_calibrated_gaps.pdf.",
    )
    return chosen


def targets(wanted: Sequence[Output]) -> list[Output]:
    """What Snakemake is asked for by name: no files of a cell where a whole table is wanted.

    A job of a rule ``*_cell`` makes one row of a notebook's table; that table asks for it. Most of
    what the job writes is temporary, and Snakemake keeps what it was asked for.

    Args:
        wanted: the outputs to make.
    """
    whole = {one.notebook for one in wanted if not _is_cell(one)}
    return [one for one in wanted if not (_is_cell(one) and one.notebook in whole)]


def _is_cell(one: Output) -> bool:
    return one.rule.endswith("_cell")


def judged(profile: Path) -> list[Output]:
    """``outputs``, after Snakemake has been told what is known of files of other makers."""
    snakemake_record.adopt(_record(profile))
    found = outputs(profile)
    marked = snakemake_record.doubt([str(one.path) for one in found if one.state != "missing"])
    return outputs(profile) if marked else found


def reproduce(
    profile: Path, only: str = "", cores: int | None = None, more: Sequence[str] = ()
) -> int:
    """Make what is missing or stale, and say what was done.

    Args:
        profile: path of its YAML file.
        only: see ``select``.
        cores: to use; None is all.
        more: further arguments for Snakemake, such as those of an executor.

    Returns:
        The exit status: 0, or 1 where a job failed (the others have run).

    Raises:
        BogpError: another run is alive, or the profile cannot be planned.
    """
    run, started = run_of(profile), time.time()
    log = paths.home() / "build" / "logs" / f"{run}.log"
    with _alone() as lock:
        # A lock of Snakemake's is one of a run that was killed, for no other is alive.
        if any((paths.home() / ".snakemake" / "locks").glob("*")):
            _snakemake(profile, "--unlock")
        found = judged(profile)
        wanted = chosen = select(found, only)
        if "--forceall" not in more:
            wanted = [one for one in chosen if one.state != "fresh" and one.why != WHEN_NEEDED]
        if not wanted:
            print(f"Nothing to do: all {len(chosen)} files of {only or run} are fresh.")
            return 0
        print(
            f"{len(wanted)} of {len(chosen)} files of {only or run} are to be made; "
            "notebooks appear here as they are done.",
            flush=True,
        )
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [*_command(profile, cores), "--keep-going", "--rerun-incomplete", "--nocolor"]
        command += [*more, "--", *(str(one.path) for one in targets(wanted) if only)]
        # Snakemake holds the lock too: it is free when the last of its processes has ended.
        with (
            log.open("w") as words,
            subprocess.Popen(command, stderr=words, pass_fds=[lock], **_place()) as child,
        ):
            try:
                status = child.wait()
            except KeyboardInterrupt:  # Snakemake got it too, and tidies up
                child.wait()
                raise
        snakemake_record.keep([str(one.path) for one in found], _record(profile))
    if status:
        print(_summary(run, log, started), file=sys.stderr)
        return 1
    print(f"Done in {time.time() - started:.0f} s.")
    return 0


def _summary(run: str, log: Path, started: float) -> str:
    """What failed since a moment, and why."""
    lines = [
        f"  {path.stem}: " + path.read_text().strip().replace("\n", "\n    ")
        for path in sorted(paths.failed_dir(run).glob("*.txt"))
        if path.stat().st_mtime >= started - 1
    ]
    first = (
        f"{len(lines)} failed; what does not depend on them was made, "
        "and the same command tries again:"
        if lines
        else f"Snakemake stopped: {_last_words(log.read_text())}"
    )
    return "\n".join([first, *lines, f"All that Snakemake said is in {log}."])


def render(found: Sequence[Output]) -> str:
    """The state of each file, for people: a paragraph a notebook, one line for both halves."""
    merged: dict[tuple[str, Path], list[Output]] = {}
    for one in found:
        merged.setdefault((one.notebook, one.path.with_suffix("")), []).append(one)
    paragraphs: dict[str, str] = {}
    for (number, stem), halves in merged.items():
        worst = max(halves, key=lambda one: STATES.index(one.state))
        line = f"  {worst.state:8}{stem}.{'|'.join(one.path.suffix[1:] for one in halves)}"
        line += f"  ({worst.why})" if worst.why else ""
        paragraphs[number] = paragraphs.get(number, f"notebook {number}") + f"\n{line}"
    counts = (f"{sum(one.state == state for one in found)} files {state}" for state in STATES)
    return "\n\n".join([*paragraphs.values(), ", ".join(counts) + "."])


@contextmanager
def _alone() -> Iterator[int]:
    """Hold the right to run in this home; yields the lock's file descriptor.

    The system gives it back when the last process that holds it ends, however it ends: nothing has
    to be unlocked by hand.
    """
    path = paths.home() / "build" / "reproduce.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise BogpError(
            f"{path} cannot be written ({error.strerror}); free some space, "
            "or set BOGP_HOME to a folder of your own."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BogpError(
                f"Another make reproduce is at work in {paths.home()}; wait for it, or stop it."
            ) from None
        yield file.fileno()


def _command(profile: Path, cores: int | None = None) -> list[str]:
    options = [
        "--profile",
        "none",
        "--rerun-triggers",
        "mtime",
        "params",
        "input",
        "--max-checksum-file-size",
        "1000000000",
    ]
    options += ["--cores", str(cores or os.cpu_count() or 1)]
    files = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(profile)]
    return [sys.executable, "-m", "snakemake", *files, *options]


def _snakemake(profile: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Ask Snakemake for something that runs no job."""
    return subprocess.run(
        [*_command(profile), what], capture_output=True, text=True, check=False, **_place()
    )


def _place() -> dict[str, Any]:
    """Where Snakemake runs: in the home folder, where it keeps its memory and its logs.

    Folders that were named from elsewhere are named in full.
    """
    named = {
        "BOGP_HOME": paths.home(),
        "BOGP_STORE": paths.store_path(),
        "BOGP_DATA_DIR": paths.data_dir(),
    }
    given = {name: str(path) for name, path in named.items() if name in os.environ}
    return {"cwd": paths.home(), "env": os.environ | given | {"TQDM_DISABLE": "1"}}


def _record(profile: Path) -> Path:
    return paths.results_dir(run_of(profile)) / "workflow.json"


def _last_words(text: str) -> str:
    """The gist of a log of Snakemake: a message of this package, else the last lines."""
    noise = ("  File", "    ", "Traceback", "Elapsed", "Complete log")
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.startswith(noise)
    ]
    said = [line for line in lines if line.startswith("bogp: ") or ": error: " in line]
    return " ".join(said or lines[-3:])[:600] or "it said nothing"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bogp.workflow.batch",
        description="Regenerate figures and tables, or list their state.",
        epilog="What stands after -- goes to Snakemake, such as -- --executor NAME.",
    )
    parser.add_argument("what", choices=["reproduce", "status"])
    parser.add_argument("profile", help="smoke, paper, or the path of a YAML file")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="a notebook's number, a rule, a table or figure"
    )
    parser.add_argument("--cores", type=int, help="how many to use (default: all)")
    given = [*(sys.argv[1:] if argv is None else argv), "--"]
    own, more = given[: given.index("--")], given[given.index("--") + 1 : -1]
    arguments = parser.parse_args(own)
    try:
        profile = profile_path(arguments.profile)
        if arguments.what == "reproduce":
            return reproduce(profile, arguments.only, arguments.cores, more)
        print(render(select(judged(profile), arguments.only)))
        return 0
    except BogpError as error:
        print(f"bogp: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "bogp: interrupted; what is finished is kept, and the same command goes on from there.",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
