"""Tables of notebook 01: correlations, what speaks against a monotone function, and the verdict."""

from collections.abc import Sequence
from itertools import product

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
    rows, density = [], graphs["density"]
    for variant, column in product(VARIANTS, columns):
        x, y = graphs[column], accuracies(trainings, variant)
        means, labels = y.mean(axis=0), {"property": column, "variant": variant}
        raw, partial = mean_rank_correlation(x, y), mean_rank_correlation(x, y, density)
        of_means = rank_correlation(x, means), partial_rank_correlation(x, means, density)
        rows += [
            labels | {"kind": "raw"} | vars(raw) | {"of_means": of_means[0]},
            labels | {"kind": "partial"} | vars(partial) | {"of_means": of_means[1]},
        ]
    return pd.DataFrame(rows)


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
    found = {
        (column, variant): monotonicity(graphs[column], accuracies(trainings, variant))
        for variant, column in product(VARIANTS, columns)
    }
    return pd.DataFrame(
        {"property": column, "variant": variant} | vars(one) | {"rejected": one.rejected}
        for (column, variant), one in found.items()
    )


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
    strength = [
        np.array([rank_correlation(x, row) for row in y])
        * np.sign(rank_correlation(x, y.mean(axis=0)))
        for x in (graphs["density"], graphs[column])
    ]
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
    raw = raw_correlations(table, columns)
    judged = judgements[judgements["variant"] == "same"].set_index("property").loc[list(columns)]
    stands = ~(judged["rejected"].astype(bool) | (judged["tied_apart"] > 0))
    trend = (raw["low"] > 0) | (raw["high"] < 0)
    if (trend & stands).sum() >= 2:
        return "supported"
    return "contradicted" if stands.sum() < 2 else "undecided"


def raw_correlations(
    table: pd.DataFrame, columns: Sequence[str] = tuple(FIGURES_5_TO_7)
) -> pd.DataFrame:
    """The rows of ``correlations`` at equal width, nothing held fixed, by property."""
    raw = table[(table["variant"] == "same") & (table["kind"] == "raw")]
    return raw.set_index("property").loc[list(columns)]


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
    return (
        '"Performance is a monotonic function of multiple properties": '
        f"{verdict(table, judgements)}.\n{answer(table, judgements)}"
    )


def beside_the_paper(
    graphs: pd.DataFrame, trainings: pd.DataFrame, table: pd.DataFrame, judgements: pd.DataFrame
) -> pd.DataFrame:
    """The conclusions in words and numbers, one row a property of Figures 5 to 7, and density.

    Args:
        graphs, trainings: from ``measure.describe`` and ``measure.train``.
        table, judgements: from ``correlations`` and ``monotone``.

    Returns:
        ``property``; ``the paper says``; mean correlations over seeds with their intervals: raw,
        given density, and raw at matched width; those of the accuracies' means over seeds, which
        have no interval, in this order; ``monotone?``, with the pairs that contradict it; ``one
        value, one accuracy?``, with the pairs of graphs that have the same value and differ;
        ``density minus property``.
    """
    found = table.set_index(["property", "variant", "kind"])
    judged = judgements[judgements["variant"] == "same"].set_index("property")

    def correlation(*of: str) -> str:
        return with_interval(found.loc[of], "+.2f")

    def of_means(column: str) -> str:
        cells = [("same", "raw"), ("same", "partial"), ("matched", "raw")]
        values = [found.loc[(column, *cell), "of_means"] for cell in cells]
        return ", ".join("undefined" if np.isnan(value) else f"{value:+.2f}" for value in values)

    def refuted(rejected: bool, pairs: int, of: int, do: str) -> str:
        return f"{_REJECTED[bool(rejected)]} ({pairs} of {of} pairs {do})"

    def margin(column: str) -> str:
        return with_interval(vars(density_margin(graphs, trainings, column)), "+.2f")

    rows = []
    for column in (*FIGURES_5_TO_7, "density"):
        one, figure = judged.loc[column], FIGURES_5_TO_7.get(column)
        apart = one["tied_apart"]
        rows.append(
            {
                "property": column,
                "the paper says": f"monotone ({figure})" if figure else "-",
                "correlation": correlation(column, "same", "raw"),
                "given density": correlation(column, "same", "partial"),
                "at matched width": correlation(column, "matched", "raw"),
                "the three, of seed means": of_means(column),
                "monotone?": refuted(
                    one["rejected"], one["contradicting"], one["pairs"], "against"
                ),
                "one value, one accuracy?": refuted(apart, apart, one["tied_pairs"], "differ"),
                "density minus property": margin(column) if figure else "-",
            }
        )
    return pd.DataFrame(rows)
