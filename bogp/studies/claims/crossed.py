"""Every mask trained from every seed: the design that tells what belongs to the mask from what belongs to the seed.

With all pairs of mask and seed the accuracies split into a part of the mask, a part of the seed, and a rest (``components``). The same tables are the
candidates on which searches are replayed (``replay``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.errors import InvalidInput
from bogp.graphs.database import DatabaseSpec, MaskDatabase, build
from bogp.graphs.relational import Mask, layer_masks
from bogp.paths import database_dir
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol
from bogp.variance import components, detectable_spread, spread_p

MEASURES = ("validation_accuracy", "test_accuracy")


def candidates(spec: DatabaseSpec, name: str, sparsity: float, count: int) -> MaskDatabase:
    """The first masks of one sparsity of a database, which is built if it is not there.

    Args:
        spec, name: of the database.
        sparsity: one of the spec's.
        count: masks, at most ``spec.masks_per_sparsity``.

    Raises:
        InvalidInput: a count out of range.
    """
    if not 2 <= count <= spec.masks_per_sparsity:
        raise InvalidInput(f"{count} masks were asked for; from 2 to {spec.masks_per_sparsity}, the masks of the database, are allowed.")
    return first(build(spec, database_dir(name)).at(sparsity), count)


def first(database: MaskDatabase, count: int) -> MaskDatabase:
    """The first rows of a database.

    Raises:
        InvalidInput: a count out of range.
    """
    if not 2 <= count <= len(database):
        raise InvalidInput(f"{count} masks were asked for; from 2 to {len(database)}, the masks of the database, are allowed.")
    return database.take(range(count))


def mixture(families: Sequence[str], sparsity: float, each: int, n: int, name: str, seed: int = 0) -> MaskDatabase:
    """Graphs of several families at one sparsity in one database, the same number of each.

    Args:
        families: names of mask families.
        sparsity: which all of them reach.
        each: graphs of a family.
        n: nodes.
        name: the databases are kept as ``<name>-<family>-<sparsity>``.
        seed: of the databases.

    Returns:
        One table, family after family, each mask's id with its family before it; the ``spec`` is the first family's.
    """
    parts = [build(DatabaseSpec((sparsity,), each, n=n, family=f, seed=seed), database_dir(f"{name}-{f}-{sparsity:g}")) for f in families]
    table = pd.concat([p.table for p in parts], ignore_index=True)
    table["mask_id"] = table["family"] + "-" + table["mask_id"]  # each family counts its own masks from 0
    return MaskDatabase(table, parts[0].spec, np.concatenate([p.bits for p in parts]))


def laid_over_all(protocol: Protocol) -> Protocol:
    """The protocol with the mask on every layer but the last (scope ``all``)."""
    return replace(protocol, name=f"{protocol.name}, all layers", scope="all")


def train(masks: Sequence[Mask] | Mask, seeds: int, protocol: Protocol, dataset: str, evaluator: Evaluator) -> pd.DataFrame:
    """Train each mask from each seed.

    Args:
        masks: (N, n, n).
        seeds: trainings of each mask, from the seeds 0, 1, ...
        protocol: how, and on which layers the masks lie.
        dataset: name of the data set.
        evaluator: looks up what is known and trains the rest.

    Returns:
        One row a training, mask after mask: ``mask`` (its number), ``seed``, the accuracies, and ``key``.
    """
    return train_layers([layer_masks(mask, protocol.widths, protocol.masked_layers) for mask in masks], seeds, protocol, dataset, evaluator)


def train_layers(
    masks: Sequence[tuple[Mask | None, ...]], seeds: int, protocol: Protocol, dataset: str, evaluator: Evaluator
) -> pd.DataFrame:
    """As ``train``, with the masks of each layer given: what is no expanded graph can be trained as well."""
    if seeds < 2:
        raise InvalidInput(f"seeds is {seeds}; with fewer than 2 the part of a mask and that of a seed cannot be told apart.")
    recipes = [Recipe(one) for one in masks]
    rows = evaluator.evaluate([Job(recipe, seed, protocol, dataset) for recipe in recipes for seed in range(seeds)])
    labels = pd.DataFrame({"mask": np.repeat(np.arange(len(recipes)), seeds), "seed": np.tile(np.arange(seeds), len(recipes))})
    return labels.join(rows[["train_accuracy", *MEASURES, "key"]])


def table(trainings: pd.DataFrame, measure: str = "test_accuracy") -> NDArray[np.float64]:
    """The accuracies as (masks, seeds), both in ascending order.

    Raises:
        InvalidInput: some mask was not trained from some seed, or twice (the rows are of more than one design).
    """
    if trainings.duplicated(["mask", "seed"]).any():
        raise InvalidInput("Some mask was trained from some seed twice; give the trainings of one design at a time.")
    wide = trainings.pivot(index="mask", columns="seed", values=measure)
    if wide.isna().any(axis=None):
        raise InvalidInput("Some mask was not trained from some seed; a crossed design has every pair.")
    return wide.to_numpy()


def tidy(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Several designs in one table, with their names in the column ``set``."""
    return pd.concat([rows.assign(set=name) for name, rows in tables.items()], ignore_index=True)


def parts(trainings: pd.DataFrame, measure: str = "test_accuracy", by: Sequence[str] = ("set",)) -> pd.DataFrame:
    """What belongs to the mask, to the seed, and to neither, in each design.

    Args:
        trainings: from ``tidy`` (or ``train``, with columns that name the design).
        measure: the accuracy.
        by: columns that tell designs apart.

    Returns:
        Rows of those columns, ``n_masks``, ``n_seeds``, ``mean``, ``part`` (``masks``, ``seeds``, ``residual``: standard deviations; ``icc``, the
        share of masks in the variance of one training; ``ceiling``, their share in that of a mean over the seeds), ``value``, ``low``, ``high`` (95 %),
        ``p`` (of no difference between masks), and for masks ``detectable``: the spread that this design would find with a power of 80 %.
    """
    rows = []
    for name, one in trainings.groupby(list(by), sort=False):
        found = components(table(one, measure))
        labels = dict(zip(by, name, strict=True)) | {"n_masks": found.masks, "n_seeds": found.seeds, "mean": found.mean, "p": found.p}
        named = {
            "masks": found.between_masks, "seeds": found.between_seeds, "residual": found.residual, "icc": found.icc, "ceiling": found.ceiling,
        }  # fmt: skip
        detectable = {"masks": detectable_spread(found.masks, found.seeds, found.residual.value)}
        rows += [labels | {"part": part} | vars(value) | {"detectable": detectable.get(part, np.nan)} for part, value in named.items()]
    return pd.DataFrame(rows)


def spreads(trainings: pd.DataFrame, threshold: float, measure: str = "test_accuracy") -> pd.DataFrame:
    """Whether the standard deviation between masks is above a threshold, for each design of ``tidy``: the evidence of claim 2.

    Returns:
        Rows of ``case``, ``estimate``, ``low``, ``high`` (95 %), ``n`` (masks), ``p_for`` and ``p_against`` (above and below the threshold) and ``detectable``.
    """
    rows = []
    for name, one in trainings.groupby("set", sort=False):
        accuracies = table(one, measure)
        found = components(accuracies)
        p_for, p_against = spread_p(accuracies, threshold)
        spread, detectable = found.between_masks, detectable_spread(found.masks, found.seeds, found.residual.value)
        rows.append({
            "case": name, "estimate": spread.value, "low": spread.low, "high": spread.high, "n": found.masks,
            "p_for": p_for, "p_against": p_against, "detectable": detectable,
        })  # fmt: skip
    return pd.DataFrame(rows)


def first_of_each(database: MaskDatabase, each: int) -> MaskDatabase:
    """The first graphs of each family of a mixture, in its order."""
    return database.take(database.table.groupby("family", sort=False).head(each).index.to_numpy())
