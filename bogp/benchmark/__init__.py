"""A benchmark of pruning masks: 4,000 masks, each trained on two data sets from three seeds, as
NAS-Bench is for cells. Nothing is trained to use it.

    from bogp import benchmark

    masks = benchmark.load()                                # under a second
    masks.accuracy("0.97-placed-000", "fashion-mnist")      # three seeds' test accuracies
    pool = masks.pool(0.97, "mnist", seed=0)                # 800 masks to search in
    trace = pool.evaluate(benchmark.GaussianProcess(seed=0), budget=25)
    data = masks.regression(0.97, "mnist")                  # X, y, groups and a fixed split

What the masks are, how they were trained and what the numbers can tell: its data sheet,
``docs/benchmark.md``.
"""

from bogp.benchmark.data import NINE_COLUMNS, Benchmark, Regression, load
from bogp.benchmark.methods import (
    METHODS,
    TPE,
    GaussianProcess,
    Method,
    PrintedSearch,
    RandomForest,
    RandomSearch,
)
from bogp.benchmark.pool import Pool, filled

__all__ = [
    "METHODS",
    "NINE_COLUMNS",
    "TPE",
    "Benchmark",
    "GaussianProcess",
    "Method",
    "Pool",
    "PrintedSearch",
    "RandomForest",
    "RandomSearch",
    "Regression",
    "filled",
    "load",
]
