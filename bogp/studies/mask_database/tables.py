"""Tables of notebook 02: what properties span, which say the same, what look-ups reach."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bogp.graphs.database import METRICS, SCALINGS, MaskDatabase, fit_scaling, nearest
from bogp.graphs.properties import NINE, PAPER_FIVE, select_uncorrelated

_AT = "target_sparsity"


def correlations(table: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correlations between properties: over all masks, and within one sparsity.

    Args:
        table: of a database.
        columns: d properties.

    Returns:
        (d, d) matrices: over all masks of the table, and the mean of those of each sparsity.
    """
    names = list(columns)
    within = table.groupby(_AT)[names].corr().groupby(level=1).mean().loc[names, names]
    return table[names].corr(), within


def kept(matrices: dict[str, pd.DataFrame], threshold: float) -> pd.DataFrame:
    """Which of the paper's nine properties our rule keeps, and which the paper keeps.

    Args:
        matrices: of correlations, by name.
        threshold: absolute correlation from which two properties say the same.

    Returns:
        A row a property and a column a matrix, and ``paper``: ``kept`` or ``-``.
    """
    chosen = {name: select_uncorrelated(m, threshold) for name, m in matrices.items()}
    chosen["paper"] = list(PAPER_FIVE)
    return pd.DataFrame(
        {name: ["kept" if p in those else "-" for p in NINE] for name, those in chosen.items()},
        index=list(NINE),
    )


def closest_pair(matrix: pd.DataFrame) -> str:
    """The largest absolute correlation among the paper's five properties, in words."""
    five = list(PAPER_FIVE)
    pairs = matrix.loc[five, five].abs().where(np.triu(np.ones((5, 5), bool), 1)).stack()
    return f"{pairs.max():.2f}, between {' and '.join(sorted(pairs.idxmax()))}"


def reach(
    database: MaskDatabase,
    columns: Sequence[str],
    metric: str,
    scaling: str,
    queries: int,
    seed: int,
) -> dict[str, float]:
    """How much of a database Algorithm 2 can reach from queries drawn uniformly.

    Args:
        database: the masks.
        columns: the properties; their ranges span the box that queries are drawn from.
        metric, scaling: of ``database.nearest`` and ``database.fit_scaling``.
        queries: how many.
        seed: of the draw.

    Returns:
        ``reached`` (number of distinct masks), ``share`` of the database, and the mean
        ``similarity``.
    """
    fitted = fit_scaling(database, columns, scaling)
    values = database.values(fitted.columns)
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    points = np.random.default_rng(seed).uniform(low, high, (queries, values.shape[1]))
    found = nearest(points, database, fitted, metric)
    reached = len(np.unique(found.row))
    similarity = float(found.similarity.mean())
    return {"reached": reached, "share": reached / len(database), "similarity": similarity}


def reach_table(masks: MaskDatabase, queries: int, seed: int) -> pd.DataFrame:
    """``reach`` over the paper's five properties, for each sparsity, metric and scaling."""
    return pd.DataFrame(
        {_AT: s, "metric": m, "scaling": c} | reach(masks.at(s), PAPER_FIVE, m, c, queries, seed)
        for s in masks.spec.sparsities
        for m in METRICS
        for c in SCALINGS
    )


def answer(table: pd.DataFrame, kept: pd.DataFrame, reach: pd.DataFrame) -> str:
    """What notebook 02 found, in three sentences.

    Args:
        table: of the database.
        kept: from ``kept``, with the columns ``pooled`` and ``within``.
        reach: from ``reach_table``.
    """
    groups = table.groupby(_AT)[list(PAPER_FIVE)]
    spread = (groups.std() / groups.mean()).stack()
    count = {name: int((kept[name] == "kept").sum()) for name in ("pooled", "within")}
    shares = reach[(reach["metric"] == "cosine") & (reach["scaling"] == "minmax")]["share"]
    return (
        "Within one sparsity, the paper's five properties have standard deviations from "
        f"{spread.min():.2%} ({spread.idxmin()[1]}) to {spread.max():.0%} ({spread.idxmax()[1]}) "
        f"of their means. Of nine properties, {count['pooled']} say different things over all "
        f"sparsities, and {count['within']} within one. Queries drawn at random reach "
        f"{shares.min():.0%} to {shares.max():.0%} of the masks of a sparsity."
    )


def beside_the_paper(table: pd.DataFrame, kept: pd.DataFrame, reach: pd.DataFrame) -> pd.DataFrame:
    """What the paper says of its database beside ours; arguments as for ``answer``."""
    counts = table.groupby(_AT).size()
    at = 0.6 if 0.6 in counts.index else counts.index.max()
    clustering = table[table[_AT] == at]["clustering"]
    plain = reach[(reach["metric"] == "cosine") & (reach["scaling"] == "none") & (reach[_AT] == at)]
    pooled, within = ((kept[name] == "kept").sum() for name in ("pooled", "within"))
    lines = [
        ("1,000 masks for each sparsity", f"{counts.min()} for each of {len(counts)}"),
        (
            "nine properties, five kept as uncorrelated",
            f"our rule keeps {pooled} pooled, {within} within a sparsity",
        ),
        (
            "accuracy can vary with the property vector",
            f"at s = {at:g} clustering spans {clustering.min():.3f} to {clustering.max():.3f}",
        ),
        (
            "the nearest mask by cosine similarity",
            f"unscaled, the mean similarity of a random query is {plain['similarity'].iloc[0]:.4f}",
        ),
    ]
    return pd.DataFrame(lines, columns=["the paper says", "we got"])
