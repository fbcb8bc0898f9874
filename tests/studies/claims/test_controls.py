"""The positive control: slopes of all signs, and how many masks a look-up returns."""

import numpy as np
import pandas as pd
import pytest

from bogp.graphs.database import DatabaseSpec, MaskDatabase
from bogp.graphs.properties import measure
from bogp.search.searchers import SearchSettings, box
from bogp.studies.claims import controls, replay
from bogp.variance import components

COLUMNS = ("clustering", "s_metric")


@pytest.fixture(scope="module")
def masks():
    rng = np.random.default_rng(0)
    drawn = rng.random((40, 16, 16)) < 0.3
    drawn |= drawn.transpose(0, 2, 1)
    table = measure(drawn).assign(
        mask_id=[str(i) for i in range(40)], sparsity=1 - drawn.mean(axis=(1, 2))
    )
    return MaskDatabase(
        table, DatabaseSpec((0.5,), 40, n=16), np.packbits(drawn.reshape(40, -1), axis=1)
    )


def trainings(names, masks=40, seeds=4, rest=0.001):
    rng = np.random.default_rng(1)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "mask": np.repeat(np.arange(masks), seeds),
                    "seed": np.tile(np.arange(seeds), masks),
                    "test_accuracy": 0.97 + rest * rng.normal(size=masks * seeds),
                    "set": name,
                }
            )
            for name in names
        ],
        ignore_index=True,
    )


@pytest.fixture(scope="module")
def made(masks, tmp_path_factory):
    sets = {"bernoulli, s = 0.60": masks, "ws_flex, s = 0.60": masks}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOKY_MAX_CPU_COUNT", "1")
        folder = tmp_path_factory.mktemp("slopes")
        found = controls.slopes(sets, trainings(sets), 3, 4, 2, folder)
        again = controls.slopes(sets, trainings(sets), 3, 4, 2, folder)
    return found, again, folder


def test_slopes_of_each_pattern_of_signs_are_searched_with_both_look_ups(made):
    found, again, folder = made
    assert set(found["table"]) == {"s = 0.60"}, "of the Bernoulli masks alone"
    assert found["signs"].nunique() == 3 and found["signs"].iloc[0] == "+++++"
    counts = found.groupby(["searched", "method", "signs"]).size()
    assert set(counts) == {2} and len(counts) == 2 * 2 * 3
    assert {path.stem for path in folder.iterdir()} == {"slopes_s0.60_box", "slopes_s0.60_box_l2"}
    pd.testing.assert_frame_equal(found, again)  # read, not searched again


def test_a_slope_of_given_signs_has_the_best_mask_where_they_point(masks):
    up, down = (
        replay.planted(masks, COLUMNS, 0.002, 0.0, 2, 0, "slope", signs)[:, 0]
        for signs in ((1, -1), (-1, 1))
    )
    np.testing.assert_allclose(up - 0.97, 0.97 - down, atol=1e-12)
    values = masks.values(COLUMNS)
    standard = (values - values.mean(0)) / values.std(0)
    assert np.corrcoef(standard[:, 0] - standard[:, 1], up)[0, 1] == pytest.approx(1)


def advantages(values, table="s = 0.60", method="box", half=0.001):
    return pd.DataFrame(
        {
            "table": table,
            "method": method,
            "advantage": values,
            "low": np.array(values) - half,
            "high": np.array(values) + half,
        }
    )


def test_the_summary_counts_slopes_that_are_won_and_lost():
    found = controls.slope_summary(
        pd.concat(
            [advantages([0.002, 0.0005, -0.003]), advantages([0.002, 0.004], method="box_l2")]
        )
    ).set_index("method")
    one = found.loc["box"]
    assert (one.slopes, one.won, one.lost) == (3, 1, 1)
    assert (one.smallest, one.largest) == (-0.003, 0.002)
    assert one.advantage == pytest.approx(-0.0005 / 3)
    assert found.loc["box_l2", "won"] == 2


def test_each_box_search_is_compared_with_its_own_random_search(made):
    found = controls.slope_advantages(made[0])
    assert len(found) == 2 * 3 and set(found["other"]) == {"random"}
    assert (found["method"] == found["searched"]).all()
    row = found.iloc[0]
    own = made[0].query("searched == @row.searched and signs == @row.signs")
    regrets = own.groupby("method")["regret"].mean()
    assert row.advantage == pytest.approx(regrets["random"] - regrets[row.method])


def test_the_noise_of_the_slopes_is_that_of_the_trainings(masks, tmp_path, monkeypatch):
    seen = []

    def spy(path, tables, *rest):
        seen.append(next(iter(tables.values())))
        return pd.DataFrame({"regret": []})

    monkeypatch.setattr(controls, "_on_slopes", spy)
    rows = trainings(["bernoulli, s = 0.60"], seeds=16)
    controls.slopes({"bernoulli, s = 0.60": masks}, rows, 1, 4, 2, tmp_path)
    found = components(seen[0])
    assert found.residual.value == pytest.approx(0.001, rel=0.15)
    assert found.between_masks.value == pytest.approx(0.002, rel=0.15)


def test_concentration_is_the_share_of_queries_that_come_to_few_masks(masks):
    found = controls.concentration({"bernoulli, s = 0.60": masks, "x, s = 0.60": masks}, 500, 3)
    assert found["metric"].tolist() == ["cosine", "l1", "l2"]
    for row in found.itertuples():
        space = box(masks, SearchSettings(metric=row.metric))
        rows = [one.row for one in space.proposals(space.draw(500, 0), "random")]
        counts = sorted(map(rows.count, set(rows)), reverse=True)
        assert (row.distinct, row.top) == (len(counts), pytest.approx(sum(counts[:3]) / 500))
