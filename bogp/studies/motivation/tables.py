"""Tables of notebook 01: correlations, what speaks against a monotone function, and the verdict."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp.outputs import with_interval
from bogp.statistics import (
    Interval,
    mean_rank_correlation,
    monotonicity,
    paired_difference,
    partial_rank_correlation,
    rank_correlation,
)
from bogp.studies.motivation.measure import COLUMNS, FIGURES_5_TO_7, VARIANTS

_REJECTED = {True: "rejected", False: "not rejected"}


def accuracies(trainings: pd.DataFrame, variant: str) -> NDArray[np.float64]:
    """Test accuracies of one variant, (seeds, graphs), both in ascending order."""
    one = trainings[trainings["variant"] == variant]
    return one.pivot(index="seed", columns="graph", values="test_accuracy").to_numpy()


def correlations(
    graphs: pd.DataFrame, trainings: pd.DataFrame, columns: Sequence[str] = COLUMNS
) -> pd.DataFrame:
    """Spearman's correlation of each property with test accuracy, raw and given density, in both
    variants.

    Args:
        graphs: from ``describe``.
        trainings: from ``train``.
        columns: the properties, columns of ``graphs``.

    Returns:
        Rows of ``property``, ``variant``, ``kind`` (``raw`` or ``partial``, given density),
        ``mean`` over seeds with ``low`` and ``high`` (95 % t interval over ``n`` seeds), and
        ``of_means``, the coefficient of the mean accuracies. NaN where it is undefined: the
        property is constant, or for ``partial`` in the order of density itself.
    """
    rows = []
    density = graphs["density"]
    for variant in VARIANTS:
        y = accuracies(trainings, variant)
        means = y.mean(axis=0)
        for column in columns:
            x = graphs[column]
            raw, partial = mean_rank_correlation(x, y), mean_rank_correlation(x, y, density)
            of_means = {
                "raw": rank_correlation(x, means),
                "partial": partial_rank_correlation(x, means, density),
            }
            for kind, found in (("raw", raw), ("partial", partial)):
                rows.append(
                    (
                        column,
                        variant,
                        kind,
                        found.mean,
                        found.low,
                        found.high,
                        found.n,
                        of_means[kind],
                    )
                )
    return pd.DataFrame(
        rows, columns=["property", "variant", "kind", "mean", "low", "high", "n", "of_means"]
    )


def monotone(
    graphs: pd.DataFrame, trainings: pd.DataFrame, columns: Sequence[str] = COLUMNS
) -> pd.DataFrame:
    """Whether test accuracy is a monotone function of each property: ``statistics.monotonicity``,
    one row a property and variant.

    Args:
        graphs: from ``describe``.
        trainings: from ``train``.
        columns: the properties, columns of ``graphs``.

    Returns:
        ``property``, ``variant``, the attributes of ``Monotonicity``, and ``rejected``.
    """
    rows = []
    for variant in VARIANTS:
        y = accuracies(trainings, variant)
        for column in columns:
            found = monotonicity(graphs[column], y)
            rows.append(
                {"property": column, "variant": variant}
                | vars(found)
                | {"rejected": found.rejected}
            )
    return pd.DataFrame(rows)


def density_margin(
    graphs: pd.DataFrame, trainings: pd.DataFrame, column: str, variant: str = "same"
) -> Interval:
    """How much stronger density orders accuracy than a property does: difference of the two
    correlations, each taken positive along its direction.

    Args:
        graphs: from ``describe``.
        trainings: from ``train``.
        column: the property.
        variant: ``same`` or ``matched``.

    Returns:
        Mean over seeds of the paired difference with its 95 % t interval; above zero, density is
        the stronger. NaN with n = 0 where undefined.
    """
    y = accuracies(trainings, variant)
    strength = []
    for x in (graphs["density"], graphs[column]):
        rho = np.array([rank_correlation(x, row) for row in y])
        strength.append(rho * np.sign(rank_correlation(x, y.mean(axis=0))))
    if not np.isfinite(strength).all():
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    return paired_difference(*strength)


def verdict(
    table: pd.DataFrame, judgements: pd.DataFrame, columns: Sequence[str] = tuple(FIGURES_5_TO_7)
) -> str:
    """The verdict on "performance is a monotonic function of multiple properties" (paper section
    3), by a rule fixed beforehand.

    At equal width, a property *supports* the claim if the interval of its raw correlation leaves
    zero out, a monotone relation is not rejected, and no two graphs of the same value differ
    significantly (accuracy would then be no function of the property at all). Two that support it
    are enough for ``supported``. If fewer than two are left that neither of the two counts against,
    the claim is ``contradicted``. Anything else is ``undecided``.

    Args:
        table: from ``correlations``.
        judgements: from ``monotone``.
        columns: the properties that the claim is about.

    Returns:
        ``supported``, ``contradicted`` or ``undecided``.
    """
    raw = (
        table[(table["variant"] == "same") & (table["kind"] == "raw")]
        .set_index("property")
        .loc[list(columns)]
    )
    judged = judgements[judgements["variant"] == "same"].set_index("property").loc[list(columns)]
    rejected = judged["rejected"].astype(bool) | (judged["tied_apart"] > 0)
    trend = (raw["low"] > 0) | (raw["high"] < 0)
    if (trend & ~rejected).sum() >= 2:
        return "supported"
    return "contradicted" if (~rejected).sum() < 2 else "undecided"


def answer(table: pd.DataFrame, judgements: pd.DataFrame) -> str:
    """What is left of the paper's claim, in two sentences.

    Args:
        table: from ``correlations``.
        judgements: from ``monotone``.

    Returns:
        Text; each list of properties in it is computed from the tables.
    """
    columns = list(FIGURES_5_TO_7)
    judged = judgements[judgements["variant"] == "same"].set_index("property").loc[columns]
    clear = table[(table["low"] > 0) | (table["high"] < 0)].set_index(["variant", "kind"])

    def those(variant: str, kind: str) -> str:
        found = clear["property"][clear.index == (variant, kind)]
        return ", ".join(found[found.isin(columns)]) or "none"

    def rejected(by: pd.Series) -> str:
        return ", ".join(judged.index[by]) or "none"

    return (
        f"Correlation clearly not zero, at equal width: {those('same', 'raw')}; given density: "
        f"{those('same', 'partial')}; with equally many weights: {those('matched', 'raw')}.\n"
        f"A monotone function is rejected for: {rejected(judged['rejected'].astype(bool))}; a "
        f"function of any shape for: {rejected(judged['tied_apart'] > 0)}."
    )


def conclusion(table: pd.DataFrame, judgements: pd.DataFrame) -> str:
    """The verdict on the paper's claim, and ``answer``; arguments as there."""
    claim = '"Performance is a monotonic function of multiple properties"'
    return f"{claim}: {verdict(table, judgements)}.\n{answer(table, judgements)}"


def beside_the_paper(
    graphs: pd.DataFrame, trainings: pd.DataFrame, table: pd.DataFrame, judgements: pd.DataFrame
) -> pd.DataFrame:
    """The conclusions in words and numbers, one row a property of Figures 5 to 7, and density.

    Args:
        graphs, trainings: from ``measure.describe`` and ``measure.train``.
        table, judgements: from ``correlations`` and ``monotone``.

    Returns:
        ``property``; ``the paper says``; mean correlations with their intervals: raw, given
        density, and raw at matched width; ``monotone?``, with the pairs that contradict it; ``one
        value, one accuracy?``, with the pairs of graphs that have the same value and differ;
        ``density minus property``.
    """
    found = table.set_index(["property", "variant", "kind"])
    judged = judgements[judgements["variant"] == "same"].set_index("property")

    def correlation(*of: str) -> str:
        return with_interval(found.loc[of], "+.2f")

    def refuted(pairs: int, of: int, do: str) -> str:
        return f"({pairs} of {of} pairs {do})"

    rows = []
    for column in (*FIGURES_5_TO_7, "density"):
        one, figure = judged.loc[column], FIGURES_5_TO_7.get(column)
        against = refuted(one["contradicting"], one["pairs"], "against")
        apart = refuted(one["tied_apart"], one["tied_pairs"], "differ")
        margin = "-"
        if figure:
            margin = with_interval(vars(density_margin(graphs, trainings, column)), "+.2f")
        rows.append(
            {
                "property": column,
                "the paper says": f"monotone ({figure})" if figure else "-",
                "correlation": correlation(column, "same", "raw"),
                "given density": correlation(column, "same", "partial"),
                "at matched width": correlation(column, "matched", "raw"),
                "monotone?": f"{_REJECTED[bool(one['rejected'])]} {against}",
                "one value, one accuracy?": f"{_REJECTED[bool(one['tied_apart'])]} {apart}",
                "density minus property": margin,
            }
        )
    return pd.DataFrame(rows)
