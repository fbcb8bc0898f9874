"""The scenarios against plain loops: masks followed by hand, heads trained by hand, areas and tests
by scipy.
"""

import copy
import dataclasses
import re

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
    "flow",
    "flow_greedy",
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
    one = measure.studied([quick], 2, {}, tmp_path / "a")
    two = measure.studied([quick], 2, {}, tmp_path / "b", cores=2)
    pd.testing.assert_frame_equal(one, two)
    assert one.seed.unique().tolist() == [0, 1]
    assert not one.loss[one.seed == 0].equals(one.loss[one.seed == 1])

    def never(*_):
        raise AssertionError("made anew")

    assert (tmp_path / "a" / "dag_mixture_0.csv.gz").exists()
    monkeypatch.setattr(measure, "unit", never)
    pd.testing.assert_frame_equal(measure.studied([quick], 2, {}, tmp_path / "a"), one)
    with pytest.raises(AssertionError, match="made anew"):
        measure.studied([dataclasses.replace(quick, epochs=2)], 2, {}, tmp_path / "a")


def test_each_kind_of_network_begins_with_its_own_seed():
    other = dataclasses.replace(SMALL, network="residual", task="patterns")
    found = measure.jobs([SMALL, other], 2, {"residual": 5, "inception": 9})
    assert found == [(SMALL, 0), (SMALL, 1), (other, 5), (other, 6)]
    assert measure.record(*found[2])[1]["seed"] == 5


@pytest.mark.parametrize("method", ["flow", "flow_greedy", "exact_greedy"])
def test_edges_go_in_the_order_that_the_library_gives(table, trained, method):
    task, model = trained
    graph = capture(model, tuple(i[:2] for i in task.train.inputs))
    examples = task.calibration.part(slice(40))
    order = importance.removal_order(graph, examples, task.loss, method)
    removed = order[: round(len(graph.candidates) / 2)]
    test = task.test.part(np.unique(np.linspace(0, 799, 100).astype(int)))
    smaller = surgery.remove(graph, graph.without(removed))
    row = table[(table.method == method) & (table.scenario == "removal") & (table.level == 0.5)]
    assert row.loss.item() == pytest.approx(tasks.measure(smaller, test, [task.loss])[0], abs=1e-5)


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


def every(aware, random, **others):
    """The effects of ``long_table``: those of all methods that read data, of random, and others."""
    return dict.fromkeys(tables.AWARE, aware) | {"random": random} | others


def transferred(losses, seeds=6, noise=0.01, network="residual"):
    """Losses on the new classes after fine-tuning: of methods chosen on the new task and on the old
    one, of random removal, and of the unpruned network.
    """
    rng, rows = np.random.default_rng(1), []
    of_all = [(m, on) for m in (*tables.AWARE, "magnitude") for on in ("this", "old")]
    for seed in range(seeds):
        for method, on in [*of_all, ("random", "none"), ("unpruned", "none")]:
            loss = losses[on if on != "none" else method] + rng.normal(0, noise)
            row = dict.fromkeys(tables._VALUES, 0.0) | {"loss": loss}
            row |= {"network": network, "seed": seed, "scenario": "transfer", "method": method}
            rows.append(row | {"chosen_on": on, "draw": 0, "weights": "tuned", "level": np.nan})
    return pd.DataFrame(rows)


def powers(differences, effect, level):
    """The probability that a paired t test finds the effect, by the noncentral t distribution."""
    df = len(differences) - 1
    critical, shift = stats.t.isf(level / 2, df), effect / stats.sem(differences)
    return stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)


def test_pooled_and_single_tests_are_scipys_and_holm_is_over_networks():
    kinds = {
        "residual": every((0.99, 0.1), (1.0, 0.1), magnitude=(9.0, 0.1)),
        "inception": every((1.5, 0.1), (1.0, 0.1), magnitude=(9.0, 0.1)),
    }
    table = pd.concat([long_table(effects, networks=(kind,)) for kind, effects in kinds.items()])
    found = tables.tested(table).set_index(["question", "network"])
    top = table[(table.level == 0.5) & (table.weights == "kept")]
    area = top.groupby(["network", "seed", "method"]).change.mean().unstack() / 2
    assert len(found) == 3 * 2
    for question, own in (
        (0, area[[m for m in area if m not in ("magnitude", "random")]].mean(axis=1)),
        (1, area["exact_greedy"]),
        (2, area["flow_greedy"]),
    ):
        family = found.loc[list(tables.REMOVAL)[question]]
        gaps = {kind: (own - area["random"])[kind] for kind in kinds}
        p = {kind: stats.ttest_1samp(gap, 0).pvalue for kind, gap in gaps.items()}
        assert family.p.to_dict() == pytest.approx(p)
        smaller, larger = sorted(p.values())
        assert sorted(family.p_holm) == pytest.approx([2 * smaller, max(2 * smaller, larger)])
        for kind, gap in gaps.items():
            low, high = stats.t.interval(0.95, 5, gap.mean(), stats.sem(gap))
            row = family.loc[kind]
            assert (row.difference, row.difference_low, row.difference_high, row.n) == (
                pytest.approx((gap.mean(), low, high, 6))
            )
            assert powers(gap, row.detectable, 0.05 / 2) == pytest.approx(0.8, abs=1e-6)
    assert set(found.xs("inception", level="network").verdict) == {"higher"}


def test_the_tests_need_each_method_in_each_seed():
    table = long_table(every((0.2, 0.1), (1.0, 0.1)))
    some = table[(table.seed >= 2) | ~table.method.isin(["flow", "flow_greedy"])]
    with pytest.raises(InvalidInput, match="flow, flow_greedy: the tests need these in each"):
        tables.tested(some)
    with pytest.raises(InvalidInput, match="fisher: the tests"):
        tables.tested(table[table.method != "fisher"])


def test_verdicts_turn_with_the_tables():
    pooled, exact, flow = tables.REMOVAL

    def answers(table):
        return tables.verdicts(table, 0.05).set_index("question").answer

    table = long_table(every((0.2, 0.1), (1.0, 0.1), magnitude=(9.0, 0.1)))
    found = answers(table)
    assert found.to_dict() == dict.fromkeys(tables.REMOVAL, "yes") | {tables.CLOSES: "closed"}
    worse = long_table(every((0.2, 0.1), (0.1, 0.1), exact_greedy=(0.05, 0.1)))
    assert answers(worse)[[pooled, exact, flow]].tolist() == [
        "no, it costs more",
        "yes",
        "no, it costs more",
    ]
    noisy = table.assign(
        change=table.change * np.where(table.method == "random", table.seed - 2, 1)
    )
    row = tables.verdicts(noisy, 0.05).set_index("question").loc[flow]
    height = noisy[(noisy.level == 0.5) & noisy.method.isin(["flow_greedy", "random"])]
    wide = height.groupby(["seed", "method"]).change.mean().unstack() / 2
    gap = wide["flow_greedy"] - wide["random"]
    (least,) = re.findall(
        r"^not told apart \(least effect found with 80 % power: (\S+) nats\)$", row.answer
    )
    assert powers(gap, float(least), 0.05) == pytest.approx(0.8, abs=0.05)
    low, high = stats.t.interval(0.95, 5, gap.mean(), stats.sem(gap))
    assert row.detail.startswith(f"{gap.mean():+.3f} [{low:+.3f}, {high:+.3f}] nats, n = 6, p = ")
    assert tables.verdicts(table, 0.05, comparable=False).empty


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ({"this": 1.0, "old": 1.5, "random": 1.2, "unpruned": 0.5}, ["yes", "yes", "no"]),
        ({"this": 1.0, "old": 0.5, "random": 0.5, "unpruned": 1.5}, ["no", "no", "yes"]),
        ({"this": 1.0, "old": 1.0, "random": 1.0, "unpruned": 1.0}, ["not told apart"] * 3),
    ],
)
def test_transfer_is_judged_by_the_mean_over_methods(losses, said):
    moved = transferred(losses)
    table = pd.concat([long_table(every((0.2, 0.1), (1.0, 0.1))), moved])
    found = tables.verdicts(table, 0.05).set_index("question").answer[list(tables.TRANSFER)]
    assert [re.split(r"[,(]", answer)[0].strip() for answer in found] == said
    wide = moved[moved.method != "magnitude"].pivot(
        index="seed", columns=["chosen_on", "method"], values="loss"
    )
    own = wide["this"].mean(axis=1)
    others = [wide["old"].mean(axis=1), wide["none", "random"], wide["none", "unpruned"]]
    tested = tables.tested(table).set_index("question").loc[list(tables.TRANSFER)]
    assert tested.p_holm.tolist() == pytest.approx([stats.ttest_rel(own, o).pvalue for o in others])
    one = tables.transferred(table).set_index(["against", "method"])
    assert one.p["old task", "flow"] == pytest.approx(
        stats.ttest_rel(wide["this", "flow"], wide["old", "flow"]).pvalue
    )


def test_after_fine_tuning_methods_stand_beside_random_and_new_weights_beside_the_old():
    table = long_table({"random": (1.0, 0.5), "leave_one_out": (0.2, 0.1), "flow": (0.2, 0.5)})
    again = table[(table.weights == "tuned") & (table.method == "leave_one_out")]
    both = pd.concat([table, again.assign(weights="new", loss=again.loss + 0.01 * again.seed)])
    found = tables.tuned(both).set_index(["against", "method"])
    assert found.verdict.to_dict() == {
        ("random", "leave_one_out"): "lower",
        ("random", "flow"): "not told apart",
        ("fine-tuned", "leave_one_out"): "higher",
    }
    wide = table[table.weights == "tuned"].groupby(["seed", "method"]).loss.mean().unstack()
    for method in ("leave_one_out", "flow"):
        row = found.loc["random", method]
        assert row.p == pytest.approx(stats.ttest_rel(wide[method], wide["random"]).pvalue)
    assert found.difference["fine-tuned", "leave_one_out"] == pytest.approx(0.025)
    assert set(tables.tuned(table).against) == {"random"}, "without new weights"


def test_nothing_is_said_of_transfer_where_there_was_none():
    table = long_table(every((0.2, 0.1), (1.0, 0.1)))
    assert set(tables.verdicts(table, 0.05).question) == {*tables.REMOVAL, tables.CLOSES}
    with pytest.raises(InvalidInput, match="Nothing was transferred"):
        tables.transferred(table)


def test_what_fine_tuning_could_have_been_found_to_do_stands_beside_not_told_apart():
    table = long_table(every((1.0, 1.0), (0.0, 2.0), magnitude=(2.0, 0.0)))
    said = tables.verdicts(table, 0.05).set_index("question").answer[tables.CLOSES]
    assert said.startswith("not told apart (least effect found with 80 % power: ")
    (closed,) = tables.closing(table, 0.05).itertuples()
    at = table[table.level.isna()].groupby(["weights", "seed", "method"]).loss.mean().unstack()
    spread = at.std(axis=1, ddof=0)
    assert powers(spread["tuned"] - spread["kept"], closed.detectable, 0.05) == pytest.approx(
        0.8, abs=1e-6
    )
    assert f"{closed.detectable:.2g} nats" in said


def test_the_answer_gives_what_was_tested_and_says_when_a_run_is_too_small():
    table = long_table(every((0.2, 0.1), (1.0, 0.1), exact_greedy=(3.0, 0.1)))
    found, closed = tables.tested(table), tables.closing(table, 0.05)
    said = tables.answer(found, closed, True)
    exact = found.set_index("question").loc[list(tables.REMOVAL)[1]]
    assert said.startswith(
        "residual: against random removal, methods that read data cost on average -0."
    )
    assert f"edge after edge {exact.difference:+.2f} [{exact.difference_low:+.2f}, " in said
    assert said.count("(lower)") == 2 and said.count("(higher)") == 1 and "(closed)" in said
    small = tables.answer(found, closed, False)
    assert small.endswith("too small for verdicts.")
    assert not any(word in small for word in ("lower", "higher", "closed"))
    assert "of 11" not in said and "of 13" not in said


def test_equal_differences_in_all_seeds_are_not_told_apart_and_have_no_power():
    assert np.isnan(tables.detectable(np.array([0.1])))
    assert np.isnan(tables.detectable(np.array([0.25, 0.25])))
    gaps = np.array([0.1, 0.3, -0.2, 0.0])
    assert tables.detectable(gaps, 3) > tables.detectable(gaps)
    assert tables.detectable(2 * gaps) == pytest.approx(2 * tables.detectable(gaps))


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
        measure.studied([SMALL, SMALL], 1, {}, tmp_path)
    with pytest.raises(InvalidInput, match="seeds is 0"):
        measure.studied([SMALL], 0, {}, tmp_path)
    with pytest.raises(InvalidInput, match="first is -1"):
        measure.studied([SMALL], 1, {"dag": -1}, tmp_path)
