"""The benchmark's file against what it says of itself: its masks against networkx and expansion,
its labels against the generators, its numbers against the table.
"""

import json
import re
import shutil
from pathlib import Path

import nbformat
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bogp import benchmark, datasets
from bogp.benchmark import data
from bogp.errors import DatasetError, InvalidInput
from bogp.graphs import bipartite, properties
from bogp.graphs.relational import expand
from bogp.studies.mask_benchmark import drawn


@pytest.fixture(scope="module")
def masks():
    return benchmark.load()


def test_its_size(masks):
    assert len(masks) == len(set(masks.ids)) >= 4_000
    assert masks.sparsities == drawn.SPARSITIES
    assert masks.accuracies.shape == (len(masks), 2, 3, 3)
    assert data.FILE.stat().st_size < 8_000_000
    counted = masks.table.groupby(["sparsity", "family"], sort=False).size()
    for sparsity in drawn.SPARSITIES:
        assert counted[sparsity].to_dict() == drawn.counts(sparsity)


def test_accuracies_are_shares_of_the_images(masks):
    assert np.isfinite(masks.accuracies).all()
    for split, images in {"validation": 10_000, "test": 10_000}.items():
        right = masks.accuracies[..., data.SPLITS.index(split)].astype(np.float64) * images
        np.testing.assert_allclose(right, right.round(), atol=2e-3)
    assert (masks.accuracies >= 0).all() and (masks.accuracies <= 1).all()


def test_seeds_data_sets_and_splits_are_told_apart(masks):
    name = masks.ids[17]
    row = masks.accuracies[17]
    for d, dataset in enumerate(data.DATASETS):
        for s, split in enumerate(data.SPLITS):
            found = masks.accuracy(name, dataset, split=split)
            np.testing.assert_allclose(found, row[d, :, s], atol=1e-6)
            assert masks.accuracy(name, dataset, 1, split) == found[1]
    # data sets differ in difficulty, and trainings of one mask from each other
    means = masks.accuracies.mean(axis=(0, 2))
    assert means[0, 2] > means[1, 2]
    assert (masks.accuracies[:, :, 0] != masks.accuracies[:, :, 1]).mean() > 0.9


def test_masks_are_what_the_table_says(masks):
    rng = np.random.default_rng(0)
    for row in rng.choice(len(masks), 40, replace=False):
        name = masks.ids[row]
        first, hidden = masks.graphs(name)
        known = masks.describe(name)
        layers = masks.layer_masks(name)
        assert layers[2] is None
        np.testing.assert_array_equal(layers[0], expand(first, 784, 128))
        np.testing.assert_array_equal(layers[1], expand(hidden, 128, 128))
        assert known["weights"] == layers[0].sum() + layers[1].sum()
        assert (first == first.T).all() and (hidden == hidden.T).all()
        for prefix, graph in (("first", first), ("hidden", hidden)):
            for measured in (properties.measure(graph), bipartite.measure(graph)):
                for column, value in measured.iloc[0].items():
                    own = known[f"{prefix}_{column}"]
                    assert own == pytest.approx(value, rel=1e-6, nan_ok=True), column
        plain = nx.from_numpy_array(hidden & ~np.eye(128, dtype=bool))
        assert known["hidden_clustering"] == pytest.approx(nx.average_clustering(plain), abs=1e-6)


def test_sparsity_is_as_asked(masks):
    table = masks.table
    left = table["weights"] / (784 * 128 + 128 * 128)
    placed = table["family"].str.startswith("placed")
    asked = 1 - table["sparsity"]
    # placed graphs are exact to a few weights
    assert (abs(left - asked)[placed] < 1e-4).all()
    others = ~placed & (table["family"] != "bernoulli")
    assert (abs(left / asked - 1)[others] < 0.1).all()


@pytest.mark.parametrize("family", [name for name in drawn.FAMILIES if "placed" not in name])
def test_masks_are_drawn_again_from_their_labels(masks, family):
    for sparsity in drawn.SPARSITIES:
        if family in drawn.counts(sparsity):
            again = drawn.drawn(sparsity, family, 3, {})
            first, hidden = masks.graphs(again.id)
            np.testing.assert_array_equal(first, again.first)
            np.testing.assert_array_equal(hidden, again.first)
            assert masks.describe(again.id)["settings"] == dict(again.settings)


def test_renumbered_places_say_nothing_of_the_image(masks):
    """The same generator with and without the image's places: first layers of placed masks read
    what varies, those of renumbered ones do not.
    """
    table = masks.table[masks.table["sparsity"] == 0.95]
    lit = table.groupby("family")["pixels_lit_share_mnist"].mean()
    assert lit["placed"] > 1.2
    assert lit["placed_renumbered"] == pytest.approx(1.0, abs=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_packing_loses_nothing(seed, density):
    upper = np.triu(np.random.default_rng(seed).random((128, 128)) < density)
    graph = upper | upper.T
    np.testing.assert_array_equal(data.unpacked(data.packed(graph)), graph)


def test_a_pool_observes_one_training_and_is_judged_by_the_others(masks):
    pool = masks.pool(0.97, "fashion-mnist", seed=1)
    row = masks.ids.index(pool.ids[5])
    assert pool.observed[5] == pytest.approx(float(masks.accuracies[row, 1, 1, 1]))
    assert pool.judged[5] == pytest.approx(masks.accuracies[row, 1, [0, 2], 2].mean(), abs=1e-7)
    assert len(pool) == 800
    assert pool.columns == masks.columns
    chosen = masks.pool(0.97, "mnist", columns=["weights", "first_clustering"])
    assert chosen.values.shape == (800, 2)
    assert len(masks.pool(np.float32(0.97), "mnist")) == 800
    with pytest.raises(ValueError, match="read-only"):
        pool.judged[0] = 1.0


def test_a_regression_has_a_fixed_split(masks):
    task = masks.regression(0.9, "mnist")
    assert sorted([*task.train, *task.test]) == list(range(800))
    salience = np.array([masks.describe(i)["settings"].get("places", "") for i in task.ids])
    for family in np.unique(task.groups):
        own = set(np.flatnonzero(task.groups == family))
        assert abs(len(own & set(task.test)) - len(own) / 4) <= 2
        for name in {*salience[list(own)]}:
            of = own & set(np.flatnonzero(salience == name))
            assert abs(len(of & set(task.test)) - len(of) / 4) <= 2, "both saliences are in both"
    row = masks.ids.index(task.ids[7])
    assert task.y[7] == pytest.approx(masks.accuracies[row, 0, :, 2].mean(), abs=1e-7)
    every = masks.regression(None, "mnist", ["weights"])
    assert every.X.shape == (len(masks), 1)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda m: m.accuracy("nothing", "mnist"), "no mask 'nothing'"),
        (lambda m: m.accuracy(3, "mnist"), "no mask 3"),
        (lambda m: m.accuracy(m.ids[0], "cifar"), "mnist, fashion-mnist"),
        (lambda m: m.accuracy(m.ids[0], "mnist", 3), "seed"),
        (lambda m: m.accuracy(m.ids[0], "mnist", 0, "all"), "train, validation, test"),
        (lambda m: m.pool(0.5, "mnist"), "0.75, 0.9, 0.95, 0.97, 0.99"),
        (lambda m: m.pool("all", "mnist"), "sparsity"),
        (lambda m: m.pool(0.9, "mnist", columns=["first"]), "each once"),
        (lambda m: m.pool(0.9, "mnist", columns=[]), "each once"),
        (lambda m: m.pool(0.9, "mnist", columns=["weights", "weights"]), "each once"),
        (lambda m: m.regression(0.9, "mnist", ["accuracy"]), "each once"),
        (lambda m: m.graphs("x"), "ids"),
    ],
)
def test_what_it_has_not_is_refused(masks, ask, says):
    with pytest.raises(InvalidInput, match=says):
        ask(masks)


def test_a_damaged_file_is_refused(tmp_path):
    copy = tmp_path / data.FILE.name
    shutil.copy(data.FILE, copy)
    with pytest.raises(DatasetError, match="cannot be read"):
        benchmark.load(copy)  # its record is missing
    shutil.copy(data.FILE.with_suffix(".json"), copy.with_suffix(".json"))
    assert len(benchmark.load(copy)) >= 4_000
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(bytes(content))
    with pytest.raises(DatasetError, match="damaged or another"):
        benchmark.load(copy)


def test_the_record_says_how_it_was_made(masks):
    record = json.loads(data.FILE.with_suffix(".json").read_text())
    assert record["protocol"]["id"] == drawn.PROTOCOL.id
    assert record["masks"] == len(masks)
    assert record == masks.record


@pytest.mark.full
def test_a_training_gives_the_same_again(masks, tmp_path):
    from bogp.training.evaluation import Evaluator, Job, Recipe

    try:
        datasets.load("mnist")
    except DatasetError:
        pytest.skip("needs full MNIST")
    evaluator = Evaluator(tmp_path / "store.sqlite", progress=False)
    if evaluator.settings("mnist") != masks.record["evaluations"]["mnist"]:
        pytest.skip("other versions of the libraries than those that trained it")
    names = ["0.97-ws_flex-001", "0.99-placed-002"]
    jobs = [Job(Recipe(masks.layer_masks(n)), 1, drawn.PROTOCOL, "mnist") for n in names]
    found = evaluator.evaluate(jobs)["test_accuracy"]
    want = [masks.accuracy(name, "mnist", 1) for name in names]
    np.testing.assert_allclose(found, want, atol=1e-7)


def test_the_examples_of_the_page_and_the_notebook_run():
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "benchmark.md").read_text()
    cells = nbformat.read(root / "notebooks" / "17_mask_benchmark.ipynb", as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for text in (page, prose):
        code = re.search(r"```python\n(.*?)```", text, re.S)[1]
        exec(compile(code, "example", "exec"), {})
