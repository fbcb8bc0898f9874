"""Table 1: BoGP beside pruning methods, in two accountings (paper sections 6.2 and 6.4, and what a fair comparison needs).

*As in the paper*: a baseline prunes every layer to the sparsity s, while BoGP's mask, of the same s, sits on the hidden layer alone. *Like for like*: every
method prunes the layers that BoGP's mask lies on, exactly as many weights as BoGP's mask of that pair does, and what is compared cost as many trainings:
one, or the best of as many as a search has, chosen on validation.

A *pair* k is one search of BoGP; whatever is trained once beside it starts from the same seed as the retraining of its mask, so that methods are compared
in pairs.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from bogp import baselines, paths, search
from bogp.claims import FIXED_SPARSITY, search_parameters
from bogp.database import DatabaseSpec, MaskDatabase
from bogp.errors import InvalidInput
from bogp.evaluation import Evaluator, Job, Recipe
from bogp.protocols import Protocol, resized, smaller_dense
from bogp.provenance import recorded_table, write_table
from bogp.relational import effective_sparsity, layer_masks, model_sparsity, n_weights
from bogp.statistics import equivalence, mean_interval, paired_difference

NOTEBOOK = "05_baselines"  # folder of its results, and start of the names of its evaluations
MARGIN = 0.002  # in accuracy: smaller differences count as none where equivalence is tested; set before the first run
PAPER, LIKE = "as in the paper", "like for like"
CANDIDATE_SEED = 1_000_000  # the first seed of networks of which the best is chosen; other networks' seeds lie below it
LABELS = {
    "base": "Base (unpruned)",
    "one_hidden_layer": "Base without the masked layer",
    "smaller_dense": "smaller dense network",
    "bogp": "BoGP",
    "bogp_mask": "BoGP's mask, given",
    "random_mask": "random search's mask, given",
    "random_hidden": "random mask, hidden layer",
    "random": "random",
    "erk": "ERK",
    "glob_1": "Glob_1",
    "glob_1_shuffled": "Glob_1, shuffled",
    "glob_5": "Glob_5",
    "unif_1": "Unif_1",
    "unif_5": "Unif_5",
    "lamp_1": "LAMP_1",
    "lamp": "LAMP after training",
    "snip": "SNIP",
    "snip_shuffled": "SNIP, shuffled",
    "synflow": "SynFlow",
    "synflow_shuffled": "SynFlow, shuffled",
    "lottery": "lottery ticket",
    "base_best": "Base, best of n",
    "random_search": "random search",
    "random_best": "random, best of n",
    "glob_1_best": "Glob_1, best of n",
    "glob_5_best": "Glob_5, best of n",
    "snip_best": "SNIP, best of n",
    "synflow_best": "SynFlow, best of n",
    "lottery_best": "lottery ticket, best of n",
}
README = (
    "base", "one_hidden_layer", "smaller_dense", "bogp", "bogp_mask", "random_mask", "random_hidden", "random", "erk", "glob_1", "glob_5", "unif_1", "unif_5",
    "lamp", "snip", "synflow", "lottery", "base_best", "random_search", "random_best", "glob_1_best", "glob_5_best", "snip_best", "synflow_best",
    "lottery_best",
)  # fmt: skip
_CONTROLS = ("base", "smaller_dense", "one_hidden_layer")  # networks without a mask


@dataclass(frozen=True)
class Plan:
    """What is compared, and how often.

    Attributes:
        protocol: how networks are trained, and which layers BoGP's mask lies on.
        dataset: name of the data set.
        methods: names (``baselines.named``, or ``base``, ``smaller_dense``, ``one_hidden_layer``) in the paper's accounting.
        like: names in the accounting like for like, one network each.
        chosen: names in the accounting like for like of which the best of as many as ``budget`` pays for is chosen on validation.
        paired: of ``methods`` and ``like``, the names that are repeated for each pair; the others are for the first ``repeats`` pairs.
        paired_chosen: the same of ``chosen``.
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
    paired_chosen: tuple[str, ...]
    pairs: int
    repeats: int
    budget: int
    fresh_seeds: int = 1

    def __post_init__(self) -> None:
        for field in ("methods", "like", "chosen", "paired", "paired_chosen"):
            names = tuple(getattr(self, field))
            object.__setattr__(self, field, names)
            for name in names:
                if name not in _CONTROLS:
                    baselines.named(name, 0.5)  # refuses unknown names
            if len(set(names)) != len(names):
                raise InvalidInput(f"{field} is {', '.join(names)}; each name may stand there once.")
        for field, of in (("paired", (*self.methods, *self.like)), ("paired_chosen", self.chosen)):
            if strangers := set(getattr(self, field)) - set(of):
                raise InvalidInput(f"{field} names {', '.join(sorted(strangers))}, which is not among what is compared.")
        if min(self.pairs, self.repeats, self.budget, self.fresh_seeds) < 1:
            raise InvalidInput("pairs, repeats, budget and fresh_seeds must be at least 1.")
        search.check_fresh_seeds(self.fresh_seeds, self.pairs)

    def times(self, name: str, paired: Collection[str]) -> int:
        """How often a method is repeated."""
        return self.pairs if name in paired else min(self.repeats, self.pairs)

    def seed(self, pair: int) -> int:
        """Of what is trained once beside the retraining of a pair's mask."""
        return search.FRESH_SEED + pair * self.fresh_seeds


@dataclass(frozen=True)
class Entry:
    """One number of Table 1 before averaging: the best of some networks, chosen on validation (often of one)."""

    accounting: str
    method: str
    sparsity: float
    pair: int
    jobs: tuple[Job, ...]

    @property
    def budget(self) -> int:
        """Trainings that the number cost."""
        return sum(_trainings(job) for job in self.jobs)


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


def at_sparsity(plan: Plan, sparsity: float, by: Search, run: str, use_exported: bool = True) -> pd.DataFrame:
    """Table 1's numbers at one sparsity before averaging: as they were recorded, if with these parameters; else trained now, written and exported.

    Args:
        plan: what to compare.
        sparsity: target of the masks.
        by: the search. Its chosen masks are those that notebook 03 wrote in this run, if with these parameters; else they are searched for now.
        run: folder of results.
        use_exported: take over evaluations exported earlier.

    Returns:
        As ``results``.
    """
    name = f"{plan.protocol.name}_s{sparsity:.2f}"
    folder, earlier, exports = paths.results_dir(run) / NOTEBOOK, paths.results_dir(run) / FIXED_SPARSITY, paths.evaluations_dir(run)
    export = exports / f"{NOTEBOOK}_{name}.parquet"
    known = [export, exports / f"{FIXED_SPARSITY}_{name}.parquet"]
    evaluator = Evaluator(known=known if use_exported else [])
    searched = search_parameters(plan.protocol, sparsity, by.settings, plan.pairs, by.spec, plan.dataset, evaluator)
    searched |= {"fresh_seeds": plan.fresh_seeds}
    parameters = {"search": searched} | {f.name: getattr(plan, f.name) for f in fields(plan) if f.name != "protocol"}
    found = recorded_table(folder / f"{name}_results.csv", parameters)
    if found is not None and export.exists():
        return found
    masks = by.masks.at(sparsity)
    check(plan, sparsity, evaluator)
    chosen = recorded_table(earlier / f"{name}_chosen.csv", searched)
    if chosen is None:
        chosen = _search(plan, masks, by.settings, evaluator)
    table = results(plan, sparsity, chosen, masks, evaluator)
    evaluator.store.export(export, sorted(evaluator.asked))  # before the table: one that is found again has its evaluations beside it
    write_table(table, folder / f"{name}_results.csv", parameters)
    return table


def check(plan: Plan, sparsity: float, evaluator: Evaluator) -> None:
    """Refuse, before anything is trained, what cannot be done at a sparsity.

    Args:
        plan, evaluator: as in ``results``.
        sparsity: target of the masks.

    Raises:
        UnreachableSparsity, InvalidInput: a method cannot reach it, or would empty a layer (where that shows before training: pruning by global rank after a
            training cannot be foreseen).
    """
    for entry in _entries(replace(plan, pairs=1), sparsity, {0: sparsity}):
        for job in entry.jobs[:1]:
            if isinstance(job.recipe, baselines.Method):
                baselines.check(job.recipe, job.seed, job.protocol, evaluator.dataset(job.dataset))


def _search(plan: Plan, masks: MaskDatabase, settings: search.SearchSettings, evaluator: Evaluator) -> pd.DataFrame:
    searchers: list[search.Searcher] = [search.BoxSearch(masks, settings, seed) for seed in range(plan.pairs)]
    searchers += [search.RandomSearch(masks, settings.budget, seed) for seed in range(plan.pairs)]
    history = search.run(searchers, masks, evaluator, plan.protocol, plan.dataset)
    return search.retrain(search.recommend(history), masks, evaluator, plan.protocol, plan.dataset, plan.fresh_seeds)


def entries(plan: Plan, sparsity: float, chosen: pd.DataFrame) -> list[Entry]:
    """Everything that is trained beside the searches at one sparsity.

    Args:
        plan: what to compare.
        sparsity: target of the masks.
        chosen: from ``search.retrain``; gives the exact sparsity of each pair's mask.

    Raises:
        InvalidInput: as many pairs as the plan has are not in ``chosen``; a method cannot reach the sparsity.
    """
    exact = chosen[chosen["method"] == "bogp"].set_index("search_seed")["sparsity"]
    if sorted(exact.index) != list(range(plan.pairs)):
        raise InvalidInput(f"The plan has {plan.pairs} pairs; the chosen masks are of searches {sorted(exact.index)}.")
    return list(_entries(plan, sparsity, exact.to_dict()))


def _entries(plan: Plan, sparsity: float, exact: dict[int, float]) -> Iterator[Entry]:
    for pair in range(plan.pairs):
        seed = plan.seed(pair)
        yield Entry(PAPER, "random_hidden", sparsity, pair, (_job(plan, "random", exact[pair], "masked", seed),))
        for name in plan.methods:
            if pair < plan.times(name, plan.paired):
                yield Entry(PAPER, name, sparsity, pair, (_job(plan, name, sparsity, "all", seed),))
        for name in plan.like:
            if pair < plan.times(name, plan.paired):
                yield Entry(LIKE, name, sparsity, pair, (_job(plan, name, exact[pair], "masked", seed),))
        for name in plan.chosen:
            if pair < plan.times(name, plan.paired_chosen):
                each = _trainings(_job(plan, name, exact[pair], "masked", seed))
                first = CANDIDATE_SEED + pair * plan.budget
                seeds = range(first, first + max(1, plan.budget // each))
                yield Entry(LIKE, f"{name}_best", sparsity, pair, tuple(_job(plan, name, exact[pair], "masked", s) for s in seeds))


def _job(plan: Plan, name: str, sparsity: float, layers: str, seed: int) -> Job:
    protocol = plan.protocol
    if name == "one_hidden_layer":
        protocol = resized(protocol, (protocol.widths[0], protocol.widths[1], protocol.widths[-1]))
    elif name == "smaller_dense":
        pruned = range(len(protocol.widths) - 1) if layers == "all" else protocol.masked_layers
        removed = round(sparsity * sum(protocol.widths[i] * protocol.widths[i + 1] for i in pruned))
        protocol = smaller_dense(protocol, n_weights(protocol.widths) - removed, "all" if layers == "all" else "last")
    elif name != "base":
        return Job(baselines.named(name, sparsity, layers), seed, protocol, plan.dataset)
    return Job(Recipe((None,) * (len(protocol.widths) - 1)), seed, protocol, plan.dataset)


def results(plan: Plan, sparsity: float, chosen: pd.DataFrame, masks: MaskDatabase, evaluator: Evaluator) -> pd.DataFrame:
    """Train what is compared at one sparsity.

    Args:
        plan, sparsity, chosen: as in ``entries``.
        masks: of that sparsity.
        evaluator: trains what the store does not hold.

    Returns:
        One row an accounting, method and pair: ``budget`` (trainings that it cost), ``validation`` and ``test`` accuracy of the network that was chosen on
        validation (for ``bogp_mask`` and ``random_mask``: of the chosen mask trained again with fresh seeds), ``weights`` that are left, sparsity of the
        mask (of the layers that were pruned), of the model and effective, ``layer_sparsity``, and the evaluation's ``key`` (``-`` for a mask that was
        trained again, with ``fresh_seeds`` evaluations).
    """
    todo = entries(plan, sparsity, chosen)
    rows = evaluator.evaluate([job for entry in todo for job in entry.jobs])
    at, table = 0, _searched(plan, sparsity, chosen, masks)
    for entry in todo:
        mine = rows.iloc[at : at + len(entry.jobs)]
        at += len(entry.jobs)
        table.append(_row(plan, entry, mine.loc[mine["validation_accuracy"].idxmax()], entry.jobs[0]))
    result = pd.DataFrame(table)
    return result.sort_values(["accounting", "method", "pair"], kind="stable", ignore_index=True)


def _row(plan: Plan, entry: Entry, best: pd.Series, job: Job) -> dict[str, Any]:
    whole = n_weights(plan.protocol.widths)
    kept = round((1 - best["model_sparsity"]) * n_weights(job.protocol.widths))
    effective = 1 - (1 - best["effective_sparsity"]) * n_weights(job.protocol.widths) / whole
    pruned = 0
    if isinstance(job.recipe, baselines.Method):
        layers = range(len(job.protocol.widths) - 1) if job.recipe.layers == "all" else job.protocol.masked_layers
        pruned = sum(job.protocol.widths[i] * job.protocol.widths[i + 1] for i in layers)
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


def _searched(plan: Plan, sparsity: float, chosen: pd.DataFrame, masks: MaskDatabase) -> list[dict[str, Any]]:
    """Rows of the two searches: the network that a search chose, and its mask trained again."""
    row_of = {mask_id: row for row, mask_id in enumerate(masks.table["mask_id"])}
    whole, table = n_weights(plan.protocol.widths), []
    budget = plan.budget
    for one in chosen.itertuples():
        expanded = layer_masks(masks.mask(row_of[one.mask_id]), plan.protocol.widths, plan.protocol.masked_layers)
        sparse = model_sparsity(expanded, plan.protocol.widths)
        common = {
            "weights": round((1 - sparse) * whole),
            "mask_sparsity": one.sparsity,
            "model_sparsity": sparse,
            "effective_sparsity": effective_sparsity(expanded, plan.protocol.widths),
            "layer_sparsity": str([0.0 if m is None else round(1 - float(m.mean()), 9) for m in expanded]),
        }
        again = {"budget": budget + plan.fresh_seeds, "validation": one.fresh_validation, "test": one.fresh_test, "key": "-"}
        first = {"budget": budget, "validation": one.apparent, "test": one.test_accuracy, "key": one.key}
        best = {"bogp": "bogp", "random": "random_search"}[one.method]
        table.append(_identity(plan, LIKE, best, sparsity, one.search_seed) | first | common)
        table.append(_identity(plan, LIKE, f"{one.method}_mask", sparsity, one.search_seed) | again | common)
        if one.method == "bogp":
            table.append(_identity(plan, PAPER, "bogp", sparsity, one.search_seed) | again | common)
    return table


def _identity(plan: Plan, accounting: str, method: str, sparsity: float, pair: int) -> dict[str, Any]:
    names = {"dataset": plan.dataset, "protocol": plan.protocol.name, "accounting": accounting, "method": method}
    return names | {"target_sparsity": sparsity, "pair": pair}


def summary(table: pd.DataFrame, printed: dict[str, dict[float, float]]) -> pd.DataFrame:
    """Table 1: mean and 95 % t interval over pairs of each method at each sparsity, in both accountings.

    Args:
        table: from ``results``, of one or more sparsities.
        printed: the paper's accuracy by method and sparsity; it stands beside ours in the paper's accounting.

    Returns:
        One row a protocol, accounting, method, sparsity and measure (``validation``, ``test``): mean, low, high, n, ``paper``, ``budget``, the three sparsities
        (means), and the paired difference from BoGP on the same pairs, ``gap``, ``gap_low``, ``gap_high``, ``gap_n`` (from its network where a method's best of
        several was chosen as well, else from its mask trained again), and ``at_par``: whether it is smaller than ``MARGIN`` by two one-sided tests at 5 %.
    """
    rows = []
    keys = ["dataset", "protocol", "accounting", "target_sparsity"]
    for at, cell in table.groupby(keys):
        for method, one in cell.groupby("method"):
            reference = "bogp" if at[2] == PAPER or is_chosen(method) else "bogp_mask"
            both = one.merge(cell[cell["method"] == reference], on="pair", suffixes=("", "_bogp"))
            for measure in ("validation", "test"):
                interval = mean_interval(one[measure])
                gap = paired_difference(both[measure], both[f"{measure}_bogp"]) if method != reference else None
                row = dict(zip(keys, at, strict=True)) | {"method": method, "measure": measure} | vars(interval)
                row["paper"] = printed.get(method, {}).get(at[3], np.nan) if at[2] == PAPER else np.nan
                row |= {c: one[c].mean() for c in ("budget", "mask_sparsity", "model_sparsity", "effective_sparsity")}
                row |= {"gap": np.nan, "gap_low": np.nan, "gap_high": np.nan, "gap_n": 0, "at_par": False}
                if gap:
                    row |= {"gap": gap.mean, "gap_low": gap.low, "gap_high": gap.high, "gap_n": gap.n}
                    row["at_par"] = gap.n > 1 and equivalence(both[measure], both[f"{measure}_bogp"], MARGIN).holds
                rows.append(row)
    return pd.DataFrame(rows)


def is_chosen(method: str) -> bool:
    """Whether a line of the accounting like for like shows the network that validation chose among a whole budget of them."""
    return method in ("bogp", "random_search") or method.endswith("_best")


def rendered(table: pd.DataFrame, accounting: str, measure: str = "test", methods: Collection[str] | None = None) -> pd.DataFrame:
    """One accounting of Table 1 for people: a line a method, a column a sparsity, mean and half width of the 95 % interval, the paper's number in brackets.

    Args:
        table: from ``summary``, of one protocol.
        accounting: ``PAPER`` or ``LIKE``.
        measure: ``test`` or ``validation``.
        methods: which; None is all.
    """
    mine = table[
        (table["accounting"] == accounting) & (table["measure"] == measure) & table["method"].isin(methods or set(table["method"]))
    ]
    order = [name for name in LABELS if name in set(mine["method"])] + sorted(set(mine["method"]) - set(LABELS))
    lines = []
    for name in order:
        one = mine[mine["method"] == name].set_index("target_sparsity").sort_index()
        cells = {
            f"s = {s:.2f}": f"{row['mean']:.4f}" + ("" if np.isnan(row["low"]) else f" ± {row['high'] - row['mean']:.4f}")
            + ("" if np.isnan(row["paper"]) else f" [{row['paper']:.3f}]")
            for s, row in one.iterrows()
        }  # fmt: skip
        lines.append({"method": LABELS.get(name, name), "trainings": round(one["budget"].iloc[0]), "n": one["n"].iloc[0]} | cells)
    return pd.DataFrame(lines).fillna("")


def shuffles(table: pd.DataFrame) -> pd.DataFrame:
    """What a method's score is worth beyond how many weights each layer keeps: test accuracy minus that of its shuffled mask, on the same pairs.

    Args:
        table: from ``results``, of one or more sparsities.

    Returns:
        One row a method and sparsity whose shuffled control is there: mean difference, ``low``, ``high`` (95 % t interval) and ``n``.
    """
    rows, paper = [], table[table["accounting"] == PAPER]
    for (method, sparsity), control in paper[paper["method"].str.endswith("_shuffled")].groupby(["method", "target_sparsity"], sort=False):
        own = paper[(paper["method"] == method.removesuffix("_shuffled")) & (paper["target_sparsity"] == sparsity)]
        both = own.merge(control, on="pair", suffixes=("", "_shuffled"))
        if len(both):
            gap = paired_difference(both["test"], both["test_shuffled"])
            rows.append((LABELS.get(method.removesuffix("_shuffled"), method), sparsity, gap.mean, gap.low, gap.high, gap.n))
    return pd.DataFrame(rows, columns=["method", "sparsity", "method minus shuffled", "low", "high", "n"])


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """At how many sparsities each method is better or worse than BoGP on test images, or cannot be told apart from it (95 % intervals, uncorrected),
    and at how many it is at par (two one-sided tests, margin ``MARGIN``).

    Args:
        table: from ``summary``, of one protocol.
    """
    rows = []
    for (accounting, method), one in table[table["measure"] == "test"].dropna(subset="gap_low").groupby(["accounting", "method"]):
        better, worse = int((one["gap_low"] > 0).sum()), int((one["gap_high"] < 0).sum())
        largest = one.loc[one["gap"].abs().idxmax()]
        undecided, par = len(one) - better - worse, int(one["at_par"].sum())
        rows.append(
            (
                accounting,
                LABELS.get(method, method),
                better,
                worse,
                undecided,
                par,
                largest["gap"],
                largest["target_sparsity"],
                one["gap_n"].min(),
            )
        )
    names = [
        "accounting",
        "method",
        "better than BoGP",
        "worse than BoGP",
        "undecided",
        f"at par within {MARGIN}",
        "largest difference",
        "at sparsity",
        "n",
    ]
    return pd.DataFrame(rows, columns=names)


def findings(table: pd.DataFrame) -> str:
    """What Table 1 comes to, worked out from it: BoGP against each group of comparisons on test images.

    Args:
        table: from ``summary``, of one protocol.
    """
    test = table[table["measure"] == "test"].dropna(subset="gap_low")

    def count(accounting: str, methods: Collection[str]) -> str:
        one = test[(test["accounting"] == accounting) & test["method"].isin(methods)]
        better, worse = int((one["gap_high"] < 0).sum()), int((one["gap_low"] > 0).sum())
        return f"better in {better}, worse in {worse}, undecided in {len(one) - better - worse} of {len(one)}"

    best = [m for m in set(test["method"]) if is_chosen(m)]
    largest = (
        test[(test["accounting"] == LIKE) & test["method"].isin(["random", "glob_1", "random_search", "glob_1_best"])]["gap"].abs().max()
    )
    return (
        f"Against the paper's four baselines as the paper counts, BoGP is {count(PAPER, ['glob_1', 'glob_5', 'unif_1', 'unif_5'])} comparisons; "
        f"against a random mask on the same layer {count(PAPER, ['random_hidden'])}. Like for like its mask is {count(LIKE, ['glob_1'])} against magnitude "
        f"pruning before training, and {count(LIKE, ['random'])} against random pruning; the network that the search chose is {count(LIKE, best)} "
        f"against others chosen with the same budget. The largest mean difference from random and magnitude pruning, like for like, is {largest:.4f}."
    )


def layer_sparsities(
    protocol: Protocol, dataset: str, methods: Sequence[str], sparsities: Sequence[float], seeds: int, evaluator: Evaluator
) -> pd.DataFrame:
    """What each method would leave of each layer before any training; layers may be emptied here, which is what is to be seen.

    Returns:
        One row a method, sparsity, seed and layer: ``layer`` (0 reads the input), ``layer_sparsity``, ``empty``, and the model's ``effective_sparsity``.
    """
    rows = []
    for name in methods:
        for sparsity in sparsities:
            method = replace(baselines.named(name, sparsity), allow_empty=True)
            for seed in range(search.FRESH_SEED, search.FRESH_SEED + seeds):
                masks = baselines.first_masks(method, seed, protocol, evaluator.dataset(dataset))
                if masks is None:
                    raise InvalidInput(f"{name} prunes after training; only methods that prune before it can be shown without training.")
                effective = effective_sparsity(masks, protocol.widths)
                for layer, mask in enumerate(masks):
                    share = 0.0 if mask is None else 1 - float(mask.mean())
                    rows.append((name, sparsity, seed, layer, share, mask is not None and not mask.any(), effective))
    return pd.DataFrame(rows, columns=["method", "sparsity", "seed", "layer", "layer_sparsity", "empty", "effective_sparsity"])


def emptying_sparsity(widths: Sequence[int]) -> float:
    """The sparsity at which global magnitude pruning of initial weights is expected to remove the last weight of the first layer.

    A layer's initial weights are uniform between -1 / sqrt(d_in) and 1 / sqrt(d_in), so those of a wide input are the smallest: when the first layer is gone,
    each other layer has lost the share sqrt(d_in / widths[0]) of its weights.

    Args:
        widths: layer widths, none larger than the first.
    """
    sizes = [a * b for a, b in zip(widths, widths[1:], strict=False)]
    return sum(size * np.sqrt(d_in / widths[0]) for size, d_in in zip(sizes, widths, strict=False)) / sum(sizes)


def emptied(plan: Plan, sparsity: float, evaluator: Evaluator) -> pd.DataFrame:
    """Global pruning before training where it empties a layer, beside uniform pruning of the same sparsity: ``repeats`` rows of the evaluator each."""
    jobs, names = [], []
    for name in ("glob_1", "unif_1"):
        method = replace(baselines.named(name, sparsity), allow_empty=True)
        jobs += [Job(method, plan.seed(pair), plan.protocol, plan.dataset) for pair in range(plan.repeats)]
        names += [name] * plan.repeats
    return evaluator.evaluate(jobs).assign(name=names)


def _trainings(job: Job) -> int:
    return job.recipe.trainings if isinstance(job.recipe, baselines.Method) else 1
