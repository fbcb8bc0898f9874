import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bogp import search
from bogp.errors import InvalidInput
from bogp.graphs.database import DatabaseSpec, build
from bogp.search.searchers import BoxSearch, SearchSettings
from bogp.studies.printed import PAPER_BOGP, PAPER_TABLE_2
from bogp.studies.tradeoff import measure, pareto, tables
from bogp.studies.tradeoff.measure import TradeOff
from bogp.studies.tradeoff.pareto import alpha_ranges, binned, pareto_front, upper_hull
from bogp.training.protocols import Protocol

PROTOCOL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=50, steps=3)
SETTINGS = SearchSettings(columns=("degree_centrality", "clustering"), n_initial=3, n_iterations=2)
# Few distinct values, so that equal points, equal coordinates and points on one line are common;
# sixteenths, so that arithmetic is exact.
POINTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=25).map(
    lambda p: np.array(p).T / 16
)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return build(
        DatabaseSpec((), 40, n=16, sparsity_range=(0.2, 0.95)),
        tmp_path_factory.mktemp("database") / "x",
        workers=1,
    )


class Store:
    def __init__(self):
        self.rows = {}

    def get(self, keys):
        return {key: self.rows[key] for key in keys if key in self.rows}


class Fake:
    """An evaluator of networks whose accuracy falls with sparsity, with noise by seed; it counts
    what it had to train.
    """

    def __init__(self):
        self.store, self.asked, self.calls, self.trained = Store(), set(), [], 0

    def key(self, job):
        return f"{job.recipe.id}-{job.seed}-{job.protocol.id}"

    def evaluate(self, jobs):
        self.calls.append(list(jobs))
        rows = []
        for job in jobs:
            key, mask = self.key(job), job.recipe.layer_masks[1]
            self.trained += key not in self.store.rows
            self.asked.add(key)
            score = (
                0.9
                - 0.4 * (1 - mask.mean()) ** 4
                + 0.01 * np.random.default_rng([job.seed, int(mask.sum())]).normal()
            )
            row = {
                "key": key,
                "train_accuracy": score,
                "validation_accuracy": score,
                "test_accuracy": score - 0.1,
                "seconds": 1.0,
            }
            rows.append(row | {"model_sparsity": 0.5, "effective_sparsity": 0.6})
            self.store.rows[key] = rows[-1]
        return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def history(masks):
    return measure.search_all(
        measure.trade_offs([0.1, 0.9]), masks, SETTINGS, 2, Fake(), PROTOCOL, "tiny"
    )


# --- the objective ---


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_objective_is_the_papers_and_the_released_codes(alpha, accuracy, sparsity):
    assert TradeOff(alpha).score([accuracy], [sparsity])[0] == pytest.approx(
        accuracy + alpha * sparsity
    )
    assert TradeOff(alpha, "interpolated").score([accuracy], [sparsity])[0] == pytest.approx(
        (1 - alpha) * accuracy + alpha * sparsity
    )


@pytest.mark.parametrize(
    "alpha", [-0.01, 1.01, float("nan"), float("inf"), True, "0.5", None], ids=repr
)
def test_an_alpha_that_is_no_number_from_0_to_1_is_refused(alpha):
    with pytest.raises(InvalidInput, match="alpha is"):
        TradeOff(alpha)


def test_an_unknown_form_is_refused_with_those_there_are():
    with pytest.raises(InvalidInput, match="sum, interpolated"):
        TradeOff(0.5, "product")


@pytest.mark.parametrize("alphas", [[], [0.1, 0.1], [0.101, 0.102]], ids=str)
def test_alphas_that_files_could_not_be_named_by_are_refused(alphas):
    with pytest.raises(InvalidInput, match="alphas is"):
        measure.trade_offs(alphas)


# --- front, hull, ranges of alpha ---


@given(POINTS)
def test_the_front_is_what_no_point_beats(points):
    accuracy, sparsity = points
    expected = []
    for a, s in zip(accuracy, sparsity, strict=True):
        better = [
            (b, t)
            for b, t in zip(accuracy, sparsity, strict=True)
            if b >= a and t >= s and (b, t) != (a, s)
        ]
        expected.append(not better)
    assert pareto_front(accuracy, sparsity).tolist() == expected


@given(POINTS)
def test_the_hull_has_a_maximiser_for_each_alpha_and_each_corner_is_needed(points):
    accuracy, sparsity = points
    hull = upper_hull(accuracy, sparsity)
    assert (np.diff(sparsity[hull]) > 0).all()
    assert (np.diff(accuracy[hull]) < 0).all()
    slopes = -np.diff(accuracy[hull]) / np.diff(sparsity[hull])
    between = (
        np.concatenate([[0.0], slopes]) / 2
        + np.concatenate([slopes, [2 * (slopes[-1] if len(slopes) else 1)]]) / 2
    )
    # inside its range a corner is the only maximiser
    for corner, alpha in zip(hull, between, strict=True):
        score = accuracy + alpha * sparsity
        assert set(map(tuple, points.T[score >= score.max() - 1e-12])) == {
            (accuracy[corner], sparsity[corner])
        }
    for alpha in np.linspace(0.001, 20, 100):
        score = accuracy + alpha * sparsity
        assert score[hull].max() == pytest.approx(score.max(), abs=1e-12)


@given(POINTS)
def test_the_ranges_of_alpha_are_those_of_a_dense_scan(points):
    accuracy, sparsity = points
    ranges = alpha_ranges(accuracy, sparsity)
    for form in measure.FORMS:
        one = ranges[ranges["form"] == form]
        assert one["lowest"].iloc[0] == 0
        assert one["highest"].iloc[-1] == 1
        assert one["highest"].tolist()[:-1] == one["lowest"].tolist()[1:]
        for alpha in np.linspace(0.0005, 0.9995, 60):
            score = TradeOff(alpha, form).score(accuracy, sparsity)
            row = one[(one["lowest"] <= alpha) & (alpha <= one["highest"])].iloc[-1]
            assert TradeOff(alpha, form).score(row["accuracy"], row["sparsity"]) == pytest.approx(
                score.max(), abs=1e-9
            )


def test_an_alpha_that_asks_for_an_end_is_called_meaningless():
    # slopes 0.1 and 0.9; the last point is beaten
    accuracy, sparsity = [0.9, 0.86, 0.5, 0.1], [0.1, 0.5, 0.9, 0.2]
    ranges = alpha_ranges(accuracy, sparsity).assign(curve="front")
    of_sum = ranges[ranges["form"] == "sum"]
    assert of_sum["asks_for"].tolist() == ["the densest", "a trade-off", "the sparsest"]
    np.testing.assert_allclose(of_sum["highest"], [0.1, 0.9, 1.0])
    np.testing.assert_allclose(
        ranges[ranges["form"] == "interpolated"]["highest"], [0.1 / 1.1, 0.9 / 1.9, 1.0]
    )
    asked = pareto.asked_for(ranges, [0.05, 0.5, 0.95])
    assert asked[asked["form"] == "sum"]["asks_for"].tolist() == [
        "the densest",
        "a trade-off",
        "the sparsest",
    ]
    assert (
        "alpha from 0.900 to 1.000 asks for the sparsest mask (sparsity 0.900)"
        in pareto.meaningless(ranges)
    )
    flat = alpha_ranges([0.9, 0.89996, 0.5], [0.1, 0.5, 0.9]).assign(curve="front")
    assert "sum: alpha of 0.000 asks for the densest mask" in pareto.meaningless(flat)
    # only an alpha of 1.8 would ask for the sparse one
    steep = alpha_ranges([0.9, 0.0], [0.0, 0.5]).assign(curve="front")
    assert steep[steep["form"] == "sum"]["sparsity"].tolist() == [0.0]
    assert steep[steep["form"] == "interpolated"]["highest"].tolist() == pytest.approx(
        [1.8 / 2.8, 1.0]
    )


def test_bins_hold_equally_many_neighbours_and_their_means():
    sparsity = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2])
    table = binned(sparsity**2, sparsity, 3)
    np.testing.assert_allclose(table["sparsity"], [0.15, 0.4, 0.8])
    np.testing.assert_allclose(
        table["accuracy"], [(0.01 + 0.04) / 2, (0.09 + 0.25) / 2, (0.49 + 0.81) / 2]
    )
    assert table["masks"].tolist() == [2, 2, 2]
    assert len(binned([0.1, 0.2], [0.1, 0.2], 9)) == 2
    with pytest.raises(InvalidInput, match="bins"):
        binned([0.1], [0.1], 1)


def test_points_that_are_not_finite_or_do_not_pair_are_refused():
    for accuracy, sparsity in (([0.1], [0.1, 0.2]), ([], []), ([np.nan], [0.1])):
        with pytest.raises(InvalidInput, match="all finite"):
            pareto_front(accuracy, sparsity)


# --- the searches ---


def test_every_objective_is_searched_with_every_seed_and_scored_by_its_own_formula(history):
    assert history.groupby(["alpha", "form", "method", "search_seed"]).size().tolist() == [5] * 16
    for (alpha, form), one in history.groupby(["alpha", "form"]):
        weight = 1 if form == "sum" else 1 - alpha
        np.testing.assert_allclose(
            one["objective"], weight * one["validation_accuracy"] + alpha * one["sparsity"]
        )


def test_searches_for_several_alphas_together_are_those_of_each_alone(history, masks):
    alone = search.run(
        [BoxSearch(masks, SETTINGS, 1)],
        masks,
        Fake(),
        PROTOCOL,
        "tiny",
        TradeOff(0.9, "interpolated"),
    )
    found = history.query(
        "alpha == 0.9 and form == 'interpolated' and method == 'bogp' and search_seed == 1"
    )
    pd.testing.assert_frame_equal(
        found[alone.columns].reset_index(drop=True), alone, check_exact=True
    )


def test_recorded_searches_are_read_and_not_run_again(history, masks, home):
    def go(evaluator, alphas=(0.1, 0.9), **parameters):
        return measure.histories(
            list(alphas),
            masks,
            SETTINGS,
            2,
            evaluator,
            PROTOCOL,
            "tiny",
            lambda a: home / f"{a}.csv",
            {"x": 1} | parameters,
        )

    evaluator = Fake()
    first = go(evaluator)
    pd.testing.assert_frame_equal(first, history)
    written = {p.name: p.stat().st_mtime_ns for p in home.iterdir()}
    evaluator.calls.clear()
    evaluator.asked.clear()
    again = go(evaluator)
    pd.testing.assert_frame_equal(again, first, check_exact=True, check_dtype=False)
    assert evaluator.calls == []
    assert evaluator.asked == set(first["key"])  # so that all of them are exported
    assert {p.name: p.stat().st_mtime_ns for p in home.iterdir()} == written
    stranger = Fake()  # one that knows none of the evaluations
    go(stranger)
    assert stranger.trained > 0
    evaluator.calls.clear()
    go(evaluator, x=2)  # other parameters
    assert evaluator.calls != []
    (home / "0.9.csv").unlink()
    evaluator.calls.clear()
    # one is searched, the other read
    pd.testing.assert_frame_equal(go(evaluator, x=2), first, check_dtype=False)
    assert {job.seed % 10_000 for jobs in evaluator.calls for job in jobs} == {0, 1}
    assert json.loads((home / "0.9.json").read_text())["parameters"] == {"x": 2, "alpha": 0.9}


def test_a_recorded_search_of_other_masks_does_not_count(masks, tmp_path, home):
    def go(space):
        evaluator = Fake()
        measure.histories(
            [0.5], space, SETTINGS, 1, evaluator, PROTOCOL, "tiny", lambda a: home / "h.csv", {}
        )
        return evaluator

    go(masks)
    other = build(
        DatabaseSpec((), 40, n=16, sparsity_range=(0.2, 0.95), seed=1),
        tmp_path / "other",
        workers=1,
    )
    assert go(other).trained > 0  # the mask ids are the same, the masks are not


def test_a_bad_alpha_is_refused_before_anything_is_trained(masks, home):
    evaluator = Fake()
    with pytest.raises(InvalidInput, match=r"alpha is 1\.5"):
        measure.histories(
            [0.1, 1.5],
            masks,
            SETTINGS,
            1,
            evaluator,
            PROTOCOL,
            "tiny",
            lambda a: home / "h.csv",
            {},
        )
    assert evaluator.calls == []


# --- tables ---


def test_chosen_masks_are_the_best_of_each_search_with_three_sparsities(history, masks):
    chosen = measure.chosen_masks(history, masks, Fake(), PROTOCOL, "tiny", fresh_seeds=2)
    keys = ["alpha", "form", "method", "search_seed"]
    assert len(chosen) == 16
    best = history.groupby(keys)["objective"].max()
    np.testing.assert_allclose(chosen.set_index(keys)["objective"].sort_index(), best.sort_index())
    assert (chosen["fresh_seeds"] == 2).all()
    removed = chosen["sparsity"] * 256
    np.testing.assert_allclose(chosen["model_sparsity"], removed / (784 * 16 + 256 + 160))
    assert (chosen["effective_sparsity"] >= chosen["model_sparsity"]).all()
    weight = np.where(chosen["form"] == "sum", 1, 1 - chosen["alpha"])
    np.testing.assert_allclose(
        chosen["fresh_objective"],
        weight * chosen["fresh_test"] + chosen["alpha"] * chosen["sparsity"],
    )


def chosen_of(searches):
    """What ``chosen_masks`` gives, with plain numbers: measure m of search k is 0.1 * k, and 0.05
    more for BoGP.
    """
    rows = [
        {"alpha": alpha, "form": form, "method": method, "search_seed": k, "mask_id": f"m{k}"}
        | dict.fromkeys(tables.MEASURES, 0.1 * k + 0.05 * (method == "bogp"))
        for alpha in (0.15, 0.2)
        for form in measure.FORMS
        for method in ("random", "bogp")
        for k in range(searches)
    ]
    return pd.DataFrame(rows)


def test_table_2_has_means_intervals_pairs_and_the_papers_numbers():
    table = tables.summary(chosen_of(3)).set_index(["alpha", "form", "method", "measure"])
    row = table.loc[(0.15, "sum", "bogp", "fresh_test")]
    assert (row["mean"], row["n"], row["paper"]) == (pytest.approx(0.15), 3, 0.88)
    # t at 97.5 % with two degrees of freedom
    assert row["high"] - row["mean"] == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert table.loc[(0.15, "sum", "bogp", "sparsity"), "paper"] == 0.76
    assert np.isnan(table.loc[(0.15, "sum", "random", "sparsity"), "paper"])
    assert np.isnan(table.loc[(0.2, "sum", "bogp", "sparsity"), "paper"])  # not in the paper
    gap = table.loc[(0.2, "interpolated", "bogp - random", "apparent")]
    assert (gap["mean"], gap["low"], gap["high"]) == pytest.approx((0.05, 0.05, 0.05))


def test_the_answer_says_what_was_chosen_and_from_which_alpha_on_no_search_is_needed():
    points = pd.DataFrame({"accuracy": [0.95, 0.94, 0.90], "sparsity": [0.1, 0.5, 0.9]})
    table, compared = tables.summary(chosen_of(3)), tables.tables_compared()
    said = tables.answer(table, pareto.curve_ranges(points, 2), compared)
    assert "mean sparsity of 0.15 at alpha 0.15, 0.15 at alpha 0.2." in said
    assert "from alpha 0.100 on the objective asks for the sparsest one" in said  # 0.04 / 0.4
    assert "6 of 6 rows of its Table 2 are beaten by a row of its Table 1" in said
    points["accuracy"] = [3.0, 2.0, 0.5]  # steeper than any alpha
    assert "no alpha asks" in tables.answer(table, pareto.curve_ranges(points, 2), compared)


def test_beside_the_paper_stands_its_own_objective():
    beside = tables.beside_the_paper(tables.summary(chosen_of(3))).set_index("quantity")
    row = beside.loc["alpha 0.15: sparsity of BoGP's masks"]
    assert row["the paper says"] == "0.76" and row["we got"].startswith("0.150 [")
    assert beside.loc["alpha 0.2: accuracy of BoGP's masks", "the paper says"] == "-"
    assert len(beside) == 6


def test_one_search_gives_no_interval_but_a_table():
    table = tables.summary(chosen_of(1))
    assert table["low"].isna().all()
    shown = tables.rendered(table)
    assert shown["BoGP, accuracy"].tolist() == ["0.050"] * 4
    assert shown["paper, sparsity"].tolist() == ["0.76", "0.76", "-", "-"]
    assert (
        tables.rendered(tables.summary(chosen_of(2)))["BoGP, accuracy"]
        .str.contains("[", regex=False)
        .all()
    )


def test_where_all_searches_chose_one_mask_that_is_said_instead_of_an_interval():
    chosen = chosen_of(3)
    one = (chosen["alpha"] == 0.15) & (chosen["method"] == "bogp")
    table = tables.summary(chosen.assign(mask_id=chosen["mask_id"].where(~one, "the same")))
    counts = table.set_index(["alpha", "form", "method", "measure"])["masks"]
    assert counts[0.15, "sum", "bogp", "sparsity"] == 1
    assert counts[0.15, "sum", "random", "sparsity"] == counts[0.2, "sum", "bogp", "sparsity"] == 3
    assert np.isnan(counts[0.15, "sum", "bogp - random", "sparsity"])
    shown = tables.rendered(table)
    assert shown["masks chosen"].tolist() == ["1", "1", "3", "3"]
    assert shown["BoGP, accuracy"][0] == "0.150 (one mask)"
    assert shown["BoGP, sparsity"][2].startswith("0.150 [")
    assert shown["random masks, accuracy"].str.contains("[", regex=False).all()
    beside = tables.beside_the_paper(table).set_index("quantity")["we got"]
    assert beside["alpha 0.15: sparsity of BoGP's masks"] == "0.150 (one mask) (n = 3)"


def test_reference_masks_are_spread_and_hold_both_ends(masks):
    rows = measure.spread(masks, 5)
    found = masks.table["sparsity"].iloc[rows]
    assert found.is_monotonic_increasing
    assert (found.min(), found.max()) == (
        masks.table["sparsity"].min(),
        masks.table["sparsity"].max(),
    )
    assert sorted(measure.spread(masks, 40)) == list(range(40))
    for count in (1, 41):
        with pytest.raises(InvalidInput, match="reference masks"):
            measure.spread(masks, count)


def test_everything_evaluated_counts_each_training_once(history, masks):
    other = Protocol("other", widths=PROTOCOL.widths, steps=2)
    reference = measure.reference_curve(
        masks, measure.spread(masks, 4), [PROTOCOL, other, PROTOCOL], Fake(), "tiny"
    )
    assert reference.groupby("protocol").size().to_dict() == {"small": 4, "other": 4}
    table = masks.table.set_index("mask_id").loc[reference["mask_id"]]
    np.testing.assert_array_equal(reference["sparsity"], table["sparsity"])
    points = pareto.evaluated(history, reference, "small")
    own = reference[reference["protocol"] == "small"]
    accuracy = dict(zip(history["key"], history["validation_accuracy"], strict=True)) | dict(
        zip(own["key"], own["validation_accuracy"], strict=True)
    )
    # the same training stands in the histories of several alphas
    assert points["trainings"].sum() == len(accuracy)
    of = {
        **dict(zip(history["key"], history["mask_id"], strict=True)),
        **dict(zip(own["key"], own["mask_id"], strict=True)),
    }
    for mask_id, mean in zip(points["mask_id"], points["accuracy"], strict=True):
        assert mean == pytest.approx(
            np.mean([a for key, a in accuracy.items() if of[key] == mask_id])
        )
    assert points["sparsity"].max() == masks.table["sparsity"].max()
    assert points["on_front"].iloc[-1]  # nothing is sparser


# --- the paper's two tables ---


def test_the_papers_tables_are_compared_by_its_own_objective():
    compared = tables.tables_compared()
    assert len(compared) == 3 * 2 * 6 * 2
    row = compared.query(
        "reading == 'mask' and form == 'sum' and alpha == 0.9 and against == 'Table 1'"
    ).iloc[0]
    assert row["objective"] == pytest.approx(0.25 + 0.9 * 0.98)
    assert row["best_objective"] == pytest.approx(max(a + 0.9 * s for s, a in PAPER_BOGP.items()))
    assert row["rounding"] == pytest.approx(0.005 + 0.9 * 0.005 + 0.0005)
    assert row["beaten"]
    mask = compared.query("reading == 'mask' and against == 'Table 1'")
    for one in mask.itertuples():
        weight = 1 if one.form == "sum" else 1 - one.alpha
        a, s = PAPER_TABLE_2[one.alpha]
        best = max(weight * b + one.alpha * t for t, b in PAPER_BOGP.items())
        assert one.beaten_by == pytest.approx(best - weight * a - one.alpha * s)
    own = compared.query("against == 'Table 2'")
    assert (own["beaten_by"] >= 0).all()  # each row is one of its own rivals


def test_a_hidden_mask_cannot_give_the_whole_model_the_sparsities_of_table_2():
    compared = tables.tables_compared()
    largest = compared.groupby("reading")["largest_sparsity"].first()
    assert largest["model 784-128-128-10"] == pytest.approx(16384 / 118016)
    assert largest["model 784-128-10"] == pytest.approx(784 * 128 / (784 * 128 + 1280))
    assert not compared[compared["reading"] == "model 784-128-128-10"]["possible"].any()
    assert compared[compared["reading"] != "model 784-128-128-10"]["possible"].all()
    summed = tables.disagreement(compared).set_index(["sparsity of the", "objective"])
    count = compared.query("reading == 'mask' and form == 'interpolated' and against == 'Table 1'")[
        "beaten"
    ].sum()
    assert summed.loc[("mask", "interpolated"), "rows beaten by Table 1"].startswith(
        f"{count} of 6"
    )


def test_printed_accuracies_stand_beside_measured_ones_within_the_masks():
    reference = pd.DataFrame(
        {"protocol": "p", "sparsity": [0.94, 0.7], "validation_accuracy": [0.6, 0.9]}
    )
    table = tables.printed_beside_measured(reference).set_index("alpha")
    assert table.loc[0.1, "p"] == pytest.approx(0.9 - 0.3 * 0.03 / 0.24)
    assert np.isnan(table.loc[0.9, "p"])  # 0.98 lies outside
    assert table["printed"].tolist() == [a for a, _ in PAPER_TABLE_2.values()]
