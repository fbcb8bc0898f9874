"""The speed claim of structural pruning: the losses of many masks in one batch against one mask
after another, as a ratio measured in one run.

    python -m benchmarks.structural [RUN]      # about a minute on one core

Writes ``speed_structural.csv`` with the hardware beside it under ``data/results/RUN`` (default
``bench``; ``paper`` is what is committed). Both sides have one thread, the same gated network,
examples and masks, and are warmed up; a time is the median of several runs, the two sides taking
turns. Sequential is one pass over all examples for each mask. The losses of both are compared. Run
it on an idle machine.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from bogp import paths
from bogp.records import write_table
from bogp.structural.gates import Examples, cross_entropy, losses_under
from bogp.structural.graph import ComputationGraph
from bogp.structural.tracing import capture
from bogp.zoo import networks as zoo_networks

MASKS, EXAMPLES, AT_LEAST = 64, 32, 3.0


def networks() -> dict[str, tuple[torch.nn.Module, torch.Tensor]]:
    """Networks of the zoo with the inputs of ``EXAMPLES`` examples."""
    torch.manual_seed(0)
    features, images = torch.randn(EXAMPLES, 20), torch.randn(EXAMPLES, 3, 8, 8)
    dags = {
        f"random graph, {size} edges": (
            zoo_networks.RandomDag(zoo_networks.random_parents(size, 0), 20, 16, 10),
            features,
        )
        for size in zoo_networks.SIZES
    }
    return dags | {
        "residual, 8 x 8 images": (zoo_networks.Residual(), images),
        "inception, 8 x 8 images": (zoo_networks.Inception(), images),
        "transformer, 16 tokens": (
            zoo_networks.Transformer(50, 16),
            torch.randint(50, (EXAMPLES, 16)),
        ),
    }


def one_after_another(graph: ComputationGraph, masks: np.ndarray, examples: Examples) -> np.ndarray:
    """(M,) mean losses, a pass for each mask."""
    gates = torch.as_tensor(graph.gates(masks), dtype=torch.float32)
    with torch.inference_mode():
        return np.array(
            [
                float(
                    cross_entropy(graph.gated(z, None, *examples.inputs), examples.targets).mean()
                )
                for z in gates
            ]
        )


def seconds(
    ways: dict[str, Callable[[], object]], runs: int = 5, warm_up: int = 1
) -> dict[str, float]:
    """Median time of each way, s; they take turns, so that a busy moment of the machine meets all
    of them. The first ``warm_up`` turns are not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + warm_up):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            if run >= warm_up:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(some) for name, some in times.items()}


def row(
    name: str, model: torch.nn.Module, inputs: torch.Tensor, count: int = MASKS, runs: int = 5
) -> dict:
    """One line of the table."""
    graph = capture(model.eval(), inputs[:4])
    targets = (
        inputs
        if inputs.dim() == 2 and not inputs.is_floating_point()
        else torch.arange(len(inputs)) % 10
    )
    examples, rng = Examples((inputs,), targets), np.random.default_rng(0)
    masks = rng.random((count, len(graph.edges))) < 0.9
    masks[:, [e.index for e in graph.edges if not e.is_floating or "bridge" in e.why_kept]] = True
    # equal networks would be computed once by one side only
    masks = masks[np.unique(graph.gates(masks), axis=0, return_index=True)[1]]
    count = len(masks)
    batched = losses_under(graph, masks, examples, cross_entropy)
    difference = float(np.abs(batched - one_after_another(graph, masks, examples)).max())
    if difference > 1e-5 * max(1.0, float(batched.max())):
        raise RuntimeError(f"Batched and sequential losses of {name} differ by {difference}.")
    taken = seconds(
        {
            "batched": lambda: losses_under(graph, masks, examples, cross_entropy),
            "sequential": lambda: one_after_another(graph, masks, examples),
        },
        runs,
    )
    ratio = taken["sequential"] / taken["batched"]
    line = {"network": name, "edges": len(graph.edges), "masks": count}
    line |= {
        "batched_ms": 1e3 * taken["batched"] / count,
        "sequential_ms": 1e3 * taken["sequential"] / count,
        "ratio": ratio,
    }
    return line | {
        "difference": difference,
        "at_least": AT_LEAST,
        "verdict": "met" if ratio >= AT_LEAST else "missed",
    }


def main(run: str) -> None:
    """Measure all networks, write the table and print it."""
    torch.set_num_threads(1)
    table = pd.DataFrame([row(name, model, inputs) for name, (model, inputs) in networks().items()])
    write_table(
        table,
        paths.results_dir(run) / "speed_structural.csv",
        {"examples": EXAMPLES, "masks": MASKS, "threads": 1},
    )
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "bench")
