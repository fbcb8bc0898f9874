"""What is committed of notebooks 11 to 15 follows from the tables of single networks."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from bogp.records import read_table
from bogp.studies.depth_pruning import subsets
from bogp.studies.depth_pruning import tables as depth_tables
from bogp.studies.edge_importance import tables as importance_tables
from bogp.studies.scenarios import tables
from bogp.studies.surrogates import fresh, fresh_tables, ranking
from bogp.studies.surrogates import tables as surrogates_tables

ROOT = Path(__file__).resolve().parents[2]
RESULTS, EVALUATIONS = ROOT / "data" / "results" / "paper", ROOT / "data" / "evaluations" / "paper"

SECTIONS = {"12_cifar10_scenarios": "cifar10_scenarios", "13_wikitext": "wikitext"}


def same(found: pd.DataFrame, written: pd.DataFrame, keys: list[str]) -> None:
    """Equal tables but for the order of rows, and the last bits."""
    one, other = (
        t.sort_values(keys, kind="stable").reset_index(drop=True) for t in (found, written)
    )
    pd.testing.assert_frame_equal(one[list(other)], other, check_dtype=False, rtol=1e-9, atol=1e-12)


def units(notebook: str, pattern: str = "*.csv.gz") -> pd.DataFrame:
    return pd.concat(
        [read_table(p) for p in sorted((EVALUATIONS / notebook).glob(pattern))], ignore_index=True
    )


@pytest.mark.parametrize("notebook", SECTIONS)
def test_scenarios_follow_from_the_units_of_single_networks(notebook):
    folder, measured = RESULTS / notebook, units(notebook)
    order = list(dict.fromkeys(read_table(folder / "verdicts.csv")["network"]))
    measured = measured.sort_values("network", key=lambda c: c.map(order.index), kind="stable")
    keys = ["network", "seed", "scenario", "method", "chosen_on", "weights"]
    same(tables.fixed_share(measured), read_table(folder / "fixed_share.csv"), keys)
    same(tables.tuned(measured), read_table(folder / "tuned.csv"), ["network", "against", "method"])
    profile = yaml.safe_load((ROOT / "notebooks" / "profiles" / "paper.yaml").read_text())
    sizes = profile[SECTIONS[notebook]]
    for network, seeds in measured.groupby("network")["seed"]:
        start = sizes["first"]
        start = start if network == "transformer" else start[network != "dag"]
        assert sorted(set(seeds)) == list(range(start, start + 10)), "ten that nothing was found on"
    same(tables.areas(measured), read_table(folder / "areas.csv"), ["network", "method", "seed"])
    same(
        tables.against_random(measured),
        read_table(folder / "against_random.csv"),
        ["network", "method"],
    )
    same(tables.tested(measured), read_table(folder / "tested.csv"), ["question", "network"])
    same(tables.closing(measured, 0.05), read_table(folder / "closing.csv"), ["network"])
    answered = tables.verdicts(measured, 0.05)
    assert answered.astype(str).to_csv() == read_table(folder / "verdicts.csv").astype(str).to_csv()


def test_importances_follow_from_the_units_of_single_networks():
    folder = RESULTS / "11_edge_importance"
    names = sorted((EVALUATIONS / folder.name).glob("*.csv.gz"))
    assert len(names) == 20 + 30, "four networks, five seeds; and three, ten new seeds"
    given = read_table(folder / "fresh_several.csv")
    by_number = importance_tables.given_summary(given)
    keys = ["network", "method", "measure"]
    same(by_number, read_table(folder / "summary_fresh.csv"), keys)
    judged = importance_tables.flow_verdicts(by_number)
    same(judged, read_table(folder / "flow_verdicts.csv"), ["network"])
    single = read_table(folder / "single.csv")
    most = single[single["examples"] == single["examples"].max()]
    by_network = importance_tables.summary(most, "signed")
    same(by_network, read_table(folder / "summary.csv"), ["network", "method"])
    same(
        importance_tables.reached(by_network, "hessian", 0.8),
        read_table(folder / "target_1.csv"),
        ["network"],
    )
    several = read_table(folder / "several.csv")
    compared = read_table(folder / "differences.csv")
    signed = importance_tables.difference(several, "first_order", "unsigned_taylor")
    same(signed, compared[compared.iloc[:, 0].str.startswith("signed")].iloc[:, 1:], ["network"])


def test_verdicts_on_surrogates_and_searches_follow_from_the_tables_of_graphs():
    folder = RESULTS / "14_surrogate_search"
    ranked, searches = read_table(folder / "ranks.csv"), read_table(folder / "searches.csv")
    assert (ranked.groupby("size")["seed"].nunique() >= 10).all() and searches[
        "seed"
    ].nunique() >= 10
    summary, reached = (
        surrogates_tables.summary(ranked),
        surrogates_tables.reached(searches, within=0.05, share=0.1),
    )
    same(
        summary.drop(columns="printed"),
        read_table(folder / "summary.csv").drop(columns="printed"),
        ["size", "reading", "design", "predictor", "masks"],
    )
    same(reached, read_table(folder / "reached.csv"), ["method"])
    same(
        surrogates_tables.signed_against_unsigned(ranked),
        read_table(folder / "signed.csv"),
        ["size"],
    )
    written = read_table(folder / "verdicts.csv")
    assert (
        surrogates_tables.verdicts(ranked, summary, reached, 0.1).astype(str).to_csv()
        == written.astype(str).to_csv()
    )


def test_verdicts_on_flow_follow_from_the_ranks_of_new_graphs():
    folder = RESULTS / "14_surrogate_search"
    ranked = read_table(folder / "fresh_ranks.csv")
    assert (ranked.groupby("size")["seed"].nunique() >= 10).all()
    assert ranked["seed"].min() == fresh.FRESH
    summary = fresh_tables.summary(ranked)
    keys = ["size", "masks", "predictor", "evaluations", "measure"]
    same(summary, read_table(folder / "fresh_summary.csv"), keys)
    searched = read_table(folder / "hard_searches.csv")
    same(searched, units(folder.name, "hard-*.csv.gz"), ["size", "seed", "prior", "evaluation"])
    keys = ["task", "size", "evaluations", "prior"]
    same(fresh_tables.priors(ranked, searched), read_table(folder / "priors.csv"), keys)
    written = read_table(folder / "fresh_verdicts.csv")
    assert fresh_tables.verdicts(summary).astype(str).to_csv() == written.astype(str).to_csv()


def test_losses_of_a_graph_are_those_that_its_ranks_were_computed_from():
    size, seed = "10-15", 0
    table = read_table(EVALUATIONS / "14_surrogate_search" / "ranks-10-15-0.csv.gz")
    found = ranking.ranks(table, size, seed)
    written = read_table(RESULTS / "14_surrogate_search" / "ranks.csv")
    written = written[(written["size"] == size) & (written["seed"] == seed)]
    same(
        found[found["design"] == "zero-shot"],
        written[written["design"] == "zero-shot"],
        ["reading", "design", "predictor", "masks"],
    )


def test_what_blocks_cost_follows_from_the_units_of_single_networks():
    folder = RESULTS / "15_depth_pruning"
    measured = read_table(folder / "measured.csv")
    assert (measured.groupby("network")["seed"].nunique() >= 3).all()
    assert measured["network"].nunique() == 3
    keys = ["network", "seed", "method", "draw", "count", "weights"]
    same(units(folder.name, "*_?.csv.gz"), measured.drop(columns="latency"), keys)
    times = units(folder.name, "latency_*.csv.gz").set_index(["network", "blocks"]).latency
    for one in measured.sample(50, random_state=0).itertuples():
        assert one.latency == times[one.network, " ".join(sorted(one.blocks.split()))]
    for name, by in {
        "means": ["network", "method", "count", "weights", "measure"],
        "against_random": ["network", "weights", "method"],
        "closing": ["network"],
        "costs": ["network", "count"],
        "chosen": ["network", "method", "block"],
        "spread": ["network", "method"],
    }.items():
        same(getattr(depth_tables, name)(measured), read_table(folder / f"{name}.csv"), by)
    answered = depth_tables.verdicts(measured, True)
    assert answered.astype(str).to_csv() == read_table(folder / "verdicts.csv").astype(str).to_csv()


def test_how_sets_of_blocks_are_ranked_follows_from_the_units_of_single_networks():
    folder = RESULTS / "15_depth_pruning"
    measured = read_table(folder / "sets.csv")
    same(units(folder.name, "sets-*.csv.gz"), measured, ["network", "seed", "blocks"])
    ranked = subsets.summary(subsets.agreement(measured))
    same(ranked, read_table(folder / "ranked_sets.csv"), ["network", "method", "measure"])
    answered = subsets.verdicts(ranked, True)
    written = read_table(folder / "set_verdicts.csv")
    assert answered.astype(str).to_csv() == written.astype(str).to_csv()
