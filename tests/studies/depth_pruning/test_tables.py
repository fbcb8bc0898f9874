"""The tables of notebook 15 against scipy and plain loops, on made-up measurements."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.studies.depth_pruning import plots, tables
from bogp.studies.depth_pruning.measure import METHODS


def made_up(seeds: int = 3, draws: int = 2) -> pd.DataFrame:
    """Two networks; in the first, measured loss is far better than random, and the same in all
    seeds.
    """
    rng = np.random.default_rng(0)
    rows = []
    for network in ("vit", "resnet20"):
        names = tables.BLOCKS[network]
        for seed in range(seeds):
            whole = {"network": network, "seed": seed, "parameters": 100, "flops": 1000}
            base = {"method": "unpruned", "draw": 0, "count": 0, "blocks": "none"}
            base |= {"latency": 0.01, "seconds": np.nan}
            rows += [whole | base | {"weights": w, "loss": 1.0 + seed} for w in ("kept", "tuned")]
            for method, draw in ((m, d) for m in METHODS for d in range(draws)):
                for count in (1, 2, 3):
                    loss = 3.0 + seed + count + 0.3 * rng.normal()
                    if method == "leave_one_out" and network == "vit":
                        loss = 1.5 + seed + count + 0.001 * rng.normal()
                    if method == "random" and network == "vit":
                        loss = 3.0 + seed + count + 0.001 * rng.normal()
                    blocks = " ".join(
                        names[(i + draw * (method == "fisher")) % 7] for i in range(count)
                    )
                    one = {"method": method, "draw": draw, "count": count, "blocks": blocks}
                    left = {"parameters": 100 - 10 * count, "flops": 1000 - 50 * count}
                    left |= {"latency": 0.01 - 0.001 * count, "seconds": 0.5}
                    rows.append(whole | one | left | {"weights": "kept", "loss": loss})
                    if count == 2 and (draw == 0 or method == "random"):
                        tuned = {"weights": "tuned", "loss": 1.2 + seed + 0.1 * (loss - seed)}
                        rows.append(whole | one | left | tuned)
    table = pd.DataFrame(rows)
    full = table[(table["count"] == 0) & (table.weights == "kept")].set_index(["network", "seed"])
    at = pd.MultiIndex.from_frame(table[["network", "seed"]])
    table["change"] = table.loss - full.loss.loc[at].to_numpy()
    return table.assign(accuracy=0.5, rate=1e-3)


TABLE = made_up()


def of(table, method, weights="kept", network="vit", count=2):
    """Means over draws, seed by seed."""
    some = table[(table.network == network) & (table["count"] == count)]
    some = some[(some.method == method) & (some.weights == weights)]
    return np.array([some[some.seed == s].loss.mean() for s in sorted(some.seed.unique())])


def test_intervals_are_over_seeds_after_means_over_draws():
    found = tables.means(TABLE).set_index(["network", "method", "count", "weights", "measure"])
    values = of(TABLE, "fisher", count=3)
    one = found.loc["vit", "fisher", 3, "kept", "loss"]
    assert one.n == 3
    assert (one["mean"], one.low, one.high) == pytest.approx(
        (values.mean(), *stats.t.interval(0.95, 2, values.mean(), stats.sem(values)))
    )


def test_methods_are_compared_with_random_by_the_rules():
    found = tables.against_random(TABLE)
    assert found.groupby(["network", "weights"]).size().tolist() == [6] * 4
    for (network, weights), one in found.groupby(["network", "weights"]):
        random = of(TABLE, "random", weights, network)
        tests = {m: stats.ttest_rel(of(TABLE, m, weights, network), random) for m in one.method}
        p = np.sort([t.pvalue for t in tests.values()])
        holm = np.maximum.accumulate(np.minimum(p * np.arange(6, 0, -1), 1))
        assert sorted(one.p_holm) == pytest.approx(list(holm))
        for row in one.itertuples():
            gap = of(TABLE, row.method, weights, network) - random
            assert row.difference == pytest.approx(gap.mean())
            # what is found with probability 0.8, from simulated t statistics
            error = gap.std(ddof=1) / np.sqrt(3)
            power = stats.nct.sf(stats.t.isf(0.05 / 12, 2), 2, row.detectable / error)
            assert power == pytest.approx(0.8, abs=0.02)
    best = found.set_index(["network", "weights", "method"]).loc["vit", "kept", "leave_one_out"]
    assert best.verdict == "lower"
    assert (found[found.network == "resnet20"].verdict == "not told apart").all()


def test_fine_tuning_is_compared_on_the_same_draws():
    found = tables.closing(TABLE).set_index("network")
    assert found.index.tolist() == ["vit", "resnet20"]
    first = TABLE[(TABLE.draw == 0) | (TABLE.method == "random")]
    spread = np.std([of(first, m) for m in METHODS], axis=0)
    spread_after = np.std([of(first, m, "tuned") for m in METHODS], axis=0)
    one = found.loc["vit"]
    assert (one.before, one.after) == pytest.approx((spread.mean(), spread_after.mean()))
    gap = spread_after - spread
    low, high = stats.t.interval(0.95, 2, gap.mean(), stats.sem(gap))
    assert (one.difference, one.low, one.high) == pytest.approx((gap.mean(), low, high))
    assert one.verdict == "narrowed" and high < 0


def test_which_blocks_go_and_how_far_draws_agree():
    found = tables.chosen(TABLE).set_index(["network", "method", "block"]).share
    assert found["vit", "magnitude", "blocks.0"] == found["vit", "magnitude", "blocks.1"] == 1
    assert found["vit", "fisher", "blocks.0"] == found["vit", "fisher", "blocks.2"] == 0.5
    assert found["resnet20", "magnitude", "layer3.2"] == 0
    same = tables.spread(TABLE).set_index(["network", "method"])
    assert same.same["vit", "magnitude"] == 1 and same.same["vit", "fisher"] == 0
    some = TABLE[(TABLE.network == "vit") & (TABLE.method == "fisher") & (TABLE["count"] == 2)]
    some = some[some.weights == "kept"].pivot(index="seed", columns="draw", values="change")
    within = np.sqrt(((some[0] - some[1]) ** 2 / 2).mean())
    assert same.over_draws["vit", "fisher"] == pytest.approx(within)
    assert same.over_seeds["vit", "fisher"] == pytest.approx(some.mean(axis=1).std())


def test_costs_are_shares_of_the_whole_network():
    found = tables.costs(TABLE).set_index(["network", "count"])
    assert found.parameters_left["vit", 2] == pytest.approx(0.8)
    assert found.flops_left["vit", 3] == pytest.approx(0.85)
    assert found.latency_left["resnet20", 1] == pytest.approx(0.9)
    assert found.latency_from["vit", 2] == found.latency_to["vit", 2] == pytest.approx(0.8)
    assert found.latency["vit", 0] == pytest.approx(10), "milliseconds"


def test_verdicts_say_what_was_found_and_what_would_have_been():
    found = tables.verdicts(TABLE, True)
    family = tables.against_random(TABLE).groupby(["network", "weights"], sort=False)
    ends = zip(family["detectable"].min(), family["detectable"].max(), strict=True)
    least = [f"{low:.2g} to {high:.2g}" for low, high in ends]
    assert found.answer.tolist() == [
        "measured loss (lower)",
        "measured loss (lower)",
        f"not told apart (least effect found with 80 % power, by method: {least[2]} nats)",
        f"not told apart (least effect found with 80 % power, by method: {least[3]} nats)",
        "narrowed",
        "narrowed",
    ]
    assert found.detail[2].count("found with probability 0.8 would be") == 1
    assert tables.verdicts(TABLE, False).empty
    said = tables.answer(TABLE, True)
    assert "vit: 2 blocks less leave 80% of the parameters and 80% of the time" in said
    assert said.count(" at random (lower); after") == 1
    assert said.count(" at random (not told apart); after") == 1


def test_one_seed_gives_no_intervals_and_no_error():
    one = made_up(seeds=1, draws=1)
    assert tables.against_random(one).difference_low.isna().all()
    assert tables.closing(one).verdict.tolist() == ["not told apart"] * 2
    assert "too small for verdicts" in tables.answer(one, False)
    for draw in (plots.removal, plots.tuning, plots.blocks):
        assert draw(one).axes


def test_a_figure_shows_each_draw_and_each_mean():
    axes = plots.removal(TABLE).axes
    marks = [line for ax in axes[:2] for line in ax.lines if line.get_marker() == "|"]
    assert [len(m.get_xdata()) for m in marks[:1]] == [3 * 2 * 3 * len(METHODS)]
    image = plots.blocks(TABLE).axes[0].images[0].get_array()
    assert image.shape == (len(METHODS), 8) and image[1].tolist() == [1, 1] + [0] * 6
