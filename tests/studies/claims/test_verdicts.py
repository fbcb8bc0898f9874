"""The rules: every branch on evidence made by hand, tests against scipy, and the notebook's table
against the claims.
"""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from bogp import outputs, paths, statistics
from bogp.errors import InvalidInput
from bogp.studies import printed as papers
from bogp.studies.baselines.tables import MARGIN
from bogp.studies.claims import NOTEBOOK, replay, verdicts
from bogp.studies.claims.verdicts import FAILS, HOLDS, UNDECIDED, above, within
from bogp.studies.motivation import measure
from bogp.studies.motivation.tables import verdict as monotone_verdict
from bogp.studies.tradeoff import tables

VALUES = np.array([0.9712, 0.9725, 0.9708, 0.9731, 0.9719, 0.9703])
SAMPLES = st.lists(st.integers(-40, 60).map(lambda k: k / 10_000), min_size=3, max_size=12)


def case(
    claim,
    p_for,
    p_against,
    name="the only one",
    estimate=0.0,
    detectable=0.001,
    n=20,
    source="a.csv",
):
    """One row of evidence."""
    row = {
        "claim": claim,
        "case": name,
        "estimate": estimate,
        "low": estimate - 0.001,
        "high": estimate + 0.001,
        "n": n,
    }
    return row | {
        "p_for": p_for,
        "p_against": p_against,
        "detectable": detectable,
        "source": source,
        "cell": "a section",
    }


def judged(*rows):
    return verdicts.judge(pd.DataFrame(rows))


def family(claim, *ps):
    """Cases of one claim with these pairs of p values."""
    return judged(*(case(claim, a, b, f"case {i}") for i, (a, b) in enumerate(ps)))


def rows_of(claim, *ps):
    return verdicts.overall(family(claim, *ps)).iloc[0]


FOR, AGAINST, NEITHER = (0.001, 1.0), (1.0, 0.001), (0.5, 0.5)


def test_a_case_is_judged_by_the_side_that_its_interval_lies_on():
    assert family(8, (0.049, 1.0)).verdict.tolist() == [HOLDS]
    assert family(8, (1.0, 0.049)).verdict.tolist() == [FAILS]
    assert family(8, (0.05, 0.05)).verdict.tolist() == [UNDECIDED]
    # above 0 and below 0.0005: a gain, if a small one
    assert family(5, (0.01, 0.001)).verdict.tolist() == [HOLDS]


def test_holm_takes_a_verdict_back_within_a_claim_and_not_across_claims():
    together = judged(
        case(8, 0.001, 1.0, "a"),
        case(8, 0.03, 1.0, "b"),
        case(8, 1.0, 0.012, "c"),
        case(8, 1.0, 0.02, "d"),
        case(1, 0.03, 1.0),
        case(7, 1.0, 0.03),
    )
    np.testing.assert_allclose(
        together.p_for_holm, [*statistics.holm([0.001, 0.03, 1, 1]), 0.03, 1]
    )
    np.testing.assert_allclose(
        together.p_against_holm, [*statistics.holm([1, 1, 0.012, 0.02]), 1, 0.03]
    )
    # 4 x 0.001, 3 x 0.03; 4 x 0.012, 3 x 0.02 - while each of claims 1 and 7 is a family of one
    assert together.verdict.tolist() == [HOLDS, UNDECIDED, FAILS, UNDECIDED, HOLDS, FAILS]
    assert family(8, (0.03, 1.0)).verdict.tolist() == [HOLDS] and family(
        8, (1.0, 0.02)
    ).verdict.tolist() == [FAILS]


def test_a_universal_claim_needs_every_case():
    assert rows_of(8, FOR, FOR).verdict == HOLDS
    assert rows_of(8, FOR, AGAINST).verdict == FAILS
    assert rows_of(8, NEITHER, AGAINST).verdict == FAILS
    assert rows_of(8, FOR, NEITHER).verdict == UNDECIDED


@pytest.mark.parametrize("claim", [11, 12])
def test_that_there_are_regions_needs_one_case(claim):
    assert rows_of(claim, FOR, AGAINST).verdict == HOLDS
    assert rows_of(claim, FOR, NEITHER).verdict == HOLDS
    assert rows_of(claim, AGAINST, AGAINST).verdict == FAILS
    assert rows_of(claim, AGAINST, NEITHER).verdict == UNDECIDED
    assert rows_of(claim, NEITHER).verdict == UNDECIDED


def test_no_other_claim_is_of_that_kind():
    assert [c.number for c in verdicts.CLAIMS if c.existential] == [11, 12]
    assert all(
        rows_of(c.number, FOR, AGAINST).verdict == (HOLDS if c.number > 10 else FAILS)
        for c in verdicts.CLAIMS
    )


def test_what_is_no_evidence_is_refused():
    with pytest.raises(InvalidInput, match="claim 13 is of no claim; there are those from 1 to 12"):
        judged(case(13, 0.1, 0.1))
    with pytest.raises(InvalidInput, match="'a' of claim 5 stands there twice"):
        judged(case(5, 0.1, 0.1, "a"), case(5, 0.1, 0.1, "a"))
    with pytest.raises(InvalidInput, match="'b' of claim 3 has a p value that is none"):
        judged(case(5, 0.1, 0.1, "a"), case(3, np.nan, 0.1, "b"))


@pytest.mark.parametrize(
    ("threshold", "fails_below"),
    [(0.0, 0.0), (0.9705, 0.971), (0.9716, 0.9716), (0.9725, 0.973), (0.98, 0.98)],
)
def test_above_is_scipys_t_test_doubled(threshold, fails_below):
    found = above(VALUES, threshold, fails_below)
    greater = stats.ttest_1samp(VALUES, threshold, alternative="greater")
    less = stats.ttest_1samp(VALUES, fails_below, alternative="less")
    assert found.p_for == pytest.approx(min(1, 2 * greater.pvalue), rel=1e-9)
    assert found.p_against == pytest.approx(min(1, 2 * less.pvalue), rel=1e-9)
    ends = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert (found.estimate, found.low, found.high, found.n) == (
        pytest.approx(VALUES.mean()),
        pytest.approx(ends.low),
        pytest.approx(ends.high),
        6,
    )


@pytest.mark.parametrize("centre", [0.969, 0.9705, 0.9716, 0.9725, 0.9745])
def test_within_is_equivalence_and_outside_is_a_t_test_from_the_margins_edge(centre):
    found = within(VALUES, 0.001, centre)
    assert found.p_for == statistics.equivalence(VALUES, np.full(6, centre), 0.001).p
    below = stats.ttest_1samp(VALUES, centre - 0.001, alternative="less").pvalue
    beyond = stats.ttest_1samp(VALUES, centre + 0.001, alternative="greater").pvalue
    assert found.p_against == pytest.approx(min(1, 2 * min(below, beyond)), rel=1e-9)
    assert found.low < found.estimate < found.high


def test_the_detectable_effect_is_found_four_times_in_five():
    found, error, df = above(VALUES, 0.97, 0.97), VALUES.std(ddof=1) / np.sqrt(6), 5
    shift, critical = found.detectable / error, stats.t.ppf(0.975, df)
    assert stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift) == pytest.approx(
        0.8, abs=1e-6
    )
    assert within(VALUES, 0.001, 0.97).detectable == found.detectable


def test_values_that_do_not_vary_are_judged_by_where_they_lie():
    same = [0.125] * 4
    assert (above(same, 0.0, 0.1).p_for, above(same, 0.0, 0.1).p_against) == (0, 1)
    assert (above(same, 0.125, 0.25).p_for, above(same, 0.125, 0.25).p_against) == (1, 0)
    assert (within(same, 0.25).p_for, within(same, 0.25).p_against) == (0, 1)
    assert (within(same, 0.0625).p_for, within(same, 0.0625).p_against) == (1, 0)
    assert above(same, 0.0, 0.0).detectable == 0


@pytest.mark.parametrize("values", [[], [0.97], [0.97, np.nan], [[0.97, 0.98]]])
def test_too_few_values_are_refused(values):
    for test in (lambda: above(values, 0, 0), lambda: within(values, 0.002)):
        with pytest.raises(InvalidInput, match="at least two finite values"):
            test()


@given(SAMPLES)
def test_one_case_is_judged_exactly_as_its_interval_lies(values):
    low, high = (
        stats.ttest_1samp(values, 0).confidence_interval(0.95)
        if np.ptp(values) > 0
        else (values[0],) * 2
    )
    assume(min(abs(low), abs(high - 0.0005)) > 1e-9)
    verdict = judged(case(5, 1, 1) | {"case": "x"} | vars(above(values, 0, 0.0005))).verdict[0]
    assert verdict == (HOLDS if low > 0 else FAILS if high < 0.0005 else UNDECIDED)


@given(SAMPLES, st.sampled_from([0.0005, 0.002]))
def test_on_a_par_exactly_when_the_90_per_cent_interval_lies_inside(values, margin):
    assume(np.ptp(values) > 0)
    test = stats.ttest_1samp(values, 0)
    (low, high), (inner, outer) = test.confidence_interval(0.95), test.confidence_interval(0.90)
    assume(min(abs(abs(x) - margin) for x in (low, high, inner, outer)) > 1e-9)
    verdict = judged(case(8, 1, 1) | {"case": "x"} | vars(within(values, margin))).verdict[0]
    inside, outside = max(-inner, outer) < margin, low > margin or high < -margin
    assert verdict == (HOLDS if inside else FAILS if outside else UNDECIDED)


def test_the_claims_are_those_of_the_notebooks_table():
    notebook = json.loads((paths.home() / "notebooks" / f"{NOTEBOOK}.ipynb").read_text())
    text = "\n".join(
        "".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"
    )
    rows = [
        line.strip("| ").split(" | ") for line in text.split("\n") if re.match(r"\| \d+ \|", line)
    ]
    assert [
        [str(c.number), c.statement, c.quantity, c.holds_if, c.fails_if] for c in verdicts.CLAIMS
    ] == rows


def test_sizes_are_those_of_the_rules():
    printed = {c.number: (c.holds_if, c.fails_if) for c in verdicts.CLAIMS}
    assert printed[1][0] == f"within {MARGIN} of {papers.PAPER_BASE:.3f}"
    assert printed[8][0] == printed[10][0] == f"within {MARGIN} of 0"
    assert printed[4][0] == f"above {verdicts.ALIKE}"
    assert all(printed[n] == ("above 0", f"below {replay.SMALLEST_GAIN}") for n in (5, 6, 11, 12))
    assert printed[7] == (f"within {replay.SMALLEST_GAIN} of 0", "above 0")


def test_the_papers_gap_to_glob_1_is_what_table_1_says():
    gaps = [
        round(papers.PAPER_BOGP[s] - papers.PAPER_TABLE_1["glob_1"][s], 3)
        for s in papers.PAPER_BOGP
    ]
    assert f"{min(gaps):.3f} to +{max(gaps):.3f}" in verdicts.CLAIMS[7].paper
    printed = list(papers.PAPER_BOGP.values())
    assert verdicts.CLAIMS[6].paper.startswith(f"{min(printed):.3f} to {max(printed):.3f}")
    assert all(f"{papers.PAPER_BOGP[s]:.3f}" in verdicts.CLAIMS[8].paper for s in (0.15, 0.75))


def test_evidence_of_one_claim_may_come_in_parts_with_rows_numbered_alike():
    parts = [
        pd.DataFrame([case(8, 0.03, 1.0, name, estimate)])
        for name, estimate in (("a", 0.0012), ("b", -0.0003))
    ]
    found = verdicts.judge(pd.concat(parts))
    assert found["p_for_holm"].tolist() == [0.06, 0.06]
    table = verdicts.rendered(verdicts.overall(found), found)
    assert table["we got"][0] == "-0.0003 [-0.0013, +0.0007] (b) to +0.0012 [+0.0002, +0.0022] (a)"


def several():
    return judged(
        case(11, 0.5, 0.5, "MNIST", 0.0021, 0.0034, 40, "regions.csv"),
        case(1, 1.0, 0.001, "paper", 0.81, 0.02, 5),
        case(8, 0.001, 1.0, "s = 0.15", -0.00004, n=20),
        case(8, 0.3, 0.3, "s = 0.30", 0.0012, 0.0011, 15),
        case(8, 0.3, 0.3, "s = 0.90", -0.0003, 0.0016, 20, "b.csv"),
        case(9, 0.001, 1, "s = 0.15"),
        case(9, 0.001, 1, "s = 0.75"),
    )


def test_the_summary_counts_cases_and_names_their_range():
    found = verdicts.overall(several()).set_index("claim")
    assert found.index.tolist() == [1, 8, 9, 11]
    assert found.loc[8, ["cases", "hold", "fail", "undecided"]].tolist() == [3, 1, 0, 2]
    assert (found.loc[8, "ours"], found.loc[8, "n"], found.loc[8, "source"]) == (
        "-0.0003 to +0.0012",
        "15 to 20",
        "a.csv, b.csv",
    )
    assert (found.loc[1, "ours"], found.loc[1, "n"]) == ("0.8100", "5")
    assert found["verdict"].tolist() == [FAILS, UNDECIDED, HOLDS, UNDECIDED]


def test_the_table_for_people():
    evidence = several()
    table = verdicts.rendered(verdicts.overall(evidence), evidence)
    assert (
        table["claim"].tolist()[0] == "1: the printed settings train the unpruned network to 0.970"
    )
    assert table["we got"].tolist() == [
        "0.8100 [0.8090, 0.8110]",
        "-0.0003 [-0.0013, +0.0007] (s = 0.90) to +0.0012 [+0.0002, +0.0022] (s = 0.30)",
        "+0.0000 [-0.0010, +0.0010] (s = 0.15) to +0.0000 [-0.0010, +0.0010] (s = 0.15)",
        "+0.0021 [+0.0011, +0.0031]",
    ]
    assert table["verdict"].tolist() == [
        "does not hold",
        "cannot be decided (of 3 cases 1 hold, 0 do not, 2 undecided); an effect of 0.0011 to "
        "0.0016 would have been found",
        "holds (in each of 2 cases)",
        "cannot be decided; an effect of 0.0034 would have been found",
    ]
    assert table["table"].tolist() == ["a.csv", "a.csv, b.csv", "a.csv", "regions.csv"]
    assert outputs.as_markdown(table).count("\n") == 5


def test_only_a_claim_that_cannot_be_decided_says_what_would_have_been_found():
    evidence = family(8, AGAINST, NEITHER)
    table = verdicts.rendered(verdicts.overall(evidence), evidence)
    assert table["verdict"].tolist() == ["does not hold (of 2 cases 0 hold, 1 do not, 1 undecided)"]


def test_findings_name_every_claim_once_under_its_verdict():
    text = verdicts.findings(verdicts.overall(several()))
    hold, fail, undecided = text.removesuffix(".").split(". Claims ")
    assert hold == "Claims that hold: 1 of 4, namely best of all at s = .15 and .75 (9)"
    assert fail.startswith("that do not hold: 1 of 4") and "(1)" in fail
    assert (
        undecided.startswith("that cannot be decided: 2 of 4")
        and "(8)" in undecided
        and "(11)" in undecided
    )
    assert verdicts.findings(verdicts.overall(family(8, FOR))).count("Claims that") == 1


def motivation_tables():
    folder = paths.results_dir("paper") / measure.MOTIVATION
    return pd.read_csv(folder / "calibrated_correlations.csv"), pd.read_csv(
        folder / "calibrated_monotone.csv"
    )


def test_notebooks_01_and_04_keep_the_verdicts_of_their_own_rules():
    correlations, judgements = motivation_tables()
    assert monotone_verdict(correlations, judgements) == "supported"
    found = verdicts.elsewhere(correlations, judgements, tables.tables_compared())
    assert found["verdict"].tolist() == [HOLDS, FAILS]
    raw = correlations.query("variant == 'same' and kind == 'raw'").set_index("property")
    one = raw.loc["clustering"]
    words = f"clustering {one['mean']:+.2f} [{one.low:+.2f}, {one.high:+.2f}], path_length"
    assert found["we got"][0].startswith(f"correlations: {words}") and found["n"][0] == "12"
    # model 784-128-128-10: its six rows have sparsities that no mask reaches; mask, interpolated:
    # five are beaten by Table 1
    assert found["we got"][1] == "5 to 6 of 6 rows of Table 2 refuted, in 6 readings"
    assert all((paths.results_dir("paper") / source).exists() for source in found["table"])
    contradicted = verdicts.elsewhere(
        correlations, judgements.assign(rejected=True), tables.tables_compared()
    )
    assert contradicted["verdict"][0] == FAILS
    undecided = verdicts.elsewhere(
        correlations.assign(low=-1.0, high=1.0),
        judgements.assign(rejected=False),
        tables.tables_compared(),
    )
    assert undecided["verdict"][0] == UNDECIDED


def test_one_reading_without_a_contradiction_is_enough_for_both_tables():
    compared = tables.tables_compared()
    one = (compared["reading"] == "mask") & (compared["form"] == "interpolated")
    compared.loc[one, "beaten"] = False
    assert verdicts.elsewhere(*motivation_tables(), compared)["verdict"][1] == HOLDS
    compared.loc[one, "possible"] = False
    assert verdicts.elsewhere(*motivation_tables(), compared)["verdict"][1] == FAILS


def test_those_rows_stand_below_the_others():
    evidence = several()
    others = verdicts.elsewhere(*motivation_tables(), tables.tables_compared())
    table = verdicts.rendered(verdicts.overall(evidence), evidence, others)
    assert (
        len(table) == 6
        and table["claim"].iloc[-1].startswith("notebook 04")
        and not table.isna().any(axis=None)
    )
