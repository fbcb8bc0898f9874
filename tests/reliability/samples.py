"""Small contents for the files that are damaged, filled up and crafted."""

from typing import Any

import numpy as np

from bogp.training.store import COLUMNS


def evaluations(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of the store with made-up numbers; one in ten diverged and has no final loss."""
    rng = np.random.default_rng(seed)
    settings = {
        "recipe": "r" * 16,
        "protocol": "p" * 12,
        "protocol_name": "short",
        "dataset": "mnist-5k",
        "dataset_checksum": "d" * 16,
    }
    settings |= {
        "precision": "float32",
        "engine_version": 2,
        "libraries": "numba, scipy, torch",
        "device": "cpu",
        "method": "",
        "trainings": 1,
    }
    settings |= {
        "layer_sparsity": "[0.0, 0.6, 0.0]",
        "steps": 4,
        "finished": "2026-01-01T00:00:00+00:00",
    }
    drawn = [c for c, kind in COLUMNS.items() if kind == "REAL"]
    rows = []
    for number in range(count):
        row = (
            settings
            | {"key": rng.bytes(16).hex(), "seed": number}
            | {c: float(rng.random()) for c in drawn}
        )
        rows.append(row | ({"final_loss": None} if number % 10 == 9 else {}))
    return rows
