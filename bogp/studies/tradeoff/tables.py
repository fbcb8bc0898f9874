"""Table 2: the masks that Algorithm 4 chose beside the paper's numbers, and whether the paper's two tables can both be true."""

from typing import Any

import numpy as np
import pandas as pd

from bogp.graphs.relational import layer_masks, model_sparsity
from bogp.statistics import mean_interval, paired_difference
from bogp.studies.printed import PAPER_BOGP, PAPER_TABLE_2
from bogp.studies.tradeoff.measure import trade_offs
from bogp.training.protocols import LITERAL, PAPER

_HALF_DIGIT = {"Table 1": 0.0005, "Table 2": 0.005}  # how far a printed accuracy can be from the true one
MEASURES = {  # of a chosen mask, and which column of the paper's Table 2 stands beside it
    "apparent": 0, "fresh_validation": 0, "fresh_test": 0, "sparsity": 1, "model_sparsity": None, "effective_sparsity": None,
    "fresh_objective": None,
}  # fmt: skip


def summary(chosen: pd.DataFrame) -> pd.DataFrame:
    """Table 2: each measure of the chosen masks with its 95 % t interval over searches, beside the paper's number.

    Args:
        chosen: from ``tradeoff.chosen_masks``.

    Returns:
        Long form: ``alpha``, ``form``, ``method`` (``bogp``, ``random`` and their paired difference ``bogp - random``), ``measure`` (a key of
        ``MEASURES``), ``mean``, ``low``, ``high``, ``n`` (searches), ``paper`` (NaN where the paper has none). With one search low and high are NaN.
    """
    rows = []
    for (alpha, form), group in chosen.groupby(["alpha", "form"]):
        printed = PAPER_TABLE_2.get(round(float(alpha), 9))
        by = {method: one.set_index("search_seed").sort_index() for method, one in group.groupby("method")}
        for measure, column in MEASURES.items():
            intervals = {method: mean_interval(one[measure]) for method, one in by.items()}
            intervals["bogp - random"] = paired_difference(by["bogp"][measure], by["random"][measure])
            for method, i in intervals.items():
                paper = printed[column] if printed and column is not None and method == "bogp" else np.nan
                rows.append((alpha, form, method, measure, i.mean, i.low, i.high, i.n, paper))
    return pd.DataFrame(rows, columns=["alpha", "form", "method", "measure", "mean", "low", "high", "n", "paper"])


def rendered(table: pd.DataFrame) -> pd.DataFrame:
    """``summary`` as the paper prints it, a row an alpha and form: accuracy (test, fresh seeds) and sparsity of the mask as text, the paper's first."""
    rows = []
    for (alpha, form), one in table.groupby(["alpha", "form"]):
        cells = one.set_index(["measure", "method"])
        row = {"alpha": f"{alpha:g}", "objective": form}
        for measure, label in (("fresh_test", "accuracy"), ("sparsity", "sparsity")):
            paper = cells["paper"][measure, "bogp"]
            row[f"paper, {label}"] = "-" if np.isnan(paper) else f"{paper:.2f}"
            for method, name in (("bogp", "BoGP"), ("random", "random masks")):
                mean, low, high = cells.loc[(measure, method), ["mean", "low", "high"]]
                row[f"{name}, {label}"] = f"{mean:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")
        rows.append(row)
    return pd.DataFrame(rows)


def tables_compared() -> pd.DataFrame:
    """Each row of the paper's Table 2 against the best that the paper's own numbers offer under the same objective; nothing is trained.

    Three readings of "sparsity": of the mask; of the whole model when the mask sits on the hidden matrix of 784-128-128-10; of the whole model
    when it is laid over the first layer of 784-128-10. Table 1 is taken as sparsity of the mask, and converted.

    Returns:
        One row a reading, form, alpha and ``against`` (``Table 1``, the BoGP row; ``Table 2``, its rows at all alphas): ``accuracy`` and ``sparsity`` as
        printed, their ``objective``; ``best_accuracy``, ``best_sparsity``, ``best_objective`` of the other table; ``beaten_by``, the difference;
        ``rounding``, how far the digits left out could move it; ``beaten`` by more than that; ``largest_sparsity`` that the reading allows, and
        ``possible``: whether the printed sparsity does not exceed it.
    """
    rows = []
    for reading, largest in _readings().items():
        tables = {
            "Table 1": (np.array(list(PAPER_BOGP.values())), largest * np.array(list(PAPER_BOGP))),
            "Table 2": tuple(np.array(list(PAPER_TABLE_2.values())).T),
        }
        for objective in trade_offs(list(PAPER_TABLE_2)):
            accuracy, sparsity = PAPER_TABLE_2[objective.alpha]
            own = float(objective.score(accuracy, sparsity))
            for against, (a, s) in tables.items():
                scores = objective.score(a, s)
                best = int(scores.argmax())
                slack = _HALF_DIGIT["Table 2"]
                rounding = objective.score(slack, slack) + objective.score(_HALF_DIGIT[against], slack if against == "Table 2" else 0.0)
                beaten_by = scores[best] - own
                rows.append((reading, objective.form, objective.alpha, accuracy, sparsity, own, against, a[best], s[best], scores[best], beaten_by,
                             float(rounding), beaten_by > rounding, largest, sparsity <= largest))  # fmt: skip
    names = ["reading", "form", "alpha", "accuracy", "sparsity", "objective", "against", "best_accuracy", "best_sparsity", "best_objective",
             "beaten_by", "rounding", "beaten", "largest_sparsity", "possible"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def _readings() -> dict[str, float]:
    """The largest sparsity that a mask can have, in each reading of the word."""
    readings = {"mask": 1.0}
    for protocol in (PAPER, LITERAL):
        nothing = layer_masks(np.zeros((protocol.widths[1], protocol.widths[1]), dtype=bool), protocol.widths, protocol.masked_layers)
        readings[f"model {'-'.join(str(w) for w in protocol.widths)}"] = model_sparsity(nothing, protocol.widths)
    return readings


def disagreement(compared: pd.DataFrame) -> pd.DataFrame:
    """``tables_compared`` summed up: for each reading and form, how many rows of Table 2 are beaten, by what, and how many are possible at all."""
    rows = []
    for (reading, form), one in compared.groupby(["reading", "form"], sort=False):
        row: dict[str, Any] = {"sparsity of the": reading, "objective": form}
        for against, some in one.groupby("against"):
            by = some.loc[some["beaten"], "beaten_by"]
            amount = f", by {by.min():.3f} to {by.max():.3f}" if len(by) else ""
            row[f"rows beaten by {against}"] = f"{len(by)} of {len(some)}{amount}"
        some = one[one["against"] == "Table 1"]
        row["rows with a possible sparsity"] = f"{some['possible'].sum()} of {len(some)} (largest {some['largest_sparsity'].iloc[0]:.3f})"
        rows.append(row)
    return pd.DataFrame(rows)


def can_both_be_true(compared: pd.DataFrame) -> str:
    """Whether the paper's two tables can both be what they are said to be, a sentence for each reading and form; from ``tables_compared``.

    If both come from the same system, each row of Table 2 is the maximum of its objective over the masks that there are, so it cannot be beaten.
    """
    lines = []
    for (reading, form), one in compared.groupby(["reading", "form"], sort=False):
        rows, beaten = one["alpha"].nunique(), {against: int(some["beaten"].sum()) for against, some in one.groupby("against")}
        impossible = rows - int(one[one["against"] == "Table 1"]["possible"].sum())
        by = {"Table 1": "a row of Table 1", "Table 2": "another row of it"}
        why = [f"{n} of {rows} rows of Table 2 are beaten by {by[against]}" for against, n in beaten.items() if n]
        why += [f"{impossible} of {rows} have a sparsity that no mask reaches"] if impossible else []
        lines.append(f"sparsity of the {reading}, objective {form}: {'no, ' + ', '.join(why) if why else 'nothing speaks against it'}")
    return "Can both tables be true?\n" + "\n".join(lines)


def printed_beside_measured(reference: pd.DataFrame) -> pd.DataFrame:
    """At each sparsity of the paper's Table 2, the printed accuracy and the measured one, linear between reference masks (NaN outside them).

    Args:
        reference: from ``tradeoff.reference_curve``.

    Returns:
        ``alpha``, ``sparsity``, ``printed``, and a column a protocol.
    """
    table = pd.DataFrame([(alpha, s, a) for alpha, (a, s) in PAPER_TABLE_2.items()], columns=["alpha", "sparsity", "printed"])
    for protocol, one in reference.groupby("protocol", sort=False):
        one = one.sort_values("sparsity")
        table[protocol] = np.interp(table["sparsity"], one["sparsity"], one["validation_accuracy"], left=np.nan, right=np.nan)
    return table
