"""The example of notebook 07 and its tables, against what can be said in advance."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp import search
from bogp.errors import InvalidInput
from bogp.studies.your_network import example, tables


@pytest.fixture
def fresh():
    """Two searches of each method; BoGP is far above random search in both."""
    scores = {"bogp": (0.95, 0.96), "random": (0.9, 0.91), "magnitude": (0.89, 0.9)}
    rows = [
        {"method": method, "search_seed": k, "fresh": scores.get(method, (0.8, 0.95))[k]}
        for method in tables.LABELS
        for k in (1, 0)  # pairs are made by seed, not by position
    ]
    return pd.DataFrame(rows)


def test_the_summary_has_means_and_paired_differences(fresh):
    table = tables.summary(fresh).set_index("method")
    assert list(table.index) == list(tables.LABELS)
    assert (table.n == 2).all()
    low, high = stats.t.interval(0.95, 1, 0.955, stats.sem([0.95, 0.96]))
    assert tuple(table.loc["bogp", ["mean", "low", "high"]]) == pytest.approx((0.955, low, high))
    gap = table.loc["bogp", ["gap_mean", "gap_low", "gap_high"]].astype(float)
    np.testing.assert_allclose(gap, 0.05)
    assert table.loc["random", "gap_mean"] == 0


def test_the_answer_says_which_side_the_interval_lies_on(fresh):
    table = tables.summary(fresh)
    text = tables.answer(table, removed=0.8)
    assert "removed 80% of the weights" in text
    assert "0.955 with fresh seeds and are better than random search's (+0.0500 [+0.0500" in text
    assert "n = 2 pairs" in text
    assert "magnitude pruning has 0.895" in text
    words = tables.gaps(table).set_index("method")["against random search"]
    assert words["BoGP"] == "better than"
    assert words["magnitude"] == "worse than"
    assert words["climber"] == "not told apart from"
    assert "random search" not in words.index


def test_choices_are_each_searches_best_and_the_first_random_mask():
    history = pd.DataFrame(
        {
            "method": ["bogp", "bogp", "random", "random"],
            "search_seed": 0,
            "evaluation": [0, 1, 0, 1],
            "mask_id": list("abcd"),
            "objective": [0.1, 0.2, 0.3, 0.4],
        }
    )
    chosen = tables.choices(history)
    assert chosen[["method", "mask_id"]].to_numpy().tolist() == [
        ["bogp", "b"],
        ["random", "d"],
        ["any mask", "c"],
    ]


def test_masks_of_the_family_have_equal_edges_and_unequal_nodes():
    rng = np.random.default_rng(0)
    masks = [example.unequal(16, 0.8, rng) for _ in range(30)]
    assert all((mask == mask.T).all() for mask in masks)
    sparsities = [1 - mask.mean() for mask in masks]
    assert max(sparsities) - min(sparsities) <= 2 / 256
    spread = [example.degree_spread(mask) for mask in masks]
    assert max(spread) > 2 * min(spread)


def test_degree_spread_by_hand():
    star = np.zeros((4, 4), dtype=bool)
    star[0, 1:] = star[1:, 0] = True  # degrees 3, 1, 1, 1
    assert example.degree_spread(star) == pytest.approx(np.sqrt(0.75))


def test_the_climber_tries_the_nearest_mask_that_it_has_not_tried(home):
    masks = example.masks_of("unequal", 8, 0.7, 12)
    settings = search.SearchSettings(example.COLUMNS, n_initial=3, n_iterations=2)
    climber = example.Climb(masks, settings, seed=0)
    rows = [p.row for p in climber.ask()]
    assert len(set(rows)) == 3
    climber.tell([0.1, 0.9, 0.2])
    values = search.searchers.unit_values(masks, example.COLUMNS)
    others = [row for row in range(12) if row not in rows]
    nearest = min(others, key=lambda row: np.linalg.norm(values[row] - values[rows[1]]))
    assert [p.row for p in climber.ask()] == [nearest]
    climber.tell([0.0])
    assert len(climber.ask()) == 1
    climber.tell([0.0])
    assert climber.ask() == []


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"batch_size": 0.5}, {"learning_rate": float("inf")}], ids=str
)
def test_bad_settings_of_the_training_are_refused(bad):
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        example.Task(None, **({"steps": 1, "batch_size": 1, "learning_rate": 0.1} | bad))
