"""Search over masks through their graph properties, Algorithms 3 and 4 of the paper: who proposes
(``searchers``), and the loop around them.

``your_network`` runs the same searchers on a torch module of your own.
"""

from bogp.search.loop import (
    best_so_far,
    check_fresh_seeds,
    mask_job,
    recommend,
    retrain,
    run,
    unpruned_job,
    validation_accuracy,
)
from bogp.search.searchers import (
    FRESH_SEED,
    SEED_LIMIT,
    BoxRandom,
    BoxSearch,
    PoolSearch,
    Proposal,
    RandomSearch,
    Searcher,
    SearchSettings,
    best_observed,
    best_posterior_mean,
    box,
    permuted,
)

__all__ = [
    "FRESH_SEED",
    "SEED_LIMIT",
    "BoxRandom",
    "BoxSearch",
    "PoolSearch",
    "Proposal",
    "RandomSearch",
    "SearchSettings",
    "Searcher",
    "best_observed",
    "best_posterior_mean",
    "best_so_far",
    "box",
    "check_fresh_seeds",
    "mask_job",
    "permuted",
    "recommend",
    "retrain",
    "run",
    "unpruned_job",
    "validation_accuracy",
]
