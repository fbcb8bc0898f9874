"""Searches against brute force on small graphs, and what they refuse."""

from itertools import combinations

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from bogp.errors import Disconnected, InvalidInput
from bogp.structural import search
from bogp.studies.surrogates.measure import blank_graph


@pytest.fixture(scope="module")
def space():
    return search.Space(blank_graph("10-15", 9), 4)


@pytest.fixture(scope="module")
def large():
    return search.Space(blank_graph("20-40", 0), 8)


def quadratic_losses(space, seed=0):
    rng = np.random.default_rng(seed)
    slope, root = (
        rng.normal(size=len(space.graph.edges)),
        rng.normal(size=(len(space.graph.edges),) * 2),
    )

    def losses(masks):
        # as in a network: masks that close the same gates have the same loss
        gone = 1.0 - space.graph.gates(masks)
        return 1 + gone @ slope + 0.1 * np.square(gone @ root).sum(axis=1)

    return losses


def by_brute_force(space):
    """The removed edges of each feasible mask."""
    found = []
    ends = [
        next(v.index for v in space.graph.vertices if v.kind == kind)
        for kind in ("input", "output")
    ]
    for removed in combinations(space.graph.candidates.tolist(), space.removed):
        kept = space.graph.networkx()
        kept.remove_edges_from(
            [(s, t, k) for s, t, k in list(kept.edges(keys=True)) if k in removed]
        )
        if nx.has_path(kept, *ends):
            found.append(removed)
    return found


def test_exhaustive_search_evaluates_each_feasible_mask_once(space):
    losses = quadratic_losses(space)
    table = search.exhaustive(space, losses)
    assert [tuple(map(int, r.split())) for r in table.removed] == by_brute_force(space)
    assert table.loss.to_numpy() == pytest.approx(
        [losses(space.graph.without(r)[None])[0] for r in by_brute_force(space)]
    )
    assert (table.best == table.loss.cummin()).all()
    assert table.evaluation.tolist() == list(range(1, len(table) + 1))


def test_greedy_takes_the_best_edge_each_time(space):
    losses = quadratic_losses(space)
    gone = []
    for _ in range(space.removed):
        tries = [[*gone, e] for e in space.graph.candidates if e not in gone]
        tries = [t for t in tries if space.graph.connected(space.graph.without(t))[0]]
        gone = min(tries, key=lambda t: losses(space.graph.without(t)[None])[0])
    table = search.greedy(space, losses, search.greedy_cost(space))
    assert table.best.iloc[-1] == pytest.approx(losses(space.graph.without(gone)[None])[0])
    assert table.best.isna().sum() == (table.edges < space.removed).sum() > 0
    with pytest.raises(InvalidInput, match="greedy search evaluates up to"):
        search.greedy(space, losses, search.greedy_cost(space) - 1)


def test_an_exact_model_puts_the_best_mask_first(space, large):
    losses = quadratic_losses(space)
    assert (
        search.quadratic(space, losses, 3, losses, 0).loss.tolist()
        == sorted(search.exhaustive(space, losses).loss)[:3]
    )
    assert not large.is_small
    losses = quadratic_losses(large)
    table = search.quadratic(large, losses, 5, losses, 0)
    assert table.loss.is_monotonic_increasing
    best = ~np.isin(np.arange(len(large.graph.edges)), list(map(int, table.removed[0].split())))
    assert losses(large.swaps(best)).min() >= table.loss[0], "no swap of two edges is better"
    assert table.loss[0] < search.random(large, losses, 300, 0).loss.min()


def test_bayesian_search_finds_the_best_mask(space, large):
    losses = quadratic_losses(space)
    truth = search.exhaustive(space, losses).loss.min()
    assert search.bayesian(space, losses, 4, 0, prior=losses, initial=4).best.iloc[-1] == truth, (
        "its prior is exact"
    )
    assert search.bayesian(space, losses, 60, 0).best.iloc[-1] == truth, (
        "without a prior, from a fifth of the masks"
    )
    losses = quadratic_losses(large)
    bo = search.bayesian(large, losses, 60, 0)
    assert bo.best.iloc[-1] < search.random(large, losses, 300, 0).best.iloc[-1], (
        "where masks are too many to list"
    )


@pytest.mark.parametrize("budget", [12, 14])
def test_budgets_are_kept_no_mask_comes_twice_and_seeds_decide(space, large, budget):
    for where in (space, large):
        losses = quadratic_losses(where)
        asked = []

        def counted(masks, losses=losses, asked=asked):
            asked.append(len(masks))
            return losses(masks)

        for run in (
            lambda s, f, where=where: search.random(where, f, budget, s),
            lambda s, f, where=where: search.bayesian(where, f, budget, s, initial=6),
            lambda s, f, where=where, prior=losses: search.bayesian(
                where, f, budget, s, prior=prior, initial=6
            ),
        ):
            asked.clear()
            table = run(0, counted)
            assert sum(asked) == len(table) == budget
            assert table.removed.is_unique
            assert (table.edges == where.removed).all()
            removed = [list(map(int, r.split())) for r in table.removed]
            assert where.graph.connected(np.array([where.graph.without(r) for r in removed])).all()
            pd.testing.assert_frame_equal(table, run(0, losses))
            assert table.removed.tolist() != run(1, losses).removed.tolist()


def test_a_budget_beyond_all_masks_ends_with_them(space):
    losses, count = quadratic_losses(space), len(space.all())
    assert len(search.random(space, losses, count + 50, 0)) == count
    few = search.Space(space.graph, 1)
    assert len(search.bayesian(few, losses, 50, 0, initial=4)) == len(few.all())


def test_bad_input_is_refused_before_any_evaluation(space, large):
    def never(masks):
        raise AssertionError("work has started")

    candidates = len(space.graph.candidates)
    for removed in (0, candidates + 1, 1.5):
        with pytest.raises(InvalidInput, match="removed edges"):
            search.Space(space.graph, removed)
    with pytest.raises(Disconnected, match="remove fewer"):
        search.Space(space.graph, candidates)
    for budget in (0, -1, 2.5):
        with pytest.raises(InvalidInput, match="budget"):
            search.random(space, never, budget, 0)
    with pytest.raises(InvalidInput, match="seed"):
        search.random(space, never, 5, -1)
    with pytest.raises(InvalidInput, match="initial"):
        search.bayesian(space, never, 5, 0, initial=6)
    with pytest.raises(InvalidInput, match="batch"):
        search.bayesian(space, never, 20, 0, batch=0)
    with pytest.raises(InvalidInput, match="at most"):
        search.exhaustive(large, never)
    with pytest.raises(InvalidInput, match="one finite loss each"):
        search.random(space, lambda masks: np.full(len(masks), np.nan), 5, 0)
