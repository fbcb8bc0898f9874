"""Algorithm 4: accuracy traded against sparsity by a weight alpha (paper section 5.3 and Table 2).

Two forms of the objective, by name: ``sum``, accuracy + alpha * sparsity, as the paper prints it
(the default), and ``interpolated``, (1 - alpha) * accuracy + alpha * sparsity, as the released code
computes it. The two order masks alike: ``interpolated`` at alpha is (1 - alpha) times ``sum`` at
alpha / (1 - alpha). Sparsity is that of the mask, accuracy the validation accuracy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bogp import paths, search
from bogp.checks import choice, floats, listed, whole
from bogp.errors import InvalidInput
from bogp.graphs.database import MaskDatabase
from bogp.graphs.relational import effective_sparsity, layer_masks, model_sparsity
from bogp.records import recorded_table, write_table
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import Protocol

ALPHA_TRADEOFF = "04_alpha_tradeoff_bo"  # folder of the results of that notebook
FORMS = ("sum", "interpolated")


@dataclass(frozen=True)
class Reference:
    """How the curve of accuracy against sparsity is made that searches are seen beside.

    Attributes:
        protocols: names of other ways of training.
        masks: how many are trained, spread over the sparsities of the database.
        bins: of the smoothed curve.
    """

    protocols: tuple[str, ...]
    masks: int
    bins: int


REFERENCES = {
    "smoke": Reference(("paper",), 2, 6),
    "paper": Reference(("paper", "released"), 24, 20),
}


def reference(name: str) -> Reference:
    """The reference of that name: ``smoke`` or ``paper``.

    Raises:
        InvalidInput: there is none.
    """
    return REFERENCES[choice("reference", name, REFERENCES)]


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
        number = isinstance(self.alpha, (int, float, np.number)) and not isinstance(
            self.alpha, bool
        )
        if not number or not 0 <= self.alpha <= 1:  # NaN is neither
            raise InvalidInput(
                f"alpha is {self.alpha!r}; it weighs sparsity against accuracy, a number from "
                "0 to 1."
            )
        choice("form of the objective", self.form, FORMS)
        object.__setattr__(self, "alpha", float(self.alpha))

    def score(self, accuracy: ArrayLike, sparsity: ArrayLike) -> NDArray[np.float64]:
        """The objective at (N,) accuracies and sparsities, each from 0 to 1."""
        weight = 1.0 if self.form == "sum" else 1.0 - self.alpha
        a, s = floats("accuracy", accuracy), floats("sparsity", sparsity)
        if a.shape != s.shape and a.ndim and s.ndim:
            raise InvalidInput(
                f"As many accuracies as sparsities are needed, or one; got shapes {a.shape} "
                f"and {s.shape}."
            )
        return weight * a + self.alpha * s

    def __call__(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """The objective at rows of the evaluator, as ``search.run`` asks for it."""
        return self.score(rows["validation_accuracy"], rows["sparsity"])


def trade_offs(alphas: Sequence[float]) -> list[TradeOff]:
    """Both forms at each alpha.

    Raises:
        InvalidInput: no alphas, one that is out of range or no number, or two that are the same to
            two decimals, by which files are named.
    """
    objectives = [TradeOff(alpha, form) for alpha in listed("alphas", alphas) for form in FORMS]
    if not objectives or len({f"{alpha:.2f}" for alpha in alphas}) != len(alphas):
        raise InvalidInput(
            f"alphas is {list(alphas)}; at least one is needed, and all different in the "
            "first two decimals."
        )
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
    """Search for each objective with each seed, by BoGP and at random with the same budget; all
    advance together, one call of the evaluator a round.

    Args:
        objectives: what is searched for.
        masks: a database that spans sparsities.
        settings: of the box searches.
        searches: number of search seeds, from 0 on.
        evaluator, protocol, dataset: as in ``search.run``.

    Returns:
        The histories of ``search.run``, with ``alpha`` and ``form`` before them, ordered by both.
        Random search draws the same masks whatever it is asked for, so that its trainings are
        shared.

    Raises:
        InvalidInput: as ``search.run`` and the searchers, before any training.
    """
    named = {
        f"{method} {o.form} {o.alpha!r}": (method, o)
        for o in objectives
        for method in ("bogp", "random")
    }
    searchers = [
        search.BoxSearch(masks, settings, seed, name)
        if method == "bogp"
        else search.RandomSearch(masks, settings.budget, seed, name)
        for name, (method, _) in named.items()
        for seed in range(searches)
    ]
    history = search.run(
        searchers, masks, evaluator, protocol, dataset, {name: o for name, (_, o) in named.items()}
    )
    of = (named[name] for name in history["method"])
    labels = [(objective.alpha, objective.form, method) for method, objective in of]
    before = pd.DataFrame(labels, columns=["alpha", "form", "method"])
    history = before.join(history.drop(columns="method"))[["alpha", "form", *history.columns]]
    return history.sort_values(["alpha", "form"], kind="stable", ignore_index=True)


def history_path(run: str, protocol: str, alpha: float) -> Path:
    """The CSV of the searches at one alpha."""
    return paths.results_dir(run) / ALPHA_TRADEOFF / f"{protocol}_a{alpha:.2f}_history.csv"


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
    """The searches of each alpha: taken from its table if that was made in the same way, else
    searched and written there.

    A recorded table counts only if it has the same parameters, the evaluator would ask for the very
    evaluations in it, and knows them all.

    Args:
        alphas, masks, settings, searches, evaluator, protocol, dataset: as in ``search_all``; both
            forms of each alpha.
        path_of: from alpha to the CSV of its history.
        parameters: all that the histories depend on, alpha apart.
        inputs: files that were read, for the provenance.

    Returns:
        As ``search_all``.

    Raises:
        InvalidInput: as ``trade_offs`` and ``search_all``, before any training.
    """
    objectives = trade_offs(alphas)
    tables = {
        a: _known(path_of(a), {**parameters, "alpha": a}, masks, evaluator, protocol, dataset)
        for a in alphas
    }
    new = [o for o in objectives if tables[o.alpha] is None]
    searched = (
        search_all(new, masks, settings, searches, evaluator, protocol, dataset)
        if new
        else pd.DataFrame()
    )
    for alpha in dict.fromkeys(o.alpha for o in new):
        tables[alpha] = searched[searched["alpha"] == alpha]
        write_table(tables[alpha], path_of(alpha), {**parameters, "alpha": alpha}, inputs)
    return pd.concat(tables.values(), ignore_index=True)


def _known(
    path: Path,
    parameters: Mapping[str, Any],
    masks: MaskDatabase,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
) -> pd.DataFrame | None:
    table, row_of = recorded_table(path, parameters), masks.row_of()
    if table is None or not set(table["mask_id"]) <= set(row_of):
        return None
    keys = [
        evaluator.key(search.mask_job(masks, row_of[mask_id], seed, protocol, dataset))
        for mask_id, seed in zip(table["mask_id"], table["training_seed"], strict=True)
    ]
    if keys != table["key"].tolist() or set(evaluator.store.get(keys)) != set(keys):
        return None
    evaluator.asked.update(keys)
    return table


def chosen_masks(
    history: pd.DataFrame,
    masks: MaskDatabase,
    evaluator: Evaluator,
    protocol: Protocol,
    dataset: str,
    fresh_seeds: int,
) -> pd.DataFrame:
    """The mask that each search recommends, trained again with fresh seeds.

    Args:
        history: from ``histories``.
        masks, evaluator, protocol, dataset: as there.
        fresh_seeds: trainings of each.

    Returns:
        One row a search, as ``search.retrain`` gives it, with ``model_sparsity`` and
        ``effective_sparsity`` (of the whole network, each a share), and ``fresh_objective``: the
        objective with the test accuracy of the fresh seeds.
    """
    best = pd.concat(
        [search.recommend(one) for _, one in history.groupby(["alpha", "form"])], ignore_index=True
    )
    chosen = search.retrain(best, masks, evaluator, protocol, dataset, fresh_seeds)
    row_of, widths = masks.row_of(), protocol.widths
    layers = [
        layer_masks(masks.mask(row_of[m]), widths, protocol.masked_layers)
        for m in chosen["mask_id"]
    ]
    return chosen.assign(
        model_sparsity=[model_sparsity(each, widths) for each in layers],
        effective_sparsity=[effective_sparsity(each, widths) for each in layers],
        fresh_objective=[
            float(TradeOff(one.alpha, one.form).score(one.fresh_test, one.sparsity))
            for one in chosen.itertuples()
        ],
    )


def spread(masks: MaskDatabase, count: int) -> list[int]:
    """Rows of masks spread over the sparsities of a database, the densest and the sparsest among
    them.

    Raises:
        InvalidInput: fewer than two, or more than there are.
    """
    if not 2 <= whole("reference masks", count) <= len(masks):
        raise InvalidInput(
            f"{count} reference masks were asked for; from 2 to the {len(masks)} of the "
            "database are possible."
        )
    order = np.argsort(masks.table["sparsity"].to_numpy(), kind="stable")
    return [int(row) for row in order[np.linspace(0, len(masks) - 1, count).round().astype(int)]]


def reference_curve(
    masks: MaskDatabase,
    rows: Sequence[int],
    protocols: Sequence[Protocol],
    evaluator: Evaluator,
    dataset: str,
) -> pd.DataFrame:
    """Accuracy against sparsity for given masks under several protocols, each trained once, with
    seed 0.

    Args:
        masks: the database.
        rows: of the database, for instance from ``spread``.
        protocols: how they are trained; one that stands twice counts once.
        evaluator, dataset: as in ``search.run``.

    Returns:
        One row a protocol and mask: ``protocol``, ``mask_id``, ``sparsity``, ``model_sparsity``,
            ``effective_sparsity``, the accuracies, ``key``.
    """
    once = list(dict.fromkeys(protocols))
    jobs = [search.mask_job(masks, row, 0, protocol, dataset) for protocol in once for row in rows]
    asked = masks.table.iloc[list(rows) * len(once)]
    table = evaluator.evaluate(jobs).assign(
        protocol=[job.protocol.name for job in jobs],
        mask_id=asked["mask_id"].to_numpy(),
        sparsity=asked["sparsity"].to_numpy(),
    )
    return table[
        [
            "protocol",
            "mask_id",
            "sparsity",
            "model_sparsity",
            "effective_sparsity",
            "train_accuracy",
            "validation_accuracy",
            "test_accuracy",
            "key",
        ]
    ]
