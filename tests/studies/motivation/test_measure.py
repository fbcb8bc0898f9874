from itertools import combinations

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.errors import InvalidInput
from bogp.graphs.relational import layer_masks, mask_to_graph
from bogp.studies.motivation import measure, plots, tables
from bogp.studies.motivation.measure import Study, graph_set, kept_weights, matched_width
from bogp.training.protocols import CALIBRATED

STUDY = Study(CALIBRATED, width=32, seeds=4)


@pytest.fixture(scope="module")
def masks():
    return graph_set()


@pytest.fixture(scope="module")
def graphs(masks):
    return measure.describe(masks, STUDY)


def made_up(graphs, accuracy, noise=0.002, seeds=12):
    """Trainings with a known truth: one accuracy a graph, the same in both variants, plus noise."""
    rng = np.random.default_rng(0)
    rows = [
        (variant, graph, seed, value + rng.normal(0, noise))
        for variant in measure.VARIANTS
        for graph, value in zip(graphs["graph"], accuracy, strict=True)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["variant", "graph", "seed", "test_accuracy"])


@pytest.mark.parametrize("nodes", [3, 4, 5])
def test_every_connected_graph_is_there_once(nodes):
    """Brute force: every set of edges, kept if connected and not isomorphic to one before."""
    found: list[nx.Graph] = []
    pairs = list(combinations(range(nodes), 2))
    for size in range(len(pairs) + 1):
        for edges in combinations(pairs, size):
            graph = nx.Graph(edges)
            if (
                len(graph) == nodes
                and nx.is_connected(graph)
                and not any(
                    nx.could_be_isomorphic(graph, g) and nx.is_isomorphic(graph, g) for g in found
                )
            ):
                found.append(graph)
    masks = graph_set(nodes)
    assert masks.shape == (len(found), nodes, nodes)
    assert np.einsum("gii->gi", masks).all()
    assert (masks == masks.transpose(0, 2, 1)).all()
    plain = [mask_to_graph(mask & ~np.eye(nodes, dtype=bool)) for mask in masks]
    for graph in found:
        assert sum(nx.is_isomorphic(graph, other) for other in plain) == 1


@pytest.mark.parametrize(("nodes", "count"), [(5, 21), (6, 112), (7, 853)])
def test_their_number_is_that_of_the_encyclopedia_and_they_come_by_edges(nodes, count):
    masks = graph_set(nodes)  # OEIS A001349
    assert len(masks) == count
    assert (np.diff(masks.sum(axis=(1, 2))) >= 0).all()
    assert masks[-1].all()


@pytest.mark.parametrize("nodes", [0, 2, 8, -1])
def test_other_sizes_are_refused(nodes):
    with pytest.raises(InvalidInput, match="3 to 7"):
        graph_set(nodes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 1}, "at least 2"),
        ({"nodes": 3}, "4 to 7"),
        ({"nodes": 8}, "4 to 7"),
        ({"width": 4}, "each of the 5 nodes"),
        ({"hidden_layers": 0}, "at least one"),
    ],
    ids=str,
)
def test_a_study_that_cannot_be_done_is_refused_before_it_starts(settings, message):
    with pytest.raises(InvalidInput, match=message):
        Study(CALIBRATED, **settings)


def test_the_network_of_a_study_masks_all_layers_but_the_last_and_is_otherwise_the_protocol():
    network = STUDY.network(40)
    assert network.widths == (784, 40, 40, 40, 10)
    assert network.masked_layers == (0, 1, 2)
    assert (network.steps, network.learning_rate, network.split) == (
        CALIBRATED.steps,
        CALIBRATED.learning_rate,
        CALIBRATED.split,
    )
    assert Study(CALIBRATED, hidden_layers=1).network(9).widths == (784, 9, 10)


@pytest.mark.parametrize("width", [5, 32, 43])
def test_kept_weights_are_those_of_the_masks_that_are_trained(masks, width):
    network = STUDY.network(width)
    for mask in masks:
        layers = layer_masks(mask, network.widths, network.masked_layers)
        assert (
            kept_weights(mask, network)
            == sum(int(m.sum()) for m in layers if m is not None) + width * 10
        )


def test_matched_width_is_the_best_of_all_widths(masks):
    wanted = kept_weights(masks[-1], STUDY.network(32))
    for mask in masks:
        off = {
            width: abs(kept_weights(mask, STUDY.network(width)) - wanted) for width in range(5, 120)
        }
        assert matched_width(mask, STUDY, wanted) == min(off, key=lambda width: (off[width], width))


def test_matched_width_where_more_weights_are_wanted_than_a_layer_may_have_units(masks):
    for mask in masks:
        found = [
            kept_weights(mask, STUDY.network(matched_width(mask, STUDY, 2**18) + step))
            for step in (-1, 0, 1)
        ]
        assert min(found, key=lambda kept: abs(kept - 2**18)) == found[1]


def test_fewer_weights_than_the_narrowest_network_has_give_the_narrowest(masks):
    assert matched_width(masks[0], STUDY, 1) == 5


def test_the_graphs_are_described_as_networkx_sees_them(masks, graphs):
    for row, mask in zip(graphs.itertuples(), masks, strict=True):
        graph = mask_to_graph(mask)
        assert row.edges == graph.number_of_edges() - 5
        assert row.density == pytest.approx((2 * row.edges + 5) / 25)
        assert row.clustering == pytest.approx(nx.average_clustering(graph))
        assert row.path_length == pytest.approx(nx.average_shortest_path_length(graph))
    assert (graphs.width_same == 32).all()
    dense = 784 * 32 + 2 * 32 * 32 + 320
    assert graphs.kept_matched.iloc[-1] == graphs.kept_same.iloc[-1] == dense
    np.testing.assert_allclose(graphs.deviation_matched, graphs.kept_matched / dense - 1)
    assert graphs.deviation_matched.abs().max() < 0.02 < graphs.deviation_same.abs().median()


def test_equal_properties_are_exactly_equal(graphs):
    """The ring and the complete graph are regular: both have eigenvector centrality 1 / sqrt(5)."""
    regular = graphs[np.isclose(graphs.eigenvector_centrality, 5**-0.5)]
    assert len(regular) == 2
    assert regular.eigenvector_centrality.nunique() == 1


def test_where_density_is_all_there_is_nothing_is_left_of_the_properties(graphs):
    trainings = made_up(graphs, 0.9 + 0.1 * graphs.density)
    table = tables.correlations(graphs, trainings).set_index(["property", "variant", "kind"])
    density, clustering = (
        table.loc["density", "same", "raw"],
        table.loc["clustering", "same", "raw"],
    )
    assert density["mean"] > 0.9
    assert density.of_means == pytest.approx(
        stats.spearmanr(graphs.density, tables.accuracies(trainings, "same").mean(0)).statistic
    )
    assert clustering.low > 0.5
    for column in measure.FIGURES_5_TO_7:
        assert abs(table.loc[column, "same", "partial"]["mean"]) < 0.25
        assert tables.density_margin(graphs, trainings, column).low > (
            0 if column != "path_length" else -0.05
        )
    for column in ("density", "degree_centrality", "cycle_rank"):
        assert np.isnan(table.loc[column, "same", "partial"]["mean"]), column
    assert np.isnan(table.loc["cycle_length", "same", "raw"]["mean"])
    assert np.isnan(tables.density_margin(graphs, trainings, "cycle_length").mean)


def test_where_a_property_is_all_there_is_it_is_found(graphs):
    trainings = made_up(graphs, 0.9 + 0.1 * graphs.clustering)
    table, judged = tables.correlations(graphs, trainings), tables.monotone(graphs, trainings)
    one = table.set_index(["property", "variant", "kind"]).loc[("clustering", "same", "partial")]
    assert one.low > 0.8
    rows = judged[judged.variant == "same"].set_index("property")
    assert not rows.loc["clustering", "rejected"]
    assert rows.loc["clustering", "tied_apart"] == 0
    assert rows.loc["path_length", "rejected"]
    assert rows.loc["density", "tied_apart"] > 0
    assert tables.density_margin(graphs, trainings, "clustering").high < 0


@pytest.mark.parametrize(
    ("truth", "verdict"),
    [
        # all three properties have exceptions to the order of density
        (lambda g: 0.9 + 0.005 * g.density.rank(), "contradicted"),
        (lambda g: 0.9 + 0.0 * g.density, "undecided"),
        (lambda g: 0.9 + 0.1 * (g.density > 0.9) - 0.1 * (g.density < 0.55), "contradicted"),
    ],
)
def test_verdicts_of_known_truths(graphs, truth, verdict):
    trainings = made_up(graphs, truth(graphs))
    table, judged = tables.correlations(graphs, trainings), tables.monotone(graphs, trainings)
    assert tables.verdict(table, judged) == verdict
    assert f": {verdict}." in tables.conclusion(table, judged)
    clear = table[(table["low"] > 0) | (table["high"] < 0)].set_index(["variant", "kind"]).property
    said = tables.answer(table, judged)
    for column in measure.FIGURES_5_TO_7:
        width = said.split("at equal width: ")[1].split(";")[0]
        assert (column in width) == (column in clear[clear.index == ("same", "raw")].tolist())


@pytest.mark.parametrize(
    ("raw", "rejected", "verdict"),
    [
        ([(0.1, 0.5), (-0.5, -0.1), (-0.1, 0.2)], [False, False, False], "supported"),
        ([(0.1, 0.5), (-0.5, -0.1), (0.1, 0.2)], [True, False, False], "supported"),
        ([(0.1, 0.5), (-0.5, 0.1), (-0.1, 0.2)], [False, False, False], "undecided"),
        ([(0.1, 0.5), (-0.5, 0.1), (0.1, 0.2)], [True, False, False], "undecided"),
        ([(0.1, 0.5), (0.1, 0.5), (0.1, 0.5)], [True, True, False], "contradicted"),
    ],
)
def test_the_rule_of_the_verdict(raw, rejected, verdict):
    columns = list(measure.FIGURES_5_TO_7)
    table = pd.DataFrame(
        {
            "property": columns,
            "variant": "same",
            "kind": "raw",
            "low": [r[0] for r in raw],
            "high": [r[1] for r in raw],
        }
    )
    judged = pd.DataFrame(
        {"property": columns, "variant": "same", "rejected": rejected, "tied_apart": 0}
    )
    assert tables.verdict(table, judged) == verdict
    apart = judged.assign(rejected=False, tied_apart=np.array(rejected) * 3)
    assert tables.verdict(table, apart) == verdict, (
        "one value and two accuracies count as a monotone function rejected"
    )


def test_answers_say_what_the_tables_hold(graphs):
    trainings = made_up(graphs, 0.9 + 0.1 * graphs.clustering)
    table, judged = tables.correlations(graphs, trainings), tables.monotone(graphs, trainings)
    answers = tables.beside_the_paper(graphs, trainings, table, judged).set_index("property")
    one = table.set_index(["property", "variant", "kind"]).loc[("clustering", "same", "raw")]
    assert (
        answers.loc["clustering", "correlation"]
        == f"{one['mean']:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"
    )
    assert answers.loc["density", "given density"] == "undefined"
    column = "the three, of seed means"
    assert answers.loc["clustering", column].split(", ")[0] == f"{one.of_means:+.2f}"
    assert answers.loc["density", column].split(", ")[1] == "undefined"
    assert answers.loc["clustering", "monotone?"] == "not rejected (0 of 193 pairs against)"
    assert answers.loc["path_length", "monotone?"].startswith("rejected")


@pytest.mark.parametrize("nodes", [4, 5, 6])
def test_figures_show_every_graph_or_say_how_many(nodes):
    study = Study(CALIBRATED, nodes=nodes, width=32, seeds=2)
    masks = graph_set(nodes)
    graphs = measure.describe(masks, study)
    trainings = made_up(graphs, 0.9 + 0.1 * graphs.density, seeds=2)
    columns = list(measure.FIGURES_5_TO_7)
    gallery = plots.graph_gallery(graphs, masks)
    drawn = [ax.get_title() for ax in gallery.axes if ax.get_title()]
    assert drawn[-1] == f"{len(masks)}: {graphs.edges.iloc[-1]} edges"
    assert len(drawn) == min(len(masks), 21)
    figure = plots.accuracy_with_graphs(graphs, trainings, masks, columns, "matched")
    assert len(figure.axes) == 2 * len(columns)
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(map(int, numbers))[-1] == len(masks)
    assert len(numbers) == min(len(masks), 21)
    panels = plots.accuracy_panels(graphs, trainings, columns, "same")
    dots = panels.axes[0].lines[0].get_xydata()
    means = trainings[trainings.variant == "same"].groupby("graph").test_accuracy.mean()
    np.testing.assert_allclose(dots[:, 1], means)
    np.testing.assert_allclose(
        dots[:, 0], graphs.clustering, atol=0.041 * np.ptp(graphs.clustering)
    )
    plt.close("all")


def test_the_dot_plot_leaves_out_what_is_undefined(graphs):
    table = tables.correlations(graphs, made_up(graphs, 0.9 + 0.1 * graphs.density, seeds=3))
    figure = plots.correlation_dots(table)
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert len(labels) == len(measure.COLUMNS) - 1
    assert not any("cycle found" in label for label in labels)
    plt.close("all")
