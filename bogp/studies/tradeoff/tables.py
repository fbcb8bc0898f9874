"""Table 2: the masks that Algorithm 4 chose beside the paper's numbers, and whether the paper's two
tables can both be true.
"""

from itertools import product

import numpy as np
import pandas as pd

from bogp.graphs.relational import layer_masks, model_sparsity
from bogp.outputs import with_interval
from bogp.studies.fixed_sparsity.tables import with_difference
from bogp.studies.printed import PAPER_BOGP, PAPER_TABLE_2
from bogp.studies.tradeoff.measure import trade_offs
from bogp.training.protocols import LITERAL, PAPER, Protocol

# the paper's accuracy stands beside each
ACCURACIES = ("apparent", "fresh_validation", "fresh_test")
MEASURES = (*ACCURACIES, "sparsity", "model_sparsity", "effective_sparsity", "fresh_objective")


def summary(chosen: pd.DataFrame) -> pd.DataFrame:
    """Table 2: each measure of the chosen masks with its 95 % t interval over searches, beside the
    paper's number.

    Args:
        chosen: from ``tradeoff.chosen_masks``.

    Returns:
        Long form: ``alpha``, ``form``, ``method`` (``bogp``, ``random`` and their paired difference
        ``bogp - random``), ``measure`` (one of ``MEASURES``), ``mean``, ``low``, ``high``, ``n``
        (searches), ``masks`` (different ones that they chose; NaN for the difference), ``paper``
        (NaN where the paper has none). With one search low and high are NaN. Where all searches
        chose one mask, an interval over searches says nothing of other masks.
    """
    parts = []
    for (alpha, form), group in chosen.groupby(["alpha", "form"]):
        part = with_difference(group, MEASURES)
        accuracy, sparsity = PAPER_TABLE_2.get(round(float(alpha), 9), (np.nan, np.nan))
        printed = part["measure"].map(dict.fromkeys(ACCURACIES, accuracy) | {"sparsity": sparsity})
        printed = printed.where(part["method"] == "bogp")
        masks = part["method"].map(group.groupby("method")["mask_id"].nunique())
        parts.append(part.assign(alpha=alpha, form=form, masks=masks, paper=printed))
    columns = ["alpha", "form", "method", "measure", "mean", "low", "high", "n", "masks", "paper"]
    return pd.concat(parts, ignore_index=True)[columns]


def rendered(table: pd.DataFrame) -> pd.DataFrame:
    """``summary`` as the paper prints it, a row an alpha and form, the paper's numbers first.

    Returns:
        Texts: accuracy (test, fresh seeds) and sparsity of the mask, with 95 % t intervals, and the
        number of different masks that BoGP's searches chose. Where that is one, no interval.
    """
    rows = []
    for (alpha, form), one in table.groupby(["alpha", "form"]):
        cells = one.set_index(["measure", "method"])
        masks = cells["masks"]["fresh_test", "bogp"]
        row = {"alpha": f"{alpha:g}", "objective": form, "masks chosen": f"{masks:.0f}"}
        for measure, label in (("fresh_test", "accuracy"), ("sparsity", "sparsity")):
            row |= {
                f"paper, {label}": _printed(cells["paper"][measure, "bogp"]),
                f"BoGP, {label}": _over_searches(cells.loc[(measure, "bogp")]),
                f"random masks, {label}": _over_searches(cells.loc[(measure, "random")]),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def beside_the_paper(table: pd.DataFrame) -> pd.DataFrame:
    """``summary`` of the paper's objective, ``sum``, beside what the paper prints."""
    labels = {
        ("fresh_test", "bogp"): "accuracy of BoGP's masks",
        ("sparsity", "bogp"): "sparsity of BoGP's masks",
        ("fresh_objective", "bogp - random"): "objective, BoGP minus random masks",
    }
    cells = table[table["form"] == "sum"].set_index(["alpha", "measure", "method"])
    rows = [
        (
            f"alpha {alpha:g}: {label}",
            _printed(cells["paper"][alpha, *key]),
            f"{_over_searches(cells.loc[alpha, *key])} (n = {cells['n'][alpha, *key]:.0f})",
        )
        for alpha in cells.index.levels[0]
        for key, label in labels.items()
    ]
    return pd.DataFrame(rows, columns=["quantity", "the paper says", "we got"])


def answer(table: pd.DataFrame, ranges: pd.DataFrame, compared: pd.DataFrame) -> str:
    """What notebook 04 found, in three sentences, for the paper's objective.

    Args:
        table: from ``summary``.
        ranges: from ``pareto.curve_ranges``.
        compared: from ``tables_compared``.
    """
    mine = (table["form"] == "sum") & (table["method"] == "bogp") & (table["measure"] == "sparsity")
    rows = [f"{r.mean:.2f} at alpha {r.alpha:g}" for r in table[mine].itertuples()]
    front = ranges[(ranges["curve"] == "front") & (ranges["form"] == "sum")]
    end = front[front["asks_for"] == "the sparsest"]["lowest"].min()
    same = (compared["reading"] == "mask") & (compared["form"] == "sum")
    beaten = compared[same & (compared["against"] == "Table 1")]["beaten"]
    asks = "no alpha asks" if np.isnan(end) else f"from alpha {end:.3f} on the objective asks"
    return (
        f"BoGP chose masks with a mean sparsity of {', '.join(rows)}. On the front of all masks, "
        f"{asks} for the sparsest one, which needs no search. And by the paper's own objective, "
        f"{beaten.sum()} of {len(beaten)} rows of its Table 2 are beaten by a row of its Table 1."
    )


def _over_searches(row: pd.Series) -> str:
    """A mean with its interval; without, where all searches chose one mask."""
    if row["masks"] == 1 < row["n"]:
        return f"{row['mean']:.3f} (one mask)"
    return with_interval(row, ".3f")


def _printed(number: float) -> str:
    return "-" if np.isnan(number) else f"{number:.2f}"


def tables_compared() -> pd.DataFrame:
    """Each row of the paper's Table 2 against the best that the paper's own numbers offer under the
    same objective; nothing is trained.

    Three readings of "sparsity": of the mask; of the whole model when the mask sits on the hidden
    matrix of 784-128-128-10; of the whole model when it is laid over the first layer of 784-128-10.
    Table 1 is taken as sparsity of the mask, and converted.

    Returns:
        One row a reading, form, alpha and ``against`` (``Table 1``, the BoGP row; ``Table 2``, its
        rows at all alphas): ``accuracy`` and ``sparsity`` as printed, their ``objective``;
        ``best_accuracy``, ``best_sparsity``, ``best_objective`` of the other table; ``beaten_by``,
        the difference; ``rounding``, how far the digits left out could move it; ``beaten`` by more
        than that; ``largest_sparsity`` that the reading allows, and ``possible``: whether the
        printed sparsity does not exceed it.
    """
    rows = []
    # accuracies, sparsities of the mask, and how far the digits left out can move each
    printed = {
        "Table 1": (np.array(list(PAPER_BOGP.values())), np.array(list(PAPER_BOGP)), 0.0005, 0.0),
        "Table 2": (*np.array(list(PAPER_TABLE_2.values())).T, 0.005, 0.005),
    }
    for (reading, largest), objective, (against, (a, s, *digits)) in product(
        _readings().items(), trade_offs(list(PAPER_TABLE_2)), printed.items()
    ):
        accuracy, sparsity = PAPER_TABLE_2[objective.alpha]
        s = largest * s if against == "Table 1" else s
        own, scores = float(objective.score(accuracy, sparsity)), objective.score(a, s)
        best = int(scores.argmax())
        rows.append(
            {
                "reading": reading,
                "form": objective.form,
                "alpha": objective.alpha,
                "accuracy": accuracy,
                "sparsity": sparsity,
                "objective": own,
                "against": against,
                "best_accuracy": a[best],
                "best_sparsity": s[best],
                "best_objective": scores[best],
                "beaten_by": scores[best] - own,
                "rounding": float(objective.score(0.005, 0.005) + objective.score(*digits)),
                "largest_sparsity": largest,
                "possible": sparsity <= largest,
            }
        )
    table = pd.DataFrame(rows)
    table.insert(12, "beaten", table["beaten_by"] > table["rounding"])
    return table


def _readings() -> dict[str, float]:
    """The largest sparsity that a mask can have, in each reading of the word."""

    def largest(protocol: Protocol) -> float:
        nothing = np.zeros((protocol.widths[1],) * 2, dtype=bool)
        layers = layer_masks(nothing, protocol.widths, protocol.masked_layers)
        return model_sparsity(layers, protocol.widths)

    return {"mask": 1.0} | {
        f"model {'-'.join(map(str, protocol.widths))}": largest(protocol)
        for protocol in (PAPER, LITERAL)
    }


def disagreement(compared: pd.DataFrame) -> pd.DataFrame:
    """``tables_compared`` summed up: for each reading and form, how many rows of Table 2 are
    beaten, by what, and how many are possible at all.
    """

    def beaten(some: pd.DataFrame) -> str:
        by = some.loc[some["beaten"], "beaten_by"]
        amount = f", by {by.min():.3f} to {by.max():.3f}" if len(by) else ""
        return f"{len(by)} of {len(some)}{amount}"

    rows = []
    for (reading, form), one in compared.groupby(["reading", "form"], sort=False):
        tables = dict(list(one.groupby("against")))
        first, largest = tables["Table 1"], one["largest_sparsity"].iloc[0]
        possible = f"{first['possible'].sum()} of {len(first)} (largest {largest:.3f})"
        rows.append(
            {"sparsity of the": reading, "objective": form}
            | {f"rows beaten by {against}": beaten(some) for against, some in tables.items()}
            | {"rows with a possible sparsity": possible}
        )
    return pd.DataFrame(rows)


def can_both_be_true(compared: pd.DataFrame) -> str:
    """Whether the paper's two tables can both be what they are said to be, a sentence for each
    reading and form; from ``tables_compared``.

    If both come from the same system, each row of Table 2 is the maximum of its objective over the
    masks that there are, so it cannot be beaten.
    """
    lines = []
    for (reading, form), one in compared.groupby(["reading", "form"], sort=False):
        rows, found = one["alpha"].nunique(), one.groupby("against")[["beaten", "possible"]].sum()
        counts = {
            "rows of Table 2 are beaten by a row of Table 1": found["beaten"]["Table 1"],
            "rows of Table 2 are beaten by another row of it": found["beaten"]["Table 2"],
            "have a sparsity that no mask reaches": rows - found["possible"]["Table 1"],
        }
        why = [f"{n} of {rows} {what}" for what, n in counts.items() if n]
        lines.append(
            f"sparsity of the {reading}, objective {form}: "
            f"{'no, ' + ', '.join(why) if why else 'nothing speaks against it'}"
        )
    return "Can both tables be true?\n" + "\n".join(lines)


def printed_beside_measured(reference: pd.DataFrame) -> pd.DataFrame:
    """At each sparsity of the paper's Table 2, the printed accuracy and the measured one, linear
    between reference masks (NaN outside them).

    Args:
        reference: from ``tradeoff.reference_curve``.

    Returns:
        ``alpha``, ``sparsity``, ``printed``, and a column a protocol.
    """
    table = pd.DataFrame(
        [(alpha, s, a) for alpha, (a, s) in PAPER_TABLE_2.items()],
        columns=["alpha", "sparsity", "printed"],
    )
    for protocol, one in reference.groupby("protocol", sort=False):
        known = one.set_index("sparsity")["validation_accuracy"].sort_index()
        table[protocol] = np.interp(
            table["sparsity"], known.index, known, left=np.nan, right=np.nan
        )
    return table
