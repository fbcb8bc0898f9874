"""What was reported, against fresh seeds; and Table 1 with equivalence tests (experiments 6 and 7): nothing is trained, notebooks 03 and 05 are read.

A mask is chosen by the accuracy of one training. The largest of many noisy accuracies is too large, whoever searches: the *winner's curse*. It shows in the
same mask's accuracy on the same validation images, trained from a seed that chose nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bogp import paths
from bogp.errors import BogpError, InvalidInput
from bogp.records import read_table
from bogp.statistics import holm, mean_interval, paired_difference
from bogp.studies.baselines.measure import LIKE, PAPER
from bogp.studies.baselines.measure import NOTEBOOK as NOTEBOOK_05
from bogp.studies.baselines.tables import LABELS, MARGIN, is_chosen
from bogp.studies.claims import verdicts
from bogp.studies.claims.replay import SMALLEST_GAIN
from bogp.studies.claims.verdicts import above, as_evidence, curse_evidence, par_evidence, within
from bogp.studies.fixed_sparsity.tables import FIXED_SPARSITY
from bogp.studies.motivation.measure import MOTIVATION
from bogp.studies.printed import PAPER_TABLE_1
from bogp.studies.tradeoff.measure import ALPHA_TRADEOFF

ONE_NETWORK = ("glob_1", "random")  # beside BoGP's mask, like for like; "glob_1" is claim 8
PAPERS = tuple(name for name in PAPER_TABLE_1 if name != "bogp")  # the paper's four baselines
CLAIMED_BEST = (0.15, 0.75)  # sparsities at which "we achieve the best accuracies" (paper section 6.4)


def files(run: str, notebook: str, protocol: str, what: str) -> list[Path]:
    """The tables that a notebook wrote for each sparsity, lowest first.

    Args:
        run: such as ``paper``.
        notebook: its folder, ``claims.FIXED_SPARSITY`` or ``comparison.NOTEBOOK``.
        protocol: name of the protocol.
        what: ``chosen``, ``history`` or ``results``.

    Raises:
        BogpError: there are none.
    """
    found = sorted((paths.results_dir(run) / notebook).glob(f"{protocol}_s*_{what}.csv"))
    if not found:
        raise BogpError(
            f"The run {run!r} has no {what} of notebook {notebook} under the protocol {protocol!r} yet. Run that notebook first."
        )
    return found


def gathered(tables: Sequence[Path]) -> pd.DataFrame:
    """Those tables as one; ``target_sparsity``, where a table does not say it, is what its file is named after (``<protocol>_s<sparsity>_<what>.csv``)."""
    parts = []
    for path in tables:
        one = read_table(path)
        if "target_sparsity" not in one:
            one.insert(0, "target_sparsity", float(path.stem.rsplit("_s", 1)[1].split("_")[0]))
        parts.append(one)
    return pd.concat(parts, ignore_index=True)


def curse(chosen: pd.DataFrame, history: pd.DataFrame | None = None) -> pd.DataFrame:
    """How much better a chosen mask looks than it is, and how much better it is than a mask that nobody chose.

    Args:
        chosen: notebook 03's ``..._chosen.csv`` of one protocol and all sparsities, from ``gathered``.
        history: its ``..._history.csv``, from ``gathered``; without it nothing is known of unchosen masks.

    Returns:
        One row a sparsity and method (``bogp``, ``random``): ``apparent`` and ``fresh_validation`` (means); ``estimate``, ``low``, ``high``, ``n``: apparent
        minus fresh validation accuracy over searches with its 95 % t interval; ``p_for`` (within ``replay.SMALLEST_GAIN`` of 0), ``p_against`` (above 0) and
        ``detectable``, as in ``verdicts``; ``test_difference`` with ``test_low`` and ``test_high``: apparent minus fresh test accuracy, so other images too;
        ``gain`` with ``gain_low`` and ``gain_high``: fresh validation accuracy minus the mean of all masks that the random search of the same seed drew.

    Raises:
        InvalidInput: a column is missing, or the searches of several protocols are mixed.
    """
    _check(
        chosen,
        ("target_sparsity", "method", "search_seed", "apparent", "fresh_validation", "fresh_test"),
        ("target_sparsity", "method", "search_seed"),
    )
    rows = []
    for (sparsity, method), one in chosen.groupby(["target_sparsity", "method"]):
        mine = one.set_index("search_seed").sort_index()
        excess = mine["apparent"] - mine["fresh_validation"]
        tested = replace(within(excess, SMALLEST_GAIN), p_against=above(excess, 0.0, 0.0).p_for)
        test = paired_difference(mine["apparent"], mine["fresh_test"])
        row = {"target_sparsity": sparsity, "method": method, "case": f"s = {sparsity:.2f}"} | vars(tested)
        row |= {"apparent": mine["apparent"].mean(), "fresh_validation": mine["fresh_validation"].mean()}
        row |= {"test_difference": test.mean, "test_low": test.low, "test_high": test.high}
        row |= dict.fromkeys(("gain", "gain_low", "gain_high"), np.nan)
        if history is not None:
            gain = paired_difference(mine["fresh_validation"], _unchosen(history, sparsity).reindex(mine.index))
            row |= {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _unchosen(history: pd.DataFrame, sparsity: float) -> pd.Series:
    """Mean validation accuracy of the masks that each random search drew: they were drawn blindly, and none is left out for what it scored."""
    drawn = history[(history["target_sparsity"] == sparsity) & (history["method"] == "random")]
    return drawn.groupby("search_seed")["validation_accuracy"].mean()


def like_for_like(results: pd.DataFrame) -> pd.DataFrame:
    """BoGP minus others in the accounting like for like, on test images, paired by pair: is it on a par, is it not, does it differ?

    One network against one: BoGP's mask, trained again, against Glob_1 and random pruning. A whole budget against a whole budget: the network that the search
    chose against the best of as many others (``..._best``, ``random_search``).

    Args:
        results: notebook 05's ``..._results.csv`` of one protocol and all sparsities, from ``gathered``.

    Returns:
        One row a compared method and sparsity: ``against``, ``target_sparsity``, ``case``, ``estimate``, ``low``, ``high`` (95 % t interval), ``n`` (pairs),
        ``p_for`` (two one-sided tests, within ``table_1.MARGIN``; Schuirmann 1987), ``p_against`` (outside it), ``detectable``, ``p_different`` (paired t
        test), and each p value adjusted over the sparsities of that method (Holm 1979): ``p_for_holm``, ``p_against_holm``, ``p_different_holm``.

    Raises:
        InvalidInput: a column or a method is missing, or several protocols or data sets are mixed.
    """
    own = _of(results, LIKE)
    budgets = [name for name in own["method"].unique() if is_chosen(name) and name != "bogp"]
    rows = []
    for name in (*ONE_NETWORK, *budgets):
        for sparsity in sorted(own["target_sparsity"].unique()):
            difference = _differences(own, "bogp" if is_chosen(name) else "bogp_mask", name, sparsity)
            either = above(difference, 0.0, 0.0)
            row = {"against": name, "target_sparsity": sparsity, "case": f"s = {sparsity:.2f}"} | vars(within(difference, MARGIN))
            rows.append(row | {"p_different": min(either.p_for, either.p_against)})  # of the two sides, each taken twice
    table = pd.DataFrame(rows)
    for p in ("p_for", "p_against", "p_different"):
        table[f"{p}_holm"] = table.groupby("against")[p].transform(holm)
    return table


def best_of_all(results: pd.DataFrame, sparsities: Collection[float] = CLAIMED_BEST) -> pd.DataFrame:
    """BoGP minus each of the paper's four baselines in the paper's accounting, on test images, where the paper calls BoGP the best.

    Args:
        results: as for ``like_for_like``.
        sparsities: where.

    Returns:
        One row a sparsity and baseline: ``against``, ``target_sparsity``, ``case``, and the fields of ``verdicts.Tested`` (``p_for``: above 0,
        ``p_against``: below).

    Raises:
        InvalidInput: as ``like_for_like``.
    """
    own, rows = _of(results, PAPER), []
    for sparsity in sparsities:
        for name in PAPERS:
            tested = above(_differences(own, "bogp", name, sparsity), 0.0, 0.0)
            rows.append({"against": name, "target_sparsity": sparsity, "case": f"s = {sparsity:.2f}, {LABELS[name]}"} | vars(tested))
    return pd.DataFrame(rows)


def _of(results: pd.DataFrame, accounting: str) -> pd.DataFrame:
    _check(
        results,
        ("dataset", "protocol", "accounting", "method", "target_sparsity", "pair", "test"),
        ("accounting", "method", "target_sparsity", "pair"),
    )
    return results[results["accounting"] == accounting]


def _check(table: pd.DataFrame, columns: Sequence[str], key: Sequence[str]) -> None:
    if missing := [c for c in columns if c not in table]:
        raise InvalidInput(f"The table has no {', '.join(missing)}; read it with reported.gathered.")
    if table.duplicated(list(key)).any():
        raise InvalidInput(f"Some {', '.join(key)} stands there twice; give the tables of one data set and protocol.")


def _differences(own: pd.DataFrame, first: str, second: str, sparsity: float) -> pd.Series:
    """Test accuracy of the first minus that of the second, on the pairs that both have."""
    a, b = (own[(own["method"] == m) & (own["target_sparsity"] == sparsity)].set_index("pair")["test"] for m in (first, second))
    if a.empty or b.empty:
        raise InvalidInput(f"There are no results of {first} beside {second} at sparsity {sparsity:g}; run notebook 05 with both.")
    return (a - b).dropna()


@dataclass(frozen=True)
class Reported:
    """What notebooks 03 and 05 of a run say about the claims; None where that notebook has not run, or not at these sparsities.

    Attributes:
        chosen: notebook 03's chosen masks.
        cursed: ``curse`` of them.
        compared: ``like_for_like`` of notebook 05's results.
        best: ``best_of_all`` of them.
    """

    chosen: pd.DataFrame | None
    cursed: pd.DataFrame | None
    compared: pd.DataFrame | None
    best: pd.DataFrame | None

    def evidence(self, curse_source: str, compared_source: str, best_source: str) -> list[pd.DataFrame]:
        """What there is on claims 7, 8 and 9; the sources are CSV files, as in ``verdicts.as_evidence``."""
        found = []
        if self.cursed is not None:
            found.append(curse_evidence(self.cursed, curse_source))
        if self.compared is not None:
            found.append(par_evidence(self.compared, compared_source))
        if self.best is not None:
            found.append(as_evidence(9, self.best, best_source))
        return found


def read(run: str, protocol: str) -> Reported:
    """Read what notebooks 03 and 05 of a run left, as far as they did.

    Args:
        run: such as ``paper``.
        protocol: name of the protocol.
    """
    chosen, history, results = (
        _found(run, notebook, protocol, what)
        for notebook, what in ((FIXED_SPARSITY, "chosen"), (FIXED_SPARSITY, "history"), (NOTEBOOK_05, "results"))
    )
    there = [] if results is None else [s for s in CLAIMED_BEST if s in set(results["target_sparsity"])]
    return Reported(
        chosen=chosen,
        cursed=None if chosen is None else curse(chosen, history),
        compared=None if results is None else like_for_like(results),
        best=None if results is None or not there else best_of_all(results, there),
    )


def _found(run: str, notebook: str, protocol: str, what: str) -> pd.DataFrame | None:
    try:
        tables = files(run, notebook, protocol, what)
    except BogpError:
        return None
    return gathered(tables)


def measures(chosen: pd.DataFrame) -> pd.DataFrame:
    """Means of the chosen masks' accuracies, for the figure.

    Returns:
        Rows of ``sparsity``, ``method``, ``measure``, ``mean``, ``low``, ``high`` (95 % t interval) and ``n`` (searches).
    """
    rows = []
    for (sparsity, method), one in chosen.groupby(["target_sparsity", "method"]):
        for measure in ("apparent", "fresh_validation", "fresh_test"):
            rows.append({"sparsity": sparsity, "method": method, "measure": measure} | vars(mean_interval(one[measure])))
    return pd.DataFrame(rows)


def elsewhere(run: str, protocol: str) -> pd.DataFrame | None:
    """``verdicts.elsewhere`` of the tables that notebooks 01 and 04 of a run wrote; None where one has not run."""
    folder = paths.results_dir(run)
    names = [folder / MOTIVATION / f"{protocol}_{what}.csv" for what in ("correlations", "monotone")]
    names.append(folder / ALPHA_TRADEOFF / f"{protocol}_tables_compared.csv")
    if not all(name.exists() for name in names):
        return None
    correlations, judgements, compared = (read_table(name) for name in names)
    return verdicts.elsewhere(correlations, judgements, compared, protocol)
