"""The rules that turn evidence into verdicts on the paper's claims.

They are printed in notebook 06, and were fixed before its run. *Evidence* is a table of one row a
claim and case, with the columns ``COLUMNS``::

    claim               its number in ``CLAIMS``
    case                such as "s = 0.60"
    estimate, low, high the quantity with its 95 % interval, which is not adjusted for the number of
                        cases
    n                   independent values behind it
    p_for, p_against    p values such that one below 0.05 counts. Above or below a threshold: twice
                        the one-sided p value, so that it is below 0.05 exactly when the 95 %
                        interval lies on that side. Within a margin: that of two one-sided tests.
                        Outside it: twice the one-sided p value
    detectable          the smallest distance from the threshold, or from the margin, that is found
                        with power 0.8; NaN where it has no meaning
    source              CSV file, relative to ``data/results/<run>/``
    cell                heading of the notebook's section
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bogp.errors import InvalidInput
from bogp.outputs import with_interval
from bogp.statistics import equivalence, holm, mean_interval
from bogp.studies.motivation import measure
from bogp.studies.motivation.tables import raw_correlations
from bogp.studies.motivation.tables import verdict as monotone_verdict
from bogp.variance import detectable_mean

ALIKE = 1e-12  # relative difference of losses up to which two networks in float64 are one
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot be decided"
VERDICTS = (HOLDS, FAILS, UNDECIDED)
TESTED = ("estimate", "low", "high", "n", "p_for", "p_against", "detectable")
COLUMNS = ("claim", "case", *TESTED, "source", "cell")


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and the rule by which it is judged.

    Attributes:
        number, statement, quantity, holds_if, fails_if: as in the notebook's table of rules.
        paper: the paper's number or words.
        section: heading of the notebook's section that answers it.
        existential: whether one case is enough ("there are regions where ..."); else it must hold
            in each.
        form: format of its numbers.
    """

    number: int
    statement: str
    paper: str
    quantity: str
    holds_if: str
    fails_if: str
    section: str
    existential: bool = False
    form: str = "+.4f"


_BETTER = ("above 0", "below 0.0005")
_INDICATORS = '"effective indicators of neural network performance"'
_EFFICIENT = '"identified efficiently using Bayesian Optimization"'
CLAIMS = (
    Claim(
        1,
        "the printed settings train the unpruned network to 0.970",
        "0.970",
        "mean accuracy of 5 seeds under `paper`",
        "within 0.002 of 0.970",
        "outside it",
        "1 · Protocol audit",
        form=".4f",
    ),
    Claim(
        2,
        "accuracy varies highly at a fixed sparsity",
        '"accuracy varies highly as property vectors vary"',
        "standard deviation between masks, the seeds' part removed",
        "above 0.002",
        "below 0.002",
        "2 · Noise or signal",
        form=".4f",
    ),
    Claim(
        3,
        "properties indicate performance at a fixed sparsity",
        _INDICATORS,
        "Spearman's correlation of accuracy with its cross-validated prediction from all "
        "properties, the model chosen on inner folds",
        "above 0.3",
        "below 0.3",
        "3 · What properties say of accuracy",
        form="+.2f",
    ),
    Claim(
        4,
        "masks with different properties are different networks",
        'performance is "a function of various graph properties"',
        "largest relative difference of losses between the two masks of a pair with different "
        "properties, float64",
        "above 1e-12",
        "at most 1e-12",
        "4 · What the network can know",
        form=".1e",
    ),
    Claim(
        5,
        "Bayesian optimisation finds better masks than chance",
        _EFFICIENT,
        "held-out accuracy of the mask recommended by `box` (best observed, as in the paper) minus "
        "that of random search, at the same budget",
        *_BETTER,
        "5 · Does the search search",
    ),
    Claim(
        6,
        "it finds them through the properties",
        _EFFICIENT,
        "the same, minus `box` with property vectors permuted among the masks",
        *_BETTER,
        "5 · Does the search search",
    ),
    Claim(
        7,
        "the accuracy of the chosen mask is what one gets",
        "0.951 to 0.972, on the images that masks were chosen on",
        "accuracy that the mask was chosen by, minus validation accuracy with fresh seeds",
        "within 0.0005 of 0",
        "above 0",
        "6 · What was reported, and what one gets",
    ),
    Claim(
        8,
        "on a par with magnitude pruning, like for like",
        '"at par with the current state of the art"; 0.000 to +0.006 against Glob_1',
        "accuracy of BoGP minus that of Glob_1, same layer, same number of weights",
        "within 0.002 of 0",
        "outside it",
        "7 · Table 1 with equivalence tests",
    ),
    Claim(
        9,
        "best of all at s = .15 and .75",
        '"the best accuracies"; 0.972 and 0.966',
        "accuracy of BoGP minus that of each of Glob_1, Glob_5, Unif_1, Unif_5 in the paper's "
        "accounting",
        "above 0 for each",
        "below 0 for one",
        "7 · Table 1 with equivalence tests",
    ),
    Claim(
        10,
        "the defects of the released code do not matter",
        "not mentioned",
        "reported accuracy with a defect minus that without, paired by search",
        "within 0.002 of 0",
        "outside it",
        "8 · The defects of the released code",
    ),
    Claim(
        11,
        "over all layers, graphs chosen by their properties beat chance",
        _INDICATORS,
        "fresh test accuracy of the graphs that a model on graph properties chooses in a pool, "
        "minus that of graphs drawn at random there; over pools",
        *_BETTER,
        "9 · Graph or pixels",
        existential=True,
    ),
    Claim(
        12,
        "there it is the graph that matters",
        _INDICATORS,
        "as 11, among graphs of one family whose nodes are numbered at random",
        *_BETTER,
        "9 · Graph or pixels",
        existential=True,
    ),
)
_NUMBERED = {claim.number: claim for claim in CLAIMS}


@dataclass(frozen=True)
class Tested:
    """A mean with its 95 % interval and what it says for and against a claim; see the module's
    docstring.
    """

    estimate: float
    low: float
    high: float
    n: int
    p_for: float
    p_against: float
    detectable: float


def above(values: ArrayLike, threshold: float, fails_below: float) -> Tested:
    """Is the mean above a threshold, or below another one (t tests)?

    Args:
        values: (n,) independent observations, n >= 2.
        threshold: the claim holds above it.
        fails_below: the claim does not hold below it; not under ``threshold``, for a mean between
            them would count as neither.

    Raises:
        InvalidInput: fewer than two values, or one that is not finite.
    """
    x = _checked(values)
    mean = float(x.mean())
    return _tested(x, _beyond(mean - threshold, x), _beyond(fails_below - mean, x))


def within(values: ArrayLike, margin: float, centre: float = 0.0) -> Tested:
    """Is the mean within a margin around a centre, or outside it?

    Within: two one-sided t tests (Schuirmann 1987). Outside: a t test of the side that it lies on.

    Args:
        values: (n,) independent observations, n >= 2.
        margin: positive.
        centre: of the margin.

    Raises:
        InvalidInput: fewer than two values, one that is not finite, or a margin that is not
            positive.
    """
    x = _checked(values)
    inside = equivalence(x, np.full_like(x, centre), margin).p
    return _tested(x, inside, _beyond(abs(float(x.mean()) - centre) - margin, x))


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise InvalidInput("A test needs a list of at least two finite values.")
    return x


def _beyond(distance: float, x: NDArray[np.float64]) -> float:
    """Twice the one-sided p value of "the mean lies no further than the threshold", from which it
    is so far away; 0 or 1 where values do not vary.
    """
    if np.ptp(x) == 0:
        return 0.0 if distance > 0 else 1.0
    return float(min(1.0, 2 * stats.t.sf(distance / stats.sem(x), len(x) - 1)))


def _tested(x: NDArray[np.float64], p_for: float, p_against: float) -> Tested:
    found, error = mean_interval(x), float(stats.sem(x))
    return Tested(
        found.mean,
        found.low,
        found.high,
        found.n,
        p_for,
        p_against,
        detectable_mean(error, len(x) - 1),
    )


def judge(evidence: pd.DataFrame) -> pd.DataFrame:
    """A verdict on each case; the p values of the cases of one claim are a family (Holm 1979).

    Args:
        evidence: of one or more claims.

    Returns:
        The evidence with ``p_for_holm``, ``p_against_holm`` and ``verdict``: ``holds`` if the
        adjusted ``p_for`` is below 0.05, else ``does not hold`` if the adjusted ``p_against`` is,
        else ``cannot be decided``. (An advantage may be shown to be above 0 and below the smallest
        gain of interest: it holds.)

    Raises:
        InvalidInput: no such claim, a case stands there twice, or a p value is not one.
    """
    evidence = evidence.reset_index(drop=True)
    p = evidence[["p_for", "p_against"]]
    faults = {
        f"is of no claim; there are those from 1 to {len(CLAIMS)}": ~evidence["claim"].isin(
            list(_NUMBERED)
        ),
        "stands there twice": evidence.duplicated(["claim", "case"]),
        "has a p value that is none": ~((p >= 0) & (p <= 1)).all(axis=1),
    }
    for fault, rows in faults.items():
        for one in evidence[rows].itertuples():
            raise InvalidInput(f"The case {one.case!r} of claim {one.claim} {fault}.")
    adjusted = p.groupby(evidence["claim"]).transform(holm).add_suffix("_holm")
    shown = [adjusted[p] < 0.05 for p in adjusted]
    return evidence.assign(**adjusted, verdict=np.select(shown, [HOLDS, FAILS], UNDECIDED))


def overall(judged: pd.DataFrame) -> pd.DataFrame:
    """A verdict on each claim that there is evidence on.

    A claim holds if each case holds, does not hold if some case does not, and else cannot be
    decided. A claim that there *are* cases holds if some case holds, does not hold if each case
    does not, and else cannot be decided.

    Args:
        judged: from ``judge``.

    Returns:
        One row a claim, by number: ``claim``, ``statement``, ``paper``, ``ours`` (range of the
        estimates as text), ``n`` (as text), ``verdict``, ``cases``, how many of them ``hold``,
        ``fail`` and are ``undecided``, ``source`` and ``cell``.
    """
    rows = []
    for number, cases in judged.groupby("claim"):
        claim, given = _NUMBERED[number], cases["verdict"]
        # what one case decides, and what all of them have to agree on
        one, each = (HOLDS, FAILS) if claim.existential else (FAILS, HOLDS)
        verdict = one if (given == one).any() else each if (given == each).all() else UNDECIDED
        rows.append(
            {
                "claim": number,
                "statement": claim.statement,
                "paper": claim.paper,
                "ours": _range(cases["estimate"], claim.form),
                "n": _range(cases["n"], ".0f"),
                "verdict": verdict,
                "cases": len(cases),
                "hold": int((given == HOLDS).sum()),
                "fail": int((given == FAILS).sum()),
                "undecided": int((given == UNDECIDED).sum()),
                "source": ", ".join(cases["source"].unique()),
                "cell": claim.section,
            }
        )
    return pd.DataFrame(rows)


def elsewhere(
    correlations: pd.DataFrame,
    judgements: pd.DataFrame,
    compared: pd.DataFrame,
    protocol: str = "calibrated",
) -> pd.DataFrame:
    """The claims that notebooks 01 and 04 judge by rules of their own, as rows of ``rendered``.

    Args:
        correlations, judgements: from ``correlations`` and ``monotone`` of notebook 01.
        compared: from ``tables_compared`` of notebook 04. The two tables can both be true if under
            some reading of "sparsity" nothing speaks against it.
        protocol: under which notebook 01 was run.
    """
    words = {"supported": HOLDS, "contradicted": FAILS, "undecided": UNDECIDED}
    raw = raw_correlations(correlations)
    ours = ", ".join(f"{name} {with_interval(one, '+.2f')}" for name, one in raw.iterrows())
    refuted = compared.assign(refuted=compared["beaten"] | ~compared["possible"].astype(bool))
    rows = refuted.groupby(["reading", "form", "alpha"])["refuted"].any()
    counts = rows.groupby(["reading", "form"]).sum()
    monotone = (
        "notebook 01: performance is a monotone function of several properties",
        '"a monotonic function of multiple properties"',
        f"correlations: {ours}",
        _range(raw["n"], ".0f"),
        words[monotone_verdict(correlations, judgements)],
        "01 · Monotone or not",
        f"{measure.MOTIVATION}/{protocol}_monotone.csv",
    )
    tables = (
        "notebook 04: Tables 1 and 2 can both be true",
        "both are printed",
        f"{_range(counts, '.0f')} of {compared['alpha'].nunique()} rows of Table 2 refuted, "
        f"in {len(counts)} readings",
        "-",
        FAILS if counts.min() > 0 else HOLDS,
        "04 · Can both of the paper's tables be true?",
        f"04_alpha_tradeoff_bo/{protocol}_tables_compared.csv",
    )
    return pd.DataFrame([monotone, tables], columns=list(_RENDERED))


_RENDERED = ("claim", "the paper says", "we got", "n", "verdict", "notebook section", "table")


def rendered(
    summary: pd.DataFrame, judged: pd.DataFrame, others: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The verdicts for people: the lowest and the highest estimate of each claim with their
    intervals, and the verdict.

    Args:
        summary: from ``overall``.
        judged: from ``judge``.
        others: from ``elsewhere``, appended.

    Returns:
        Texts, for ``outputs.as_markdown``. Where a claim cannot be decided, the verdict says which
        effect would have been found with power 0.8 in the cases that are undecided.
    """
    rows = []
    for one in summary.itertuples():
        cases, form = judged[judged["claim"] == one.claim], _NUMBERED[one.claim].form
        named = one.cases > 1
        ends = [cases["estimate"].idxmin(), cases["estimate"].idxmax()]
        said = [
            with_interval(e.rename({"estimate": "mean"}), form)
            + (f" ({e['case']})" if named else "")
            for _, e in cases.loc[ends[: 1 + named]].iterrows()
        ]
        words = one.verdict
        if cases["verdict"].nunique() > 1:
            counts = f"{one.hold} hold, {one.fail} do not, {one.undecided} undecided"
            words += f" (of {one.cases} cases {counts})"
        elif named:
            words += f" (in each of {one.cases} cases)"
        effects = cases.loc[cases["verdict"] == UNDECIDED, "detectable"].dropna()
        if one.verdict == UNDECIDED and len(effects):
            words += f"; an effect of {_range(effects, form.lstrip('+'))} would have been found"
        claim, ours = f"{one.claim}: {one.statement}", " to ".join(said)
        rows.append((claim, one.paper, ours, one.n, words, one.cell, one.source))
    return pd.concat([pd.DataFrame(rows, columns=list(_RENDERED)), others], ignore_index=True)


def findings(summary: pd.DataFrame) -> str:
    """What the claims come to, worked out from ``overall``: a sentence for each verdict that was
    given.
    """
    words = {HOLDS: "hold", FAILS: "do not hold", UNDECIDED: "cannot be decided"}
    statements = summary["statement"] + " (" + summary["claim"].astype(str) + ")"
    named = {given: statements[summary["verdict"] == given] for given in VERDICTS}
    return " ".join(
        f"Claims that {words[given]}: {len(those)} of {len(summary)}, namely {'; '.join(those)}."
        for given, those in named.items()
        if len(those)
    )


def _range(values: Sequence[float] | pd.Series, form: str) -> str:
    texts = [f"{value:{form}}" for value in (np.min(values), np.max(values))]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)
