"""How the benchmark's file is made, on a few masks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bogp import benchmark, datasets
from bogp.benchmark import data
from bogp.studies.mask_benchmark import drawn, shipped
from bogp.training.evaluation import Evaluator, Job, Recipe


@pytest.fixture
def few(home, monkeypatch):
    """Two small data sets in the place of the large ones, short trainings, eight masks."""
    small = datasets.load("mnist-5k")
    twins = [
        replace(small, name="mnist"),
        replace(
            small, name="fashion-mnist", train=replace(small.train, images=small.train.images[::-1])
        ),
    ]
    monkeypatch.setattr(drawn, "PROTOCOL", replace(drawn.PROTOCOL, steps=5))
    seen = {one.name: one.train.images for one in twins}
    where = drawn.places(seen)
    asked = [(0.9, "ws_flex", 0), (0.97, "placed", 0), (0.97, "placed", 1), (0.99, "exact", 2)]
    masks = [drawn.drawn(*one, where) for one in asked]
    evaluator = Evaluator(progress=False)
    evaluator._datasets |= {one.name: one for one in twins}
    return masks, seen, evaluator


def test_the_file_holds_what_was_drawn_and_trained(few, tmp_path):
    masks, seen, evaluator = few
    table = shipped.described(masks, seen).join(shipped.trained(masks, evaluator))
    shipped.write(table, tmp_path / "few.parquet", evaluator)
    read = benchmark.load(tmp_path / "few.parquet")
    assert read.ids == tuple(one.id for one in masks)
    for one in masks:
        first, hidden = read.graphs(one.id)
        np.testing.assert_array_equal(first, one.first)
        np.testing.assert_array_equal(hidden, one.hidden)
        for dataset in benchmark.data.DATASETS:
            jobs = [Job(Recipe(one.layers()), seed, drawn.PROTOCOL, dataset) for seed in range(3)]
            rows = evaluator.evaluate(jobs)
            for split in benchmark.data.SPLITS:
                want = rows[f"{split}_accuracy"].to_numpy()
                found = read.accuracy(one.id, dataset, split=split)
                np.testing.assert_allclose(found, want, atol=1e-7)
    record = json.loads((tmp_path / "few.json").read_text())
    assert record["evaluations"]["mnist"] == evaluator.settings("mnist")


def test_placed_masks_take_the_places_of_both_data_sets(few):
    masks, *_ = few
    names = [one.settings["places"] for one in masks if one.family == "placed"]
    assert names == ["mnist", "fashion-mnist"]
    assert all((one.first != one.hidden).any() for one in masks if one.family == "placed")


def test_a_mask_depends_on_its_labels_alone(few):
    masks, seen, _ = few
    where = drawn.places(seen)
    for one in masks:
        again = drawn.drawn(one.sparsity, one.family, one.number, where)
        assert again.settings == one.settings
        np.testing.assert_array_equal(again.first, one.first)


def test_the_file_and_the_protocol_are_of_one_network():
    assert drawn.PROTOCOL.widths == data.WIDTHS
    masks = benchmark.load()
    again = drawn.drawn(0.95, "ws_flex", 2, {})
    for found, want in zip(masks.layer_masks(again.id), again.layers(), strict=True):
        assert (found is None and want is None) or (found == want).all()


@pytest.mark.parametrize("sparsity", drawn.SPARSITIES)
def test_counts(sparsity):
    found = drawn.counts(sparsity)
    assert sum(found.values()) == drawn.EACH
    assert found["placed"] >= 2 * found["placed_renumbered"] - 1
