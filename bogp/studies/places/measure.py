"""Notebook 09, measured: searches of the generator, methods of the field, variants of data, nulls,
and the printed algorithm over a database of placed graphs.

In all of it one mask lies over both layers before the last, whose weights together have the stated
sparsity. Seed k of every method shares its training seed with seed k of the others.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bogp import datasets
from bogp.checks import refuse
from bogp.datasets import Dataset
from bogp.graphs import families, pixel_features, placed
from bogp.graphs.database import DatabaseSpec, MaskDatabase, build
from bogp.graphs.placed import PlacedSettings, Places
from bogp.graphs.properties import NINE
from bogp.graphs.relational import LayerMasks, Mask, layer_masks, model_sparsity
from bogp.paths import database_dir
from bogp.records import kept
from bogp.search import generator
from bogp.search.searchers import FRESH_SEED
from bogp.studies import algorithm3
from bogp.studies.places import variants
from bogp.studies.places.designs import FIXED, MAIN, SPACE, Design
from bogp.training import baselines
from bogp.training.baselines import Method
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol, smaller_dense

NODES = 128
SPLITS = ["validation_accuracy", "test_accuracy"]


@dataclass(frozen=True)
class Task:
    """A data set with the places of its inputs, and how networks are trained on it.

    Attributes:
        name: of the data set.
        made: the data set, and how its inputs lie.
        places: of the nodes.
        protocol: with the input width of the data set, masks over all layers but the last.
    """

    name: str
    made: variants.Placed
    places: Places
    protocol: Protocol

    def draw(
        self,
        settings: PlacedSettings,
        sparsity: float,
        rng: np.random.Generator,
        places: Places | None = None,
        symmetric: bool = True,
    ) -> LayerMasks:
        """A placed mask over this task's network."""
        own, network = places or self.places, self.protocol
        return placed.draw(
            settings, own, sparsity, network.widths, network.masked_layers, rng, symmetric=symmetric
        )


def task(name: str, protocol: Protocol, nodes: int = NODES) -> Task:
    """A data set by name (see ``variants.make``) with its places: from pixel positions where they
    are known, else from its training part alone.
    """
    made = variants.make(name)
    images = made.dataset.train.images
    n = min(nodes, images.shape[1], *protocol.widths[1:-1])
    network = replace(
        protocol,
        name=f"{protocol.name}, all layers",
        scope="all",
        widths=(images.shape[1], *protocol.widths[1:]),
    )
    if made.side:
        return Task(
            name, made, placed.pixel_places(images, made.side, n, planes=made.planes), network
        )
    return Task(name, made, placed.learned_places(images, n), network)


def tasks(names: Sequence[str], protocol: Protocol) -> dict[str, Task]:
    """``task`` of each name."""
    return {name: task(name, protocol) for name in names}


def own(tasks: Mapping[str, Task]) -> list[Dataset]:
    """The data sets that only exist here, for the evaluator."""
    return [one.made.dataset for name, one in tasks.items() if name not in datasets.NAMES]


def _trained(
    task: Task, masks: Sequence[LayerMasks], seeds: Sequence[int], evaluator: Evaluator
) -> pd.DataFrame:
    jobs = [
        Job(Recipe(mask), seed, task.protocol, task.name)
        for mask, seed in zip(masks, seeds, strict=True)
    ]
    return evaluator.evaluate(jobs)[[*SPLITS, "model_sparsity", "key"]]


def fresh_seed(number: int, masks: int) -> int:
    """The first training seed that judges search ``number``, which methods without a search
    use.
    """
    return FRESH_SEED + number * masks


# --- question 2: the generator searched


def searched(
    task: Task,
    sparsity: float,
    searches: int,
    design: Design,
    evaluator: Evaluator,
    folder: Path,
    methods: Sequence[str] = ("bayesian", "random", "sobol"),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bayesian optimisation, random and Sobol points over the generator's six numbers.

    Args:
        task: the data set.
        sparsity: of both masked layers together.
        searches: of each method.
        design: gives budget and fresh masks.
        evaluator: looks up what is known and trains the rest.
        folder: where histories are kept: surrogates take longer than trainings.
        methods: which of the three.

    Returns:
        All evaluations (``generator.run``), and the fresh masks of what was recommended
        (``generator.fresh``); both with ``dataset`` and ``sparsity``.
    """

    def draw(at: Mapping[str, float], rng: np.random.Generator) -> LayerMasks:
        return task.draw(PlacedSettings(**at), sparsity, rng)

    how = (SPACE, draw, evaluator, task.protocol, task.name)
    d = len(SPACE)

    def searcher(name: str, seed: int) -> generator.PointSearcher:
        if name == "bayesian":
            return generator.BayesianPoints(d, design.initial, design.proposed, seed)
        return generator.PointsAtOnce(d, design.budget, seed, name)

    known = {
        "places": _digest(task.places),
        "sparsity": sparsity,
        "methods": list(methods),
        "searches": searches,
        "size": [design.initial, design.proposed],
        "space": [[a.name, a.low, a.high, a.log] for a in SPACE],
        "protocol": task.protocol.id,
        "engine": evaluator.settings(task.name),
    }
    searchers = [searcher(m, k) for m in methods for k in range(searches)]
    path = folder / f"{task.name.replace('+', '_')}_s{sparsity:.3f}.csv.gz"
    history = kept(path, known, lambda: generator.run(searchers, *how))
    evaluator.asked |= set(history["key"])
    judged = generator.fresh(generator.recommend(history, SPACE), *how, design.fresh)
    labels = {"dataset": task.name, "sparsity": sparsity}
    return history.assign(**labels), judged.assign(**labels)


def _digest(places: Places) -> str:
    arrays = (places.node_of_channel, places.salience, places.distance)
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


# --- question 3: the field

ONE_TRAINING = ("random", "erk", "snip", "grasp", "synflow")
PRETRAINED = ("lottery", "lamp", "magnitude")
GRAPHS = ("random graph", "regular graph", "RGP")


def method(name: str, sparsity: float, budget: int) -> Method:
    """A pruning method over the masked layers; ``magnitude`` is pruning a trained network once and
    training on, ``iterative magnitude`` takes as many rounds as a search has trainings.
    """
    if name == "magnitude":
        return Method(sparsity, pretrain=True, layers="masked")
    if name == "iterative magnitude":
        return Method(sparsity, rounds=budget, layers="masked")
    return baselines.named(name, sparsity, "masked")


def field(
    task: Task,
    sparsity: float,
    count: int,
    design: Design,
    evaluator: Evaluator,
    iterative: bool = True,
) -> pd.DataFrame:
    """The methods of the field at equal weights in the same layers, from the seeds that judge
    searches.

    Args:
        task, sparsity, design, evaluator: as in ``searched``.
        count: seeds of each method; iterative ones have ``design.iterative``.
        iterative: take those in.

    Returns:
        One row a network: ``method``, ``number`` (of the search that it stands beside),
        ``trainings`` that it took, accuracies, ``model_sparsity``, ``key``, ``dataset``,
        ``sparsity``.
    """
    jobs: list[tuple[str, int, int, Job]] = []

    def add(name: str, number: int, trainings: int, recipe: Recipe | Method, p: Protocol) -> None:
        seed = fresh_seed(number, design.fresh)
        jobs.append((name, number, trainings, Job(recipe, seed, p, task.name)))

    network = task.protocol
    for number in range(count):
        for name in (*ONE_TRAINING, *PRETRAINED):
            how = method(name, sparsity, design.budget)
            add(name, number, how.trainings, how, network)
        for name in GRAPHS:
            add(name, number, 1, Recipe(graph_masks(task, name, sparsity, number)), network)
        for name, settings in FIXED.items():
            rng = np.random.default_rng((number, 11))
            add(f"placed: {name}", number, 1, Recipe(task.draw(settings, sparsity, rng)), network)
        if iterative and number < design.iterative:
            how = method("iterative magnitude", sparsity, design.budget)
            add("iterative magnitude", number, how.trainings, how, network)
    whole = sum(a * b for a, b in zip(network.widths, network.widths[1:], strict=False))
    left = round(
        whole * (1 - model_sparsity(graph_masks(task, "random graph", sparsity, 0), network.widths))
    )
    dense = smaller_dense(network, left, "all")
    for number in range(count):
        add("smaller dense", number, 1, Recipe((None,) * (len(dense.widths) - 1)), dense)
    rows = evaluator.evaluate([job for *_, job in jobs])[[*SPLITS, "model_sparsity", "key"]]
    labels = pd.DataFrame([one[:3] for one in jobs], columns=["method", "number", "trainings"])
    return labels.join(rows).assign(dataset=task.name, sparsity=sparsity)


def graph_masks(task: Task, name: str, sparsity: float, number: int) -> LayerMasks:
    """One graph over both layers: ``random graph`` (edges alone are fixed), ``regular graph``, or
    ``RGP``, regular with short paths. Regular graphs have the nearest whole degree.
    """
    draws: dict[str, families.Family] = {
        "random graph": families.exact,
        "regular graph": families.random_regular,
        "RGP": families.regular_short_paths,
    }
    rng = np.random.default_rng((number, 12))
    graph = draws[name](task.places.nodes, sparsity, rng)
    return layer_masks(graph, task.protocol.widths, task.protocol.masked_layers)


def best_of_random(
    task: Task, sparsity: float, count: int, design: Design, evaluator: Evaluator
) -> pd.DataFrame:
    """Random graphs with a search's budget: the best of as many on validation images, trained
    again.

    Returns:
        Rows as ``field`` gives them, of the method ``best of random graphs``, a row a training.
    """
    rows = []
    for number in range(count):
        rng = np.random.default_rng((number, 13))
        graphs = [families.exact(task.places.nodes, sparsity, rng) for _ in range(design.budget)]
        laid = [
            layer_masks(graph, task.protocol.widths, task.protocol.masked_layers)
            for graph in graphs
        ]
        seen = _trained(task, laid, [number] * len(laid), evaluator)
        best = laid[int(seen["validation_accuracy"].argmax())]
        seeds = [fresh_seed(number, design.fresh) + i for i in range(design.fresh)]
        again = _trained(task, [best] * len(seeds), seeds, evaluator)
        labels = {"method": "best of random graphs", "number": number}
        rows.append(again.assign(**labels, trainings=design.budget))
    found = pd.concat(rows, ignore_index=True)
    return found.assign(dataset=task.name, sparsity=sparsity)


def compared(
    task: Task, sparsity: float, design: Design, evaluator: Evaluator, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Searches of the generator and the methods of the field, at one sparsity.

    Returns:
        The searches' evaluations and fresh masks (``searched``), and the rows of ``field`` and
        ``best_of_random``.
    """
    count = design.main_searches if sparsity == MAIN else design.searches
    history, judged = searched(task, sparsity, count, design, evaluator, folder)
    others = [
        field(task, sparsity, count, design, evaluator),
        best_of_random(task, sparsity, design.iterative, design, evaluator),
    ]
    return history, judged, pd.concat(others, ignore_index=True)


def compared_elsewhere(
    tasks: Mapping[str, Task], design: Design, evaluator: Evaluator, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same on other data sets (``design.searched_on``), smaller and at ``MAIN``.

    Returns:
        Fresh masks of what searches recommend, and the rows of ``field``.
    """
    count, parts, others = design.variant_searches, [], []
    for name in design.searched_on:
        how = (tasks[name], MAIN, count, design, evaluator)
        parts.append(searched(*how, folder, ("bayesian", "random"))[1])
        others.append(field(*how, iterative=False))
    return pd.concat(parts), pd.concat(others)


# --- questions 4 to 6: other data, learned places, nulls


def settings_on(
    task: Task, count: int, evaluator: Evaluator, what: Mapping[str, Callable[[int], LayerMasks]]
) -> pd.DataFrame:
    """Masks by kind, a training seed each: ``kind``, ``number``, accuracies, ``key``,
    ``dataset``.
    """
    masks = [(kind, k, make(k)) for kind, make in what.items() for k in range(count)]
    rows = _trained(task, [m for *_, m in masks], [k for _, k, _ in masks], evaluator)
    labels = pd.DataFrame([one[:2] for one in masks], columns=["kind", "number"])
    return labels.join(rows).assign(dataset=task.name)


def kinds(task: Task, sparsity: float = MAIN) -> dict[str, Callable[[int], LayerMasks]]:
    """Random graphs and the fixed settings on a task."""

    def of(settings: PlacedSettings, k: int) -> LayerMasks:
        return task.draw(settings, sparsity, np.random.default_rng((k, 14)))

    found: dict[str, Callable[[int], LayerMasks]] = {
        "random graph": partial(graph_masks, task, "random graph", sparsity)
    }
    return found | {name: partial(of, settings) for name, settings in FIXED.items()}


def nulls(task: Task, sparsity: float = MAIN) -> dict[str, Callable[[int], LayerMasks]]:
    """The setting ``both`` with something taken away, or drawn in another way.

    Nodes renumbered, places or saliences given to other nodes, entries drawn without symmetry, and
    other ideas of near: longer along rows or columns, left and right folded together, far for near,
    and two scales (beyond three nodes all are equally far).
    """
    own = task.places
    changed: dict[str, Callable[[np.random.Generator], Places]] = {
        "both": lambda rng: own,
        "nodes renumbered": lambda rng: placed.renumbered(own, rng),
        "places permuted": lambda rng: placed.with_other_places(own, rng),
        "saliences permuted": lambda rng: placed.with_other_salience(own, rng),
        "not symmetric": lambda rng: own,
        "far for near": lambda rng: replace(own, distance=own.distance.max() - own.distance),
        "two scales": lambda rng: replace(own, distance=np.minimum(own.distance, 3.0)),
    }
    if own.position.shape[1] == 2 and task.made.side:
        changed |= {
            "long columns": lambda rng: placed.stretched(own, 2.0),
            "long rows": lambda rng: placed.stretched(own, 2.0, np.pi / 2),
            "mirrored": lambda rng: placed.mirrored(own),
        }

    def of(name: str, k: int) -> LayerMasks:
        places = changed[name](np.random.default_rng((k, 15)))
        rng = np.random.default_rng((k, 14))
        return task.draw(FIXED["both"], sparsity, rng, places, name != "not symmetric")

    return {name: partial(of, name) for name in changed}


def fixed(tasks: Mapping[str, Task], design: Design, evaluator: Evaluator) -> pd.DataFrame:
    """``kinds`` on every data set, with ``design.masks`` masks of each."""
    parts = [settings_on(one, design.masks, evaluator, kinds(one)) for one in tasks.values()]
    return pd.concat(parts, ignore_index=True)


def taken_away(task: Task, design: Design, evaluator: Evaluator) -> pd.DataFrame:
    """``nulls`` and random graphs on one data set."""
    what = {"random graph": kinds(task)["random graph"]} | nulls(task)
    return settings_on(task, design.masks, evaluator, what)


def other_networks(
    dataset: str,
    longer: Protocol,
    protocol: Protocol,
    wider: int,
    design: Design,
    evaluator: Evaluator,
) -> pd.DataFrame:
    """``kinds`` under another protocol, and with hidden layers of another width.

    Returns:
        Rows of ``settings_on`` with ``network``; a quarter of ``design.masks`` masks of each.
    """
    wide = replace(protocol, widths=(protocol.widths[0], wider, wider, protocol.widths[-1]))
    count = max(design.masks // 4, 2)
    parts = []
    for label, one in ((longer.name, longer), (f"width {wider}", wide)):
        made = task(dataset, replace(one, name=label))
        found = settings_on(made, count, evaluator, kinds(made))
        parts.append(found.assign(network=label))
    return pd.concat(parts, ignore_index=True)


def examples(task: Task, fresh: pd.DataFrame) -> dict[str, LayerMasks]:
    """Masks to look at: a random graph, the setting ``both``, and the first that a Bayesian search
    recommends, all at ``MAIN``.

    Args:
        task: the data set.
        fresh: from ``searched``.
    """
    own = fresh[(fresh["method"] == "bayesian") & (fresh["sparsity"] == MAIN)].iloc[0]
    found = PlacedSettings(**{axis.name: float(own[axis.name]) for axis in SPACE})
    rng = np.random.default_rng
    return {
        "random graph": graph_masks(task, "random graph", MAIN, 0),
        "both": task.draw(FIXED["both"], MAIN, rng(0)),
        "searched": task.draw(found, MAIN, rng(0)),
    }


def descriptions(tasks: Mapping[str, Task]) -> pd.DataFrame:
    """``described`` of each data set, a row each."""
    return pd.DataFrame([{"dataset": name} | described(one) for name, one in tasks.items()])


def described(task: Task, samples: int = 5_000) -> dict[str, float]:
    """What can be said of inputs before any training.

    Returns:
        ``effective_dimension``: participation ratio of the covariance's eigenvalues, (sum)^2 over
        the sum of squares; ``concentration``: mean squared variance of an input over the squared
        mean, 1 where all vary alike; ``dead``: share of inputs with less than a thousandth of the
        mean variance; ``neighbours``: mean correlation of an input with the next.
    """
    x = task.made.dataset.train.images[:samples].astype(np.float64) / 255
    variance = x.var(axis=0)
    covariance = np.cov(x.T)
    a, b = x[:, :-1] - x[:, :-1].mean(axis=0), x[:, 1:] - x[:, 1:].mean(axis=0)
    scale = np.sqrt(variance[:-1] * variance[1:])
    both = scale > 0
    return {
        "inputs": float(x.shape[1]),
        # the sum of eigenvalues is the trace, that of their squares the sum of squared entries
        "effective_dimension": float(np.trace(covariance) ** 2 / (covariance**2).sum()),
        "concentration": float((variance**2).mean() / variance.mean() ** 2),
        "dead": float((variance < 1e-3 * variance.mean()).mean()),
        "neighbours": float(((a * b).mean(axis=0)[both] / scale[both]).mean()),
    }


# --- question 1: the printed algorithm over a database of placed graphs


def rare(n: int, sparsity: float, rng: np.random.Generator, *, places: Places) -> Mask:
    """A placed graph whose numbers are drawn at random, from ranges in which good ones are rare:
    locality from 1 to 64 nodes' distances by its logarithm, salience from 0 to 1, spread from 0 to
    1.5, loops from 0 to 1.
    """
    return placed.family(
        n,
        sparsity,
        rng,
        places=places,
        locality=float(2 ** rng.uniform(0, 6)),
        salience=float(rng.uniform(0, 1)),
        spread=float(rng.uniform(0, 1.5)),
        loops=float(rng.uniform(0, 1)),
    )


def databases(task: Task, design: Design, sparsity: float = MAIN) -> dict[str, MaskDatabase]:
    """Placed graphs, and Bernoulli masks as many, with their labelled features as columns."""
    refuse(
        task.made.planes != 1 or not task.made.side,
        f"Labelled features need images of one plane; {task.name} has none.",
    )
    n, count = task.places.nodes, design.graphs
    found = {}
    for family, sampler in (("placed", partial(rare, places=task.places)), ("bernoulli", None)):
        spec = DatabaseSpec((sparsity,), count, n=n, family=family, seed=9)
        folder = database_dir(f"{task.name}-{family}-{count}-{sparsity:g}")
        built = build(spec, folder, sampler=sampler).at(sparsity)
        images = task.made.dataset.train.images
        found[family] = pixel_features.with_features(built, images, task.made.side)
    return found


SPACES = {
    "properties": tuple(p for p in NINE if p not in ("path_length", "wiener_index")),
    "labelled features": pixel_features.FEATURES,
    "both": (
        *(p for p in NINE if p not in ("path_length", "wiener_index")),
        *pixel_features.FEATURES,
    ),
}


def printed(
    task: Task,
    bases: Mapping[str, MaskDatabase],
    design: Design,
    evaluator: Evaluator,
    folder: Path,
) -> pd.DataFrame:
    """Algorithm 3 as printed over each space of ``SPACES``, over permuted features, and random
    search, in the database of placed graphs; and over labelled features among Bernoulli masks.

    Returns:
        As ``algorithm3.retrained``, with ``database``.
    """
    features = pixel_features.FEATURES
    parts = [
        algorithm3.retrained(
            base,
            SPACES if name == "placed" else {"labelled features": features},
            ("permuted features", features),
            (design.printed_initial, design.printed_proposed),
            design.printed,
            design.fresh,
            task.protocol,
            task.name,
            evaluator,
            folder / f"printed_{name}.csv.gz",
        ).assign(database=name)
        for name, base in bases.items()
    ]
    return pd.concat(parts, ignore_index=True)


def all_graphs(
    task: Task, base: MaskDatabase, seeds: int, evaluator: Evaluator
) -> NDArray[np.float64]:
    """``algorithm3.all_graphs`` on a task."""
    return algorithm3.all_graphs(base, seeds, task.protocol, task.name, evaluator)
