"""What notebook 08 measures, against theory worked out by hand."""

import math

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from bogp.graphs.relational import mask_to_graph
from bogp.studies.symmetries import measure, plots, tables
from bogp.studies.symmetries.measure import CASES, PAIRS
from bogp.training.protocols import CALIBRATED
from bogp.training.symmetries import renumbered_masks


def test_the_four_cases_put_the_mask_where_they_say():
    found = {case.name: case for case in measure.cases(8, CALIBRATED, 3)}
    assert tuple(found) == CASES
    mask = np.eye(8, dtype=bool)
    held = {n: [m is not None for m in case.laid(mask)] for n, case in found.items()}
    assert held == {
        "one layer": [False, True, False],
        "consecutive layers": [False, True, True, False],
        "residual stream": [False, True, True, False],
        "reads the data": [True, False],
    }
    assert [case.protocol.blocks for case in found.values()] == [
        *["plain"] * 2,
        "residual",
        "plain",
    ]


@pytest.mark.parametrize(("n", "one"), [(4, 24), (6, 720)])
def test_all_orders_of_a_small_network_are_tried_once(n, one):
    hidden = {"one layer": 2, "consecutive layers": 3, "residual stream": 1, "reads the data": 1}
    for case in measure.cases(n, CALIBRATED, 3):
        count = one ** hidden[case.name]
        if count > 20_000:
            continue
        orders = list(case.orders())
        distinct = {tuple(map(tuple, order[1:-1])) for order in orders}
        assert len(orders) == len(distinct) == count
        if case.name == "residual stream":
            assert all(len(set(order)) == 1 for order in distinct)


def test_two_triangles_and_a_hexagon():
    graphs = measure.small_graphs()
    triangles, hexagon = (mask_to_graph(graphs[name]) for name in ("two triangles", "hexagon"))
    assert nx.is_isomorphic(triangles, nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)))
    assert nx.is_isomorphic(hexagon, nx.cycle_graph(6))
    assert nx.is_isomorphic(mask_to_graph(graphs["star"]), nx.star_graph(3))
    assert nx.is_isomorphic(mask_to_graph(graphs["path"]), nx.path_graph(4))


@pytest.mark.parametrize("case", measure.cases(6, CALIBRATED, 3), ids=lambda case: case.name)
def test_the_swap_makes_a_hexagon_of_two_triangles_where_it_can(case):
    graphs = measure.small_graphs()
    moved = renumbered_masks(case.laid(graphs["two triangles"]), measure._swap(case, 6))
    hexagon = case.laid(graphs["hexagon"])
    equal = all(
        a is None if b is None else (a == b).all() for a, b in zip(moved, hexagon, strict=True)
    )
    assert equal == (not PAIRS[case.name]["two triangles", "hexagon"])


def test_twins_have_equal_losses_and_others_do_not(digits):
    found = measure.renumbered(12, 1, CALIBRATED, digits, 8, 0)
    assert found["case"].tolist() == list(CASES)
    assert (found["difference"] <= tables.EQUAL).all()
    assert (found["same_start"] > tables.APART).all()
    pairs = measure.told_apart(CALIBRATED, digits, 6, 0, 30)
    assert len(pairs) == 8
    for row in pairs.itertuples():
        assert row.expected == PAIRS[row.case][row.first, row.second]
        assert (row.difference > tables.APART) == row.expected
        assert row.orders <= 30
    rules = tables.judged(found, pairs)
    assert (rules["verdict"] == "met").all() and len(rules) == 12
    broken = tables.judged(found.assign(difference=1e-6), pairs.assign(difference=1e-6))
    assert (broken["verdict"] == "not met").all()


def test_what_can_be_known_is_what_theory_says(digits):
    known = measure.known(6, 24, digits.train.images)
    table = tables.invariants(known).set_index("property")
    hidden = ["one layer", "consecutive layers"]
    for name in ("clustering", "path_length", "wiener_index", "edge_connectivity", "cycle_length"):
        assert (table.loc[name, hidden] == "no").all()
    for name in ("degree_centrality", "degree_connectivity", "s_metric"):
        assert (table.loc[name, hidden] == "without loops").all()
    assert (table.loc["eigenvector_centrality", list(CASES)] == "yes").all()
    invariant = table["kind"] == "bipartite invariant"
    assert (table.loc[invariant, list(CASES)] == "yes").all(axis=None)
    stream = table["residual stream"]
    assert stream["cycle_length"] == "no"
    assert (stream.drop("cycle_length")[table["kind"] != "labelled feature"][:9] == "yes").all()
    data = table["reads the data"]
    assert data[["lit_share", "field_spread", "image_distance"]].tolist() == ["yes", "yes", "no"]
    assert (table.loc["lit_share", hidden] == "").all()
    assert tables.unknowable(known, "residual stream") == ["cycle_length"]
    figure = plots.knowledge(known)
    assert len(figure.axes[0].get_yticks()) == len(table)


def test_a_difference_is_in_parts_of_the_largest_value():
    def gap(a, b):
        return measure._difference(pd.Series(a), pd.Series(b))

    assert gap([1.0, 4.0], [1.0, 3.0]) == pytest.approx(0.25)
    assert gap([1.0, math.nan], [1.0, math.nan]) == 0
    assert gap([1.0, math.nan], [1.0, 2.0]) == math.inf
    assert gap([0.0], [0.0]) == 0
