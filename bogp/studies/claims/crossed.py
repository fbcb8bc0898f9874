"""Every mask trained from every seed: the design that tells the mask's part from the seed's.

With all pairs of mask and seed the accuracies split into a part of the mask, a part of the seed,
and a rest (``components``). The same tables are the candidates of replayed searches (``replay``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.checks import whole
from bogp.errors import InvalidInput
from bogp.graphs.database import DatabaseSpec, MaskDatabase, build
from bogp.graphs.relational import LayerMasks, Mask, layer_masks
from bogp.paths import database_dir
from bogp.studies.baselines.tables import MARGIN
from bogp.studies.claims.designs import Design
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import RELEASED, Protocol
from bogp.variance import components, detectable_spread, spread_p

MEASURES = ("validation_accuracy", "test_accuracy")


def hidden(
    database: MaskDatabase,
    name: str,
    design: Design,
    sparsities: Sequence[float],
    families: Sequence[str],
) -> dict[str, MaskDatabase]:
    """The sets of masks of the hidden layer: the first Bernoulli masks of the database, and
    structured families.

    Args:
        database: Bernoulli masks.
        name: of it; those of the families are built as ``<name>-<family>-<count>``.
        design: how many of each.
        sparsities: of the masks; a set has one.
        families: names of the structured families.

    Returns:
        Masks by the name of the set, such as ``bernoulli, s = 0.60``.

    Raises:
        InvalidInput: more masks than the database holds; and as ``build``.
        DatabaseError: it holds none of a sparsity.
    """
    sets = {
        f"bernoulli, s = {s:.2f}": first(database.at(s), design.bernoulli[0]) for s in sparsities
    }
    count = design.structured[0]
    for family in families:
        spec = DatabaseSpec(tuple(sparsities), count, family=family)
        built = build(spec, database_dir(f"{name}-{family}-{count}"))
        sets |= {f"{family}, s = {s:.2f}": built.at(s) for s in sparsities}
    return sets


def first(database: MaskDatabase, count: int) -> MaskDatabase:
    """The first rows of a database.

    Raises:
        InvalidInput: a count out of range.
    """
    return database.take(range(whole("The number of masks", count, 2, len(database))))


def mixture(
    families: Sequence[str], sparsity: float, each: int, n: int, name: str, seed: int = 0
) -> MaskDatabase:
    """Graphs of several families at one sparsity in one database, the same number of each.

    Args:
        families: names of mask families.
        sparsity: which all of them reach.
        each: graphs of a family.
        n: nodes.
        name: the databases are kept as ``<name>-<each>-<family>-<sparsity>``.
        seed: of the databases.

    Returns:
        One table, family after family, each mask's id with its family before it; the ``spec`` is
        the first family's.
    """
    parts = [
        build(
            DatabaseSpec((sparsity,), each, n=n, family=f, seed=seed),
            database_dir(f"{name}-{each}-{f}-{sparsity:g}"),
        )
        for f in families
    ]
    whole = joined(parts)
    # each family counts its own masks from 0
    table = whole.table.assign(mask_id=whole.table["family"] + "-" + whole.table["mask_id"])
    return MaskDatabase(table, whole.spec, whole.bits)


def joined(parts: Sequence[MaskDatabase]) -> MaskDatabase:
    """Databases one after the other as one, with the first's ``spec``."""
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return MaskDatabase(table, parts[0].spec, np.concatenate([part.bits for part in parts]))


def mixtures(
    families: Sequence[str], sparsities: Sequence[float], design: Design, n: int, name: str
) -> dict[float, MaskDatabase]:
    """A ``mixture`` of each sparsity.

    Raises:
        InvalidInput: the sparsity at which graphs are changed is none of them.
    """
    if design.changed_sparsity not in sparsities:
        raise InvalidInput(
            f"Sparsities over all layers are {sparsities}; {design.changed_sparsity:g} is needed "
            "among them."
        )
    return {s: mixture(families, s, design.regions[0], n, name) for s in sparsities}


def first_of_each(database: MaskDatabase, each: int) -> MaskDatabase:
    """The first graphs of each family of a mixture, in its order."""
    return database.take(first_rows(database, each))


def first_rows(database: MaskDatabase, each: int) -> NDArray[np.intp]:
    """The rows of ``first_of_each``."""
    return database.table.groupby("family", sort=False).head(each).index.to_numpy()


def laid_over_all(protocol: Protocol) -> Protocol:
    """The protocol with the mask on every layer but the last (scope ``all``)."""
    return replace(protocol, name=f"{protocol.name}, all layers", scope="all")


def train_sets(
    sets: Mapping[str, MaskDatabase],
    design: Design,
    protocol: Protocol,
    dataset: str,
    evaluator: Evaluator,
) -> pd.DataFrame:
    """Train each mask of each set from each seed; and the first masks of the first set under
    ``released``.

    Args:
        sets: from ``hidden``.
        design: how many seeds, and how many masks under ``released``.
        protocol, dataset, evaluator: as in ``train``.

    Returns:
        The rows of ``train`` with the name of the set in ``set``.
    """
    (name, masks), (few, seeds) = next(iter(sets.items())), design.released
    asked = [
        (
            of,
            one,
            (design.bernoulli if of.startswith("bernoulli") else design.structured)[1],
            protocol,
        )
        for of, one in sets.items()
    ]
    asked.append((name.replace("bernoulli", "released"), first(masks, few), seeds, RELEASED))
    trained = [
        train(one.masks(), count, how, dataset, evaluator).assign(set=of)
        for of, one, count, how in asked
    ]
    return pd.concat(trained, ignore_index=True)


def train(
    masks: Sequence[Mask] | Mask,
    seeds: int,
    protocol: Protocol,
    dataset: str,
    evaluator: Evaluator,
    first: int = 0,
) -> pd.DataFrame:
    """Train each mask from each seed.

    Args:
        masks: (N, n, n).
        seeds: trainings of each mask, from the seeds first, first + 1, ...
        protocol: how, and on which layers the masks lie.
        dataset: name of the data set.
        evaluator: looks up what is known and trains the rest.
        first: seed.

    Returns:
        One row a training, mask after mask: ``mask`` (its number), ``seed``, the accuracies,
        ``key``.
    """
    return train_layers(
        [layer_masks(mask, protocol.widths, protocol.masked_layers) for mask in masks],
        seeds,
        protocol,
        dataset,
        evaluator,
        first,
    )


def train_layers(
    masks: Sequence[LayerMasks],
    seeds: int,
    protocol: Protocol,
    dataset: str,
    evaluator: Evaluator,
    first: int = 0,
) -> pd.DataFrame:
    """As ``train``, with the masks of each layer given: what is no expanded graph can be trained as
    well.
    """
    recipes = [Recipe(one) for one in masks]
    numbers = range(first, first + seeds)
    rows = evaluator.evaluate(
        [Job(recipe, seed, protocol, dataset) for recipe in recipes for seed in numbers]
    )
    return pd.DataFrame(
        {
            "mask": np.repeat(np.arange(len(recipes)), seeds),
            "seed": np.tile(np.array(numbers), len(recipes)),
        }
    ).join(rows[["train_accuracy", *MEASURES, "key"]])


def table(
    trainings: pd.DataFrame, measure: str = "test_accuracy", of: str | None = None
) -> NDArray[np.float64]:
    """The accuracies as (masks, seeds), both in ascending order.

    Args:
        trainings: of one design, or with a column ``set``.
        measure: the accuracy.
        of: the set, where there are several.

    Raises:
        InvalidInput: some mask was not trained from some seed, or twice (of several designs).
    """
    rows = trainings if of is None else trainings[trainings["set"] == of]
    wide = rows.pivot_table(index="mask", columns="seed", values=measure, aggfunc="first")
    if wide.isna().any(axis=None) or wide.size != len(rows):
        raise InvalidInput(
            "A crossed design has each mask trained once from each seed; "
            "give the trainings of one design."
        )
    return wide.to_numpy()


def bernoulli(trainings: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """``table`` of each Bernoulli set of ``train_sets``."""
    return {
        name: table(trainings, of=name)
        for name in trainings["set"].unique()
        if name.startswith("bernoulli")
    }


def parts(trainings: pd.DataFrame, by: Sequence[str] = ("set",)) -> pd.DataFrame:
    """What of the test accuracy belongs to the mask, to the seed, and to neither, in each design.

    Args:
        trainings: from ``train_sets`` (or ``train``, with columns that name the design).
        by: columns that tell designs apart.

    Returns:
        Rows of those columns, ``n_masks``, ``n_seeds``, ``mean``, ``p`` (of no difference between
        masks), ``part`` with its ``value``, ``low`` and ``high`` (95 %), and for masks
        ``detectable``, the spread that this design would find with a power of 80 %. Parts are
        ``masks``, ``seeds``, ``residual`` (standard deviations), ``icc`` (the masks' share in the
        variance of one training) and ``ceiling`` (their share in that of a mean over the seeds).
    """
    rows = []
    for name, one in trainings.groupby(list(by), sort=False):
        found = components(table(one))
        labels = dict(zip(by, name, strict=True)) | {
            "n_masks": found.masks,
            "n_seeds": found.seeds,
            "mean": found.mean,
            "p": found.p,
        }
        named = {
            "masks": found.between_masks,
            "seeds": found.between_seeds,
            "residual": found.residual,
            "icc": found.icc,
            "ceiling": found.ceiling,
        }
        detectable = {"masks": detectable_spread(found.masks, found.seeds, found.residual.value)}
        rows += [
            labels | {"part": part} | vars(value) | {"detectable": detectable.get(part, np.nan)}
            for part, value in named.items()
        ]
    return pd.DataFrame(rows)


def spreads(trainings: pd.DataFrame, threshold: float = MARGIN) -> pd.DataFrame:
    """Whether the standard deviation between masks is above a threshold, for each set: the evidence
    of claim 2.

    Returns:
        Rows of ``case``, ``estimate``, ``low``, ``high`` (95 %), ``n`` (masks), ``p_for`` and
        ``p_against`` (above and below the threshold) and ``detectable``.
    """
    names = {"set": "case", "value": "estimate", "n_masks": "n"}
    found = parts(trainings).query("part == 'masks'").rename(columns=names).reset_index(drop=True)
    found[["p_for", "p_against"]] = [
        spread_p(table(one), threshold) for _, one in trainings.groupby("set", sort=False)
    ]
    return found[["case", "estimate", "low", "high", "n", "p_for", "p_against", "detectable"]]
