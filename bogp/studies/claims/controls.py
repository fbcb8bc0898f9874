"""Controls of the replayed searches: slopes of all signs, which a search that works must climb, and
how many masks a look-up can return at all.

The search asks for property values, and gets the mask whose vector lies in the nearest direction
(cosine, as printed) or at the smallest distance (L2). Where most directions lead to the same few
masks, a search sees little else.
"""

from collections.abc import Mapping, Sequence
from itertools import islice, product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.graphs.database import METRICS, MaskDatabase, nearest
from bogp.records import kept
from bogp.search.searchers import SearchSettings, box, unit_values
from bogp.statistics import mean_interval
from bogp.studies.claims import crossed, replay
from bogp.studies.claims.designs import search_of
from bogp.variance import components


def slopes(
    sets: Mapping[str, MaskDatabase],
    trainings: pd.DataFrame,
    patterns: int,
    budget: int,
    repeats: int,
    folder: Path,
) -> pd.DataFrame:
    """The positive control: searches on planted slopes of all signs, at each sparsity.

    On a slope accuracy is a sum of standardised properties, each with a sign; d properties have 2^d
    patterns of signs. Spread and noise are as in ``replay.on_tables``, from the trainings of that
    sparsity.

    Args:
        sets, trainings: as in ``replay.on_tables``.
        patterns: how many of them, the first ones; those that there are, at most.
        budget: evaluations of a search.
        repeats: searches on each slope.
        folder: where they are kept, a file a sparsity and method.

    Returns:
        The rows of ``replay.replay`` for ``box``, ``box_l2`` and ``random``, by the best observed
        mask, with ``table`` (such as ``s = 0.60``) and ``signs`` (such as ``++-+-``); ``searched``
        says which of the two box searches a row of ``random`` belongs to.
    """
    settings, found = search_of(budget), []
    for name, masks in sets.items():
        if name.startswith("bernoulli"):
            measured, title = crossed.table(trainings, of=name), name.split(", ")[1]
            noise, seeds = components(measured).residual.value, measured.shape[1]
            how = (masks, settings.columns, 2 * noise, noise, seeds)
            d = unit_values(masks, settings.columns).shape[1]
            planted_by = {
                "".join("-+"[sign > 0] for sign in signs): replay.planted(*how, k, "slope", signs)
                for k, signs in enumerate(islice(product((1, -1), repeat=d), patterns))
            }
            for method in ("box", "box_l2"):
                path = folder / f"slopes_{title.replace(' = ', '')}_{method}.csv"
                one = _on_slopes(path, planted_by, masks, settings, repeats, (method, "random"))
                found.append(one.assign(table=title, searched=method))
    return pd.concat(found, ignore_index=True)


def _on_slopes(
    path: Path,
    tables: Mapping[str, NDArray[np.float64]],
    database: MaskDatabase,
    settings: SearchSettings,
    repeats: int,
    methods: Sequence[str],
) -> pd.DataFrame:
    """``replay.replay`` on each table, with its name in ``signs``, kept in one CSV."""
    every = np.stack(list(tables.values()))
    parameters = replay.parameters_of(every, database, settings, repeats, methods)

    def make() -> pd.DataFrame:
        parts = [
            replay.replay(
                table, database, settings, repeats, methods, recommenders=replay.RECOMMENDERS[:1]
            ).assign(signs=signs)
            for signs, table in tables.items()
        ]
        return pd.concat(parts, ignore_index=True)

    return kept(path, parameters | {"signs": list(tables)}, make)


def slope_advantages(found: pd.DataFrame) -> pd.DataFrame:
    """``replay.against`` random search on each slope.

    Args:
        found: from ``slopes``.

    Returns:
        A row of ``replay.against`` for each ``table``, ``signs`` and ``searched``.
    """
    by = ["table", "searched", "signs"]
    parts = [
        replay.against(one, method, "random", by)
        for method, one in found.groupby("searched", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def slope_summary(advantages: pd.DataFrame) -> pd.DataFrame:
    """On how many slopes a search beats chance, and by how much.

    Args:
        advantages: from ``slope_advantages``.

    Returns:
        A row a ``table`` and ``method``: ``slopes`` (their number), ``won`` and ``lost`` (those on
        which the 95 % interval over searches lies above and below 0), ``advantage`` with ``low``
        and ``high`` (mean over slopes with its 95 % t interval), ``smallest`` and ``largest`` of
        the slopes' advantages.
    """
    rows = []
    for (table, method), one in advantages.groupby(["table", "method"], sort=False):
        mean = mean_interval(one["advantage"])
        rows.append(
            {"table": table, "method": method, "slopes": len(one)}
            | {"won": int((one["low"] > 0).sum()), "lost": int((one["high"] < 0).sum())}
            | {"advantage": mean.mean, "low": mean.low, "high": mean.high}
            | {"smallest": one["advantage"].min(), "largest": one["advantage"].max()}
        )
    return pd.DataFrame(rows)


def concentration(
    sets: Mapping[str, MaskDatabase], queries: int = 5000, top: int = 10
) -> pd.DataFrame:
    """How many of the queries of a box come to the same few masks.

    Args:
        sets: as in ``replay.on_tables``; the Bernoulli masks count.
        queries: points drawn uniformly in the box of property ranges.
        top: masks that are called few.

    Returns:
        A row a ``table`` and ``metric``: ``distinct``, the number of masks that some query returns,
        and ``top``, the share of queries that return one of the masks returned most often.
    """
    rows = []
    for name, masks in sets.items():
        for metric in METRICS if name.startswith("bernoulli") else ():
            space = box(masks, SearchSettings(metric=metric))
            values = space.scaling.inverse(space.draw(queries, 0))
            found = nearest(values, masks, space.scaling, metric).row
            counts = np.sort(np.bincount(found, minlength=len(masks)))[::-1]
            rows.append(
                {"table": name.split(", ")[1], "metric": metric}
                | {"distinct": int((counts > 0).sum()), "top": counts[:top].sum() / queries}
            )
    return pd.DataFrame(rows)
