from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from bogp import search
from bogp.graphs.database import DatabaseSpec, build, fit_scaling, nearest
from bogp.graphs.relational import layer_masks
from bogp.search.searchers import BoxSearch, SearchSettings
from bogp.studies.claims import defects
from bogp.studies.claims.defects import CORRECT, one_mask, pipelines, run, swapped_columns
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import CALIBRATED, Protocol

PROTOCOL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=50, steps=6)
COLUMNS = ("degree_centrality", "clustering", "eigenvector_centrality", "s_metric")
# no surrogate: seconds to fit, and tested with searches
SETTINGS = SearchSettings(columns=COLUMNS[:3], n_initial=4, n_iterations=0)
SEARCHES = 3


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return build(
        DatabaseSpec((0.6,), 40, n=16), tmp_path_factory.mktemp("database") / "x", workers=1
    )


def scaled_rows(database, columns=COLUMNS):
    values = database.table[list(columns)].to_numpy()
    return (values - values.min(axis=0)) / np.ptp(values, axis=0)


# --- look-ups ---


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_released_look_up_gives_every_query_the_same_mask(metric, database):
    scaling = fit_scaling(database, COLUMNS)
    found = one_mask(database.values(COLUMNS), database, scaling, metric)
    assert found.row.tolist() == [65 - 40] * 40  # no. 65, counted round where there are fewer
    assert np.isnan(found.similarity).all()
    assert len(set(nearest(database.values(COLUMNS), database, scaling, metric).row)) > 30


@pytest.mark.parametrize("metric", ["cosine", "l1", "l2"])
def test_swapped_columns_look_up_each_of_the_first_three_in_the_next_ones_place(metric, database):
    queries = database.values(COLUMNS)[:12] * 0.99 + database.values(COLUMNS)[20:32] * 0.01
    scaling, rows = fit_scaling(database, COLUMNS), scaled_rows(database)
    found = swapped_columns(queries, database, scaling, metric).row
    for query, row in zip(queries, found, strict=True):
        a, b, c, d = (query - database.values(COLUMNS).min(axis=0)) / np.ptp(
            database.values(COLUMNS), axis=0
        )
        asked = np.array([c, a, b, d])  # the fourth stays
        if metric == "cosine":
            expected = np.argmax(rows @ asked / np.linalg.norm(rows, axis=1).clip(1e-12))
        else:
            expected = np.argmin(np.linalg.norm(rows - asked, axis=1, ord=int(metric[1])))
        assert row == expected
    assert (found != nearest(queries, database, scaling, metric).row).mean() > 0.5


def test_a_swap_that_changes_nothing_is_the_right_look_up(database):
    """Where the three share one place in their ranges, and where there is a single property."""
    scaling = fit_scaling(database, COLUMNS)
    level = scaling.inverse(
        np.column_stack([np.linspace(0.1, 0.9, 9)] * 3 + [np.linspace(0.9, 0.1, 9)])
    )
    single = fit_scaling(database, COLUMNS[1:2])
    for queries, of in ((level, scaling), (database.values(COLUMNS[1:2]), single)):
        found, right = (
            swapped_columns(queries, database, of, "l2"),
            nearest(queries, database, of, "l2"),
        )
        np.testing.assert_array_equal(found.row, right.row)
        np.testing.assert_allclose(found.similarity, right.similarity, atol=1e-9)


# --- pipelines ---


def test_each_pipeline_differs_from_the_correct_one_in_what_its_name_says():
    correct, *defective = pipelines(CALIBRATED)
    assert (correct.name, correct.protocol, correct.look_up) == (CORRECT, CALIBRATED, nearest)
    reported = {"split": "reported"}
    found = {}
    for pipeline in defective:
        old, new = asdict(CALIBRATED), asdict(pipeline.protocol)
        changes = {k: new[k] for k in new if k != "name" and new[k] != old[k]}
        found[pipeline.name] = (changes, pipeline.look_up)
        assert (pipeline.protocol.name == "calibrated") == (changes == {})
    assert found == {
        "one mask for every query": ({}, one_mask),
        "columns swapped on look-up": ({}, swapped_columns),
        "softmax twice": ({"loss": "softmax_cross_entropy"}, nearest),
        "raw inputs": ({"input_scaling": "raw"}, nearest),
        "chosen on the reported images": (reported, nearest),
        "all but the swapped columns": (
            {"loss": "softmax_cross_entropy", "input_scaling": "raw", **reported},
            one_mask,
        ),
    }
    # two look-ups change no training
    assert len({p.protocol.name for p in (correct, *defective)}) == 5


# --- searches ---


@pytest.fixture(scope="module")
def searched(database, digits, tmp_path_factory):
    """Four pipelines' searches, and the evaluator that trained them."""
    evaluator = Evaluator(tmp_path_factory.mktemp("store") / "x.sqlite", progress=False)
    evaluator._datasets["mnist-5k"] = digits  # read once for all tests
    wanted = (
        CORRECT,
        "one mask for every query",
        "columns swapped on look-up",
        "chosen on the reported images",
    )
    chosen = [p for p in pipelines(PROTOCOL) if p.name in wanted]
    yield run(chosen, database, SETTINGS, SEARCHES, "mnist-5k", evaluator), evaluator
    evaluator.store.close()


def of(searched, name):
    return searched[0].query("defect == @name").reset_index(drop=True)


def accuracy(searched, database, mask_id, seed, protocol):
    mask = database.mask(database.table["mask_id"].tolist().index(mask_id))
    job = Job(
        Recipe(layer_masks(mask, protocol.widths, protocol.masked_layers)),
        seed,
        protocol,
        "mnist-5k",
    )
    trained = searched[1].trained
    row = searched[1].evaluate([job]).iloc[0]
    assert searched[1].trained == trained  # it was trained in the run
    return row


def test_a_run_has_a_row_for_each_pipeline_and_search(searched):
    assert list(searched[0].columns) == [
        "defect",
        "search_seed",
        "mask_id",
        "distinct",
        "spread",
        "apparent",
        "fresh_validation",
        "fresh_test",
        "reported",
    ]
    names = [
        CORRECT,
        "one mask for every query",
        "columns swapped on look-up",
        "chosen on the reported images",
    ]
    assert searched[0][["defect", "search_seed"]].to_numpy().tolist() == [
        [name, k] for name in names for k in range(SEARCHES)
    ]


def test_the_correct_pipeline_is_the_search_of_notebook_3(searched, database):
    searchers = [BoxSearch(database, SETTINGS, seed) for seed in range(SEARCHES)]
    history = search.run(searchers, database, searched[1], PROTOCOL, "mnist-5k")
    winners = search.retrain(
        search.recommend(history), database, searched[1], PROTOCOL, "mnist-5k", seeds=1
    )
    found = of(searched, CORRECT)
    shared = ["search_seed", "mask_id", "apparent", "fresh_validation", "fresh_test"]
    pd.testing.assert_frame_equal(found[shared], winners[shared])
    for k, one in history.groupby("search_seed"):
        assert found.loc[k, "distinct"] == len(set(one["mask_id"]))
        assert found.loc[k, "spread"] == pytest.approx(np.std(one["validation_accuracy"], ddof=1))
    assert (found["distinct"] > 1).all()


def test_what_is_reported_is_fresh_but_where_the_mask_was_chosen_on_the_reported_images(
    searched, database
):
    changed = replace(PROTOCOL, split="reported")
    for name, protocol in (
        (CORRECT, PROTOCOL),
        ("columns swapped on look-up", PROTOCOL),
        ("chosen on the reported images", changed),
    ):
        for row in of(searched, name).itertuples():
            fresh = accuracy(
                searched, database, row.mask_id, search.FRESH_SEED + row.search_seed, protocol
            )
            assert (row.fresh_validation, row.fresh_test) == (
                fresh["validation_accuracy"],
                fresh["test_accuracy"],
            )
            assert row.reported == (row.apparent if protocol is changed else row.fresh_test)
    found = of(searched, "chosen on the reported images")
    assert (found["reported"] != found["fresh_test"]).any()
    assert (found["fresh_validation"] == found["fresh_test"]).all()  # of the same images


def test_with_one_mask_a_search_picks_the_luckiest_seed(searched, database):
    found = of(searched, "one mask for every query")
    assert (found["distinct"] == 1).all()
    assert set(found["mask_id"]) == {database.table["mask_id"].iloc[25]}
    for row in found.itertuples():
        seeds = row.search_seed + search.SEED_LIMIT * np.arange(SETTINGS.budget)
        seen = [
            accuracy(searched, database, row.mask_id, int(seed), PROTOCOL)["validation_accuracy"]
            for seed in seeds
        ]
        assert row.apparent == max(seen)
        assert row.spread == pytest.approx(np.std(seen, ddof=1))
        assert row.spread > 0
        assert row.reported == row.fresh_test


def test_searches_of_all_pipelines_begin_at_the_same_queries(database):
    first = [BoxSearch(database, SETTINGS, 4, look_up=p.look_up).ask() for p in pipelines(PROTOCOL)]
    assert all([p.query for p in asked] == [p.query for p in first[0]] for asked in first)
    assert len({tuple(p.row for p in asked) for asked in first}) == 3  # three look-ups


def test_effects_are_differences_between_searches_of_one_seed():
    rows = pd.DataFrame(
        {
            "defect": ["b"] * 3 + [CORRECT] * 3,
            "search_seed": [0, 1, 2, 2, 1, 0],
            "reported": [0.5, 0.6, 0.8, 0.5, 0.5, 0.5],
        }
    )
    found = defects.effects(rows)
    assert found["defect"].tolist() == ["b"]
    # t quantile of 2 degrees of freedom
    half = 4.302652730 * np.std([0.0, 0.1, 0.3], ddof=1) / np.sqrt(3)
    assert found.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx(
        [0.4 / 3, 0.4 / 3 - half, 0.4 / 3 + half]
    )
    assert found.loc[0, "n"] == 3
