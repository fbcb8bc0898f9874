"""The answer of notebook 11 says what its tables say, and gives no verdict on few seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.errors import InvalidInput
from bogp.structural.gates import losses_under
from bogp.structural.importance import flow_of
from bogp.structural.tracing import capture
from bogp.studies.edge_importance import measure, plots, tables
from bogp.zoo import tasks

NO_FLOW = pd.DataFrame()


def of(median, low, seeds):
    target = pd.DataFrame(
        {"network": ["dag", tables.OVERALL], "median": [0.1, median], "met": [False, median >= 0.8]}
    )
    signed = pd.DataFrame(
        {
            "network": ["dag", tables.OVERALL],
            "mean": 0.3,
            "low": [-1.0, low],
            "high": 0.5,
            "n": seeds,
        }
    )
    return target, signed


def test_both_rules_are_judged_over_all_networks():
    said = tables.answer(*of(0.85, -0.1, 5), NO_FLOW)
    assert "correlation of 0.85" in said and "(target 0.8: met)" in said
    assert "+0.30 [-0.10, +0.50], n = 5 seeds (target above 0: not met)" in said
    assert tables.answer(*of(0.75, 0.1, 5), NO_FLOW).count("not met") == 1


def test_with_few_seeds_there_is_no_verdict():
    for text in (tables.answer(*of(0.85, 0.1, 4), NO_FLOW), tables.verdicts(*of(0.85, 0.1, 4))):
        assert "no verdict" in text and "met" not in text.replace("method", "")


def test_each_network_has_a_line_for_each_rule():
    lines = tables.verdicts(*of(0.85, 0.1, 5)).splitlines()
    assert [line.split(",")[0] for line in lines] == ["Target 1"] * 2 + ["Target 2"] * 2
    assert [line.split(": ")[-1] for line in lines] == ["not met", "met", "not met", "met"]


def new_networks(seeds=10, noise=0.05):
    """Removals whose change grows with their number; flow knows the rest up to noise."""
    rng = np.random.default_rng(0)
    rows = []
    for network in tables.FLOW:
        for seed in range(5, 5 + seeds):
            number = rng.integers(2, 8, 60)
            change = number + 3 * rng.random(60)
            said = {"flow": change + noise * rng.normal(size=60), "random": rng.random(60)}
            for part, method, values in (
                *(("several", m, v) for m, v in said.items()),
                ("removed", "edges", number),
            ):
                found = {"network": network, "seed": seed, "part": part, "method": method}
                columns = {"item": np.arange(60), "predicted": values, "change": change}
                rows.append(pd.DataFrame(found | columns))
    return pd.concat(rows, ignore_index=True)


def test_correlations_given_the_number_are_those_of_residuals_of_ranks():
    table = new_networks(noise=2.0)
    found = tables.given_number(table).set_index(["network", "seed", "method"])
    one = table[(table.network == "residual") & (table.seed == 7)]
    number = stats.rankdata(one[one.part == "removed"].predicted)
    flow = one[one.method == "flow"]
    left = []
    for values in (flow.predicted, flow.change):
        ranks = stats.rankdata(values)
        left.append(ranks - np.polyval(np.polyfit(number, ranks, 1), number))
    row = found.loc["residual", 7, "flow"]
    assert row.given == pytest.approx(np.corrcoef(*left)[0, 1])
    assert row.spearman == pytest.approx(stats.spearmanr(flow.predicted, flow.change)[0])
    alone = found.loc["residual", 7, "number"]
    assert alone.spearman == pytest.approx(stats.spearmanr(number, flow.change)[0])
    assert np.isnan(alone.given)


def judged(table):
    return tables.flow_verdicts(tables.given_summary(tables.given_number(table)))


def test_the_verdict_on_flow_follows_its_rule():
    found = judged(new_networks())
    assert found.verdict.tolist() == ["met"] * 3 and found.wanted.tolist() == [0.8, 0.8, 0.85]
    worse = new_networks()
    at = (worse.network == "inception") & (worse.method == "flow")
    worse.loc[at, "predicted"] = worse.loc[at, "change"] + np.random.default_rng(1).normal(
        scale=2, size=at.sum()
    )
    assert judged(worse).verdict.tolist() == ["met", "not met", "met"]
    assert judged(new_networks(seeds=9)).verdict.tolist() == ["no verdict"] * 3
    other = new_networks()
    assert judged(other[other.network == "residual"].assign(network="dag")).empty
    said = tables.answer(*of(0.85, 0.1, 5), found)
    assert said.startswith(tables.answer(*of(0.85, 0.1, 5), NO_FLOW)), "flow comes last"
    assert said.count("met") == 5 and "inception" in said
    lines = tables.flow_said(found).splitlines()
    assert len(lines) == 3 and lines[0].startswith("Target 3, residual") and "met" in lines[0]


def test_intervals_end_within_one_and_each_method_is_drawn():
    found = tables.given_summary(tables.given_number(new_networks(seeds=2)))
    assert found[["low", "high"]].abs().max(axis=None) <= 1
    assert not ((found.method == "number") & (found.measure == "given")).any()
    same = found[found.method == "random"].assign(method="fisher_diagonal")  # it is not drawn
    assert len(plots.given_number(pd.concat([found, same])).axes) >= 3


def test_flow_predicts_whole_removals():
    case, settings = measure.Case("dag", "mixture", 1), measure.Settings((8, 16), 40, 5)
    unit = measure.unit(case, measure.confirming(settings), 5)
    assert set(unit.examples) == {16}, "all calibration examples alone"
    task, rng = tasks.load("mixture", 5), np.random.default_rng(5)
    parts = [
        part.part(rng.permutation(len(part))[:count])
        for part, count in ((task.calibration, 16), (task.test, 40))
    ]
    graph = capture(measure.trained(case, task, 5), parts[0].part(slice(0, 4)).inputs)
    masks = measure.connected_removals(graph, 20, 5)
    several = unit[unit.part == "several"].set_index("method")
    flow = flow_of(graph, parts[0]).change(masks)
    np.testing.assert_allclose(several.predicted["flow"], flow, rtol=1e-5)
    full, *under = losses_under(graph, [graph.without([]), *masks], parts[1], task.loss)
    np.testing.assert_allclose(several.change["flow"], np.array(under) - full, atol=1e-6)


def test_new_networks_are_those_with_a_target_and_have_seeds_of_their_own(tmp_path):
    kinds = [measure.Case(n, "patterns", 1) for n in ("dag", "residual", "inception")]
    assert [c.network for c in measure.to_confirm(kinds)] == ["residual", "inception"]
    assert [c.network for c in measure.to_confirm(kinds[:1])] == ["dag"], "to try it"
    assert set(measure.CONFIRMED) == set(tables.FLOW)
    with pytest.raises(InvalidInput, match="seeds"):
        measure.units(kinds, measure.Settings((4,), 10, 3), measure.FRESH + 1, tmp_path)
    name, parameters = measure.record(kinds[1], measure.Settings((4,), 10, 3), 5)
    assert name == "residual_patterns_5.csv.gz" and "flow" in parameters["methods"]
