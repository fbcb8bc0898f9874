import json
import multiprocessing
import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bogp import datasets, parallel
from bogp.datasets import Dataset, Split
from bogp.errors import BogpError, InvalidInput, StoreError, UnreachableSparsity
from bogp.graphs.families import erdos_renyi
from bogp.graphs.relational import layer_masks
from bogp.training import baselines, engine, evaluation
from bogp.training.baselines import Method, named
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol
from bogp.training.store import COLUMNS, Store

PROTOCOL = Protocol("small", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=48, steps=4)
GROUP = 8  # jobs trained and committed together under that protocol, for each core
SPAWN = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads


def tiny(seed=0):
    rng = np.random.default_rng(seed)
    return Dataset(
        "tiny",
        *(
            Split(rng.integers(0, 256, (n, 784), np.uint8), rng.integers(0, 10, n, np.uint8))
            for n in (150, 50, 50)
        ),
    )


def jobs(count, protocol=PROTOCOL, first=0):
    recipes = [
        Recipe(
            layer_masks(
                erdos_renyi(16, 0.6, np.random.default_rng(k)),
                protocol.widths,
                protocol.masked_layers,
            )
        )
        for k in range(count)
    ]
    return [Job(recipe, first + k, protocol, "tiny") for k, recipe in enumerate(recipes)]


def pruned(count, method=None, protocol=PROTOCOL):
    """Jobs of pruning methods, one round and several, in turn; or all of one."""
    names = ("glob_1", "glob_5", "lottery", "unif_5", "random", "snip", "lamp")
    methods = [method or named(names[k % len(names)], 0.5 + 0.05 * (k % 5)) for k in range(count)]
    return [Job(m, k, protocol, "tiny") for k, m in enumerate(methods)]


def fixed(table):
    """Without what differs from one run to another."""
    return table.drop(columns=["seconds", "finished"])


@pytest.fixture(autouse=True)
def tiny_data(home, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda name: tiny())
    monkeypatch.setattr(engine, "cores", lambda: 1)  # whatever machine this is
    return home


@pytest.fixture
def trained(monkeypatch):
    """The size of each group of networks that the engine was asked to train, once for each training
    of a method.
    """
    sizes, train = [], engine.train

    def spy(layer_masks, seeds, *args, **kwargs):
        sizes.append(len(seeds))
        return train(layer_masks, seeds, *args, **kwargs)

    monkeypatch.setattr(engine, "train", spy)
    monkeypatch.setattr(baselines, "train", spy)
    return sizes


@pytest.fixture
def evaluator(home):
    evaluator = Evaluator(progress=False)
    yield evaluator
    evaluator.store.close()


def test_the_store_lies_in_the_home_folder(home, evaluator):
    evaluator.evaluate(jobs(1))
    assert (home / "data" / "evaluations.sqlite").exists()


def test_asking_again_trains_nothing_and_gives_the_same_rows(evaluator, trained):
    first = evaluator.evaluate(jobs(10))
    assert sum(trained) == 10
    again = evaluator.evaluate(jobs(10))
    assert sum(trained) == 10
    assert evaluator.trained == 10
    pd.testing.assert_frame_equal(first, again)
    with Store(evaluator.store.path) as reopened:
        pd.testing.assert_frame_equal(reopened.table(), first.sort_values("key", ignore_index=True))


def test_only_what_is_missing_is_trained(evaluator, trained):
    evaluator.evaluate(jobs(3))
    evaluator.evaluate(jobs(6))
    assert trained == [3, 3]


def test_a_job_that_stands_twice_is_trained_once(evaluator, trained):
    a, b = jobs(2)
    table = evaluator.evaluate([a, b, a, a])
    assert trained == [2]
    assert table["key"].tolist() == [evaluator.key(j) for j in (a, b, a, a)]


def test_rows_stand_in_the_order_of_the_jobs(evaluator):
    asked = [*jobs(5), *jobs(3, replace(PROTOCOL, steps=2))]
    evaluator.evaluate(asked[2:4])
    shuffled = [asked[i] for i in (6, 0, 3, 7, 4, 1)]
    table = evaluator.evaluate(shuffled)
    assert table["seed"].tolist() == [j.seed for j in shuffled]
    assert table["recipe"].tolist() == [j.recipe.id for j in shuffled]
    assert table["steps"].tolist() == [j.protocol.steps for j in shuffled]


def test_no_jobs_give_an_empty_table(evaluator):
    table = evaluator.evaluate([])
    assert len(table) == 0
    assert list(table.columns) == list(COLUMNS)


def test_a_row_holds_what_training_that_network_gives(evaluator):
    asked = jobs(3)
    table = evaluator.evaluate(asked)
    result = engine.train(
        [j.recipe.layer_masks for j in asked], [j.seed for j in asked], PROTOCOL, tiny()
    )
    for column in ("train_accuracy", "validation_accuracy", "test_accuracy"):
        assert table[column].tolist() == getattr(result, column).tolist()
    assert table["final_loss"].tolist() == result.loss[:, -1].tolist()
    weights = 784 * 16 + 16 * 16 + 16 * 10
    for found, job in zip(table["model_sparsity"], asked, strict=True):
        assert found == pytest.approx((~job.recipe.layer_masks[1]).sum() / weights)


@pytest.mark.parametrize(
    ("cores", "sizes"), [(1, [8, 8, 8, 8, 8, 8, 2]), (3, [24, 24, 2]), (9, [50])]
)
def test_what_keeps_every_core_busy_is_trained_together(
    cores, sizes, evaluator, trained, monkeypatch
):
    monkeypatch.setattr(engine, "cores", lambda: cores)
    assert engine.group_size(PROTOCOL) == GROUP
    evaluator.evaluate(jobs(50))
    assert trained == sizes


def test_protocols_and_data_sets_are_not_trained_together(evaluator, monkeypatch):
    asked = []
    train = engine.train

    def spy(layer_masks, seeds, protocol, data, *args, **kwargs):
        asked.append((protocol.steps, data.name, list(seeds)))
        return train(layer_masks, seeds, protocol, data, *args, **kwargs)

    monkeypatch.setattr(engine, "train", spy)
    monkeypatch.setattr(datasets, "load", lambda name: replace(tiny(seed=len(name)), name=name))
    short = replace(PROTOCOL, steps=2)
    evaluator.evaluate(
        [
            job
            for trio in zip(
                jobs(3), jobs(3, short), [replace(j, dataset="other") for j in jobs(3)], strict=True
            )
            for job in trio
        ]
    )
    assert sorted(asked) == [
        (2, "tiny", [0, 1, 2]),
        (4, "other", [0, 1, 2]),
        (4, "tiny", [0, 1, 2]),
    ]


def test_equal_seeds_are_trained_together(evaluator, monkeypatch):
    asked, train = [], engine.train

    def spy(layer_masks, seeds, *args, **kwargs):
        asked.append(list(seeds))
        return train(layer_masks, seeds, *args, **kwargs)

    monkeypatch.setattr(engine, "train", spy)
    evaluator.evaluate([replace(job, seed=at % 3) for at, job in enumerate(jobs(12))])
    assert asked == [[0] * 4 + [1] * 4, [2] * 4]


def test_a_data_set_is_prepared_once_for_all_its_protocols(evaluator, monkeypatch):
    prepared, prepare = [], engine.prepare

    def spy(dataset, protocol, *args):
        prepared.append(protocol.input_scaling)
        return prepare(dataset, protocol, *args)

    monkeypatch.setattr(engine, "prepare", spy)
    raw = replace(PROTOCOL, input_scaling="raw")
    evaluator.evaluate(jobs(20) + jobs(2, replace(PROTOCOL, learning_rate=2e-2, scope="all")))
    assert prepared == ["unit"]
    table = evaluator.evaluate(jobs(2, raw))
    assert prepared == ["unit", "raw"]
    # without what was prepared
    result = engine.train([j.recipe.layer_masks for j in jobs(2)], [0, 1], raw, tiny())
    assert table["test_accuracy"].tolist() == result.test_accuracy.tolist()
    assert table["final_loss"].tolist() == result.final_loss.tolist()


@pytest.fixture
def bars(monkeypatch):
    """Every progress bar over trainings that is made; each notes how far it came."""
    made = []

    class Bar:
        def __init__(self, total, unit, *, show=True, **options):
            self.total, self.show, self.n, self.path = total, show, 0.0, [0.0]
            if unit == "training":
                made.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def update(self, n=1):
            self.n += n
            self.path.append(self.n)

    monkeypatch.setattr(parallel, "progress_bar", Bar)
    return made


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize(
    "protocol",
    [
        PROTOCOL,
        replace(PROTOCOL, steps=37),
        replace(PROTOCOL, batch_size=None, steps=7),
        replace(PROTOCOL, steps=40, check_every=2, patience=2),
    ],
    ids=["one chunk", "three chunks", "full batch", "early stopping"],
)
def test_the_progress_bar_reaches_its_total_and_never_passes_it(
    protocol, cores, evaluator, bars, monkeypatch
):
    monkeypatch.setattr(engine, "cores", lambda: cores)
    evaluator.evaluate(jobs(3, protocol))
    table = evaluator.evaluate(jobs(20, protocol))
    assert [bar.total for bar in bars] == [3, 17]  # those that were known are no work
    for bar in bars:
        assert bar.n == pytest.approx(bar.total, abs=1e-9)
        assert (np.diff(bar.path) >= 0).all()
        assert len(bar.path) > 1 + bar.total / (GROUP * cores)  # it moves within groups too
    # some stopped before their last step
    assert protocol.patience is None or table["steps"].max() < protocol.steps


def test_the_progress_bar_counts_what_another_process_trained_meanwhile(
    evaluator, bars, home, monkeypatch
):
    asked, get = jobs(10), evaluator.store.get
    other = Evaluator(home / "other.sqlite", progress=False)
    rows = other.evaluate(asked[:5]).astype(object).to_dict("records")
    other.store.close()
    bars.clear()

    def meanwhile(keys):
        found = get(keys)
        evaluator.store.add(rows)  # right after the first look
        return found

    monkeypatch.setattr(evaluator.store, "get", meanwhile)
    evaluator.evaluate(asked)
    assert evaluator.trained == 5
    assert bars[0].n == pytest.approx(bars[0].total, abs=1e-9)
    assert bars[0].total == 10


def test_a_training_that_diverged_has_no_final_loss(evaluator, monkeypatch):
    train = engine.train

    def diverging(*args, **kwargs):
        return replace(train(*args, **kwargs), final_loss=np.array([0.5, np.nan]))

    monkeypatch.setattr(engine, "train", diverging)
    assert evaluator.evaluate(jobs(2))["final_loss"].isna().tolist() == [False, True]


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_a_job_in_the_store_may_have_had_any_company(precision, home, monkeypatch):
    monkeypatch.setattr(engine, "cores", lambda: 3)
    with_company, other = (
        Evaluator(home / f"{name}.sqlite", precision=precision, progress=False)
        for name in ("one", "other")
    )
    together = with_company.evaluate(jobs(GROUP + 3))
    monkeypatch.setattr(engine, "cores", lambda: 1)
    alone = pd.concat([other.evaluate([job]) for job in jobs(GROUP + 3)], ignore_index=True)
    with_company.store.close()
    other.store.close()
    pd.testing.assert_frame_equal(fixed(together), fixed(alone), check_exact=True)


def test_with_early_stopping_too_a_row_does_not_depend_on_its_company(evaluator, home):
    # The networks of a group stop at different steps; those that stopped are carried along until
    # the last one does.
    stopping = replace(PROTOCOL, steps=40, check_every=2, patience=2)
    asked = jobs(6, stopping)
    together = evaluator.evaluate(asked)
    early = (together["steps"] < together["steps"].max()).to_numpy()
    assert 0 < early.sum() < len(asked)
    other = Evaluator(home / "other.sqlite", progress=False)
    apart = other.evaluate([job for job, first in zip(asked, early, strict=True) if first])
    other.store.close()
    pd.testing.assert_frame_equal(
        fixed(together[early].reset_index(drop=True)), fixed(apart), check_exact=True
    )


def test_the_key_changes_with_everything_that_the_numbers_depend_on(evaluator, home, monkeypatch):
    job, other = jobs(2)
    keys = [
        evaluator.key(job),
        evaluator.key(replace(job, recipe=other.recipe)),
        evaluator.key(replace(job, recipe=Recipe((None, None, None)))),
        evaluator.key(replace(job, seed=1)),
        evaluator.key(replace(job, protocol=replace(PROTOCOL, learning_rate=2e-2))),
    ]
    precise = Evaluator(precision="float64", progress=False)
    keys.append(precise.key(job))
    precise.store.close()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "ENGINE_VERSION", engine.ENGINE_VERSION + 1)
        keys.append(evaluator.key(job))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "libraries", lambda precision="float32", device="cpu": "torch 0.0.1")
        keys.append(evaluator.key(job))
    # other content under the same name
    monkeypatch.setattr(datasets, "load", lambda name: tiny(seed=1))
    changed = Evaluator(progress=False)
    keys.append(changed.key(job))
    changed.store.close()
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("amx", "resolved"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_resolved_once_and_stands_in_rows_and_keys_by_its_name(
    amx, resolved, evaluator, home, monkeypatch
):
    monkeypatch.setattr(engine, "has_amx", lambda: amx)
    with_auto, named = (
        Evaluator(home / f"{precision}.sqlite", precision=precision, progress=False)
        for precision in ("auto", resolved)
    )
    monkeypatch.setattr(engine, "has_amx", lambda: not amx)
    found, expected = with_auto.evaluate(jobs(2)), named.evaluate(jobs(2))
    assert with_auto.precision == resolved
    assert found["precision"].tolist() == [resolved] * 2
    assert found["libraries"].tolist() == [engine.libraries(resolved)] * 2
    pd.testing.assert_frame_equal(fixed(found), fixed(expected), check_exact=True)
    with_auto.store.close()
    named.store.close()


def test_two_precisions_are_two_rows(home, evaluator, trained):
    tables = []
    for precision in ("float32", "float64", "bfloat16", "float32"):
        with_precision = Evaluator(precision=precision, progress=False)
        tables.append(with_precision.evaluate(jobs(2)))
        with_precision.store.close()
    assert trained == [2, 2, 2]  # the fourth knew its rows
    assert (
        sorted(evaluator.store.table()["precision"])
        == ["bfloat16"] * 2 + ["float32"] * 2 + ["float64"] * 2
    )
    pd.testing.assert_frame_equal(tables[0], tables[3])
    losses = [table["final_loss"].tolist() for table in tables[:3]]
    assert losses[0] != losses[1] != losses[2]  # each was trained in its own precision


@pytest.mark.parametrize(
    "options", [{"precision": "float16"}, {"precision": "tf32"}, {"device": "gpu"}], ids=str
)
def test_what_cannot_be_trained_here_is_refused_at_once(options, home):
    with pytest.raises(InvalidInput, match=r"allowed|tf32"):
        Evaluator(progress=False, **options)
    assert not (home / "data").exists()


def test_the_key_does_not_change_with_a_protocols_name(evaluator):
    job = jobs(1)[0]
    assert evaluator.key(replace(job, protocol=replace(PROTOCOL, name="renamed"))) == evaluator.key(
        job
    )


def test_a_recipes_id_depends_on_bits_shape_and_place_of_a_mask():
    mask = np.eye(4, dtype=bool)
    recipes = [
        (mask, None),
        (None, mask),
        (None, None),
        (~mask, None),
        (mask.reshape(2, 8), None),
        (None,),
    ]
    assert len({Recipe(r).id for r in recipes}) == len(recipes)
    assert Recipe((mask.copy(), None)).id == Recipe((mask, None)).id


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, True, "1", None], ids=repr)
def test_a_seed_that_is_none_is_refused_before_training(seed, evaluator, trained):
    with pytest.raises(InvalidInput, match="seed"):
        evaluator.evaluate([*jobs(1), replace(jobs(1)[0], seed=seed)])
    assert trained == []


@pytest.mark.parametrize(
    "masks",
    [(None, None), (None, np.ones((15, 16), bool), None), (np.ones((784, 16), bool), None, None)],
    ids=["layers", "n", "transposed"],
)
def test_masks_that_do_not_fit_are_refused_before_training(masks, evaluator, trained):
    with pytest.raises(InvalidInput):
        evaluator.evaluate([*jobs(9), Job(Recipe(masks), 0, PROTOCOL, "tiny")])
    assert trained == []
    assert len(evaluator.store.table()) == 0


def test_an_interruption_keeps_the_groups_before(evaluator, trained, monkeypatch):
    spied = engine.train

    def interrupted(*args, **kwargs):
        if len(trained) == 2:
            raise KeyboardInterrupt
        return spied(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate(jobs(20))
    assert len(evaluator.store.table()) == 2 * GROUP
    evaluator.evaluate(jobs(20))
    assert sum(trained) == 20


def _evaluate_in_process(
    store: Path, log: Path, stop_in_call: int, started: Path, method: Method | None = None
) -> None:
    """Another process: notes each network that it trains, and may stand still in the middle of a
    call until it is killed.
    """
    train, calls = engine.train, [0]

    def wrapper(layer_masks, seeds, *args, on_step=None, **kwargs):
        calls[0] += 1
        with log.open("a") as file:
            file.write("".join(f"{seed}\n" for seed in seeds))

        def step(steps):
            if calls[0] == stop_in_call:
                started.touch()
                time.sleep(600)
            time.sleep(0.1)  # gives two processes the time to meet
            on_step(steps)

        return train(layer_masks, seeds, *args, on_step=step, **kwargs)

    engine.train = baselines.train = wrapper
    engine.cores = lambda: 1
    datasets.load = lambda name: tiny()
    Evaluator(store, progress=False).evaluate(pruned(20, method) if method else jobs(20))


def process(*args):
    started = SPAWN.Process(target=_evaluate_in_process, args=args, daemon=True)
    started.start()
    return started


@pytest.mark.parametrize(
    "method", [None, Method(0.8, rounds=5)], ids=["masks", "between two rounds"]
)
def test_a_run_that_was_killed_goes_on_where_it_stopped(method, home, evaluator, trained):
    store, started, asked, rounds = (
        home / "killed.sqlite",
        home / "started",
        pruned(20, method) if method else jobs(20),
        5 if method else 1,
    )
    victim = process(store, home / "log", rounds + (rounds + 1) // 2, started, method)
    deadline = time.monotonic() + 100
    while not started.exists() and victim.is_alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    victim.kill()  # SIGKILL, in the middle of the second group
    victim.join()
    assert started.exists()
    assert victim.exitcode == -signal.SIGKILL
    with Store(store) as kept:
        before = kept.table()
    assert len(before) == GROUP
    resumed = Evaluator(store, progress=False)
    table = resumed.evaluate(asked)
    assert sum(trained) == (20 - GROUP) * rounds
    after = resumed.store.table()
    pd.testing.assert_frame_equal(
        after[after["key"].isin(before["key"])].reset_index(drop=True), before
    )
    resumed.store.close()
    pd.testing.assert_frame_equal(fixed(table), fixed(evaluator.evaluate(asked)), check_exact=True)


def test_two_processes_train_each_job_once_between_them(home):
    workers = [
        process(home / "shared.sqlite", home / f"log{i}", 0, home / "never") for i in range(2)
    ]
    for worker in workers:
        worker.join(120)
    assert [w.exitcode for w in workers] == [0, 0]
    seeds = [
        int(line)
        for i in range(2)
        if (home / f"log{i}").exists()
        for line in (home / f"log{i}").read_text().split()
    ]
    assert sorted(seeds) == list(range(20))
    with Store(home / "shared.sqlite") as store:
        assert len(store.table()) == 20


def test_export_and_merge_give_the_union(home, evaluator):
    evaluator.evaluate(jobs(6))
    whole = evaluator.store.table()
    file = evaluator.store.export(home / "all.parquet")
    with Store(home / "empty.sqlite") as empty:
        assert empty.merge(file) == 6
        pd.testing.assert_frame_equal(empty.table(), whole)
        assert empty.merge(file) == 0
        pd.testing.assert_frame_equal(empty.table(), whole)
    partly = Evaluator(home / "partly.sqlite", progress=False)
    partly.evaluate(jobs(9)[4:])
    own = partly.store.table()
    assert partly.store.merge(file) == 4
    union = partly.store.table()
    partly.store.close()
    assert set(union["key"]) == set(whole["key"]) | set(own["key"])
    pd.testing.assert_frame_equal(union[union["key"].isin(own["key"])].reset_index(drop=True), own)


def test_merged_rows_are_found_by_an_evaluator(home, evaluator, trained):
    first = evaluator.evaluate(jobs(3))
    file = evaluator.store.export(home / "all.parquet")
    other = Evaluator(home / "other.sqlite", progress=False, known=[home / "not-yet.parquet", file])
    pd.testing.assert_frame_equal(other.evaluate(jobs(3)), first)
    other.store.close()
    assert trained == [3]


def test_a_loss_that_is_not_finite_survives_export_and_merge(home, evaluator):
    evaluator.evaluate(jobs(2))
    rows = evaluator.store.table().astype(object).to_dict("records")
    with Store(home / "a.sqlite") as a, Store(home / "b.sqlite") as b:
        a.add([rows[0], rows[1] | {"final_loss": None}])
        b.merge(a.export(home / "a.parquet"))
        pd.testing.assert_frame_equal(b.table(), a.table())
        assert b.table()["final_loss"].isna().tolist() == [False, True]


def test_export_of_chosen_keys_holds_them_alone(home, evaluator):
    keys = evaluator.evaluate(jobs(4))["key"].tolist()
    file = evaluator.store.export(home / "some.parquet", keys[:2] + keys[:1])
    assert sorted(pd.read_parquet(file)["key"]) == sorted(keys[:2])
    with pytest.raises(StoreError, match="1 of the 2"):
        evaluator.store.export(home / "more.parquet", [keys[0], "0" * 32])
    assert not (home / "more.parquet").exists()


@pytest.mark.parametrize("column", ["validation_accuracy", "test_accuracy"])
def test_a_contradicting_row_is_refused_and_nothing_changes(column, home, evaluator):
    evaluator.evaluate(jobs(4))
    table = evaluator.store.table()
    with Store(home / "other.sqlite") as other:
        rows = table.astype(object).to_dict("records")
        other.add([rows[0], rows[1] | {column: rows[1][column] + 0.02}])
        before = other.table()
        with pytest.raises(StoreError, match=rows[1]["key"]):
            other.merge(evaluator.store.export(home / "all.parquet"))
        # the two rows that were new did not come in either
        pd.testing.assert_frame_equal(other.table(), before)


@pytest.mark.parametrize("damage", ["cut", "text", "missing", "columns"])
def test_what_is_no_export_is_refused(damage, home, evaluator):
    evaluator.evaluate(jobs(2))
    file = evaluator.store.export(home / "all.parquet")
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        file.write_text("key,recipe\n")
    elif damage == "missing":
        file.unlink()
    else:
        pd.read_parquet(file).drop(columns="steps").to_parquet(file)
    with Store(home / "other.sqlite") as other:
        with pytest.raises(StoreError, match=r"all\.parquet"):
            other.merge(file)
        assert len(other.table()) == 0


def test_a_store_of_garbage_is_refused_and_left_alone(home):
    path = home / "garbage.sqlite"
    path.write_bytes(b"no database at all " * 500)
    with pytest.raises(StoreError, match=r"garbage\.sqlite"):
        Store(path)
    assert path.read_bytes() == b"no database at all " * 500


def test_a_store_damaged_in_the_middle_is_refused(home, evaluator):
    evaluator.evaluate(jobs(20))
    with sqlite3.connect(evaluator.store.path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    content = bytearray(evaluator.store.path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    (home / "damaged.sqlite").write_bytes(bytes(content))
    with pytest.raises(StoreError, match="damaged"), Store(home / "damaged.sqlite") as store:
        store.table()


def test_a_store_with_other_columns_is_refused(home):
    with sqlite3.connect(home / "old.sqlite") as db:
        db.execute("CREATE TABLE evaluations (key TEXT PRIMARY KEY, accuracy REAL)")
    db.close()
    with pytest.raises(StoreError, match="columns"):
        Store(home / "old.sqlite")


def test_a_folder_that_cannot_be_made_is_a_store_error(home):
    (home / "file").write_text("")
    with pytest.raises(StoreError):
        Store(home / "file" / "evaluations.sqlite")


def test_a_full_disk_is_a_store_error_and_leaves_earlier_rows(evaluator, trained):
    evaluator.evaluate(jobs(8))
    before = evaluator.store.table()
    pages = evaluator.store._db.execute("PRAGMA page_count").fetchone()[0]
    # SQLite then reports a full disk
    evaluator.store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        evaluator.evaluate(jobs(60))
    kept = evaluator.store.table()
    assert set(before["key"]) <= set(kept["key"])
    # whole groups only: 60 jobs are 8 known and 6 groups of 8 and one of 4
    assert len(kept) % 4 == 0
    evaluator.store._db.execute("PRAGMA max_page_count = 100000")
    done = sum(trained)
    assert len(evaluator.evaluate(jobs(60))) == 60  # with space again it goes on
    assert sum(trained) - done == 60 - len(kept)


def test_a_second_store_on_one_file_keeps_the_first_row_of_a_key(home, evaluator):
    evaluator.evaluate(jobs(1))
    row = evaluator.store.table().astype(object).to_dict("records")[0]
    with Store(evaluator.store.path) as second:
        second.add([row | {"test_accuracy": 2.0}])
    assert evaluator.store.table()["test_accuracy"].tolist() == [row["test_accuracy"]]


def test_protocol_settings_are_ready_for_json():
    settings = evaluation.protocol_settings(PROTOCOL)
    assert settings["id"] == PROTOCOL.id
    assert settings["widths"] == (784, 16, 16, 10)


# Pruning methods as recipes


def test_masks_and_methods_are_evaluated_together_and_stand_in_the_order_of_the_jobs(
    evaluator, trained
):
    with_masks, with_methods = jobs(7), pruned(7)
    asked = [job for pair in zip(with_methods, with_masks, strict=True) for job in pair]
    table = evaluator.evaluate(asked)
    assert table["seed"].tolist() == [job.seed for job in asked]
    assert table["recipe"].tolist() == [job.recipe.id for job in asked]
    assert table["key"].tolist() == [evaluator.key(job) for job in asked]
    assert table["trainings"].tolist() == [n for many in (1, 5, 2, 5, 1, 1, 2) for n in (many, 1)]
    assert (table["method"][1::2] == "").all()
    assert [Method(**json.loads(text)) for text in table["method"][::2]] == [
        job.recipe for job in with_methods
    ]
    assert evaluator.trained == len(asked)
    assert sum(trained) == table["trainings"].sum()
    pd.testing.assert_frame_equal(
        evaluator.evaluate(asked[::-1])[::-1].reset_index(drop=True), table
    )
    assert sum(trained) == table["trainings"].sum()  # asking again trains nothing


def test_networks_advance_together_that_agree_in_rounds(evaluator, trained):
    evaluator.evaluate(
        [
            *pruned(3, named("glob_5", 0.5)),
            *pruned(4, named("unif_5", 0.6)),
            *pruned(2, named("lottery", 0.5)),
            *jobs(2),
        ]
    )
    assert sorted(trained) == [2, 2, 2, *[7] * 5]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_methods_bits_do_not_depend_on_its_company(precision, home, monkeypatch):
    asked = pruned(2 * GROUP)
    monkeypatch.setattr(engine, "cores", lambda: 3)
    with_company, other = (
        Evaluator(home / f"{name}.sqlite", precision=precision, progress=False)
        for name in ("one", "other")
    )
    together = with_company.evaluate([*jobs(3), *asked])[3:].reset_index(drop=True)
    monkeypatch.setattr(engine, "cores", lambda: 1)
    alone = pd.concat([other.evaluate([job]) for job in reversed(asked)], ignore_index=True)[
        ::-1
    ].reset_index(drop=True)
    with_company.store.close()
    other.store.close()
    pd.testing.assert_frame_equal(fixed(together), fixed(alone), check_exact=True)


def test_a_methods_row_holds_what_fitting_it_gives(evaluator):
    asked = [
        *pruned(7),
        Job(named("glob_5", 0.9, "masked"), 3, PROTOCOL, "tiny"),
        Job(named("synflow", 0.995), 3, PROTOCOL, "tiny"),
    ]
    table, weights = evaluator.evaluate(asked), 784 * 16 + 16 * 16 + 16 * 10
    for job, (_, row) in zip(asked, table.iterrows(), strict=True):
        fitted = baselines.fit([job.recipe], [job.seed], PROTOCOL, tiny())
        for column in ("train_accuracy", "validation_accuracy", "test_accuracy", "final_loss"):
            assert row[column] == getattr(fitted.training, column)[0]
        sizes = [(16, 784), (16, 16), (10, 16)]
        masks = [
            np.ones(shape) if mask is None else mask.astype(float)
            for mask, shape in zip(fitted.masks[0], sizes, strict=True)
        ]
        assert row["model_sparsity"] == pytest.approx(
            1 - sum(m.sum() for m in masks) / weights, abs=1e-12
        )
        assert json.loads(row["layer_sparsity"]) == pytest.approx(
            [(m == 0).mean() for m in masks], abs=1e-8
        )
        # a weight counts if any path leads through it: so many arrive times so many leave
        first, hidden, last = masks
        through = [
            first * (last @ hidden).sum(0)[:, None],
            hidden * first.sum(1) * last.sum(0)[:, None],
            last * (hidden @ first).sum(1),
        ]
        assert row["effective_sparsity"] == pytest.approx(
            1 - sum(np.count_nonzero(t) for t in through) / weights, abs=1e-12
        )
    # .9 of 256 weights, of all
    assert table["model_sparsity"].iloc[7] == pytest.approx(230 / weights, abs=1e-12)
    assert (table["effective_sparsity"] > table["model_sparsity"]).any()


def test_the_masks_of_a_recipe_give_its_layers_sparsities(evaluator):
    (job,) = jobs(1)
    row = evaluator.evaluate([job]).iloc[0]
    assert json.loads(row["layer_sparsity"]) == pytest.approx(
        [0.0, (~job.recipe.layer_masks[1]).mean(), 0.0], abs=1e-8
    )


def test_a_methods_key_changes_with_its_settings_and_is_not_that_of_its_masks(evaluator):
    method = named("glob_1", 0.6)
    masks = baselines.first_masks(method, 0, PROTOCOL, tiny())
    recipes = [
        method,
        Recipe(masks),
        replace(method, sparsity=0.7),
        replace(method, allow_empty=True),
        replace(method, rounds=2),
    ]
    assert len({evaluator.key(Job(recipe, 0, PROTOCOL, "tiny")) for recipe in recipes}) == len(
        recipes
    )
    one, other = evaluator.evaluate(
        [Job(recipe, 0, PROTOCOL, "tiny") for recipe in recipes[:2]]
    ).to_dict("records")
    same = (
        "train_accuracy",
        "validation_accuracy",
        "test_accuracy",
        "final_loss",
        "model_sparsity",
        "effective_sparsity",
        "layer_sparsity",
    )
    assert {c: one[c] for c in same} == {c: other[c] for c in same}


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (Method(0.99999), UnreachableSparsity),
        (Method(0.99999, pretrain=True, rewind=True), UnreachableSparsity),
        (Method(0.99), InvalidInput),
    ],
    ids=["no weight", "no weight, after training", "empty layer"],
)
def test_one_method_that_cannot_be_done_stops_all_before_any_training(
    method, error, evaluator, trained
):
    with pytest.raises(error):
        evaluator.evaluate([*jobs(9), *pruned(9), Job(method, 0, PROTOCOL, "tiny")])
    assert trained == []
    assert evaluator.trained == 0
    assert len(evaluator.store.table()) == 0


def test_the_papers_network_without_its_first_layer_is_refused_or_predicts_one_class(
    evaluator, trained
):
    """Sparsity .92 is past the edge of .911 at which global magnitude has emptied the first layer
    (tests/training/test_baselines.py).
    """
    wide = replace(PROTOCOL, name="wide", widths=(784, 128, 128, 10))
    with pytest.raises(InvalidInput, match=r"every weight of layer 0 \(784 x 128\)"):
        evaluator.evaluate(
            [*jobs(2), Job(Method(0.9), 0, wide, "tiny"), Job(Method(0.92), 0, wide, "tiny")]
        )
    assert (trained, evaluator.trained, len(evaluator.store.table())) == ([], 0, 0)
    row = evaluator.evaluate([Job(Method(0.92, allow_empty=True), 0, wide, "tiny")]).iloc[0]
    assert row["effective_sparsity"] == 1.0
    assert row["model_sparsity"] == pytest.approx(0.92, abs=1e-5)
    assert json.loads(row["layer_sparsity"])[0] == 1.0
    data = tiny()
    shares = {
        (np.mean(data.validation.labels == c), np.mean(data.test.labels == c)) for c in range(10)
    }
    assert (row["validation_accuracy"], row["test_accuracy"]) in shares


@pytest.mark.parametrize("cores", [1, 3])
def test_the_progress_bar_counts_trainings(cores, evaluator, bars, monkeypatch):
    monkeypatch.setattr(engine, "cores", lambda: cores)
    evaluator.evaluate([*jobs(3), *pruned(7)])
    evaluator.evaluate([*jobs(4), *pruned(14)])
    assert [bar.total for bar in bars] == [3 + 17, 1 + 17]  # 1, 5, 2, 5, 1, 1 and 2 trainings
    for bar in bars:
        assert bar.n == pytest.approx(bar.total, abs=1e-9)
        assert (np.diff(bar.path) >= 0).all()


def test_methods_that_another_process_trained_meanwhile_are_left_out(
    evaluator, bars, home, monkeypatch
):
    asked, get = pruned(6, named("glob_5", 0.6)), evaluator.store.get
    other = Evaluator(home / "other.sqlite", progress=False)
    expected = other.evaluate(asked)
    other.store.close()
    bars.clear()

    def meanwhile(keys):
        found = get(keys)
        # right after the first look
        evaluator.store.add(expected.astype(object).to_dict("records")[:3])
        return found

    monkeypatch.setattr(evaluator.store, "get", meanwhile)
    pd.testing.assert_frame_equal(
        fixed(evaluator.evaluate(asked)), fixed(expected), check_exact=True
    )
    assert evaluator.trained == 3
    assert (bars[0].n, bars[0].total) == (pytest.approx(30), 30)


def test_a_network_that_diverges_between_rounds_ends_the_run_and_keeps_the_groups_before(
    evaluator, trained, monkeypatch
):
    spied, asked = baselines.train, pruned(GROUP + 3, named("glob_5", 0.5))

    def diverging(*args, **kwargs):
        result = spied(*args, **kwargs)
        if len(trained) == 5 + 2:
            result.weights[0][0][1, 0, 0] = np.nan
        return result

    with monkeypatch.context() as patch:
        patch.setattr(baselines, "train", diverging)
        with pytest.raises(BogpError, match=f"seed {GROUP + 1} diverged"):
            evaluator.evaluate(asked)
    assert evaluator.store.table()["seed"].sort_values().tolist() == list(range(GROUP))
    evaluator.evaluate(asked)
    assert trained == [GROUP] * 5 + [3] * (2 + 5)


def test_rows_of_methods_survive_export_and_merge(home, evaluator, trained):
    asked = [*jobs(2), *pruned(7)]
    first, done = evaluator.evaluate(asked), sum(trained)
    file = evaluator.store.export(home / "all.parquet")
    other = Evaluator(home / "other.sqlite", progress=False, known=[file])
    pd.testing.assert_frame_equal(other.evaluate(asked), first, check_exact=True)
    pd.testing.assert_frame_equal(other.store.table(), evaluator.store.table(), check_exact=True)
    assert other.store.merge(file) == 0
    other.store.close()
    assert sum(trained) == done
    found = pd.read_parquet(file)
    assert set(found["method"]) == {"", *(job.recipe.settings for job in asked[2:])}
    assert found["trainings"].sum() == done
