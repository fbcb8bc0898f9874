"""What flow costs: reading the flow model of a large network, in forward passes.

    python -m benchmarks.flow [RUN]      # two minutes on one core (make bench)

ResNet-50, ViT-B/16 and GPT-2 of 124 M parameters (``large_networks``), 32 examples, one thread.
Reading includes the pass that it reads from. Both sides take turns on the same model and examples,
after a warm-up; a time is the median of five runs. Beside it stands what the prediction for one set
of removed blocks takes then, of which a search asks many. Writes ``speed_flow.csv`` under
``data/results/RUN`` (default ``bench``; ``paper`` is what is committed).
"""

import sys

import numpy as np
import pandas as pd
import torch

from benchmarks.large_networks import NAMES, case
from benchmarks.structural import seconds
from bogp import paths
from bogp.records import write_table
from bogp.structural import capture
from bogp.structural.flow import flow_model

EXAMPLES, CAPTURED, AT_MOST = 32, 4, 1.5


def row(name: str, examples: int = EXAMPLES, tiny: bool = False, runs: int = 5) -> dict:
    """One line of the table."""
    one = case(name, examples, tiny)
    inputs = one.examples.inputs
    graph = capture(one.model, *(value[:CAPTURED] for value in inputs), level="blocks")
    model = flow_model(graph, inputs)
    masks = np.stack([graph.without([edge]) for edge in graph.candidates])

    def forward() -> None:
        with torch.inference_mode():
            one.model(*inputs)

    taken = seconds(
        {
            "forward": forward,
            "reading": lambda: flow_model(graph, inputs),
            "predicting": lambda: model.change(masks),
        },
        runs,
    )
    passes = taken["reading"] / taken["forward"]
    return {
        "network": name,
        "examples": examples,
        "forward_ms": 1e3 * taken["forward"],
        "reading_ms": 1e3 * taken["reading"],
        "forward_passes": passes,
        "at_most": AT_MOST,
        "verdict": "met" if passes <= AT_MOST else "missed",
        "masks": len(masks),
        "prediction_ms": 1e3 * taken["predicting"] / len(masks),
    }


def main(run: str) -> None:
    """Measure all networks, write the table and print it."""
    torch.set_num_threads(1)
    table = pd.DataFrame([row(name) for name in NAMES])
    settings = {"examples": EXAMPLES, "threads": 1}
    write_table(table, paths.results_dir(run) / "speed_flow.csv", settings)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "bench")
