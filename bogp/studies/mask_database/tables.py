"""Tables of notebook 02."""

from collections.abc import Sequence

import numpy as np

from bogp.graphs.database import MaskDatabase, fit_scaling, nearest


def reach(database: MaskDatabase, columns: Sequence[str], metric: str, scaling: str, queries: int, seed: int) -> dict[str, float]:
    """How much of a database Algorithm 2 can reach: queries drawn uniformly in the box of property ranges, then the nearest mask.

    Args:
        database: the masks.
        columns: the properties that span the box.
        metric, scaling: of ``database.nearest`` and ``database.fit_scaling``.
        queries: how many.
        seed: of the draw.

    Returns:
        ``reached`` (number of distinct masks), ``share`` of the database, and the mean ``similarity``.
    """
    fitted = fit_scaling(database, columns, scaling)
    values = database.values(fitted.columns)
    points = np.random.default_rng(seed).uniform(np.nanmin(values, axis=0), np.nanmax(values, axis=0), (queries, values.shape[1]))
    found = nearest(points, database, fitted, metric)
    reached = len(np.unique(found.row))
    return {"reached": reached, "share": reached / len(database), "similarity": float(found.similarity.mean())}
