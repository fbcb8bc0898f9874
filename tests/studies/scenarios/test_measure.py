"""The scenarios against plain loops: masks followed by hand, heads trained by hand, areas and tests
by scipy.
"""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression

from bogp.errors import InvalidInput
from bogp.structural import importance, surgery
from bogp.structural.gates import leave_one_out
from bogp.structural.tracing import capture
from bogp.studies.scenarios import measure, tables
from bogp.studies.scenarios.measure import Study
from bogp.zoo import tasks

METHODS = (
    "random",
    "magnitude",
    "first_order",
    "hessian",
    "hessian_greedy",
    "leave_one_out",
    "exact_greedy",
)
SMALL = Study(
    "dag",
    "mixture",
    1,
    methods=METHODS,
    draws=2,
    calibration=40,
    test=100,
    old=(0, 1, 2),
    new=(3, 4),
    head_epochs=30,
    size="10-15",
    tuning_part=0.5,
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return measure.unit(SMALL, 1)


@pytest.fixture(scope="module")
def trained():
    """The same network, trained here."""
    task = tasks.load("mixture", 1)
    model = measure.network(SMALL, task, 1)
    return task, tasks.train(model, task.train, task.loss, epochs=1, seed=1)


def loss_by_hand(model, x, y):
    """Loss and accuracy of a random graph, run vertex by vertex."""
    values = []
    for parents, vertex in zip(model.parents, model.vertices, strict=True):
        values.append(torch.relu(vertex(sum(values[p] for p in parents) if parents else x)))
    out = model.head(values[-1])
    return float(torch.nn.functional.cross_entropy(out, y)), float(
        (out.argmax(1) == y).float().mean()
    )


def test_removals_are_those_of_the_order_and_measured_on_test_examples(table, trained):
    task, model = trained
    graph = capture(model, tuple(i[:2] for i in task.train.inputs))
    rows = np.unique(np.linspace(0, len(task.test) - 1, 100).astype(int))
    x, y = task.test.inputs[0][rows], task.test.targets[rows]
    change = leave_one_out(graph, task.calibration.part(slice(40)), task.loss)
    order = importance.order(graph, change)
    with torch.no_grad():
        full = loss_by_hand(model, x, y)
        unpruned = table[
            (table.method == "unpruned") & (table.scenario == "removal") & (table.weights == "kept")
        ].iloc[0]
        assert (unpruned.loss, unpruned.accuracy) == pytest.approx(full, abs=1e-5)
        assert unpruned.change == 0
        mine = table[
            (table.method == "leave_one_out")
            & (table.scenario == "removal")
            & (table.weights == "kept")
            & table.level.notna()
        ]
        assert mine.level.tolist() == [k / 12 for k in range(7)]
        for row in mine.itertuples():
            removed = order[: round(row.level * len(graph.candidates))]
            assert row.share_edges == pytest.approx(len(removed) / len(graph.candidates))
            smaller = surgery.remove(graph, graph.without(removed))
            out = smaller(x)
            assert row.loss == pytest.approx(
                float(torch.nn.functional.cross_entropy(out, y)), abs=1e-5
            )
            assert row.accuracy == pytest.approx(
                float((out.argmax(1) == y).float().mean()), abs=1e-6
            )
            left = sum(p.numel() for p in smaller.parameters())
            assert row.share_parameters == pytest.approx(
                1 - left / sum(p.numel() for p in model.parameters())
            )
    assert (table.absolute_change == table.change.abs()).all()
    assert table[table.method == "random"].groupby(["scenario", "draw"]).ngroups == 4


def test_fine_tuning_trains_the_pruned_network_on_that_part(table, trained):
    task, model = trained
    graph = capture(model, tuple(i[:2] for i in task.train.inputs))
    order = importance.order(graph, importance.magnitude(graph))
    smaller = surgery.remove(graph, graph.without(order[: round(len(graph.candidates) / 3)]))
    rows = np.sort(np.random.default_rng(1).permutation(2400)[:1200])
    tasks.train(smaller, task.train.part(rows), task.loss, epochs=1, seed=2, rate=1e-3)
    test = task.test.part(np.unique(np.linspace(0, 799, 100).astype(int)))
    loss, accuracy = tasks.measure(smaller, test, [task.loss, task.accuracy])
    row = table[
        (table.method == "magnitude") & (table.scenario == "removal") & (table.weights == "tuned")
    ].iloc[0]
    assert (row.loss, row.accuracy) == pytest.approx((loss, accuracy), abs=1e-6)
    anew = table[table.weights == "new"]
    assert anew.method.tolist() == ["leave_one_out"]
    pruned = table[
        (table.method == "leave_one_out")
        & (table.scenario == "removal")
        & (table.weights == "tuned")
    ].iloc[0]
    assert anew.share_parameters.iloc[0] == pruned.share_parameters
    assert anew.loss.iloc[0] != pruned.loss


def test_transfer_replaces_the_head_alone(table, trained):
    task, _ = trained
    before, after = tasks.classes(task, (0, 1, 2)), tasks.classes(task, (3, 4))
    old = tasks.train(
        measure.network(SMALL, before, 1), before.train, before.loss, epochs=1, seed=1
    )
    new = measure.with_new_head(old, after, epochs=30, seed=1, rate=3e-2)
    assert new.head.out_features == 2
    assert all(
        torch.equal(a, b)
        for a, b in zip(old.vertices.parameters(), new.vertices.parameters(), strict=True)
    )
    test = after.test.part(np.unique(np.linspace(0, len(after.test) - 1, 100).astype(int)))
    first = table[
        (table.scenario == "transfer") & (table.method == "unpruned") & (table.weights == "kept")
    ].iloc[0]
    assert first.loss == pytest.approx(tasks.measure(new, test, [after.loss])[0], abs=1e-6)
    body = copy.deepcopy(old)
    body.head = torch.nn.Identity()
    with torch.no_grad():
        features, others = (body(part.inputs[0]).numpy() for part in (after.train, test))
    best = (
        LogisticRegression(max_iter=2000)
        .fit(features, after.train.targets)
        .score(others, test.targets)
    )
    assert first.accuracy == pytest.approx(best, abs=0.08), (
        "as good as logistic regression on the same features"
    )
    transfer = table[
        (table.scenario == "transfer")
        & (table.method == "leave_one_out")
        & (table.weights == "kept")
    ].set_index("chosen_on")
    graphs = {
        "this": (capture(new, after.train.inputs[0][:2]), after),
        "old": (capture(old, before.train.inputs[0][:2]), before),
    }
    for chosen_on, (graph, on) in graphs.items():
        order = importance.order(
            graph, leave_one_out(graph, on.calibration.part(slice(40)), on.loss)
        )
        mask = graph.without(order[: round(len(graph.candidates) / 3)])
        pruned = surgery.remove(graphs["this"][0], mask)
        at = transfer.loc[chosen_on]
        at = at[at.level.isna()].iloc[0] if isinstance(at, pd.DataFrame) else at
        assert at.loss == pytest.approx(tasks.measure(pruned, test, [after.loss])[0], abs=1e-5)
    with pytest.raises(InvalidInput, match="no linear layer of the name 'head'"):
        measure.with_new_head(torch.nn.Linear(3, 2), after, epochs=1, seed=0, rate=1e-3)


def test_units_are_kept_and_the_same_on_any_number_of_workers(tmp_path, monkeypatch):
    quick = dataclasses.replace(
        SMALL, methods=("random", "magnitude"), anew=(), draws=1, old=(), new=()
    )
    one = measure.studied([quick], 2, tmp_path / "a")
    two = measure.studied([quick], 2, tmp_path / "b", cores=2)
    pd.testing.assert_frame_equal(one, two)
    assert one.seed.unique().tolist() == [0, 1]
    assert not one.loss[one.seed == 0].equals(one.loss[one.seed == 1])

    def never(*_):
        raise AssertionError("made anew")

    assert (tmp_path / "a" / "dag_mixture_0.csv.gz").exists()
    monkeypatch.setattr(measure, "unit", never)
    pd.testing.assert_frame_equal(measure.studied([quick], 2, tmp_path / "a"), one)
    with pytest.raises(AssertionError, match="made anew"):
        measure.studied([dataclasses.replace(quick, epochs=2)], 2, tmp_path / "a")


def long_table(effects, seeds=6, networks=("residual",)):
    """Curves that rise linearly to an effect, a little differently in each seed; and losses at one
    share, before and after tuning.
    """
    rng, rows = np.random.default_rng(0), []
    for network in networks:
        for seed in range(seeds):
            for method, (slope, tuned) in effects.items():
                for draw in range(2 if method == "random" else 1):
                    height = slope + rng.normal(0, 0.01)
                    shared = {
                        "network": network,
                        "seed": seed,
                        "scenario": "removal",
                        "method": method,
                        "chosen_on": "this",
                        "draw": draw,
                    }
                    shared |= {
                        "share_parameters": 0.0,
                        "absolute_change": abs(height),
                        "accuracy": 0.5,
                    }
                    for level in (0, 0.25, 0.5):
                        rows.append(
                            shared
                            | {
                                "weights": "kept",
                                "level": level,
                                "share_edges": level,
                                "loss": 1 + height * level,
                                "change": height * level,
                            }
                        )
                    for weights, loss in (
                        ("kept", 1 + height),
                        ("tuned", 1 + tuned + rng.normal(0, 0.001)),
                    ):
                        rows.append(
                            shared
                            | {
                                "weights": weights,
                                "level": np.nan,
                                "share_edges": 0.3,
                                "loss": loss,
                                "change": loss - 1,
                            }
                        )
    return pd.DataFrame(rows)


def test_areas_and_comparisons_with_random():
    table = long_table(
        {"random": (1.0, 0.1), "hessian": (0.2, 0.1), "magnitude": (2.0, 0.1), "fisher": (1.0, 0.1)}
    )
    areas = tables.areas(table)
    one = table[(table.seed == 3) & (table.method == "random") & (table.level == 0.5)]
    assert areas[(areas.seed == 3) & (areas.method == "random")].change.item() == pytest.approx(
        one.change.mean() / 2
    ), "draws are averaged"
    found = tables.against_random(table).set_index("method")
    assert found.verdict.to_dict() == {
        "hessian": "lower",
        "magnitude": "higher",
        "fisher": "not told apart",
    }
    wide = areas.pivot(index="seed", columns="method", values="change")
    p = {m: stats.ttest_rel(wide[m], wide["random"]).pvalue for m in found.index}
    assert found.p.to_dict() == pytest.approx(p)
    assert found.p_holm["fisher"] == pytest.approx(p["fisher"]), (
        "the largest of a family keeps its value"
    )
    assert found.p_holm["hessian"] >= 2 * found.p["hessian"]
    assert found.difference["hessian"] == pytest.approx((wide["hessian"] - wide["random"]).mean())


@pytest.mark.parametrize(
    ("tuned", "verdict"),
    [
        ((0.1, 0.1, 0.1), "closed"),
        ((0.1, 0.4, 0.1), "narrowed"),
        ((0.1, 5.0, 0.1), "widened"),
        ((0.0, 1.0, 2.0), "not told apart"),
    ],
)
def test_whether_fine_tuning_closes_the_gap(tuned, verdict):
    table = long_table(
        dict(
            zip(
                ("random", "hessian", "magnitude"),
                zip((0.0, 1.0, 2.0), tuned, strict=True),
                strict=True,
            )
        )
    )
    (found,) = tables.closing(table, 0.05).itertuples()
    assert found.verdict == verdict
    kept = (
        table[table.level.isna() & (table.weights == "kept")]
        .groupby(["seed", "method"])
        .loss.mean()
        .unstack()
    )
    assert found.before == pytest.approx(kept.std(axis=1, ddof=0).mean())


def test_verdicts_say_what_the_tables_say():
    table = long_table(
        {"random": (1.0, 0.1), "hessian": (0.2, 0.1), "magnitude": (2.0, 0.1), "fisher": (1.0, 0.1)}
    )
    answers = tables.verdicts(table, 0.05).set_index("question").answer
    assert answers["Does each data-aware method beat random removal?"] == "1 of 2 methods do"
    assert answers["Does fine-tuning close the gap between methods?"] == "closed"
    best = tables.verdicts(table[table.method != "fisher"], 0.05)
    assert best.answer.iloc[0] == "yes", "magnitude reads no data"
    with pytest.raises(InvalidInput, match="Nothing was transferred"):
        tables.transferred(table)


def test_the_answer_names_the_cheapest_method_and_says_when_a_run_is_too_small():
    table = long_table({"random": (1.0, 0.1), "hessian": (0.2, 0.1), "magnitude": (2.0, 0.1)})
    against, closing = tables.against_random(table), tables.closing(table, 0.05)
    said = tables.answer(against, closing, True)
    assert said.startswith(
        "residual: 1 of 2 methods cost less than random removal, least Hessian (+0.05"
    )
    assert "(closed)" in said and "too small" not in said
    assert tables.answer(against, closing, False).endswith("too small for verdicts.")
    assert tables.verdicts(table, 0.05, comparable=False).empty


def test_methods_that_agree_in_each_seed_are_not_told_apart():
    same = np.array([1.0, 2.0, 3.0])
    found = tables.compared({"a": (same, same), "b": (same, same + 1 + np.array([0, 1e-3, -1e-3]))})
    assert found.p.iloc[0] == 1
    assert found.verdict.tolist() == ["not told apart", "lower"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "lstm"}, "no network 'lstm'"),
        ({"task": "imagenet"}, "no task 'imagenet'"),
        ({"methods": ("random", "saliency")}, "no method 'saliency'"),
        ({"methods": ("hessian",)}, "include 'random'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"share": 0.7}, "0 < share <= deepest"),
        ({"tuning_part": 0.0}, "tuning_part is 0.0; it is positive and at most 1"),
        ({"new": (2, 3)}, "without a class in common"),
        ({"new": ()}, "or neither"),
    ],
)
def test_bad_settings_are_refused_at_once(changes, message):
    with pytest.raises(InvalidInput, match=message):
        dataclasses.replace(SMALL, **changes)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="cannot read inputs of shape"):
        measure.unit(dataclasses.replace(SMALL, network="residual"), 0)
    with pytest.raises(InvalidInput, match="take a smaller deepest"):
        measure.unit(dataclasses.replace(SMALL, deepest=0.95), 0)
    with pytest.raises(InvalidInput, match="no two of one network"):
        measure.studied([SMALL, SMALL], 1, tmp_path)
