"""The speed claims, each as a ratio measured in one run, one core against one core.

    python -m benchmarks.speed [RUN]      # about 20 minutes (make bench)

Writes ``speed*.csv`` with the hardware beside them under ``data/results/RUN`` (default ``bench``;
``paper`` is what is committed), and the figures ``speed_*`` under ``figures/RUN``. What is measured
of trainings stands in ``trainings``. Both sides are warmed up and have their data in memory; a time
is the median of several runs, and where networkx would take too long, of fewer graphs. A database
build is a whole process. Compiling, which the first run on a machine waits for, is timed apart. Run
it on an idle machine.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import igraph
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from benchmarks import plain_properties, plots
from benchmarks import trainings as trainings_of
from benchmarks.timing import on_one_core, row, seconds, verdict
from bogp import paths, plotting
from bogp.graphs import families, properties
from bogp.records import write_table
from bogp.training import engine

SPARSITIES, NODES = (0.15, 0.60, 0.90), (32, 64, 128, 256, 512)


def property_rows() -> tuple[list[dict], pd.DataFrame]:
    """The properties' lines of the table, and graphs a second against their size; one thread on
    both sides.
    """
    rows, rates = [], []
    ways = {
        "five": (list(properties.PAPER_FIVE), plain_properties.five_properties, 100, 300),
        "nine": (list(properties.NINE), plain_properties.nine_properties, 60, 200),
    }
    with threadpool_limits(1):
        for sparsity in tqdm(SPARSITIES, "properties", leave=False):
            drawn = _draw(128, sparsity, 1000)
            for name, (columns, plain, least, aim) in ways.items():
                properties.measure(drawn[:8], columns)
                ours = seconds(
                    lambda columns=columns, drawn=drawn: properties.measure(drawn, columns)
                ) / len(drawn)
                networkx = statistics.median(
                    seconds(lambda m=m, plain=plain: plain(m), 1) for m in drawn[:20]
                )
                rows.append(
                    row(
                        f"{name} properties, n = 128, s = {sparsity:.2f}",
                        "ms a graph",
                        1e3 * ours,
                        1e3 * networkx,
                        least,
                        aim,
                    )
                )
        rows.append(degree_row())
        for n in tqdm(NODES, "graphs a second", leave=False):
            drawn = _draw(n, 0.60, 64)
            properties.measure(drawn[:2])
            ours = seconds(
                lambda drawn=drawn: properties.measure(drawn, list(properties.NINE))
            ) / len(drawn)
            few = drawn[:3] if n > 128 else drawn[:10]
            networkx = statistics.median(
                seconds(lambda m=m: plain_properties.nine_properties(m), 1) for m in few
            )
            rates += [
                {"nodes": n, "way": "bogp", "per_second": 1 / ours},
                {"nodes": n, "way": "networkx", "per_second": 1 / networkx},
            ]
    return rows, pd.DataFrame(rates)


def degree_row(n: int = 1024) -> dict:
    """Degree centrality of one large graph, checks and table included, against igraph on a graph
    that is built already.
    """
    mask = _draw(n, 0.60, 1)[0]
    graph = igraph.Graph.Adjacency(mask & ~np.eye(n, dtype=bool), mode="undirected")
    ours = seconds(lambda: properties.measure(mask, ["degree_centrality"]), 101)
    theirs = seconds(lambda: np.mean(graph.degree()) / (n - 1), 101)
    return row(
        f"degree centrality, n = {n:,}, against igraph", "ms a graph", 1e3 * ours, 1e3 * theirs
    )


def _draw(n: int, sparsity: float, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([families.bernoulli(n, sparsity, rng) for _ in range(count)])


def database_row(masks_of_ours: int = 1000, masks_of_plain: int = 10) -> dict:
    """A build of seven sparsities as a whole process, start and imports included; the plain script
    is timed on fewer masks and scaled up.
    """
    build = (
        "import sys; from pathlib import Path; from bogp.graphs.database import DatabaseSpec, "
        "build;"
        f"build(DatabaseSpec({plain_properties.SPARSITIES}, {masks_of_ours}), Path(sys.argv[1]))"
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = iter(range(10))
        ours = seconds(lambda: _python("-c", build, f"{folder}/{next(runs)}"))
        start = seconds(
            lambda: _python("-m", "benchmarks.plain_properties", "0", f"{folder}/plain.csv")
        )
        some = seconds(
            lambda: _python(
                "-m", "benchmarks.plain_properties", str(masks_of_plain), f"{folder}/plain.csv"
            ),
            1,
        )
    plain = start + (some - start) * masks_of_ours / masks_of_plain
    return row(f"database, 7 x {masks_of_ours:,} masks, whole process", "s", ours, plain, 40, 100)


def memory_rows() -> list[dict]:
    """Peak memory of a process that trains 64 masks on full MNIST, GiB (a few steps: it does not
    depend on their number).
    """
    rows = []
    for name, steps in (("CALIBRATED", 32), ("PAPER", 1)):
        code = (
            "from dataclasses import replace; from benchmarks.trainings import Trainings; from "
            "bogp import records; from bogp.training import engine, protocols;"
            f"t = Trainings(); p = replace(protocols.{name}, steps={steps}); "
            "engine.train(t.masks(p, 64, 0.6), [0] * 64, p, t.dataset);"
            "print(records.peak_memory() / 2**30)"
        )
        peak = float(_python("-c", code))
        rows.append(
            {
                "what": f"peak memory, 64 masks, {name.lower()}",
                "unit": "GiB",
                "ours": peak,
                "at_least": 3.0,
                "aim": 1.5,
            }
            | {"verdict": verdict(-peak, -3.0, -1.5)}
        )
    return rows


def compile_rows() -> list[dict]:
    """Time until the first small training and the first properties are there: with nothing
    compiled, and with what an earlier process kept.
    """
    code = (
        "import time, numpy as np; from dataclasses import replace; from bogp import datasets;"
        "from bogp.graphs import families, properties;"
        "from bogp.training import engine, protocols;"
        "d = datasets.load('mnist-5k'); m = families.bernoulli(128, .6, "
        "np.random.default_rng(0)); s = time.perf_counter();"
        "engine.train([(None, m, None)], [0], replace(protocols.CALIBRATED, steps=1), d); "
        "properties.measure(m);"
        "print(time.perf_counter() - s)"
    )
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (
            float(_python("-c", code, environment={"NUMBA_CACHE_DIR": folder})) for _ in range(2)
        )
    return [
        {"what": "first use on a machine: compiling", "unit": "s, once", "ours": cold},
        {
            "what": "first use in a process: reading what was compiled",
            "unit": "s, each process",
            "ours": warm,
        },
    ]


def markdown(table: pd.DataFrame) -> str:
    """The table as it stands in docs/speed.md."""
    lines = [
        "| what | bogp | plain way | ratio | at least | aim | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in table.itertuples():
        times = [
            f"{value:.3g} {one.unit}" if pd.notna(value) else "" for value in (one.ours, one.plain)
        ]
        ratio = f"{one.ratio:.3g}" if pd.notna(one.ratio) else ""
        sign = "" if pd.isna(one.at_least) else "<" if pd.isna(one.ratio) else ">="
        goals = [
            f"{sign} {value:g}" if pd.notna(value) else "" for value in (one.at_least, one.aim)
        ]
        verdict = one.verdict if isinstance(one.verdict, str) else ""
        lines.append(
            f"| {one.what} | {times[0]} | {times[1]} | {ratio} | {goals[0]} | {goals[1]} | "
            f"{verdict} |"
        )
    return "\n".join(lines)


def _python(*arguments: str, environment: dict[str, str] | None = None) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {})
    ).stdout


def main(run: str) -> None:
    """Measure everything, write each table when it is there, and draw the figures."""
    on_one_core()
    started, trainings, folder = time.time(), trainings_of.Trainings(), paths.results_dir(run)

    def write(table: pd.DataFrame, name: str) -> None:
        about = {"amx": engine.has_amx(), "engine_version": engine.ENGINE_VERSION}
        write_table(
            table,
            folder / f"{name}.csv",
            about | {"libraries": engine.libraries(), "seconds": round(time.time() - started)},
        )

    with threadpool_limits(1):
        network_rows, network_rates = trainings_of.rows_and_rates(trainings)
        write(network_rates, "speed_trainings")
        shares = trainings_of.time_shares(trainings)
        write(shares, "speed_shares")
        write(trainings_of.switch_points(), "speed_kinds")
        network_rows += [trainings_of.floor_row(shares), trainings_of.accuracy_row(trainings)]
        graph_rows, graph_rates = property_rows()
        write(graph_rates, "speed_properties")
        rest = [database_row(), *memory_rows(), *compile_rows()]
    table = pd.DataFrame([*network_rows, *graph_rows, *rest])
    write(table, "speed")
    plotting.use_style()
    plotting.save(
        plots.rates(
            pd.read_csv(folder / "speed_trainings.csv"), "masks", "masks trained in one call"
        ),
        run,
        "speed_trainings",
    )
    plotting.save(
        plots.rates(pd.read_csv(folder / "speed_properties.csv"), "nodes", "nodes of each graph"),
        run,
        "speed_properties",
    )
    plotting.save(plots.time_shares(pd.read_csv(folder / "speed_shares.csv")), run, "speed_shares")
    print(f"{markdown(table)}\n\n{time.time() - started:.0f} s in all")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "bench")
