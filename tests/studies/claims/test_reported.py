"""What was reported, against fresh seeds, and Table 1 with equivalence tests: numbers worked out
again from the committed tables, by other means.
"""

import csv

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp import paths
from bogp.errors import BogpError, InvalidInput
from bogp.studies.baselines import measure
from bogp.studies.claims import reported
from bogp.studies.claims.verdicts import judge
from bogp.studies.fixed_sparsity import tables as fixed_sparsity_tables

SPARSITIES = [0.15, 0.30, 0.45, 0.60, 0.75, 0.90]


def lines(notebook, sparsity, what):
    """A committed table as dictionaries of texts, read without the package."""
    with (
        paths.results_dir("paper") / notebook / f"calibrated_s{sparsity:.2f}_{what}.csv"
    ).open() as file:
        return list(csv.DictReader(file))


def tables(notebook, what):
    return reported.gathered("paper", notebook, "calibrated", what)


@pytest.fixture(scope="module")
def results():
    return tables(measure.NOTEBOOK, "results")


@pytest.fixture(scope="module")
def cursed():
    return reported.curse(
        tables(fixed_sparsity_tables.FIXED_SPARSITY, "chosen"),
        tables(fixed_sparsity_tables.FIXED_SPARSITY, "history"),
    )


def evidence_on(claim, rows):
    return rows.assign(claim=claim, source="a.csv", cell="a section")


def accuracy(sparsity, accounting, method):
    found = {
        int(r["pair"]): float(r["test"])
        for r in lines(measure.NOTEBOOK, sparsity, "results")
        if (r["accounting"], r["method"]) == (accounting, method)
    }
    assert found
    return found


def gap(sparsity, accounting, first, second):
    a, b = accuracy(sparsity, accounting, first), accuracy(sparsity, accounting, second)
    return np.array([a[k] - b[k] for k in sorted(a.keys() & b.keys())])


def test_files_come_in_order_and_say_their_sparsity():
    chosen = tables(fixed_sparsity_tables.FIXED_SPARSITY, "chosen")
    assert chosen["target_sparsity"].unique().tolist() == SPARSITIES and len(chosen) == 240
    assert all(
        m.startswith(f"s{s!r}-")
        for m, s in zip(chosen["mask_id"], chosen["target_sparsity"].astype(float), strict=True)
    )
    assert reported.gathered("paper", fixed_sparsity_tables.FIXED_SPARSITY, "paper", "chosen")[
        "target_sparsity"
    ].unique().tolist() == [0.6]
    assert (
        len(reported.gathered("paper", fixed_sparsity_tables.FIXED_SPARSITY, "literal", "chosen"))
        == 0
    )


@pytest.mark.parametrize("sparsity", [0.15, 0.90])
@pytest.mark.parametrize("method", ["bogp", "random"])
def test_the_curse_by_hand(cursed, sparsity, method):
    found = cursed[(cursed["target_sparsity"] == sparsity) & (cursed["method"] == method)].iloc[0]
    mine = [
        r
        for r in lines(fixed_sparsity_tables.FIXED_SPARSITY, sparsity, "chosen")
        if r["method"] == method
    ]
    excess = [float(r["validation_accuracy"]) - float(r["fresh_validation"]) for r in mine]
    test = stats.ttest_1samp(excess, 0)
    assert found["n"] == 20 and found["estimate"] == pytest.approx(np.mean(excess))
    assert (found["low"], found["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert found["p_against"] == pytest.approx(test.pvalue)  # all are above 0
    assert found["p_for"] == pytest.approx(
        stats.ttest_1samp(excess, 0.0005, alternative="less").pvalue
    )
    assert found["apparent"] - found["fresh_validation"] == pytest.approx(found["estimate"])
    on_test = [float(r["validation_accuracy"]) - float(r["fresh_test"]) for r in mine]
    ends = stats.ttest_1samp(on_test, 0).confidence_interval()
    assert (found["test_difference"], found["test_low"], found["test_high"]) == pytest.approx(
        (np.mean(on_test), ends.low, ends.high)
    )


@pytest.mark.parametrize("method", ["bogp", "random"])
def test_the_gain_over_masks_that_nobody_chose_by_hand(cursed, method):
    drawn = {}
    for r in lines(fixed_sparsity_tables.FIXED_SPARSITY, 0.60, "history"):
        if r["method"] == "random":
            drawn.setdefault(r["search_seed"], []).append(float(r["validation_accuracy"]))
    assert {len(v) for v in drawn.values()} == {25}
    mine = [
        r
        for r in lines(fixed_sparsity_tables.FIXED_SPARSITY, 0.60, "chosen")
        if r["method"] == method
    ]
    gain = [float(r["fresh_validation"]) - np.mean(drawn[r["search_seed"]]) for r in mine]
    found = cursed[(cursed["target_sparsity"] == 0.60) & (cursed["method"] == method)].iloc[0]
    ends = stats.ttest_1samp(gain, 0).confidence_interval()
    assert (found["gain"], found["gain_low"], found["gain_high"]) == pytest.approx(
        (np.mean(gain), ends.low, ends.high)
    )


def test_claim_7_of_the_committed_run(cursed):
    found = judge(evidence_on(7, cursed[cursed["method"] == "bogp"]))
    assert found["case"].tolist() == [f"s = {s:.2f}" for s in SPARSITIES]
    assert set(found["verdict"]) == {"does not hold"}, "every search shows more than it got"


def planted(excess, method="bogp"):
    """Chosen masks whose fresh validation accuracy is so much lower."""
    n = len(excess)
    return pd.DataFrame(
        {
            "target_sparsity": 0.5,
            "method": method,
            "search_seed": range(n),
            "apparent": 0.97,
            "fresh_validation": 0.97 - np.array(excess),
            "fresh_test": 0.975,
        }
    )


def test_an_excess_below_the_smallest_gain_is_none_and_a_deficit_speaks_for_nothing():
    drawn = pd.DataFrame(
        {
            "target_sparsity": 0.5,
            "method": "random",
            "search_seed": range(4),
            "validation_accuracy": 0.96,
        }
    )
    small, large, negative = (
        reported.curse(planted(np.array([-1, 0, 1, 0]) * 1e-5 + shift), drawn).iloc[0]
        for shift in (0.0003, 0.0008, -0.0008)
    )
    assert small["p_for"] < 0.05 and large["p_for"] > 0.9 and negative["p_for"] > 0.9
    assert large["p_against"] < 0.05 and negative["p_against"] == 1
    assert small["gain"] == pytest.approx(0.0097)


@pytest.mark.parametrize(
    ("against", "reference"),
    [
        ("glob_1", "bogp_mask"),
        ("random", "bogp_mask"),
        ("glob_1_best", "bogp"),
        ("random_best", "bogp"),
        ("base_best", "bogp"),
        ("random_search", "bogp"),
    ],
)
def test_like_for_like_by_hand(results, against, reference):
    found = reported.like_for_like(results)
    found = found[found["against"] == against].set_index("target_sparsity")
    assert found.index.tolist() == SPARSITIES
    p = {"p_for": [], "p_against": [], "p_different": []}
    for s in SPARSITIES:
        d = gap(s, "like for like", reference, against)
        ends, margin = stats.ttest_1samp(d, 0).confidence_interval(), 0.002
        assert found.loc[s, "n"] == len(d) == (5 if against == "random_best" else 20)
        assert found.loc[s, ["estimate", "low", "high"]].tolist() == pytest.approx(
            [d.mean(), ends.low, ends.high]
        )
        upper, lower = (
            stats.ttest_1samp(d, margin, alternative="less").pvalue,
            stats.ttest_1samp(d, -margin, alternative="greater").pvalue,
        )
        p["p_for"].append(max(upper, lower))
        p["p_against"].append(min(1, 2 * min(1 - upper, 1 - lower)))
        p["p_different"].append(stats.ttest_1samp(d, 0).pvalue)
    for name, values in p.items():
        assert found[name].tolist() == pytest.approx(values, rel=1e-5, abs=1e-9)
        order, running, adjusted = np.argsort(values), 0.0, np.empty(6)
        for rank, i in enumerate(order):  # Holm, step by step
            running = max(running, (6 - rank) * values[i])
            adjusted[i] = min(1, running)
        assert found[f"{name}_holm"].tolist() == pytest.approx(
            adjusted.tolist(), rel=1e-5, abs=1e-8
        )


def test_claim_8_of_the_committed_run(results):
    found = judge(evidence_on(8, reported.like_for_like(results).query("against == 'glob_1'")))
    assert found["verdict"].tolist() == ["holds"] * 6


def test_the_rule_for_other_margins_and_for_the_unpruned_network_by_hand(results):
    found = reported.against_margin(results, (0.001, 0.002))
    assert len(found) == 2 * 2 * 6
    for arm, method in {"BoGP": "bogp_mask", "unpruned": "base"}.items():
        for margin in (0.001, 0.002):
            one = found[(found["arm"] == arm) & (found["margin"] == margin)]
            assert one["target_sparsity"].tolist() == SPARSITIES
            for row in one.itertuples():
                d = gap(row.target_sparsity, "like for like", method, "glob_1")
                upper, lower = (
                    stats.ttest_1samp(d, margin, alternative="less").pvalue,
                    stats.ttest_1samp(d, -margin, alternative="greater").pvalue,
                )
                assert (row.n, row.estimate) == (len(d), pytest.approx(d.mean()))
                assert row.p_for == pytest.approx(max(upper, lower), rel=1e-5)
    # at the claim's margin, the claim's verdicts
    claimed = judge(evidence_on(8, reported.like_for_like(results).query("against == 'glob_1'")))
    mine = found.query("arm == 'BoGP' and margin == 0.002")
    assert mine["verdict"].tolist() == claimed["verdict"].tolist()


def test_the_test_is_informative_where_the_unpruned_network_is_not_on_a_par(results):
    curve = reported.against_margin(results)
    assert reported.informative(curve) == (
        "By the same rule the unpruned network is on a par with Glob_1 at s = 0.15, s = 0.30, "
        "s = 0.45, s = 0.60. Where it is, the test says little of a method; it is informative at "
        "s = 0.75, s = 0.90."
    )
    smallest = reported.smallest_margins(curve).set_index("case")
    assert (smallest["BoGP"] <= 0.002).all() and smallest.loc["s = 0.90", "unpruned"] > 0.002
    assert (smallest.loc["s = 0.75":, "unpruned"] > smallest.loc["s = 0.75":, "BoGP"]).all()
    worse = results.assign(
        test=results["test"] - 0.01 * ((results["method"] == "base") & (results["pair"] >= 0))
    )
    altered = reported.against_margin(worse)
    assert "on a par with Glob_1 at no sparsity." in reported.informative(altered)
    assert reported.smallest_margins(altered)["unpruned"].isna().all()


def test_without_results_the_curve_of_margins_has_no_rows(results):
    found = reported.against_margin(results[:0])
    assert len(found) == 0 and {"arm", "margin", "verdict"} < set(found.columns)
    assert len(reported.smallest_margins(found)) == 0
    assert "informative at no sparsity" in reported.informative(found)


def test_best_of_all_by_hand(results):
    found = reported.best_of_all(results)
    names = {"glob_1": "Glob_1", "glob_5": "Glob_5", "unif_1": "Unif_1", "unif_5": "Unif_5"}
    assert found["case"].tolist() == [
        f"s = {s:.2f}, {name}" for s in (0.15, 0.75) for name in names.values()
    ]
    for row in found.itertuples():
        d = gap(row.target_sparsity, "as in the paper", "bogp", row.against)
        assert (row.n, row.estimate) == (len(d), pytest.approx(d.mean()))
        assert row.n == (5 if row.against.endswith("5") else 20)
        two_sided = stats.ttest_1samp(d, 0).pvalue
        assert (row.p_for, row.p_against) == pytest.approx(
            (two_sided, 1.0) if d.mean() > 0 else (1.0, two_sided)
        )


def test_results_without_a_method_are_refused(results):
    with pytest.raises(InvalidInput, match="no results of bogp_mask beside glob_1 at sparsity"):
        reported.like_for_like(results[results["method"] != "glob_1"])


def test_a_method_with_a_single_pair_has_no_row(results):
    """As in a small run, whose other methods are compared all the same."""
    few = results[(results["method"] != "glob_1_best") | (results["pair"] == 0)]
    found, whole = reported.like_for_like(few), reported.like_for_like(results)
    assert "glob_1_best" in set(whole["against"])
    rest = whole[whole["against"] != "glob_1_best"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, rest)
    alone = results[(results["method"] != "glob_5") | (results["pair"] == 0)]
    assert set(reported.best_of_all(alone)["against"]) == {"glob_1", "unif_1", "unif_5"}


def test_what_has_not_run_has_tables_without_rows_and_is_said(monkeypatch, tmp_path):
    there = reported.read("paper", "calibrated")
    monkeypatch.setenv("BOGP_HOME", str(tmp_path))
    found = reported.read("nothing", "calibrated")
    assert (len(found.chosen), found.elsewhere) == (0, None)
    for name, table in found.tables.items():
        assert len(table) == 0 and table.columns.tolist() == there.tables[name].columns.tolist()
    assert (
        found.missing
        == "In the run 'nothing' there are no results of notebook 03, notebook 05, notebook 01 "
        "or 04; they are left out."
    )
    assert reported.elsewhere("nothing", "calibrated") is None


def test_a_damaged_table_is_refused_and_not_taken_for_one_that_was_never_written(
    monkeypatch, tmp_path
):
    for source in (paths.results_dir("paper") / "05_baselines").glob("calibrated_s0.60_results.*"):
        target = tmp_path / "data" / "results" / "r" / "05_baselines" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    monkeypatch.setenv("BOGP_HOME", str(tmp_path))
    assert len(reported.gathered("r", "05_baselines", "calibrated", "results")) > 0
    path = target.with_suffix(".csv")
    path.write_text(path.read_text().replace("0.9", "0.8", 1))
    with pytest.raises(BogpError, match="is not what was written"):
        reported.read("r", "calibrated")


def test_read_is_what_the_functions_make_of_the_files(results):
    found = reported.read("paper", "calibrated")
    pd.testing.assert_frame_equal(found.tables["compared"], reported.like_for_like(results))
    pd.testing.assert_frame_equal(found.tables["best_of_all"], reported.best_of_all(results))
    assert len(found.elsewhere) == 2 and found.missing == ""
