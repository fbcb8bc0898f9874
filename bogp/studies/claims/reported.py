"""What was reported, against fresh seeds; and Table 1 with equivalence tests (experiments 6 and 7).

Nothing is trained: the tables of notebooks 03 and 05 are read. A mask is chosen by the accuracy of
one training. The largest of many noisy accuracies is too large, whoever searches: the *winner's
curse*. It shows in the same mask's accuracy on the same validation images, trained from a seed that
chose nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from bogp import paths
from bogp.errors import InvalidInput
from bogp.records import read_table
from bogp.statistics import holm, paired_difference
from bogp.studies.baselines.measure import LIKE, PAPER
from bogp.studies.baselines.measure import NOTEBOOK as BASELINES
from bogp.studies.baselines.tables import LABELS, MARGIN, is_chosen
from bogp.studies.claims import verdicts
from bogp.studies.claims.replay import SMALLEST_GAIN
from bogp.studies.claims.verdicts import TESTED, above, within
from bogp.studies.fixed_sparsity.tables import FIXED_SPARSITY
from bogp.studies.motivation.measure import MOTIVATION
from bogp.studies.printed import PAPER_TABLE_1
from bogp.studies.tradeoff.measure import ALPHA_TRADEOFF

ONE_NETWORK = ("glob_1", "random")  # beside BoGP's mask, like for like; "glob_1" is claim 8
PAPERS = tuple(name for name in PAPER_TABLE_1 if name != "bogp")  # the paper's four baselines
CLAIMED_BEST = (
    0.15,
    0.75,
)  # sparsities at which "we achieve the best accuracies" (paper section 6.4)
MEASURES = ["apparent", "fresh_validation", "fresh_test"]
# Beside Glob_1: what the claim is about, and a network from which nothing was removed. Where this
# one is on a par too, the test cannot tell a good mask from any other.
ARMS = {"bogp_mask": "BoGP", "base": "unpruned"}
MARGINS = tuple(0.00025 * k for k in range(1, 21))

# Columns of the tables, which are written even where there is nothing to say.
_CURSED = [
    *("target_sparsity", "method", "case", *TESTED, "apparent", "fresh_validation"),
    *("test_difference", "test_low", "test_high", "gain", "gain_low", "gain_high"),
]
_BEST = ["against", "target_sparsity", "case", *TESTED]
_MARGINS = ["arm", "target_sparsity", "case", "margin", *TESTED, "p_for_holm", "verdict"]
_P = ["p_for", "p_against", "p_different"]
_COMPARED = [*_BEST, "p_different", *(f"{p}_holm" for p in _P)]


@dataclass(frozen=True)
class Reported:
    """What other notebooks of a run say about the claims; tables without rows where they have not
    run.

    Attributes:
        chosen: notebook 03's chosen masks.
        tables: ``cursed``: ``curse`` of them; ``compared``: ``like_for_like`` of notebook 05's
            results; ``margins``: ``against_margin`` of them; ``best_of_all``, where the paper
            claims to be best and notebook 05 looked.
        elsewhere: what notebooks 01 and 04 say (``verdicts.elsewhere``).
        missing: a sentence on the notebooks that have not run.
    """

    chosen: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    elsewhere: pd.DataFrame | None
    missing: str


def read(run: str, protocol: str) -> Reported:
    """Read what notebooks 01, 03, 04 and 05 of a run left, as far as they did.

    Args:
        run: such as ``paper``.
        protocol: name of the protocol.

    Raises:
        BogpError: a table is not what was written.
        InvalidInput: notebook 05 has run without a method that is compared here.
    """
    chosen, history = (
        gathered(run, FIXED_SPARSITY, protocol, what) for what in ("chosen", "history")
    )
    results, others = gathered(run, BASELINES, protocol, "results"), elsewhere(run, protocol)
    tables = {
        "cursed": curse(chosen, history),
        "compared": like_for_like(results),
        "margins": against_margin(results),
        "best_of_all": best_of_all(
            results, [s for s in CLAIMED_BEST if s in set(results["target_sparsity"])]
        ),
    }
    found = {"03": len(chosen), "05": len(results), "01 or 04": others is not None}
    missing = ", ".join(f"notebook {number}" for number, there in found.items() if not there)
    said = f"In the run {run!r} there are no results of {missing}; they are left out."
    return Reported(chosen, tables, others, said if missing else "")


def gathered(run: str, notebook: str, protocol: str, what: str) -> pd.DataFrame:
    """The tables that a notebook wrote for each sparsity as one, lowest first.

    Args:
        run: such as ``paper``.
        notebook: its folder.
        protocol: name of the protocol.
        what: ``chosen``, ``history`` or ``results``.

    Returns:
        Their rows, with the ``target_sparsity`` that the file is named after
        (``<protocol>_s<sparsity>_<what>.csv``). Where there are no tables, no rows, with the
        columns that groups are made by.

    Raises:
        BogpError: a table is not what was written.
    """
    parts = [
        read_table(path).assign(target_sparsity=float(path.stem.rsplit("_s", 1)[1].split("_")[0]))
        for path in sorted((paths.results_dir(run) / notebook).glob(f"{protocol}_s*_{what}.csv"))
    ]
    none = pd.DataFrame(columns=["target_sparsity", "method", "accounting"])
    return pd.concat(parts or [none], ignore_index=True)


def curse(chosen: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """How much better a chosen mask looks than it is, and than a mask that nobody chose.

    Args:
        chosen: notebook 03's ``..._chosen.csv`` of one protocol and all sparsities, from
            ``gathered``.
        history: its ``..._history.csv``, from ``gathered``.

    Returns:
        One row a sparsity and method (``bogp``, ``random``): ``estimate``, ``low``, ``high``,
        ``n``: apparent minus fresh validation accuracy over searches with its 95 % t interval;
        ``p_for`` (within ``replay.SMALLEST_GAIN`` of 0), ``p_against`` (above 0) and
        ``detectable``, as in ``verdicts``; ``apparent`` and ``fresh_validation`` (means);
        ``test_difference`` with ``test_low`` and ``test_high``: apparent minus fresh test accuracy,
        so other images too; ``gain`` with ``gain_low`` and ``gain_high``: fresh validation accuracy
        minus the mean of all masks that the random search of the same seed drew. They were drawn
        blindly, and none is left out for what it scored.
    """
    rows = []
    for (sparsity, method), one in chosen.groupby(["target_sparsity", "method"]):
        mine = one.set_index("search_seed").sort_index()
        excess = mine["apparent"] - mine["fresh_validation"]
        tested = replace(within(excess, SMALLEST_GAIN), p_against=above(excess, 0.0, 0.0).p_for)
        drawn = history[(history["target_sparsity"] == sparsity) & (history["method"] == "random")]
        unchosen = drawn.groupby("search_seed")["validation_accuracy"].mean().reindex(mine.index)
        test = paired_difference(mine["apparent"], mine["fresh_test"])
        rows.append(
            {"target_sparsity": sparsity, "method": method, "case": f"s = {sparsity:.2f}"}
            | vars(tested)
            | mine[["apparent", "fresh_validation"]].mean().to_dict()
            | {"test_difference": test.mean, "test_low": test.low, "test_high": test.high}
            | paired_difference(mine["fresh_validation"], unchosen).columns("gain")
        )
    return pd.DataFrame(rows, columns=_CURSED)


def like_for_like(results: pd.DataFrame) -> pd.DataFrame:
    """BoGP minus others in the accounting like for like, on test images, paired by pair: is it on a
    par, is it not, does it differ?

    One network against one: BoGP's mask, trained again, against Glob_1 and random pruning. A whole
    budget against a whole budget: the network that the search chose against the best of as many
    others (``..._best``, ``random_search``).

    Args:
        results: notebook 05's ``..._results.csv`` of one protocol and all sparsities, from
            ``gathered``.

    Returns:
        One row a compared method and sparsity: ``against``, ``target_sparsity``, ``case``,
        ``estimate``, ``low``, ``high`` (95 % t interval), ``n`` (pairs), ``p_for`` (two one-sided
        tests, within ``MARGIN``; Schuirmann 1987), ``p_against`` (outside it), ``detectable``,
        ``p_different`` (paired t test), and each p value adjusted over the sparsities of that
        method (Holm 1979): ``p_for_holm``, ``p_against_holm``, ``p_different_holm``. A method with
        a single pair has no row.

    Raises:
        InvalidInput: a method is missing.
    """
    own, rows = results[results["accounting"] == LIKE], []
    budgets = [name for name in own["method"].unique() if is_chosen(name) and name != "bogp"]
    for name, sparsity in product(
        (*ONE_NETWORK, *budgets), sorted(own["target_sparsity"].unique())
    ):
        difference = _differences(own, "bogp" if is_chosen(name) else "bogp_mask", name, sparsity)
        if len(difference) > 1:  # of one pair nothing can be said
            either = above(difference, 0.0, 0.0)
            rows.append(
                {"against": name, "target_sparsity": sparsity, "case": f"s = {sparsity:.2f}"}
                | vars(within(difference, MARGIN))
                # of the two sides, each taken twice
                | {"p_different": min(either.p_for, either.p_against)}
            )
    table = pd.DataFrame(rows, columns=_COMPARED)
    for p in _P:
        table[f"{p}_holm"] = table.groupby("against")[p].transform(holm)
    return table


def against_margin(results: pd.DataFrame, margins: Sequence[float] = MARGINS) -> pd.DataFrame:
    """The rule of claim 8 for each of several margins, asked of BoGP and of the unpruned network.

    Args:
        results: as for ``like_for_like``.
        margins: below which accuracies are on a par.

    Returns:
        One row an arm (of ``ARMS``), margin and sparsity: ``arm``, ``target_sparsity``, ``case``,
        ``margin``, the fields of ``verdicts.Tested`` of the arm minus Glob_1 on test images, like
        for like, ``p_for_holm`` and ``verdict`` (Holm's method over the sparsities, as for the
        claim).

    Raises:
        InvalidInput: as ``like_for_like``.
    """
    own, parts = results[results["accounting"] == LIKE], []
    sparsities = sorted(own["target_sparsity"].unique())
    for name, label in ARMS.items():
        differences = {s: _differences(own, name, "glob_1", s) for s in sparsities}
        for margin in margins:
            rows = [
                {"target_sparsity": s, "case": f"s = {s:.2f}"} | vars(within(difference, margin))
                for s, difference in differences.items()
                if len(difference) > 1
            ]
            if rows:
                judged = verdicts.judge(pd.DataFrame(rows).assign(claim=8))
                parts.append(judged.assign(arm=label, margin=margin)[_MARGINS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_MARGINS)


def smallest_margins(table: pd.DataFrame) -> pd.DataFrame:
    """The smallest of the margins at which each arm is shown to be on a par with Glob_1.

    Args:
        table: from ``against_margin``.

    Returns:
        One row a sparsity: ``case``, and a column for each arm, NaN where it is on a par at none.
    """
    at_par = table["margin"].where(table["verdict"] == verdicts.HOLDS)
    wide = table.assign(at_par=at_par).pivot_table(
        index="case", columns="arm", values="at_par", aggfunc="min", dropna=False
    )
    return wide.reindex(columns=list(ARMS.values())).rename_axis(columns=None).reset_index()


def informative(table: pd.DataFrame, margin: float = MARGIN) -> str:
    """Where the test of claim 8 says anything: a sentence.

    Args:
        table: from ``against_margin``.
        margin: one of its margins.
    """
    one = table[(table["arm"] == ARMS["base"]) & np.isclose(table["margin"], margin)]
    empty = one.loc[one["verdict"] == verdicts.HOLDS, "case"]
    rest = one.loc[one["verdict"] != verdicts.HOLDS, "case"]
    return (
        "By the same rule the unpruned network is on a par with Glob_1 at "
        f"{', '.join(empty) or 'no sparsity'}. Where it is, the test says little of a method; it "
        f"is informative at {', '.join(rest) or 'no sparsity'}."
    )


def best_of_all(
    results: pd.DataFrame, sparsities: Collection[float] = CLAIMED_BEST
) -> pd.DataFrame:
    """BoGP minus each of the paper's four baselines in the paper's accounting, on test images,
    where the paper calls BoGP the best.

    Args:
        results: as for ``like_for_like``.
        sparsities: where.

    Returns:
        One row a sparsity and baseline: ``against``, ``target_sparsity``, ``case``, and the fields
        of ``verdicts.Tested`` (``p_for``: above 0, ``p_against``: below).

    Raises:
        InvalidInput: as ``like_for_like``.
    """
    own = results[results["accounting"] == PAPER]
    differences = {
        (name, s, f"s = {s:.2f}, {LABELS[name]}"): _differences(own, "bogp", name, s)
        for s, name in product(sparsities, PAPERS)
    }
    rows = [
        (*labels, *astuple(above(difference, 0.0, 0.0)))
        for labels, difference in differences.items()
        if len(difference) > 1
    ]
    return pd.DataFrame(rows, columns=_BEST)


def _differences(own: pd.DataFrame, first: str, second: str, sparsity: float) -> pd.Series:
    """Test accuracy of the first minus that of the second, on the pairs that both have."""
    a, b = (
        own[(own["method"] == m) & (own["target_sparsity"] == sparsity)].set_index("pair")["test"]
        for m in (first, second)
    )
    if a.empty or b.empty:
        raise InvalidInput(
            f"There are no results of {first} beside {second} at sparsity {sparsity:g}; "
            "run notebook 05 with both."
        )
    return (a - b).dropna()


def elsewhere(run: str, protocol: str) -> pd.DataFrame | None:
    """``verdicts.elsewhere`` of the tables that notebooks 01 and 04 of a run wrote; None where one
    has not run.
    """
    folder = paths.results_dir(run)
    files = [
        folder / MOTIVATION / f"{protocol}_correlations.csv",
        folder / MOTIVATION / f"{protocol}_monotone.csv",
        folder / ALPHA_TRADEOFF / f"{protocol}_tables_compared.csv",
    ]
    if not all(file.exists() for file in files):
        return None
    correlations, judgements, compared = map(read_table, files)
    return verdicts.elsewhere(correlations, judgements, compared, protocol)
