"""Where could a search over graph properties work? Mixtures of families over all layers, several sparsities, data sets and lengths of training.

In scope ``all`` the mask decides which pixels a unit reads, and masks differ. A search over properties that finds better masks there may owe it to the
graph or to the numbering of its nodes; the same graphs, renumbered at random, tell which.
"""

from dataclasses import dataclass

import pandas as pd

from bogp.audit import crossed, nulls
from bogp.database import MaskDatabase
from bogp.evaluation import Evaluator
from bogp.protocols import Protocol

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
        return f"{self.dataset}, s = {self.sparsity:.2f}, {self.protocol.name}"


def train(region: Region, database: MaskDatabase, evaluator: Evaluator) -> pd.DataFrame:
    """Train each graph of a region from each seed, as numbered by its family and renumbered.

    Args:
        region: the cell.
        database: its graphs, such as ``crossed.mixture`` makes.
        evaluator: looks up what is known and trains the rest.

    Returns:
        One row a training: ``dataset``, ``sparsity``, ``protocol``, ``numbering``, and the columns of ``crossed.train``.
    """
    parts = []
    for numbering in region.numberings:
        if numbering == "native":
            rows = crossed.train(database.masks(), region.seeds, region.protocol, region.dataset, evaluator)
        else:
            layers = nulls.variants(database.masks(), "relabelled", 1, region.protocol)
            rows = crossed.train_layers(layers, region.seeds, region.protocol, region.dataset, evaluator)
        parts.append(
            rows.assign(dataset=region.dataset, sparsity=region.sparsity, protocol=region.protocol.name, numbering=numbering)
        )
    return pd.concat(parts, ignore_index=True)
