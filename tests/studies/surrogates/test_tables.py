"""Tables of notebook 14 that its other tests do not reach: what is printed, and the answer."""

import pandas as pd
import pytest

from bogp.studies.surrogates import tables


def test_the_answer_has_each_target_with_its_verdict_and_numbers():
    judged = pd.DataFrame(
        {"target": ["A", "B"], "verdict": ["met", "no verdict"], "measured": ["x 1.", "y 2."]}
    )
    assert tables.answer(judged, "Flow: z.") == "A: met. x 1. B: no verdict. y 2. Flow: z."


def test_printed_values_are_those_of_each_class():
    printed = tables.PRINTED.set_index(["predictor", "size"])["spearman"]
    assert len(printed) == 16
    assert printed["path", "> 100"] == 0.411 and printed["published_taylor", "20-40"] == -0.052


def test_facts_are_means_over_the_graphs_of_a_class():
    def graph(accuracy, connected):
        parts = ["published", "half", "half"]
        return pd.DataFrame({"part": parts, "accuracy": accuracy, "connected": [True, *connected]})

    measured = {("10-15", 0): graph(0.8, [True, False]), ("10-15", 1): graph(0.6, [True, True])}
    found = tables.facts(measured).loc["10-15"]
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["connected half-masks"] == pytest.approx(0.75)
