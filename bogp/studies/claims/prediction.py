"""Whether properties of a graph predict the accuracy of its network, against the largest R2
possible.

The masks are divided into folds that are balanced in accuracy: each run of ``folds`` masks that
follow each other in the order of accuracy gives one to every fold. With folds drawn without regard
to accuracy, a prediction that knows nothing is the mean of the other folds, which is high where the
fold left out is low, and noise would seem to be predicted with a negative correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bogp.errors import InvalidInput
from bogp.graphs.database import MaskDatabase, fit_scaling
from bogp.graphs.properties import ALL
from bogp.statistics import partial_rank_correlation, rank_correlation
from bogp.studies.claims import crossed
from bogp.variance import Estimate, components

if TYPE_CHECKING:  # imported where models are fitted
    from sklearn.base import RegressorMixin

DENSITY = "density"
MODELS = ("ridge", "forest")
NESTED = "the better on inner folds"  # of MODELS; the fold that is predicted has no say in it
_PENALTIES = np.logspace(-2, 6, 25)
_TREES = 100
_DRAWS = 2000
_INNER = 5  # folds by which a model is chosen

Values = NDArray[np.float64]


def of_sets(sets: Mapping[str, MaskDatabase], trainings: pd.DataFrame) -> pd.DataFrame:
    """``of`` for each set of masks, and for all sets of one sparsity together.

    Args:
        sets: masks by the name of the set, such as ``bernoulli, s = 0.60``.
        trainings: of them, from ``crossed.train_sets``.

    Returns:
        The rows of ``of`` with the name in ``set``; sets together are ``all families, s = ...``.
    """
    measured = {name: (masks, crossed.table(trainings, of=name)) for name, masks in sets.items()}
    asked = measured | {
        f"all families, {ending}": pooled([measured[n] for n in sets if n.endswith(ending)])
        for ending in dict.fromkeys(name.split(", ")[1] for name in sets)
    }
    found = [of(masks, values, ALL).assign(set=n) for n, (masks, values) in asked.items()]
    return pd.concat(found, ignore_index=True)


def pooled(
    parts: Sequence[tuple[MaskDatabase, NDArray[np.float64]]],
) -> tuple[MaskDatabase, Values]:
    """Several databases as one, so that what is constant within each but differs between them is a
    predictor too.

    Args:
        parts: databases of graphs with the same number of nodes, each with its (masks, seeds)
            accuracies from the seeds 0, 1, ...

    Returns:
        One database, part after part, with the first's ``spec``; and the accuracies from the seeds
        that all parts have.
    """
    databases, accuracies = zip(*parts, strict=True)
    seeds = min(a.shape[1] for a in accuracies)
    return crossed.joined(databases), np.concatenate([a[:, :seeds] for a in accuracies])


def predictors(database: MaskDatabase, columns: Sequence[str]) -> pd.DataFrame:
    """Property values by which accuracy may be predicted.

    Args:
        database: the masks.
        columns: names of properties.

    Returns:
        The properties and ``density`` (share of ones in the mask), without those that are constant
        or never finite. Rows with a NaN in one of the others are left out: the index holds the rows
        of the database that remain, so take the accuracies at ``values.index``.

    Raises:
        InvalidInput: an unknown property, or nothing varies.
        DatabaseError: the database is empty.
    """
    varying = fit_scaling(database, tuple(dict.fromkeys((*columns, "sparsity")))).columns
    known = np.isfinite(database.values(varying)).all(axis=1)
    rest = database.take(np.flatnonzero(known))
    columns = list(fit_scaling(rest, varying).columns)
    values = rest.table[columns].astype(np.float64).set_axis(np.flatnonzero(known))
    if "sparsity" in values:
        values[DENSITY] = 1 - values.pop("sparsity")
    return values


def spearman(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> Estimate:
    """Spearman's rank correlation with its interval (Fisher's z; standard error of Bonett & Wright
    2000).

    Args:
        x, y: (n,) paired observations, n >= 4.
        level: coverage, in (0, 1).

    Returns:
        The interval, NaN where one side is constant. It holds for independent pairs, roughly normal
        after some monotone change of scale.

    Raises:
        InvalidInput: no pairs, too few, or a value that is not finite.
    """
    rho, z, error = _fisher(x, y)
    half = stats.norm.isf((1 - level) / 2) * error
    return Estimate(rho, float(np.tanh(z - half)), float(np.tanh(z + half)))


def spearman_p(x: ArrayLike, y: ArrayLike, threshold: float) -> tuple[float, float]:
    """P values of "the correlation is the threshold": the interval of ``spearman``, inverted in its
    level.

    Args:
        x, y: (n,) paired observations, n >= 4.
        threshold: in (-1, 1).

    Returns:
        ``above`` and ``below``: the first is less than 1 - level exactly when the interval of that
        level lies above the threshold, the second when it lies below. NaN where the correlation is.

    Raises:
        InvalidInput: as ``spearman``.
    """
    _, z, error = _fisher(x, y)
    distance = (z - np.arctanh(threshold)) / error
    above, below = np.minimum(1, [2 * stats.norm.sf(distance), 2 * stats.norm.cdf(distance)])
    return float(above), float(below)


def _fisher(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """Spearman's correlation, Fisher's z of it, and the standard error of that."""
    rho, n = rank_correlation(x, y), len(np.asarray(x))
    if n < 4:
        raise InvalidInput(f"An interval of a correlation needs at least four pairs; got {n}.")
    with np.errstate(divide="ignore"):  # infinite for the same order
        return rho, float(np.arctanh(rho)), _z_error(rho, n)


def _z_error(rho: float, n: int) -> float:
    return float(np.sqrt((1 + rho**2 / 2) / (n - 3)))


def out_of_fold(
    values: ArrayLike, y: ArrayLike, model: str, folds: int = 10, seed: int = 0
) -> Values:
    """Predict each mask's accuracy by a model that was fitted on the other folds.

    Args:
        values: (masks, predictors).
        y: (masks,) accuracies.
        model: ``ridge`` (on standardised values and their squares, the penalty chosen on the other
            folds), ``forest`` (100 trees), or ``NESTED``, chosen anew on the other folds.
        folds: from 2 to the number of masks.
        seed: of the division into folds and of the forest.

    Returns:
        (masks,) predictions, which do not depend on the order of the masks.
    """
    x, target = np.asarray(values, dtype=np.float64), np.asarray(y, dtype=np.float64)
    # by accuracy: what follows does not see the order in which masks were given
    order = np.lexsort((*x.T, target))
    x, target = x[order], target[order]
    division, forest = np.random.SeedSequence(seed).spawn(2)
    fold = _balanced(len(target), folds, np.random.default_rng(division))
    predicted = np.empty(len(target))
    for k in range(folds):
        known = x[fold != k], target[fold != k]
        its = better(*known, seed) if model == NESTED else model
        predicted[order[fold == k]] = _model(its, forest).fit(*known).predict(x[fold == k])
    return predicted


def better(values: Values, y: Values, seed: int = 0) -> str:
    """Which of ``MODELS`` predicts masks that it was not fitted on in a better order.

    Args:
        values, y, seed: as in ``out_of_fold``, at least three masks.
    """
    folds = min(_INNER, len(y))

    def rho(model: str) -> float:
        found = rank_correlation(out_of_fold(values, y, model, folds, seed), y)
        return found if np.isfinite(found) else -1.0

    return max(MODELS, key=rho)


def fitted(values: Values, y: Values, seed: int = 0) -> Callable[[Values], Values]:
    """The ``better`` model, fitted to all masks: (masks, predictors) to (masks,) predictions.

    Args:
        values, y, seed: as in ``out_of_fold``, at least three masks.
    """
    forest = np.random.SeedSequence(seed).spawn(2)[1]
    model = _model(better(values, y, seed), forest).fit(values, y)
    return lambda asked: np.asarray(model.predict(asked))


def table(
    values: pd.DataFrame,
    accuracies: NDArray[np.float64],
    folds: int = 10,
    seed: int = 0,
    threshold: float = 0.3,
    models: Sequence[str] = (*MODELS, NESTED),
) -> pd.DataFrame:
    """How well each property, and all together, predict the mean accuracy over seeds.

    Args:
        values: masks x predictors, such as ``predictors`` gives; its column ``density``, if there
            is one, is no property.
        accuracies: (masks, seeds), in the order of the values' rows.
        folds, seed: as in ``out_of_fold``.
        threshold: which the correlation is held against.
        models: for all properties together, with density those of ``MODELS`` alone.

    Returns:
        One row for each predictor alone (by ``ridge``), one for ``all`` properties by each model,
        and one for ``all + density``: ``predictor``, ``model``, ``n`` (masks); ``rho`` with
        ``rho_low``, ``rho_high`` (``spearman``, of mean accuracy with the predictor itself, or with
        the prediction out of fold from several); ``rho_given_density`` (NaN where density is
        constant or says the same); ``cv_r2`` (share of the variance of mean accuracy that is
        predicted out of fold, negative where the mean would do better) with ``r2_low``, ``r2_high``
        (95 % percentile bootstrap over masks, the predictions held fixed); ``ceiling`` (of
        ``components``); ``share`` (cv_r2 / ceiling, NaN where that is 0); ``rho_ceiling``, the
        largest correlation that a predictor can have which knows all but the luck of seeds (the
        root of ``ceiling``); ``p_above``, ``p_below`` (``spearman_p`` with the sign of rho).

    Raises:
        InvalidInput: accuracies that are no crossed table of at least four masks, or a value that
            is not finite.
    """
    properties = [c for c in values.columns if c != DENSITY]
    ceiling, mean = components(accuracies).ceiling.value, accuracies.mean(axis=1)
    together = {"all": properties} | (
        {"all + density": [*properties, DENSITY]} if DENSITY in values else {}
    )
    asked = [(c, [c], "ridge") for c in values.columns] + [
        (name, chosen, m)
        for name, chosen in together.items()
        for m in models
        if name == "all" or m != NESTED
    ]
    rows = []
    for name, chosen, model in asked:
        x = values[chosen].to_numpy(dtype=np.float64)
        predicted = out_of_fold(x, mean, model, folds, seed)
        ordered = predicted if name in together else x[:, 0]
        rho, (above, below) = spearman(ordered, mean), spearman_p(ordered, mean, threshold)
        given = values.get(DENSITY)
        r2 = _r2(mean, predicted, seed)
        rows.append(
            {
                "predictor": name,
                "model": model,
                "n": len(mean),
                "rho": rho.value,
                "rho_low": rho.low,
                "rho_high": rho.high,
                "rho_given_density": np.nan
                if given is None
                else partial_rank_correlation(ordered, mean, given),
                "cv_r2": r2.value,
                "r2_low": r2.low,
                "r2_high": r2.high,
                "ceiling": ceiling,
                "share": r2.value / ceiling if ceiling > 0 else np.nan,
                "rho_ceiling": np.sqrt(ceiling),
                "p_above": above,
                "p_below": below,
            }
        )
    return pd.DataFrame(rows)


def _balanced(count: int, folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """The fold of each of ``count`` masks in the order of accuracy."""
    return np.concatenate([rng.permutation(folds) for _ in range(-(-count // folds))])[:count]


def _model(name: str, seed: np.random.SeedSequence) -> RegressorMixin:
    if name == "forest":
        from sklearn.ensemble import RandomForestRegressor

        return RandomForestRegressor(_TREES, random_state=int(seed.generate_state(1)[0]), n_jobs=1)
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return make_pipeline(
        StandardScaler(),
        FunctionTransformer(lambda x: np.hstack([x, x**2])),
        StandardScaler(),
        RidgeCV(_PENALTIES),
    )


def _r2(y: Values, predicted: Values, seed: int) -> Estimate:
    """Share of the variance that is predicted, with its bootstrap interval; NaN for a constant."""
    if not np.ptp(y) > 0:
        return Estimate(np.nan, np.nan, np.nan)
    draws = np.random.default_rng(np.random.SeedSequence(seed)).integers(
        len(y), size=(_DRAWS, len(y))
    )
    order = np.lexsort((predicted, y))
    picked, errors = y[order][draws], np.square(y - predicted)[order][draws]
    value = 1 - np.square(y - predicted).sum() / np.square(y - y.mean()).sum()
    spread = np.square(picked - picked.mean(axis=1, keepdims=True)).sum(axis=1)
    varied = spread > 0  # a draw of one mask alone says nothing
    drawn = 1 - errors.sum(axis=1)[varied] / spread[varied]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))


def of(
    database: MaskDatabase, accuracies: NDArray[np.float64], columns: Sequence[str]
) -> pd.DataFrame:
    """``table`` for the masks of a database that have all the properties; ten folds, or one a mask.

    Args:
        database: the masks.
        accuracies: (masks, seeds), in its order.
        columns: properties.

    Returns:
        The rows of ``table``, with the number of the other masks in ``left_out``.
    """
    values = predictors(database, columns)
    found = table(values, accuracies[values.index], folds=min(10, len(values)))
    return found.assign(left_out=len(database) - len(values))


def indications(predicted: pd.DataFrame) -> pd.DataFrame:
    """The evidence of claim 3: of all properties, by the model that does better on inner folds.

    The better of several on the masks that are predicted would be too good: where properties say
    nothing, too.

    Args:
        predicted: from ``of``, with a column ``set``.

    Returns:
        Rows of ``case`` (the set), ``estimate``, ``low``, ``high`` (rank correlation), ``n``
        (masks), ``p_for``, ``p_against``, ``rho_ceiling`` (of ``table``), and ``detectable``: how
        far above the threshold a correlation has to lie for so many masks to show it with a power
        of 80 %.
    """
    names = {
        "set": "case",
        "rho": "estimate",
        "rho_low": "low",
        "rho_high": "high",
        "p_above": "p_for",
        "p_below": "p_against",
    }
    found = predicted[(predicted["predictor"] == "all") & (predicted["model"] == NESTED)]
    found = found.rename(columns=names)
    found = found.assign(detectable=found["n"].map(detectable_correlation))
    columns = ["case", "estimate", "low", "high", "n", "p_for", "p_against"]
    return found[[*columns, "rho_ceiling", "detectable"]].reset_index(drop=True)


def detectable_correlation(
    n: int, threshold: float = 0.3, power: float = 0.8, level: float = 0.05
) -> float:
    """How far above a threshold a rank correlation has to lie for n pairs to show it (Fisher's z).

    Args:
        n: pairs, at least 4.
        threshold: that the interval has to clear.
        power: probability of showing it.
        level: of the two-sided interval.
    """
    shift = (stats.norm.isf(level / 2) + stats.norm.ppf(power)) * _z_error(threshold, n)
    return float(np.tanh(np.arctanh(threshold) + shift) - threshold)
