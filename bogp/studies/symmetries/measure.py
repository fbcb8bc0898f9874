"""Notebook 08, measured: networks under masks that a symmetry maps onto each other, and under masks
that none does; and which numbers of a mask stay the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, permutations, product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.datasets import Dataset
from bogp.graphs import bipartite, pixel_features, properties
from bogp.graphs.bipartite import exchangeable_pair
from bogp.graphs.families import erdos_renyi
from bogp.graphs.relational import LayerMasks, Mask, expand
from bogp.statistics import mean_rank_correlation
from bogp.studies.claims import crossed
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol
from bogp.training.symmetries import Orders, loss_gap, losses, renumbered_masks

CASES = ("one layer", "consecutive layers", "residual stream", "reads the data")
ROUNDING = 1e-9  # of properties: a difference below it is none
KINDS = {
    **dict.fromkeys(properties.NINE, "the paper's nine"),
    "cycle_rank": "graph property",
    **dict.fromkeys(bipartite.INVARIANTS, "bipartite invariant"),
}


@dataclass(frozen=True)
class Case:
    """Where a mask of n nodes lies.

    Attributes:
        name: one of ``CASES``.
        protocol: of the network.
        layers: that hold the mask.
    """

    name: str
    protocol: Protocol
    layers: tuple[int, ...]

    def laid(self, mask: Mask) -> LayerMasks:
        """The mask over the network: as it is between hidden layers, expanded over inputs."""
        widths = self.protocol.widths
        over = expand(mask, widths[0], widths[1]) if self.layers == (0,) else mask
        return tuple(over if layer in self.layers else None for layer in range(len(widths) - 1))

    def orders(self) -> Iterator[Orders]:
        """All renumberings of hidden units under which the network is the same, in a random order
        that is always the same: one order for a stream, else one for each hidden layer.
        """
        n, hidden = self.protocol.widths[1], len(self.protocol.widths) - 2
        rng = np.random.default_rng(n)
        every = [np.array(order) for order in permutations(range(n))] if n <= 6 else []
        if self.name == "residual stream":
            while not every:
                yield [None, *[rng.permutation(n)] * hidden, None]
            yield from ([None, *[every[k]] * hidden, None] for k in rng.permutation(len(every)))
        elif every:
            shuffled = [every[k] for k in rng.permutation(len(every))]
            yield from ([None, *some, None] for some in product(shuffled, repeat=hidden))
        while not every:
            yield [None, *(rng.permutation(n) for _ in range(hidden)), None]


def cases(n: int, protocol: Protocol, steps: int) -> list[Case]:
    """The four cases with hidden layers of n units.

    Args:
        n: nodes of the masks.
        protocol: for learning rate and batches.
        steps: of a training.
    """
    hidden_layers = dict(zip(CASES, (2, 3, 3, 1), strict=True))
    found = []
    for name, hidden in hidden_layers.items():
        network = replace(
            protocol,
            name=name,
            widths=(protocol.widths[0], *[n] * hidden, protocol.widths[-1]),
            steps=steps,
            scope="input" if name == "reads the data" else "hidden",
            blocks="residual" if name == "residual stream" else "plain",
        )
        found.append(Case(name, network, network.masked_layers))
    return found


def renumbered(
    n: int, graphs: int, protocol: Protocol, dataset: Dataset, steps: int, seed: int
) -> pd.DataFrame:
    """Train random graphs and their twins: all that a symmetry of each case maps them onto.

    Args:
        n: nodes.
        graphs: of each case, Erdos-Renyi of sparsity .8.
        protocol, steps: as in ``cases``.
        dataset: trained on.
        seed: of weights and batches.

    Returns:
        One row a graph and case: ``case``, ``graph``, ``difference`` (``loss_gap`` from weights
        renumbered alike), ``same_start`` (from the same weights) and ``n`` (losses compared).
    """
    rows = []
    for case in cases(n, protocol, steps):
        orders = case.orders()
        as_is: Orders = [None] * len(case.protocol.widths)
        for graph in range(graphs):
            order = next(orders)
            masks = case.laid(erdos_renyi(n, 0.8, np.random.default_rng(graph)))
            both = [masks, renumbered_masks(masks, order)]
            gaps = [
                loss_gap(losses(both, [as_is, start], case.protocol, dataset, seed))
                for start in (order, as_is)
            ]
            rows.append((case.name, graph, *gaps, steps))
    return pd.DataFrame(rows, columns=["case", "graph", "difference", "same_start", "n"])


def small_graphs() -> dict[str, Mask]:
    """Graphs so small that all orders of their nodes can be tried."""
    triangles, hexagon = exchangeable_pair(~np.eye(3, dtype=bool))
    star = np.zeros((4, 4), dtype=bool)
    star[0, 1:] = star[1:, 0] = True
    path = np.abs(np.subtract.outer(range(4), range(4))) == 1
    return {"two triangles": triangles, "hexagon": hexagon, "star": star, "path": path}


# Pairs of small graphs in each case, and whether the network can tell them apart.
PAIRS = {
    "one layer": {("two triangles", "hexagon"): False, ("star", "path"): True},
    "consecutive layers": {("two triangles", "hexagon"): False, ("star", "path"): True},
    "residual stream": {("two triangles", "hexagon"): True, ("star", "path"): True},
    "reads the data": {("two triangles", "hexagon"): False, ("star", "path"): True},
}


def told_apart(
    protocol: Protocol, dataset: Dataset, steps: int, seed: int, most: int
) -> pd.DataFrame:
    """Whether any order of its hidden units makes the network of one small graph that of another.

    Args:
        protocol, dataset, steps, seed: as in ``renumbered``.
        most: orders that are tried where there are more.

    Returns:
        One row a pair and case: ``case``, ``first``, ``second``, ``expected`` (whether theory says
        that they can be told apart), ``orders`` (tried), ``all`` (whether these were all),
        ``difference``: the smallest ``loss_gap`` over the orders.
    """
    graphs, rows = small_graphs(), []
    for n in (6, 4):
        for case in cases(n, protocol, steps):
            for (first, second), expected in PAIRS[case.name].items():
                if len(graphs[first]) != n:
                    continue
                swap: Orders = _swap(case, n)
                some = list(islice(case.orders(), most + 1))
                tried = [swap, *some[:most]]
                masks = [case.laid(graphs[first]), *[case.laid(graphs[second])] * len(tried)]
                as_is: Orders = [None] * len(case.protocol.widths)
                curves = losses(masks, [as_is, *tried], case.protocol, dataset, seed)
                gaps = [loss_gap(np.stack([curves[0], other])) for other in curves[1:]]
                rows.append(
                    (
                        case.name,
                        first,
                        second,
                        expected,
                        len(gaps) - 1,
                        len(some) <= most,
                        min(gaps),
                    )
                )
    columns = ["case", "first", "second", "expected", "orders", "all", "difference"]
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values("case", key=lambda c: c.map(CASES.index), kind="stable").reset_index(
        drop=True
    )


def _swap(case: Case, n: int) -> Orders:
    """The order that makes the hexagon of two triangles, where a layer has one of its own."""
    half = np.roll(np.arange(n), n // 2)
    hidden = len(case.protocol.widths) - 2
    if case.name == "residual stream":
        return [None, *[half] * hidden, None]
    # rows of the first masked layer, which are the columns of the second
    return [None, *(half if k == min(hidden, 2) else None for k in range(1, hidden + 1)), None]


def twins(case: str, graphs: int, n: int, loops: bool) -> list[tuple[Mask, Mask]]:
    """Pairs of symmetric masks of one network in a case, with or without self-loops.

    Relabelled graphs in a residual stream, where nothing else is a twin; the two halves of
    ``exchangeable_pair`` where units before and after a mask have orders of their own.
    """
    pairs = []
    for k in range(graphs):
        rng = np.random.default_rng((n, k))
        if case == "residual stream":
            mask, order = erdos_renyi(n, 0.8, rng, diagonal=loops), rng.permutation(n)
            pairs.append((mask, mask[np.ix_(order, order)]))
        else:
            pairs.append(exchangeable_pair(erdos_renyi(n // 2, 0.7, rng, diagonal=loops)))
    return pairs


def matrices(case: str, graphs: int, n: int) -> list[tuple[Mask, Mask]]:
    """Pairs of masks of one network, of which the second need not be symmetric: rows and columns
    renumbered as the case allows.
    """
    pairs = []
    for k in range(graphs):
        rng = np.random.default_rng((n, k))
        mask, rows, columns = erdos_renyi(n, 0.8, rng), rng.permutation(n), rng.permutation(n)
        if case == "residual stream":
            columns = rows
        if case == "reads the data":
            columns = np.arange(n)
        pairs.append((mask, mask[np.ix_(rows, columns)]))
    return pairs


def known(graphs: int, n: int, images: NDArray[np.uint8]) -> pd.DataFrame:
    """How much each number of a mask differs between masks of one network.

    Args:
        graphs: pairs in each case.
        n: nodes.
        images: for the labelled features, in the case where inputs are read.

    Returns:
        One row a property and case: ``property``, ``kind``, ``case``; ``difference``, the largest
        over pairs with self-loops, in parts of the largest value, inf where one of two values is
        undefined; ``without_loops``, the same over pairs without self-loops; ``known``, whether
        both are rounding (below ``ROUNDING``).
    """

    def differences(name: str, kind: str, case: str) -> list[float]:
        """With and without self-loops; a bipartite invariant needs no symmetric twins."""
        if kind == "bipartite invariant":
            pairs = [matrices(case, graphs, n)] * 2
        else:
            pairs = [twins(case, graphs, n, loops) for loops in (True, False)]
        measure = {
            "bipartite invariant": lambda some: bipartite.measure(some, [name]),
            "labelled feature": lambda some: pixel_features.measure(some, images),
        }.get(kind, lambda some: properties.measure(some, [name]))
        return [
            _difference(*(measure(some)[name] for some in zip(*both, strict=True)))
            for both in pairs
        ]

    # between hidden layers nothing holds pixels
    labelled = dict.fromkeys(pixel_features.FEATURES, "labelled feature")
    rows = [
        (name, kind, case, *differences(name, kind, case))
        for case in CASES
        for name, kind in (KINDS | (labelled if case == "reads the data" else {})).items()
    ]
    columns = ["property", "kind", "case", "difference", "without_loops"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(known=table[["difference", "without_loops"]].max(axis=1) < ROUNDING)


def _difference(first: pd.Series, second: pd.Series) -> float:
    """The largest over pairs, in parts of the largest value; inf where one of two is undefined."""
    a, b = first.to_numpy(float), second.to_numpy(float)
    scale = np.nanmax(np.abs(np.stack([a, b])), initial=0.0) or 1.0
    gap = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b) / scale)
    return float(np.max(np.where(np.isnan(gap), np.inf, gap)))


def curves(protocol: Protocol, dataset: Dataset, steps: int, seed: int) -> pd.DataFrame:
    """Losses of two triangles and of a hexagon from weights renumbered alike, in one layer and in a
    residual stream.

    Returns:
        ``case``, ``graph``, ``step``, ``loss``.
    """
    graphs = small_graphs()
    names, parts = ["two triangles", "hexagon"], []
    for case in cases(6, protocol, steps):
        if case.name in ("one layer", "residual stream"):
            orders: list[Orders] = [[None] * len(case.protocol.widths), _swap(case, 6)]
            found = losses(
                [case.laid(graphs[name]) for name in names], orders, case.protocol, dataset, seed
            )
            parts += [
                pd.DataFrame(
                    {"case": case.name, "graph": name, "step": range(steps), "loss": curve}
                )
                for name, curve in zip(names, found, strict=True)
            ]
    return pd.concat(parts, ignore_index=True)


def trained(
    families: Sequence[str],
    sparsity: float,
    each: int,
    seeds: int,
    protocol: Protocol,
    dataset: str,
    database: str,
    evaluator: Evaluator,
) -> tuple[pd.DataFrame, Mapping[str, NDArray[np.float64]]]:
    """Train graphs of several families between two dense layers.

    Args:
        families, sparsity, each, database: of ``crossed.mixture``.
        seeds, protocol, dataset, evaluator: of ``crossed.train``.

    Returns:
        The trainings, and of each property the values over the graphs.
    """
    mixed = crossed.mixture(families, sparsity, each, protocol.widths[1], database)
    masks = mixed.masks()
    rows = crossed.train(masks, seeds, protocol, dataset, evaluator)
    table = bipartite.with_invariants(mixed).table
    values = {name: table[name].to_numpy(dtype=float) for name in KINDS}
    return rows.assign(family=table["family"].to_numpy()[rows["mask"]]), values


def correlations(rows: pd.DataFrame, values: Mapping[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Rank correlation of each property with test accuracy over the graphs, a coefficient a seed.

    Returns:
        ``property``, ``kind``, and over seeds ``mean``, ``low``, ``high`` (95 % t interval), ``n``;
        NaN for a property that is constant or not always defined.
    """
    accuracies = crossed.table(rows, "test_accuracy")
    found = []
    for name, value in values.items():
        use = np.isfinite(value)
        enough = use.sum() > 2 and len(np.unique(value[use])) > 1
        interval = mean_rank_correlation(value[use], accuracies[use].T) if enough else None
        row = {"property": name, "kind": KINDS[name], "graphs": int(use.sum())}
        none = dict.fromkeys(["mean", "low", "high"], np.nan) | {"n": 0}
        found.append(row | (vars(interval) if interval else none))
    return pd.DataFrame(found)
