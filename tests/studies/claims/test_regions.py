from dataclasses import replace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.graphs import pixel_features, properties
from bogp.graphs.database import DatabaseSpec, MaskDatabase, build
from bogp.graphs.pixel_features import FEATURES
from bogp.graphs.relational import mask_to_graph
from bogp.studies.claims import crossed, designs, exchangeable, regions
from bogp.training.protocols import Protocol

PROTOCOL = Protocol(
    "small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=50, steps=4, scope="all"
)
TRAINED = ["mask", "seed", "train_accuracy", "validation_accuracy", "test_accuracy", "key"]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """As ``crossed.mixture`` makes them, of two families."""
    parts = [
        build(
            DatabaseSpec((0.8,), 2, n=16, family=family),
            tmp_path_factory.mktemp("database") / family,
            workers=1,
        )
        for family in ("ws_flex", "barabasi_albert")
    ]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return MaskDatabase(table, parts[0].spec, np.concatenate([part.bits for part in parts]))


def trained(graphs, evaluator, numberings=("native", "relabelled")):
    """Trainings of one region."""
    both = {"native": graphs, "relabelled": regions.renumbered(graphs)}
    return regions.train(
        {("mnist-5k", 0.8): {name: both[name] for name in numberings}}, 2, PROTOCOL, evaluator
    )


def test_a_region_trains_each_graph_in_both_numberings_from_each_seed(graphs, evaluator):
    found = trained(graphs, evaluator)
    assert found["numbering"].tolist() == ["native"] * 8 + ["relabelled"] * 8
    assert (
        found[["mask", "seed"]].to_numpy().tolist()
        == [[m, s] for m in range(4) for s in range(2)] * 2
    )
    for column, value in {
        "dataset": "mnist-5k",
        "sparsity": 0.8,
        "protocol": "small",
        "region": "mnist-5k, s = 0.80",
    }.items():
        assert set(found[column]) == {value}
    assert evaluator.trained == found["key"].nunique() == 16
    native = found.query("numbering == 'native'")
    pd.testing.assert_frame_equal(
        native[TRAINED], crossed.train(graphs.masks(), 2, PROTOCOL, "mnist-5k", evaluator)
    )
    alone = trained(graphs, evaluator, ["relabelled"])
    pd.testing.assert_frame_equal(
        alone, found.query("numbering == 'relabelled'").reset_index(drop=True)
    )
    assert evaluator.trained == 16  # the very same trainings


def test_relabelled_is_version_0_of_the_changed_graphs(graphs, evaluator):
    """So that the two experiments share their trainings, whatever the number of versions there."""
    found = trained(graphs, evaluator, ["relabelled"])
    versions = exchangeable.train(graphs, 2, 2, 2, PROTOCOL, "mnist-5k", evaluator)
    same = versions.query("change == 'relabelled' and version == 0").reset_index(drop=True)
    measured = [c for c in TRAINED if c != "mask"]
    pd.testing.assert_frame_equal(found[measured], same[measured])
    assert found["mask"].tolist() == same["graph"].tolist()


def test_the_first_graphs_of_each_family_are_trained_for_long(graphs, evaluator, monkeypatch):
    monkeypatch.setattr(regions, "CONVERGED", PROTOCOL)
    design = replace(designs.NAMED["smoke"], converged=(1, 2), changed_sparsity=0.8)
    found = regions.train_long({0.8: graphs, 0.9: None}, design, ["mnist-5k"], evaluator)
    first = crossed.train(
        graphs.masks()[[0, 2]], 2, crossed.laid_over_all(PROTOCOL), "mnist-5k", evaluator
    )
    pd.testing.assert_frame_equal(found[TRAINED], first)
    assert found["numbering"].unique().tolist() == ["native"]


def test_renumbered_graphs_are_the_same_graphs_with_the_same_properties(graphs):
    renumbered = regions.renumbered(graphs)
    assert (renumbered.masks() != graphs.masks()).any(axis=(1, 2)).all()
    for before, after in zip(graphs.masks(), renumbered.masks(), strict=True):
        assert nx.is_isomorphic(mask_to_graph(before), mask_to_graph(after))
    measured = properties.measure(renumbered.masks())
    # the table says what the masks are
    np.testing.assert_allclose(renumbered.table[list(properties.ALL)], measured, rtol=1e-9)
    stay = [c for c in graphs.table.columns if c != "cycle_length"]
    pd.testing.assert_frame_equal(renumbered.table[stay], graphs.table[stay])


def test_graphs_carry_the_features_of_their_own_numbering(graphs, digits):
    found = regions.numbered({0.8: graphs}, {"mnist-5k": digits.train})
    assert list(found) == [("mnist-5k", 0.8)]
    both = found["mnist-5k", 0.8]
    assert list(both) == ["native", "relabelled"]
    for one, masks in (
        (both["native"], graphs.masks()),
        (both["relabelled"], regions.renumbered(graphs).masks()),
    ):
        np.testing.assert_array_equal(one.masks(), masks)
        np.testing.assert_array_equal(
            one.values(FEATURES), pixel_features.measure(masks, digits.train.images)
        )
    assert (both["native"].values(FEATURES) != both["relabelled"].values(FEATURES)).all()


def of_region(accuracies, numbering="native"):
    """Made-up trainings of a region, (graphs, seeds)."""
    graphs, seeds = accuracies.shape
    rows = pd.DataFrame(
        {"mask": np.repeat(np.arange(graphs), seeds), "seed": np.tile(np.arange(seeds), graphs)}
    )
    rows = rows.assign(
        test_accuracy=accuracies.ravel(),
        validation_accuracy=accuracies.ravel(),
        numbering=numbering,
    )
    return rows.assign(region="r", dataset="mnist-5k", sparsity=0.8)


def many(count=24):
    rng = np.random.default_rng(0)
    masks = np.array([np.triu(rng.random((12, 12)) < 0.5) for _ in range(count)])
    masks |= masks.transpose(0, 2, 1)
    table = properties.measure(masks).assign(
        mask_id=[str(i) for i in range(count)], sparsity=1 - masks.mean(axis=(1, 2))
    )
    table = table.assign(
        **{name: rng.random(count) for name in FEATURES}, family=np.repeat(["a", "b"], count // 2)
    )
    return MaskDatabase(
        table, DatabaseSpec((0.5,), count, n=12), np.packbits(masks.reshape(count, -1), axis=1)
    )


def test_correlations_are_of_each_seed_and_leave_out_what_is_missing():
    graphs = many()
    graphs.table.loc[3, "path_length"] = np.nan
    y = np.random.default_rng(1).normal(0.9, 0.01, (24, 3))
    found = regions.correlations(
        of_region(y), {("mnist-5k", 0.8): {"native": graphs}}, ["clustering", "path_length"]
    )
    assert found["column"].tolist() == ["clustering", "path_length", *FEATURES]
    there = graphs.table["path_length"].notna().to_numpy()
    for column, rows in (("clustering", np.ones(24, bool)), ("path_length", there)):
        expected = [stats.spearmanr(graphs.table[column][rows], y[rows, k])[0] for k in range(3)]
        row = found.set_index("column").loc[column]
        assert (row["mean"], row["n"]) == (pytest.approx(np.mean(expected)), 3)


def test_agreement_is_the_rank_correlation_of_the_means_of_the_same_graphs():
    y = np.random.default_rng(2).normal(0.9, 0.01, (24, 2))
    rows = [0, 1, 2, 12, 13, 14]
    trainings = pd.concat([of_region(y), of_region(y[::-1], "relabelled")], ignore_index=True)
    found = regions.agreement(trainings, of_region(np.sqrt(y[rows])), many(), 3).iloc[0]
    assert found.rho == pytest.approx(stats.spearmanr(y[rows].mean(1), np.sqrt(y[rows]).mean(1))[0])
    assert (found.graphs, found.mean_calibrated) == (6, pytest.approx(y[rows].mean()))
