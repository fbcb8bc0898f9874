"""The benchmark's masks, drawn, measured and trained: what ``bogp.benchmark`` ships.

    python -m bogp.studies.mask_benchmark.measure

draws and trains them all and writes the file; it takes up what the store knows, so that it can be
interrupted and resumed. It needs full MNIST and Fashion-MNIST, and about two hours of one core.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bogp import datasets
from bogp.parallel import in_parallel
from bogp.studies.claims.crossed import train_layers
from bogp.studies.mask_benchmark import drawn
from bogp.studies.mask_benchmark.drawn import Drawn
from bogp.training.evaluation import Evaluator


def masks(cores: int = 1, sparsities: Sequence[float] = drawn.SPARSITIES) -> list[Drawn]:
    """All masks of the benchmark, sparsity after sparsity, family after family."""
    where = drawn.places({name: datasets.load(name).train.images for name in drawn.DATASETS})
    asked = [
        (sparsity, family, number, where)
        for sparsity in sparsities
        for family, count in drawn.counts(sparsity).items()
        for number in range(count)
    ]
    return in_parallel(drawn.drawn, asked, cores, "mask", "drawing")


def trained(some: Sequence[Drawn], evaluator: Evaluator) -> pd.DataFrame:
    """Each mask trained on each data set from each seed.

    Returns:
        One row a training: ``id``, ``dataset``, ``seed``, the accuracies, ``key``.
    """
    layers = [one.layers() for one in some]
    ids = np.array([one.id for one in some])
    parts = []
    for name in drawn.DATASETS:
        rows = train_layers(layers, drawn.SEEDS, drawn.PROTOCOL, name, evaluator)
        parts.append(rows.assign(id=ids[rows["mask"]], dataset=name).drop(columns="mask"))
    return pd.concat(parts, ignore_index=True)
