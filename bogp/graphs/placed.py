"""Placed graphs: random graphs whose nodes have a place among the inputs, so that a unit reads what
lies near it and what varies.

In the layer that reads the data, a mask says which inputs a unit sees, and inputs differ: pixels
have places, and some never change. A *placed* graph gives node i the place and the salience (the
variance) of the input channels that it holds, and draws edges without replacement with weights

    exp(-d_ij^2 / 2 sigma^2) (v_i v_j)^beta exp(h_i + h_j),   h_i ~ N(0, gamma^2)

(Gumbel top-k: the k largest of log weight plus Gumbel noise are such a draw; Vieira 2014, Kool et
al. 2019). Two graphs make a mask, one over the layer that reads the data and one over the layers
behind it; six numbers describe their family (``PlacedSettings``), and the sparsity of all those
layers together is exact. Nothing here is trained, and no label is seen.

Places come from pixel positions (``pixel_places``) or from the data alone (``learned_places``).
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from bogp.checks import floats, number, refuse, share, whole
from bogp.errors import UnreachableSparsity
from bogp.graphs.relational import (
    LayerMasks,
    Mask,
    check_layer_masks,
    node_of_channel,
    weight_shapes,
)

# What a node without any variance counts as, beside a mean of 1: its edges are drawn last.
_LEAST_SALIENCE = 1e-6


@dataclass(frozen=True)
class Places:
    """What the nodes of a placed graph hold, and where.

    Attributes:
        node_of_channel: (d_in,) the node that holds each input channel, from 0 to n - 1.
        position: (n, k) coordinates of the nodes, the mean over their channels.
        salience: (n,) mean variance of a node's channels over that of all channels.
        distance: (n, n) between the nodes; 1 is the median distance of a node to its nearest.
    """

    node_of_channel: NDArray[np.intp]
    position: NDArray[np.float64]
    salience: NDArray[np.float64]
    distance: NDArray[np.float64]

    @property
    def nodes(self) -> int:
        """Their number, n."""
        return len(self.salience)

    @property
    def channels(self) -> NDArray[np.int64]:
        """(n,) how many channels each node holds."""
        return np.bincount(self.node_of_channel, minlength=self.nodes)


@dataclass(frozen=True)
class PlacedSettings:
    """The six numbers of a family of placed graphs.

    Attributes:
        first_locality: sigma in the layer that reads the data, in nodes' distances; ``inf`` for no
            locality.
        hidden_locality: the same for the layers behind it.
        salience: beta, how much edges prefer nodes that vary; 0 is not at all.
        spread: gamma, how much degrees differ for no reason.
        loops: share of nodes that feed themselves, in [0, 1].
        hidden_ratio: density of the layers behind the first over that of the first.
    """

    first_locality: float = 2.0
    hidden_locality: float = 2.0
    salience: float = 1.0
    spread: float = 0.0
    loops: float = 1.0
    hidden_ratio: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            given = number(f"A placed graph's {name}", value)
            object.__setattr__(self, name, given)
            positive = name in ("first_locality", "hidden_locality", "hidden_ratio")
            finite = np.isfinite(given) or (given == np.inf and name.endswith("locality"))
            refuse(
                not finite or given < 0 or (positive and given == 0),
                f"A placed graph's {name} is {value}; it must be "
                f"{'positive' if positive else 'zero or more'}"
                f"{'' if name.endswith('locality') else ' and finite'}.",
            )
        refuse(
            self.loops > 1,
            f"A placed graph's loops is {self.loops}; it is a share of the nodes, at most 1.",
        )


def pixel_places(
    images: ArrayLike, side: int, nodes: int, *, planes: int = 1, patches: bool = False
) -> Places:
    """Places from the positions of pixels.

    Args:
        images: (M, planes * side * side), those that networks are trained on, plane after plane.
        side: of an image, in pixels.
        nodes: of the graph, n.
        planes: of colours; the planes share places.
        patches: give a node pixels that lie together; else a run of pixels in the order of the
            rows, as ``relational.expand`` does, which keeps a placed graph a relational one.

    Raises:
        InvalidInput: the images do not fit side and planes, do not vary, or have less channels than
            there are nodes.
    """
    data = _data(images, nodes)
    whole("side", side, 1)
    refuse(
        data.shape[1] != whole("planes", planes, 1) * side * side,
        f"Images of side {side} with {planes} planes have {planes * side * side} channels; "
        f"these have {data.shape[1]}.",
    )
    at = np.stack(np.divmod(np.arange(data.shape[1]) % (side * side), side), axis=1)
    holds = node_of_channel(data.shape[1], nodes)
    if patches:
        holds = _grouped(at.astype(float), np.bincount(holds))
    return _places(holds, at.astype(float), data.var(axis=0))


def learned_places(
    data: ArrayLike, nodes: int, *, dimensions: int = 2, neighbours: int = 8, samples: int = 10_000
) -> Places:
    """Places from data alone, where nothing is known of how channels lie to each other.

    Channels that vary together lie together: the distance of two is 1 - |r|, r their correlation
    over the samples. Isomap (Tenenbaum et al. 2000) lays them out: paths along nearest neighbours,
    then coordinates that keep their lengths. A node holds channels that lie together. Channels that
    never vary are held by nodes of their own, as far as that goes.

    Args:
        data: (M, d_in) samples, those that networks are trained on.
        nodes: of the graph, n.
        dimensions: of the layout.
        neighbours: of a channel, along which paths run.
        samples: of the data that are used, the first.

    Raises:
        InvalidInput: the data do not vary, are not finite, or have less channels than there are
            nodes.
    """
    from sklearn.manifold import Isomap

    used = _data(data, nodes)[: whole("samples", samples, 2)].astype(np.float64)
    variance = used.var(axis=0)
    varies = np.flatnonzero(variance > 0)
    refuse(
        len(varies) < 3,
        f"Only {len(varies)} channels vary in the data; places need at least 3.",
    )
    near = min(whole("neighbours", neighbours, 1), len(varies) - 1)
    layout = Isomap(
        n_neighbors=near,
        n_components=whole("dimensions", dimensions, 1),
        metric="precomputed",
        eigen_solver="dense",  # others start at a random vector, which nothing here can fix
    )
    at = np.zeros((used.shape[1], dimensions))
    # one thread: the same bits on any number of cores
    with threadpool_limits(1), warnings.catch_warnings():
        away = 1.0 - np.abs(np.corrcoef(used[:, varies], rowvar=False))
        np.fill_diagonal(away, 0.0)
        # parts that no path joins are joined by their nearest members
        warnings.filterwarnings("ignore", message="The number of connected components")
        warnings.filterwarnings("ignore", message="Changing the sparsity structure")
        at[varies] = layout.fit_transform(np.clip(away, 0.0, None))
    order = np.concatenate([varies, np.flatnonzero(variance == 0)])
    sizes = _sizes(used.shape[1], nodes)
    alive = int(np.searchsorted(np.cumsum(sizes), len(varies))) + 1  # nodes that hold any of them
    holds = np.empty(used.shape[1], dtype=np.intp)
    living = order[: int(sizes[:alive].sum())]
    at[living[len(varies) :]] = at[varies].mean(axis=0)
    holds[living] = _grouped(at[living], sizes[:alive])
    holds[order[len(living) :]] = np.repeat(np.arange(alive, nodes), sizes[alive:])
    return _places(holds, at, variance)


def renumbered(places: Places, rng: np.random.Generator) -> Places:
    """The null of all that places say: each node gets another node's place and salience, and keeps
    the channels that it holds.
    """
    order = rng.permutation(places.nodes)
    return _moved(places, order, order)


def with_other_places(places: Places, rng: np.random.Generator) -> Places:
    """Each node keeps its salience and gets another node's place."""
    return _moved(places, rng.permutation(places.nodes), np.arange(places.nodes))


def with_other_salience(places: Places, rng: np.random.Generator) -> Places:
    """Each node keeps its place and gets another node's salience."""
    return _moved(places, np.arange(places.nodes), rng.permutation(places.nodes))


def _moved(places: Places, place: NDArray[np.intp], salience: NDArray[np.intp]) -> Places:
    return replace(
        places,
        position=places.position[place],
        distance=places.distance[np.ix_(place, place)],
        salience=places.salience[salience],
    )


def stretched(places: Places, factor: float, angle: float = 0.0) -> Places:
    """The places with distances along one direction counted shorter: neighbourhoods are long in it.

    Args:
        places: with two coordinates (rows, columns).
        factor: by which that direction counts shorter, positive.
        angle: of the direction, from the rows' axis, in radians.
    """
    refuse(
        not 0 < number("factor", factor) < np.inf or places.position.shape[1] != 2,
        f"factor is {factor} and places have {places.position.shape[1]} coordinates; a positive "
        "factor and two coordinates are needed.",
    )
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    seen = np.column_stack([places.position @ along / factor, places.position @ across])
    return replace(places, distance=_in_node_distances(cdist(seen, seen)))


def mirrored(places: Places) -> Places:
    """The places with left and right folded together: a node is near its own mirror image too."""
    flip = places.position.copy()
    flip[:, -1] = flip[:, -1].min() + flip[:, -1].max() - flip[:, -1]
    folded = np.minimum(cdist(places.position, places.position), cdist(places.position, flip))
    unit = np.median(_nearest(cdist(places.position, places.position)))
    return replace(places, distance=(folded + folded.T) / 2 / unit)


def draw(
    settings: PlacedSettings,
    places: Places,
    sparsity: float,
    widths: Sequence[int],
    layers: Sequence[int],
    rng: np.random.Generator,
    *,
    symmetric: bool = True,
) -> LayerMasks:
    """One placed mask over a network.

    Args:
        settings: the family.
        places: what the nodes hold; the first width is their number of channels.
        sparsity: share of the weights of all masked layers together that goes, in (0, 1).
        widths: layer widths from input to output; hidden layers have at least n units.
        layers: that are masked; layer 0 reads the data. All masked layers behind it share a graph.
        rng: source of randomness.
        symmetric: draw undirected edges; else each entry of the two matrices on its own.

    Returns:
        One mask a layer, (d_out, d_in), None where the layer stays dense. The number of ones is
        ``round((1 - sparsity) weights)`` exactly where hidden layers have n units and one of them
        is masked, else as near as whole edges allow.

    Raises:
        InvalidInput: widths that do not fit the places, or a sparsity out of range.
        UnreachableSparsity: no weight would stay.

    Example:
        >>> from bogp import datasets
        >>> from bogp.training.protocols import CALIBRATED
        >>> images = datasets.load("mnist-5k").train.images
        >>> places = pixel_places(images, side=28, nodes=128)
        >>> rng = np.random.default_rng(0)
        >>> masks = draw(PlacedSettings(), places, 0.97, CALIBRATED.widths, (0, 1), rng)
        >>> round(1 - sum(m.sum() for m in masks[:2]) / (784 * 128 + 128 * 128), 4)
        0.97
    """
    first, hidden = graphs(settings, places, sparsity, widths, layers, rng, symmetric=symmetric)
    return lay(first, hidden, places, widths, layers)


def graphs(
    settings: PlacedSettings,
    places: Places,
    sparsity: float,
    widths: Sequence[int],
    layers: Sequence[int],
    rng: np.random.Generator,
    *,
    symmetric: bool = True,
) -> tuple[Mask, Mask]:
    """The two (n, n) graphs of a placed mask, over the first layer and over those behind it.

    Arguments and errors are those of ``draw``; the graph of layers that are not masked is empty.
    """
    _check_fit(places, widths)
    shapes = [weight_shapes(widths)[layer] for layer in layers]
    total = round((1.0 - share("Sparsity", sparsity)) * sum(a * b for a, b in shapes))
    refuse(
        total == 0,
        f"At sparsity {sparsity:g} none of {sum(a * b for a, b in shapes):,} weights would stay.",
        UnreachableSparsity,
    )
    n, behind = places.nodes, [layer for layer in layers if layer > 0]
    empty = np.zeros((n, n), dtype=bool)
    # weights behind an entry (i, j): the units of node i times what node j holds of the layer below
    blocks = {
        layer: np.outer(
            _sizes(widths[layer + 1], n),
            places.channels if layer == 0 else _sizes(widths[layer], n),
        )
        for layer in layers
    }
    later = sum((blocks[layer] for layer in behind), np.zeros((n, n), dtype=np.int64))
    first_size = int(blocks[0].sum()) if 0 in blocks else 0
    ratio, later_size = settings.hidden_ratio, int(later.sum())
    density = total / (first_size + ratio * later_size)
    # the graph behind the first makes up for what its whole edges leave
    most = later_size - 2 * int(max(blocks[0].max(), later.max())) if 0 in blocks else later_size
    wanted = total - min(round(ratio * density * later_size), most)
    salience = _log_weights(settings, places, rng)
    first = hidden = empty
    if 0 in blocks:
        first = _drawn(
            salience,
            places.distance / settings.first_locality,
            blocks[0],
            wanted if behind else total,
            settings.loops,
            symmetric,
            rng,
        )
    if behind:
        left = total - int(blocks[0][first].sum()) if 0 in blocks else total
        hidden = _drawn(
            salience,
            places.distance / settings.hidden_locality,
            later,
            left,
            settings.loops,
            symmetric,
            rng,
        )
    return first, hidden


def lay(
    first: Mask, hidden: Mask, places: Places, widths: Sequence[int], layers: Sequence[int]
) -> LayerMasks:
    """Two (n, n) graphs over the layers of a network: ``first`` over layer 0, whose channels are
    those of the places, ``hidden`` over the other masked layers. What is not masked stays dense.
    """
    _check_fit(places, widths)
    unit = [node_of_channel(width, places.nodes) for width in widths[1:-1]]
    masks: list[Mask | None] = [None] * (len(widths) - 1)
    for layer in layers:
        below = places.node_of_channel if layer == 0 else unit[layer - 1]
        masks[layer] = (first if layer == 0 else hidden)[np.ix_(unit[layer], below)]
    check_layer_masks(tuple(masks), widths)
    return tuple(masks)


def family(
    n: int,
    sparsity: float,
    rng: np.random.Generator,
    *,
    places: Places,
    locality: float = 2.0,
    salience: float = 1.0,
    spread: float = 0.0,
    loops: float = 1.0,
) -> Mask:
    """One placed graph as a relational graph, for ``database.build`` (see ``families``): a mask of
    n nodes that lies over every masked layer alike.

    Args:
        n, sparsity, rng: as in ``families.bernoulli``; n is the number of places.
        places: of the nodes.
        locality, salience, spread, loops: see ``PlacedSettings``.

    Returns:
        (n, n) mask with ``round((1 - sparsity) n^2)`` ones.

    Raises:
        InvalidInput: n is not the number of places, or a number is out of range.
        UnreachableSparsity: no edge would stay.
    """
    refuse(n != places.nodes, f"n is {n}, and there are {places.nodes} places.")
    settings = PlacedSettings(locality, locality, salience, spread, loops)
    weight = _log_weights(settings, places, rng)
    ones = round((1.0 - share("Sparsity", sparsity)) * n * n)
    refuse(ones == 0, f"At sparsity {sparsity:g} no edge would stay.", UnreachableSparsity)
    entries = np.ones((n, n), dtype=np.int64)
    return _drawn(weight, places.distance / locality, entries, ones, settings.loops, True, rng)


def _log_weights(
    settings: PlacedSettings, places: Places, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n,) each node's part in the logarithm of an edge's weight: salience, and what is random."""
    n = places.nodes
    heights = rng.normal(0.0, settings.spread, n) if settings.spread else np.zeros(n)
    return settings.salience * np.log(np.maximum(places.salience, _LEAST_SALIENCE)) + heights


def _drawn(
    salience: NDArray[np.float64],
    distance: NDArray[np.float64],
    blocks: NDArray[np.int64],
    wanted: int,
    loops: float,
    symmetric: bool,
    rng: np.random.Generator,
) -> Mask:
    """A graph whose blocks hold ``wanted`` weights, or less by no more than an edge's.

    Args:
        salience: (n,) logarithm of a node's part in an edge's weight.
        distance: (n, n) in units of the locality.
        blocks: (n, n) weights that an entry stands for.
        wanted: weights.
        loops: share of the nodes with a self-loop.
        symmetric: draw pairs, else entries.
        rng: source of randomness.
    """
    n = len(salience)
    keys = salience[:, None] + salience - distance**2 / 2 + rng.gumbel(size=(n, n))
    own = np.argsort(-np.diag(keys), kind="stable")  # loops have a lottery of their own
    loop_weights = np.cumsum(np.diag(blocks)[own])
    pairs = np.triu_indices(n, 1) if symmetric else np.nonzero(~np.eye(n, dtype=bool))
    weight = blocks[pairs] + (blocks[pairs[::-1]] if symmetric else 0)
    order = np.argsort(-keys[pairs], kind="stable")
    edge_weights = np.concatenate([[0], np.cumsum(weight[order])])

    def edges_beside(count: int) -> tuple[int, int]:
        """How many edges fit beside so many loops, and how many weights are then missing."""
        left = wanted - (int(loop_weights[count - 1]) if count else 0)
        edges = int(np.searchsorted(edge_weights, left, side="right")) - 1
        return edges, left - int(edge_weights[edges])

    count = min(round(loops * n), int(np.searchsorted(loop_weights, wanted, side="right")))
    # an odd number left over goes to a loop more or less; where edges run out, to loops
    missing = edges_beside(count)[1]
    if missing and symmetric and weight.max() == 2 and edge_weights[-1] > 2:
        count += 1 if count < n else -1
    while edges_beside(count)[1] >= np.diag(blocks).max() and count < n:
        count += 1
    at = order[: edges_beside(count)[0]]
    mask = np.zeros((n, n), dtype=bool)
    mask[own[:count], own[:count]] = True
    mask[pairs[0][at], pairs[1][at]] = True
    return mask | mask.T if symmetric else mask


def _check_fit(places: Places, widths: Sequence[int]) -> None:
    refuse(
        len(places.node_of_channel) != widths[0] or min(widths[1:-1]) < places.nodes,
        f"The places are of {len(places.node_of_channel)} channels in {places.nodes} nodes; a "
        f"network of widths {tuple(widths)} does not fit them: its input width must be the number "
        "of channels, and each hidden layer needs a unit a node.",
    )


def _data(values: ArrayLike, nodes: int) -> NDArray[np.float64]:
    data = np.asarray(values)
    refuse(
        data.ndim != 2 or len(data) == 0 or data.shape[1] < whole("nodes", nodes, 2),
        f"Data of shape {data.shape} cannot be placed on {nodes} nodes: (samples, channels) with "
        "at least one channel a node is needed.",
    )
    floats("data", data[:1])  # refuses what is no number
    refuse(
        np.issubdtype(data.dtype, np.floating) and not np.isfinite(data).all(),
        "The data hold NaN or infinite values; fill them in or leave those samples out.",
    )
    refuse(
        not (data != data[0]).any(),
        "No channel varies between the samples, so none carries anything; give the data that "
        "networks are trained on.",
    )
    return data


def _sizes(width: int, nodes: int) -> NDArray[np.int64]:
    """(nodes,) how many channels of a layer each holds."""
    return np.bincount(node_of_channel(width, nodes), minlength=nodes)


def _grouped(position: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.intp]:
    """Channels into groups of given sizes that lie together: halved along the longer side, again
    and again (a balanced k-d tree; Bentley 1975). Returns the group of each channel.
    """
    group = np.empty(len(position), dtype=np.intp)

    def split(members: NDArray[np.intp], first: int, last: int) -> None:
        if last - first == 1:
            group[members] = first
            return
        axis = int(np.argmax(np.ptp(position[members], axis=0)))
        middle = (first + last) // 2
        order = members[np.argsort(position[members, axis], kind="stable")]
        cut = int(sizes[first:middle].sum())
        split(order[:cut], first, middle)
        split(order[cut:], middle, last)

    split(np.arange(len(position)), 0, len(sizes))
    return group


def _places(
    holds: NDArray[np.intp], at: NDArray[np.float64], variance: NDArray[np.float64]
) -> Places:
    n = int(holds.max()) + 1
    count = np.bincount(holds, minlength=n)
    summed = [np.bincount(holds, weights=axis, minlength=n) for axis in at.T]
    position = np.stack(summed, axis=1) / count[:, None]
    salience = np.bincount(holds, weights=variance, minlength=n) / count / variance.mean()
    distance = _in_node_distances(cdist(position, position))
    return Places(holds, position, salience, distance)


def _in_node_distances(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    unit = np.median(_nearest(distance))
    return distance / (unit if unit > 0 else 1.0)


def _nearest(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each node to the nearest that lies elsewhere."""
    return np.where(distance > 1e-12, distance, np.inf).min(axis=1)
