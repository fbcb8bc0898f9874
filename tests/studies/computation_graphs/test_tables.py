"""The answer of notebook 10 counts what its two rules let pass."""

import pandas as pd

from bogp.studies.computation_graphs import tables


def test_the_answer_counts_faithful_graphs_and_equal_removals():
    graphs = pd.DataFrame({"edges": [7, 30], "difference": [1e-7, 1e-3]})
    columns = {"network": ["a", "b"], "edges_removed": 3, "difference": [0.0, 1e-6]}
    columns |= {"parameters_before": 10, "parameters_after": [5, 10]}
    removals = pd.DataFrame(columns | {"flops_before": 100, "flops_after": [75, 60]})
    said = tables.answer(graphs, removals)
    assert "7 to 30 edges" in said and "do in 1 of 2 cases" in said
    assert "equals the masked one in 2 of 2 cases" in said
    assert "25% to 40% fewer operations for 3 edges" in said
    assert tables.savings(removals)["parameters"].tolist() == [0.5, 0.0]
