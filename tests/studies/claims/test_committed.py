"""The committed results of notebook 06 follow from the committed trainings, and these from the
committed evaluations.
"""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bogp import records
from bogp.studies.claims import (
    NOTEBOOK,
    controls,
    crossed,
    defects,
    designs,
    evidence,
    exchangeable,
    pools,
    replay,
    reported,
    settings,
    verdicts,
)

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "data" / "results" / "paper"


def committed(name):
    return pd.read_csv(RESULTS / NOTEBOOK / f"calibrated_{name}.csv")


def same(found, name):
    expected = committed(name)
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True)[list(expected.columns)],
        expected,
        check_dtype=False,
        rtol=1e-6,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    "name",
    ["audit", "crossed", "changed", "regions", "converged_trainings", "pools_fresh"],
)
def test_trainings_are_the_committed_evaluations(name):
    stored = pd.read_parquet(
        ROOT / "data" / "evaluations" / "paper" / f"{NOTEBOOK}_calibrated.parquet"
    ).set_index("key")
    rows = committed(name)
    mine = stored.loc[rows.key]
    assert (mine.test_accuracy.to_numpy() == rows.test_accuracy.to_numpy()).all()
    assert (mine.validation_accuracy.to_numpy() == rows.validation_accuracy.to_numpy()).all()
    assert (mine.seed.to_numpy() == rows.seed.to_numpy()).all()
    assert set(mine.device) == {"cpu"} and set(mine.precision) == {"float32"}, (
        "numbers of different devices never meet in one comparison"
    )


def test_summaries_follow_from_the_trainings():
    same(settings.summary(committed("audit")), "settings")
    trainings = committed("crossed")
    same(crossed.parts(trainings), "parts")
    same(crossed.spreads(trainings), "spreads")
    same(exchangeable.parts(committed("changed")), "changed_parts")
    same(defects.effects(committed("defects")), "defect_effects")
    same(
        crossed.parts(committed("regions"), by=("region", "dataset", "sparsity", "numbering")),
        "regions_parts",
    )
    same(pools.advantages(committed("pools_fresh")), "pools_advantages")
    same(pools.summary(committed("pools_advantages")), "pools")
    same(controls.slope_advantages(committed("slopes")), "slope_advantages")
    same(controls.slope_summary(committed("slope_advantages")), "slope_summary")
    same(replay.summary(committed("replayed")), "searches")
    same(replay.against_permuted(committed("replayed")), "against_permuted")


def test_verdicts_follow_from_the_tables_alone(monkeypatch):
    """From what was measured to the table that people read, every step again."""
    monkeypatch.setenv("BOGP_HOME", str(ROOT))
    before = reported.read("paper", "calibrated")
    assert not before.missing
    for name, table in before.tables.items():
        same(table, name)
    names = ("audit", "crossed", "predicted", "twins", "replayed", "defects", "pools_advantages")
    judged = verdicts.judge(
        evidence.of_tables({name: committed(name) for name in names} | before.tables, "calibrated")
    )
    summary = verdicts.overall(judged)
    same(judged, "evidence")
    same(summary, "claims")
    same(verdicts.rendered(summary, judged, before.elsewhere), "answer")
    assert set(summary.claim) == set(range(1, 13))
    for source in judged.source.unique():
        assert (RESULTS / source).exists(), source


def test_what_the_page_of_results_says_in_words():
    released = committed("parts").set_index(["set", "part"]).loc[("released, s = 0.60", "masks")]
    assert released.p > 0.05, "no difference between masks shows"
    permuted = committed("against_permuted").set_index("table").loc["s = 0.60"]
    assert permuted.high < replay.SMALLEST_GAIN, "no better than with permuted properties"


def test_the_designs_have_the_sizes_of_the_profile():
    profile = yaml.safe_load((ROOT / "notebooks" / "profiles" / "paper.yaml").read_text())[
        "claims"
    ]["calibrated"]
    design = designs.named(profile["design"])
    parts = committed("parts").drop_duplicates("set").set_index("set")
    sizes = {f"bernoulli, s = {s:.2f}": design.bernoulli for s in profile["sparsities"]}
    sizes |= {
        f"{f}, s = {s:.2f}": design.structured
        for f in profile["families"]
        for s in profile["sparsities"]
    }
    sizes["released, s = 0.60"] = design.released
    assert {name: (row.n_masks, row.n_seeds) for name, row in parts.iterrows()} == sizes
    assert design.bernoulli == (256, 16)
    assert (len(committed("settings")), {*committed("settings").n}) == (
        design.audited[0],
        {design.audited[1]},
    )
    assert {*committed("searches").n} == {design.replays[1]} and design.replays[1] >= 30
    climbed = committed("slope_advantages")
    assert {*climbed.n} == {design.slopes[2]}
    assert set(climbed.groupby(["table", "method"]).size()) == {design.slopes[0]}
    tried, fresh = (committed(f"pools_{name}") for name in ("tried", "fresh"))
    assert {*tried["graphs"]} == {design.pools.graphs}
    assert tried.groupby("sparsity")["pool"].nunique().to_dict() == dict.fromkeys(
        design.pools.sparsities, design.pools.pools
    )
    arms = fresh.groupby(["sparsity", "pool", "arm"])
    assert set(arms["graph"].nunique()) == {design.pools.chosen}
    assert set(arms["seed"].nunique()) == {design.pools.fresh_seeds}
    grid = committed("regions").groupby(["dataset", "sparsity", "numbering"])
    families = len(profile["mixture"])
    assert (grid["mask"].nunique() == families * design.regions[0]).all()
    assert (grid["seed"].nunique() == design.regions[1]).all()
    assert len(grid) == 2 * len(profile["region_sparsities"]) * len(profile["region_datasets"])
    long = committed("converged_trainings").groupby("dataset")
    assert (long["mask"].nunique() == families * design.converged[0]).all()
    assert (long["seed"].nunique() == design.converged[1]).all()
    changed = committed("changed_parts").drop_duplicates("change")
    assert changed[["graphs", "versions", "seeds"]].drop_duplicates().to_numpy().tolist() == [
        [4 * families, 4, 4]
    ]
    assert design.changed == (4, 4, 4)
    assert committed("defects").groupby("defect").search_seed.nunique().eq(design.defects[1]).all()
    beside = (RESULTS / NOTEBOOK / "calibrated_replays" / "s0.60.json").read_text()
    recorded = json.loads(beside)["parameters"]["settings"]
    assert (
        recorded["n_initial"] + recorded["n_iterations"] == design.replays[0] == design.defects[0]
    )


def test_committed_replays_are_found_again_by_their_parameters():
    """What a replay is recorded with must not change, or hours are searched again."""
    for file in sorted((RESULTS / NOTEBOOK / "calibrated_replays").glob("*.json")):
        parameters = json.loads(file.read_text())["parameters"]
        own = ["signs"] * file.stem.startswith("slopes")
        assert list(parameters) == ["numbers", "settings", "repeats", "methods", "libraries", *own]
        assert records.recorded_table(file.with_suffix(".csv"), parameters) is not None
