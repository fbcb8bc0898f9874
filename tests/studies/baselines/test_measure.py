"""Table 1: what is compared with what, how often, at which cost; and the arithmetic of its
cells.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp import search
from bogp.errors import DatabaseError, InvalidInput, UnreachableSparsity
from bogp.graphs import database as db
from bogp.records import recorded_table, write_table
from bogp.studies.baselines import measure
from bogp.studies.baselines import tables as baselines_tables
from bogp.studies.baselines.measure import LIKE, PAPER, Plan
from bogp.studies.fixed_sparsity import tables as fixed_sparsity_tables
from bogp.training import baselines
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import CALIBRATED
from bogp.training.store import Store

SHORT = replace(CALIBRATED, name="short", widths=(784, 32, 32, 10), steps=6)
PLAN = Plan(
    SHORT,
    "mnist-5k",
    ("base", "glob_1", "glob_5", "smaller_dense", "one_hidden_layer"),
    ("base", "random", "snip", "smaller_dense"),
    ("glob_1", "glob_5", "base"),
    ("base", "glob_1", "random", "glob_1_best", "base_best"),
    pairs=3,
    repeats=2,
    budget=6,
    fresh_seeds=2,
)


@pytest.fixture(scope="module")
def by(tmp_path_factory):
    spec = db.DatabaseSpec((0.5, 0.8), 8, n=32)
    masks = db.build(spec, tmp_path_factory.mktemp("masks"), workers=1)
    return measure.Search(spec, masks, search.SearchSettings(n_initial=3, n_iterations=3))


def chosen_at(sparsities):
    return pd.DataFrame(
        {"method": "bogp", "search_seed": range(len(sparsities)), "sparsity": sparsities}
    )


def test_every_method_gets_its_pairs_budget_and_seeds():
    entries = measure.entries(PLAN, 0.5, chosen_at([0.5, 0.51171875, 0.4921875]))
    counted = pd.DataFrame(
        [(e.accounting, e.method, e.pair, e.budget) for e in entries],
        columns=["accounting", "method", "pair", "budget"],
    )
    times = counted.groupby(["accounting", "method"]).pair.apply(list).to_dict()
    assert (
        times[PAPER, "glob_1"]
        == times[PAPER, "base"]
        == times[LIKE, "random"]
        == times[PAPER, "random_hidden"]
        == [0, 1, 2]
    )
    assert times[PAPER, "glob_5"] == times[LIKE, "snip"] == times[LIKE, "glob_5_best"] == [0, 1]
    budgets = counted.groupby(["accounting", "method"]).budget.unique().to_dict()
    assert budgets[PAPER, "glob_1"] == [1] and budgets[PAPER, "glob_5"] == [5]
    assert budgets[LIKE, "glob_1_best"] == [6] and budgets[LIKE, "base_best"] == [6]
    assert budgets[LIKE, "glob_5_best"] == [5]  # a second one would cost more than the budget
    once = [e for e in entries if len(e.jobs) == 1 and not e.method.endswith("_best")]
    # the first fresh seed of each search
    assert {(e.pair, e.jobs[0].seed) for e in once} == {(0, 5000), (1, 5002), (2, 5004)}
    best = [[job.seed for job in e.jobs] for e in entries if e.method == "glob_1_best"]
    assert len({s for seeds in best for s in seeds}) == 18, "no network serves two pairs"


def test_like_for_like_removes_exactly_as_many_weights_of_the_same_layer(home):
    exact = [0.5, 524 / 1024, 504 / 1024]
    for entry in measure.entries(PLAN, 0.5, chosen_at(exact)):
        job = entry.jobs[0]
        if not isinstance(job.recipe, baselines.Method):
            continue
        masks = baselines.first_masks(job.recipe, job.seed, SHORT, Evaluator().dataset("mnist-5k"))
        removed = [0 if m is None else int((~m).sum()) for m in masks]
        if entry.accounting == LIKE or entry.method == "random_hidden":
            first = job.recipe.rounds == 1
            assert removed[0] == removed[2] == 0
            assert (
                removed[1] == round(exact[entry.pair] * 1024)
                if first
                else removed[1] < exact[entry.pair] * 1024
            )
        elif job.recipe.rounds == 1:
            assert sum(removed) == round(0.5 * (784 * 32 + 32 * 32 + 320))


def test_controls_without_a_mask_have_the_weights_that_are_left():
    entries = measure.entries(PLAN, 0.5, chosen_at([0.5, 0.5, 0.5]))
    by_name = {(e.accounting, e.method): e.jobs[0].protocol.widths for e in entries}
    assert by_name[PAPER, "one_hidden_layer"] == (784, 32, 10)
    first, width, same, last = by_name[PAPER, "smaller_dense"]
    assert (first, last) == (784, 10) and width == same
    # half a unit away at most
    assert abs(784 * width + width**2 + 10 * width - 13_216) <= (784 + 2 * width + 10) / 2 + 1
    assert by_name[LIKE, "smaller_dense"][:2] == (784, 32)
    # 32 * w + 10 * w is nearest to 512 + 320 at 19.8
    assert by_name[LIKE, "smaller_dense"][2] == 20


def test_results_choose_on_validation_and_account_for_every_weight(home, by):
    table = measure.at_sparsity(PLAN, 0.8, by, "t")
    again = measure.at_sparsity(PLAN, 0.8, by, "t")
    pd.testing.assert_frame_equal(table, again)
    with Store(home / "data/evaluations.sqlite") as store:
        rows = store.table().set_index("key")
    whole = 784 * 32 + 32 * 32 + 320
    one = table.set_index(["accounting", "method", "pair"]).sort_index()
    candidates = rows[
        (rows.seed >= measure.CANDIDATE_SEED) & rows.method.str.contains('"rounds": 1')
    ]
    for pair in range(3):
        mine = candidates[
            candidates.seed.between(
                measure.CANDIDATE_SEED + 6 * pair, measure.CANDIDATE_SEED + 6 * pair + 5
            )
        ]
        assert len(mine) == 6
        assert one.loc[(LIKE, "glob_1_best", pair), "validation"] == mine.validation_accuracy.max()
        assert one.loc[(LIKE, "glob_1_best", pair), "test"] in set(
            mine.test_accuracy[mine.validation_accuracy == mine.validation_accuracy.max()]
        )
        removed = {
            m: whole - one.loc[(LIKE, m, pair), "weights"]
            for m in ("bogp", "bogp_mask", "random", "glob_1_best")
        }
        assert len(set(removed.values())) == 1, "the same number of pruned weights"
        assert one.loc[(LIKE, "random", pair), "mask_sparsity"] == pytest.approx(
            removed["bogp"] / 1024
        )
        assert one.loc[(PAPER, "glob_1", pair), "model_sparsity"] == pytest.approx(
            round(0.8 * whole) / whole
        )
    assert (table.effective_sparsity >= table.model_sparsity - 1e-12).all()
    network = table[table.key != "-"]
    assert (rows.loc[network.key, "test_accuracy"].to_numpy() == network.test.to_numpy()).all()
    assert set(table.method[table.key == "-"]) == {"bogp", "bogp_mask", "random_mask"}, (
        "retrained with several seeds"
    )
    assert set(table.budget[table.method == "bogp_mask"]) == {6 + 2}


def test_a_recorded_table_serves_only_the_same_plan(home, by):
    small = replace(PLAN, methods=("base",), like=(), chosen=(), paired=(), pairs=2, repeats=1)
    measure.at_sparsity(small, 0.5, by, "t")
    path = home / "data/results/t/05_baselines/short_s0.50_results.csv"
    record = path.with_suffix(".json").read_bytes()
    measure.at_sparsity(replace(small, repeats=2), 0.5, by, "t")
    assert path.with_suffix(".json").read_bytes() != record, "another plan is made anew"
    assert recorded_table(path, {}) is None


def test_the_masks_of_notebook_03_are_taken_if_they_are_of_this_search(home, by, monkeypatch):
    small = replace(PLAN, methods=("base",), like=(), chosen=(), paired=("base",), pairs=2)
    table = measure.at_sparsity(small, 0.5, by, "t")
    masks, evaluator = by.masks.at(0.5), Evaluator()
    searchers = [search.BoxSearch(masks, by.settings, seed) for seed in range(2)]
    searchers += [search.RandomSearch(masks, by.settings.budget, seed) for seed in range(2)]
    history = search.run(searchers, masks, evaluator, SHORT, "mnist-5k")
    chosen = search.retrain(
        search.recommend(history), masks, evaluator, SHORT, "mnist-5k", small.fresh_seeds
    )
    recorded = fixed_sparsity_tables.search_parameters(
        SHORT, 0.5, by.settings, 2, by.spec, "mnist-5k"
    )
    recorded |= {
        "dataset_checksum": evaluator.dataset("mnist-5k").checksum,
        "fresh_seeds": small.fresh_seeds,
    }
    path = home / "data/results/t/03_fixed_sparsity_bo/short_s0.50_chosen.csv"
    results = home / "data/results/t/05_baselines/short_s0.50_results.csv"
    searched = []
    original = measure._search
    monkeypatch.setattr(measure, "_search", lambda *a: searched.append(1) or original(*a))
    for table_03, parameters, again in [
        (chosen, recorded, 0),
        (chosen.assign(key="0" * 32), recorded, 1),
        (chosen, recorded | {"searches": 3}, 1),
    ]:
        write_table(table_03, path, parameters)
        results.unlink()
        searched.clear()
        pd.testing.assert_frame_equal(measure.at_sparsity(small, 0.5, by, "t"), table)
        assert len(searched) == again


def test_without_the_local_store_the_export_suffices(home, by):
    small = replace(
        PLAN,
        methods=("base", "glob_1"),
        like=("random",),
        chosen=(),
        paired=("base", "glob_1", "random"),
        pairs=2,
        repeats=1,
    )
    table = measure.at_sparsity(small, 0.5, by, "t")
    (home / "data/evaluations.sqlite").unlink()
    (home / "data/results/t/05_baselines/short_s0.50_results.csv").unlink()
    pd.testing.assert_frame_equal(measure.at_sparsity(small, 0.5, by, "t"), table)
    exported = pd.read_parquet(home / "data/evaluations/t/05_baselines_short_s0.50.parquet")
    with Store(home / "data/evaluations.sqlite") as store:
        # nothing was trained anew
        pd.testing.assert_frame_equal(
            store.table()[["key", "seconds"]], exported[["key", "seconds"]]
        )


def made_up(values):
    rows = [
        ("d", "p", accounting, method, 0.5, pair, budget, v, v + 0.1, 0.5, 0.1, 0.1)
        for (accounting, method, budget), each in values.items()
        for pair, v in enumerate(each)
    ]
    names = [
        "dataset",
        "protocol",
        "accounting",
        "method",
        "target_sparsity",
        "pair",
        "budget",
        "validation",
        "test",
    ]
    return pd.DataFrame(
        rows, columns=[*names, "mask_sparsity", "model_sparsity", "effective_sparsity"]
    )


def test_summary_against_scipy_and_pairs():
    rng = np.random.default_rng(0)
    bogp, glob, mask, best = rng.normal(0.9, 0.01, (4, 6))
    values = {
        (PAPER, "bogp", 26): bogp,
        (PAPER, "glob_1", 1): glob,
        (PAPER, "glob_5", 5): glob[:3],
        (LIKE, "bogp", 25): bogp,
        (LIKE, "bogp_mask", 26): mask,
        (LIKE, "glob_1", 1): glob,
        (LIKE, "glob_1_best", 25): best,
    }
    table = baselines_tables.summary(made_up(values), {"glob_1": {0.5: 0.97}}).set_index(
        ["accounting", "method", "measure"]
    )
    cell = table.loc[(PAPER, "glob_1", "test")]
    low, high = stats.t.interval(0.95, 5, glob.mean() + 0.1, stats.sem(glob))
    assert (cell["low"], cell["high"], cell["n"], cell["paper"]) == pytest.approx(
        (low, high, 6, 0.97)
    )
    assert np.isnan(table.loc[(LIKE, "glob_1", "test"), "paper"]), "the paper has one accounting"
    for key, reference, mine in [
        ((PAPER, "glob_1"), bogp, glob),
        ((PAPER, "glob_5"), bogp[:3], glob[:3]),
        ((LIKE, "glob_1"), mask, glob),
        ((LIKE, "glob_1_best"), bogp, best),
    ]:
        gap = stats.ttest_rel(mine, reference).confidence_interval()
        row = table.loc[(*key, "validation")]
        assert (row.gap, row.gap_low, row.gap_high) == pytest.approx(
            ((mine - reference).mean(), gap.low, gap.high)
        )
        assert row.gap_n == len(mine)
    assert np.isnan(table.loc[(PAPER, "bogp", "test"), "gap"])


def test_verdicts_and_the_rendered_table_say_what_the_summary_says():
    x = np.linspace(0.90, 0.91, 5)
    noise = np.array([1, -1, 1, -1, 0]) * 1e-4
    values = {
        (PAPER, "bogp", 26): x,
        (PAPER, "glob_1", 1): x - 0.01 + noise,
        (PAPER, "unif_1", 1): x + 0.01 + noise,
        (PAPER, "snip", 1): x + noise,
    }
    table = baselines_tables.summary(made_up(values), {"unif_1": {0.5: 0.123}})
    verdict = baselines_tables.verdicts(table).set_index("method")
    counts = verdict[["better than BoGP", "worse than BoGP", "undecided"]]
    assert counts.loc["Glob_1"].tolist() == [0, 1, 0]
    assert counts.loc["Unif_1"].tolist() == [1, 0, 0]
    assert counts.loc["SNIP"].tolist() == [0, 0, 1]
    lines = baselines_tables.rendered(table, PAPER).set_index("method")["s = 0.50"]
    assert lines["Unif_1"].startswith("1.0150 ± ") and lines["Unif_1"].endswith("[0.123]")
    assert "[" not in lines["Glob_1"]
    assert baselines_tables.rendered(table, PAPER).method.tolist() == [
        "BoGP",
        "Glob_1",
        "Unif_1",
        "SNIP",
    ]


def test_the_answer_counts_like_for_like():
    x, noise = np.linspace(0.90, 0.91, 5), np.array([1, -1, 1, -1, 0]) * 1e-4
    values = {
        (LIKE, "bogp", 25): x,
        (LIKE, "bogp_mask", 26): x,
        (LIKE, "glob_1", 1): x - 0.01 + noise,
        (LIKE, "random", 1): x + noise,
        (LIKE, "random_search", 25): x + 0.01 + noise,
    }
    said = baselines_tables.answer(baselines_tables.summary(made_up(values), {}))
    assert "by magnitude before training, BoGP's mask is better in 1, worse in 0" in said
    assert "a random one it is better in 0, worse in 0, undecided in 1 of 1" in said
    assert "as many networks, it is better in 0, worse in 1, undecided in 0 of 1" in said


def test_shuffles_compare_the_same_pairs():
    values = {(PAPER, "snip", 1): [0.9, 0.8, 0.7], (PAPER, "snip_shuffled", 1): [0.8, 0.6]}
    table = baselines_tables.shuffles(made_up(values)).iloc[0]
    assert (table["method"], table["n"]) == ("SNIP", 2)
    assert table["method minus shuffled"] == pytest.approx(0.15), "the third pair has no control"
    assert baselines_tables.shuffles(made_up({(PAPER, "snip_shuffled", 1): [0.8, 0.6]})).empty


def test_at_par_is_an_equivalence_test():
    x, noise = np.full(10, 0.9), np.array([1, -1] * 5) * 1e-4
    wide = np.array([1, -1] * 5) * 1e-2
    values = {
        (PAPER, "bogp", 26): x,
        (PAPER, "glob_1", 1): x + noise,
        (PAPER, "unif_1", 1): x + wide,
        (PAPER, "snip", 1): x + noise + 0.003,
    }
    at_par = baselines_tables.summary(made_up(values), {}).groupby("method").at_par.first()
    assert at_par.to_dict() == {"bogp": False, "glob_1": True, "unif_1": False, "snip": False}


@pytest.mark.parametrize("widths", [(784, 128, 128, 10), (784, 32, 16, 10)])
def test_where_global_pruning_empties_the_first_layer(widths):
    """Against the weights themselves: the share of all weights that are no larger than the first
    layer's largest.
    """
    from bogp.training.engine import initial_layers

    protocol = replace(CALIBRATED, widths=widths)
    shares = []
    for seed in range(5):
        weights = [w[0].abs() for w, _ in initial_layers(seed, protocol)]
        shares.append(
            sum(int((w <= weights[0].max()).sum()) for w in weights)
            / sum(w.numel() for w in weights)
        )
    assert measure.emptying_sparsity(widths) == pytest.approx(np.mean(shares), abs=0.004)


def test_layer_sparsities_show_the_emptied_layer(home):
    table = measure.layer_sparsities(
        CALIBRATED, "mnist-5k", ["glob_1", "unif_1", "lamp_1"], [0.5, 0.92], 1, Evaluator()
    )
    assert len(table) == 3 * 2 * 3
    empty = table[table["empty"]]
    assert empty[["method", "sparsity", "layer"]].to_numpy().tolist() == [["glob_1", 0.92, 0]]
    assert empty.effective_sparsity.item() == 1
    assert table[table.method == "unif_1"].layer_sparsity.to_numpy() == pytest.approx(
        table[table.method == "unif_1"].sparsity, abs=1e-3
    )
    with pytest.raises(InvalidInput, match="lottery prunes after training"):
        measure.layer_sparsities(CALIBRATED, "mnist-5k", ["lottery"], [0.5], 1, Evaluator())


def test_bad_plans_are_refused_before_any_training(home, by):
    with pytest.raises(InvalidInput, match="no pruning method 'globe_1'"):
        replace(PLAN, methods=("globe_1",))
    with pytest.raises(InvalidInput, match="at least 1"):
        replace(PLAN, repeats=0)
    with pytest.raises(InvalidInput, match="each name may stand there once"):
        replace(PLAN, like=("random", "random"))
    with pytest.raises(InvalidInput, match="paired names glob_2, which is not among"):
        replace(PLAN, paired=("glob_2",))
    with pytest.raises(InvalidInput, match="would remove every weight of layer 0"):
        measure.check(replace(PLAN, protocol=CALIBRATED), 0.92, Evaluator())
    with pytest.raises(InvalidInput, match=r"5 rounds.* would remove every weight of layer 2"):
        measure.check(
            replace(PLAN, methods=("unif_5",), paired=(), protocol=CALIBRATED), 0.9998, Evaluator()
        )
    with pytest.raises(DatabaseError, match=r"no masks of sparsity 0\.7"):
        measure.at_sparsity(PLAN, 0.7, by, "t")
    with pytest.raises(InvalidInput, match="3 pairs"):
        measure.entries(PLAN, 0.5, chosen_at([0.5]))
    with pytest.raises(UnreachableSparsity):
        measure.entries(
            replace(PLAN, protocol=replace(SHORT, widths=(784, 2, 2, 10))),
            0.9,
            chosen_at([0.9] * 3),
        )
    with Store(home / "data/evaluations.sqlite") as store:
        assert store.table().empty
