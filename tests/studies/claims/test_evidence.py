"""From tables to evidence: each claim reads its own table, and of that the rows that it speaks
of.
"""

import numpy as np
import pandas as pd
import pytest

from bogp.studies.claims import defects, evidence, prediction, replay, reported, verdicts
from bogp.studies.claims.verdicts import FAILS, HOLDS, above, within

ACCURACIES = [0.81, 0.80, 0.82]
GAINS = {"measured": 0.5, "properties": 0.002, "one family: properties": -0.002}


def trainings(name, accuracies):
    masks, seeds = accuracies.shape
    rows = {
        "mask": np.repeat(range(masks), seeds),
        "seed": np.tile(range(seeds), masks),
        "test_accuracy": accuracies.ravel(),
    }
    return pd.DataFrame(rows).assign(set=name)


def replayed(**regrets):
    rows = [
        {"method": m, "recommender": r, "repeat": k, "regret": value, "distinct": 20}
        for m, values in regrets.items()
        for r in ("observed", "posterior")
        for k, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def of_values(*values):
    return vars(within(values, 0.1))


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    searches = replayed(
        box=[0.001, 0.002, 0.0015],
        random=[0.004, 0.0055, 0.005],
        box_permuted=[0.001, 0.003, 0.002],
    )
    predicted = {
        "predictor": "all",
        "model": prediction.NESTED,
        "n": 100,
        "rho": 0.2,
        "rho_low": 0.0,
        "rho_high": 0.4,
        "rho_ceiling": 0.5,
        "p_above": 0.9,
        "p_below": 0.1,
    }
    gains = pd.DataFrame(
        [
            {"sparsity": 0.95, "pool": k, "arm": arm, "against": "random", "ceiling": 0.01}
            | {"advantage": advantage + 0.001 * k}
            for k in range(3)
            for arm, advantage in GAINS.items()
        ]
    )
    return {
        "audit": pd.DataFrame(
            {
                "protocol": ["paper"] * 3 + ["calibrated"] * 3,
                "test_accuracy": ACCURACIES + [0.97] * 3,
            }
        ),
        "crossed": pd.concat(
            [
                trainings(f"{f}, s = 0.60", rng.normal(0.97, 0.001, (6, 3)))
                for f in ("bernoulli", "ws_flex", "released")
            ]
        ),
        "predicted": pd.DataFrame(
            [
                predicted | {"set": f"{f}, s = 0.60"}
                for f in ("bernoulli", "ws_flex", "all families")
            ]
        ),
        "twins": pd.DataFrame(
            {"case": ["a", "b"], "difference": [1e-12, 2e-12], "same_start": 1.0, "n": [100, 100]}
        ),
        "replayed": pd.concat(
            [searches.assign(table=name) for name in ("s = 0.60", "planted: hill")]
        ),
        "cursed": pd.DataFrame(
            [{"case": "x"} | of_values(0.001, 0.002), {"case": "x"} | of_values(0.003, 0.004)]
        ).assign(method=["random", "bogp"]),
        "compared": pd.DataFrame(
            [{"case": "x"} | of_values(0.003, 0.004), {"case": "x"} | of_values(0.1, 0.2)]
        ).assign(against=["glob_1", "glob_1_best"]),
        "best_of_all": pd.DataFrame(columns=["case", *verdicts.TESTED]),
        "defects": pd.DataFrame(
            {
                "defect": [defects.CORRECT] * 3 + ["b"] * 3,
                "search_seed": [0, 1, 2, 2, 1, 0],
                "reported": [0.90, 0.95, 0.80, 0.81, 0.96, 0.91],
            }
        ),
        "pools_advantages": gains,
    }


@pytest.fixture
def found(tables):
    return evidence.of_tables(tables, "calibrated")


def on(found, claim):
    return found[found["claim"] == claim].reset_index(drop=True)


def test_each_claim_reads_its_own_table_and_one_without_rows_is_no_evidence(found):
    assert found.columns.tolist() == list(verdicts.COLUMNS)
    assert found["claim"].tolist() == [1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 11, 12]
    names = (
        found.drop_duplicates("claim")
        .set_index("claim")["source"]
        .str.removeprefix("06_claims/calibrated_")
        .to_dict()
    )
    assert names == {
        1: "audit.csv",
        2: "spreads.csv",
        3: "predicted.csv",
        4: "twins.csv",
        5: "searches.csv",
        6: "against_permuted.csv",
        7: "cursed.csv",
        8: "compared.csv",
        10: "defects.csv",
        11: "pools.csv",
        12: "pools.csv",
    }
    assert (found["cell"] == [verdicts.CLAIMS[claim - 1].section for claim in found["claim"]]).all()


def test_claim_1_reads_the_protocol_paper_alone(found, tables):
    one = on(found, 1).iloc[0]
    assert (one["n"], one["estimate"]) == (3, pytest.approx(0.81)) and one["p_against"] < 0.01
    good = tables | {
        "audit": tables["audit"].assign(test_accuracy=[0.9700, 0.9702, 0.9699, 0.5, 0.5, 0.5])
    }
    assert on(evidence.of_tables(good, "x"), 1)["p_for"][0] < 0.01


def test_claims_2_and_3_leave_out_structured_families_alone(found):
    assert on(found, 2)["case"].tolist() == ["bernoulli, s = 0.60"]
    assert on(found, 3)["case"].tolist() == ["bernoulli, s = 0.60", "all families, s = 0.60"]


def test_claim_4_is_a_matter_of_fact(found):
    facts = on(found, 4)
    assert verdicts.judge(facts)["verdict"].tolist() == [FAILS, HOLDS]
    assert facts[["low", "high", "detectable"]].isna().all(axis=None)
    table = verdicts.rendered(verdicts.overall(verdicts.judge(facts)), verdicts.judge(facts))
    assert table["we got"][0] == "1.0e-12 (a) to 2.0e-12 (b)"


def test_claims_5_and_6_are_of_box_on_measured_tables(found):
    chance, permuted = on(found, 5), on(found, 6)
    assert chance["case"].tolist() == permuted["case"].tolist() == ["s = 0.60"]
    expected = above([0.003, 0.0035, 0.0035], 0, replay.SMALLEST_GAIN)
    assert chance.loc[0, ["estimate", "p_for", "p_against"]].tolist() == pytest.approx(
        [expected.estimate, expected.p_for, expected.p_against]
    )
    assert permuted.loc[0, "estimate"] == pytest.approx(np.mean([0, 0.001, 0.0005]))


def test_claim_7_is_about_the_search_and_claim_8_about_one_network_of_glob_1(found):
    assert (
        on(found, 7)["estimate"].tolist()
        == on(found, 8)["estimate"].tolist()
        == [pytest.approx(0.0035)]
    )


def test_claim_10_pairs_each_defect_with_its_own_search(found):
    one = on(found, 10).iloc[0]
    assert (one["case"], one["n"]) == ("b", 3)
    np.testing.assert_allclose(
        [one["estimate"], one["low"], one["high"]], 0.01
    )  # the differences do not vary, the accuracies do
    assert one["p_against"] < 0.001


def test_claims_11_and_12_are_of_properties_in_all_graphs_and_within_one_family(found):
    assert on(found, 11)["case"].tolist() == on(found, 12)["case"].tolist() == ["s = 0.95"]
    assert on(found, 11)["estimate"][0] == pytest.approx(0.003)
    assert on(found, 12)["estimate"][0] == pytest.approx(-0.001)
    assert on(found, 11)["n"][0] == 3, "pools"


def test_tables_of_a_run_without_other_notebooks_give_evidence_on_the_other_claims(
    tables, monkeypatch, tmp_path
):
    monkeypatch.setenv("BOGP_HOME", str(tmp_path))
    found = evidence.of_tables(tables | reported.read("nothing", "calibrated").tables, "calibrated")
    assert set(found["claim"]) == {1, 2, 3, 4, 5, 6, 10, 11, 12}
