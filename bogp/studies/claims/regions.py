"""Where could a search over graph properties work? Mixtures of families over all layers, several sparsities, data sets and lengths of training.

In scope ``all`` the mask decides which pixels a unit reads, and masks differ. A search over properties that finds better masks there may owe it to the
graph or to the numbering of its nodes; the same graphs, renumbered at random, tell which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bogp.datasets import Split
from bogp.graphs import pixel_features, properties
from bogp.graphs.database import MaskDatabase
from bogp.search.searchers import SearchSettings
from bogp.statistics import mean_rank_correlation
from bogp.studies.claims import crossed, exchangeable, replay
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol

NUMBERINGS = ("native", "relabelled")


@dataclass(frozen=True)
class Region:
    """One cell of the grid.

    Attributes:
        dataset: name of the data set.
        sparsity: of every graph.
        protocol: how networks are trained; its scope is ``all``.
        seeds: trainings of each graph.
        numberings: ``native``, nodes as the family numbers them, and ``relabelled``, renumbered at random once for each graph.
    """

    dataset: str
    sparsity: float
    protocol: Protocol
    seeds: int
    numberings: tuple[str, ...] = NUMBERINGS

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.dataset}, s = {self.sparsity:.2f}"


def train(region: Region, database: MaskDatabase, evaluator: Evaluator) -> pd.DataFrame:
    """Train each graph of a region from each seed, as numbered by its family and renumbered.

    Args:
        region: the cell.
        database: its graphs, such as ``crossed.mixture`` makes.
        evaluator: looks up what is known and trains the rest.

    Returns:
        One row a training: ``region``, ``dataset``, ``sparsity``, ``protocol``, ``numbering``, and the columns of ``crossed.train``.
    """
    parts = []
    for numbering in region.numberings:
        if numbering == "native":
            rows = crossed.train(database.masks(), region.seeds, region.protocol, region.dataset, evaluator)
        else:
            layers = exchangeable.variants(database.masks(), "relabelled", 1, region.protocol)
            rows = crossed.train_layers(layers, region.seeds, region.protocol, region.dataset, evaluator)
        labels = {"dataset": region.dataset, "sparsity": region.sparsity, "protocol": region.protocol.name, "numbering": numbering}
        parts.append(rows.assign(region=region.name, **labels))
    return pd.concat(parts, ignore_index=True)


def renumbered(database: MaskDatabase) -> MaskDatabase:
    """The graphs as ``train`` renumbers them, measured again (``cycle_length`` alone may change)."""
    n = database.spec.n
    masks = np.stack(
        [mask[np.ix_(order, order)] for mask, order in ((m, exchangeable.numbering(i, n)) for i, m in enumerate(database.masks()))]
    )
    table = database.table.assign(**properties.measure(masks, ["cycle_length"]))
    return MaskDatabase(table, database.spec, np.packbits(masks.reshape(len(masks), -1), axis=1))


def candidates(database: MaskDatabase, images: Split) -> dict[str, MaskDatabase]:
    """The graphs in both numberings, with the labelled features of each beside the properties."""
    both = {"native": database, "relabelled": renumbered(database)}
    return {numbering: pixel_features.with_features(one, images.images) for numbering, one in both.items()}


def search(
    trainings: pd.DataFrame,
    graphs: Mapping[str, MaskDatabase],
    searched: Mapping[str, Sequence[str]],
    settings: SearchSettings,
    repeats: int,
    folder: Path,
) -> pd.DataFrame:
    """Replay pool searches and random search on the measured accuracies of one region.

    Args:
        trainings: from ``train``, of one region.
        graphs: from ``candidates``.
        searched: what is searched over: name and columns.
        settings: of the searches; the columns are replaced.
        repeats: searches of each kind.
        folder: where ``replay.recorded`` keeps them.

    Returns:
        ``replay.replay``'s rows with ``region``, ``dataset``, ``sparsity``, ``numbering`` and ``searched``.
    """
    parts = []
    for numbering, rows in trainings.groupby("numbering", sort=False):
        accuracies = crossed.table(rows, "validation_accuracy")
        for name, columns in searched.items():
            same = {c: rows[c].iloc[0] for c in ("region", "dataset", "sparsity")}
            path = folder / f"{same['dataset']}_s{same['sparsity']:.2f}_{numbering}_{name.replace(' ', '_')}.csv"
            own = replace(settings, columns=tuple(columns))
            found = replay.recorded(path, accuracies, graphs[str(numbering)], own, repeats, ("pool", "random"))
            parts.append(found.assign(numbering=numbering, searched=name, **same))
    return pd.concat(parts, ignore_index=True)


def advantages(replayed: pd.DataFrame, recommender: str = "observed") -> pd.DataFrame:
    """What each search gains over random search: the evidence of claims 11 and 12.

    Returns:
        ``replay.summary``'s row of ``pool`` for each region, numbering and space searched.
    """
    by = ["region", "dataset", "sparsity", "numbering", "searched"]
    parts = []
    for labels, one in replayed.groupby(by, sort=False):
        row = replay.summary(one)
        row = row[(row["method"] == "pool") & (row["recommender"] == recommender)]
        parts.append(row.assign(**dict(zip(by, labels, strict=True))))
    return pd.concat(parts, ignore_index=True)


def correlations(trainings: pd.DataFrame, graphs: Mapping[str, MaskDatabase], columns: Sequence[str]) -> pd.DataFrame:
    """Rank correlation of each property or feature with test accuracy over the graphs of one region: mean over seeds with its 95 % t interval.

    Returns:
        Rows of ``region``, ``dataset``, ``sparsity``, ``numbering``, ``column``, ``mean``, ``low``, ``high``, ``n`` (seeds); NaN for a constant column.
    """
    rows = []
    for numbering, one in trainings.groupby("numbering", sort=False):
        accuracies = crossed.table(one)
        for column in columns:
            values = graphs[str(numbering)].table[column].to_numpy(np.float64)
            there = np.isfinite(values)
            found = mean_rank_correlation(values[there], accuracies[there].T)
            labels = {name: one[name].iloc[0] for name in ("region", "dataset", "sparsity")}
            rows.append(labels | {"numbering": numbering, "column": column} | vars(found))
    return pd.DataFrame(rows)


def agreement(calibrated: pd.DataFrame, converged: pd.DataFrame) -> pd.DataFrame:
    """Whether graphs that are better after a short training are better after a long one.

    Args:
        calibrated, converged: from ``train``, native numbering, of the same graphs in the same order.

    Returns:
        One row: Spearman's correlation of the graphs' mean test accuracies and its number of graphs, and mean and standard deviation of the means.
    """
    means = [crossed.table(one).mean(axis=1) for one in (calibrated, converged)]
    found = mean_rank_correlation(means[0], means[1][None]).mean
    names = ("calibrated", "converged")
    numbers = {f"{k}_{name}": f(m) for name, m in zip(names, means, strict=True) for k, f in (("mean", np.mean), ("sd", np.std))}
    return pd.DataFrame([{"dataset": calibrated["dataset"].iloc[0], "rho": found, "graphs": len(means[0])} | numbers])
