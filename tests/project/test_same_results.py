"""The comparison of two states of a table sees what it should."""

import pandas as pd
import pytest

from tests.project.same_results import compared

TABLE = pd.DataFrame({"method": ["a", "b"], "mean": [0.1, float("nan")], "seconds": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (TABLE, []),
        (TABLE.assign(seconds=[5.0, 6.0]), []),
        (TABLE.assign(mean=[0.1 + 1e-15, float("nan")]), ["mean: 1 of 2 cells"]),
        (TABLE.assign(mean=[0.1, 0.2]), ["mean: 1 of 2 cells"]),
        (TABLE.assign(method=["a", "c"]), ["method: 1 of 2 cells"]),
        (TABLE.iloc[:1], ["2 rows became 1"]),
        (TABLE.rename(columns={"mean": "average"}), ["columns"]),
    ],
    ids=["same", "other time", "last bit", "a number for none", "text", "rows", "columns"],
)
def test_what_differs_is_said(now, expected):
    found = compared(TABLE, now, "03_fixed_sparsity_bo/any.csv")
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


def test_notebook_10_is_compared_to_a_millionth():
    near, far = TABLE.assign(mean=[0.1 + 1e-8, None]), TABLE.assign(mean=[0.1 + 1e-4, None])
    assert not compared(TABLE, near, "10_computation_graphs/any.csv")
    assert compared(TABLE, far, "10_computation_graphs/any.csv")


def test_the_line_that_a_refusal_names_may_move():
    then = pd.DataFrame({"refused_because": ["cannot be captured (line 70)", None]})
    moved, other = (
        pd.DataFrame({"refused_because": [text, None]})
        for text in ("cannot be captured (line 80)", "is not captured (line 70)")
    )
    assert not compared(then, moved, "any.csv")
    assert compared(then, other, "any.csv")
