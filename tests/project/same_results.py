"""Are the results of the ``paper`` profile those of an earlier commit? ``python -m
tests.project.same_results COMMIT``.

Compares every CSV under data/results/paper as it stands with the one of that commit, after a map of
renames. Columns that hold time or memory are left out; they differ from run to run.
"""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "data/results/paper"

# Then -> now: files, from the folder of results; and columns, by file name or for all ("").
RENAMED_FILES: dict[str, str] = {}
RENAMED_COLUMNS: dict[str, dict[str, str]] = {}
# What a clock measures: columns of any table, and rows of a table (column, value).
MEASURED_BY_CLOCK = {"seconds", "sequential_ms", "batched_ms", "ms", "per_second"}
CLOCK_COLUMNS = {
    "10_computation_graphs/latency.csv": {"before", "after"},
    "11_edge_importance/costs.csv": {"mean", "low", "high"},  # in forward passes
}
# Networks that notebook 10 trains anew: equal up to rounding that differs between processors.
TOLERANCE = {"10_computation_graphs": 1e-6}


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
        before, after = then[column], now[column]
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


def committed(commit: str, file: str) -> pd.DataFrame:
    """A table as it stood at a commit."""
    content = subprocess.run(
        ["git", "show", f"{commit}:{RESULTS}/{file}"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    return pd.read_csv(io.BytesIO(content), engine="python")


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
    different = 0
    for file in files:
        path = ROOT / RESULTS / RENAMED_FILES.get(file, file)
        if not path.exists():
            differences = ["is missing"]
        else:
            now = pd.read_csv(path, engine="python")
            differences = compared(committed(commit, file), now, file)
        different += bool(differences)
        for difference in differences:
            print(f"{file}: {difference}")
    print(f"{len(files) - different} of {len(files)} tables are equal")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
