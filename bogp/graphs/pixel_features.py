"""Features of a graph whose nodes hold pixels: how a mask that lies over the input layer reads the
image.

In scope ``all`` node i holds the pixels that ``relational.expand`` gives it: a run of neighbouring
ones, in the order of the rows of the image. The unit (or the units) of node i reads the pixels of
the nodes that i is joined to, its own where it has a self-loop. Two graphs that differ only in how
their nodes
are numbered read different pixels, so these features are no graph properties: a search that finds
better masks by them finds pixels.

``lit_share``
    variance of the pixel at the end of a connection of the input layer, over that of a pixel: 1
    where connections ignore which pixels are ever lit, above it where they prefer those. (The mean
    share of the images' variance that a unit reads is this times the layer's density, so at one
    sparsity it says the same.)
``image_distance``
    distance in the image, in pixels, between the centres of two joined nodes' pixels, averaged over
    the edges without self-loops
``field_spread``
    root mean square distance of the centres that a unit reads from their centroid, in pixels,
    averaged over the nodes that read any

A node's centre is the mean position of its pixels; a run that goes on in the next row of the image
has its centre between its two ends.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from bogp.checks import refuse
from bogp.graphs.database import MaskDatabase
from bogp.graphs.relational import Mask, as_masks, expand

FEATURES = ("lit_share", "image_distance", "field_spread")


def measure(masks: ArrayLike, images: NDArray[np.uint8], side: int = 28) -> pd.DataFrame:
    """Measure the features of every mask.

    Args:
        masks: (n, n) or (N, n, n), symmetric, of zeros and ones; n at most the number of pixels.
        images: (M, side * side), those that networks are trained on.
        side: of an image, in pixels.

    Returns:
        A table of N rows with the columns ``FEATURES``, float64. All are NaN for a mask without
        ones, ``image_distance`` for one without edges.

    Raises:
        InvalidInput: the masks are no masks (see ``relational.as_masks``) or have more nodes than
            there are pixels; the images have another shape, or are all alike.
    """
    checked = as_masks(masks)
    pixels = _pixels(images, side, checked.shape[-1])
    return pd.DataFrame([_features(mask, pixels) for mask in checked], columns=list(FEATURES))


def with_features(
    database: MaskDatabase, images: NDArray[np.uint8], side: int = 28
) -> MaskDatabase:
    """The database with these features as further columns of its table, so that they can be
    searched as properties are.

    Args:
        database: the masks.
        images, side: as in ``measure``, which also says what is refused.
    """
    return database.with_columns(measure(database.masks(), images, side))


@dataclass(frozen=True)
class _Pixels:
    """What the nodes hold: number of pixels (n,), their variances summed (n,), and the distances
    between the nodes' centres (n, n).
    """

    count: NDArray[np.int64]
    variance: NDArray[np.float64]
    distance: NDArray[np.float64]


def _pixels(images: NDArray[np.uint8], side: int, n: int) -> _Pixels:
    refuse(
        np.ndim(images) != 2 or images.shape[1] != side * side or len(images) == 0,
        f"Images of side {side} are an array of shape (images, {side * side}), at least "
        f"one; this has shape {np.shape(images)}.",
    )
    # one after another: a copy of all in float64 would be large
    variance = np.array([pixel.var(dtype=np.float64) for pixel in images.T])
    refuse(
        not variance.any(),
        "No pixel differs between the images, so none carries anything; give the images "
        "that networks are trained on.",
    )
    holds = expand(np.eye(n, dtype=bool), side * side, n)  # (n, pixels)
    count = holds.sum(axis=1)
    rows, columns = np.divmod(np.arange(side * side), side)
    centre = holds @ np.column_stack([rows, columns]) / count[:, None]
    return _Pixels(count, holds @ variance, cdist(centre, centre))


def _features(mask: Mask, pixels: _Pixels) -> tuple[float, float, float]:
    """The features of one mask, in the order of ``FEATURES``."""
    reads = mask.sum(axis=1)  # nodes that each node reads, and by symmetry nodes that read it
    if not reads.any():
        return np.nan, np.nan, np.nan
    per_connection = (reads @ pixels.variance) / (reads @ pixels.count)
    edges = np.triu(mask, 1)
    # The squared distances between all pairs of k points add up to 2 k^2 times the mean square
    # distance from their centroid.
    between = ((mask @ pixels.distance**2) * mask).sum(axis=1)[reads > 0]
    return (
        per_connection / (pixels.variance.sum() / pixels.count.sum()),
        pixels.distance[edges].mean() if edges.any() else np.nan,
        np.sqrt(between / (2 * reads[reads > 0] ** 2)).mean(),
    )
