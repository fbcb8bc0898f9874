from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bogp.errors import DatabaseError, InvalidInput
from bogp.graphs import database
from bogp.graphs.database import DatabaseSpec, build
from bogp.graphs.relational import expand, layer_masks
from bogp.paths import database_dir
from bogp.studies.claims import crossed, designs
from bogp.training.evaluation import Job, Recipe
from bogp.training.protocols import CALIBRATED, RELEASED, Protocol
from bogp.variance import components

PROTOCOL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=50, steps=4)
ALL = replace(PROTOCOL, scope="all")
SPEC = DatabaseSpec((0.6, 0.8), 5, n=16, shard_size=3)
FAMILIES = ("erdos_renyi", "ws_flex", "barabasi_albert", "stochastic_block")
MEASURED = ["train_accuracy", "validation_accuracy", "test_accuracy", "key"]


@pytest.fixture
def masks(evaluator):
    return build(SPEC, database_dir("x")).at(0.8).masks()[:3]


# --- which masks ---


DESIGN = replace(designs.NAMED["smoke"], bernoulli=(4, 3), structured=(2, 2), released=(2, 2))


def test_the_sets_are_the_first_masks_of_the_database_and_of_each_family(evaluator):
    whole = build(SPEC, database_dir("x"))
    found = crossed.hidden(whole, "x", DESIGN, [0.8, 0.6], ["ws_flex"])
    assert list(found) == [
        "bernoulli, s = 0.80",
        "bernoulli, s = 0.60",
        "ws_flex, s = 0.80",
        "ws_flex, s = 0.60",
    ]
    first = found["bernoulli, s = 0.80"]
    assert first.table["mask_id"].tolist() == [f"s0.8-0000{i}" for i in range(4)]
    np.testing.assert_array_equal(first.masks(), whole.at(0.8).masks()[:4])
    built = database.open_database(database_dir("x-ws_flex-2"))
    pd.testing.assert_frame_equal(found["ws_flex, s = 0.60"].table, built.at(0.6).table)


@pytest.mark.parametrize("count", [1, 6])
def test_more_masks_than_the_database_has_are_refused(count, evaluator):
    with pytest.raises(InvalidInput, match=f"number of masks is {count}; .*from 2 to 5"):
        crossed.hidden(
            build(SPEC, database_dir("x")), "x", replace(DESIGN, bernoulli=(count, 2)), [0.8], []
        )


def test_masks_of_another_sparsity_are_refused(evaluator):
    with pytest.raises(DatabaseError, match=r"no masks of sparsity 0\.7"):
        crossed.hidden(build(SPEC, database_dir("x")), "x", DESIGN, [0.7], [])


def test_mixtures_need_the_sparsity_at_which_graphs_are_changed(evaluator):
    small = replace(DESIGN, regions=(2, 2), changed_sparsity=0.8)
    assert list(crossed.mixtures(FAMILIES[:2], [0.8, 0.6], small, 16, "m")) == [0.8, 0.6]
    with pytest.raises(InvalidInput, match=r"0\.8 is needed among them"):
        crossed.mixtures(FAMILIES[:2], [0.6], small, 16, "m")


@pytest.fixture
def mixed(evaluator):
    return crossed.mixture(FAMILIES, 0.8, 3, 16, "m")


def test_a_mixture_has_as_many_graphs_of_each_family_at_one_sparsity(mixed):
    assert mixed.table["family"].tolist() == [family for family in FAMILIES for _ in range(3)]
    assert mixed.masks().shape == (12, 16, 16)
    assert (mixed.table["target_sparsity"] == 0.8).all()
    assert np.ptp(mixed.masks().sum(axis=(1, 2))) <= 2  # an edge is two entries
    np.testing.assert_allclose(1 - mixed.masks().mean(axis=(1, 2)), 0.8, atol=2 / 16**2)


def test_a_mixture_holds_each_familys_own_masks_under_names_that_tell_them_apart(mixed):
    for k, family in enumerate(FAMILIES):
        alone = database.open_database(database_dir(f"m-3-{family}-0.8"))
        np.testing.assert_array_equal(mixed.masks()[3 * k : 3 * k + 3], alone.masks())
        assert (
            mixed.table["clustering"].tolist()[3 * k : 3 * k + 3]
            == alone.table["clustering"].tolist()
        )
        assert mixed.table["mask_id"].tolist()[3 * k : 3 * k + 3] == [
            f"{family}-{mask_id}" for mask_id in alone.table["mask_id"]
        ]
    assert mixed.table["mask_id"].is_unique


def test_mixtures_of_other_seeds_hold_other_graphs(mixed):
    other = crossed.mixture(FAMILIES, 0.8, 3, 16, "n", seed=1)
    assert (other.masks() != mixed.masks()).any(axis=(1, 2)).all()


def test_first_of_each_takes_the_first_graphs_of_each_family(mixed):
    found = crossed.first_of_each(mixed, 2)
    rows = [0, 1, 3, 4, 6, 7, 9, 10]
    np.testing.assert_array_equal(found.masks(), mixed.masks()[rows])
    assert found.table["mask_id"].tolist() == mixed.table["mask_id"].iloc[rows].tolist()


def test_a_protocol_laid_over_all_layers_differs_in_scope_and_name_alone():
    found = crossed.laid_over_all(CALIBRATED)
    assert (found.scope, found.masked_layers) == ("all", (0, 1))
    assert replace(found, scope="hidden", name="calibrated") == CALIBRATED
    assert found.name != CALIBRATED.name


# --- trainings ---


@pytest.mark.parametrize("protocol", [PROTOCOL, ALL], ids=["hidden", "all"])
def test_every_mask_is_trained_from_every_seed(protocol, masks, evaluator):
    found = crossed.train(masks, 2, protocol, "mnist-5k", evaluator)
    assert list(found.columns) == ["mask", "seed", *MEASURED]
    assert found[["mask", "seed"]].to_numpy().tolist() == [
        [m, s] for m in range(3) for s in range(2)
    ]
    assert evaluator.trained == 6
    first = {"hidden": lambda m: None, "all": lambda m: expand(m, 784, 16)}[protocol.scope]
    jobs = [
        Job(Recipe((first(masks[row.mask]), masks[row.mask], None)), row.seed, protocol, "mnist-5k")
        for row in found.itertuples()
    ]
    known = evaluator.evaluate(jobs)
    assert evaluator.trained == 6  # the very same trainings
    pd.testing.assert_frame_equal(found[MEASURED], known[MEASURED])
    assert found["key"].tolist() == [evaluator.key(job) for job in jobs]


def test_more_seeds_train_only_what_is_missing(masks, evaluator):
    few = crossed.train(masks[:2], 2, PROTOCOL, "mnist-5k", evaluator)
    more = crossed.train(masks, 3, PROTOCOL, "mnist-5k", evaluator)
    assert evaluator.trained == 9
    pd.testing.assert_frame_equal(few, more.query("mask < 2 and seed < 2").reset_index(drop=True))


def test_layer_masks_that_are_no_graph_are_trained_as_given(masks, evaluator):
    odd = np.random.default_rng(0).random((16, 784)) < 0.2
    layers = [(odd, None, None), (None, np.triu(np.ones((16, 16), bool)), None)]
    found = crossed.train_layers(layers, 2, ALL, "mnist-5k", evaluator)
    assert found["key"].tolist() == [
        evaluator.key(Job(Recipe(one), seed, ALL, "mnist-5k")) for one in layers for seed in (0, 1)
    ]
    graph = [layer_masks(mask, ALL.widths, ALL.masked_layers) for mask in masks]
    pd.testing.assert_frame_equal(
        crossed.train_layers(graph, 2, ALL, "mnist-5k", evaluator),
        crossed.train(masks, 2, ALL, "mnist-5k", evaluator),
    )


def test_each_set_is_trained_and_the_first_masks_under_released(evaluator, monkeypatch):
    asked = []
    monkeypatch.setattr(
        crossed,
        "train",
        lambda masks, seeds, protocol, *_: asked.append((len(masks), seeds, protocol)) or TRAININGS,
    )
    sets = {
        name: build(SPEC, database_dir("x")).at(0.8)
        for name in ("bernoulli, s = 0.80", "ws_flex, s = 0.80")
    }
    found = crossed.train_sets(sets, DESIGN, PROTOCOL, "mnist-5k", evaluator)
    assert asked == [(5, 3, PROTOCOL), (5, 2, PROTOCOL), (2, 2, RELEASED)]
    assert found["set"].unique().tolist() == [*sets, "released, s = 0.80"]
    assert list(crossed.bernoulli(found)) == ["bernoulli, s = 0.80"]


# --- tables ---

TRAININGS = pd.DataFrame(
    {
        "mask": np.repeat(range(3), 2),
        "seed": [0, 1] * 3,
        "test_accuracy": [0, 1, 10, 11, 20, 21],
        "validation_accuracy": range(6),
    }
)


def test_a_table_has_masks_in_rows_and_seeds_in_columns_in_whatever_order_they_come():
    for rows in (TRAININGS, TRAININGS.iloc[::-1], TRAININGS.sample(frac=1, random_state=0)):
        assert crossed.table(rows).tolist() == [[0, 1], [10, 11], [20, 21]]
        assert crossed.table(rows, "validation_accuracy").tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (TRAININGS.drop(index=3), "trained once from each seed"),
        (TRAININGS.assign(test_accuracy=[0, 1, np.nan, 11, 20, 21]), "trained once from each seed"),
        (pd.concat([TRAININGS, TRAININGS.tail(1)]), "trained once from each seed"),
    ],
    ids=["a pair is missing", "no number", "two designs"],
)
def test_what_is_no_crossed_design_is_refused(rows, message):
    with pytest.raises(InvalidInput, match=message):
        crossed.table(rows)


# --- what the tables say ---


def made_up(masks, seeds, between, rest, seed=0):
    rng = np.random.default_rng(seed)
    y = (
        0.9
        + between * rng.normal(size=(masks, 1))
        + 0.01 * rng.normal(size=seeds)
        + rest * rng.normal(size=(masks, seeds))
    )
    rows = pd.DataFrame(
        {
            "mask": np.repeat(np.arange(masks), seeds),
            "seed": np.tile(np.arange(seeds), masks),
            "test_accuracy": y.ravel(),
        }
    )
    return rows.sample(frac=1, random_state=0)


def tidy(sets):
    return pd.concat([rows.assign(set=name) for name, rows in sets.items()], ignore_index=True)


def test_parts_are_the_components_of_each_design_in_the_order_given():
    sets = {"b": made_up(20, 5, 0.004, 0.001), "a": made_up(10, 4, 0.0, 0.002, seed=1)}
    trainings = tidy(sets)
    assert len(trainings) == 140 and trainings["set"].unique().tolist() == ["b", "a"]
    found = crossed.parts(trainings).set_index(["set", "part"])
    for name, rows in sets.items():
        expected = components(crossed.table(rows))
        assert tuple(found.loc[(name, "icc"), ["n_masks", "n_seeds"]]) == (
            expected.masks,
            expected.seeds,
        )
        for part, estimate in {
            "masks": expected.between_masks,
            "residual": expected.residual,
            "ceiling": expected.ceiling,
        }.items():
            assert tuple(found.loc[(name, part), ["value", "low", "high"]]) == (
                estimate.value,
                estimate.low,
                estimate.high,
            )
        assert found.loc[(name, "masks"), "p"] == expected.p
    assert found.loc["b", "p"].iloc[0] < 1e-6 < 0.01 < found.loc["a", "p"].iloc[0]
    assert found["detectable"].notna().sum() == 2
    by_two = crossed.parts(trainings.assign(kind="x"), by=("kind", "set"))
    assert by_two[["kind", "set"]].drop_duplicates().to_numpy().tolist() == [["x", "b"], ["x", "a"]]


def test_spreads_judge_the_standard_deviation_between_masks():
    found = crossed.spreads(
        tidy(
            {"wide": made_up(60, 6, 0.01, 0.001), "narrow": made_up(60, 6, 0.0005, 0.001, seed=1)}
        ),
        0.002,
    )
    wide, narrow = found.to_dict("records")
    assert wide["low"] > 0.002 and wide["p_for"] < 0.05 < wide["p_against"]
    assert narrow["high"] < 0.002 and narrow["p_against"] < 0.05 < narrow["p_for"]
    assert (wide["case"], wide["n"]) == ("wide", 60)
