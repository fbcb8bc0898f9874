"""The answer of notebook 03, and what stands beside the paper: words that follow the numbers."""

import numpy as np
import pandas as pd
import pytest

from bogp.statistics import mean_interval
from bogp.studies.fixed_sparsity import tables

NOISE = np.array([1, -1, 2, -2, 0]) * 1e-4


def summary(gain: float) -> pd.DataFrame:
    """Five pairs of searches, those of BoGP better by so much on test images."""
    random = pd.DataFrame({"search_seed": range(5), "apparent": 0.97, "fresh_validation": 0.96})
    random = random.assign(method="random", fresh_test=0.95 + NOISE[::-1])
    bogp = random.assign(method="bogp", fresh_test=0.95 + gain + NOISE)
    return tables.fixed_sparsity_row(pd.concat([bogp, random]), 0.6, "calibrated", "mnist")


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (0.0, "cannot be told from zero"),
        (0.01, "says that BoGP did better"),
        (-0.01, "says that random search did better"),
    ],
)
def test_the_answer_follows_the_interval(gain, says):
    said = tables.answer(summary(gain), 25)
    assert says in said
    assert f"The difference, {gain:+.4f} [" in said and "5 pairs" in said and "with 25 " in said


def test_beside_the_paper_stands_what_was_measured():
    unpruned = mean_interval([0.97, 0.98])
    beside = tables.beside_the_paper(summary(0.01), unpruned).set_index("quantity")
    assert beside.loc["accuracy of BoGP's mask", "the paper says"] == "0.968"
    assert beside.loc["accuracy of BoGP's mask", "we got"].startswith("0.9600 [")
    assert beside.loc["BoGP minus random search", "we got"].startswith("+0.0100 [")
    assert beside.loc["accuracy of the unpruned network", "we got"] == f"{unpruned}, test"
