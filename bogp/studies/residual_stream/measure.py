"""Notebook 16, measured: one graph on every block of a residual network, in the engine.

Between a first layer that is not trained and a dense head, the blocks x + relu(M x + b) alone mix
the stream's units, and all of them under one graph M. Renumbering the units renumbers M on both
sides alike, so what the network can know is the graph up to isomorphism (notebook 08).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.graphs import families, properties
from bogp.graphs.database import DatabaseSpec, MaskDatabase, build
from bogp.graphs.relational import Mask
from bogp.paths import database_dir
from bogp.statistics import partial_rank_correlation, rank_correlation
from bogp.studies import algorithm3
from bogp.studies.claims import crossed
from bogp.studies.claims.exchangeable import relabel
from bogp.studies.residual_stream.designs import CELLS, FAMILIES, KNOWN, MAPPED, Cell, Design
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol
from bogp.variance import components, detectable_spread

NODES = 128
FRESH = 100  # first seed of graphs and trainings that confirm


def protocol(cell: Cell, base: Protocol, steps: int, nodes: int = NODES) -> Protocol:
    """How networks of a cell are trained: as ``base``, for so many steps."""
    return replace(
        base,
        name=f"{base.name}, {cell.name}",
        widths=(base.widths[0], *[nodes] * (cell.blocks + 1), base.widths[-1]),
        steps=steps,
        scope="hidden",
        blocks="residual",
        first_layer=cell.first_layer,
    )


def graph(name: str, degree: int, number: int, nodes: int = NODES) -> Mask:
    """A graph of a family of ``FAMILIES`` without self-loops, whose nodes have that degree on
    average; a function of its arguments alone.
    """
    family, parameters = FAMILIES[name]
    rng = np.random.default_rng((number, list(FAMILIES).index(name), degree))
    how: dict[str, Any] = {"diagonal": False} | dict(parameters)
    if family == "stochastic_block":
        how["blocks"] = max(nodes // (degree + 1), 2)
    return families.family(family)(nodes, 1 - degree / nodes, rng, **how)


def trained(
    cell: Cell,
    names: Sequence[str],
    each: int,
    seeds: int,
    base: Protocol,
    steps: int,
    dataset: str,
    evaluator: Evaluator,
    first: int = 0,
) -> pd.DataFrame:
    """Graphs of several families, trained from each seed.

    Args:
        cell: of the network.
        names: of ``FAMILIES``.
        each: graphs of each.
        seeds: trainings of each graph.
        base, steps: of the protocol.
        dataset, evaluator: as elsewhere.
        first: number of the first graph and the first seed.

    Returns:
        One row a training: ``mask`` (the same number for the same graph), ``seed``, accuracies and
        ``key`` as ``crossed.train`` has them, ``family``, ``cell``, and the graph's true
        properties.
    """
    masks = [graph(name, cell.degree, first + k) for name in names for k in range(each)]
    how = protocol(cell, base, steps)
    rows = crossed.train(masks, seeds, how, dataset, evaluator, first)
    known = properties.measure(np.stack(masks)).drop(columns="cycle_length")
    labels = pd.DataFrame({"family": np.repeat(list(names), each)}).join(known)
    rows = rows.join(labels, on="mask").assign(cell=cell.name)
    return rows.assign(mask=rows["mask"].map(dict(enumerate(first_alike(masks)))))


def first_alike(masks: Sequence[Mask]) -> list[int]:
    """Of each mask the number of the first that is the same: a ring is one graph, however often it
    is drawn.
    """
    numbers: dict[bytes, int] = {}
    return [numbers.setdefault(mask.tobytes(), k) for k, mask in enumerate(masks)]


def mapped(design: Design, base: Protocol, dataset: str, evaluator: Evaluator) -> pd.DataFrame:
    """The map: ``trained`` in each cell."""
    size = (design.map_graphs, design.map_seeds, base, design.steps, dataset, evaluator)
    return pd.concat(
        [trained(cell, MAPPED, *size) for cell in CELLS[: design.cells]], ignore_index=True
    )


def shares(rows: pd.DataFrame, by: str = "cell") -> pd.DataFrame:
    """How much of a single training's accuracy is the graph's, in each cell; graphs that are the
    same count once.

    Args:
        rows: from ``mapped``, ``trained`` or ``transformer.rows``.
        by: column that tells designs apart.

    Returns:
        That column, ``mean``, ``between`` (standard deviation between graphs), ``rest``, the
        intraclass correlation ``icc`` with ``low`` and ``high`` (exact for normal effects), ``p``
        of the F test, ``graphs``, ``seeds``, and ``detectable``: the spread between graphs that
        would be found with 80 % power.
    """
    found = []
    for design, one in rows.groupby(by, sort=False):
        parts = components(crossed.table(one.drop_duplicates(["mask", "seed"])))
        found.append(
            {
                by: design,
                "mean": parts.mean,
                "between": parts.between_masks.value,
                "rest": parts.residual.value,
                "icc": parts.icc.value,
                "low": parts.icc.low,
                "high": parts.icc.high,
                "p": parts.p,
                "graphs": parts.masks,
                "seeds": parts.seeds,
                "detectable": detectable_spread(parts.masks, parts.seeds, parts.residual.value),
            }
        )
    return pd.DataFrame(found)


def liveliest(table: pd.DataFrame) -> Cell:
    """The cell with the highest intraclass correlation.

    Args:
        table: from ``shares``.
    """
    best = table.loc[table["icc"].idxmax(), "cell"]
    return next(cell for cell in CELLS if cell.name == best)


def full(
    cell: Cell, design: Design, base: Protocol, dataset: str, evaluator: Evaluator, first: int = 0
) -> pd.DataFrame:
    """All families in one cell."""
    size = (design.full_graphs, design.full_seeds, base, design.steps, dataset, evaluator)
    return trained(cell, list(FAMILIES), *size, first=first)


def predictors(seen: pd.DataFrame, confirmed: pd.DataFrame, draws: int = 1_000) -> pd.DataFrame:
    """Which true properties rank graphs of families that did not suggest them.

    Args:
        seen: from ``full``: the Watts-Strogatz graphs in it give each property its sign.
        confirmed: from ``full`` on fresh graphs and seeds: the other families in it are ranked.
        draws: of the bootstrap over graphs.

    Returns:
        ``property``; ``known``: Spearman's correlation with mean test accuracy over the
        Watts-Strogatz graphs; ``mean``, ``low``, ``high``: the same over graphs of other families
        given their number of edges, with the 95 % percentile interval of the bootstrap over graphs;
        ``n``; ``agrees``: whether the interval lies on the side of ``known``. NaN where a property
        is constant.
    """
    own = _means(seen[seen["family"].isin(KNOWN)])
    others = _means(confirmed[~confirmed["family"].isin(KNOWN)])
    rng, rows = np.random.default_rng(0), []
    for name in (p for p in properties.NINE if p != "cycle_length"):
        use = others[np.isfinite(others[name])]
        row: dict[str, Any] = {"property": name}
        row |= dict.fromkeys(["known", "mean", "low", "high"], np.nan)
        row |= {"n": len(use), "agrees": False}
        if own[name].nunique() > 1 and use[name].nunique() > 1 and len(use) > 3:
            row["known"] = _correlation(own, name)
            row["mean"] = _correlation(use, name)
            drawn = [use.iloc[some] for some in rng.integers(len(use), size=(draws, len(use)))]
            found = [_correlation(one, name) for one in drawn if one[name].nunique() > 2]
            row["low"], row["high"] = np.nanpercentile(found, [2.5, 97.5])
            sign = np.sign(row["known"])
            row["agrees"] = bool(sign * row["low"] > 0 and sign * row["high"] > 0)
        rows.append(row)
    return pd.DataFrame(rows)


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    known = [p for p in properties.ALL if p in rows]
    return rows.groupby("mask")[["test_accuracy", *known]].mean()


def _correlation(table: pd.DataFrame, name: str) -> float:
    """Given the number of edges, where that differs (``degree_centrality`` says it)."""
    edges = table["degree_centrality"].round(12)
    if edges.nunique() < 2 or name == "degree_centrality":
        return rank_correlation(table[name], table["test_accuracy"])
    return partial_rank_correlation(table[name], table["test_accuracy"], edges)


def renumbered(
    cell: Cell, design: Design, base: Protocol, dataset: str, evaluator: Evaluator
) -> pd.DataFrame:
    """Graphs of each family in several numberings of their nodes.

    Returns:
        As ``exchangeable.parts`` reads them: ``change``, ``graph``, ``version``, ``seed``,
        ``test_accuracy``.
    """
    masks = [
        relabel(graph(name, cell.degree, FRESH), np.random.default_rng((k, version)))
        for k, name in enumerate(FAMILIES)
        for version in range(design.versions)
    ]
    how = protocol(cell, base, design.steps)
    rows = crossed.train(masks, design.map_seeds, how, dataset, evaluator)
    return pd.DataFrame(
        {
            "change": "relabelled",
            "graph": rows["mask"] // design.versions,
            "version": rows["mask"] % design.versions,
            "seed": rows["seed"],
            "test_accuracy": rows["test_accuracy"],
        }
    )


def rare(n: int, sparsity: float, rng: np.random.Generator) -> Mask:
    """A graph from families in which good ones are rare: half of them Watts-Strogatz with rewiring
    from .001 to .5 by its logarithm, half blocks of a node more than the degree with a ratio of
    densities from 4 to 4,096 by its logarithm. Ranges named before any of them was trained.
    """
    return _long_paths(n, sparsity, rng, 0.5, 2)


def rarer(n: int, sparsity: float, rng: np.random.Generator) -> Mask:
    """A graph from families in which good ones are rarer: 3 in 100 are Erdos-Renyi, regular or
    Barabasi-Albert. Of the others half are Watts-Strogatz with rewiring from .001 to .05 by its
    logarithm, half blocks of a node more than the degree with a ratio of densities from 64 to 4,096
    by its logarithm. Named before any graph of this database was trained.
    """
    if rng.random() < 0.03:
        name = str(rng.choice(["erdos_renyi", "random_regular", "barabasi_albert"]))
        return families.family(name)(n, sparsity, rng, diagonal=False)
    return _long_paths(n, sparsity, rng, 0.05, 6)


def _long_paths(
    n: int, sparsity: float, rng: np.random.Generator, most_rewired: float, least_ratio: int
) -> Mask:
    """Watts-Strogatz, or blocks; ``least_ratio`` is the logarithm of the ratio, of base 2."""
    if rng.random() < 0.5:
        rewire = float(np.exp(rng.uniform(np.log(0.001), np.log(most_rewired))))
        return families.ws_flex(n, sparsity, rng, rewire=rewire, diagonal=False)
    blocks = max(n // (round((1 - sparsity) * n) + 1), 2)
    ratio = float(2 ** rng.uniform(least_ratio, 12))
    return families.stochastic_block(n, sparsity, rng, blocks=blocks, ratio=ratio, diagonal=False)


DATABASES = {"long paths": (rare, 16), "rarer": (rarer, 17)}  # what draws each, and its seed


def database(cell: Cell, design: Design, name: str, nodes: int = NODES) -> MaskDatabase:
    """A database of ``DATABASES`` that is searched: graphs of the cell's degree."""
    (sampler, seed), sparsity = DATABASES[name], 1 - cell.degree / nodes
    family = name.replace(" ", "_")
    spec = DatabaseSpec((sparsity,), design.database, n=nodes, family=family, seed=seed)
    folder = f"{name.replace(' ', '-')}-{design.database}-{nodes}-{cell.degree}"
    return build(spec, database_dir(folder), sampler=sampler).at(sparsity)


def printed(
    base: MaskDatabase,
    cell: Cell,
    design: Design,
    how: Protocol,
    dataset: str,
    evaluator: Evaluator,
    path: Path,
) -> pd.DataFrame:
    """Algorithm 3 over the nine properties in a database, as ``algorithm3.retrained``."""
    columns = [p for p in properties.NINE if p != "cycle_length"]
    return algorithm3.retrained(
        base,
        {"nine properties": properties.NINE, "the eight that are true ones": columns},
        ("permuted properties", properties.NINE),
        (design.initial, design.proposed),
        design.searches,
        design.fresh,
        protocol(cell, how, design.steps),
        dataset,
        evaluator,
        path,
    )


def searched(
    cell: Cell, design: Design, base: Protocol, dataset: str, evaluator: Evaluator, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The printed algorithm in each of ``DATABASES``.

    Args:
        cell: of the network.
        design: how much is searched and trained.
        base, dataset, evaluator: as in ``trained``.
        folder: where the searches' histories are kept.

    Returns:
        Of each database, by a column of that name: what searches recommend (``printed``), what they
        have over random search (``algorithm3.against_random``), and what there is to find
        (``algorithm3.rarity``).
    """
    where = (cell, design, base, dataset, evaluator)
    found: list[list[pd.DataFrame]] = [[], [], []]
    for name in DATABASES:
        masks = database(cell, design, name)
        path = folder / f"printed_{name.replace(' ', '_')}.csv.gz"
        retrained = printed(masks, *where, path)
        rarity = pd.DataFrame([algorithm3.rarity(all_graphs(masks, *where))])
        parts = (retrained, algorithm3.against_random(retrained), rarity)
        for tables, part in zip(found, parts, strict=True):
            tables.append(part.assign(database=name))
    retrained, against, rarity = (pd.concat(tables, ignore_index=True) for tables in found)
    return retrained, against, rarity


def all_graphs(
    base: MaskDatabase,
    cell: Cell,
    design: Design,
    how: Protocol,
    dataset: str,
    evaluator: Evaluator,
) -> NDArray[np.float64]:
    """``algorithm3.all_graphs`` in the cell."""
    network = protocol(cell, how, design.steps)
    return algorithm3.all_graphs(base, design.known_seeds, network, dataset, evaluator)
