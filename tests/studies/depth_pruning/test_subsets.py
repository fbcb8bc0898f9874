"""Sets of blocks against networks cut by hand and plain loops; the rule's verdict against altered
tables.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from bogp import structural, zoo
from bogp.errors import InvalidInput
from bogp.structural.importance import flow_of
from bogp.studies.depth_pruning import measure, plots, subsets
from bogp.studies.depth_pruning.measure import BLOCKS, Study
from bogp.studies.depth_pruning.subsets import PREDICTORS, Sets

STUDY = Study("vit", "synthetic", calibration=12, test=40, draws=2, steps=4)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return subsets.unit(Sets(STUDY, 2), 0)


def drawn(examples):
    return {one.numpy().tobytes() for one in examples.inputs[0]}


def test_examples_are_read_by_nothing_else():
    task = measure.task_of(STUDY)
    calibration, test = subsets.fresh(STUDY, task)
    assert (len(calibration), len(test)) == (64, 40)
    for draw in range(STUDY.draws):
        assert not drawn(calibration) & drawn(measure.calibration(STUDY, task, draw))
    rows = np.unique(np.linspace(0, len(task.test) - 1, 40).astype(int))
    assert not drawn(test) & drawn(task.test.part(rows))
    assert drawn(test) <= drawn(task.test) and drawn(calibration) <= drawn(task.calibration)


def test_each_set_is_measured_as_the_network_cut_by_hand(table):
    names = BLOCKS["vit"]
    expected = [" ".join(s) for k in (1, 2) for s in itertools.combinations(names, k)]
    assert table.blocks.tolist() == expected
    assert table.number.tolist() == [1] * 8 + [2] * 28
    test = subsets.fresh(STUDY, measure.task_of(STUDY))[1]

    def loss(blocks):
        model = zoo.trained("vit", 0)
        for block in blocks:
            model.blocks[int(block.removeprefix("blocks."))] = nn.Identity()
        with torch.no_grad():
            return nn.functional.cross_entropy(model(test.inputs[0]), test.targets).item()

    full = loss([])
    for one in table[::5].itertuples():
        now = loss(one.blocks.split())
        assert (one.loss, one.change) == pytest.approx((now, now - full), abs=1e-5)


def test_predictions_read_calibration_examples_and_add_up_where_they_are_sums(table):
    task, model = measure.task_of(STUDY), zoo.trained("vit", 0)
    calibration, _ = subsets.fresh(STUDY, task)
    graph = structural.capture(model, task.train.part(slice(4)).inputs, level="blocks")
    masks = [
        graph.without(graph.candidates[[i, j]]) for i, j in itertools.combinations(range(8), 2)
    ]
    np.testing.assert_allclose(table.flow[8:], flow_of(graph, calibration).change(masks), rtol=1e-6)
    single, pairs = table[:8], table[8:]
    changes = structural.leave_one_out(graph, calibration, task.loss)
    np.testing.assert_allclose(single.leave_one_out, changes, atol=1e-6)
    for method in ("magnitude", "block_influence", "leave_one_out", "first_order"):
        one = single.set_index("blocks")[method]
        added = [sum(one[b] for b in blocks.split()) for blocks in pairs.blocks]
        np.testing.assert_allclose(pairs[method], added, atol=1e-6)


def made_up(seeds: int = 3, noise: float = 0.05) -> pd.DataFrame:
    """Sets whose loss grows with their number; flow knows the rest of it up to noise."""
    rng = np.random.default_rng(0)
    rows = []
    for network, seed in itertools.product(("vit", "resnet20"), range(seeds)):
        for number in np.repeat([1, 2, 3], 20):
            change = number + rng.random()
            one = dict.fromkeys(PREDICTORS, 0.0) | {m: rng.random() for m in PREDICTORS}
            one |= {"number": number, "flow": change + noise * rng.normal()}
            rows.append({"network": network, "seed": seed, "change": change} | one)
    return pd.DataFrame(rows)


def test_correlations_given_the_number_are_those_of_residuals_of_ranks():
    table = made_up(noise=0.5)
    found = subsets.agreement(table).set_index(["network", "seed", "method"])
    one = table[(table.network == "vit") & (table.seed == 1)]
    ranks = {c: stats.rankdata(one[c]) for c in ("flow", "change", "number")}
    left = [
        ranks[c] - np.polyval(np.polyfit(ranks["number"], ranks[c], 1), ranks["number"])
        for c in ("flow", "change")
    ]
    row = found.loc["vit", 1, "flow"]
    assert row.given == pytest.approx(np.corrcoef(*left)[0, 1])
    assert row.spearman == pytest.approx(stats.spearmanr(one.flow, one.change)[0])
    needs = found.evaluations.groupby("method").first()
    assert needs["leave_one_out"] == 8 and needs.drop("leave_one_out").eq(0).all()


def test_intervals_are_over_seeds_and_end_within_one():
    correlations = subsets.agreement(made_up())
    found = subsets.summary(correlations).set_index(["network", "method", "measure"])
    values = correlations.query("network == 'vit' and method == 'flow'").given
    one = found.loc["vit", "flow", "given"]
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert (one["mean"], one.low, one.high) == pytest.approx((values.mean(), low, min(high, 1)))
    assert found[["low", "high"]].abs().max(axis=None) <= 1
    assert ("vit", "number", "given") not in found.index


def verdict(table, comparable=True):
    return subsets.verdicts(subsets.summary(subsets.agreement(table)), comparable)


def test_the_verdict_follows_its_rule():
    found = verdict(made_up())
    assert found.answer.tolist() == ["met", "met"] and found.network.tolist() == ["vit", "resnet20"]
    assert "n = 3 networks" in found.detail[0]
    worse = made_up()
    at = worse.network == "vit"
    worse.loc[at, "flow"] = worse.loc[at, "number"] + np.random.default_rng(1).random(at.sum())
    found = verdict(worse)
    assert found.answer.tolist() == ["not met", "met"], "the number alone is not enough"
    assert "of the number alone 0.9" in found.detail[0]
    assert verdict(made_up(seeds=2)).answer.tolist() == ["no verdict"] * 2
    assert verdict(made_up(), comparable=False).empty


def test_a_figure_and_a_table_show_each_method():
    found = subsets.summary(subsets.agreement(made_up()))
    axes = plots.sets(found).axes
    assert [ax.get_title() for ax in axes[:2]] == ["vit", "resnet20"]
    shown = subsets.wide(found)
    assert list(shown.index) == list(PREDICTORS.values())
    assert shown["resnet20", "evaluations"]["measured loss, summed"] == 7


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="most"):
        Sets(STUDY, 8)
    with pytest.raises(InvalidInput, match="too few"):
        task = measure.task_of(STUDY)
        subsets.fresh(Study("vit", "synthetic", 400, 40, 1, 4), task)


def test_a_unit_is_found_by_its_examples_and_weights():
    name, parameters = subsets.record(Sets(STUDY, 3), 0)
    assert name == "sets-vit-0.csv.gz"
    assert parameters["fresh"] == subsets.FRESH and parameters["most"] == 3
    other = subsets.record(Sets(Study("vit", "synthetic", 13, 40, 2, 4), 3), 0)[1]
    assert other != parameters, "other examples are left for it"
