"""What a CUDA device does, beside the CPU: the training engine, and the scores of the branches of
ResNet-50 and GPT-2.

    python -m benchmarks.gpu [RUN]            # within six minutes, with a CUDA device
    python -m benchmarks.gpu [RUN] --cpu      # the CPU's half alone

- Trainings of random masks on ``mnist-5k``: 64 under the protocol ``calibrated`` on both devices,
  in each precision that they have, and on the card also 1,024, and both numbers under ``paper``;
  milliseconds a training, beside the floor of its matrix products at the device's rate of large
  ones. The loss of the first ten steps is compared with that of the CPU in float32.
- ``leave_one_out`` and ``first_order`` of all residual branches (``large_networks``, random
  inputs), in float32 and bfloat16; milliseconds an example, as a CPU gets fewer of them. The scores
  of the CPU's examples are compared, as shares of the full loss, with those of the CPU in float32.

Times follow a warm-up: the median of three runs on the device, and one run on the CPU. Peak
memory is that of tensors on the device, and the growth of the process on the CPU. Writes
``speed_gpu.csv`` with the hardware beside it under ``data/results/RUN`` (default ``bench``), a line
for each work, precision and device, and prints both devices side by side. Without a CUDA device and
without ``--cpu`` it says so and exits with 2.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.depth import captured, with_peak
from benchmarks.large_networks import Case, case
from benchmarks.structural import seconds
from bogp import datasets, paths
from bogp.graphs import families
from bogp.graphs.relational import layer_masks
from bogp.records import write_table
from bogp.structural import importances, leave_one_out
from bogp.structural.traced.containers import mapped
from bogp.training import engine
from bogp.training.protocols import CALIBRATED, PAPER, Protocol

NETWORKS, METHODS = ("ResNet-50", "GPT-2"), ("leave_one_out", "first_order")
EXAMPLES = {"cpu": 8, "cuda": 32}
STEPS_COMPARED = 10
# masks and protocol of each set of trainings; the first is the CPU's too
TRAININGS = ((64, CALIBRATED), (1024, CALIBRATED), (64, PAPER), (1024, PAPER))
PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "tf32", "bfloat16")}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def timed(device: str, work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gives, seconds, and the peak memory in MiB."""
    if device == "cpu":
        found: list[Any] = []
        taken, peak = with_peak(
            lambda: seconds({"": lambda: found.append(work())}, runs=1, warm_up=0)
        )
        return found[0], taken[""], peak / 2**20

    def finished() -> Any:
        result = work()
        torch.cuda.synchronize()
        return result

    result = finished()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    taken = seconds({"": finished}, runs=3, warm_up=0)
    return result, taken[""], (torch.cuda.max_memory_allocated() - before) / 2**20


def trainings(
    devices: Sequence[str], sets: Sequence[tuple[int, Protocol]] = TRAININGS
) -> list[dict]:
    """Lines of the training engine."""
    dataset, rows = datasets.load("mnist-5k"), []
    for at, (masks, protocol) in enumerate(sets):
        rng, truth = np.random.default_rng(0), None
        drawn = [families.bernoulli(128, 0.6, rng) for _ in range(masks)]
        recipes = [layer_masks(mask, protocol.widths, protocol.masked_layers) for mask in drawn]
        images = len(engine.training_part(dataset, protocol))
        for device in devices:
            for precision in PRECISIONS[device]:
                if device == "cpu" and at and "cuda" in devices:
                    if precision != "float32":
                        continue
                    few = recipes[:1]  # to compare with
                else:
                    few = recipes
                prepared = engine.prepare(dataset, protocol, precision, device)

                def train(
                    steps: int,
                    device: str = device,
                    precision: str = precision,
                    data: Any = prepared,
                    some: Sequence = few,
                    protocol: Protocol = protocol,
                ) -> engine.Training:
                    return engine.train(
                        some,
                        [0] * len(some),
                        replace(protocol, steps=steps),
                        dataset,
                        precision=precision,
                        device=device,
                        prepared=data,
                    )

                train(2)  # to warm up
                result, taken, peak = timed(device, lambda train=train, p=protocol: train(p.steps))
                loss = result.loss[:1, :STEPS_COMPARED]
                truth = loss if truth is None else truth
                rows.append(
                    {
                        "work": f"training {masks:,} masks, {protocol.name}",
                        "precision": precision,
                        "device": device,
                        "count": len(few),
                        "ms_each": 1e3 * taken / len(few),
                        "floor_ms": 1e3 * protocol.training_flops(images) / rate(device, precision),
                        "peak_mib": peak,
                        "difference": float(np.abs(loss / truth - 1).max()),
                    }
                )
    return rows


def rate(device: str, precision: str, size: int = 2048) -> float:
    """Floating-point operations a second of a large product of matrices in that precision."""
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        _, taken, _ = timed(device, lambda: [a @ b for _ in range(5)])
    finally:
        torch.set_float32_matmul_precision(before)
    return 5 * 2 * size**3 / taken


def on(device: str, precision: str, case: Case, count: int) -> Case:
    """The network on a device in some type, with some of its examples."""

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device, TYPES[precision] if tensor.is_floating_point() else None)

    some = case.examples.part(slice(count))
    model = copy.deepcopy(case.model).to(device, TYPES[precision])
    examples = replace(some, inputs=mapped(moved, some.inputs), targets=some.targets.to(device))
    return replace(case, model=model, examples=examples)


def scores(case: Case, graph: Any, method: str) -> np.ndarray:
    """(B,) of all residual branches."""
    if method == "leave_one_out":
        return leave_one_out(graph, case.examples, case.loss)
    return importances(graph, case.examples, case.loss, [method])[method].to_numpy()


def scorings(
    name: str, devices: Sequence[str], tiny: bool = False, examples: dict[str, int] = EXAMPLES
) -> list[dict]:
    """Lines of the scores of one network."""
    whole, rows, truth = case(name, max(examples.values()), tiny), [], dict[str, np.ndarray]()
    few = examples["cpu"]
    with torch.inference_mode():
        part = whole.examples.part(slice(few))
        size = float(whole.loss(whole.model(*part.inputs), part.targets).mean())
    for device in devices:
        for precision in TYPES:
            one = on(device, precision, whole, examples[device])
            graph, same = captured(one), on(device, precision, whole, few).examples
            for method in METHODS:
                first = replace(one, examples=one.examples.part(slice(1)))
                scores(first, graph, method)  # to warm up
                found, taken, peak = timed(device, lambda o=one, g=graph, m=method: scores(o, g, m))
                if device != "cpu":
                    found = scores(replace(one, examples=same), graph, method)
                truth.setdefault(method, found)
                rows.append(
                    {
                        "work": f"{name}, {method}",
                        "precision": precision,
                        "device": device,
                        "count": len(one.examples),
                        "ms_each": 1e3 * taken / len(one.examples),
                        "peak_mib": peak,
                        "difference": float(np.abs(found - truth[method]).max()) / size,
                    }
                )
    return rows


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each work and precision: both devices' times, their ratio, peaks and differences;
    what was not measured on a device is left empty.
    """
    wide = table.pivot(
        index=["work", "precision"],
        columns="device",
        values=["ms_each", "floor_ms", "peak_mib", "difference"],
    )
    order = table[["work", "precision"]].drop_duplicates()
    wide = wide.reindex(pd.MultiIndex.from_frame(order))
    wide.columns = [f"{device}_{what}" for what, device in wide.columns]
    if {"cpu_ms_each", "cuda_ms_each"} <= set(wide.columns):
        wide["times_faster"] = wide["cpu_ms_each"] / wide["cuda_ms_each"]
    return wide.reset_index()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the table and print it; 2 where there is no device to measure."""
    parser = argparse.ArgumentParser(description="Measure a CUDA device beside the CPU.")
    parser.add_argument("run", nargs="?", default="bench", help="folder of data/results")
    parser.add_argument("--cpu", action="store_true", help="only the CPU's half")
    chosen = parser.parse_args(arguments)
    if not chosen.cpu and not torch.cuda.is_available():
        print(
            "PyTorch finds no CUDA device here, so there is nothing to measure. Run it on a "
            "machine with a card and a PyTorch built for it, or take --cpu for the CPU's half.",
            file=sys.stderr,
        )
        return 2
    devices = ("cpu",) if chosen.cpu else ("cpu", "cuda")
    rows = trainings(devices, TRAININGS[:1] if chosen.cpu else TRAININGS)
    for name in NETWORKS:
        rows += scorings(name, devices)
    table = pd.DataFrame(rows)
    card = None if chosen.cpu else torch.cuda.get_device_name()
    write_table(
        table,
        paths.results_dir(chosen.run) / "speed_gpu.csv",
        {"card": card, "threads": torch.get_num_threads(), "cuda": torch.version.cuda},
    )
    print(side_by_side(table).round(5).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
