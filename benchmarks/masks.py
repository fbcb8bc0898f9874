"""How quickly the benchmark of masks answers.

    python -m benchmarks.masks [RUN]      # half a minute on one core (make bench)

*Load* is a new Python process that imports ``bogp.benchmark`` and reads the file, less the same
process that imports nothing; *query* one accuracy by id; *graphs* the two graphs of a mask;
*search* a random search of 25 masks in a pool. A time is the median of the runs. Writes
``speed_masks.csv`` under ``data/results/RUN`` (default ``bench``; ``paper`` is what is committed).
"""

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import pandas as pd

from bogp import benchmark, paths
from bogp.records import write_table

RUNS = 7
AT_MOST = {"load": 1.0, "query": 1e-3}  # seconds


def process(code: str) -> float:
    """Seconds of a new Python process that runs the code."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def each(action: Callable[[str], object], ids: list[str]) -> float:
    """Seconds of one call, over all ids."""
    started = time.perf_counter()
    for name in ids:
        action(name)
    return (time.perf_counter() - started) / len(ids)


def measured(runs: int = RUNS) -> pd.DataFrame:
    """``action``, ``seconds``, ``at_most`` (NaN where nothing was asked for) and ``verdict``."""
    masks = benchmark.load()
    ids, pool = list(masks.ids[::8]), masks.pool(0.97, "mnist")
    taken: dict[str, list[float]] = {"load": [], "query": [], "graphs": [], "search": []}
    load = "from bogp import benchmark; benchmark.load()"
    process(load)  # what the first one leaves in the disk's cache
    for _ in range(runs):
        taken["load"].append(process(load) - process("pass"))
        taken["query"].append(each(lambda name: masks.accuracy(name, "mnist", 0), ids))
        taken["graphs"].append(each(masks.graphs, ids))
        taken["search"].append(each(lambda _: pool.evaluate(benchmark.RandomSearch(0)), ids[:20]))
    table = pd.DataFrame({"action": list(taken), "seconds": [median(t) for t in taken.values()]})
    table["at_most"] = table["action"].map(AT_MOST)
    verdicts = (table["seconds"] <= table["at_most"]).map({True: "met", False: "missed"})
    return table.assign(verdict=verdicts.where(table["at_most"].notna(), ""))


def main(run: str) -> None:
    """Measure, write the table and print it."""
    table = measured()
    write_table(table, paths.results_dir(run) / "speed_masks.csv", {"runs": RUNS})
    print(table.to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "bench")
