"""Bad input: entry points called with generated values, right and wrong ones; each call ends in
success or in an error that is made for people.

Arguments that are plain values (numbers, texts, lists of them, arrays) are generated; objects of
the package (a database, a protocol) are valid, for they check themselves when they are made. Sizes
that would only take long are kept small.
"""

import contextlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bogp import datasets, paths, search, statistics, variance
from bogp.errors import BogpError
from bogp.graphs import families, properties, relational
from bogp.graphs.database import DatabaseSpec, build, fit_scaling, nearest, open_database
from bogp.records import read_table, recorded_table, write_table
from bogp.studies.baselines import measure as baselines_measure
from bogp.studies.motivation.measure import Study
from bogp.studies.tradeoff import measure as tradeoff_measure
from bogp.studies.tradeoff import pareto
from bogp.training import baselines, protocols
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.store import Store
from bogp.workflow import notebook as workflow_notebook
from tests.reliability.report import ROOT, Count, ended, record
from tests.reliability.samples import evaluations
from tests.reliability.structural import ENTRIES as STRUCTURAL
from tests.reliability.values import (
    annotation,
    anything,
    arguments,
    count,
    cube,
    level,
    name,
    numbers,
    power,
    property_names,
    seed,
    share,
    small_mask,
    table,
    widths,
    yaml_text,
)

SEED = 0  # hypothesis derives its examples from the test's name and their number
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# --- entry points: what is called, with which arguments ---

Entry = tuple[Callable[..., Any], Mapping[str, Any]]
GRAPH = {"n": st.integers(0, 12), "sparsity": share}
EVIDENCE = {"first": numbers, "second": numbers}
POINTS = {"accuracy": numbers, "sparsity": numbers}


def family(draw: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **given: draw(rng=np.random.default_rng(0), **given)


PURE: dict[str, Entry] = {
    **{f"families.{f}": (family(families.FAMILIES[f]), GRAPH) for f in ("bernoulli", "exact")},
    **{
        f"families.{f}": (family(families.FAMILIES[f]), GRAPH | {"diagonal": st.booleans()})
        for f in ("erdos_renyi", "random_regular", "barabasi_albert")
    },
    "families.ws_flex": (
        family(families.ws_flex),
        GRAPH | {"rewire": share, "diagonal": st.booleans()},
    ),
    "families.stochastic_block": (
        family(families.stochastic_block),
        GRAPH | {"blocks": count, "ratio": st.floats(0, 9), "diagonal": st.booleans()},
    ),
    "families.family": (families.family, {"name": st.sampled_from([*families.FAMILIES, "x"])}),
    "relational.as_masks": (relational.as_masks, {"masks": small_mask}),
    "relational.expand": (
        relational.expand,
        {"mask": small_mask, "d_in": st.integers(0, 40), "d_out": st.integers(0, 40)},
    ),
    "relational.layer_masks": (
        relational.layer_masks,
        {"mask": small_mask, "widths": widths, "layers": st.lists(count, max_size=3)},
    ),
    "properties.measure": (
        properties.measure,
        {"masks": small_mask, "columns": st.lists(st.sampled_from(properties.ALL), max_size=4)},
    ),
    "datasets.load": (lambda name: datasets.load(name, mirrors=()), {"name": st.text(max_size=8)}),
    "datasets.stratified": (
        datasets.stratified,
        {
            "labels": st.just([0, 1, 2, 0, 1, 2]) | st.lists(st.integers(0, 3), max_size=9),
            "seed": count,
            "sizes": st.sampled_from([[3, 3], [6], [0, 4, 2], [2, 3]])
            | st.lists(count, max_size=3),
        },
    ),
    "paths.results_dir": (paths.results_dir, {"run": name}),
    "protocols.named": (protocols.named, {"name": st.sampled_from([*protocols.NAMED, "x"])}),
    "protocols.Protocol": (
        protocols.Protocol,
        {
            "name": name,
            "widths": widths,
            "input_scaling": st.sampled_from(["unit", "raw", "x"]),
            "loss": st.sampled_from(["cross_entropy", "x"]),
            "learning_rate": st.sampled_from([1e-3, 1e-2]) | st.floats(),
            "schedule": st.sampled_from(["constant", "linear"]),
            "batch_size": st.none() | count,
            "steps": count,
            "scope": st.sampled_from(["hidden", "all", "input"]),
            "split": st.sampled_from(["held_out", "reported"]),
            "check_every": st.none() | count,
            "patience": st.none() | count,
        },
    ),
    "DatabaseSpec": (
        DatabaseSpec,
        {
            "sparsities": st.lists(share, max_size=3),
            "masks_per_sparsity": count,
            "n": st.integers(0, 12),
            "family": name,
            "seed": seed,
            "parameters": st.lists(st.tuples(name, count), max_size=2),
            "shard_size": count,
            "sparsity_range": st.none() | st.tuples(share, share),
        },
    ),
    "search.SearchSettings": (
        search.SearchSettings,
        {
            "columns": property_names,
            "scaling": st.sampled_from(["minmax", "none", "x"]),
            "metric": st.sampled_from(["cosine", "l1", "x"]),
            "n_initial": count,
            "n_iterations": count,
            "kappa": st.just(5.0) | st.floats(),
        },
    ),
    "search.check_fresh_seeds": (search.check_fresh_seeds, {"seeds": seed, "searches": seed}),
    "baselines.Method": (
        baselines.Method,
        {
            "sparsity": share,
            "score": st.sampled_from(baselines.SCORES),
            "allocation": st.sampled_from(baselines.ALLOCATIONS),
            "rounds": count,
            "pretrain": st.booleans(),
            "rewind": st.booleans(),
            "shuffle": st.booleans(),
            "layers": st.sampled_from(["all", "masked", "x"]),
            "allow_empty": st.booleans(),
        },
    ),
    "baselines.named": (
        baselines.named,
        {
            "name": st.sampled_from(["glob_5", "lamp", "erk_shuffled", "unif_0", "x"]),
            "sparsity": share,
            "layers": st.sampled_from(["all", "masked"]),
        },
    ),
    "studies.baselines.Plan": (
        lambda **given: baselines_measure.Plan(protocols.CALIBRATED, **given),
        {
            "dataset": st.just("mnist-5k"),
            "methods": st.lists(st.sampled_from(["base", "glob_1", "unif_5"]), max_size=2),
            "like": st.lists(st.just("random"), max_size=2),
            "chosen": st.lists(st.just("glob_1"), max_size=1),
            "paired": st.lists(st.sampled_from(["base", "glob_1_best"]), max_size=2),
            "pairs": count,
            "repeats": count,
            "budget": count,
            "fresh_seeds": count,
        },
    ),
    "motivation.Study": (
        lambda **given: Study(protocols.CALIBRATED, **given),
        {
            "nodes": st.integers(3, 8),
            "width": st.integers(3, 40),
            "hidden_layers": count,
            "seeds": count,
        },
    ),
    "tradeoff.TradeOff": (
        tradeoff_measure.TradeOff,
        {"alpha": share, "form": st.sampled_from(["sum", "interpolated", "x"])},
    ),
    "tradeoff.TradeOff.score": (tradeoff_measure.TradeOff(0.5).score, POINTS),
    "tradeoff.trade_offs": (tradeoff_measure.trade_offs, {"alphas": st.lists(share, max_size=4)}),
    "pareto.pareto_front": (pareto.pareto_front, POINTS),
    "pareto.upper_hull": (pareto.upper_hull, POINTS),
    "pareto.alpha_ranges": (pareto.alpha_ranges, POINTS),
    "pareto.binned": (pareto.binned, POINTS | {"bins": count}),
    "statistics.mean_interval": (statistics.mean_interval, {"values": numbers, "level": level}),
    "statistics.paired_difference": (statistics.paired_difference, EVIDENCE | {"level": level}),
    "statistics.equivalence": (
        statistics.equivalence,
        EVIDENCE | {"margin": st.just(0.1) | st.floats()},
    ),
    "statistics.spread_ratio": (statistics.spread_ratio, EVIDENCE),
    "statistics.rank_correlation": (statistics.rank_correlation, {"x": numbers, "y": numbers}),
    "statistics.partial_rank_correlation": (
        statistics.partial_rank_correlation,
        {"x": numbers, "y": numbers, "given": numbers},
    ),
    "statistics.mean_rank_correlation": (
        statistics.mean_rank_correlation,
        {"x": numbers, "observations": table, "given": st.none() | numbers, "level": level},
    ),
    "statistics.holm": (statistics.holm, {"p": st.lists(share, max_size=5)}),
    "statistics.monotonicity": (statistics.monotonicity, {"x": numbers, "observations": table}),
    "variance.components": (variance.components, {"table": table, "level": level}),
    "variance.spread_p": (variance.spread_p, {"table": table, "threshold": share}),
    "variance.nested": (variance.nested, {"values": cube, "level": level}),
    "variance.detectable_spread": (
        variance.detectable_spread,
        {"masks": count, "seeds": count, "residual": st.floats(), "power": power, "level": level},
    ),
    "variance.detectable_mean": (
        variance.detectable_mean,
        {"error": st.floats(), "df": st.floats(), "power": power, "level": level},
    ),
    "notebook.parse_value": (
        lambda text, annotation: workflow_notebook.parse_value("p", text, annotation),
        {"text": yaml_text, "annotation": annotation},
    ),
} | STRUCTURAL


# --- entry points that need a folder ---


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A database, an evaluator and tables to call with."""
    root = tmp_path_factory.mktemp("world")
    spec = DatabaseSpec((0.6,), masks_per_sparsity=8, n=8, seed=1)
    database = build(spec, root / "database", workers=1)
    with Store(root / "e.sqlite") as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOGP_HOME", str(root))
        store.add(evaluations(5))
        store.export(root / "e.parquet")
        evaluator = Evaluator(root / "evaluator.sqlite", progress=False)
        patch.setattr(evaluator, "_train", _trains)
        write_table(pd.DataFrame({"x": [1.5]}), root / "t.csv", {"a": 1})
        yield root, database, evaluator, store
        evaluator.store.close()


def entries(root, database, evaluator, store) -> dict[str, Entry]:
    """What is called on a database, a store, a folder, a notebook."""
    scaling, tiny = (
        fit_scaling(database, properties.PAPER_FIVE),
        protocols.Protocol("tiny", (784, 8, 8, 10), batch_size=8, steps=1),
    )
    a_file = st.sampled_from(
        ["e.parquet", "t.csv", "database", "absent", "e.sqlite", "t.json", "evaluator.sqlite"]
    )
    parameters = st.dictionaries(st.text(max_size=3), anything, max_size=2)

    def built(parameters, workers, family):
        build(DatabaseSpec((0.6,), 2, 8, family, parameters), root / "x", workers=workers)

    def evaluated(shape, seed, depth, masks, dataset):
        mask = np.ones(shape, dtype=bool) if isinstance(shape, tuple) else shape
        recipe = Recipe((None, mask, *[None] * (depth - 2)) if masks is None else masks)
        with contextlib.suppress(_Trains):
            evaluator.evaluate([Job(recipe, seed, tiny, dataset)])

    def written(file, given, values):
        write_table(
            pd.DataFrame({"x": values} if isinstance(values, list) else {"x": [values]}),
            root / "out" / file,
            given,
            [],
        )

    def ran(notebook, text, values):
        # so that a kernel is never started
        wrong = json.dumps({"no such parameter": values}, default=str)
        with contextlib.redirect_stderr(io.StringIO()) as said:
            status = workflow_notebook.main(
                [str(notebook), str(root / "out.ipynb"), "--no-progress", "-y", text, "-y", wrong]
            )
        assert status == 1
        assert "Traceback" not in said.getvalue()
        assert len(said.getvalue().splitlines()) <= 2
        raise BogpError(said.getvalue())

    return {
        "database.build": (
            built,
            {
                "parameters": st.lists(
                    st.tuples(st.sampled_from(["rewire", "diagonal", "x"]), share), max_size=2
                ),
                "workers": st.just(1),
                "family": st.sampled_from([*families.FAMILIES, "x"]),
            },
        ),
        "database.open_database": (lambda file: open_database(root / file), {"file": a_file}),
        "MaskDatabase.at": (database.at, {"sparsity": share}),
        "database.fit_scaling": (
            partial(fit_scaling, database),
            {"columns": property_names, "name": st.sampled_from(["minmax", "x"])},
        ),
        "database.nearest": (
            lambda queries, metric: nearest(queries, database, scaling, metric),
            {
                "queries": st.lists(st.floats(), min_size=4, max_size=5),
                "metric": st.sampled_from(["cosine", "l1", "l2", "x"]),
            },
        ),
        "search.BoxSearch": (
            lambda seed, columns: search.BoxSearch(
                database, search.SearchSettings(columns), seed
            ).ask(),
            {"seed": seed, "columns": property_names},
        ),
        "search.RandomSearch": (
            lambda seed, budget: search.RandomSearch(database, budget, seed).ask(),
            {"seed": seed, "budget": count},
        ),
        "tradeoff.spread": (partial(tradeoff_measure.spread, database), {"count": count}),
        "Evaluator": (
            lambda **given: Evaluator(root / "other.sqlite", progress=False, **given).store.close(),
            {
                "precision": st.sampled_from(["float32", "auto", "tf32"]),
                "device": st.sampled_from(["cpu", "cuda", "cuda:9", "x"]),
            },
        ),
        "Evaluator.evaluate": (
            evaluated,
            {
                "shape": st.sampled_from([(8, 8), (8, 9), (3,), ()]),
                "seed": seed,
                "depth": st.integers(2, 4),
                "masks": st.none(),
                "dataset": st.sampled_from(["mnist-5k", "x"]),
            },
        ),
        "records.write_table": (
            written,
            {
                "file": st.sampled_from(["t.csv", "t.txt", "\0.csv", "a" * 300 + ".csv"]),
                "given": parameters,
                "values": st.lists(st.text(max_size=3), max_size=2),
            },
        ),
        "records.recorded_table": (
            lambda file, given: recorded_table(root / file, given),
            {"file": a_file, "given": parameters},
        ),
        "records.read_table": (lambda file: read_table(root / file), {"file": a_file}),
        "Store": (
            lambda file: Store(root / file).close(),
            {"file": st.sampled_from(["t.csv", "e.sqlite", "database", "t.csv/x", "e.parquet"])},
        ),
        "Store.merge": (lambda file: store.merge(root / file), {"file": a_file}),
        "Store.export": (
            lambda keys: store.export(root / "out" / "e.parquet", keys),
            {"keys": st.none() | st.lists(st.text(max_size=3), max_size=2)},
        ),
        "notebook.check_parameters": (
            workflow_notebook.check_parameters,
            {
                "declared": st.dictionaries(st.sampled_from("abc"), annotation),
                "given": st.dictionaries(st.sampled_from("abcd"), anything),
            },
        ),
        **{
            f"python -m bogp.run {path.name}": (
                partial(ran, path),
                {"text": yaml_text, "values": anything},
            )
            for path in NOTEBOOKS
        },
    }


class _Trains(Exception):
    """All is well, and training would begin now."""


def _trains(*_: Any) -> None:
    raise _Trains


def measure(what: str, entry: Entry, examples: int) -> Count:
    """Call an entry point so often, and count how the calls end."""
    call, good = entry
    started, ends, bad = time.perf_counter(), Counter[str](), []

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None)
    @given(arguments(good))
    def called(values: dict[str, Any]) -> None:
        try:
            call(**values)
            end = "success"
        except BogpError:
            end = "clear error"
        except Exception as error:
            end = "other"
            bad.append(f"{values} -> {type(error).__name__}: {error}"[:600])
        ends[end] += 1

    called()
    assert not bad, f"{what}, {len(bad)} of {ends.total()}:\n" + "\n".join(bad[:6])
    return Count(
        what, ends.total(), len(bad), seconds=time.perf_counter() - started, note=ended(ends)
    )


def is_slow(what: str) -> bool:
    """Whether a call takes more than a moment."""
    return "bogp.run " in what or what in ("database.build", "tasks.load")


def a_few(what: str) -> int:
    """Calls in ``make test``: a few hundred in all, and thousands in ``make reliability``."""
    trains_or_derives = ("gates.", "taylor.", "importance.", "surgery.cost", "tasks.")
    return 3 if is_slow(what) or what.startswith(trains_or_derives) else 6


@pytest.mark.parametrize("what", PURE)
def test_each_call_ends_in_success_or_a_clear_error(what):
    measure(what, PURE[what], a_few(what))


def test_so_does_each_call_on_files_and_folders(world):
    for what, entry in entries(*world).items():
        measure(what, entry, a_few(what))


@pytest.mark.full
def test_so_do_many_more(world):
    counts = [
        measure(what, entry, 100 if is_slow(what) else 500)
        for what, entry in (PURE | entries(*world)).items()
    ]
    record("bad_input", counts, SEED)
