"""The defects of the released code, switched on: what each does to the number that is reported.

Each pipeline is notebook 03's search with one thing changed, so that its effect is a difference
between paired searches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp import search
from bogp.errors import InvalidInput
from bogp.graphs.database import MaskDatabase, Nearest, Scaling, nearest
from bogp.search.searchers import BoxSearch, LookUp, SearchSettings
from bogp.statistics import group_intervals
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol

ONE_MASK = 65  # the released notebook returned its mask no. 65 to every query
CORRECT = "none: as it should be"


def one_mask(
    queries: NDArray[np.float64], database: MaskDatabase, scaling: Scaling, metric: str
) -> Nearest:
    """The released notebook's look-up: it scores a global variable and not its argument, so each
    query gets the same mask.
    """
    return Nearest(
        np.full(len(queries), ONE_MASK % len(database)), np.full(len(queries), np.nan), 0
    )


def swapped_columns(
    queries: NDArray[np.float64], database: MaskDatabase, scaling: Scaling, metric: str
) -> Nearest:
    """The released scripts' look-up: three of the properties are looked up in each other's columns.

    Which three is not recorded; here the first three that vary, each in the next one's place, at
    the same share of its range.
    """
    order = np.arange(len(scaling.columns))
    order[:3] = np.roll(order[:3], 1)
    return nearest(scaling.inverse(scaling.transform(queries)[:, order]), database, scaling, metric)


@dataclass(frozen=True)
class Pipeline:
    """One way to get a reported number.

    Attributes:
        name: the defect.
        protocol: how networks are trained.
        look_up: how a query gets its mask.
    """

    name: str
    protocol: Protocol
    look_up: LookUp = nearest


def pipelines(protocol: Protocol) -> tuple[Pipeline, ...]:
    """The pipeline without defects, with each one alone, and with all that can stand together (with
    one mask, no columns are left to swap).
    """
    softmax, raw, reported = (
        {"loss": "softmax_cross_entropy"},
        {"input_scaling": "raw"},
        {"split": "reported"},
    )

    def changed(name: str, change: dict[str, str]) -> Protocol:
        return replace(protocol, name=f"{protocol.name}, {name}", **change)  # type: ignore[arg-type]

    return (
        Pipeline(CORRECT, protocol),
        Pipeline("one mask for every query", protocol, one_mask),
        Pipeline("columns swapped on look-up", protocol, swapped_columns),
        Pipeline("softmax twice", changed("softmax twice", softmax)),
        Pipeline("raw inputs", changed("raw inputs", raw)),
        Pipeline(
            "chosen on the reported images", changed("chosen on the reported images", reported)
        ),
        Pipeline(
            "all but the swapped columns", changed("released", softmax | raw | reported), one_mask
        ),
    )


def run(
    chosen: Sequence[Pipeline],
    database: MaskDatabase,
    settings: SearchSettings,
    searches: int,
    dataset: str,
    evaluator: Evaluator,
) -> pd.DataFrame:
    """Run each pipeline's searches and what it reports.

    Args:
        chosen: from ``pipelines``.
        database: masks of one sparsity.
        settings: of the searches.
        searches: of each pipeline, with the seeds 0, 1, ...
        dataset: name of the data set.
        evaluator: looks up what is known and trains the rest.

    Returns:
        One row a pipeline and search: ``defect``, ``search_seed``, ``mask_id`` that was chosen,
        ``distinct`` (masks the search visited), ``spread`` (standard deviation of what the
        optimiser saw), ``apparent`` (accuracy that the mask was chosen by), ``fresh_validation``
        and ``fresh_test`` (with a seed that chose nothing), ``reported`` (what this pipeline
        prints: the apparent accuracy where it is chosen on the reported images, else the fresh
        test).
    """
    found = []
    for pipeline in chosen:
        searchers = [
            BoxSearch(database, settings, seed, look_up=pipeline.look_up)
            for seed in range(searches)
        ]
        how = (database, evaluator, pipeline.protocol, dataset)
        history = search.run(searchers, *how)
        visited = history.groupby("search_seed", as_index=False).agg(
            distinct=("mask_id", "nunique"), spread=("objective", "std")
        )
        winners = search.retrain(search.recommend(history), *how, seeds=1)
        printed = "apparent" if pipeline.protocol.split == "reported" else "fresh_test"
        winners = winners.assign(defect=pipeline.name, reported=winners[printed])
        found.append(winners.merge(visited, on="search_seed"))
    columns = ["defect", "search_seed", "mask_id", "distinct", "spread"]
    columns += ["apparent", "fresh_validation", "fresh_test", "reported"]
    return pd.concat(found, ignore_index=True)[columns]


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """What each defect adds to the reported accuracy, paired by search.

    Returns:
        (searches, defects), in the order of ``run``.

    Raises:
        InvalidInput: some search was not run with each defect and without.
    """
    wide = rows.pivot(index="search_seed", columns="defect", values="reported")
    if CORRECT not in wide or wide.isna().any(axis=None):
        raise InvalidInput(
            "Each search is needed with each defect and without any; some is missing."
        )
    return wide[[name for name in rows["defect"].unique() if name != CORRECT]].sub(
        wide[CORRECT], axis=0
    )


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean of ``changes``: ``defect``, ``mean``, ``low``, ``high`` (95 % t interval), ``n``
    (searches).
    """
    return group_intervals(changes(rows).melt(var_name="defect"), ["defect"], "value")
