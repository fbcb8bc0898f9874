"""The counts of the reliability tests as tables, and the page that shows them: ``python -m
tests.reliability.report`` writes docs/reliability.md.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from bogp.records import read_table, write_table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results" / "reliability"
PAGE = ROOT / "docs" / "reliability.md"

# Each point with what it asks and what is allowed.
POINTS = {
    "interrupted": "A process that builds a mask database and trains (`mnist-5k`, groups of 8 "
    "networks) is killed (SIGKILL) at random moments and started again until it is done. "
    "*Lost*: trainings begun and not kept, the most of any kill; allowed is the group in "
    "flight, 8. *Duplicated*: trainings of what was kept already. The end must be the bytes of "
    "an uninterrupted build, and the rows of an uninterrupted run, times apart.",
    "workflow": "`make reproduce` at a small size is killed (SIGKILL, the whole process group) "
    "at a random moment and started again until it is done. *Lost*: trainings begun and not "
    "kept, the most of any kill; allowed is one group. *Duplicated*: trainings of what was kept "
    "already. The tables must be those of an uninterrupted run, times apart, and no process may "
    "live on after a kill.",
    "damaged": "One bit is flipped, or the file is cut off, at a random place. *Failed*: read "
    "as good with other content, an exception that is no `BogpError`, or one that does not name "
    "the file. *Lost*: evaluations that were gone without a word, all trials together; they are "
    "trained again, to the same numbers.",
    "bad_input": "Entry points are called with generated values, right and wrong ones, of the "
    "right type and of others. *Failed*: an end that is neither success nor a `BogpError`.",
    "full_disk": "Writing onto a disk that is full, a folder that is read-only, and beyond a "
    "limit of file size. *Failed*: no `BogpError`, or an earlier result that is not what it "
    "was.",
    "untrusted": "Files made to run code when they are opened. *Failed*: code ran, or an "
    "exception that is no `BogpError`. What has the right content beside the code is read; a "
    "store that holds more than its table is refused.",
    "same_seeds": "The same seeds, twice, on 1 and on 2 workers. *Failed*: a CSV whose bytes "
    "differ (the column of seconds, which is a measurement, left out).",
}


@dataclass(frozen=True)
class Count:
    """What one measurement came to.

    Attributes:
        measured: what was done to what.
        tried: how often.
        failed: how often it ended in what must not be.
        lost, duplicated: see ``POINTS``.
        seconds: that it took.
        note: how the others ended.
    """

    measured: str
    tried: int
    failed: int
    lost: int = 0
    duplicated: int = 0
    seconds: float = 0.0
    note: str = ""


def ended(ends: Counter[str]) -> str:
    """How trials ended, and how many so, in words."""
    return ", ".join(f"{end} {number:,}" for end, number in sorted(ends.items()))


def record(point: str, counts: Sequence[Count], seed: int) -> None:
    """Write the counts of a point's large size to its table, if the report is being made
    (``BOGP_REPORT`` is set).
    """
    if os.environ.get("BOGP_REPORT"):
        table = pd.DataFrame([{"point": point} | asdict(count) for count in counts]).round(
            {"seconds": 1}
        )
        write_table(table, RESULTS / f"{point}.csv", {"point": point, "seed": seed})


def test_of(point: str) -> str:
    """The file that measures a point."""
    return (
        "tests/workflow/test_batch.py"
        if point == "workflow"
        else f"tests/reliability/test_{point}.py"
    )


def page(folder: Path = RESULTS) -> str:
    """The report in Markdown, worked out from the tables."""
    tables = {point: read_table(folder / f"{point}.csv") for point in POINTS}
    whole = pd.concat(tables.values())
    parts = [
        "# Reliability, as figures",
        f"{whole['tried'].sum():,} trials, {whole['failed'].sum():,} that ended in what must "
        "not be. Each figure comes from a test that anyone can run again: "
        "`make reliability` measures everything at this size and writes this page (what is "
        "here took about "
        f"{max(1, round(whole['seconds'].sum() / 60))} minutes, on a machine that had other "
        "work to do); `make test` does the same at a small size. "
        "The places, moments and values are drawn with fixed seeds. The counts are in "
        "`data/results/reliability/`, one CSV a point, with what they were "
        "measured on beside each.",
    ]
    for point, table in tables.items():
        parts += [
            f"## {point.replace('_', ' ').capitalize()}",
            f"{POINTS[point]} Test: `{test_of(point)}`.",
            _table(table),
        ]
    return "\n\n".join([*parts, NOTES]) + "\n"


def _table(table: pd.DataFrame) -> str:
    numbers = ["tried", "survived", "failed", "lost", "duplicated"]
    shown = table.assign(
        survived=table["tried"] - table["failed"], note=table["note"].astype(object).fillna("")
    )
    shown = shown.assign(**{name: shown[name].map("{:,}".format) for name in numbers})[
        ["measured", *numbers, "note"]
    ]
    lines = [
        ["measured", *numbers, "how they ended"],
        ["---", *["---:"] * len(numbers), "---"],
        *shown.to_numpy().tolist(),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


NOTES = (Path(__file__).with_name("notes.md")).read_text().strip()


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
