"""Regenerates figures and tables, and says what is fresh: ``python -m bogp.workflow.batch reproduce|status PROFILE [--only NAME]``.

What to run, and in which order, is for Snakemake to say (``Snakefile``); this asks it, runs it, and puts the answer in plain words. It adds two things: one run
at a time, however the last one ended, and a summary of what failed and why.
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
from bogp.errors import BogpError, InvalidInput
from bogp.workflow import snakemake_record

ROOT = Path(__file__).resolve().parents[2]
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
        state: ``fresh``, ``stale`` or ``missing``.
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
    raise InvalidInput(f"There is no profile {profile!r}; there are {', '.join(sorted(p.stem for p in folder.glob('*.yaml')))}, "
                       "or give the path of a YAML file of your own.")  # fmt: skip


def run_of(profile: Path) -> str:
    """The name of a profile's run: the folder of its results.

    Raises:
        InvalidInput: the profile is no YAML, or does not name its run.
    """
    try:
        return str(yaml.safe_load(profile.read_text())["run"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        raise InvalidInput(f"The profile {profile} is no YAML file with a line 'run: NAME'; copy one of notebooks/profiles.") from None


def outputs(profile: Path) -> list[Output]:
    """Every file that the workflow keeps, as Snakemake judges it now; nothing is run.

    Args:
        profile: path of its YAML file.

    Raises:
        BogpError: Snakemake cannot read the profile or the workflow.
    """
    done = subprocess.run([*_snakemake(profile), "--summary"], capture_output=True, text=True, check=False, **_place())
    if done.returncode:
        raise BogpError(f"The profile {profile} cannot be planned: {_last_words(done.stderr)}")
    rows = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 5][1:]
    names = [row[0] for row in rows]
    interrupted, doubted = snakemake_record.interrupted(names), snakemake_record.doubted(names)
    notebooks = {
        rule: match[1] for name, _, rule, *_ in rows if (match := re.search(r"(?:^|/)(\d\d)_", name))
    }  # as it stands in names of folders and files
    found = []
    for name, _, rule, _, status, plan in rows:
        if status == "removed temp file":
            continue
        if status == "missing":
            state, why = "missing", "" if plan == "update pending" else "made when something needs it"
        elif name in interrupted:
            state, why = "stale", "the run that made it was interrupted"
        elif plan == "update pending":
            state, why = "stale", snakemake_record.UNKNOWN if name in doubted else _REASONS.get(status, status)
        else:
            state, why = "fresh", ""
        found.append(Output(Path(name), rule, notebooks.get(rule, ""), state, why))
    return sorted(found, key=lambda one: (one.notebook, str(one.path)))


def select(found: Sequence[Output], only: str) -> list[Output]:
    """The outputs that a name stands for: a notebook's number, a rule, or a table or figure (``table1`` for ``calibrated_table1.csv``).

    Args:
        found: from ``outputs``.
        only: the name; empty is all.

    Raises:
        InvalidInput: nothing has that name.
    """
    if not only:
        return list(found)

    def named(one: Output) -> bool:
        exact = (only == one.notebook, only == one.rule, only in (one.path.name, one.path.stem, str(one.path)))
        return any(exact) or one.path.stem.endswith(f"_{only}") or one.rule.endswith(f"_{only}")

    chosen = [one for one in found if named(one)]
    if not chosen:
        numbers, rules = (sorted({getattr(one, kind) for one in found} - {""}) for kind in ("notebook", "rule"))
        raise InvalidInput(f"Nothing is named {only!r}. ONLY takes the number of a notebook ({', '.join(numbers)}), a rule ({', '.join(rules)}), "
                           "or a table or figure as make status lists them, such as table1 or 06_calibrated_gaps.pdf.")  # fmt: skip
    return chosen


def judged(profile: Path) -> list[Output]:
    """``outputs``, after Snakemake has been told what is known of files that it did not make itself."""
    snakemake_record.adopt(_record(profile))
    found = outputs(profile)
    return outputs(profile) if snakemake_record.doubt([str(one.path) for one in found if one.state != "missing"]) else found


def reproduce(profile: Path, only: str = "", cores: int | None = None, more: Sequence[str] = ()) -> int:
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
    run, log = run_of(profile), paths.home() / "build" / "logs" / f"{run_of(profile)}.log"
    with _alone() as lock:
        if any((paths.home() / ".snakemake" / "locks").glob("*")):  # of a run that was killed: no other is alive
            subprocess.run([*_snakemake(profile), "--unlock"], capture_output=True, check=True, **_place())
        found = judged(profile)
        chosen = select(found, only)
        wanted = [one for one in chosen if one.state != "fresh" and not (one.state == "missing" and one.why)]
        if not wanted and "--forceall" not in more:
            print(f"Nothing to do: all {len(chosen)} files of {only or run} are fresh.")
            return 0
        wanted = chosen if "--forceall" in more else wanted
        print(
            f"{len(wanted)} of {len(chosen)} files of {only or run} are to be made; notebooks appear here as they are done.",
            flush=True,
        )
        log.parent.mkdir(parents=True, exist_ok=True)
        started, targets = time.time(), [str(one.path) for one in wanted]
        command = [*_snakemake(profile, cores), "--keep-going", "--rerun-incomplete", "--nocolor", *more, "--", *(targets if only else [])]
        with log.open("w") as words, subprocess.Popen(command, stderr=words, pass_fds=[lock], **_place()) as child:
            try:
                status = child.wait()
            except KeyboardInterrupt:  # Snakemake got it too, and tidies up
                child.wait()
                raise
        snakemake_record.keep([str(one.path) for one in found], _record(profile))
        return _summary(run, status, log, started)


def _summary(run: str, status: int, log: Path, started: float) -> int:
    """Say how a run ended; returns the exit status."""
    if not status:
        print(f"Done in {time.time() - started:.0f} s.")
        return 0
    reasons = sorted(path for path in paths.failed_dir(run).glob("*.txt") if path.stat().st_mtime >= started - 1)
    if reasons:
        print(f"{len(reasons)} failed; what does not depend on them was made, and the same command tries again:", file=sys.stderr)
    else:
        print(f"Snakemake stopped: {_last_words(log.read_text())}", file=sys.stderr)
    for reason in reasons:
        print(f"  {reason.stem}: " + "\n    ".join(reason.read_text().strip().splitlines()), file=sys.stderr)
    print(f"All that Snakemake said is in {log}.", file=sys.stderr)
    return 1


def render(found: Sequence[Output]) -> str:
    """The state of each table, figure and executed notebook, for people: a paragraph a notebook, a line for the halves of one table or figure."""
    merged: dict[tuple[str, Path], list[Output]] = {}
    for one in found:
        merged.setdefault((one.notebook, one.path.with_suffix("")), []).append(one)
    lines: list[str] = []
    for (number, stem), halves in merged.items():
        if f"notebook {number}" not in lines:
            lines += ["", f"notebook {number}"]
        worst = max(halves, key=lambda one: ("fresh", "stale", "missing").index(one.state))
        suffixes = "|".join(one.path.suffix[1:] for one in halves)
        lines.append(f"  {worst.state:8}{stem}.{suffixes}" + (f"  ({worst.why})" if worst.why else ""))
    counts = {state: sum(one.state == state for one in found) for state in ("fresh", "stale", "missing")}
    return "\n".join([*lines[1:], "", ", ".join(f"{count} files {state}" for state, count in counts.items()) + "."])


@contextmanager
def _alone() -> Iterator[int]:
    """Hold the right to run in this home; yields the lock's file descriptor, for Snakemake to hold too.

    The system gives it back when the last process that holds it ends, however it ends: nothing has to be unlocked by hand.
    """
    path = paths.home() / "build" / "reproduce.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise BogpError(
            f"{path} cannot be written ({error.strerror}); free some space, or set BOGP_HOME to a folder of your own."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BogpError(f"Another make reproduce is at work in {paths.home()}; wait for it, or stop it.") from None
        yield file.fileno()


def _snakemake(profile: Path, cores: int | None = None) -> list[str]:
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--profile", "none", "--configfile", str(profile)),
        *("--cores", str(cores or os.cpu_count() or 1), "--rerun-triggers", "mtime", "params", "input"),
        *("--max-checksum-file-size", "1000000000"),
    ]


def _place() -> dict[str, Any]:
    """Where Snakemake runs: in the home folder, where it keeps its memory and its logs; folders that were named from elsewhere are named in full."""
    named = {"BOGP_HOME": paths.home(), "BOGP_STORE": paths.store_path(), "BOGP_DATA_DIR": paths.data_dir()}
    return {"cwd": paths.home(), "env": os.environ | {k: str(v) for k, v in named.items() if k in os.environ} | {"TQDM_DISABLE": "1"}}


def _record(profile: Path) -> Path:
    return paths.results_dir(run_of(profile)) / "workflow.json"


def _last_words(text: str) -> str:
    """What a log of Snakemake comes down to: what a command of this package or its arguments said, else the last lines, without a traceback."""
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not line.startswith(("  File", "    ", "Traceback", "Elapsed", "Complete log"))
    ]
    said = [line for line in lines if line.startswith("bogp: ") or ": error: " in line]
    return " ".join(said or lines[-3:])[:600] or "it said nothing"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    own, more = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    parser = argparse.ArgumentParser(
        prog="python -m bogp.workflow.batch",
        description="Regenerate figures and tables, or list their state.",
        epilog="What stands after -- goes to Snakemake, such as -- --executor NAME.",
    )
    parser.add_argument("what", choices=["reproduce", "status"])
    parser.add_argument("profile", help="smoke, paper, or the path of a YAML file")
    parser.add_argument("--only", default="", metavar="NAME", help="a notebook's number, a rule, a table or a figure")
    parser.add_argument("--cores", type=int, help="how many to use (default: all)")
    arguments = parser.parse_args(own)
    try:
        profile = profile_path(arguments.profile)
        if arguments.what == "status":
            print(render(select(judged(profile), arguments.only)))
            return 0
        return reproduce(profile, arguments.only, arguments.cores, more)
    except BogpError as error:
        print(f"bogp: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bogp: interrupted; what is finished is kept, and the same command goes on from there.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
