from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bogp import datasets, search
from bogp.datasets import Dataset, Split
from bogp.errors import InvalidInput
from bogp.graphs import families
from bogp.graphs.database import DatabaseSpec, build
from bogp.search.loop import best_so_far, recommend, retrain, run
from bogp.search.searchers import BoxSearch, Proposal, RandomSearch, SearchSettings
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol

PROTOCOL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=50, steps=3)
COLUMNS = ("degree_centrality", "clustering", "eigenvector_centrality")
SETTINGS = SearchSettings(columns=COLUMNS, n_initial=4, n_iterations=3)


def mixed(n, sparsity, rng):
    """Rings, rewired to any degree, and blocks: clustering varies widely at one sparsity."""
    if rng.random() < 0.5:
        return families.ws_flex(n, sparsity, rng, rewire=rng.random())
    return families.stochastic_block(n, sparsity, rng, ratio=rng.uniform(0.3, 3.0))


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    spec = DatabaseSpec((0.5, 0.6, 0.7), masks_per_sparsity=22, n=16, family="mixed", shard_size=22)
    return build(spec, tmp_path_factory.mktemp("database"), workers=1, sampler=mixed)


class Fake:
    """An evaluator whose answers are a function of mask and seed, kept as in a store; it may be
    interrupted in one of its calls.
    """

    def __init__(self, database, column="clustering", noise=0.0, stop_in_call=None):
        self.value = {
            m.tobytes(): v for m, v in zip(database.masks(), database.table[column], strict=True)
        }
        self.noise, self.stop_in_call = noise, stop_in_call
        self.calls, self.store = [], {}

    def evaluate(self, jobs):
        self.calls.append(list(jobs))
        if len(self.calls) == self.stop_in_call:
            raise KeyboardInterrupt
        rows = []
        for job in jobs:
            key = f"{job.recipe.id}-{job.seed}"
            score = (
                self.value[job.recipe.layer_masks[1].tobytes()]
                + self.noise * np.random.default_rng(job.seed).normal()
            )
            self.store.setdefault(key, len(self.calls))
            rows.append((key, score - 0.1, score, score - 0.2, 1.0))
        return pd.DataFrame(
            rows,
            columns=["key", "train_accuracy", "validation_accuracy", "test_accuracy", "seconds"],
        )


class Scripted:
    """A searcher that asks for given rows, round by round."""

    def __init__(self, rounds, seed=0, name="scripted"):
        self.name, self.seed, self.rounds, self.told = name, seed, list(rounds), []

    def ask(self):
        return [Proposal(row, "scripted", {}) for row in self.rounds.pop(0)] if self.rounds else []

    def tell(self, scores):
        self.told.append(list(scores))


def go(searchers, database, evaluator=None, **kwargs):
    return run(searchers, database, evaluator or Fake(database), PROTOCOL, "tiny", **kwargs)


@pytest.fixture(scope="module")
def together(database):
    """Two box searches and a random one in lockstep, and the evaluator that they asked."""
    fake = Fake(database, noise=0.01)
    searchers = [
        BoxSearch(database, SETTINGS, 0),
        BoxSearch(database, SETTINGS, 1),
        RandomSearch(database, SETTINGS.budget, 0),
    ]
    return go(searchers, database, fake), fake


def test_a_history_has_budget_rows_for_each_search_and_the_documented_columns(together):
    history, _ = together
    assert history.groupby(["method", "search_seed"]).size().to_dict() == {
        ("bogp", 0): 7,
        ("bogp", 1): 7,
        ("random", 0): 7,
    }
    assert history["evaluation"].tolist() == [*range(7)] * 3
    assert history["phase"].tolist() == [*["initial"] * 4, *["surrogate"] * 3] * 2 + ["random"] * 7
    assert list(history.columns) == [
        "method",
        "search_seed",
        "evaluation",
        "phase",
        "mask_id",
        "visit",
        "training_seed",
        "similarity",
        "sparsity",
        "objective",
        "train_accuracy",
        "validation_accuracy",
        "test_accuracy",
        "seconds",
        "key",
        *(f"query_{c}" for c in COLUMNS),
    ]


def test_a_history_says_what_was_measured_on_which_mask(together, database):
    history, fake = together
    table = database.table.set_index("mask_id").loc[history["mask_id"]]
    noise = np.array(
        [0.01 * np.random.default_rng(seed).normal() for seed in history["training_seed"]]
    )
    np.testing.assert_allclose(history["objective"], table["clustering"].to_numpy() + noise)
    np.testing.assert_array_equal(history["sparsity"], table["sparsity"])
    np.testing.assert_array_equal(history["objective"], history["validation_accuracy"])
    assert set(history["key"]) == set(fake.store)


def test_box_searches_together_cost_one_call_for_the_initial_points_and_one_an_iteration(together):
    assert [len(jobs) for jobs in together[1].calls] == [4 + 4 + 7, 2, 2, 2]


def test_searches_in_lockstep_have_the_histories_of_searches_alone(together, database):
    alone = go([BoxSearch(database, SETTINGS, 1)], database, Fake(database, noise=0.01))
    expected = together[0].query("method == 'bogp' and search_seed == 1")
    pd.testing.assert_frame_equal(alone, expected.reset_index(drop=True), check_exact=True)


def test_other_seeds_search_other_points(together):
    first, second = (
        together[0].query("method == 'bogp' and search_seed == @k")["query_clustering"].to_numpy()
        for k in (0, 1)
    )
    assert (first != second).all()


def brute_force(query, values, metric):
    """Row of the largest similarity, one row after another, after minmax scaling; the first where
    several are equal.
    """
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    q = (query - low) / span
    best, at = -np.inf, -1
    for i, row in enumerate((values - low) / span):
        if metric == "cosine":
            similarity = float(q @ row) / ((np.sqrt(q @ q) * np.sqrt(row @ row)) or 1.0)
        else:
            similarity = -float(
                np.abs(q - row).sum() if metric == "l1" else np.sqrt(((q - row) ** 2).sum())
            )
        if similarity > best + 1e-12:
            best, at = similarity, i
    return at, best


@pytest.mark.parametrize("metric", ["cosine", "l1", "l2"])
def test_each_query_lies_in_the_box_and_gets_the_mask_that_is_nearest(metric, database):
    history = go(
        [BoxSearch(database, replace(SETTINGS, metric=metric, n_initial=20, n_iterations=2), 3)],
        database,
    )
    values = database.table[list(COLUMNS)].to_numpy()
    queries = history[[f"query_{c}" for c in COLUMNS]].to_numpy()
    scaled = (queries - values.min(axis=0)) / np.ptp(values, axis=0)
    assert (scaled >= 0.001 - 1e-9).all()
    assert (scaled <= 1 + 1e-9).all()
    assert (np.ptp(scaled[:20], axis=0) > 0.5).all()  # the initial points fill it
    for query, mask_id, similarity in zip(
        queries, history["mask_id"], history["similarity"], strict=True
    ):
        at, best = brute_force(query, values, metric)
        assert database.table["mask_id"][at] == mask_id
        assert similarity == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("scaling", ["zscore", "none"])
def test_with_another_scaling_the_box_is_the_range_over_the_database(scaling, database):
    points = BoxSearch(database, replace(SETTINGS, scaling=scaling, n_initial=200), 0).ask()
    queries = pd.DataFrame([p.query for p in points])
    for column in COLUMNS:
        low, high = database.table[column].min(), database.table[column].max()
        assert low - 1e-9 <= queries[column].min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < queries[column].max() <= high + 1e-9


def test_a_property_that_is_constant_leaves_the_search_space(database):
    one = database.at(0.6)  # ws_flex and stochastic_block place the same number of edges
    assert np.ptp(one.table["degree_centrality"]) < 1e-9
    assert set(BoxSearch(one, SETTINGS, 0).ask()[0].query) == {
        "clustering",
        "eigenvector_centrality",
    }


def test_the_lower_confidence_bound_and_its_kappa_reach_the_optimiser(database):
    optimiser = BoxSearch(database, replace(SETTINGS, kappa=7.5), 0)._optimiser
    assert optimiser.acq_func == "LCB"
    assert optimiser.acq_func_kwargs["kappa"] == 7.5


def test_kappa_trades_what_is_known_to_be_good_for_what_is_unknown(database):
    # All but the last initial point lie together; greed stays beside the best of them, exploration
    # goes far away.
    points = np.array([[0.45, 0.45, 0.45], [0.5, 0.5, 0.5], [0.55, 0.5, 0.45], [0.5, 0.55, 0.5]])
    asked = {}
    for kappa in (0.0, 100.0):
        searcher = BoxSearch(database, replace(SETTINGS, kappa=kappa), 0)
        searcher._points = points
        searcher.tell([0.2, 1.0, 0.5, 0.6])
        searcher.ask()
        asked[kappa] = np.linalg.norm(searcher._points[0] - points[1])
    assert asked[0.0] < asked[100.0] / 1.5


def test_box_search_finds_better_masks_than_random_search_when_a_property_decides(database):
    settings = replace(
        SETTINGS, columns=COLUMNS[:2], metric="l2", n_initial=5, n_iterations=5, kappa=1.0
    )
    searchers = [BoxSearch(database, settings, seed) for seed in range(3)]
    searchers += [RandomSearch(database, settings.budget, seed) for seed in range(200)]
    best = recommend(go(searchers, database))
    # Rank among all masks: 0 is the best one. Ten random draws of 66 masks reach rank (66 - 10) /
    # 11 = 5.1 on average.
    rank = np.array([(database.table["clustering"] > score).sum() for score in best["objective"]])
    box, random = rank[best["method"] == "bogp"], rank[best["method"] == "random"]
    assert random.mean() == pytest.approx(56 / 11, rel=0.25)
    assert box.mean() < random.mean() / 2


def test_an_interrupted_search_goes_on_to_the_same_history(together, database):
    fake = Fake(database, noise=0.01, stop_in_call=4)

    def searchers():
        return [BoxSearch(database, SETTINGS, 0), RandomSearch(database, SETTINGS.budget, 0)]

    with pytest.raises(KeyboardInterrupt):
        go(searchers(), database, fake)
    known = set(fake.store)
    assert 0 < len(known) < 14
    expected = together[0].query("search_seed == 0").reset_index(drop=True)
    pd.testing.assert_frame_equal(go(searchers(), database, fake), expected, check_exact=True)
    # what the first attempt had learnt was asked again, and nothing else
    assert set(fake.store) == set(expected["key"])


def test_a_mask_that_is_visited_again_is_trained_with_a_replication_seed(database):
    fake = Fake(database)
    visitor, other = Scripted([[3, 5, 3], [3], [5]], seed=7), Scripted([[3], [9]], seed=8)
    history = go([visitor, other], database, fake)
    mine = history[history["search_seed"] == 7]
    assert mine["mask_id"].tolist() == database.table["mask_id"].iloc[[3, 5, 3, 3, 5]].tolist()
    assert mine["training_seed"].tolist() == [7, 7, 10_007, 20_007, 10_007]
    assert mine["visit"].tolist() == [0, 0, 1, 2, 1]
    # another search's visits do not count
    assert history[history["search_seed"] == 8]["training_seed"].tolist() == [8, 8]
    assert [[j.seed for j in jobs] for jobs in fake.calls] == [
        [7, 7, 10_007, 8],
        [20_007, 8],
        [10_007],
    ]
    assert [len(scores) for scores in visitor.told] == [3, 1, 1]
    assert [len(scores) for scores in other.told] == [1, 1]


def test_each_searcher_is_told_its_own_scores(database):
    first, second = Scripted([[0], [1, 2]], name="a"), Scripted([[3, 4]], name="b")
    go([second, first], database)
    clustering = database.table["clustering"].tolist()
    assert first.told == [[clustering[0]], [clustering[1], clustering[2]]]
    assert second.told == [[clustering[3], clustering[4]]]


def test_an_objective_may_use_accuracy_and_sparsity(database):
    history = go(
        [Scripted([[0, 40]])],
        database,
        objective=lambda rows: rows["validation_accuracy"] + 0.5 * rows["sparsity"],
    )
    expected = database.table["clustering"] + 0.5 * database.table["sparsity"]
    np.testing.assert_allclose(history["objective"], expected.iloc[[0, 40]])


def test_searchers_of_several_objectives_advance_together_each_by_its_own(database):
    objectives = {
        f"for {a:g}": lambda rows, a=a: rows["validation_accuracy"] + a * rows["sparsity"]
        for a in (0.0, 0.5)
    }
    fake = Fake(database, noise=0.01)
    searchers = [BoxSearch(database, SETTINGS, 1, name) for name in objectives]
    history = go(searchers, database, fake, objective=objectives)
    assert [len(jobs) for jobs in fake.calls] == [2 * 4, 2, 2, 2]
    for name, objective in objectives.items():
        mine = history[history["method"] == name]
        alone = [BoxSearch(database, SETTINGS, 1, name)]
        alone = go(alone, database, Fake(database, noise=0.01), objective=objective)
        pd.testing.assert_frame_equal(mine.reset_index(drop=True), alone, check_exact=True)
    assert (
        history.query("method == 'for 0'")["mask_id"].to_numpy()
        != history.query("method == 'for 0.5'")["mask_id"].to_numpy()
    ).any()


@pytest.mark.parametrize("names", [["scripted"], ["scripted", "other", "third"], []], ids=str)
def test_a_searcher_without_an_objective_or_an_objective_without_a_searcher_is_refused(
    names, database
):
    fake = Fake(database)
    with pytest.raises(InvalidInput, match="needs one objective"):
        go(
            [Scripted([[0]]), Scripted([[1]], name="other")],
            database,
            fake,
            objective=dict.fromkeys(names, search.validation_accuracy),
        )
    assert fake.calls == []


def test_random_search_repeats_no_mask_and_depends_on_its_seed(database):
    draws = [
        [p.row for p in RandomSearch(database, len(database), seed).ask()] for seed in (0, 1, 0)
    ]
    assert sorted(draws[0]) == list(range(len(database)))
    assert draws[0] == draws[2] != draws[1]


def test_every_mask_is_as_likely_to_be_drawn_first(database):
    first = [RandomSearch(database, 1, seed).ask()[0].row for seed in range(4000)]
    counts = np.bincount(first, minlength=len(database))
    # chi-squared of 65 degrees of freedom: 1 in 1,000 lies above
    assert ((counts - 4000 / 66) ** 2 / (4000 / 66)).sum() < 105


def history_of(*scores):
    return pd.concat(
        pd.DataFrame({"method": "m", "search_seed": k, "evaluation": range(len(s)), "objective": s})
        for k, s in enumerate(scores)
    ).reset_index(drop=True)


def test_recommend_takes_the_best_evaluation_of_each_search_and_the_first_of_equals():
    best = recommend(history_of([0.1, 0.9, 0.3, 0.9], [0.5, 0.5], [0.2, 0.1, 0.4]))
    assert best["search_seed"].tolist() == [0, 1, 2]
    assert best["evaluation"].tolist() == [1, 0, 2]


def test_best_so_far_is_the_running_maximum_of_each_search():
    assert best_so_far(history_of([0.3, 0.1, 0.5, 0.4], [0.2, 0.6])).tolist() == [
        0.3,
        0.3,
        0.5,
        0.5,
        0.2,
        0.6,
    ]


def test_retraining_uses_fresh_seeds_and_averages_over_them(together, database):
    history, searched = together
    fresh = Fake(database, noise=0.01)
    chosen = recommend(history)
    table = retrain(chosen, database, fresh, PROTOCOL, "tiny", seeds=3)
    seeds = {job.seed for jobs in fresh.calls for job in jobs}
    assert len(seeds) == 3 * chosen["search_seed"].nunique(), (
        "each search has fresh seeds of its own, the methods share them"
    )
    assert seeds.isdisjoint(job.seed for jobs in searched.calls for job in jobs)
    # No search may ever train with them: search seeds lie below 5,000, their replications above
    # 10,000.
    assert all(4_999 < seed < 10_000 for seed in seeds)
    clustering = database.table.set_index("mask_id")["clustering"].loc[chosen["mask_id"]].to_numpy()
    first = 5_000 + 3 * chosen["search_seed"].to_numpy()
    mean = clustering + 0.01 * np.array(
        [np.mean([np.random.default_rng(s + i).normal() for i in range(3)]) for s in first]
    )
    np.testing.assert_allclose(table["fresh_validation"], mean)
    np.testing.assert_allclose(table["fresh_test"], mean - 0.2)
    assert table["apparent"].tolist() == chosen["validation_accuracy"].tolist()
    assert table["fresh_seeds"].tolist() == [3, 3, 3]


@pytest.mark.parametrize("seeds", [0, -1, 5_000])
def test_a_number_of_fresh_seeds_out_of_range_is_refused(seeds, together, database):
    with pytest.raises(InvalidInput, match="seeds"):
        retrain(recommend(together[0]), database, Fake(database), PROTOCOL, "tiny", seeds=seeds)


def test_fresh_seeds_can_be_checked_beforehand():
    search.check_fresh_seeds(1_000, 5)
    for seeds, searches in ((0, 5), (1_001, 5), (1, 0)):
        with pytest.raises(InvalidInput):
            search.check_fresh_seeds(seeds, searches)


@pytest.mark.parametrize(
    "bad",
    [
        {"metric": "hamming"},
        {"scaling": "maxabs"},
        {"n_initial": 0},
        {"n_iterations": -1},
        {"kappa": -1.0},
        {"kappa": float("inf")},
        {"kappa": float("nan")},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InvalidInput):
        SearchSettings(**bad)


@pytest.mark.parametrize("columns", [(), ("colour",)], ids=["none", "unknown"])
def test_a_search_space_of_no_known_property_is_refused(columns, database):
    with pytest.raises(InvalidInput, match="columns"):
        BoxSearch(database, replace(SETTINGS, columns=columns), 0)


@pytest.mark.parametrize("seed", [-1, 5_000, 1.0, True, "0"], ids=repr)
def test_a_search_seed_out_of_range_is_refused(seed, database):
    with pytest.raises(InvalidInput, match="search seed"):
        BoxSearch(database, SETTINGS, seed)
    with pytest.raises(InvalidInput, match="search seed"):
        RandomSearch(database, 5, seed)


@pytest.mark.parametrize("budget", [0, 67])
def test_a_random_search_larger_than_the_database_is_refused(budget, database):
    with pytest.raises(InvalidInput, match=str(budget)):
        RandomSearch(database, budget, 0)


def test_two_searchers_of_one_name_and_seed_are_refused(database):
    fake = Fake(database)
    with pytest.raises(InvalidInput, match="same name and seed"):
        go([RandomSearch(database, 3, 0), RandomSearch(database, 4, 0)], database, fake)
    assert fake.calls == []
    assert (
        len(
            go(
                [RandomSearch(database, 3, 0), RandomSearch(database, 4, 0, name="more")],
                database,
                fake,
            )
        )
        == 7
    )


def test_a_graph_with_more_nodes_than_the_layer_has_channels_is_refused(database):
    with pytest.raises(InvalidInput, match="16 nodes"):
        run(
            [RandomSearch(database, 3, 0)],
            database,
            Fake(database),
            replace(PROTOCOL, widths=(784, 8, 8, 10)),
            "tiny",
        )


def test_iterations_may_be_none_at_all(database):
    history = go([BoxSearch(database, replace(SETTINGS, n_iterations=0), 0)], database)
    assert history["phase"].tolist() == ["initial"] * 4


def test_from_database_to_recommendation_with_the_real_evaluator(database, home, monkeypatch):
    rng = np.random.default_rng(0)
    parts = [
        Split(rng.integers(0, 256, (n, 784), np.uint8), rng.integers(0, 10, n, np.uint8))
        for n in (150, 50, 50)
    ]
    monkeypatch.setattr(datasets, "load", lambda name: Dataset(name, *parts))
    evaluator = Evaluator(progress=False)

    def search_once():
        return go(
            [
                BoxSearch(database, replace(SETTINGS, n_initial=3, n_iterations=2), 0),
                RandomSearch(database, 5, 0),
            ],
            database,
            evaluator,
        )

    history = search_once()
    stored = evaluator.store.table().set_index("key").loc[history["key"]]
    for column in ("train_accuracy", "validation_accuracy", "test_accuracy"):
        assert stored[column].tolist() == history[column].tolist()
    np.testing.assert_allclose(
        stored["model_sparsity"],
        history["sparsity"] * 16 * 16 / (784 * 16 + 16 * 16 + 16 * 10),
        rtol=1e-9,
    )
    size = evaluator.trained
    pd.testing.assert_frame_equal(search_once(), history, check_exact=True)
    assert evaluator.trained == size  # the second time everything was known
    table = retrain(recommend(history), database, evaluator, PROTOCOL, "tiny", seeds=2)
    assert len(table) == 2
    fresh = evaluator.store.table().query("5000 <= seed < 10000")
    assert table["fresh_test"].mean() == pytest.approx(fresh["test_accuracy"].mean())
    evaluator.store.close()


def test_default_settings_are_the_papers():
    assert SearchSettings().budget == 25
    assert (SearchSettings().n_initial, SearchSettings().kappa, SearchSettings().metric) == (
        5,
        5.0,
        "cosine",
    )
    assert search.FRESH_SEED < search.SEED_LIMIT
