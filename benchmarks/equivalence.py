"""Does bfloat16 give other accuracies than float32? Six masks, twenty seeds, each trained in both,
on full MNIST.

    python -m benchmarks.equivalence calibrated            # one to two minutes on 2 cores
    python -m benchmarks.equivalence paper                 # half an hour, by the rate of a training

Writes the evaluations to ``data/evaluations/paper/precision_<protocol>.parquet`` and the verdict to
``data/results/paper/precision_<protocol>.csv``. The rule, fixed beforehand: the two are equivalent
if two one-sided paired t tests at 5 % put the difference of mean accuracy within 0.001, and the
spread is unchanged if the 95 % interval of the ratio of standard deviations between seeds holds 1.
The masks share their seeds, so the pairs that are tested are the twenty seeds, each with its mean
over the masks; the spread is taken within masks. That an interval holds 1 is no proof, so a second
column, added after the first results, says whether it lies within 0.8 to 1.25.
"""

import sys

import numpy as np
import pandas as pd

from bogp import paths
from bogp.graphs import families
from bogp.graphs.relational import layer_masks
from bogp.records import write_table
from bogp.statistics import equivalence, spread_ratio
from bogp.training import protocols
from bogp.training.evaluation import Evaluator, Job, Recipe

SPARSITIES, SEEDS, MARGIN, BAND = (
    (0.15, 0.30, 0.45, 0.60, 0.75, 0.90),
    range(20),
    0.001,
    (0.8, 1.25),
)


def main(name: str) -> None:
    """Train, test, write and print."""
    protocol, evaluations, known = (
        protocols.named(name),
        [],
        paths.evaluations_dir("paper") / f"precision_{name}.parquet",
    )
    recipes = [
        Recipe(
            layer_masks(
                families.bernoulli(128, s, np.random.default_rng(i)),
                protocol.widths,
                protocol.masked_layers,
            )
        )
        for i, s in enumerate(SPARSITIES)
    ]
    for precision in ("float32", "bfloat16"):
        evaluator = Evaluator(precision=precision, known=[known])
        table = evaluator.evaluate(
            [Job(recipe, seed, protocol, "mnist") for recipe in recipes for seed in SEEDS]
        )
        evaluations.append(table.assign(mask=np.repeat(range(len(recipes)), len(SEEDS))))
    evaluator.store.export(known, [key for table in evaluations for key in table["key"]])
    verdicts = pd.DataFrame(
        [verdict(*evaluations, measure) for measure in ("validation_accuracy", "test_accuracy")]
    )
    parameters = {
        "protocol": name,
        "masks": len(recipes),
        "sparsities": SPARSITIES,
        "seeds": list(SEEDS),
        "margin": MARGIN,
        "dataset": "mnist",
    }
    write_table(verdicts, paths.results_dir("paper") / f"precision_{name}.csv", parameters, [known])
    print(verdicts.T.to_string())


def verdict(float32: pd.DataFrame, bfloat16: pd.DataFrame, measure: str) -> dict[str, object]:
    """The two tests on one measure; rows of both tables in the same order."""
    first, second = (
        table.pivot(index="seed", columns="mask", values=measure) for table in (bfloat16, float32)
    )
    mean = equivalence(first.mean(axis=1), second.mean(axis=1), MARGIN)
    spread = spread_ratio(*((each - each.mean()).to_numpy().ravel() for each in (first, second)))
    return {
        "measure": measure,
        "bfloat16": first.to_numpy().mean(),
        "float32": second.to_numpy().mean(),
        "difference": mean.difference.mean,
        "low_90": mean.difference.low,
        "high_90": mean.difference.high,
        "p_equivalence": mean.p,
        "equivalent": mean.holds,
        "spread_ratio": spread.ratio,
        "spread_low_95": spread.low,
        "spread_high_95": spread.high,
        "spread_unchanged": spread.low <= 1 <= spread.high,
        "spread_equivalent": BAND[0] < spread.low and spread.high < BAND[1],
    }


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "calibrated")
