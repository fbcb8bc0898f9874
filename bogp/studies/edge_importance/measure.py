"""How well importances, found on calibration data, predict what the removal of edges does to the loss on test data (notebook 11)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from bogp import parallel
from bogp.checks import is_one_of, listed, texts, whole
from bogp.errors import InvalidInput
from bogp.parallel import worker_options
from bogp.records import recorded_table, write_table
from bogp.statistics import Interval, mean_interval, paired_difference, rank_correlation
from bogp.structural import importance
from bogp.structural.gates import Examples, leave_one_out, losses_under, mean_activations
from bogp.structural.graph import ComputationGraph
from bogp.structural.importance import METHODS, SECOND_ORDER
from bogp.structural.taylor import taylor_model
from bogp.structural.tracing import capture
from bogp.zoo import networks as zoo_networks
from bogp.zoo import tasks

NETWORKS = ("dag", "residual", "inception", "transformer")
OVERALL = "all networks"


@dataclass(frozen=True)
class Case:
    """A network to be trained: one of ``NETWORKS``, on a task of ``tasks.NAMES``, for so many epochs."""

    network: str
    task: str
    epochs: int


@dataclass(frozen=True)
class Settings:
    """What is measured on each trained network.

    Attributes:
        calibration: numbers of examples that importances are found from, increasing; the first examples of one order.
        test: examples that the true changes are measured on.
        masks: random connected removals of several edges.
    """

    calibration: tuple[int, ...]
    test: int
    masks: int

    def __post_init__(self) -> None:
        calibration = [whole("An item of calibration", count, 2) for count in listed("calibration", self.calibration)]
        object.__setattr__(self, "calibration", tuple(calibration))
        if not calibration or calibration != sorted(set(calibration)):
            raise InvalidInput(f"calibration is {list(self.calibration)}; one or more numbers of examples are needed, increasing.")
        whole("test", self.test, 2)
        whole("masks", self.masks, 3)


def cases(networks: Sequence[str], of: Sequence[str], epochs: Sequence[int]) -> list[Case]:
    """Networks, their tasks and epochs, item by item.

    Raises:
        InvalidInput: lists of different lengths, none, a network twice, or an unknown name; before anything is trained.
    """
    networks, of, epochs = texts("networks", networks), texts("tasks", of), listed("epochs", epochs)
    if not networks or not len(networks) == len(of) == len(epochs) or len(set(networks)) != len(networks):
        raise InvalidInput(
            f"{len(networks)} networks, {len(of)} tasks and {len(epochs)} epochs; one of each a network is needed, each network once."
        )
    for name, task in zip(networks, of, strict=True):
        if not is_one_of(name, NETWORKS) or not is_one_of(task, tasks.NAMES):
            raise InvalidInput(f"{name!r} on {task!r}: networks are {', '.join(NETWORKS)}; tasks are {', '.join(tasks.NAMES)}.")
        reads_text = task in ("sentences", "wikitext-2")
        if reads_text != (name == "transformer") or (task == "mixture" and name != "dag"):
            raise InvalidInput(f"A {name} cannot learn {task}: transformers read texts, the others images, and the dag anything but texts.")
    return [Case(n, t, whole("epochs", e, 0)) for n, t, e in zip(networks, of, epochs, strict=True)]


def trained(case: Case, task: tasks.Task, seed: int) -> nn.Module:
    """The network of a case, made and trained with a seed; a random graph is another one for each seed."""
    shape = task.train.inputs[0].shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if case.network == "dag":
            model: nn.Module = zoo_networks.RandomDag(zoo_networks.random_parents("20-40", seed), int(np.prod(shape)), 16, task.outputs)
        elif case.network == "transformer":
            model = zoo_networks.Transformer(task.outputs, int(shape[0]))
        else:
            model = {"residual": zoo_networks.Residual, "inception": zoo_networks.Inception}[case.network](
                task.outputs, channels=int(shape[0])
            )
    return tasks.train(model, task.train, task.loss, epochs=case.epochs, seed=seed)


def connected_removals(graph: ComputationGraph, count: int, seed: int) -> NDArray[np.bool_]:
    """(count, E) masks that remove from two to half of the candidate edges at random and keep every output connected.

    Raises:
        InvalidInput: no two edges can be removed together.
    """
    rng = np.random.default_rng(seed)
    candidates, masks = graph.candidates, []
    for _ in range(count):
        wanted = int(rng.integers(2, max(2, len(candidates) // 2) + 1))
        mask = graph.without(importance.order(graph, rng.random(len(candidates)))[:wanted])
        if (~mask).sum() < 2:
            raise InvalidInput("No two edges of this network can be removed together; there is nothing to say about several.")
        masks.append(mask)
    return np.array(masks)


def unit(case: Case, settings: Settings, seed: int) -> pd.DataFrame:
    """Train one network, find importances on calibration data, and measure what removals do on test data.

    Args:
        case: of the network.
        settings: what to measure.
        seed: of the data's split, the network, its training, the masks and ``random``.

    Returns:
        Columns ``part``, ``method``, ``examples`` (for calibration), ``item``, ``predicted``, ``change``. Parts: ``single`` (item: edge), ``several``
        (item: mask), ``mean reference`` (item: edge; ``predicted`` is the true change with zeros and ``change`` with mean activations), ``removed`` (how
        many edges mask ``item`` removes), ``cost`` (seconds, and those of one forward pass), ``network`` (loss and accuracy on test data).

    Raises:
        InvalidInput: a task with fewer examples than are asked for.
    """
    torch.set_num_threads(1)
    task = tasks.load(case.task, seed)
    most = settings.calibration[-1]
    if most > len(task.calibration) or settings.test > len(task.test):
        raise InvalidInput(
            f"{case.task} has {len(task.calibration)} examples for calibration and {len(task.test)} for testing; asked for {most} and {settings.test}."
        )
    rng = np.random.default_rng(seed)
    calibration = task.calibration.part(torch.from_numpy(rng.permutation(len(task.calibration))[:most]))
    test = task.test.part(torch.from_numpy(rng.permutation(len(task.test))[: settings.test]))
    graph = capture(trained(case, task, seed), calibration.part(slice(0, 4)).inputs)
    changes, tables = leave_one_out(graph, test, task.loss), []
    for count in settings.calibration:
        some = calibration.part(slice(0, count))
        found, seconds = _timed(graph, some, task, seed)
        tables += [_rows("single", name, count, graph.candidates, found[name], changes) for name in METHODS]
    forward = min(_seconds(lambda: tasks.measure(graph.module, calibration, (task.loss,)))[1] for _ in range(3))
    tables += [_rows("cost", name, most, [0], [seconds[name]], forward) for name in METHODS]
    masks = connected_removals(graph, settings.masks, seed)
    together = losses_under(graph, np.vstack([np.ones(masks.shape[1], dtype=bool), masks]), test, task.loss)
    for name, predicted in _several(graph, calibration, task, found, masks).items():
        tables.append(_rows("several", name, most, range(len(masks)), predicted, together[1:] - together[0]))
    tables.append(_rows("removed", "edges", most, range(len(masks)), (~masks).sum(axis=1), np.nan))
    references = mean_activations(graph, calibration)
    instead = leave_one_out(graph, test, task.loss, references=references)
    tables.append(_rows("mean reference", "leave_one_out", most, graph.candidates, changes, instead))
    quality = tasks.measure(graph.module, test, (task.loss, task.accuracy))
    tables += [_rows("network", name, most, [0], [value], np.nan) for name, value in zip(("loss", "accuracy"), quality, strict=True)]
    return pd.concat(tables, ignore_index=True)


def _rows(part: str, method: str, examples: int, item: Any, predicted: Any, change: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "part": part,
            "method": method,
            "examples": examples,
            "item": list(item),
            "predicted": np.asarray(predicted, dtype=float),
            "change": change,
        }
    )


def _timed(
    graph: ComputationGraph, examples: Examples, task: tasks.Task, seed: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Importances by each method, and how many seconds each took on its own."""
    both = {name: _seconds(lambda name=name: importance.importances(graph, examples, task.loss, [name], seed)) for name in METHODS}  # type: ignore[misc]
    return {name: table[name].to_numpy() for name, (table, _) in both.items()}, {name: seconds for name, (_, seconds) in both.items()}


def _seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def _several(
    graph: ComputationGraph, examples: Examples, task: tasks.Task, found: dict[str, NDArray[np.float64]], masks: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """The change under each mask by each method: quadratic models with all their pairs, the others summed over the removed edges."""
    removed = (~masks[:, graph.candidates]).astype(float)
    predicted = {name: removed @ found[name] for name in METHODS if name not in (*SECOND_ORDER, "first_order")}
    models = {"first_order": "none"} | {name: name for name in SECOND_ORDER}
    return predicted | {name: taylor_model(graph, examples, task.loss, curvature).change(masks) for name, curvature in models.items()}


def units(some: Sequence[Case], settings: Settings, seeds: int, folder: Path, cores: int = 1) -> pd.DataFrame:
    """The units of all cases and seeds; each is kept as a table of its own, and taken from there when it was made before.

    Args:
        some: cases.
        settings: what to measure.
        seeds: 0, 1, ... for each case.
        folder: of the kept tables.
        cores: processes at work; the numbers do not depend on it, but for the seconds in them.

    Returns:
        ``unit``'s columns, with ``network``, ``task`` and ``seed``.

    Raises:
        InvalidInput: a number of seeds or cores out of range; and as ``unit``.
    """
    from joblib import Parallel, delayed

    jobs = [(case, seed) for case in some for seed in range(whole("seeds", seeds, 2))]
    whole("cores", cores, 1)
    with parallel.progress_bar(len(jobs), "network", label="networks") as bar:
        missing = []
        for case, seed in jobs:
            if _kept(case, settings, seed, folder) is None:
                missing.append((case, seed))
            else:
                bar.update(1)
        work = Parallel(n_jobs=min(cores, max(len(missing), 1)), return_as="generator_unordered", **worker_options())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A worker stopped")  # joblib renews workers that have grown, and no job is lost
            for _ in work(delayed(_keep)(case, settings, seed, folder) for case, seed in missing):
                bar.update(1)
    tables = [_kept(case, settings, seed, folder).assign(network=case.network, task=case.task, seed=seed) for case, seed in jobs]  # type: ignore[union-attr]
    return pd.concat(tables, ignore_index=True)


def _parameters(case: Case, settings: Settings, seed: int) -> dict[str, Any]:
    return asdict(case) | asdict(settings) | {"seed": seed}


def _place(case: Case, seed: int, folder: Path) -> Path:
    return folder / f"{case.network}_{case.task}_{seed}.csv"


def _kept(case: Case, settings: Settings, seed: int, folder: Path) -> pd.DataFrame | None:
    return recorded_table(_place(case, seed, folder), _parameters(case, settings, seed))


def _keep(case: Case, settings: Settings, seed: int, folder: Path) -> None:
    write_table(unit(case, settings, seed), _place(case, seed, folder), _parameters(case, settings, seed))


def agreement(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Spearman's rank correlation of predicted with true changes, one for each network, seed, method and number of examples.

    Args:
        table: from ``units``.
        part: ``single`` or ``several``.

    Returns:
        Columns ``network``, ``seed``, ``method``, ``examples``, ``signed`` (with the true change) and ``absolute`` (with its size).
    """
    keys = ["network", "seed", "method", "examples"]
    rows = []
    for key, one in table[table["part"] == part].groupby(keys, sort=False):
        found = {
            "signed": rank_correlation(one["predicted"], one["change"]),
            "absolute": rank_correlation(one["predicted"], one["change"].abs()),
        }
        rows.append(dict(zip(keys, key, strict=True)) | found)
    return pd.DataFrame(rows)


def summary(correlations: pd.DataFrame, value: str = "signed") -> pd.DataFrame:
    """Mean over seeds with its 95 % t interval, and median, by network and method; and over all networks.

    Args:
        correlations: from ``agreement``, of one number of examples.
        value: ``signed`` or ``absolute``.

    Returns:
        Columns ``network``, ``method``, ``mean``, ``low``, ``high``, ``n`` (seeds) and ``median`` (of the correlations). Over all networks each seed counts
        with the mean over its networks, and the median is that of all the correlations. NaN where a correlation is undefined.
    """
    rows = []
    for method, one in correlations.groupby("method", sort=False):
        for network, some in [*one.groupby("network", sort=False), (OVERALL, one)]:
            by_seed = some.groupby("seed")[value].mean() if some[value].notna().all() else None
            interval = mean_interval(by_seed) if by_seed is not None else Interval(np.nan, np.nan, np.nan, 0)
            ends = dict(zip(("low", "high"), np.clip([interval.low, interval.high], -1, 1), strict=True))
            rows.append({"network": network, "method": method, **asdict(interval), **ends, "median": some[value].median(skipna=False)})
    return pd.DataFrame(rows)


def difference(correlations: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """How much higher one method's correlation is than another's, in pairs of one seed, by network and over all networks.

    Returns:
        Columns ``network``, ``mean``, ``low``, ``high``, ``n``.
    """
    wide = correlations.pivot(index=["network", "seed"], columns="method", values="signed")
    rows = []
    for network in [*correlations["network"].unique(), OVERALL]:
        some = wide.groupby("seed").mean() if network == OVERALL else wide.loc[network]
        rows.append({"network": network, **asdict(paired_difference(some[first], some[second]))})
    return pd.DataFrame(rows)


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds of each method and how many forward passes that is: geometric mean over seeds with 95 % t interval (of the logarithms), by network.

    Args:
        table: from ``units``.

    Returns:
        Columns ``network``, ``method``, ``seconds``, ``mean``, ``low``, ``high`` (forward passes) and ``n``.
    """
    rows = []
    for (network, method), one in table[table["part"] == "cost"].groupby(["network", "method"], sort=False):
        logs = mean_interval(np.log(one["predicted"] / one["change"]))
        passes = {end: float(np.exp(getattr(logs, end))) for end in ("mean", "low", "high")}
        rows.append({"network": network, "method": method, "seconds": one["predicted"].mean(), **passes, "n": logs.n})
    return pd.DataFrame(rows)


def references(table: pd.DataFrame) -> pd.DataFrame:
    """What a removed edge is replaced by: zeros against mean activations, on test data, mean over seeds with 95 % t interval.

    Args:
        table: from ``units``.

    Returns:
        Columns ``network``, ``measure``, ``mean``, ``low``, ``high``, ``n``. Measures: the mean over edges of the signed and of the absolute change with
        zeros and with means, and the rank correlation between the two changes of an edge.
    """
    rows = []
    for network, one in table[table["part"] == "mean reference"].groupby("network", sort=False):
        seeds = [some for _, some in one.groupby("seed")]
        ways: dict[str, Callable[[pd.DataFrame], float]] = {
            "signed change, zeros": lambda t: t["predicted"].mean(),
            "signed change, mean activations": lambda t: t["change"].mean(),
            "absolute change, zeros": lambda t: t["predicted"].abs().mean(),
            "absolute change, mean activations": lambda t: t["change"].abs().mean(),
            "rank correlation of the two": lambda t: rank_correlation(t["predicted"], t["change"]),
        }
        rows += [{"network": network, "measure": name, **asdict(mean_interval([way(t) for t in seeds]))} for name, way in ways.items()]
    return pd.DataFrame(rows)


def reached(by_network: pd.DataFrame, method: str, threshold: float) -> pd.DataFrame:
    """Whether a method's median rank correlation reaches a threshold, by network and over all of them.

    Returns:
        Columns ``network``, ``median``, ``met``.
    """
    mine = by_network[by_network["method"] == method]
    return pd.DataFrame({"network": mine["network"], "median": mine["median"], "met": mine["median"] >= threshold}).reset_index(drop=True)
