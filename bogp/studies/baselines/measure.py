"""Table 1: BoGP beside pruning methods, in two accountings (paper sections 6.2 and 6.4, and what a
fair comparison needs).

*As in the paper*: a baseline prunes every layer to the sparsity s, while BoGP's mask, of the same
s, sits on the hidden layer alone. *Like for like*: every method prunes the layers that BoGP's mask
lies on, exactly as many weights as BoGP's mask of that pair does, and what is compared cost as many
trainings: one, or the best of as many as a search has, chosen on validation.

A *pair* k is one search of BoGP; whatever is trained once beside it starts from the same seed as
the retraining of its mask, so that methods are compared in pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bogp import paths, search
from bogp.checks import choice, texts, whole
from bogp.errors import InvalidInput
from bogp.graphs.database import DatabaseSpec, MaskDatabase
from bogp.graphs.relational import effective_sparsity, layer_masks, model_sparsity, n_weights
from bogp.records import recorded_table, write_table
from bogp.studies.fixed_sparsity.tables import FIXED_SPARSITY, search_parameters
from bogp.training import baselines
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol, resized, smaller_dense

NOTEBOOK = "05_baselines"  # folder of its results, and start of the names of its evaluations
PAPER, LIKE = "as in the paper", "like for like"
# the first seed of networks of which the best is chosen; other networks' seeds lie below it
CANDIDATE_SEED = 1_000_000
CONTROLS = ("base", "smaller_dense", "one_hidden_layer")  # networks without a mask


@dataclass(frozen=True)
class Design:
    """Which methods stand beside BoGP; names as in ``baselines.named``.

    Attributes:
        methods: in the paper's accounting, each layer pruned.
        shuffled: those of them that are also trained with their mask shuffled.
        like: like for like, one network each.
        chosen: like for like, the best of as many as a search's budget pays for.
        paired: what is repeated for each search (``..._best`` are those of ``chosen``); the others
            are for the first ``repeats`` searches.
        repeats: see ``paired``.
    """

    methods: tuple[str, ...]
    shuffled: tuple[str, ...]
    like: tuple[str, ...]
    chosen: tuple[str, ...]
    paired: tuple[str, ...]
    repeats: int


_PRUNED_FIRST = ("glob_1", "glob_5", "unif_1", "unif_5", "random")  # the paper's, and random
DESIGNS = {
    "smoke": Design(
        methods=("glob_1", "glob_5", "unif_1", "random", "snip"),
        shuffled=("glob_1",),
        like=("random", "glob_1", "lottery"),
        chosen=("glob_1",),
        paired=("base", "random", "glob_1"),
        repeats=1,
    ),
    "paper": Design(
        methods=(*_PRUNED_FIRST, "erk", "lamp_1", "lamp", "snip", "synflow", "lottery"),
        shuffled=("glob_1", "snip", "synflow"),
        like=("random", "glob_1", "glob_5", "snip", "synflow", "lottery"),
        chosen=("base", "random", "glob_1"),
        paired=("base", "random", "glob_1", "unif_1", "base_best", "glob_1_best"),
        repeats=5,
    ),
    "full_batch": Design(  # what the protocol `paper` can pay for
        methods=_PRUNED_FIRST,
        shuffled=(),
        like=("random", "glob_1"),
        chosen=(),
        paired=("base", "random", "glob_1", "unif_1"),
        repeats=3,
    ),
}


@dataclass(frozen=True)
class Plan:
    """What is compared, and how often.

    Attributes:
        protocol: how networks are trained, and which layers BoGP's mask lies on.
        dataset: name of the data set.
        methods: names (``baselines.named``, or ``base``, ``smaller_dense``, ``one_hidden_layer``)
            in the paper's accounting.
        like: names in the accounting like for like, one network each.
        chosen: names in the accounting like for like of which the best of as many as ``budget``
            pays for is chosen on validation.
        paired: names that are repeated for each pair, ``..._best`` those of ``chosen``; the others
            are for the first ``repeats`` pairs.
        pairs: searches of BoGP.
        repeats: see ``paired``.
        budget: trainings of one search.
        fresh_seeds: retrainings of each chosen mask, see ``search.retrain``.
    """

    protocol: Protocol
    dataset: str
    methods: tuple[str, ...]
    like: tuple[str, ...]
    chosen: tuple[str, ...]
    paired: tuple[str, ...]
    pairs: int
    repeats: int
    budget: int
    fresh_seeds: int = 1

    def __post_init__(self) -> None:
        for field in ("methods", "like", "chosen", "paired"):
            names = texts(field, getattr(self, field))
            object.__setattr__(self, field, names)
            if len(set(names)) != len(names):
                raise InvalidInput(
                    f"{field} is {', '.join(names)}; each name may stand there once."
                )
        for name in {*self.methods, *self.like, *self.chosen} - set(CONTROLS):
            baselines.named(name, 0.5)  # refuses unknown names
        compared = {*self.methods, *self.like, *(f"{name}_best" for name in self.chosen)}
        if strangers := set(self.paired) - compared:
            raise InvalidInput(
                f"paired names {', '.join(sorted(strangers))}, which is not among what is compared."
            )
        for field in ("pairs", "repeats", "budget", "fresh_seeds"):
            whole(field, getattr(self, field), 1)
        search.check_fresh_seeds(self.fresh_seeds, self.pairs)

    def times(self, name: str) -> int:
        """How often a method is repeated."""
        return self.pairs if name in self.paired else min(self.repeats, self.pairs)

    def seed(self, pair: int) -> int:
        """Of what is trained once beside the retraining of a pair's mask."""
        return search.FRESH_SEED + pair * self.fresh_seeds


@dataclass(frozen=True)
class Entry:
    """One number of Table 1 before averaging: the best of some networks, chosen on validation
    (often of one).
    """

    accounting: str
    method: str
    sparsity: float
    pair: int
    jobs: tuple[Job, ...]

    @property
    def budget(self) -> int:
        """Trainings that the number cost."""
        return sum(job.trainings for job in self.jobs)


@dataclass(frozen=True)
class Search:
    """The search whose masks are compared, as notebook 03 runs it.

    Attributes:
        spec: of the mask database.
        masks: the database.
        settings: of the search.
    """

    spec: DatabaseSpec
    masks: MaskDatabase
    settings: search.SearchSettings


def at_sparsity(plan: Plan, sparsity: float, by: Search, run: str) -> pd.DataFrame:
    """Table 1's numbers at one sparsity before averaging: as they were recorded, if with these
    parameters; else trained now, written and exported.

    Args:
        plan: what to compare.
        sparsity: target of the masks.
        by: the search. Its chosen masks are those that notebook 03 wrote in this run, if with these
            parameters; else they are searched for now.
        run: folder of results.

    Returns:
        As ``results``.
    """
    name = f"{plan.protocol.name}_s{sparsity:.2f}"
    tables, exports = paths.results_dir(run), paths.evaluations_dir(run)
    file, export = tables / NOTEBOOK / f"{name}_results.csv", exports / f"{NOTEBOOK}_{name}.parquet"
    evaluator = Evaluator(known=[export, exports / f"{FIXED_SPARSITY}_{name}.parquet"])
    searched = search_parameters(
        plan.protocol, sparsity, by.settings, plan.pairs, by.spec, plan.dataset
    ) | {"fresh_seeds": plan.fresh_seeds}
    parameters = {"search": searched | {"evaluator": evaluator.settings(plan.dataset)}} | {
        f.name: getattr(plan, f.name) for f in fields(plan) if f.name != "protocol"
    }
    found = recorded_table(file, parameters)
    if found is not None and export.exists():
        return found
    masks = by.masks.at(sparsity)
    check(plan, sparsity, evaluator)
    chosen = recorded_table(
        tables / FIXED_SPARSITY / f"{name}_chosen.csv",
        searched | {"dataset_checksum": evaluator.dataset(plan.dataset).checksum},
    )
    if chosen is None or not _is_known(chosen, masks, plan, evaluator):
        chosen = _search(plan, masks, by.settings, evaluator)
    table = results(plan, sparsity, chosen, masks, evaluator)
    # before the table: one that is found again has its evaluations beside it
    evaluator.store.export(export, sorted(evaluator.asked))
    write_table(table, file, parameters)
    return table


def planned(
    design: str, protocol: Protocol, dataset: str, searches: int, budget: int, fresh_seeds: int
) -> Plan:
    """The plan of a named design, the networks without a mask among what is compared.

    Args:
        design: ``smoke``, ``paper`` or ``full_batch``.
        protocol, dataset: how networks are trained, and on what.
        searches, budget, fresh_seeds: of the search that is compared.

    Raises:
        InvalidInput: there is no such design; or as ``Plan``.
    """
    d = DESIGNS[choice("design", design, DESIGNS)]
    methods = (*CONTROLS, *d.methods, *(f"{method}_shuffled" for method in d.shuffled))
    names = (methods, (*CONTROLS, *d.like), d.chosen, d.paired)
    return Plan(protocol, dataset, *names, searches, d.repeats, budget, fresh_seeds)


def check(plan: Plan, sparsity: float, evaluator: Evaluator) -> None:
    """Refuse, before anything is trained, what cannot be done at a sparsity.

    Args:
        plan, evaluator: as in ``results``.
        sparsity: target of the masks.

    Raises:
        UnreachableSparsity, InvalidInput: a method cannot reach it, or would empty a layer (where
            that shows before training: pruning by global rank after a training cannot be foreseen).
    """
    first = [entry.jobs[0] for entry in _entries(replace(plan, pairs=1), sparsity, {0: sparsity})]
    for job in first:
        if isinstance(job.recipe, baselines.Method):
            baselines.first_masks(
                job.recipe, job.seed, job.protocol, evaluator.dataset(job.dataset)
            )


def _is_known(chosen: pd.DataFrame, masks: MaskDatabase, plan: Plan, evaluator: Evaluator) -> bool:
    """Whether this evaluator would ask for the very evaluations that these masks were chosen by
    (same engine, libraries, precision and device).
    """
    row_of = masks.row_of()
    jobs = (
        search.mask_job(
            masks, row_of[one.mask_id], int(one.training_seed), plan.protocol, plan.dataset
        )
        for one in chosen.itertuples()
        if one.mask_id in row_of
    )
    return [evaluator.key(job) for job in jobs] == chosen["key"].tolist()


def _search(
    plan: Plan, masks: MaskDatabase, settings: search.SearchSettings, evaluator: Evaluator
) -> pd.DataFrame:
    how, seeds = (masks, evaluator, plan.protocol, plan.dataset), range(plan.pairs)
    searchers: list[search.Searcher] = [
        *(search.BoxSearch(masks, settings, seed) for seed in seeds),
        *(search.RandomSearch(masks, settings.budget, seed) for seed in seeds),
    ]
    return search.retrain(search.recommend(search.run(searchers, *how)), *how, plan.fresh_seeds)


def entries(plan: Plan, sparsity: float, chosen: pd.DataFrame) -> list[Entry]:
    """Everything that is trained beside the searches at one sparsity.

    Args:
        plan: what to compare.
        sparsity: target of the masks.
        chosen: from ``search.retrain``; gives the exact sparsity of each pair's mask.

    Raises:
        InvalidInput: as many pairs as the plan has are not in ``chosen``; a method cannot reach the
            sparsity.
    """
    exact = chosen[chosen["method"] == "bogp"].set_index("search_seed")["sparsity"]
    if sorted(exact.index) != list(range(plan.pairs)):
        raise InvalidInput(
            f"The plan has {plan.pairs} pairs; the chosen masks are of searches "
            f"{sorted(exact.index)}."
        )
    return list(_entries(plan, sparsity, exact.to_dict()))


def _entries(plan: Plan, sparsity: float, exact: dict[int, float]) -> Iterator[Entry]:
    for pair in range(plan.pairs):
        own, seed, first = exact[pair], plan.seed(pair), CANDIDATE_SEED + pair * plan.budget
        asked = [(PAPER, "random_hidden", [_job(plan, "random", own, "masked", seed)])]
        asked += [
            (accounting, name, [_job(plan, name, at, layers, seed)])
            for accounting, names, at, layers in (
                (PAPER, plan.methods, sparsity, "all"),
                (LIKE, plan.like, own, "masked"),
            )
            for name in names
            if pair < plan.times(name)
        ]
        for name in plan.chosen:
            if pair < plan.times(f"{name}_best"):
                one = _job(plan, name, own, "masked", first)
                seeds = range(first, first + max(1, plan.budget // one.trainings))
                asked.append((LIKE, f"{name}_best", [replace(one, seed=s) for s in seeds]))
        for accounting, name, jobs in asked:
            yield Entry(accounting, name, sparsity, pair, tuple(jobs))


def _job(plan: Plan, name: str, sparsity: float, layers: str, seed: int) -> Job:
    protocol = plan.protocol
    if name == "one_hidden_layer":
        protocol = resized(protocol, (*protocol.widths[:2], protocol.widths[-1]))
    elif name == "smaller_dense":
        left = n_weights(protocol.widths) - round(sparsity * _weights(protocol, layers))
        protocol = smaller_dense(protocol, left, "all" if layers == "all" else "last")
    elif name != "base":
        return Job(baselines.named(name, sparsity, layers), seed, protocol, plan.dataset)
    return Job(Recipe((None,) * (len(protocol.widths) - 1)), seed, protocol, plan.dataset)


def _weights(protocol: Protocol, layers: str) -> int:
    """Weights of all layers, or of those that masks lie on."""
    chosen = range(len(protocol.widths) - 1) if layers == "all" else protocol.masked_layers
    return sum(protocol.widths[i] * protocol.widths[i + 1] for i in chosen)


def results(
    plan: Plan, sparsity: float, chosen: pd.DataFrame, masks: MaskDatabase, evaluator: Evaluator
) -> pd.DataFrame:
    """Train what is compared at one sparsity.

    Args:
        plan, sparsity, chosen: as in ``entries``.
        masks: of that sparsity.
        evaluator: trains what the store does not hold.

    Returns:
        One row an accounting, method and pair: ``budget`` (trainings that it cost), ``validation``
        and ``test`` accuracy of the network that was chosen on validation (for ``bogp_mask`` and
        ``random_mask``: of the chosen mask trained again with fresh seeds), ``weights`` that are
        left, sparsity of the mask (of the layers that were pruned), of the model and effective,
        ``layer_sparsity``, and the evaluation's ``key`` (``-`` for a mask that was trained again,
        with ``fresh_seeds`` evaluations).
    """
    todo = entries(plan, sparsity, chosen)
    rows = evaluator.evaluate([job for entry in todo for job in entry.jobs])
    of = np.repeat(np.arange(len(todo)), [len(entry.jobs) for entry in todo])
    best = rows.loc[rows.groupby(of)["validation_accuracy"].idxmax()]
    table = _searched(plan, sparsity, chosen, masks)
    table += [_row(plan, entry, one) for entry, (_, one) in zip(todo, best.iterrows(), strict=True)]
    order = ["accounting", "method", "pair"]
    return pd.DataFrame(table).sort_values(order, kind="stable", ignore_index=True)


def _row(plan: Plan, entry: Entry, best: pd.Series) -> dict[str, Any]:
    job, whole = entry.jobs[0], n_weights(plan.protocol.widths)
    own = n_weights(job.protocol.widths)
    kept = round((1 - best["model_sparsity"]) * own)
    effective = 1 - (1 - best["effective_sparsity"]) * own / whole
    layers = job.recipe.layers if isinstance(job.recipe, baselines.Method) else None
    pruned = _weights(job.protocol, layers) if layers else 0
    return _identity(plan, entry.accounting, entry.method, entry.sparsity, entry.pair) | {
        "budget": entry.budget,
        "validation": best["validation_accuracy"],
        "test": best["test_accuracy"],
        "weights": kept,
        "mask_sparsity": (whole - kept) / pruned if pruned else np.nan,
        "model_sparsity": 1 - kept / whole,
        "effective_sparsity": effective,
        "layer_sparsity": best["layer_sparsity"],
        "key": best["key"],
    }


def _searched(
    plan: Plan, sparsity: float, chosen: pd.DataFrame, masks: MaskDatabase
) -> list[dict[str, Any]]:
    """Rows of the two searches: the network that a search chose, and its mask trained again."""
    row_of, widths = masks.row_of(), plan.protocol.widths
    table: list[dict[str, Any]] = []
    for one in chosen.itertuples():
        expanded = layer_masks(masks.mask(row_of[one.mask_id]), widths, plan.protocol.masked_layers)
        sparse = model_sparsity(expanded, widths)
        common = {
            "weights": round((1 - sparse) * n_weights(widths)),
            "mask_sparsity": one.sparsity,
            "model_sparsity": sparse,
            "effective_sparsity": effective_sparsity(expanded, widths),
            "layer_sparsity": str(
                [0.0 if m is None else round(1 - float(m.mean()), 9) for m in expanded]
            ),
        }
        again = {
            "budget": plan.budget + plan.fresh_seeds,
            "validation": one.fresh_validation,
            "test": one.fresh_test,
            "key": "-",
        }
        first = {
            "budget": plan.budget,
            "validation": one.apparent,
            "test": one.test_accuracy,
            "key": one.key,
        }
        of_method = {
            "bogp": [(LIKE, "bogp", first), (LIKE, "bogp_mask", again), (PAPER, "bogp", again)],
            "random": [(LIKE, "random_search", first), (LIKE, "random_mask", again)],
        }[one.method]
        table += [
            _identity(plan, accounting, name, sparsity, one.search_seed) | found | common
            for accounting, name, found in of_method
        ]
    return table


def _identity(
    plan: Plan, accounting: str, method: str, sparsity: float, pair: int
) -> dict[str, Any]:
    return {
        "dataset": plan.dataset,
        "protocol": plan.protocol.name,
        "accounting": accounting,
        "method": method,
        "target_sparsity": sparsity,
        "pair": pair,
    }


def layer_sparsities(
    protocol: Protocol,
    dataset: str,
    methods: Sequence[str],
    sparsities: Sequence[float],
    seeds: int,
    evaluator: Evaluator,
) -> pd.DataFrame:
    """What each method would leave of each layer before any training; layers may be emptied here,
    which is what is to be seen.

    Returns:
        One row a method, sparsity, seed and layer: ``layer`` (0 reads the input),
            ``layer_sparsity``, ``empty``, and the model's ``effective_sparsity``.
    """
    rows: list[dict[str, Any]] = []
    all_seeds = range(search.FRESH_SEED, search.FRESH_SEED + seeds)
    for name, sparsity, seed in product(methods, sparsities, all_seeds):
        method = replace(baselines.named(name, sparsity), allow_empty=True)
        masks = baselines.first_masks(method, seed, protocol, evaluator.dataset(dataset))
        if masks is None:
            raise InvalidInput(
                f"{name} prunes after training; only methods that prune before it can "
                "be shown without training."
            )
        labels = {"method": name, "sparsity": sparsity, "seed": seed}
        effective = effective_sparsity(masks, protocol.widths)
        rows += [
            labels
            | {
                "layer": layer,
                "layer_sparsity": 0.0 if mask is None else 1 - float(mask.mean()),
                "empty": mask is not None and not mask.any(),
                "effective_sparsity": effective,
            }
            for layer, mask in enumerate(masks)
        ]
    return pd.DataFrame(rows)


def emptying_sparsity(widths: Sequence[int]) -> float:
    """The sparsity at which global magnitude pruning of initial weights is expected to remove the
    last weight of the first layer.

    A layer's initial weights are uniform between -1 / sqrt(d_in) and 1 / sqrt(d_in), so those of a
    wide input are the smallest: when the first layer is gone, each other layer has lost the share
    sqrt(d_in / widths[0]) of its weights.

    Args:
        widths: layer widths, none larger than the first.
    """
    sizes = [a * b for a, b in zip(widths, widths[1:], strict=False)]
    return sum(
        size * np.sqrt(d_in / widths[0]) for size, d_in in zip(sizes, widths, strict=False)
    ) / sum(sizes)


def emptied(plan: Plan, sparsity: float, evaluator: Evaluator) -> pd.DataFrame:
    """Global pruning before training where it empties a layer, beside uniform pruning of the same
    sparsity: ``repeats`` rows of the evaluator each.
    """
    asked = list(product(("glob_1", "unif_1"), range(plan.repeats)))
    methods = [replace(baselines.named(name, sparsity), allow_empty=True) for name, _ in asked]
    jobs = [
        Job(method, plan.seed(pair), plan.protocol, plan.dataset)
        for method, (_, pair) in zip(methods, asked, strict=True)
    ]
    return evaluator.evaluate(jobs).assign(name=[name for name, _ in asked])
