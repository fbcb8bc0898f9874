"""How well surrogates rank masks, and how soon searches find the best one: the measurements of notebook 14, one table a graph.

A graph is a random network of ``zoo`` that learned digits. *Calibration* images give derivatives and the losses that surrogates are fitted to; the losses that
they are to rank are of *test* images, those that a search reads of *validation* images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bogp import datasets, parallel
from bogp.checks import is_one_of, whole
from bogp.errors import InvalidInput
from bogp.parallel import worker_options
from bogp.records import recorded_table, write_table
from bogp.statistics import mean_interval, paired_difference, rank_correlation
from bogp.structural import search, surrogate
from bogp.structural.gates import Examples, losses_under
from bogp.structural.graph import ComputationGraph
from bogp.structural.taylor import TaylorModel, closable, fisher, gate_gradients, gauss_newton, hessian
from bogp.structural.tracing import capture
from bogp.zoo import networks, tasks

Masks = NDArray[np.bool_]

# Mean Spearman correlations, as printed, of 500 Bernoulli(1/2) masks of graphs of each class of numbers of edges.
PRINTED = pd.DataFrame(
    {
        "size": list(networks.SIZES) * 4,
        "predictor": [p for p in ("path", "linear", "magnitude", "published_taylor") for _ in networks.SIZES],
        "spearman": [0.299, 0.296, 0.349, 0.411, 0.060, 0.201, 0.248, 0.294, 0.547, 0.505, 0.369, 0.280, 0.119, -0.052, -0.136, -0.204],
    }
)


@dataclass(frozen=True)
class Settings:
    """What a network learns and what is measured on it.

    Attributes:
        dataset: a task of digits, ``mnist-5k`` or ``mnist``.
        width: features of each vertex.
        train: training images.
        epochs: passes over them.
        images: of calibration, and as many held-out ones.
        masks: of each kind that is to be ranked.
        design: connected masks an edge that the larger design has.
    """

    dataset: str = "mnist-5k"
    width: int = 32
    train: int = 2_000
    epochs: int = 6
    images: int = 250
    masks: int = 500
    design: int = 4

    def __post_init__(self) -> None:
        if not is_one_of(self.dataset, ("mnist-5k", "mnist")):
            raise InvalidInput(f"dataset is {self.dataset!r}; these networks read digits: mnist-5k or mnist.")
        for name, low in (("width", 2), ("train", 64), ("epochs", 1), ("images", 10), ("masks", 10), ("design", 1)):
            whole(name, getattr(self, name), low)


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network with its graph.

    Attributes:
        graph: as captured.
        calibration, validation, test: the examples that are measured on.
        accuracy: of the full network on the test examples.
    """

    graph: ComputationGraph
    calibration: Examples
    validation: Examples
    test: Examples
    accuracy: float


def blank_graph(size: str, seed: int) -> ComputationGraph:
    """The graph of a random network, before any training: everything of it but the weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return capture(networks.RandomDag(networks.random_parents(size, seed), 784, 4, 10).eval(), torch.zeros(2, 784))


def own_edges(graph: ComputationGraph) -> NDArray[np.intp]:
    """The edges between inner vertices: neither that from the input nor that to the output."""
    ends = {v.index for v in graph.vertices if v.kind in ("input", "output")}
    return np.array([e.index for e in graph.edges if not ends & {e.source, e.target}], dtype=np.intp)


@cache
def _task(name: str) -> tasks.Task:
    return tasks.load(name)


def trained(size: str, seed: int, settings: Settings) -> Network:
    """The network of a graph, trained; the seed gives graph, initial weights and order of the images."""
    task = _task(settings.dataset)
    for part, needed in (("train", settings.train), ("calibration", settings.images), ("test", settings.images)):
        if needed > len(getattr(task, part)):
            raise InvalidInput(f"{settings.dataset} has {len(getattr(task, part))} {part} images; {needed} are asked for.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = networks.RandomDag(networks.random_parents(size, seed), 784, settings.width, 10)
    some, *held = (
        _balanced(part, count)
        for part, count in ((task.train, settings.train), *((p, settings.images) for p in (task.calibration, task.validation, task.test)))
    )
    tasks.train(model, some, task.loss, epochs=settings.epochs, seed=seed)
    accuracy = float(tasks.measure(model, held[2], [task.accuracy])[0])
    return Network(capture(model, held[0].part(slice(0, 4)).inputs), held[0], held[1], held[2], accuracy)


def _balanced(part: Examples, count: int) -> Examples:
    """``count`` of the examples, the classes as in all of them, the same ones each time."""
    rows = (
        datasets.stratified(part.targets.numpy().astype(np.uint8), (count, len(part) - count), 0)[0] if count < len(part) else slice(None)
    )
    return part.part(rows)


# masks


def drawn(
    graph: ComputationGraph, count: int, rng: np.random.Generator, *, connected: bool = False, without: ArrayLike | None = None
) -> Masks:
    """Distinct Bernoulli(1/2) masks over a graph's own edges.

    Args:
        graph: of the network.
        count: how many; fewer where 200 times as many draws do not give them, for small graphs have few masks.
        rng: of the draws.
        connected: only those that connect input and output, by rejection.
        without: (M, E) masks that are left out.

    Returns:
        (at most count, E) masks.
    """
    own = own_edges(graph)
    out = {mask.tobytes() for mask in np.asarray(without, dtype=bool)} if without is not None else set()
    found: dict[bytes, NDArray[np.bool_]] = {}
    for _ in range(200):
        masks = np.ones((count, len(graph.edges)), dtype=bool)
        masks[:, own] = rng.random((count, len(own))) < 0.5
        for mask in masks[graph.connected(masks)] if connected else masks:
            if mask.tobytes() not in out:
                found.setdefault(mask.tobytes(), mask)
        if len(found) >= count:
            break
    return np.array(list(found.values())[:count], dtype=bool).reshape(-1, len(graph.edges))


def published_design(graph: ComputationGraph) -> Masks:
    """(E + 2, edges) all of the graph's own edges, none of them, and each left out."""
    own = own_edges(graph)
    masks = np.ones((len(own) + 2, len(graph.edges)), dtype=bool)
    masks[1, own] = False
    masks[np.arange(len(own)) + 2, own] = False
    return masks


# measurements


def taylor_models(
    graph: ComputationGraph, examples: Examples, loss: Callable[..., torch.Tensor]
) -> tuple[NDArray[np.float64], dict[str, TaylorModel]]:
    """The (N, E) gate gradients, and the Taylor models of the first order and of each curvature."""
    gradients = gate_gradients(graph, examples, loss)
    curvatures = {
        "first_order": np.zeros((len(graph.edges),) * 2),
        "fisher": fisher(gradients),
        "gauss_newton": gauss_newton(graph, examples, loss, gates=closable(graph)),
        "hessian": hessian(graph, examples, loss, gates=closable(graph)),
    }
    return gradients, {name: TaylorModel(graph, gradients.mean(axis=0), matrix) for name, matrix in curvatures.items()}


def measure(size: str, seed: int, settings: Settings) -> pd.DataFrame:
    """Train one network and measure all its masks: the table that every correlation of this graph follows from.

    Returns:
        A row a mask: ``part`` (``published``, ``larger``: designs; ``half``, ``connected``: to be ranked), ``mask`` (``as_text``),
        ``calibration`` (mean loss, nats; of the designs) and ``test`` (of all but the larger design), the same with ``_zeroed`` (a vertex without live inputs
        goes on with its biases; of ``published`` and ``half``), and what the zero-shot predictors say; ``accuracy`` of the full network.
    """
    network = trained(size, seed, settings)
    graph, loss = network.graph, _task(settings.dataset).loss
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(14,)))
    design = published_design(graph)
    larger = drawn(graph, settings.design * len(own_edges(graph)), rng, connected=True, without=design)
    both = np.concatenate([design, larger])
    parts = {"published": design, "larger": larger}
    parts |= {
        "half": drawn(graph, settings.masks, rng, without=both),
        "connected": drawn(graph, settings.masks, rng, connected=True, without=both),
    }
    masks = np.concatenate(list(parts.values()))
    part = np.repeat(list(parts), [len(m) for m in parts.values()])
    table = pd.DataFrame({"part": part, "mask": as_text(masks), "connected": graph.connected(masks), "accuracy": network.accuracy})
    for reading, references in (("removed", None), ("zeroed", [torch.zeros(edge.shape) for edge in graph.edges])):
        for data, examples, of in (("calibration", network.calibration, part != "half"), ("test", network.test, part != "larger")):
            rows = np.flatnonzero(of & (part != "connected") if reading == "zeroed" or data == "calibration" else of)
            table.loc[rows, data + SUFFIX[reading]] = losses_under(graph, masks[rows], examples, loss, references=references)
    gradients, models = taylor_models(graph, network.calibration, loss)
    table["magnitude"] = surrogate.kept_sum(surrogate.reader_magnitude(graph))(masks)
    table["published_taylor"] = surrogate.kept_sum(np.square(gradients).mean(axis=0))(masks)
    table["live_edges"] = -graph.live(masks).sum(axis=1).astype(float)
    for name, model in models.items():
        table[name] = model.change(masks)
    return _shortened(table)


def _shortened(table: pd.DataFrame) -> pd.DataFrame:
    """Seven significant digits: what is recorded is what is used, and equal networks have equal numbers whatever was summed first."""
    numbers = table.select_dtypes("float").columns
    return table.assign(**{c: [float(f"{x:.7g}") for x in table[c]] for c in numbers})


def as_text(masks: Masks) -> list[str]:
    """Masks as short strings: m, and the bits in hexadecimal."""
    return ["m" + row.tobytes().hex() for row in np.packbits(masks, axis=1)]


def as_masks(texts: Iterable[str], edges: int) -> Masks:
    """The (M, E) masks of such strings."""
    return np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(text[1:]), np.uint8), count=edges) for text in texts]).astype(bool)


def looked_up(masks: Masks, values: ArrayLike) -> surrogate.Predictor:
    """A predictor that knows those masks only."""
    known = dict(zip(map(bytes, masks), np.asarray(values, dtype=np.float64), strict=True))
    return lambda asked: np.array([known[bytes(mask)] for mask in np.asarray(asked, dtype=bool)])


# ranks


def surrogates(graph: ComputationGraph, taylor: surrogate.Predictor) -> dict[str, dict[str, surrogate.Surrogate]]:
    """The surrogates by name, those of each design; ``live`` ones read which edges lie on a live path, the others the mask."""
    own = own_edges(graph)
    kept, live = surrogate.kept_features(own), surrogate.live_features(graph, own)
    few: dict[str, surrogate.Surrogate] = {"path": surrogate.PathSurrogate(graph), "linear": surrogate.LinearSurrogate(kept)}
    more: dict[str, surrogate.Surrogate] = {
        "linear_live": surrogate.LinearSurrogate(live),
        "pairs_live": surrogate.LinearSurrogate(live, pairs=True),
        "process_live": surrogate.GaussianProcess(live),
        "process_taylor": surrogate.GaussianProcess(live, taylor),
    }
    return {"published": few, "larger": few | more}


def predictions(table: pd.DataFrame, graph: ComputationGraph, reading: str = "removed") -> dict[tuple[str, str], NDArray[np.float64]]:
    """What each predictor says of all masks of ``measure``'s table, by (design, predictor); surrogates are fitted to the losses on calibration images.

    Args:
        table: from ``measure``.
        graph: its graph, ``blank_graph`` will do.
        reading: ``removed``, or ``zeroed``: a vertex without live inputs goes on with its biases.
    """
    masks, losses = as_masks(table["mask"], len(graph.edges)), table[f"calibration{SUFFIX[reading]}"].to_numpy()
    found = {("zero-shot", name): table[name].to_numpy() for name in ZERO_SHOT}
    for design, models in surrogates(graph, looked_up(masks, table["hessian"])).items():
        if design == "larger" and reading == "zeroed":
            continue  # its masks were measured as removals only
        rows = table["part"].isin(["published"] if design == "published" else ["published", "larger"]).to_numpy()
        found |= {(design, name): model.fit(masks[rows], losses[rows]).predict(masks) for name, model in models.items()}
    return found


ZERO_SHOT = ("magnitude", "published_taylor", "live_edges", "first_order", "fisher", "gauss_newton", "hessian")
SUFFIX = {"removed": "", "zeroed": "_zeroed"}


def ranks(table: pd.DataFrame, size: str, seed: int) -> pd.DataFrame:
    """Rank correlations of one graph's predictions with the losses on test images.

    Args:
        table: from ``measure``.
        size, seed: of its graph.

    Returns:
        A row for each ``reading``, ``design``, ``predictor`` and set of ``masks`` (``half``: all Bernoulli(1/2) masks; of them ``half connected`` and
        ``half disconnected``; ``connected``; ``single``: one edge left out): ``spearman``, ``kendall`` (NaN where the losses are all equal) and ``n`` masks.
    """
    graph, rows = blank_graph(size, seed), []
    part, connected = table["part"], table["connected"]
    sets = {"half": part == "half", "half connected": (part == "half") & connected, "half disconnected": (part == "half") & ~connected}
    sets |= {"connected": part == "connected", "single": (part == "published") & (np.arange(len(table)) > 1)}
    for reading in SUFFIX:
        truth = table[f"test{SUFFIX[reading]}"].to_numpy()
        for (design, name), predicted in predictions(table, graph, reading).items():
            for masks, chosen in sets.items():
                if reading == "zeroed" and masks == "connected":
                    continue
                x, y = predicted[chosen].round(9), truth[chosen]  # masks of one live network are predicted alike, but for rounding
                enough = len(x) >= 3 and np.ptp(y) > 0
                varies = enough and np.ptp(x) > 0  # a prediction that is the same for all masks ranks nothing: 0
                spearman, kendall = (
                    (rank_correlation(x, y), float(stats.kendalltau(x, y).statistic)) if varies else (0.0 if enough else np.nan,) * 2
                )
                keys = {"size": size, "seed": seed, "reading": reading, "design": design, "predictor": name, "masks": masks}
                rows.append(keys | {"spearman": spearman, "kendall": kendall, "n": len(x)})
    return pd.DataFrame(rows)


def summary(ranked: pd.DataFrame) -> pd.DataFrame:
    """Mean over graphs of ``ranks``, with 95 % t intervals, for each class; graphs whose losses do not differ are left out (``n`` counts those that stay)."""
    rows = []
    keys = ["size", "reading", "design", "predictor", "masks"]
    for key, group in ranked.dropna(subset=["spearman"]).groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True))
        for measure_name in ("spearman", "kendall"):
            interval = mean_interval(group[measure_name])
            row |= {measure_name: interval.mean, f"{measure_name}_low": interval.low, f"{measure_name}_high": interval.high}
        rows.append(row | {"n": len(group)})
    return pd.DataFrame(rows).merge(PRINTED.rename(columns={"spearman": "printed"}), on=["size", "predictor"], how="left")


# searches at a size where the best mask is known


def removals(graph: ComputationGraph) -> tuple[int, int]:
    """The number k of removed candidate edges for which there are most feasible masks, and how many those are."""
    masks = feasible(graph, len(graph.candidates))
    counts = np.bincount((~masks).sum(axis=1))[1:]
    return int(np.argmax(counts)) + 1, int(counts.max())


def feasible(graph: ComputationGraph, removed: int) -> Masks:
    """The (M, E) masks that remove 1 to ``removed`` of at most 14 candidate edges and keep the output connected."""
    count = len(graph.candidates)
    if count > MOST:
        raise InvalidInput(f"The graph has {count} candidate edges; all masks are listed for at most {MOST}.")
    whole("removed", removed, 1)
    chosen = (np.arange(2**count)[:, None] >> np.arange(count)) & 1 == 1
    chosen = chosen[(chosen.sum(axis=1) >= 1) & (chosen.sum(axis=1) <= removed)]
    masks = np.ones((len(chosen), len(graph.edges)), dtype=bool)
    masks[:, graph.candidates] = ~chosen
    return masks[graph.connected(masks)]


MOST, LEAST = 14, 300  # candidate edges, feasible masks


def search_seeds(count: int) -> list[int]:
    """The first seeds of the smallest class whose graphs have at most 14 candidate edges, and at least 300 feasible masks of some k."""
    found: list[int] = []
    seed = 0
    while len(found) < count:
        graph = blank_graph("10-15", seed)
        if len(graph.candidates) <= MOST and removals(graph)[1] >= LEAST:
            found.append(seed)
        seed += 1
    return found


def measure_all(seed: int, settings: Settings) -> pd.DataFrame:
    """Train one small network and measure every feasible mask of up to k removed edges: the table that all its searches read.

    Returns:
        A row a mask: ``mask``, ``edges`` (removed), ``loss`` (mean over validation images, nats), ``taylor`` (the change that the model of second order
        predicts) and ``permuted`` (the same model's, its edges permuted at random).
    """
    network = trained("10-15", seed, settings)
    graph, loss = network.graph, _task(settings.dataset).loss
    masks = feasible(graph, removals(graph)[0])
    model = taylor_models(graph, network.calibration, loss)[1]["hessian"]
    order = np.arange(len(graph.edges))
    order[graph.candidates] = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(15,))).permutation(graph.candidates)
    table = pd.DataFrame(
        {"mask": as_text(masks), "edges": (~masks).sum(axis=1), "loss": losses_under(graph, masks, network.validation, loss)}
    )
    return _shortened(table.assign(taylor=model.change(masks), permuted=model.change(masks[:, order])))


def searches(table: pd.DataFrame, seed: int, share: float, repeats: int) -> pd.DataFrame:
    """All methods on one graph, each at a budget of a share of its feasible masks.

    Args:
        table: from ``measure_all``.
        seed: of its graph.
        share: of the masks with k removed edges that may be evaluated, in (0, 1].
        repeats: searches of each method that draws at random.

    Returns:
        Columns ``seed``, ``method``, ``repeat``, ``evaluation``, ``share`` (of the feasible masks) and ``regret``: (best so far - best) / (median - best)
        over the feasible masks. Until a search has a mask with k removed edges its regret is 1, that of the median mask.
    """
    if not 0 < share <= 1:
        raise InvalidInput(f"share is {share}; it lies above 0 and is at most 1.")
    graph = blank_graph("10-15", seed)
    masks = as_masks(table["mask"], len(graph.edges))
    space = search.Space(graph, int(table["edges"].max()))
    losses, taylor, permuted = (looked_up(masks, table[c]) for c in ("loss", "taylor", "permuted"))
    truth = table.loc[table["edges"] == space.removed, "loss"]
    budget = max(round(share * len(truth)), 5)
    tuned = partial(search.bayesian, space, losses, budget, initial=max(budget // 5, 2), batch=max(budget // 20, 1))
    methods: dict[str, Callable[[int], pd.DataFrame]] = {
        "random": lambda k: search.random(space, losses, budget, k),
        "greedy": lambda k: search.greedy(space, losses, max(budget, search.greedy_cost(space))),
        "quadratic": lambda k: search.quadratic(space, losses, budget, taylor, k),
        "bo": lambda k: tuned(k, prior=taylor),
        "bo_constant": lambda k: tuned(k),
        "bo_permuted": lambda k: tuned(k, prior=permuted),
    }
    rows = []
    for method, run in methods.items():
        for repeat in range(1 if method in ("greedy", "quadratic") else repeats):
            best = run(repeat)["best"].reindex(range(budget)).ffill()  # what ends early keeps what it has
            regret = ((best - truth.min()) / (truth.median() - truth.min())).fillna(1.0)
            rows.append(
                pd.DataFrame({"evaluation": np.arange(1, budget + 1), "regret": regret}).assign(seed=seed, method=method, repeat=repeat)
            )
    found = pd.concat(rows, ignore_index=True)
    return found.assign(share=found["evaluation"] / len(truth))[["seed", "method", "repeat", "evaluation", "share", "regret"]]


# units of work


def unit(path: Path, parameters: Mapping[str, Any], make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of one network: as recorded, if it was made with these parameters, else made and recorded."""
    found = recorded_table(path, parameters)
    if found is None:
        found = make()
        write_table(found, path, parameters)
    return found


def rank_record(size: str, seed: int, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The file that a graph's table of ``measure`` is kept in, and the parameters by which it is found again."""
    return f"ranks-{size.replace('> ', 'over-')}-{seed}.csv", {"size": size, "seed": seed} | vars(settings)


def search_record(seed: int, settings: Settings) -> tuple[str, dict[str, Any]]:
    """The file that a graph's table of ``measure_all`` is kept in, and the parameters by which it is found again."""
    return f"search-{seed}.csv", {"seed": seed} | vars(settings)


def rank_graph(size: str, seed: int, settings: Settings, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One graph: its table of ``measure``, recorded in the folder, and its ``ranks``."""
    name, parameters = rank_record(size, seed, settings)
    table = unit(folder / name, parameters, lambda: measure(size, seed, settings))
    return table, ranks(table, size, seed)


def search_graph(seed: int, settings: Settings, share: float, repeats: int, folder: Path) -> pd.DataFrame:
    """One small graph: its ``searches`` on the table of ``measure_all``, which is recorded in the folder."""
    name, parameters = search_record(seed, settings)
    table = unit(folder / name, parameters, lambda: measure_all(seed, settings))
    return searches(table, seed, share, repeats)


def in_parallel(work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], cores: int) -> list[Any]:
    """What the work gives for each job's arguments, in order; each worker computes on one thread, so that the numbers do not depend on how many there are."""
    from joblib import Parallel, delayed

    whole("cores", cores, 1)
    with parallel.progress_bar(len(jobs), "graph") as bar:
        found = []
        for one in Parallel(n_jobs=min(cores, len(jobs)), return_as="generator", **worker_options())(
            delayed(_on_one_thread)(work, job) for job in jobs
        ):
            found.append(one)
            bar.update(1)
    return found


def _on_one_thread(work: Callable[..., Any], job: tuple[Any, ...]) -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(*job)
    finally:
        torch.set_num_threads(threads)


# verdicts


def signed_against_unsigned(ranked: pd.DataFrame) -> pd.DataFrame:
    """Spearman of the signed first order less that of the unsigned published form, paired over graphs.

    Returns:
        A row for each set of ``masks`` (``connected``, ``single``) and ``size`` (``all`` first): mean difference with 95 % t interval.
    """
    rows = []
    for masks in ("connected", "single"):
        one = ranked[(ranked["reading"] == "removed") & (ranked["masks"] == masks) & (ranked["design"] == "zero-shot")]
        wide = one.pivot(index=["size", "seed"], columns="predictor", values="spearman").dropna(subset=["first_order", "published_taylor"])
        for size, group in [("all", wide), *wide.groupby("size", sort=False)]:
            difference = paired_difference(group["first_order"], group["published_taylor"])
            rows.append({"masks": masks, "size": size, **vars(difference)})
    return pd.DataFrame(rows)


def reached(found: pd.DataFrame, within: float, share: float) -> pd.DataFrame:
    """For each method, how many graphs have a mean regret (over repeats) within a bound after a share of the evaluations.

    Args:
        found: from ``searches``, of all graphs.
        within: the bound.
        share: of the feasible masks.

    Returns:
        ``method``, ``graphs`` within the bound, ``of`` all graphs, and the mean regret with its 95 % t interval over graphs.
    """
    last = found[found["share"] <= share + 1e-9].groupby(["method", "seed", "repeat"], sort=False)["regret"].last()
    by_graph = last.groupby(["method", "seed"], sort=False).mean()
    rows = []
    for method, regret in by_graph.groupby("method", sort=False):
        rows.append({"method": method, "graphs": int((regret <= within).sum()), "of": len(regret), **vars(mean_interval(regret))})
    return pd.DataFrame(rows).drop(columns="n")


def verdicts(ranked: pd.DataFrame, summarised: pd.DataFrame, reached_by: pd.DataFrame, share: float) -> pd.DataFrame:
    """The three targets by their rules: met, not met, or no verdict where there are too few graphs or other settings than the rule's.

    Args:
        ranked: from ``ranks``, of all graphs.
        summarised: from ``summary``.
        reached_by: from ``reached``, within 5 % after 10 % of the evaluations.
        share: of the feasible masks that searches could evaluate; the rule needs at least 10 %.

    Returns:
        ``target``, ``verdict`` and ``measured``, in words.
    """
    enough = ranked.groupby("size")["seed"].nunique().min() >= ENOUGH and ranked["size"].nunique() == len(networks.SIZES)
    pair = signed_against_unsigned(ranked).iloc[0]
    rows = [
        (
            "Signed first order beats the unsigned published form on connected masks",
            enough,
            bool(pair["low"] > 0),
            f"Difference in Spearman {pair['mean']:+.3f} [{pair['low']:+.3f}, {pair['high']:+.3f}], n = {pair['n']} graphs.",
        )
    ]
    chosen = (summarised["size"] == "> 100") & (summarised["masks"] == "connected") & (summarised["design"] != "zero-shot")
    if chosen.any():
        best = summarised[chosen & (summarised["reading"] == "removed")].sort_values("spearman").iloc[-1]
        said = f"Best: {best['predictor']} ({best['design']} design), mean Spearman {best['spearman']:.3f} "
        said += f"[{best['spearman_low']:.3f}, {best['spearman_high']:.3f}]."
        rows.append(
            ("Some surrogate reaches 0.8 on connected masks at > 100 edges", best["n"] >= ENOUGH, bool(best["spearman"] >= 0.8), said)
        )
    bo = reached_by[reached_by["method"] == "bo"].iloc[0]
    others = "; ".join(f"{r.method} {r.graphs} of {r.of}" for r in reached_by[reached_by["method"] != "bo"].itertuples())
    said = f"{bo['graphs']} of {bo['of']} graphs, mean regret {bo['mean']:.3f} [{bo['low']:.3f}, {bo['high']:.3f}]; {others}."
    target = "Search with the Taylor prior reaches 5 % regret with 10 % of the evaluations in 8 of 10 graphs"
    rows.append((target, bo["of"] >= ENOUGH and share >= 0.1, bool(bo["graphs"] >= 0.8 * bo["of"]), said))
    word = {True: "met", False: "not met"}
    return pd.DataFrame(
        [{"target": t, "verdict": word[met] if enough else "no verdict", "measured": said} for t, enough, met, said in rows]
    )


ENOUGH = 10  # graphs that a verdict needs
