from dataclasses import replace

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from bogp import labelled, properties
from bogp.audit import crossed, nulls, regions
from bogp.audit.regions import Region
from bogp.database import DatabaseSpec, MaskDatabase, build
from bogp.evaluation import Job, Recipe
from bogp.protocols import Protocol
from bogp.relational import layer_masks, mask_to_graph

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
    same = nulls.train(graphs, "relabelled", 2, 2, PROTOCOL, "mnist-5k", evaluator).query("version == 0").reset_index(drop=True)
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
        np.testing.assert_array_equal(one.values(labelled.FEATURES), labelled.measure(masks, digits.train.images))
    assert (found["native"].values(labelled.FEATURES) != found["relabelled"].values(labelled.FEATURES)).all()


def test_regions_of_other_data_or_sparsity_have_other_names():
    others = [REGION, replace(REGION, dataset="mnist"), replace(REGION, sparsity=0.9)]
    assert len({r.name for r in others}) == 3
