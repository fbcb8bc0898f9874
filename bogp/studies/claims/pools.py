"""Graph or pixels? Independent pools of graphs over all layers, and what a choice by graph
properties, or by pixel features, gains in each.

A pool holds graphs of several families, with nodes numbered as each family does, and graphs of one
family with nodes numbered at random: what their properties say is said of the graph alone. Every
graph is trained once. A random half of the pool is learned from, and each *arm* chooses from the
other half. The chosen graphs are then trained from fresh seeds, and judged by these on test images.
The *pool* is the unit: graphs, halves and seeds differ between pools, so that intervals over pools
say what another pool would show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.errors import UnreachableSparsity
from bogp.graphs import bipartite, families
from bogp.graphs.database import DatabaseSpec, MaskDatabase, build
from bogp.graphs.pixel_features import FEATURES, with_features
from bogp.paths import database_dir
from bogp.statistics import mean_interval
from bogp.studies.claims import crossed, prediction, regions
from bogp.studies.claims.designs import PoolDesign
from bogp.studies.claims.replay import SMALLEST_GAIN
from bogp.studies.claims.verdicts import above
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol

# The block model with both of its numbers varied: at any sparsity graphs from nearly random ones to
# small cliques, so that properties differ as widely as they can within one family.
ONE_FAMILY = "stochastic_block"
SETTINGS = tuple(
    (("blocks", blocks), ("ratio", ratio), ("diagonal", False))
    for blocks, ratio in product((4, 16), (4.0, 64.0))
)
FREE = "exact"  # joins the families: at the highest sparsities most others cannot be drawn
_NATIVE, _RENUMBERED = "as the family numbers", "renumbered"

# What an arm is compared with: random choice among the graphs that it chooses from.
ARMS = {
    "measured": "random",
    "properties": "random",
    "pixel features": "random",
    "one family: measured": "one family: random",
    "one family: properties": "one family: random",
}
_KEYS = ["sparsity", "pool"]

Values = NDArray[np.float64]
Settings = tuple[tuple[str, Any], ...]  # of a family, as in ``DatabaseSpec``


@dataclass(frozen=True)
class Pool:
    """One pool.

    Attributes:
        sparsity, number: which one.
        graphs: its table has the families, the numbering, properties, invariants and features.
        learned: (graphs,) True in the half that is learned from.
    """

    sparsity: float
    number: int
    graphs: MaskDatabase
    learned: NDArray[np.bool_]

    @property
    def renumbered(self) -> NDArray[np.bool_]:
        """(graphs,) True for those of one family, numbered at random."""
        return (self.graphs.table["numbering"] == _RENUMBERED).to_numpy()

    def seeds(self, design: PoolDesign) -> range:
        """Seeds that no other pool trains from: the first for all graphs, the others fresh."""
        each = 1 + design.fresh_seeds
        return range(self.number * each, (self.number + 1) * each)


def draw(
    design: PoolDesign, mixture: Sequence[str], sparsity: float, number: int, n: int, name: str
) -> Pool:
    """Draw a pool; it depends on its sparsity and number alone.

    Args:
        design: sizes.
        mixture: families, of which those take part that reach the sparsity.
        sparsity: of the graphs.
        number: of the pool.
        n: nodes of a graph.
        name: databases are kept under names that begin with it.

    Returns:
        The graphs without features, family after family, the renumbered ones last.
    """
    chosen = [f for f in dict.fromkeys((*mixture, FREE)) if reaches(f, sparsity, n)]
    many = design.graphs - design.renumbered
    native = _built([(f, ()) for f in chosen], many, sparsity, number, n, f"{name}-native")
    kinds = [(ONE_FAMILY, settings) for settings in SETTINGS]
    other = _built(kinds, design.renumbered, sparsity, number, n, f"{name}-one")
    graphs = crossed.joined([native, regions.renumbered(other, 1 + number)])
    numbering = [_NATIVE] * len(native) + [_RENUMBERED] * len(other)
    key = np.random.SeedSequence(number, spawn_key=(11, round(1e6 * sparsity)))
    return Pool(
        sparsity,
        number,
        graphs.with_columns(pd.DataFrame({"numbering": numbering})),
        _halves(np.array(numbering) == _RENUMBERED, np.random.default_rng(key)),
    )


def _built(
    kinds: Sequence[tuple[str, Settings]], total: int, sparsity: float, seed: int, n: int, name: str
) -> MaskDatabase:
    """So many graphs of families with settings, as many of each; what is left over goes to the
    first.
    """
    found = []
    for i, (family, settings) in enumerate(kinds):
        count = total // len(kinds) + (i < total % len(kinds))
        spec = DatabaseSpec((sparsity,), count, n=n, family=family, parameters=settings, seed=seed)
        found.append(build(spec, database_dir(f"{name}-{sparsity:g}-{seed}-{i}-{count}")))
    return crossed.joined(found)


def reaches(family: str, sparsity: float, n: int) -> bool:
    """Whether the family has graphs of that sparsity."""
    try:
        families.family(family)(n, sparsity, np.random.default_rng(0))
    except UnreachableSparsity:
        return False
    return True


def _halves(renumbered: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random half of the graphs of either kind."""
    learned = np.zeros(len(renumbered), dtype=bool)
    for kind in (False, True):
        rows = np.flatnonzero(renumbered == kind)
        learned[rng.permutation(rows)[: len(rows) // 2]] = True
    return learned


def measured(
    design: PoolDesign,
    mixture: Sequence[str],
    n: int,
    name: str,
    protocol: Protocol,
    dataset: str,
    evaluator: Evaluator,
) -> tuple[list[Pool], pd.DataFrame]:
    """Draw all pools and train every graph once.

    Args:
        design, mixture, n, name: as in ``draw``.
        protocol: its scope is ``all``.
        dataset: name of the data set.
        evaluator: looks up what is known and trains the rest, so that this resumes.

    Returns:
        The pools with invariants and pixel features as columns of their tables; and a row a graph,
        in their order: ``sparsity``, ``pool``, ``graph``, and the columns of ``crossed.train`` but
        ``mask``.
    """
    pools, rows = [], []
    images = evaluator.dataset(dataset).train.images
    for sparsity, number in product(design.sparsities, range(design.pools)):
        pool = draw(design, mixture, sparsity, number, n, name)
        first = pool.seeds(design)[0]
        trained = crossed.train(pool.graphs.masks(), 1, protocol, dataset, evaluator, first)
        graphs = with_features(bipartite.with_invariants(pool.graphs), images)
        pools.append(Pool(sparsity, number, graphs, pool.learned))
        rows.append(_labelled(pool, trained.rename(columns={"mask": "graph"})))
    return pools, pd.concat(rows, ignore_index=True)


def _labelled(pool: Pool, rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"sparsity": pool.sparsity, "pool": pool.number}, rows.index).join(rows)


def described(trained: pd.DataFrame) -> pd.DataFrame:
    """What the graphs of each pool reached: the validation accuracies of ``measured``.

    Returns:
        A row a pool: ``sparsity``, ``pool``, ``graphs`` (their number), ``mean``, ``sd``, ``best``.
    """
    groups = trained.groupby(_KEYS)["validation_accuracy"]
    return groups.agg(graphs="size", mean="mean", sd="std", best="max").reset_index()


def choices(
    pool: Pool, accuracies: Values, space: Sequence[str], count: int
) -> dict[str, NDArray[np.intp]]:
    """The graphs that each arm chooses, from the half that was not learned from.

    Args:
        pool: with invariants and features.
        accuracies: (graphs,) validation accuracy of one training each.
        space: properties; the bipartite invariants are added to them.
        count: graphs an arm chooses.

    Returns:
        (count,) rows of the pool by arm: drawn at *random*; with the best *measured* accuracy; with
        the best prediction from *properties*, or *pixel features*, by a model of the other half
        (``prediction.fitted``); and the same among the renumbered graphs of *one family*, by a
        model of these alone.
    """
    graph = [*space, *bipartite.INVARIANTS]
    among = {"": np.ones(len(accuracies), dtype=bool), "one family: ": pool.renumbered}
    key = np.random.SeedSequence(pool.number, spawn_key=(12, round(1e6 * pool.sparsity)))
    rng, found = np.random.default_rng(key), {}
    for prefix, those in among.items():
        known, left = np.flatnonzero(those & pool.learned), np.flatnonzero(those & ~pool.learned)
        found[f"{prefix}random"] = rng.choice(left, count, replace=False)
        found[f"{prefix}measured"] = _best(left, accuracies[left], count)
        spaces = {"properties": graph, "pixel features": [*FEATURES]}
        for name, columns in spaces.items():
            if f"{prefix}{name}" in ARMS:
                values = pool.graphs.values(columns)
                model = prediction.fitted(values[known], accuracies[known])
                found[f"{prefix}{name}"] = _best(left, model(values[left]), count)
    return found


def _best(rows: NDArray[np.intp], scores: Values, count: int) -> NDArray[np.intp]:
    """The rows of the highest scores; of equal ones, the first."""
    return rows[np.argsort(-scores, kind="stable")[:count]]


def retrain(
    pools: Sequence[Pool],
    trained: pd.DataFrame,
    design: PoolDesign,
    space: Sequence[str],
    protocol: Protocol,
    dataset: str,
    evaluator: Evaluator,
) -> pd.DataFrame:
    """Let each arm choose in each pool, and train what it chose from fresh seeds.

    Args:
        pools, trained: from ``measured``.
        design, protocol, dataset, evaluator: as there.
        space: as in ``choices``.

    Returns:
        A row a pool, arm, chosen graph and fresh seed: ``sparsity``, ``pool``, ``arm``, ``graph``
        and the columns of ``crossed.train`` but ``mask``.
    """
    found, by_pool = [], dict(list(trained.groupby(_KEYS)))
    for pool in pools:
        accuracies = by_pool[pool.sparsity, pool.number]["validation_accuracy"].to_numpy()
        chosen = choices(pool, accuracies, space, design.chosen)
        rows = np.concatenate(list(chosen.values()))
        seeds = pool.seeds(design)
        how = (design.fresh_seeds, protocol, dataset, evaluator, seeds[1])
        fresh = crossed.train(pool.graphs.masks()[rows], *how)
        at = fresh.pop("mask").to_numpy()
        fresh.insert(0, "arm", np.repeat(list(chosen), design.chosen)[at])
        fresh.insert(1, "graph", rows[at])
        found.append(_labelled(pool, fresh))
    return pd.concat(found, ignore_index=True)


def advantages(fresh: pd.DataFrame) -> pd.DataFrame:
    """What each arm gains over random choice, and the most that there was to gain, by pool.

    The *ceiling* is estimated without the winner's curse: of all graphs that some arm chose in the
    pool (of the renumbered ones, for the arms of one family), an oracle takes as many as an arm,
    those with the highest mean over half of the fresh seeds; they are judged by the other half;
    averaged over all halves.

    Args:
        fresh: from ``retrain``.

    Returns:
        A row a sparsity, pool and arm: ``sparsity``, ``pool``, ``arm``, ``against`` (the random
        arm), ``accuracy`` (mean fresh test accuracy), ``advantage`` and ``ceiling``.
    """
    rows = []
    for (sparsity, pool), one in fresh.groupby(_KEYS):
        means = one.groupby("arm")["test_accuracy"].mean()
        tops = _ceilings(one)
        for arm, other in ARMS.items():
            rows.append(
                {"sparsity": sparsity, "pool": pool, "arm": arm, "against": other}
                | {"accuracy": means[arm], "advantage": means[arm] - means[other]}
                | {"ceiling": tops[other]}
            )
    return pd.DataFrame(rows)


def _ceilings(one: pd.DataFrame) -> dict[str, float]:
    """What an oracle gains over each random arm in one pool."""
    tops = {}
    for other in dict.fromkeys(ARMS.values()):
        prefix = other.removesuffix("random")
        candidates = one[one["arm"].str.startswith(prefix)]
        wide = candidates.drop_duplicates(["graph", "seed"]).pivot(
            index="graph", columns="seed", values="test_accuracy"
        )
        drawn = one.loc[one["arm"] == other]
        count, reference = drawn["graph"].nunique(), drawn["test_accuracy"].mean()
        tops[other] = _cross_fitted(wide.to_numpy(), count) - reference
    return tops


def _cross_fitted(accuracies: Values, count: int) -> float:
    """Mean of the best rows of (graphs, seeds), chosen by half of the seeds, judged by the rest."""
    seeds = accuracies.shape[1]
    judged = []
    for half in combinations(range(seeds), seeds // 2):
        rest = np.delete(accuracies, half, axis=1).mean(axis=1)
        known = accuracies[:, list(half)].mean(axis=1)
        judged.append(rest[_best(np.arange(len(known)), known, count)].mean())
    return float(np.mean(judged))


def summary(gains: pd.DataFrame) -> pd.DataFrame:
    """The advantages with their 95 % t intervals over pools: the evidence of claims 11 and 12.

    Args:
        gains: from ``advantages``.

    Returns:
        A row an arm and sparsity: ``arm``, ``against``, ``sparsity``, ``case``, the fields of
        ``verdicts.Tested`` (``p_for``: above 0, ``p_against``: below ``SMALLEST_GAIN``; ``n`` is
        the number of pools), and ``ceiling`` with ``ceiling_low`` and ``ceiling_high``.
    """
    rows = []
    for (arm, against, sparsity), one in gains.groupby(["arm", "against", "sparsity"], sort=False):
        labels = {"arm": arm, "against": against, "sparsity": sparsity}
        rows.append(
            labels
            | {"case": f"s = {sparsity:.2f}"}
            | vars(above(one["advantage"], 0.0, SMALLEST_GAIN))
            | mean_interval(one["ceiling"]).columns("ceiling")
        )
    return pd.DataFrame(rows)
