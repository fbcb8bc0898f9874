"""Are the results of the ``paper`` profile those of an earlier commit? ``python -m
tests.project.same_results COMMIT``.

Compares every CSV under data/results/paper as it stands with the one of that commit, after a map of
renames. Columns that hold time or memory are left out; they differ from run to run.
"""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "data/results/paper"

# Then -> now: files, from the folder of results; and columns, by file name or for all ("").
RENAMED_FILES: dict[str, str] = {}
RENAMED_COLUMNS: dict[str, dict[str, str]] = {}
# What a clock measures: columns of any table, and rows of a table (column, value).
MEASURED_BY_CLOCK = {"seconds", "latency", "sequential_ms", "batched_ms", "ms", "per_second"}
CLOCK_COLUMNS = {
    "10_computation_graphs/latency.csv": {"before", "after"},
    "11_edge_importance/costs.csv": {"mean", "low", "high"},  # in forward passes
    "15_depth_pruning/costs.csv": {"latency_left", "latency_from", "latency_to"},
    "15_depth_pruning/scoring.csv": {"char_transformer", "vit", "resnet20"},  # seconds
}
# Networks that notebook 10 trains anew: equal up to rounding that differs between processors.
TOLERANCE = {"10_computation_graphs": 1e-6}
# Their networks are trained in the notebook and kept by no record. Over hundreds of steps the
# rounding of another processor grows to another network, so they can be equal on one alone.
TRAINED_IN_THE_NOTEBOOK = {
    *("07_your_own_network/fresh.csv", "07_your_own_network/summary.csv"),
    *("10_computation_graphs/scores.csv", "10_computation_graphs/surgery.csv"),
    *("14_surrogate_search/ranks.csv", "14_surrogate_search/summary.csv"),
}


def compared(then: pd.DataFrame, now: pd.DataFrame, file: str) -> list[str]:
    """What differs between two states of one table, in words; empty where nothing does.

    Args:
        then, now: the table at the earlier commit and today.
        file: its path from the folder of results.
    """
    renamed = RENAMED_COLUMNS.get("", {}) | RENAMED_COLUMNS.get(file, {})
    then = then.rename(columns=renamed)
    clock = MEASURED_BY_CLOCK | CLOCK_COLUMNS.get(file, set())
    if list(then.columns) != list(now.columns):
        return [f"columns {list(then.columns)} became {list(now.columns)}"]
    if len(then) != len(now):
        return [f"{len(then)} rows became {len(now)}"]
    tolerance = TOLERANCE.get(file.split("/")[0], 0.0)
    found = []
    for column in then.columns.difference(clock):
        before, after = (_without_line_numbers(table[column]) for table in (then, now))
        same = (before == after) | (before.isna() & after.isna())
        if tolerance and before.dtype.kind == "f" and after.dtype.kind in "fi":
            same |= np.isclose(before, after, rtol=tolerance, atol=tolerance)
        if not same.all():
            row = int(np.flatnonzero(~same)[0])
            found.append(
                f"{column}: {int((~same).sum())} of {len(same)} cells, first in row {row}: "
                f"{before.iloc[row]!r} became {after.iloc[row]!r}"
            )
    return found


def _without_line_numbers(column: pd.Series) -> pd.Series:
    """A refusal names the line of the code that it is about, which moves with the code."""
    return column if column.dtype.kind in "fib" else column.replace(r"line \d+", "line", regex=True)


def committed(commit: str, file: str) -> bytes:
    """A file of results as it stood at a commit."""
    return subprocess.run(
        ["git", "show", f"{commit}:{RESULTS}/{file}"], cwd=ROOT, capture_output=True, check=True
    ).stdout


def processors(commit: str, file: str) -> tuple[str, str]:
    """The processors that made a table then and now, as its JSON says."""
    name = str(Path(file).with_suffix(".json"))
    then, now = committed(commit, name), (ROOT / RESULTS / name).read_bytes()
    return _processor(json.loads(then)), _processor(json.loads(now))


def _processor(provenance: Any) -> str:
    parts = provenance.values() if isinstance(provenance, dict) else ()
    inner = next((found for part in parts if (found := _processor(part))), "")
    return provenance.get("processor", inner) if isinstance(provenance, dict) else ""


def main(commit: str) -> int:
    """Print what differs; the exit status is 1 if anything does."""
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", commit, RESULTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    files = [name.removeprefix(f"{RESULTS}/") for name in listed if name.endswith(".csv")]
    different = elsewhere = 0
    for file in files:
        path = ROOT / RESULTS / RENAMED_FILES.get(file, file)
        if not path.exists():
            differences = ["is missing"]
        else:
            now = pd.read_csv(path, engine="python")
            then = pd.read_csv(io.BytesIO(committed(commit, file)), engine="python")
            differences = compared(then, now, file)
        for difference in differences:
            print(f"{file}: {difference}")
        if differences and file in TRAINED_IN_THE_NOTEBOOK:
            before, after = processors(commit, file)
            if before != after:
                print(f"{file}: trained in the notebook, on {before} then and on {after} now")
                elsewhere += 1
                continue
        different += bool(differences)
    print(
        f"{len(files) - different - elsewhere} of {len(files)} tables are equal, {elsewhere} were "
        f"trained on another processor, {different} differ"
    )
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
