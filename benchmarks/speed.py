"""The speed claims, each as a ratio measured in one run: ours against the plain way, on full MNIST.

    python -m benchmarks.speed [RUN]      # about 10 minutes on 2 cores (make bench)

Writes ``speed*.csv`` with the hardware beside them under ``data/results/RUN`` (default ``bench``;
``paper`` is what is committed), and the figures ``speed_*`` under ``figures/RUN``. Trainings have
every core on both sides, and properties one thread; a database build is a whole process, and may
start others. Both sides are warmed up and have their data in memory; a time is the median of
several runs, and where networkx would take too long, of fewer graphs. Compiling, which the first
run on a machine waits for, is timed apart. Run it on an idle machine.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from benchmarks import plain_properties, plain_training, plots
from bogp import datasets, paths, plotting
from bogp.graphs import families, properties
from bogp.graphs.relational import layer_masks
from bogp.records import write_table
from bogp.training import compiled_networks, engine
from bogp.training.protocols import CALIBRATED, PAPER, Protocol

SPARSITIES, NODES, COUNTS = (0.15, 0.60, 0.90), (32, 64, 128, 256, 512), (1, 4, 16, 64)


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """Median time of several runs, s."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Trainings:
    """Trains the same masks in both ways."""

    def __init__(self) -> None:
        self.dataset = datasets.load("mnist")
        rng = np.random.default_rng(0)
        self._masks = [families.bernoulli(128, 0.6, rng) for _ in range(max(COUNTS))]
        self._plain_test_accuracy: dict[str, float] = {}
        self._loss: dict[tuple[str, str], np.ndarray] = {}

    def recipes(self, protocol: Protocol, networks: int) -> list:
        return [
            layer_masks(mask, protocol.widths, protocol.masked_layers)
            for mask in self._masks[:networks]
        ]

    def ours(
        self,
        protocol: Protocol,
        networks: int,
        precision: str = "float32",
        workers: int | None = None,
        runs: int = 3,
        seeds: int = 1,
    ) -> float:
        """Seconds a network; the first is checked against the plain loop's."""
        prepared = engine.prepare(self.dataset, protocol, precision)
        recipes, of_network = self.recipes(protocol, networks), [k % seeds for k in range(networks)]
        results = []

        def work(protocol: Protocol = protocol) -> None:
            results.append(
                engine.train(
                    recipes,
                    of_network,
                    protocol,
                    self.dataset,
                    precision=precision,
                    prepared=prepared,
                    workers=workers,
                )
            )

        work(replace(protocol, steps=2))
        taken = seconds(work, runs) / networks
        accuracy = self._plain_test_accuracy.get(protocol.id)
        if accuracy is not None and abs(results[-1].test_accuracy[0] - accuracy) > 0.01:
            raise RuntimeError(
                f"Ours and the plain loop disagree under {protocol.name}: "
                f"{results[-1].test_accuracy[0]} and {accuracy}."
            )
        self._loss[protocol.id, precision] = results[-1].loss[0]
        return taken

    def plain(self, protocol: Protocol, runs: int = 3) -> float:
        """Seconds a network, with PyTorch's own choice of threads: one a core."""
        parts = [
            (torch.from_numpy(part.images).float() / 255, torch.from_numpy(part.labels).long())
            for part in engine._splits(self.dataset, protocol)
        ]
        recipe, results = self.recipes(protocol, 1)[0], []
        plain_training.train(recipe, 0, replace(protocol, steps=2), *parts)
        taken = seconds(
            lambda: results.append(plain_training.train(recipe, 0, protocol, *parts)), runs
        )
        losses, (_, _, self._plain_test_accuracy[protocol.id]) = results[-1]
        self._loss[protocol.id, "plain"] = np.array(losses)
        return taken

    def agreement(self, protocol: Protocol, precision: str) -> dict:
        """Largest relative difference of the loss from the plain loop's over all steps of the first
        network.
        """
        ours, plain = self._loss[protocol.id, precision], self._loss[protocol.id, "plain"]
        worst = float(np.max(np.abs(ours / plain - 1)))
        line = {
            "what": f"loss against the plain loop, {protocol.name}, {precision}, {len(plain)} "
            "steps",
            "unit": "at most, relative",
            "ours": worst,
        }
        if (protocol.name, precision) == ("paper", "float32"):
            line |= {"at_least": 1e-4, "verdict": "met" if worst <= 1e-4 else "missed"}
        return line


def training_rows(trainings: Trainings) -> tuple[list[dict], pd.DataFrame]:
    """The trainings' lines of the table, and trainings a second against the number of masks."""
    amx, rows, rates, many = engine.has_amx(), [], [], max(COUNTS)
    plain = trainings.plain(PAPER)
    rows.append(
        row(
            "full batch, float32, 8 masks",
            "s a training",
            trainings.ours(PAPER, 8),
            plain,
            1.8,
            2.2,
        )
    )
    bfloat16 = trainings.ours(PAPER, 8, "bfloat16", runs=3 if amx else 1)
    rows.append(
        row("full batch, bfloat16, 8 masks", "s a training", bfloat16, plain, 8, 14, applies=amx)
    )
    plain = trainings.plain(CALIBRATED, 5)
    for count in tqdm(COUNTS, "trainings a second", leave=False):
        for precision in ("float32", "bfloat16"):
            ours = trainings.ours(
                CALIBRATED, count, precision, runs=3 if amx or precision == "float32" else 1
            )
            rates.append({"masks": count, "way": f"bogp, {precision}", "per_second": 1 / ours})
        rates.append({"masks": count, "way": "PyTorch loop, float32", "per_second": 1 / plain})
    table = pd.DataFrame(rates)
    best = table[table["masks"] == many].set_index("way")["per_second"]
    rows.append(
        row(
            f"calibrated, float32, {many} masks, one seed",
            "s a training",
            1 / best["bogp, float32"],
            plain,
            5,
            10,
        )
    )
    rows.append(
        row(
            f"calibrated, bfloat16, {many} masks, one seed",
            "s a training",
            1 / best["bogp, bfloat16"],
            plain,
            5,
            10,
            applies=amx,
        )
    )
    ours = trainings.ours(CALIBRATED, many, seeds=many)
    rows.append(
        row(f"calibrated, float32, {many} masks, a seed each", "s a training", ours, plain, 5, 10)
    )
    rows += [
        trainings.agreement(protocol, precision)
        for protocol in (PAPER, CALIBRATED)
        for precision in ("float32", "bfloat16")
    ]
    return rows, table


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
    for name, steps in (("CALIBRATED", 32), ("PAPER", 2)):
        code = (
            "from dataclasses import replace; from benchmarks.speed import Trainings; from "
            "bogp import records; from bogp.training import engine, protocols;"
            f"t = Trainings(); p = replace(protocols.{name}, steps={steps}); "
            "engine.train(t.recipes(p, 64), [0] * 64, p, t.dataset);"
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
            | {"verdict": _verdict(-peak, -3.0, -1.5)}
        )
    return rows


def compile_rows() -> list[dict]:
    """Time until the first small training and the first properties are there: with nothing
    compiled, and with what an earlier process kept.
    """
    code = (
        "import time, numpy as np; from dataclasses import replace; from bogp import "
        "datasets, masks, properties, protocols, training;"
        "d = datasets.load('mnist-5k'); m = masks.bernoulli(128, .6, "
        "np.random.default_rng(0)); s = time.perf_counter();"
        "training.train([(None, m, None)], [0], replace(protocols.CALIBRATED, steps=1), d); "
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


def time_shares(trainings: Trainings) -> pd.DataFrame:
    """Where one core's time goes in a training (ms a training of one network), part by part, beside
    the floor of its matrix products.
    """
    parts = []
    for protocol in (CALIBRATED, PAPER):
        images = len(trainings.dataset.train) + (
            len(trainings.dataset.validation) if protocol.split == "reported" else 0
        )
        rows = min(protocol.batch_size or images, compiled_networks.TILE_ROWS)
        repeats = protocol.steps * (protocol.batch_size or images) / rows  # tiles a training
        with threadpool_limits(1):
            spent = {
                name: each * repeats
                for name, each in _parts_of_a_tile(trainings, protocol, rows).items()
            }
            adam = spent.pop("optimiser") * protocol.steps / repeats
            rate = _product_rate()
        total = trainings.ours(protocol, engine.group_size(protocol), workers=1)
        spent["entry by entry: biases, ReLU, loss, masks"] = spent.pop("both passes") - sum(
            spent.values()
        )
        spent |= {
            "optimiser": adam,
            "rest: memory, batches, transposes, accuracy": total - sum(spent.values()) - adam,
        }
        lit = np.count_nonzero(trainings.dataset.train.images) / trainings.dataset.train.images.size
        first = (
            4.0
            * protocol.widths[0]
            * protocol.widths[1]
            * protocol.steps
            * (protocol.batch_size or images)
        )
        flops = protocol.training_flops(images)
        spent |= {
            "total": total,
            "floor: all products": flops / rate,
            "floor: products with lit pixels": (flops - (1 - lit) * first) / rate,
        }
        parts += [
            {"protocol": protocol.name, "part": name, "ms": 1e3 * s} for name, s in spent.items()
        ]
    return pd.DataFrame(parts)


def _parts_of_a_tile(trainings: Trainings, protocol: Protocol, rows: int) -> dict[str, float]:
    """Seconds of each part of a step over one tile, on its own."""
    mini = replace(protocol, batch_size=rows, split="held_out")
    prepared = engine.prepare(trainings.dataset, mini)
    data = prepared.train
    assert isinstance(data, compiled_networks.LitImages)
    networks = engine._networks(
        [(trainings.recipes(mini, 1)[0], engine.initial_layers(0, mini), 0)],
        mini,
        prepared,
        "float32",
        "cpu",
    )
    assert isinstance(networks, compiled_networks.CompiledNetworks)
    networks.run(0, 1)
    weights, biases, (gradients, bias_gradients), moments = (
        networks._weights,
        networks._biases,
        networks._gradients,
        networks._moments,
    )
    outputs, deltas = networks._buffers[rows]
    index = np.arange(rows, dtype=np.uint32)
    # a mini-batch is scattered over the images, a tile of all of them is not
    if protocol.batch_size:
        index = np.random.default_rng(0).permutation(len(data))[:rows].astype(np.uint32)
    transposed, every = (
        compiled_networks._transpose(data.sparse, index, data.pixels),
        np.arange(data.pixels, dtype=np.uint32),
    )
    step, last = np.array([1e-3, 1.0], np.float32), len(weights) - 1

    def other_products() -> None:
        for i in range(1, last + 1):
            np.dot(outputs[i - 1], weights[i][0], outputs[i])
            np.dot(outputs[i - 1].T, deltas[i], gradients[i])
            np.dot(deltas[i], weights[i][0].T, deltas[i - 1])

    def both_passes() -> None:
        compiled_networks._gradients(
            data.sparse,
            transposed,
            data.labels,
            index,
            weights,
            biases,
            0,
            (gradients, bias_gradients),
            outputs,
            deltas,
            False,
        )

    def adam() -> None:
        for i in range(last + 1):
            compiled_networks._adam(
                weights[i][0].ravel(),
                gradients[i].ravel(),
                moments[0][i][0].ravel(),
                moments[2][i][0].ravel(),
                step,
            )

    work = {
        "first layer, forward": lambda: compiled_networks._add_sparse_product(
            data.sparse, index, weights[0][0], outputs[0]
        ),
        "first layer, gradient": lambda: compiled_networks._add_sparse_product(
            transposed, every, deltas[0], gradients[0]
        ),
        "products of the other layers": other_products,
        "both passes": both_passes,
        "optimiser": adam,
    }
    for each in work.values():
        each()
    return {name: seconds(each, 101) for name, each in work.items()}


def _product_rate() -> float:
    """Floating-point operations a second of one core in a large float32 matrix product."""
    a, b = (
        np.random.default_rng(k).standard_normal((2048, 2048)).astype(np.float32) for k in range(2)
    )
    a @ b
    return 2 * 2048**3 / seconds(lambda: a @ b, 5)


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


def row(
    what: str,
    unit: str,
    ours: float,
    plain: float,
    at_least: float,
    aim: float,
    applies: bool = True,
) -> dict:
    """One line of the table."""
    ratio = plain / ours
    verdict = _verdict(ratio, at_least, aim) if applies else "not applicable: no AMX"
    return {
        "what": what,
        "unit": unit,
        "ours": ours,
        "plain": plain,
        "ratio": ratio,
        "at_least": at_least,
        "aim": aim,
        "verdict": verdict,
    }


def _verdict(value: float, at_least: float, aim: float) -> str:
    return "aim met" if value >= aim else "met" if value >= at_least else "missed"


def _python(*arguments: str, environment: dict[str, str] | None = None) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {})
    ).stdout


def main(run: str) -> None:
    """Measure everything, write each table when it is there, and draw the figures."""
    started, trainings, folder = time.time(), Trainings(), paths.results_dir(run)

    def write(table: pd.DataFrame, name: str) -> None:
        about = {
            "cores": engine.cores(),
            "amx": engine.has_amx(),
            "engine_version": engine.ENGINE_VERSION,
        }
        write_table(
            table,
            folder / f"{name}.csv",
            about | {"libraries": engine.libraries(), "seconds": round(time.time() - started)},
        )

    graph_rows, graph_rates = property_rows()
    write(graph_rates, "speed_properties")
    network_rows, network_rates = training_rows(trainings)
    write(network_rates, "speed_trainings")
    write(time_shares(trainings), "speed_shares")
    table = pd.DataFrame(
        [*network_rows, *graph_rows, database_row(), *memory_rows(), *compile_rows()]
    )
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
