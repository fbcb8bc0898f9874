"""The committed results of notebook 06 follow from the committed trainings, and these from the committed evaluations."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from bogp.studies.claims import NOTEBOOK, crossed, defects, exchangeable, prediction, regions, replay, reported, settings, verdicts

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "data" / "results" / "paper"


def committed(name):
    return pd.read_csv(RESULTS / NOTEBOOK / f"calibrated_{name}.csv")


def same(found, name):
    expected = committed(name)
    pd.testing.assert_frame_equal(found.reset_index(drop=True)[list(expected.columns)], expected, check_dtype=False, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["audit", "crossed", "changed", "regions", "converged_trainings"])
def test_trainings_are_the_committed_evaluations(name):
    stored = pd.read_parquet(ROOT / "data" / "evaluations" / "paper" / f"{NOTEBOOK}_calibrated.parquet").set_index("key")
    rows = committed(name)
    mine = stored.loc[rows.key]
    assert (mine.test_accuracy.to_numpy() == rows.test_accuracy.to_numpy()).all()
    assert (mine.validation_accuracy.to_numpy() == rows.validation_accuracy.to_numpy()).all()
    assert (mine.seed.to_numpy() == rows.seed.to_numpy()).all()
    assert set(mine.device) == {"cpu"} and set(mine.precision) == {"float32"}, "numbers of different devices never meet in one comparison"


def test_summaries_follow_from_the_trainings():
    same(settings.summary(committed("audit")), "settings")
    trainings = committed("crossed")
    same(crossed.parts(trainings), "parts")
    same(crossed.spreads(trainings, verdicts.MARGIN), "spreads")
    same(exchangeable.parts(committed("changed")), "changed_parts")
    same(defects.effects(committed("defects")), "defect_effects")
    same(crossed.parts(committed("regions"), by=("region", "dataset", "sparsity", "numbering")), "regions_parts")
    same(regions.advantages(committed("regions_replayed")), "advantages")
    replayed = committed("replayed")
    found = [replay.summary(one).assign(table=case) for case, one in replayed.groupby("table", sort=False)]
    same(pd.concat(found), "searches")


def test_what_is_reported_follows_from_notebooks_03_and_05(monkeypatch):
    monkeypatch.setenv("BOGP_HOME", str(ROOT))
    found = reported.read("paper", "calibrated")
    same(found.cursed, "cursed")
    same(found.compared, "compared")
    same(found.best, "best_of_all")


def test_verdicts_follow_from_the_tables(monkeypatch):
    monkeypatch.setenv("BOGP_HOME", str(ROOT))
    judged = committed("evidence")
    again = verdicts.judge(judged[list(verdicts.COLUMNS)])
    assert again.verdict.tolist() == judged.verdict.tolist()
    summary = verdicts.overall(again)
    assert summary.verdict.tolist() == committed("claims").verdict.tolist()
    assert set(summary.claim) == set(range(1, 13))
    for source in judged.source.unique():
        assert (RESULTS / source).exists(), source


def test_what_the_page_of_results_says_in_words():
    released = committed("parts").set_index(["set", "part"]).loc[("released, s = 0.60", "masks")]
    assert released.p > 0.05, "no difference between masks shows"
    permuted = committed("against_permuted").set_index("table").loc["s = 0.60"]
    assert permuted.high < replay.SMALLEST_GAIN, "no better than with permuted properties"


def test_evidence_follows_from_the_summaries():
    evidence = committed("evidence").set_index(["claim", "case"])
    for name, claim in (("spreads", 2), ("cursed", 7)):
        rows = committed(name)
        rows = rows[rows.method == "bogp"] if "method" in rows else rows[rows.case.str.startswith("bernoulli")]
        for one in rows.itertuples():
            assert evidence.loc[(claim, one.case), ["estimate", "low", "high"]].tolist() == pytest.approx([one.estimate, one.low, one.high])
    predicted = prediction.indications(committed("predicted")).set_index("case")
    for case, one in evidence.loc[3].iterrows():
        assert (one.estimate, one.p_for) == pytest.approx((predicted.estimate[case], predicted.p_for[case]))
    advantages = committed("advantages").query("searched == 'properties'").set_index(["numbering", "region"])
    for claim, numbering in ((11, "native"), (12, "relabelled")):
        for case, one in evidence.loc[claim].iterrows():
            assert one.estimate == pytest.approx(advantages.advantage[numbering, case])


def test_the_designs_have_the_sizes_of_the_profile():
    profile = yaml.safe_load((ROOT / "notebooks" / "profiles" / "paper.yaml").read_text())["claims"]["calibrated"]
    parts = committed("parts").drop_duplicates("set").set_index("set")
    for s in profile["sparsities"]:
        assert parts.loc[f"bernoulli, s = {s:.2f}", ["n_masks", "n_seeds"]].tolist() == profile["bernoulli_design"] == [256, 16]
        for family in profile["families"]:
            assert parts.loc[f"{family}, s = {s:.2f}", ["n_masks", "n_seeds"]].tolist() == profile["family_design"]
    assert parts.loc["released, s = 0.60", ["n_masks", "n_seeds"]].tolist() == profile["released_design"]
    protocols, searches, replays = profile["repeats"]
    assert set(committed("settings").n) == {protocols}
    assert set(committed("searches").n) == {replays} and replays >= 30
    grid = committed("regions").groupby(["dataset", "sparsity", "numbering"])
    assert (grid["mask"].nunique() == 4 * profile["region_design"][0]).all() and (
        grid["seed"].nunique() == profile["region_design"][1]
    ).all()
    datasets = len(profile["region_datasets"]) + len(profile["relabelled_datasets"])
    assert len(grid) == len(profile["region_sparsities"]) * datasets
    assert committed("defects").groupby("defect").search_seed.nunique().eq(searches).all()
