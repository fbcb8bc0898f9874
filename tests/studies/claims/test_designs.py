from dataclasses import replace

import pytest

from bogp.errors import InvalidInput
from bogp.search.searchers import SearchSettings
from bogp.studies.claims import designs


def test_the_sizes_of_the_paper_are_those_that_were_fixed_before_the_run():
    """As the notebook's table has them; the committed tables are compared with them in
    ``test_committed``.
    """
    paper = designs.named("paper")
    assert (paper.audited, paper.bernoulli, paper.structured, paper.released) == (
        (16, 5),
        (256, 16),
        (128, 8),
        (40, 8),
    )
    assert (paper.changed, paper.changed_sparsity, paper.regions, paper.converged) == (
        (4, 4, 4),
        0.9,
        (16, 4),
        (6, 2),
    )
    assert (paper.defects, paper.replays, paper.slopes) == ((25, 10), (25, 40), (32, 25, 10))
    assert paper.pools == designs.PoolDesign(
        pools=5,
        graphs=2000,
        renumbered=500,
        chosen=16,
        fresh_seeds=4,
        sparsities=(0.95, 0.97, 0.99),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audited": (6, 1)}, "number of repetitions of audited is 1"),
        ({"bernoulli": (12, 1)}, "number of repetitions of bernoulli is 1"),
        ({"changed": (1, 0, 2)}, "smallest size of changed is 0"),
        ({"defects": (3, 1)}, "number of repetitions of defects is 1"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_repetitions_between_which_nothing_could_vary_are_refused(change, message):
    with pytest.raises(InvalidInput, match=message):
        replace(designs.named("smoke"), **change)


def test_an_unknown_design_is_refused_with_those_there_are():
    with pytest.raises(InvalidInput, match="no design 'huge'; there are: smoke, paper"):
        designs.named("huge")


@pytest.mark.parametrize(
    ("budget", "initial", "iterations"), [(2, 1, 1), (4, 3, 1), (6, 5, 1), (15, 5, 10), (25, 5, 20)]
)
def test_a_search_has_the_papers_initial_points_where_its_budget_allows(
    budget, initial, iterations
):
    assert designs.search_of(budget) == SearchSettings(n_initial=initial, n_iterations=iterations)
