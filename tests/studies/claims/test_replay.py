from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.errors import InvalidInput
from bogp.graphs.database import DatabaseSpec, MaskDatabase
from bogp.search import searchers
from bogp.search.searchers import BoxSearch, Proposal, RandomSearch, SearchSettings
from bogp.studies.claims import replay as replays
from bogp.studies.claims.replay import METHODS, against, halves, planted, replay, summary
from bogp.variance import components

COLUMNS = ("clustering", "s_metric")
SETTINGS = SearchSettings(columns=COLUMNS, metric="l2", n_initial=4, n_iterations=6, kappa=1.0)
SHORT = replace(SETTINGS, n_initial=3, n_iterations=2)


@pytest.fixture(scope="module")
def database():
    values = np.random.default_rng(0).random((60, 3))
    table = pd.DataFrame(values, columns=["sparsity", *COLUMNS]).assign(
        mask_id=[f"m{i}" for i in range(60)]
    )
    return MaskDatabase(table, DatabaseSpec((0.5,), 60, n=16), np.zeros((60, 32), np.uint8))


@pytest.fixture
def table():
    return np.random.default_rng(1).normal(0.97, 0.01, (60, 6))


# --- halves of the seeds ---


@pytest.mark.parametrize(("seeds", "sizes"), [(2, (1, 1)), (3, (1, 2)), (16, (8, 8))], ids=str)
def test_the_seeds_are_split_into_two_halves(seeds, sizes):
    for repeat in range(20):
        searched, unseen = halves(seeds, repeat)
        assert (len(searched), len(unseen)) == sizes
        assert sorted([*searched, *unseen]) == list(range(seeds))


def test_each_repeat_and_each_seed_splits_anew_and_every_seed_comes_first_equally_often():
    first = np.array([halves(6, repeat)[0] for repeat in range(1200)])
    for column in first.T:
        assert stats.chisquare(np.bincount(column, minlength=6)).pvalue > 1e-3
    other = np.array([halves(6, repeat, 1)[0] for repeat in range(1200)])
    assert (first == other).all(axis=1).mean() < 0.02  # 1 in 120 by chance


# --- what a replayed search is told, and what is reported of it ---


class Scripted:
    def __init__(self, rounds):
        self.name, self.seed, self.rounds, self.told = "scripted", 0, list(rounds), []

    def ask(self):
        return [Proposal(row, "scripted", {}) for row in self.rounds.pop(0)] if self.rounds else []

    def tell(self, scores):
        self.told.append(list(scores))


def test_each_visit_of_a_mask_reads_the_next_seed_and_starts_again_after_the_last():
    scripted = Scripted([[3, 5, 3], [3], [5, 4, 5]])
    rows, scores = replays._search(scripted, np.arange(12).reshape(6, 2))
    assert rows == [3, 5, 3, 3, 5, 4, 5]
    assert scripted.told == [[6, 10, 7], [6], [11, 8, 10]]
    assert scores == [6, 10, 7, 6, 11, 8, 10]


def test_a_recommendation_is_scored_on_the_seeds_that_the_search_did_not_see(database, table):
    found = replay(
        table, database, SHORT, 8, ["random"], recommenders=["observed"], cores=1, seed=4
    )
    assert found["repeat"].tolist() == list(range(8))
    for one in found.itertuples():
        searched, unseen = halves(6, one.repeat, 4)
        rows = [p.row for p in RandomSearch(database, 5, one.repeat).ask()]
        assert one.row == max(rows, key=lambda row: table[row, searched[0]])
        assert one.apparent == table[one.row, searched[0]]
        assert one.held_out == pytest.approx(
            np.mean([table[one.row, s] for s in unseen]), abs=1e-15
        )
        means = [sum(table[row, s] for s in searched) for row in range(60)]
        assert one.best == pytest.approx(
            np.mean([table[int(np.argmax(means)), s] for s in unseen]), abs=1e-15
        )
        assert one.regret == one.best - one.held_out
        assert (one.distinct, one.replications) == (5, 0)
    assert found["held_out"].nunique() > 4


def test_the_posterior_recommender_sees_all_evaluations_and_the_properties(database, table):
    values = database.values(COLUMNS)
    found = replay(
        table, database, replace(SETTINGS, n_initial=20), 3, ["random"], cores=1
    ).set_index(["recommender", "repeat"])
    for repeat in range(3):
        searched, _ = halves(6, repeat)
        rows = [p.row for p in RandomSearch(database, 26, repeat).ask()]
        expected = searchers.best_posterior_mean(
            rows, table[rows, searched[0]], (values - values.min(axis=0)) / np.ptp(values, axis=0)
        )
        assert found.loc["posterior", repeat]["row"] == expected
        assert found.loc["posterior", repeat]["apparent"] == table[expected, searched[0]]
    assert (found.loc["posterior", "row"] != found.loc["observed", "row"]).any()


def test_a_box_search_is_that_of_the_repeats_number_and_its_replications_are_counted(
    database, table
):
    few = MaskDatabase(database.table.iloc[:6], database.spec, database.bits[:6])
    found = replay(table[:6], few, SHORT, 2, ["box"], recommenders=["observed"], cores=1)
    for one in found.itertuples():
        searcher, rows = BoxSearch(few, SHORT, one.repeat), []
        while asked := searcher.ask():
            scores = []
            for proposal in asked:
                scores.append(
                    table[proposal.row, halves(6, one.repeat)[0][rows.count(proposal.row)]]
                )
                rows.append(proposal.row)
            searcher.tell(scores)
        assert one.distinct == len(set(rows))
        assert one.replications == 5 - len(set(rows))
        assert one.row in rows
    assert found["replications"].max() > 0


def test_every_method_and_recommender_has_its_rows_in_the_order_asked_for_whatever_the_cores(
    database, table
):
    methods = ["random", "pool_permuted", "box", "density", "box_random", "box_permuted", "pool"]
    assert {*methods, "box_l2"} == set(METHODS)
    short = replace(SHORT, n_iterations=1)
    alone = replay(table, database, short, 2, methods, cores=1)
    together = replay(table, database, short, 2, methods[:2], cores=2)
    pd.testing.assert_frame_equal(alone.head(len(together)), together, check_exact=True)
    expected = [(m, r, k) for m in methods for r in ("observed", "posterior") for k in range(2)]
    assert (
        list(alone[["method", "recommender", "repeat"]].itertuples(index=False, name=None))
        == expected
    )
    assert np.isfinite(alone.drop(columns=["method", "recommender"]).to_numpy(float)).all()
    assert (alone["distinct"] + alone["replications"] == 4).all()
    assert alone.groupby("repeat")["best"].nunique().eq(1).all()  # one split for all methods


class Spy:
    """Wraps a function or class and keeps what it is called with and what it returns."""

    def __init__(self, original):
        self.original, self.given, self.made = original, [], []

    def __call__(self, *arguments):
        self.given.append(arguments)
        self.made.append(self.original(*arguments))
        return self.made[-1]


def test_the_permuted_controls_share_a_new_permutation_each_repeat(database, table, monkeypatch):
    permuting, searching = Spy(searchers.permuted), Spy(searchers.PoolSearch)
    monkeypatch.setattr(replays, "permuted", permuting)
    monkeypatch.setitem(replays._PROPOSERS, "pool_permuted", searching)
    initial_only = replace(SHORT, n_iterations=0)
    for _ in range(2):
        replay(
            table,
            database,
            initial_only,
            3,
            ["box_permuted", "pool_permuted"],
            recommenders=["observed"],
            cores=1,
        )
    assert all(given is database for given, _ in permuting.given)
    # the first of each replay are the check beforehand
    seeds = np.reshape([seed for _, seed in permuting.given], (2, 4, 2))[:, 1:]
    assert (seeds[0] == seeds[1]).all()
    assert (seeds[:, :, 0] == seeds[:, :, 1]).all()
    assert len(np.unique(seeds)) == 3
    assert all(any(given[0] is made for made in permuting.made) for given in searching.given)


def test_the_density_control_sees_the_sparsity_alone(database, monkeypatch):
    searching = Spy(BoxSearch)
    monkeypatch.setitem(replays._PROPOSERS, "density", searching)
    sparsity = database.table["sparsity"].to_numpy()
    cosine = replace(SETTINGS, metric="cosine")
    found = replay(
        np.repeat(sparsity[:, None], 2, axis=1),
        database,
        cosine,
        2,
        ["density"],
        recommenders=["observed"],
        cores=1,
    )
    assert len(searching.made) == 3  # the check beforehand, and two repeats
    assert all(settings.columns == ("sparsity",) for _, settings, _, _ in searching.given)
    assert (found["distinct"] > 5).all()  # by cosine, all masks lie in one direction
    assert (found["regret"] < 0.1).all()  # sparsity is all that matters here


# --- the reference is cross-fitted ---


def test_without_differences_between_masks_random_search_has_no_regret(
    database,
):
    fitted, naive = [], []
    for number in range(60):
        table = planted(database, COLUMNS, 0.0, 0.002, 6, number, "noise")
        found = replay(
            table, database, SHORT, 4, ["random"], recommenders=["observed"], cores=1, seed=number
        )
        fitted.append(found["regret"].mean())
        # chosen and scored on the same seeds
        best = np.array([table[:, halves(6, r, number)[1]].mean(axis=1).max() for r in range(4)])
        naive.append((best - found["held_out"]).mean())
    error = np.std(fitted, ddof=1) / np.sqrt(60)
    assert error < 0.00016
    assert abs(np.mean(fitted)) < 3 * error
    assert np.mean(naive) > 0.002


@pytest.mark.parametrize(
    "kind",
    [
        "slope",
        pytest.param("hill", marks=pytest.mark.full),
        pytest.param("noise", marks=pytest.mark.full),
    ],
)
def test_bayesian_optimisation_wins_where_accuracy_is_a_smooth_function_and_not_where_it_is_noise(
    kind,
):
    values = np.random.default_rng(0).random((200, 3))
    many = MaskDatabase(
        pd.DataFrame(values, columns=["sparsity", *COLUMNS]),
        DatabaseSpec((0.5,), 200, n=16),
        np.zeros((200, 32), np.uint8),
    )
    settings = replace(SETTINGS, n_initial=8, n_iterations=8)
    found = replay(
        planted(many, COLUMNS, 0.01, 0.0005, 8, 0, kind),
        many,
        settings,
        6,
        ["random", "pool"],
        cores=1,
    )
    found = summary(found.assign(table=kind))
    pool = found[found["method"] == "pool"]
    assert pool["recommender"].tolist() == ["observed", "posterior"]
    if kind != "noise":
        assert (pool["low"] > 0).all()
        assert (pool["p_for"] < 0.05).all()
        assert (pool["advantage"] > 0.0005).all()
    else:
        assert (pool["p_for"] > 0.05).all()
        assert (pool["advantage"].abs() < 0.0005).all()
    assert pool["distinct"].tolist() == [16, 16]


# --- planted tables ---


def test_a_hill_has_the_spread_and_the_noise_that_were_asked_for_and_an_optimum_inside(database):
    exact = planted(database, COLUMNS, 0.003, 0.0, 4, 5, "hill")
    assert (exact == exact[:, :1]).all()
    assert exact[:, 0].mean() == pytest.approx(0.97)
    assert exact[:, 0].std() == pytest.approx(0.003)
    values = searchers.unit_values(database, COLUMNS)
    x, y = values.T
    # minus a squared distance is such a function
    design = np.column_stack([np.ones(60), x, y, x**2 + y**2])
    weights, residual, *_ = np.linalg.lstsq(design, exact[:, 0], rcond=None)
    assert residual[0] < 1e-20
    assert weights[3] < 0
    optimum = -weights[1:3] / (2 * weights[3])
    assert ((optimum > 0.2) & (optimum < 0.8)).all()
    noisy = planted(database, COLUMNS, 0.003, 0.002, 400, 5, "hill")
    np.testing.assert_allclose(noisy.mean(axis=1), exact[:, 0], atol=5 * 0.002 / 20)
    assert (noisy - exact[:, :1]).std() == pytest.approx(0.002, rel=0.03)
    assert (planted(database, COLUMNS, 0.003, 0.0, 4, 6, "hill") != exact).any()


def test_a_slope_is_the_sum_of_the_standardised_properties_with_signs(database):
    exact = planted(database, COLUMNS, 0.003, 0.0, 4, 5, "slope")[:, 0]
    values = searchers.unit_values(database, COLUMNS)
    weights, residual, *_ = np.linalg.lstsq(
        np.column_stack([np.ones(60), stats.zscore(values)]), exact, rcond=None
    )
    assert residual[0] < 1e-20
    assert abs(weights[1]) == pytest.approx(abs(weights[2])) and exact.std() == pytest.approx(0.003)


def test_a_noise_table_has_no_part_of_the_mask(database):
    table = planted(database, COLUMNS, 0.003, 0.002, 50, 5, "noise")
    assert stats.f_oneway(*table).pvalue > 0.01
    assert stats.kstest((table.ravel() - 0.97) / 0.002, "norm").pvalue > 0.01


def test_a_table_is_not_planted_on_missing_properties(database):
    holes = MaskDatabase(
        database.table.assign(clustering=[np.nan, *database.table["clustering"][1:]]),
        database.spec,
        database.bits,
    )
    with pytest.raises(InvalidInput, match="no finite value of one of clustering"):
        planted(holes, COLUMNS, 0.1, 0.1, 2, 0, "hill")


# --- comparisons ---


def replayed(**regrets):
    """Rows of a replay with the given regrets of each method, in mixed order, for two
    recommenders.
    """
    rows = [
        {"method": m, "recommender": r, "repeat": k, "regret": value + extra, "distinct": 10 + k}
        for m, values in regrets.items()
        for r, extra in (("observed", 0.0), ("posterior", 0.5 * (m == "a")))
        for k, value in enumerate(values)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def test_a_comparison_pairs_the_repeats_and_agrees_with_scipy(monkeypatch):
    rng = np.random.default_rng(3)
    common = rng.normal(0, 1, 12)
    a, b = common + rng.normal(0.1, 0.2, 12), common + rng.normal(0.4, 0.2, 12)
    monkeypatch.setattr(replays, "SMALLEST_GAIN", 0.45)
    found = against(replayed(a=a, b=b), "a", "b").set_index("recommender")
    for recommender, own in (("observed", a), ("posterior", a + 0.5)):
        row = found.loc[recommender]
        assert (row["method"], row["other"], row["n"], row["distinct"]) == ("a", "b", 12, 15.5)
        assert row["regret"] == pytest.approx(own.mean())
        assert [row["regret_low"], row["regret_high"]] == pytest.approx(
            stats.t.interval(0.95, 11, own.mean(), stats.sem(own))
        )
        test = stats.ttest_rel(b, own)
        assert row["advantage"] == pytest.approx((b - own).mean())
        assert [row["low"], row["high"]] == pytest.approx(test.confidence_interval(0.95))
        assert row["p_for"] == pytest.approx(
            min(1, 2 * stats.ttest_rel(b, own, alternative="greater").pvalue)
        )
        assert row["p_against"] == pytest.approx(
            min(1, 2 * stats.ttest_1samp(b - own, 0.45, alternative="less").pvalue)
        )
        power = stats.nct.sf(stats.t.ppf(0.975, 11), 11, row["detectable"] / stats.sem(b - own))
        assert power == pytest.approx(0.8, abs=1e-3)
    assert found.loc["observed", "p_for"] < 0.05 < found.loc["posterior", "p_for"]


def test_a_summary_compares_each_method_with_random_search_and_random_search_with_nothing():
    rng = np.random.default_rng(4)
    table, other = (
        replayed(random=rng.random(6), a=rng.random(6), b=rng.random(6)) for _ in range(2)
    )
    found = summary(pd.concat([table.assign(table="t"), other.assign(table="u")])).set_index(
        ["table", "method", "recommender"]
    )
    assert len(found) == 12
    for name, one in (("t", table), ("u", other)):
        for method in ("a", "b"):
            expected = against(one, method, "random").set_index(["method", "recommender"])
            pd.testing.assert_frame_equal(
                found.loc[name].loc[[method]], expected, check_dtype=False
            )
    random = found.xs("random", level="method")
    assert (
        random[["advantage", "low", "high", "p_for", "p_against", "detectable"]]
        .isna()
        .all(axis=None)
    )
    assert random[["regret", "regret_low", "regret_high", "distinct", "n"]].notna().all(axis=None)


def test_permuted_properties_are_compared_on_measured_tables_by_the_best_observed_mask():
    rng = np.random.default_rng(5)
    table = replayed(box=rng.random(6), box_permuted=rng.random(6))
    found = replays.against_permuted(
        pd.concat([table.assign(table=name) for name in ("s = 0.60", "planted: hill")])
    )
    assert found[["method", "other", "recommender", "table"]].to_numpy().tolist() == [
        ["box", "box_permuted", "observed", "s = 0.60"]
    ]


def test_what_cannot_be_compared_is_refused():
    table = replayed(a=[0.1, 0.2, 0.3], b=[0.1, 0.2, 0.2])
    for one, two in (("a", "c"), ("c", "a")):
        with pytest.raises(InvalidInput, match=r"c has 0|and c 0"):
            against(table, one, two)
    with pytest.raises(InvalidInput, match="same of both"):
        against(replayed(a=[0.1, 0.2, 0.3], b=[0.1, 0.2]), "a", "b")
    with pytest.raises(InvalidInput, match="at least two repeats"):
        against(replayed(a=[0.1], b=[0.2]), "a", "b")


# --- refusals ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracies": np.zeros((59, 4))}, "60 masks"),
        ({"accuracies": np.zeros((60, 1))}, "at least 2 seeds"),
        ({"accuracies": np.zeros(60)}, "one row for each"),
        ({"accuracies": np.full((60, 4), np.nan)}, "finite"),
        ({"repeats": 0}, "repeats is 0"),
        ({"repeats": 5001}, "repeats is 5001"),
        ({"methods": ["box", "annealing"]}, "annealing.*pool_permuted"),
        ({"methods": ["box", "box"]}, "each once"),
        ({"methods": []}, "one or more"),
        ({"recommenders": ["best"]}, "observed, posterior"),
        ({"settings": replace(SETTINGS, n_iterations=57)}, "61 masks"),
        ({"settings": replace(SETTINGS, columns=("colour",))}, "columns"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_bad_input_is_refused_before_any_search(change, message, database, monkeypatch):
    monkeypatch.setattr(replays, "_repeat", None)
    arguments = {
        "accuracies": np.zeros((60, 4)),
        "database": database,
        "settings": SETTINGS,
        "repeats": 2,
        "methods": ["random"],
    } | change
    with pytest.raises(InvalidInput, match=message):
        replay(**arguments, cores=1)


def test_the_density_control_is_refused_where_all_masks_have_one_sparsity(database, monkeypatch):
    monkeypatch.setattr(replays, "_repeat", None)
    one = MaskDatabase(database.table.assign(sparsity=0.5), database.spec, database.bits)
    with pytest.raises(InvalidInput, match="sparsity is constant over the 60 masks"):
        replay(np.zeros((60, 4)), one, SETTINGS, 2, ["random", "density"], cores=1)


def test_a_recorded_replay_is_read_back_and_another_question_is_asked_anew(
    database, table, tmp_path, monkeypatch
):
    path = tmp_path / "replays" / "x.csv"
    first = replays.recorded(path, table, database, SHORT, 2, ["random", "pool"])
    pd.testing.assert_frame_equal(
        first, replay(table, database, SHORT, 2, ["random", "pool"], cores=1)
    )
    asked = []
    monkeypatch.setattr(replays, "replay", lambda *a, **k: asked.append(a) or first)
    pd.testing.assert_frame_equal(
        replays.recorded(path, table, database, SHORT, 2, ["random", "pool"]), first
    )
    assert not asked
    moved = MaskDatabase(
        database.table.assign(clustering=database.table["clustering"][::-1].to_numpy()),
        database.spec,
        database.bits,
    )
    for other in (
        (table + 1e-9, database, SHORT, 2),
        (table, moved, SHORT, 2),
        (table, database, replace(SHORT, kappa=2.0), 2),
        (table, database, SHORT, 3),
    ):
        replays.recorded(path, *other, ["random", "pool"])
    assert len(asked) == 4


def test_searches_are_replayed_on_the_bernoulli_sets_and_on_planted_tables(
    database, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        replays,
        "recorded",
        lambda path, *arguments: pd.DataFrame({"path": [path], "arguments": [arguments]}),
    )
    more = database.table.assign(
        **{name: np.random.default_rng(2).random(60) for name in searchers.PAPER_FIVE}
    )
    masks = MaskDatabase(more, database.spec, database.bits)
    made = np.random.default_rng(3).normal(0.97, 0.01, (60, 4))
    rows = pd.DataFrame(
        {"mask": np.repeat(range(60), 4), "seed": [*range(4)] * 60, "test_accuracy": made.ravel()}
    )
    rows = rows.assign(validation_accuracy=made.ravel() - 0.01)
    sets = {"bernoulli, s = 0.60": masks, "ws_flex, s = 0.60": masks}
    found = replays.on_tables(
        sets, pd.concat([rows.assign(set=name) for name in sets]), 7, 5, tmp_path
    ).set_index("table")
    extra = found["path"].map(lambda path: path.stem.endswith("_l2"))
    assert (found.loc[extra, "arguments"].map(lambda one: one[-1]) == ("box_l2",)).all()
    assert extra.sum() == 4, "what came later has files of its own"
    found = found[~extra]
    assert found.index.tolist() == ["s = 0.60", "planted: slope", "planted: hill", "planted: noise"]
    assert [path.name for path in found["path"]] == [
        "s0.60.csv",
        "planted_slope.csv",
        "planted_hill.csv",
        "planted_noise.csv",
    ]
    accuracies, _, settings, repeats, methods = found.loc["s = 0.60", "arguments"]
    np.testing.assert_allclose(accuracies, made - 0.01)
    assert (settings.budget, repeats, methods) == (7, 5, METHODS[:-1])
    noise = components(made).residual.value
    exact = planted(masks, settings.columns, 2 * noise, noise, 4, 0, "hill")
    np.testing.assert_array_equal(found.loc["planted: hill", "arguments"][0], exact)
