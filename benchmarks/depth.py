"""What the exact loss of every residual branch costs, against forward hooks that zero one branch
after the other.

    python -m benchmarks.depth [RUN]      # about fifteen minutes on one core (make bench)

ResNet-50, ViT-B/16 and GPT-2 of 124 M parameters (``large_networks``), each in a process of its own
with one thread. The hooks make one whole pass a branch, and one without. Both sides have the same
model, examples and loss, are warmed up and take turns; a time is the median of three runs, and the
losses of both are compared. Operations are those of matrix products and convolutions as
``torch.utils.flop_counter`` counts them (the fast attention of CPUs, under a hundredth, is not
counted). What they allow is the hooks' operations over ours. Peak memory is the growth of the
process's peak during the first scoring. Run it on an idle machine.

Writes under ``data/results/RUN`` (default ``bench``; ``paper`` is what is committed), with the
hardware beside each:

- ``speed_depth.csv``: the scoring of single branches
- ``speed_depth_greedy.csv``: the exact greedy search to a quarter of the branches, with and without
  values kept from one round to the next, on few examples
- ``speed_depth_derivatives.csv``: scores from derivatives, in forward passes; and the second order
  of a small network against its exact loss
"""

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.large_networks import NAMES, Case, case
from benchmarks.structural import seconds
from bogp import paths
from bogp.records import peak_memory, write_table
from bogp.structural import capture, importances, leave_one_out
from bogp.structural.gates import Examples, Removals, cross_entropy
from bogp.structural.graph import ComputationGraph
from bogp.structural.importance import greedy
from bogp.structural.traced.passes import AT_ONCE
from bogp.zoo.networks import Transformer

EXAMPLES, CAPTURED, GREEDY_EXAMPLES, MEMORY = 32, 4, 4, 2**30
SHARE, PASSES, TOLERANCE = 0.88, 3.0, 1e-4


def with_hooks(case: Case, branches: Sequence[str]) -> np.ndarray:
    """(B,) the change of the mean loss when each branch's module gives zeros."""

    def mean() -> float:
        return float(case.loss(case.model(*case.examples.inputs), case.examples.targets).mean())

    with torch.inference_mode():
        full, found = mean(), []
        for name in branches:
            module = case.model.get_submodule(name)
            hook = module.register_forward_hook(lambda *call: torch.zeros_like(call[-1]))
            found.append(mean() - full)
            hook.remove()
    return np.array(found)


def operations(work: Callable[[], Any]) -> tuple[Any, int]:
    """What it gives, and the floating-point operations of its products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        result = work()
    return result, counter.get_total_flops()


def with_peak(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the bytes by which the process's memory grew at most; NaN on systems that
    do not let a process forget its earlier peak (others than Linux).
    """
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        return work(), float("nan")
    forget.write_text("5")  # the peak is now what is in use
    before = peak_memory()
    return work(), peak_memory() - before


def captured(case: Case) -> ComputationGraph:
    """The network's graph, from few of the examples, with its branches as candidates."""
    return capture(case.model, case.examples.part(slice(CAPTURED)).inputs, level="residual")


def scoring(name: str, case: Case, graph: ComputationGraph, runs: int = 3) -> dict:
    """One line of the table of single branches."""
    branches = [graph.name(edge) for edge in graph.candidates]
    if set(branches) != set(case.branches):
        raise RuntimeError(f"The branches of {name} are {case.branches}, not {branches}.")

    def ours() -> np.ndarray:
        return leave_one_out(graph, case.examples, case.loss, memory=MEMORY)

    (changes, needed), peak = with_peak(lambda: operations(ours))
    truth, whole = operations(lambda: with_hooks(case, branches))
    with torch.inference_mode():
        size = float(case.loss(case.model(*case.examples.inputs), case.examples.targets).mean())
    difference = float(np.abs(changes - truth).max()) / size
    if difference > TOLERANCE:
        raise RuntimeError(f"The losses of {name} with hooks and ours differ by {difference}.")
    taken = seconds({"hooks": lambda: with_hooks(case, branches), "ours": ours}, runs, warm_up=0)
    ratio, allowed = taken["hooks"] / taken["ours"], whole / needed
    each = graph.program.bytes_of_example[0] / graph.program.count_of_example
    return {
        "network": name,
        "branches": len(branches),
        "hooks_s": taken["hooks"],
        "ours_s": taken["ours"],
        "ratio": ratio,
        "allowed": allowed,
        "share": ratio / allowed,
        "at_least": SHARE,
        "verdict": "met" if ratio >= SHARE * allowed else "missed",
        "difference": difference,
        "estimated_mib": AT_ONCE * each * len(case.examples) / 2**20,
        "peak_mib": peak / 2**20,
        "bound_mib": MEMORY / 2**20,
    }


def searching(name: str, case: Case, graph: ComputationGraph, runs: int = 1) -> dict:
    """One line of the table of greedy searches to a quarter of the branches."""
    few, limit = case.examples.part(slice(GREEDY_EXAMPLES)), max(len(graph.candidates) // 4, 1)

    def search(rounds: bool) -> tuple[int, ...]:
        removals = Removals(graph, few, case.loss, memory=MEMORY, rounds=rounds)
        return tuple(greedy(graph, removals.under, limit).tolist())

    found = {rounds: operations(lambda rounds=rounds: search(rounds)) for rounds in (True, False)}
    if found[True][0] != found[False][0]:
        raise RuntimeError(f"Values kept between rounds change the order of {name}: {found}.")
    ways = {rounds: lambda rounds=rounds: search(rounds) for rounds in found}
    taken = seconds(ways, runs, warm_up=0)  # type: ignore[arg-type]
    return {
        "network": name,
        "removed": limit,
        "examples": len(few),
        "kept_s": taken[True],
        "not_kept_s": taken[False],
        "ratio": taken[False] / taken[True],
        "allowed": found[False][1] / found[True][1],
    }


def derivatives(name: str, case: Case, graph: ComputationGraph, runs: int = 3) -> list[dict]:
    """Lines of the table of scores from derivatives, in forward passes over the same examples."""

    def forward() -> None:
        with torch.inference_mode():
            case.loss(case.model(*case.examples.inputs), case.examples.targets)

    def scored(method: str) -> Callable[[], object]:
        return lambda: importances(graph, case.examples, case.loss, [method])

    methods = ("first_order", "fisher")
    ways = {"forward": forward} | {method: scored(method) for method in methods}
    taken = seconds(ways, runs)
    return [
        {
            "network": name,
            "method": method,
            "seconds": taken[method],
            "against": "one forward pass",
            "against_s": taken["forward"],
            "ratio": (ratio := taken[method] / taken["forward"]),
            "at_most": PASSES if method == "first_order" else None,
            "verdict": _verdict(ratio) if method == "first_order" else None,
        }
        for method in methods
    ]


def _verdict(passes: float) -> str:
    return "met" if passes <= PASSES else "missed"


def second_order(runs: int = 3) -> dict:
    """The line of the full second order of a small transformer, against its exact loss."""
    torch.manual_seed(0)
    model, tokens = Transformer(50, 16).eval(), torch.randint(50, (EXAMPLES, 16))
    graph, examples = capture(model, tokens[:CAPTURED]), Examples((tokens,), tokens)
    ways = {
        method: lambda method=method: importances(graph, examples, cross_entropy, [method])
        for method in ("hessian", "leave_one_out")
    }
    taken = seconds(ways, runs)
    return {
        "network": "transformer of 0.1 M parameters",
        "method": "hessian",
        "seconds": taken["hessian"],
        "against": "leave_one_out",
        "against_s": taken["leave_one_out"],
        "ratio": taken["hessian"] / taken["leave_one_out"],
    }


def measured(name: str, tiny: bool = False) -> tuple[dict, dict, list[dict]]:
    """The lines of one network in the three tables."""
    torch.set_num_threads(1)
    one = case(name, EXAMPLES, tiny)
    graph = captured(one)
    return scoring(name, one, graph), searching(name, one, graph), derivatives(name, one, graph)


def main(run: str) -> None:
    """Measure all networks, write the tables and print them."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        single, greedy, derived = zip(*pool.imap(measured, NAMES), strict=True)
    torch.set_num_threads(1)
    tables = {
        "speed_depth": list(single),
        "speed_depth_greedy": list(greedy),
        "speed_depth_derivatives": [*(line for lines in derived for line in lines), second_order()],
    }
    about = {"examples": EXAMPLES, "captured": CAPTURED, "memory": MEMORY, "threads": 1}
    for name, lines in tables.items():
        table = pd.DataFrame(lines)
        write_table(table, paths.results_dir(run) / f"{name}.csv", about)
        print(f"{table.round(3).to_string(index=False)}\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "bench")
