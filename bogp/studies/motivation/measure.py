"""Section 3 of the paper: every connected graph of a few nodes, laid over a network with three
hidden layers (Figures 5 to 7).

The graphs are all there are, so nothing is sampled but the seeds. Each graph is trained in two
variants from the same seeds: ``same``, where all networks have one hidden width, so that a sparse
graph has fewer weights; and ``matched``, where each network is as wide as it takes to keep the
number of weights of the dense one (You et al. 2020 match the operations of their networks in the
same way).
"""

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import product

import networkx as nx
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bogp.checks import whole
from bogp.errors import InvalidInput
from bogp.graphs import properties
from bogp.graphs.relational import MOST_UNITS, Mask, as_masks, layer_masks
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol

MOTIVATION = "01_motivation"  # folder of the results of that notebook
FIGURES_5_TO_7 = {
    "clustering": "Figure 5",
    "path_length": "Figure 6",
    "eigenvector_centrality": "Figure 7",
}
COLUMNS = ("density", *FIGURES_5_TO_7, *(c for c in properties.ALL if c not in FIGURES_5_TO_7))
VARIANTS = ("same", "matched")


def graph_set(nodes: int = 5) -> Mask:
    """Every connected graph of that many nodes, once up to isomorphism, each node with a self-edge
    (paper section 3; You et al. 2020).

    Args:
        nodes: 3 to 7, as far as the atlas goes; 2, 6, 21, 112 and 853 graphs.

    Returns:
        (graphs, nodes, nodes) masks with a unit diagonal, in the order and node numbering of "An
        Atlas of Graphs" (Read & Wilson 1998, in networkx): by number of edges, then degree
        sequence, then number of automorphisms.

    Raises:
        InvalidInput: nodes out of range.
    """
    if not 3 <= whole("nodes", nodes) <= 7:
        raise InvalidInput(f"nodes is {nodes}; the atlas of graphs lists those of 3 to 7 nodes.")
    graphs = [g for g in nx.graph_atlas_g() if len(g) == nodes and nx.is_connected(g)]
    edges = np.array([nx.to_numpy_array(g, nodelist=range(nodes)) > 0 for g in graphs])
    return edges | np.eye(nodes, dtype=bool)


@dataclass(frozen=True)
class Study:
    """What is trained: each graph of the set, in both variants, from each seed.

    Attributes:
        protocol: how; its widths and scope are replaced (see ``network``).
        nodes: of each graph.
        width: hidden width of the variant ``same``, and of the dense network whose weights
            ``matched`` keeps.
        hidden_layers: how many.
        seeds: trainings of each network, from the seeds 0, 1, ...
    """

    protocol: Protocol
    nodes: int = 5
    width: int = 128
    hidden_layers: int = 3
    seeds: int = 12

    def __post_init__(self) -> None:
        for field in ("nodes", "width", "hidden_layers", "seeds"):
            whole(field, getattr(self, field))
        faults = {
            f"nodes is {self.nodes}; allowed: 4 to 7 (3 nodes make two graphs, which is no basis "
            "for a correlation).": not 4 <= self.nodes <= 7,
            f"seeds is {self.seeds}; an interval over seeds needs at least 2, and the paper "
            "profile has 12 or more.": self.seeds < 2,
            f"hidden_layers is {self.hidden_layers}; at least one is needed, and the paper has "
            "3.": self.hidden_layers < 1,
            f"width is {self.width}; each of the {self.nodes} nodes of a graph needs a unit in "
            "every hidden layer.": self.width < self.nodes,
        }
        if found := [fault for fault, there in faults.items() if there]:
            raise InvalidInput(found[0])

    def network(self, width: int) -> Protocol:
        """The protocol with that hidden width; the graph lies over every layer but the last, which
        stays dense, as in You et al. 2020.
        """
        first, last = self.protocol.widths[0], self.protocol.widths[-1]
        return replace(
            self.protocol,
            name=f"{self.protocol.name}, {self.hidden_layers} hidden layers of {width}",
            widths=(first, *[width] * self.hidden_layers, last),
            scope="all",
        )


def kept_weights(mask: ArrayLike, network: Protocol) -> int:
    """Weights, biases not counted, that one (n, n) mask leaves in a network when it is expanded
    over the layers of the protocol's scope.
    """
    (checked,) = as_masks(mask)
    n = len(checked)
    # of each node, as in relational.expand
    channels = [(width + n - 1 - np.arange(n)) // n for width in network.widths]
    return sum(
        int(c_out @ checked @ c_in if layer in network.masked_layers else c_out.sum() * c_in.sum())
        for layer, (c_in, c_out) in enumerate(zip(channels, channels[1:], strict=False))
    )


def matched_width(mask: ArrayLike, study: Study, weights: int) -> int:
    """The hidden width at which the network under a mask keeps the number of weights nearest to a
    wanted one.

    Args:
        mask: (n, n).
        study: says what the network is.
        weights: wanted.

    Returns:
        At least n; of two widths as near as each other, the smaller.
    """
    n = len(as_masks(mask)[0])
    # each unit keeps at least one weight, so the last is wide enough
    widths = range(n, min(max(weights, n), MOST_UNITS) + 1)

    def kept(width: int) -> int:  # grows with the width, unit by unit
        return kept_weights(mask, study.network(width))

    above = min(bisect_left(widths, weights, key=kept), len(widths) - 1)
    return min(widths[max(above - 1, 0) : above + 1], key=lambda width: abs(kept(width) - weights))


def describe(masks: Mask, study: Study) -> pd.DataFrame:
    """One row a graph: its number (from 1), edges (without self-edges), density, properties, and
    its network in both variants.

    Args:
        masks: from ``graph_set``.
        study: what will be trained.

    Returns:
        Columns ``graph``, ``edges``, ``density`` (share of ones), ``properties.ALL``, and for each
        variant ``width_``, ``kept_`` (weights) and ``deviation_`` (of the weights from the dense
        network's, relative).
    """
    dense = kept_weights(np.ones_like(masks[0]), study.network(study.width))
    edges = (masks.sum(axis=(1, 2)) - masks.shape[-1]) // 2
    # Equal values are ties: rounded, so that the last bit does not order them.
    table = pd.DataFrame(
        {"graph": np.arange(1, len(masks) + 1), "edges": edges, "density": masks.mean(axis=(1, 2))}
    ).join(properties.measure(masks).round(12))
    for variant, chosen in {
        "same": [study.width] * len(masks),
        "matched": [matched_width(mask, study, dense) for mask in masks],
    }.items():
        kept = np.array(
            [
                kept_weights(mask, study.network(width))
                for mask, width in zip(masks, chosen, strict=True)
            ]
        )
        table = table.assign(
            **{
                f"width_{variant}": chosen,
                f"kept_{variant}": kept,
                f"deviation_{variant}": kept / dense - 1,
            }
        )
    return table


def numbering(seed: int, nodes: int) -> NDArray[np.intp]:
    """The order in which the nodes of a graph get their channels, drawn for each seed, the same for
    all graphs.

    Input channels are pixels, so the number of a node says which part of the image it reads, which
    no property of the graph knows. Drawn anew for each seed, that is noise, and not part of the
    graph.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(5,))).permutation(nodes)


def train(
    graphs: pd.DataFrame, masks: Mask, study: Study, dataset: str, evaluator: Evaluator
) -> pd.DataFrame:
    """Train each graph's network in both variants from each seed, its nodes numbered as
    ``numbering`` draws.

    Args:
        graphs: from ``describe``.
        masks: from ``graph_set``, in the same order.
        study: what is trained.
        dataset: name of the data set.
        evaluator: looks up what is known and trains the rest.

    Returns:
        One row a training: ``variant``, ``graph``, ``seed``, ``width``, the three accuracies, and
        the ``key`` of the evaluation. A network that is the same in both variants (the complete
        graph's) is trained once and has a row in each.
    """
    rows, jobs = [], []
    for variant, (i, number), seed in product(
        VARIANTS, enumerate(graphs["graph"]), range(study.seeds)
    ):
        width, order = graphs[f"width_{variant}"].iloc[i], numbering(seed, masks.shape[-1])
        network = study.network(int(width))
        layers = layer_masks(masks[i][np.ix_(order, order)], network.widths, network.masked_layers)
        rows.append({"variant": variant, "graph": number, "seed": seed, "width": width})
        jobs.append(Job(Recipe(layers), seed, network, dataset))
    return pd.DataFrame(rows).join(
        evaluator.evaluate(jobs)[["train_accuracy", "validation_accuracy", "test_accuracy", "key"]]
    )
