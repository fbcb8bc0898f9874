"""What notebook 09 compares: equal weights, shared seeds, and verdicts that flip."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from bogp.graphs.relational import model_sparsity
from bogp.studies.places import designs, measure, plots, tables
from bogp.studies.places.designs import FIXED, MAIN, SPACE
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import CALIBRATED

SHORT = replace(CALIBRATED, steps=12)
WEIGHTS = 784 * 128 + 128 * 128
LAST = 128 * 10


@pytest.fixture(scope="module")
def task():
    return measure.task("mnist-5k", SHORT)


@pytest.fixture
def evaluator(home, task):
    with Evaluator(progress=False).store:
        yield Evaluator(progress=False)


def kept(masks):
    return sum(int(np.asarray(mask).sum()) for mask in masks if mask is not None)


def test_a_task_reads_its_data(task):
    assert task.protocol.widths == (784, 128, 128, 10)
    assert task.protocol.masked_layers == (0, 1)
    assert task.places.nodes == 128
    known = measure.described(task)
    x = task.made.dataset.train.images[:5_000] / 255
    values = np.linalg.eigvalsh(np.cov(x.T))
    assert known["effective_dimension"] == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert 10 < known["effective_dimension"] < 60
    assert known["concentration"] > 1.5 and 0.1 < known["dead"] < 0.5


@pytest.mark.parametrize("sparsity", [0.9, MAIN, 0.99])
def test_all_masks_have_the_same_weights(task, sparsity):
    wanted = round((1 - sparsity) * WEIGHTS)
    for make in measure.kinds(task, sparsity).values():
        assert abs(kept(make(0)) - wanted) <= 0.002 * wanted + 8
    for name, make in measure.nulls(task, sparsity).items():
        assert kept(make(1)) == wanted, name
    # whole degrees: the nearest
    for name in ("regular graph", "RGP"):
        assert abs(
            kept(measure.graph_masks(task, name, sparsity, 0)) / WEIGHTS - (1 - sparsity)
        ) < (0.5 / 128 + 1e-3)


def test_masks_are_functions_of_their_number(task):
    for make in (*measure.kinds(task).values(), *measure.nulls(task).values()):
        one, again, other = make(0), make(0), make(1)
        np.testing.assert_array_equal(one[0], again[0])
        assert (one[0] != other[0]).any()


SMALL = replace(
    designs.named("smoke"), sparsities=(MAIN,), iterative=1, initial=2, proposed=1, masks=2
)


def test_the_field_stands_at_equal_weights_beside_the_searches(task, evaluator, tmp_path):
    history, fresh, field = measure.compared(task, MAIN, SMALL, evaluator, tmp_path)
    asked, trained = set(evaluator.asked), evaluator.trained
    again = measure.compared(task, MAIN, SMALL, evaluator, tmp_path)
    pd.testing.assert_frame_equal(again[0], history)
    assert evaluator.trained == trained and evaluator.asked == asked >= set(history["key"])
    assert len(history) == 2 * 3 * 3 and len(fresh) == 2 * 3 * SMALL.fresh
    wanted = 1 - (round((1 - MAIN) * WEIGHTS) + LAST) / (WEIGHTS + LAST)
    exact = field[~field["method"].isin(["regular graph", "RGP", "smaller dense"])]
    assert (exact["model_sparsity"] - wanted).abs().max() < 1e-4
    with evaluator.store as store:
        rows = store.get(field["key"].tolist())
    for one in field.itertuples():
        if one.method != "best of random graphs":
            assert rows[one.key]["seed"] == measure.fresh_seed(one.number, SMALL.fresh)
    dense = field[field["method"] == "smaller dense"]
    assert (dense["model_sparsity"] == 0).all()
    units = tables.units(fresh, field, SMALL.budget)
    trainings = units.groupby("method")["trainings"].first()
    expected = {"bayesian": 3, "snip": 1, "grasp": 1, "lottery": 2, "lamp": 2, "magnitude": 2}
    assert trainings[list(expected)].to_dict() == expected
    assert trainings["iterative magnitude"] == trainings["best of random graphs"] == 3
    assert set(units["method"]) == {"bayesian", *tables.OTHERS} | {
        f"placed: {name}" for name in FIXED
    }
    plots.against_sparsity(units)
    plots.landscape(history)
    plots.fields(task, measure.examples(task, fresh))
    words = tables.standing(tables.summary(units), tables.differences(units, "bayesian", ["erk"]))
    assert len(words) == units["method"].nunique()


def test_the_database_holds_placed_graphs_with_their_features(task, home):
    found = measure.databases(task, SMALL)
    assert set(found) == {"placed", "bernoulli"}
    for base in found.values():
        assert len(base) == SMALL.graphs and {"lit_share", "field_spread"} <= set(base.table)
    draw = partial(measure.rare, places=task.places)
    expected = draw(128, MAIN, np.random.default_rng(0))
    assert expected.sum() == round((1 - MAIN) * 128**2)
    assert model_sparsity((expected, None), (128, 128, 10)) > 0.8


# --- verdicts


def compared(shift, pairs=12, spread=0.001):
    """Units in which the search has ``shift`` over everything else."""
    rng = np.random.default_rng(0)
    rows = [
        ("d", MAIN, method, k, 1, 0.9 + (shift if method == "bayesian" else 0) + noise)
        for method in ("bayesian", *tables.OTHERS)
        for k, noise in enumerate(rng.normal(0, spread, pairs))
    ]
    columns = ["dataset", "sparsity", "method", "number", "trainings", "test_accuracy"]
    return pd.DataFrame(rows, columns=columns)


def fixed(gain, dataset, count=12):
    rng = np.random.default_rng(1)
    kinds = {"random graph": 0.0, "no places": 0.0, "salience": gain / 2, "locality": gain / 2}
    return pd.DataFrame(
        [
            (kind, k, 0.9 + own + noise, dataset)
            for kind, own in (kinds | {"both": gain}).items()
            for k, noise in enumerate(rng.normal(0, 0.001, count))
        ],
        columns=["kind", "number", "test_accuracy", "dataset"],
    )


def verdicts(shift=0.02, printed=0.01, left=0.018, null=0.0, held=0.02, dimension=30.0, pairs=12):
    against = tables.differences(compared(shift, pairs), "bayesian", tables.OTHERS)
    rng = np.random.default_rng(2)
    retrained = pd.DataFrame(
        [
            ("placed", method, k, 0.9 + own + noise)
            for method, own in (("random", 0.0), ("labelled features", printed))
            for k, noise in enumerate(rng.normal(0, 0.001, pairs))
        ],
        columns=["database", "method", "search_seed", "fresh_test"],
    )
    rows = pd.concat([fixed(0.02, "d"), fixed(left, "d+shuffled"), fixed(held, "new")])
    nulls = fixed(null, "d").replace({"kind": {"both": "nodes renumbered"}})
    described = pd.DataFrame(
        {"dataset": ["d", "d+shuffled", "new"], "effective_dimension": [30.0, 30.0, dimension]}
    )
    rules = tables.judged(
        against,
        tables.printed_against(retrained),
        tables.learned(rows, "d"),
        tables.taken_away(nulls),
        tables.gains(rows, described, ["new"]),
        "d",
    )
    assert list(rules["rule"]) == list(designs.RULES)
    return rules.set_index("rule")["verdict"]


def test_verdicts_are_met_where_all_is_as_hoped():
    assert (verdicts() == "met").all()


@pytest.mark.parametrize(
    ("change", "flips"),
    [
        ({"shift": 0.01}, {"random graphs"}),
        ({"shift": 0.0}, {"random graphs", "zero-shot", "lottery ticket", "bayesian"}),
        ({"printed": 0.0}, {"printed"}),
        ({"left": 0.010}, {"learned"}),
        ({"null": 0.01}, {"renumbered"}),
        ({"held": 0.001}, {"statement"}),
        ({"dimension": 5.0}, {"statement"}),
        ({"dimension": 5.0, "held": 0.001}, set()),
    ],
)
def test_verdicts_flip_when_tables_are_altered(change, flips):
    found = verdicts(**change)
    assert set(found.index[found == "not met"]) == flips


def test_few_pairs_give_no_verdict():
    found = verdicts(pairs=3)
    assert (found[["random graphs", "zero-shot", "bayesian", "printed"]] == "no verdict").all()


def test_a_ceiling_is_what_an_oracle_has():
    rows = []
    for k, own in enumerate((0.90, 0.92, 0.95, 0.91)):
        for mask in range(4):
            method = "bayesian" if k % 2 else "random"
            rows.append(("d", MAIN, method, k, mask, own))
    columns = ["dataset", "sparsity", "method", "search_seed", "mask", "test_accuracy"]
    found = tables.ceiling(pd.DataFrame(rows, columns=columns)).iloc[0]
    assert found["oracle"] == pytest.approx(0.95)
    assert found["ceiling"] == pytest.approx(0.95 - (0.90 + 0.95) / 2)


def test_numbers_of_recommended_masks_in_words():
    one = {axis.name: axis.value(0.5) for axis in SPACE}
    rows = [one | {"method": "bayesian", "mask": 0, "sparsity": MAIN}]
    found = tables.numbers(pd.DataFrame(rows))
    assert found["loops"].iloc[0] == "0.5 (0.5 to 0.5)"
