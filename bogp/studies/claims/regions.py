"""Where do graphs differ? Several families over all layers, sparsities and data sets.

In scope ``all`` the mask decides which pixels a unit reads, and masks differ. They may owe it to
the graph or to the numbering of its nodes; the same graphs, renumbered at random, tell which. What
a choice by properties gains where graphs differ is asked of larger pools (``pools``).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bogp.datasets import Split
from bogp.graphs import properties
from bogp.graphs.database import MaskDatabase
from bogp.graphs.pixel_features import FEATURES, with_features
from bogp.statistics import mean_rank_correlation, rank_correlation
from bogp.studies.claims import crossed, exchangeable
from bogp.studies.claims.designs import Design
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import CONVERGED, Protocol

REGION = ["region", "dataset", "sparsity"]  # columns that tell regions apart
BOTH = [*REGION, "numbering"]

Graphs = Mapping[
    tuple[str, float], Mapping[str, MaskDatabase]
]  # by data set and sparsity, and by numbering


def numbered(mixed: Mapping[float, MaskDatabase], images: Mapping[str, Split]) -> Graphs:
    """The graphs of each region, ``native`` (nodes as the family numbers them) and ``relabelled``
    at random.

    Args:
        mixed: graphs of each sparsity.
        images: that networks are trained on, by the name of the data set.

    Returns:
        Their tables have the pixel features of each numbering beside the properties.
    """
    both = {s: {"native": graphs, "relabelled": renumbered(graphs)} for s, graphs in mixed.items()}
    return {
        (name, s): {k: with_features(one, split.images) for k, one in graphs.items()}
        for name, split in images.items()
        for s, graphs in both.items()
    }


def renumbered(database: MaskDatabase, version: int = 0) -> MaskDatabase:
    """The graphs with their nodes in a random order, measured again (``cycle_length`` alone may
    change).

    They are that version of the relabelled graphs of ``exchangeable``, whose trainings then serve
    twice.
    """
    rngs = [exchangeable.rng_of("relabelled", i, version) for i in range(len(database))]
    masks = np.stack(list(map(exchangeable.relabel, database.masks(), rngs)))
    table = database.table.assign(**properties.measure(masks, ["cycle_length"]))
    return MaskDatabase(table, database.spec, np.packbits(masks.reshape(len(masks), -1), axis=1))


def train(graphs: Graphs, seeds: int, protocol: Protocol, evaluator: Evaluator) -> pd.DataFrame:
    """Train each graph of each region in each numbering from each seed.

    Args:
        graphs: such as ``numbered`` gives.
        seeds: trainings of each graph.
        protocol: how networks are trained; its scope is ``all``.
        evaluator: looks up what is known and trains the rest.

    Returns:
        One row a training: the columns of ``crossed.train``, and ``region`` (its name),
        ``dataset``, ``sparsity``, ``protocol`` and ``numbering``.
    """
    parts = [
        crossed.train(one.masks(), seeds, protocol, dataset, evaluator).assign(
            region=f"{dataset}, s = {sparsity:.2f}",
            dataset=dataset,
            sparsity=sparsity,
            protocol=protocol.name,
            numbering=numbering,
        )
        for (dataset, sparsity), numberings in graphs.items()
        for numbering, one in numberings.items()
    ]
    return pd.concat(parts, ignore_index=True)


def train_long(
    mixed: Mapping[float, MaskDatabase],
    design: Design,
    datasets: Sequence[str],
    evaluator: Evaluator,
) -> pd.DataFrame:
    """Train the first graphs of each family until they stop improving, at one sparsity.

    Args:
        mixed: graphs of each sparsity.
        design: says how many, at which sparsity, and from how many seeds.
        datasets: names of the data sets.
        evaluator: as in ``train``, whose rows are returned.
    """
    few = crossed.first_of_each(mixed[design.changed_sparsity], design.converged[0])
    graphs = {(name, design.changed_sparsity): {"native": few} for name in datasets}
    long = crossed.laid_over_all(design.shortened(CONVERGED))
    return train(graphs, design.converged[1], long, evaluator)


def correlations(trainings: pd.DataFrame, graphs: Graphs, columns: Sequence[str]) -> pd.DataFrame:
    """Rank correlation of each property and pixel feature with test accuracy over the graphs of
    each region.

    Args:
        trainings: from ``train``.
        graphs: from ``numbered``.
        columns: the properties.

    Returns:
        Rows of ``region``, ``dataset``, ``sparsity``, ``numbering``, ``column``, and over seeds
        ``mean``, ``low``, ``high`` (95 % t interval), ``n``; NaN for a constant column.
    """
    rows = []
    for labels, one in trainings.groupby(BOTH, sort=False):
        accuracies, table = crossed.table(one), graphs[labels[1:3]][labels[3]].table
        region = dict(zip(BOTH, labels, strict=True))
        for column in (*columns, *FEATURES):
            known = table[column][np.isfinite(table[column])]
            found = mean_rank_correlation(known, accuracies[known.index].T)
            rows.append(region | {"column": column} | vars(found))
    return pd.DataFrame(rows)


def agreement(
    trainings: pd.DataFrame, long: pd.DataFrame, graphs: MaskDatabase, each: int
) -> pd.DataFrame:
    """Whether graphs that are better after a short training are better after a long one.

    Args:
        trainings: from ``train``.
        long: from ``train_long``.
        graphs: of the sparsity of ``long``, of which the first ``each`` of a family were trained
            for long.
        each: how many.

    Returns:
        A row a data set: ``dataset``; ``rho``, Spearman's correlation of the graphs' mean test
        accuracies, and ``graphs``, their number; and mean and standard deviation of the means.
    """
    rows, chosen = [], crossed.first_rows(graphs, each)
    native = trainings[(trainings["numbering"] == "native") & trainings["mask"].isin(chosen)]
    for (region, dataset), one in long.groupby(["region", "dataset"], sort=False):
        short = crossed.table(native[native["region"] == region]).mean(axis=1)
        means = {"calibrated": short, "converged": crossed.table(one).mean(axis=1)}
        rows.append(
            {"dataset": dataset, "rho": rank_correlation(*means.values()), "graphs": len(short)}
            | {
                f"{k}_{name}": f(m)
                for name, m in means.items()
                for k, f in (("mean", np.mean), ("sd", np.std))
            }
        )
    return pd.DataFrame(rows)
