"""The benchmark's masks, drawn, measured and trained: what ``bogp.benchmark`` ships.

    python -m bogp.studies.mask_benchmark.shipped

draws and trains them all and writes the file; it takes up what the store knows, so that it can be
interrupted and resumed. It needs full MNIST and Fashion-MNIST, and about an hour of one core.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp import datasets
from bogp.benchmark import data
from bogp.graphs import bipartite, pixel_features, properties
from bogp.parallel import in_parallel
from bogp.records import provenance, write_atomically
from bogp.studies.claims.crossed import train_layers
from bogp.studies.mask_benchmark import drawn
from bogp.studies.mask_benchmark.drawn import Drawn
from bogp.training.evaluation import Evaluator, protocol_settings

_BLOCK = 400  # masks whose layers are in memory at a time


def images() -> dict[str, NDArray[np.uint8]]:
    """The training images of each data set, (M, 784)."""
    return {name: datasets.load(name).train.images for name in data.DATASETS}


def masks(
    seen: Mapping[str, NDArray[np.uint8]],
    cores: int = 1,
    sparsities: Sequence[float] = drawn.SPARSITIES,
) -> list[Drawn]:
    """All masks of the benchmark, sparsity after sparsity, family after family.

    Args:
        seen: from ``images``.
        cores: processes that draw.
        sparsities: of ``drawn.SPARSITIES``.
    """
    where = drawn.places(seen)
    asked = [
        (sparsity, family, number, where)
        for sparsity in sparsities
        for family, count in drawn.counts(sparsity).items()
        for number in range(count)
    ]
    return in_parallel(drawn.drawn, asked, cores, "mask", "drawing")


def described(some: Sequence[Drawn], seen: Mapping[str, NDArray[np.uint8]]) -> pd.DataFrame:
    """What is known of each mask without training: one row a mask, as in the file.

    Args:
        some: masks.
        seen: from ``images``: pixel features say what the first layer reads of them.
    """
    first = np.stack([one.first for one in some])
    hidden = np.stack([one.hidden for one in some])
    labels = pd.DataFrame(
        {
            "id": [one.id for one in some],
            "sparsity": [one.sparsity for one in some],
            "family": [one.family for one in some],
            "number": [one.number for one in some],
            "settings": [json.dumps(dict(one.settings), sort_keys=True) for one in some],
            "first": [data.packed(one.first) for one in some],
            # empty where it is the first again
            "hidden": [b"" if one.hidden is one.first else data.packed(one.hidden) for one in some],
        }
    )
    weights = [sum(int(m.sum()) for m in one.layers() if m is not None) for one in some]
    parts = [pd.DataFrame({"weights": weights})]
    for prefix, graphs in (("first_", first), ("hidden_", hidden)):
        parts += [m.measure(graphs).add_prefix(prefix) for m in (properties, bipartite)]
    read = {name: pixel_features.measure(first, of) for name, of in seen.items()}
    parts += [
        one[["lit_share"]].rename(columns={"lit_share": f"pixels_lit_share_{name}"})
        for name, one in read.items()
    ]
    where = read[data.DATASETS[0]][["image_distance", "field_spread"]]
    return labels.join(pd.concat([*parts, where.add_prefix("pixels_")], axis=1).astype(np.float32))


def trained(some: Sequence[Drawn], evaluator: Evaluator) -> pd.DataFrame:
    """Each mask trained on each data set from each seed.

    Returns:
        One row a mask, in order, with the columns ``benchmark.data.accuracy_columns``.
    """
    blocks = []
    for start in range(0, len(some), _BLOCK):
        layers = [one.layers() for one in some[start : start + _BLOCK]]
        columns: dict[str, NDArray[np.float32]] = {}
        for name in data.DATASETS:
            rows = train_layers(layers, data.SEEDS, drawn.PROTOCOL, name, evaluator)
            for seed, of_seed in rows.groupby("seed"):
                for split in data.SPLITS:
                    found = of_seed.sort_values("mask")[f"{split}_accuracy"]
                    columns[f"{name}_{seed}_{split}"] = found.to_numpy(np.float32)
        blocks.append(pd.DataFrame(columns))
    return pd.concat(blocks, ignore_index=True)[data.accuracy_columns()]


def write(table: pd.DataFrame, path: Path, evaluator: Evaluator) -> None:
    """Write the file and its record.

    Args:
        table: ``described`` joined with ``trained``.
        path: of the Parquet file.
        evaluator: that trained.
    """
    content = io.BytesIO()
    table.to_parquet(content, compression="zstd", compression_level=19, index=False)
    record = {
        "sha256": hashlib.sha256(content.getvalue()).hexdigest(),
        "masks": len(table),
        "protocol": protocol_settings(drawn.PROTOCOL),
        "evaluations": {name: evaluator.settings(name) for name in data.DATASETS},
        **provenance({}),
    }
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    write_atomically({path: content.getvalue(), path.with_suffix(".json"): text.encode()})


def main() -> None:
    """Draw, train and write."""
    seen, evaluator = images(), Evaluator()
    drawn_masks = masks(seen, os.cpu_count() or 1)
    table = described(drawn_masks, seen).join(trained(drawn_masks, evaluator))
    write(table, data.FILE, evaluator)


if __name__ == "__main__":
    main()
