"""Made-up data sets: each changes what it says, and nothing else."""

import numpy as np
import pytest

from bogp import datasets
from bogp.datasets import Dataset, Split
from bogp.errors import DatasetError, InvalidInput
from bogp.studies.places import variants


@pytest.fixture
def few(digits, monkeypatch):
    """Thirty digits of each part."""
    parts = [Split(p.images[:30], p.labels[:30]) for p in (digits.train, digits.validation)]
    small = Dataset("mnist-5k", *parts, Split(digits.test.images[:30], digits.test.labels[:30]))
    monkeypatch.setattr(variants, "load", lambda name: small)
    return small


def pictures(made):
    return made.dataset.train.images.reshape(-1, made.side, made.side).astype(float)


@pytest.mark.parametrize("change", variants.CHANGES)
def test_labels_and_sizes_stay(change, few):
    made = variants.make(f"mnist-5k+{change}")
    assert made.side == (56 if change == "finer" else 28)
    for part in ("train", "validation", "test"):
        found, old = getattr(made.dataset, part), getattr(few, part)
        np.testing.assert_array_equal(found.labels, old.labels)
        assert found.images.dtype == np.uint8 and found.images.shape == (30, made.side**2)
    assert made.dataset.name == f"mnist-5k+{change}"
    assert made.dataset.checksum != few.checksum


def test_what_each_change_does(few):
    old = few.train.images.reshape(-1, 28, 28).astype(float)
    framed = pictures(variants.make("mnist-5k+framed"))
    assert framed[:, :7].max() == framed[:, -7:].max() == framed[:, :, :7].max() == 0
    # a quarter of the area: a quarter of the ink
    assert framed.sum() / old.sum() == pytest.approx(0.25, rel=0.02)
    cut = pictures(variants.make("mnist-5k+cut"))
    assert cut.mean() == pytest.approx(old[:, 4:-4, 4:-4].mean(), rel=0.02)
    coarser = pictures(variants.make("mnist-5k+coarser"))
    np.testing.assert_array_equal(coarser[:, ::2, ::2], coarser[:, 1::2, 1::2])
    np.testing.assert_allclose(
        coarser[:, ::2, ::2], old.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)), atol=0.51
    )
    finer = pictures(variants.make("mnist-5k+finer"))
    assert finer.mean() == pytest.approx(old.mean(), rel=0.02)

    def roughness(some):
        return np.abs(np.diff(some, axis=2)).sum() / some.sum()

    blurred, sharpened = (
        pictures(variants.make(f"mnist-5k+{c}")) for c in ("blurred", "sharpened")
    )
    assert roughness(blurred) < 0.6 * roughness(old) < roughness(sharpened)
    edges = pictures(variants.make("mnist-5k+edges"))
    flat = np.abs(old - 255).max(axis=(1, 2)) >= 0  # all pictures
    assert edges[flat][:, 0, 0].max() == 0


def test_shuffled_pixels_keep_their_values(few):
    made = variants.make("mnist-5k+shuffled")
    assert made.side == 0
    np.testing.assert_array_equal(
        np.sort(made.dataset.test.images, axis=1), np.sort(few.test.images, axis=1)
    )
    # one order for all parts
    order = np.random.default_rng(0).permutation(784)
    np.testing.assert_array_equal(made.dataset.train.images, few.train.images[:, order])


def test_the_data_set_itself_is_what_is_loaded(few):
    made = variants.make("mnist-5k")
    assert (made.dataset, made.side, made.planes) == (few, 28, 1)


def test_what_there_is_not_is_refused(few, monkeypatch):
    with pytest.raises(InvalidInput, match="framed"):
        variants.make("mnist-5k+upside-down")
    monkeypatch.setattr(variants, "load", datasets.load)
    with pytest.raises(DatasetError, match="nothing"):
        variants.make("nothing")
