"""The working tree against an earlier commit: the same trainings and graph properties, one core
against one core, by turns.

    python -m benchmarks.versions COMMIT [RUN]       # about 15 minutes, on an idle machine

Writes ``speed_versions.csv`` under ``data/results/RUN`` (default ``bench``). Full MNIST under
``calibrated``; seconds a network or a graph, the median of the runs of each side, and of the ratios
of neighbouring runs.
"""

import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from bogp import paths
from bogp.records import write_table

ROOT = Path(__file__).resolve().parents[1]
# scope of the masks and networks in a group, or a graph property and nodes; sparsity; at least so
# many times faster, and the aim
CASES = (
    ("hidden", 0.6, 8, 1.35, 1.5),
    ("hidden", 0.9, 8, 1.6, 1.8),
    ("hidden", 0.6, 1, 1.25, 1.3),
    ("all", 0.90, 8, 3.0, None),
    ("all", 0.95, 8, 4.5, None),
    ("all", 0.97, 8, 5.5, None),
    ("all", 0.99, 8, 7.0, None),
    ("degree_centrality", 0.60, 1024, 2.5, None),
    ("cycle_length", 0.60, 1024, 2.5, None),
)
RUNS = 3
TIMED = """
import sys, time, numpy as np
from dataclasses import replace
from bogp import datasets
from bogp.graphs import families, properties
from bogp.training import engine
from bogp.training.protocols import CALIBRATED
what, sparsity, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)

def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start

if what in ("hidden", "all"):
    protocol, dataset = replace(CALIBRATED, scope=what), datasets.load("mnist")
    shapes = [(128, 784) if what == "all" else None, (128, 128), None]
    masks = [tuple(s and rng.random(s) >= sparsity for s in shapes) for _ in range(count)]
    prepared = engine.prepare(dataset, protocol)

    def train(steps):
        engine.train(masks, [0] * count, replace(protocol, steps=steps), dataset,
                     prepared=prepared, workers=1)

    train(2)
    print(min(seconds(lambda: train(protocol.steps)) for _ in range(2)) / count)
else:
    mask = families.bernoulli(count, sparsity, rng)
    properties.measure(mask, [what])
    print(np.median([seconds(lambda: properties.measure(mask, [what])) for _ in range(101)]))
"""


def timed(source: Path, kept: Path, what: str, sparsity: float, size: int) -> float:
    """Seconds with the package that lies in ``source``; compiled code is kept in ``kept``."""
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "NUMBA_CACHE_DIR": str(kept),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", TIMED, what, str(sparsity), str(size)]
    result = subprocess.run(
        command, cwd=source, env=environment, check=True, capture_output=True, text=True
    )
    return float(result.stdout)


def main(commit: str, run: str) -> None:
    """Measure, write and print."""
    rows = []
    if hasattr(os, "sched_setaffinity"):  # one core, for these processes too
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        earlier, kept = Path(folder) / "earlier", Path(folder) / "kept"
        archive = subprocess.run(
            ["git", "archive", commit, "bogp"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(earlier, filter="data")
        for what, sparsity, size, at_least, aim in tqdm(CASES, "versions"):
            pairs = [
                [timed(side, kept / side.name, what, sparsity, size) for side in (earlier, ROOT)]
                for _ in range(RUNS)
            ]
            ratio = statistics.median(old / new for old, new in pairs)
            aimed = aim is not None and ratio >= aim
            rows.append(
                {
                    "what": what,
                    "sparsity": sparsity,
                    "size": size,
                    "earlier": statistics.median(old for old, _ in pairs),
                    "now": statistics.median(new for _, new in pairs),
                    "ratio": ratio,
                    "lowest": min(old / new for old, new in pairs),
                    "highest": max(old / new for old, new in pairs),
                    "at_least": at_least,
                    "aim": aim,
                    "verdict": "aim met" if aimed else "met" if ratio >= at_least else "missed",
                }
            )
    table = pd.DataFrame(rows)
    write_table(
        table, paths.results_dir(run) / "speed_versions.csv", {"earlier": commit, "runs": RUNS}
    )
    print(table.round(3).to_string(index=False))


def markdown(table: pd.DataFrame) -> str:
    """The table as it stands in docs/speed.md."""
    lines = [
        "| what | before | now | ratio (range) | at least | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in table.itertuples():
        where = {"hidden": "on the hidden layer", "all": "on both layers"}.get(one.what)
        networks = "8 networks" if one.size == 8 else "one network"
        what = (
            f"{networks}, masks {where}"
            if where
            else f"{one.what.replace('_', ' ')}, n = {one.size:,}"
        )
        unit, times = ("s", 1) if where else ("ms", 1e3)
        lines.append(
            f"| {what}, s = {one.sparsity:.2f} | {times * one.earlier:.3g} {unit} | "
            f"{times * one.now:.3g} {unit} | {one.ratio:.2f} ({one.lowest:.2f} to "
            f"{one.highest:.2f}) | {one.at_least:g} | {one.verdict} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "bench")
