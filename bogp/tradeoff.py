"""Algorithm 4: accuracy traded against sparsity by a weight alpha (paper section 5.3 and Table 2), and what a front of masks says about alpha.

Two forms of the objective, by name: ``sum``, accuracy + alpha * sparsity, as the paper prints it (the default), and ``interpolated``,
(1 - alpha) * accuracy + alpha * sparsity, as the released code computes it. The two order masks alike: ``interpolated`` at alpha is
(1 - alpha) times ``sum`` at alpha / (1 - alpha). Sparsity is that of the mask, accuracy the validation accuracy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bogp import search
from bogp.claims import PAPER_BOGP
from bogp.database import MaskDatabase
from bogp.errors import InvalidInput
from bogp.evaluation import Evaluator
from bogp.protocols import LITERAL, PAPER, Protocol
from bogp.provenance import recorded_table, write_table
from bogp.relational import effective_sparsity, layer_masks, model_sparsity
from bogp.statistics import mean_interval, paired_difference

ALPHA_TRADEOFF = "04_alpha_tradeoff_bo"  # folder of the results of that notebook
FORMS = ("sum", "interpolated")
# Table 2 of the paper: accuracy and sparsity at each alpha, both printed with two decimals (those of Table 1 with three).
PAPER_TABLE_2 = {0.1: (0.90, 0.73), 0.15: (0.88, 0.76), 0.25: (0.82, 0.79), 0.5: (0.37, 0.93), 0.75: (0.36, 0.94), 0.9: (0.25, 0.98)}
_HALF_DIGIT = {"Table 1": 0.0005, "Table 2": 0.005}  # how far a printed accuracy can be from the true one


@dataclass(frozen=True)
class TradeOff:
    """The objective of Algorithm 4; give it to ``search.run``.

    Attributes:
        alpha: weight of sparsity, a finite number from 0 to 1.
        form: ``sum`` or ``interpolated``.
    """

    alpha: float
    form: str = "sum"

    def __post_init__(self) -> None:
        number = isinstance(self.alpha, (int, float, np.number)) and not isinstance(self.alpha, bool)
        if not number or not 0 <= self.alpha <= 1:  # NaN is neither
            raise InvalidInput(f"alpha is {self.alpha!r}; it weighs sparsity against accuracy, a number from 0 to 1.")
        if self.form not in FORMS:
            raise InvalidInput(f"There is no form {self.form!r} of the objective; there are: {', '.join(FORMS)}.")
        object.__setattr__(self, "alpha", float(self.alpha))

    def score(self, accuracy: ArrayLike, sparsity: ArrayLike) -> NDArray[np.float64]:
        """The objective at (N,) accuracies and sparsities, each from 0 to 1."""
        weight = 1.0 if self.form == "sum" else 1.0 - self.alpha
        return weight * np.asarray(accuracy, dtype=np.float64) + self.alpha * np.asarray(sparsity, dtype=np.float64)

    def __call__(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """The objective at rows of the evaluator, as ``search.run`` asks for it."""
        return self.score(rows["validation_accuracy"], rows["sparsity"])


def trade_offs(alphas: Sequence[float]) -> list[TradeOff]:
    """Both forms at each alpha.

    Raises:
        InvalidInput: no alphas, one that is out of range or no number, or two that are the same to two decimals, by which files are named.
    """
    objectives = [TradeOff(alpha, form) for alpha in alphas for form in FORMS]
    if not objectives or len({f"{alpha:.2f}" for alpha in alphas}) != len(alphas):
        raise InvalidInput(f"alphas is {list(alphas)}; at least one is needed, and all different in the first two decimals.")
    return objectives


def search_all(
    objectives: Sequence[TradeOff],
    masks: MaskDatabase,
    settings: search.SearchSettings,
    searches: int,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
) -> pd.DataFrame:
    """Search for each objective with each seed, by BoGP and at random with the same budget; all advance together, one call of the evaluator a round.

    Args:
        objectives: what is searched for.
        masks: a database that spans sparsities.
        settings: of the box searches.
        searches: number of search seeds, from 0 on.
        evaluator, protocol, dataset: as in ``search.run``.

    Returns:
        The histories of ``search.run``, with ``alpha`` and ``form`` before them, ordered by both. Random search draws the same masks whatever
        it is asked for, so that its trainings are shared.

    Raises:
        InvalidInput: as ``search.run`` and the searchers, before any training.
    """
    named = {f"{method} {o.form} {o.alpha!r}": (method, o) for o in objectives for method in ("bogp", "random")}
    searchers: list[search.Searcher] = []
    for name, (method, _) in named.items():
        for seed in range(searches):
            box = method == "bogp"
            searchers.append(
                search.BoxSearch(masks, settings, seed, name) if box else search.RandomSearch(masks, settings.budget, seed, name)
            )  # fmt: skip
    history = search.run(searchers, masks, evaluator, protocol, dataset, {name: o for name, (_, o) in named.items()})
    of = [named[name] for name in history["method"]]
    history["method"] = [method for method, _ in of]
    history.insert(0, "form", [o.form for _, o in of])
    history.insert(0, "alpha", [o.alpha for _, o in of])
    return history.sort_values(["alpha", "form"], kind="stable", ignore_index=True)


def histories(
    alphas: Sequence[float],
    masks: MaskDatabase,
    settings: search.SearchSettings,
    searches: int,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
    path_of: Callable[[float], Path],
    parameters: Mapping[str, Any],
    inputs: Sequence[Path] = (),
) -> pd.DataFrame:
    """The searches of each alpha: taken from its table if that was made in the same way, else searched and written there.

    A recorded table counts only if it has the same parameters, the evaluator would ask for the very evaluations in it, and knows them all.

    Args:
        alphas, masks, settings, searches, evaluator, protocol, dataset: as in ``search_all``; both forms of each alpha.
        path_of: from alpha to the CSV of its history.
        parameters: all that the histories depend on, alpha apart.
        inputs: files that were read, for the provenance.

    Returns:
        As ``search_all``.

    Raises:
        InvalidInput: as ``trade_offs`` and ``search_all``, before any training.
    """
    objectives = trade_offs(alphas)
    tables = {a: _known(path_of(a), {**parameters, "alpha": a}, masks, evaluator, protocol, dataset) for a in alphas}
    new = [o for o in objectives if tables[o.alpha] is None]
    searched = search_all(new, masks, settings, searches, evaluator, protocol, dataset) if new else pd.DataFrame()
    for alpha in dict.fromkeys(o.alpha for o in new):
        tables[alpha] = searched[searched["alpha"] == alpha]
        write_table(tables[alpha], path_of(alpha), {**parameters, "alpha": alpha}, inputs)
    return pd.concat(tables.values(), ignore_index=True)


def _known(
    path: Path, parameters: Mapping[str, Any], masks: MaskDatabase, evaluator: Evaluator, protocol: Protocol, dataset: str
) -> pd.DataFrame | None:
    table, row_of = recorded_table(path, parameters), _rows(masks)
    if table is None or not set(table["mask_id"]) <= set(row_of):
        return None
    visited = zip(table["mask_id"], table["training_seed"], strict=True)
    keys = [evaluator.key(search.mask_job(masks, row_of[mask_id], seed, protocol, dataset)) for mask_id, seed in visited]
    if keys != table["key"].tolist() or set(evaluator.store.get(keys)) != set(keys):
        return None
    evaluator.asked.update(keys)
    return table


def _rows(masks: MaskDatabase) -> dict[str, int]:
    return {mask_id: row for row, mask_id in enumerate(masks.table["mask_id"])}


def chosen_masks(
    history: pd.DataFrame, masks: MaskDatabase, evaluator: Evaluator, protocol: Protocol, dataset: str, fresh_seeds: int
) -> pd.DataFrame:
    """The mask that each search recommends, trained again with fresh seeds.

    Args:
        history: from ``histories``.
        masks, evaluator, protocol, dataset: as there.
        fresh_seeds: trainings of each.

    Returns:
        One row a search, as ``search.retrain`` gives it, with ``model_sparsity`` and ``effective_sparsity`` (of the whole network, each a share), and
        ``fresh_objective``: the objective with the test accuracy of the fresh seeds.
    """
    best = pd.concat([search.recommend(one) for _, one in history.groupby(["alpha", "form"])], ignore_index=True)
    chosen = search.retrain(best, masks, evaluator, protocol, dataset, fresh_seeds)
    row_of = _rows(masks)
    layers = [layer_masks(masks.mask(row_of[m]), protocol.widths, protocol.masked_layers) for m in chosen["mask_id"]]
    chosen["model_sparsity"] = [model_sparsity(each, protocol.widths) for each in layers]
    chosen["effective_sparsity"] = [effective_sparsity(each, protocol.widths) for each in layers]
    scored = zip(chosen["alpha"], chosen["form"], chosen["fresh_test"], chosen["sparsity"], strict=True)
    chosen["fresh_objective"] = [float(TradeOff(alpha, form).score(a, s)) for alpha, form, a, s in scored]
    return chosen


MEASURES = {  # of a chosen mask, and which column of the paper's Table 2 stands beside it
    "apparent": 0, "fresh_validation": 0, "fresh_test": 0, "sparsity": 1, "model_sparsity": None, "effective_sparsity": None,
    "fresh_objective": None,
}  # fmt: skip


def table_2(chosen: pd.DataFrame) -> pd.DataFrame:
    """Table 2: each measure of the chosen masks with its 95 % t interval over searches, beside the paper's number.

    Args:
        chosen: from ``chosen_masks``.

    Returns:
        Long form: ``alpha``, ``form``, ``method`` (``bogp``, ``random`` and their paired difference ``bogp - random``), ``measure`` (a key of
        ``MEASURES``), ``mean``, ``low``, ``high``, ``n`` (searches), ``paper`` (NaN where the paper has none). With one search low and high are NaN.
    """
    rows = []
    for (alpha, form), group in chosen.groupby(["alpha", "form"]):
        printed = PAPER_TABLE_2.get(round(float(alpha), 9))
        by = {method: one.set_index("search_seed").sort_index() for method, one in group.groupby("method")}
        for measure, column in MEASURES.items():
            intervals = {method: mean_interval(one[measure]) for method, one in by.items()}
            intervals["bogp - random"] = paired_difference(by["bogp"][measure], by["random"][measure])
            for method, i in intervals.items():
                paper = printed[column] if printed and column is not None and method == "bogp" else np.nan
                rows.append((alpha, form, method, measure, i.mean, i.low, i.high, i.n, paper))
    return pd.DataFrame(rows, columns=["alpha", "form", "method", "measure", "mean", "low", "high", "n", "paper"])


def table_2_for_people(table: pd.DataFrame) -> pd.DataFrame:
    """``table_2`` as the paper prints it, a row an alpha and form: accuracy (test, fresh seeds) and sparsity of the mask as text, the paper's first."""
    rows = []
    for (alpha, form), one in table.groupby(["alpha", "form"]):
        cells = one.set_index(["measure", "method"])
        row = {"alpha": f"{alpha:g}", "objective": form}
        for measure, label in (("fresh_test", "accuracy"), ("sparsity", "sparsity")):
            paper = cells["paper"][measure, "bogp"]
            row[f"paper, {label}"] = "-" if np.isnan(paper) else f"{paper:.2f}"
            for method, name in (("bogp", "BoGP"), ("random", "random masks")):
                mean, low, high = cells.loc[(measure, method), ["mean", "low", "high"]]
                row[f"{name}, {label}"] = f"{mean:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")
        rows.append(row)
    return pd.DataFrame(rows)


def spread(masks: MaskDatabase, count: int) -> list[int]:
    """Rows of masks spread over the sparsities of a database, the densest and the sparsest among them.

    Raises:
        InvalidInput: fewer than two, or more than there are.
    """
    if not 2 <= count <= len(masks):
        raise InvalidInput(f"{count} reference masks were asked for; from 2 to the {len(masks)} of the database are possible.")
    order = np.argsort(masks.table["sparsity"].to_numpy(), kind="stable")
    return [int(row) for row in order[np.linspace(0, len(masks) - 1, count).round().astype(int)]]


def reference_curve(
    masks: MaskDatabase, rows: Sequence[int], protocols: Sequence[Protocol], evaluator: Evaluator, dataset: str
) -> pd.DataFrame:
    """Accuracy against sparsity for given masks under several protocols, each trained once, with seed 0.

    Args:
        masks: the database.
        rows: of the database, for instance from ``spread``.
        protocols: how they are trained; one that stands twice counts once.
        evaluator, dataset: as in ``search.run``.

    Returns:
        One row a protocol and mask: ``protocol``, ``mask_id``, ``sparsity``, ``model_sparsity``, ``effective_sparsity``, the accuracies, ``key``.
    """
    once = list(dict.fromkeys(protocols))
    jobs = [search.mask_job(masks, row, 0, protocol, dataset) for protocol in once for row in rows]
    table = evaluator.evaluate(jobs)
    table["protocol"] = [job.protocol.name for job in jobs]
    table["mask_id"] = masks.table["mask_id"].to_numpy()[list(rows) * len(once)]
    table["sparsity"] = masks.table["sparsity"].to_numpy()[list(rows) * len(once)]
    accuracies = ["train_accuracy", "validation_accuracy", "test_accuracy"]
    return table[["protocol", "mask_id", "sparsity", "model_sparsity", "effective_sparsity", *accuracies, "key"]]


def evaluated(history: pd.DataFrame, reference: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Every mask that was trained under a protocol, by searches or for reference.

    Args:
        history: from ``histories``.
        reference: from ``reference_curve``; it makes sure that the densest and the sparsest mask are there.
        protocol: its name.

    Returns:
        One row a mask, ordered by sparsity: ``mask_id``, ``sparsity``, ``accuracy`` (mean validation accuracy of its trainings), ``trainings``, and
        ``on_front``: whether no other mask is at least as good in both and better in one.
    """
    columns = ["key", "mask_id", "sparsity", "validation_accuracy"]
    rows = pd.concat([history[columns], reference.loc[reference["protocol"] == protocol, columns]]).drop_duplicates("key")
    groups = rows.groupby("mask_id", as_index=False)
    table = groups.agg(
        sparsity=("sparsity", "first"), accuracy=("validation_accuracy", "mean"), trainings=("key", "size")
    ).sort_values(["sparsity", "mask_id"], ignore_index=True)  # fmt: skip
    return table.assign(on_front=pareto_front(table["accuracy"], table["sparsity"]))


def pareto_front(accuracy: ArrayLike, sparsity: ArrayLike) -> NDArray[np.bool_]:
    """(N,) whether no other point is at least as good in both and better in one. It is a best of many noisy numbers, hence too good."""
    a, s = _points(accuracy, sparsity)
    at_least = (a >= a[:, None]) & (s >= s[:, None])
    better = (a > a[:, None]) | (s > s[:, None])
    return np.logical_not(np.any(at_least & better, axis=1))


def upper_hull(accuracy: ArrayLike, sparsity: ArrayLike) -> NDArray[np.intp]:
    """Points that maximise accuracy + alpha * sparsity for some alpha > 0: the corners of the concave hull of the front.

    Args:
        accuracy, sparsity: (N,) finite values.

    Returns:
        Their positions, from the most accurate to the sparsest; of equal points the first.
    """
    a, s = _points(accuracy, sparsity)
    front = np.flatnonzero(pareto_front(a, s))
    hull: list[int] = []
    for i in front[np.unique(s[front], return_index=True)[1]]:
        # The point before the new one goes if it does not lie above the line from the one before it.
        while len(hull) > 1 and (a[hull[-1]] - a[hull[-2]]) * (s[i] - s[hull[-2]]) <= (a[i] - a[hull[-2]]) * (s[hull[-1]] - s[hull[-2]]):
            hull.pop()
        hull.append(int(i))
    return np.array(hull, dtype=np.intp)


def alpha_ranges(accuracy: ArrayLike, sparsity: ArrayLike) -> pd.DataFrame:
    """For which alpha each corner of the hull is the maximiser, in both forms; from the slopes of the hull.

    Args:
        accuracy, sparsity: (N,) values of all masks.

    Returns:
        ``form``, ``sparsity``, ``accuracy``, ``lowest`` and ``highest`` alpha within [0, 1] (corners that no such alpha asks for are left out), and
        ``asks_for``: ``the sparsest`` or ``the densest`` where the maximiser is an end of all the points, so that alpha is meaningless:
        no trade-off is made. Else ``a trade-off``.
    """
    a, s = _points(accuracy, sparsity)
    hull = upper_hull(a, s)
    slopes = -np.diff(a[hull]) / np.diff(s[hull])  # ascending: the alpha of ``sum`` at which two neighbours are equal
    ends = np.array([0.0, *slopes, np.inf])
    with np.errstate(invalid="ignore"):
        of_form = {"sum": ends, "interpolated": np.where(np.isinf(ends), 1.0, ends / (1 + ends))}
    rows = []
    for form, alpha in of_form.items():
        for i, low, high in zip(hull, alpha, alpha[1:], strict=False):
            asks_for = "the sparsest" if s[i] == s.max() else "the densest" if s[i] == s.min() else "a trade-off"
            if low <= 1:
                rows.append((form, s[i], a[i], low, min(high, 1.0), asks_for))
    return pd.DataFrame(rows, columns=["form", "sparsity", "accuracy", "lowest", "highest", "asks_for"])


def binned(accuracy: ArrayLike, sparsity: ArrayLike, bins: int) -> pd.DataFrame:
    """Means over bins of equally many masks of neighbouring sparsity: a curve that does not rest on lucky masks.

    Args:
        accuracy, sparsity: (N,) values.
        bins: how many; fewer where there are fewer masks.

    Returns:
        ``sparsity``, ``accuracy`` and ``masks`` of each bin, from dense to sparse.

    Raises:
        InvalidInput: fewer than two bins.
    """
    a, s = _points(accuracy, sparsity)
    if bins < 2:
        raise InvalidInput(f"bins is {bins}; a curve needs at least 2.")
    parts = np.array_split(np.argsort(s, kind="stable"), min(bins, len(s)))
    rows = [(s[part].mean(), a[part].mean(), len(part)) for part in parts]
    return pd.DataFrame(rows, columns=["sparsity", "accuracy", "masks"])


def curve_ranges(points: pd.DataFrame, bins: int) -> pd.DataFrame:
    """``alpha_ranges`` of the front of all masks (``curve`` is ``front``) and of their means in bins (``bins``), one under the other.

    Args:
        points: from ``evaluated``.
        bins: of ``binned``.
    """
    curves = {"front": points, "bins": binned(points["accuracy"], points["sparsity"], bins)}
    return pd.concat([alpha_ranges(c["accuracy"], c["sparsity"]).assign(curve=name) for name, c in curves.items()], ignore_index=True)


def asked_for(ranges: pd.DataFrame, alphas: Sequence[float]) -> pd.DataFrame:
    """What each alpha asks for: the rows of ``curve_ranges`` whose range holds it (the sparser one where two do), with ``alpha``."""
    rows = []
    for alpha in alphas:
        holds = ranges[(ranges["lowest"] <= alpha) & (alpha <= ranges["highest"])]
        rows.append(holds.groupby(["curve", "form"], as_index=False, sort=False).last().assign(alpha=alpha))
    return pd.concat(rows, ignore_index=True)[["alpha", "form", "curve", "sparsity", "accuracy", "asks_for"]]


def meaningless(ranges: pd.DataFrame) -> str:
    """For which alpha the objective asks for an end of the database, in words, one line a curve and form; from ``curve_ranges``."""
    lines = []
    for (curve, form), one in ranges.groupby(["curve", "form"], sort=False):
        ends = one[one["asks_for"] != "a trade-off"]
        of = {"front": "mask", "bins": "bin"}[curve]
        said = [f"{r.lowest:.3f} to {r.highest:.3f} asks for {r.asks_for} {of} (sparsity {r.sparsity:.3f})" for r in ends.itertuples()]
        lines.append(f"{curve}, {form}: " + ("; ".join(f"alpha from {s}" for s in said) or "no alpha asks for an end"))
    return "\n".join(lines)


def tables_compared() -> pd.DataFrame:
    """Each row of the paper's Table 2 against the best that the paper's own numbers offer under the same objective; nothing is trained.

    Three readings of "sparsity": of the mask; of the whole model when the mask sits on the hidden matrix of 784-128-128-10; of the whole model
    when it is laid over the first layer of 784-128-10. Table 1 is taken as sparsity of the mask, and converted.

    Returns:
        One row a reading, form, alpha and ``against`` (``Table 1``, the BoGP row; ``Table 2``, its rows at all alphas): ``accuracy`` and ``sparsity`` as
        printed, their ``objective``; ``best_accuracy``, ``best_sparsity``, ``best_objective`` of the other table; ``beaten_by``, the difference;
        ``rounding``, how far the digits left out could move it; ``beaten`` by more than that; ``largest_sparsity`` that the reading allows, and
        ``possible``: whether the printed sparsity does not exceed it.
    """
    rows = []
    for reading, largest in _readings().items():
        tables = {
            "Table 1": (np.array(list(PAPER_BOGP.values())), largest * np.array(list(PAPER_BOGP))),
            "Table 2": tuple(np.array(list(PAPER_TABLE_2.values())).T),
        }
        for objective in trade_offs(list(PAPER_TABLE_2)):
            accuracy, sparsity = PAPER_TABLE_2[objective.alpha]
            own = float(objective.score(accuracy, sparsity))
            for against, (a, s) in tables.items():
                scores = objective.score(a, s)
                best = int(scores.argmax())
                slack = _HALF_DIGIT["Table 2"]
                rounding = objective.score(slack, slack) + objective.score(_HALF_DIGIT[against], slack if against == "Table 2" else 0.0)
                beaten_by = scores[best] - own
                rows.append((reading, objective.form, objective.alpha, accuracy, sparsity, own, against, a[best], s[best], scores[best], beaten_by,
                             float(rounding), beaten_by > rounding, largest, sparsity <= largest))  # fmt: skip
    names = ["reading", "form", "alpha", "accuracy", "sparsity", "objective", "against", "best_accuracy", "best_sparsity", "best_objective",
             "beaten_by", "rounding", "beaten", "largest_sparsity", "possible"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def _readings() -> dict[str, float]:
    """The largest sparsity that a mask can have, in each reading of the word."""
    readings = {"mask": 1.0}
    for protocol in (PAPER, LITERAL):
        nothing = layer_masks(np.zeros((protocol.widths[1], protocol.widths[1]), dtype=bool), protocol.widths, protocol.masked_layers)
        readings[f"model {'-'.join(str(w) for w in protocol.widths)}"] = model_sparsity(nothing, protocol.widths)
    return readings


def disagreement(compared: pd.DataFrame) -> pd.DataFrame:
    """``tables_compared`` summed up: for each reading and form, how many rows of Table 2 are beaten, by what, and how many are possible at all."""
    rows = []
    for (reading, form), one in compared.groupby(["reading", "form"], sort=False):
        row: dict[str, Any] = {"sparsity of the": reading, "objective": form}
        for against, some in one.groupby("against"):
            by = some.loc[some["beaten"], "beaten_by"]
            amount = f", by {by.min():.3f} to {by.max():.3f}" if len(by) else ""
            row[f"rows beaten by {against}"] = f"{len(by)} of {len(some)}{amount}"
        some = one[one["against"] == "Table 1"]
        row["rows with a possible sparsity"] = f"{some['possible'].sum()} of {len(some)} (largest {some['largest_sparsity'].iloc[0]:.3f})"
        rows.append(row)
    return pd.DataFrame(rows)


def can_both_be_true(compared: pd.DataFrame) -> str:
    """Whether the paper's two tables can both be what they are said to be, a sentence for each reading and form; from ``tables_compared``.

    If both come from the same system, each row of Table 2 is the maximum of its objective over the masks that there are, so it cannot be beaten.
    """
    lines = []
    for (reading, form), one in compared.groupby(["reading", "form"], sort=False):
        rows, beaten = one["alpha"].nunique(), {against: int(some["beaten"].sum()) for against, some in one.groupby("against")}
        impossible = rows - int(one[one["against"] == "Table 1"]["possible"].sum())
        by = {"Table 1": "a row of Table 1", "Table 2": "another row of it"}
        why = [f"{n} of {rows} rows of Table 2 are beaten by {by[against]}" for against, n in beaten.items() if n]
        why += [f"{impossible} of {rows} have a sparsity that no mask reaches"] if impossible else []
        lines.append(f"sparsity of the {reading}, objective {form}: {'no, ' + ', '.join(why) if why else 'nothing speaks against it'}")
    return "Can both tables be true?\n" + "\n".join(lines)


def printed_beside_measured(reference: pd.DataFrame) -> pd.DataFrame:
    """At each sparsity of the paper's Table 2, the printed accuracy and the measured one, linear between reference masks (NaN outside them).

    Args:
        reference: from ``reference_curve``.

    Returns:
        ``alpha``, ``sparsity``, ``printed``, and a column a protocol.
    """
    table = pd.DataFrame([(alpha, s, a) for alpha, (a, s) in PAPER_TABLE_2.items()], columns=["alpha", "sparsity", "printed"])
    for protocol, one in reference.groupby("protocol", sort=False):
        one = one.sort_values("sparsity")
        table[protocol] = np.interp(table["sparsity"], one["sparsity"], one["validation_accuracy"], left=np.nan, right=np.nan)
    return table


def _points(accuracy: ArrayLike, sparsity: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, s = np.asarray(accuracy, dtype=np.float64), np.asarray(sparsity, dtype=np.float64)
    if a.ndim != 1 or a.shape != s.shape or len(a) == 0 or not np.isfinite([a, s]).all():
        raise InvalidInput(f"As many accuracies as sparsities are needed, at least one, all finite; got shapes {a.shape} and {s.shape}.")
    return a, s
