from dataclasses import replace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bogp.graphs import pixel_features, properties
from bogp.graphs.database import DatabaseSpec, MaskDatabase, build
from bogp.graphs.relational import layer_masks, mask_to_graph
from bogp.search.searchers import SearchSettings
from bogp.studies.claims import crossed, exchangeable, regions
from bogp.studies.claims.regions import Region
from bogp.training.evaluation import Job, Recipe
from bogp.training.protocols import Protocol

PROTOCOL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=50, steps=4, scope="all")
REGION = Region("mnist-5k", 0.8, PROTOCOL, 2)
TRAINED = ["mask", "seed", "train_accuracy", "validation_accuracy", "test_accuracy", "key"]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """As ``crossed.mixture`` makes them, of two families."""
    parts = [
        build(DatabaseSpec((0.8,), 2, n=16, family=family), tmp_path_factory.mktemp("database") / family, workers=1)
        for family in ("ws_flex", "barabasi_albert")
    ]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return MaskDatabase(table, parts[0].spec, np.concatenate([part.bits for part in parts]))


def test_a_region_trains_each_graph_in_both_numberings_from_each_seed(graphs, evaluator):
    found = regions.train(REGION, graphs, evaluator)
    assert found["numbering"].tolist() == ["native"] * 8 + ["relabelled"] * 8
    assert found[["mask", "seed"]].to_numpy().tolist() == [[m, s] for m in range(4) for s in range(2)] * 2
    for column, value in {"dataset": "mnist-5k", "sparsity": 0.8, "protocol": "small", "region": REGION.name}.items():
        assert set(found[column]) == {value}
    assert evaluator.trained == found["key"].nunique() == 16


def test_native_is_the_crossed_design_of_the_graphs_as_they_are(graphs, evaluator):
    native = regions.train(REGION, graphs, evaluator).query("numbering == 'native'")
    pd.testing.assert_frame_equal(native[TRAINED], crossed.train(graphs.masks(), 2, PROTOCOL, "mnist-5k", evaluator))
    assert evaluator.trained == 16  # the very same trainings


def test_relabelled_is_version_0_of_the_nulls(graphs, evaluator):
    """So that the two experiments share their trainings, whatever the number of versions there."""
    found = regions.train(replace(REGION, numberings=("relabelled",)), graphs, evaluator)
    assert evaluator.trained == 8
    same = exchangeable.train(graphs, "relabelled", 2, 2, PROTOCOL, "mnist-5k", evaluator).query("version == 0").reset_index(drop=True)
    measured = [c for c in TRAINED if c != "mask"]
    pd.testing.assert_frame_equal(found[measured], same[measured])
    assert found["mask"].tolist() == same["graph"].tolist()
    assert evaluator.trained == 16


@pytest.mark.parametrize("numbering", regions.NUMBERINGS)
def test_one_numbering_alone_has_its_rows_of_the_whole(numbering, graphs, evaluator):
    whole = regions.train(REGION, graphs, evaluator).query("numbering == @numbering").reset_index(drop=True)
    pd.testing.assert_frame_equal(regions.train(replace(REGION, numberings=(numbering,)), graphs, evaluator), whole)


def test_renumbered_graphs_are_those_that_are_trained(graphs, evaluator):
    renumbered = regions.renumbered(graphs)
    found = regions.train(replace(REGION, numberings=("relabelled",)), graphs, evaluator)
    jobs = [
        Job(Recipe(layer_masks(renumbered.masks()[row.mask], PROTOCOL.widths, (0, 1))), row.seed, PROTOCOL, "mnist-5k")
        for row in found.itertuples()
    ]
    assert found["key"].tolist() == [evaluator.key(job) for job in jobs]


def test_renumbered_graphs_are_the_same_graphs_with_the_same_properties(graphs):
    renumbered = regions.renumbered(graphs)
    assert (renumbered.masks() != graphs.masks()).any(axis=(1, 2)).all()
    for before, after in zip(graphs.masks(), renumbered.masks(), strict=True):
        assert nx.is_isomorphic(mask_to_graph(before), mask_to_graph(after))
    measured = properties.measure(renumbered.masks())
    np.testing.assert_allclose(renumbered.table[list(properties.ALL)], measured, rtol=1e-9)  # the table says what the masks are
    stay = [c for c in graphs.table.columns if c != "cycle_length"]
    pd.testing.assert_frame_equal(renumbered.table[stay], graphs.table[stay])


def test_candidates_carry_the_features_of_their_own_numbering(graphs, digits):
    found = regions.candidates(graphs, digits.train)
    assert list(found) == ["native", "relabelled"]
    for one, masks in ((found["native"], graphs.masks()), (found["relabelled"], regions.renumbered(graphs).masks())):
        np.testing.assert_array_equal(one.masks(), masks)
        np.testing.assert_array_equal(one.values(pixel_features.FEATURES), pixel_features.measure(masks, digits.train.images))
    assert (found["native"].values(pixel_features.FEATURES) != found["relabelled"].values(pixel_features.FEATURES)).all()


def test_regions_of_other_data_or_sparsity_have_other_names():
    others = [REGION, replace(REGION, dataset="mnist"), replace(REGION, sparsity=0.9)]
    assert len({r.name for r in others}) == 3


def of_region(accuracies, numbering="native"):
    """Made-up trainings of a region, (graphs, seeds)."""
    graphs, seeds = accuracies.shape
    rows = pd.DataFrame({"mask": np.repeat(np.arange(graphs), seeds), "seed": np.tile(np.arange(seeds), graphs)})
    rows = rows.assign(test_accuracy=accuracies.ravel(), validation_accuracy=accuracies.ravel(), numbering=numbering)
    return rows.assign(region="r", dataset="mnist-5k", sparsity=0.8)


def many(count=24):
    rng = np.random.default_rng(0)
    masks = np.array([np.triu(rng.random((12, 12)) < 0.5) for _ in range(count)])
    masks |= masks.transpose(0, 2, 1)
    table = properties.measure(masks).assign(mask_id=[str(i) for i in range(count)], sparsity=1 - masks.mean(axis=(1, 2)))
    return MaskDatabase(table, DatabaseSpec((0.5,), count, n=12), np.packbits(masks.reshape(count, -1), axis=1))


def test_a_search_finds_what_is_in_a_property_and_the_advantage_is_its_own(tmp_path):
    graphs = many(60)
    clustering = graphs.table["clustering"].to_numpy()
    signal = 0.95 + 0.02 * (clustering - clustering.mean())[:, None] / clustering.std() * np.ones(4)
    trainings = pd.concat([of_region(signal), of_region(signal[::-1], "relabelled")], ignore_index=True)
    settings = SearchSettings(n_initial=4, n_iterations=6)
    both = {"native": graphs, "relabelled": graphs}
    found = regions.search(trainings, both, {"properties": ["clustering"], "another": ["cycle_length"]}, settings, 12, tmp_path)
    assert set(found.method) == {"pool", "random"} and len(found) == 2 * 2 * 2 * 2 * 12
    gains = regions.advantages(found).set_index(["numbering", "searched"])
    assert len(gains) == 4
    best = gains.loc[("native", "properties")]
    assert best.low > 0 and best.advantage == gains.advantage.max(), "only there the property says what accuracy is"
    one = found.query("numbering == 'native' and searched == 'properties' and recommender == 'observed'").pivot(
        index="repeat", columns="method", values="regret"
    )
    assert best.advantage == pytest.approx((one["random"] - one["pool"]).mean())


def test_correlations_are_of_each_seed_and_leave_out_what_is_missing():
    graphs = many()
    graphs.table.loc[3, "path_length"] = np.nan
    y = np.random.default_rng(1).normal(0.9, 0.01, (24, 3))
    found = regions.correlations(of_region(y), {"native": graphs}, ["clustering", "path_length"]).set_index("column")
    there = graphs.table["path_length"].notna().to_numpy()
    for column, rows in (("clustering", np.ones(24, bool)), ("path_length", there)):
        expected = [stats.spearmanr(graphs.table[column][rows], y[rows, k])[0] for k in range(3)]
        assert found.loc[column, "mean"] == pytest.approx(np.mean(expected))
        assert found.loc[column, "n"] == 3


def test_agreement_is_the_rank_correlation_of_the_means():
    y = np.random.default_rng(2).normal(0.9, 0.01, (9, 2))
    found = regions.agreement(of_region(y), of_region(np.sqrt(y))).iloc[0]
    assert found.rho == pytest.approx(stats.spearmanr(y.mean(1), np.sqrt(y).mean(1))[0])
    assert (found.graphs, found.mean_calibrated) == (9, pytest.approx(y.mean()))
