"""Work in processes of their own: it builds a mask database and trains, is killed or left in peace,
on one worker or on several.
"""

import multiprocessing
from pathlib import Path

import numpy as np

from bogp import search
from bogp.graphs.database import DatabaseSpec, build
from bogp.graphs.families import erdos_renyi
from bogp.graphs.relational import layer_masks
from bogp.records import write_table
from bogp.training import engine
from bogp.training.evaluation import Evaluator, Job, Recipe
from bogp.training.protocols import Protocol

# Children of a server that has prepared everything start in no time, and share no thread with the
# tests.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.reliability.preload"])
SHORT = Protocol("short", widths=(784, 16, 16, 10), learning_rate=1e-2, batch_size=48, steps=40)
GROUP = 8  # networks of that protocol that are trained and kept together, on one core
SPEC = DatabaseSpec((0.3, 0.6), masks_per_sparsity=400, n=16, seed=5, shard_size=20)


class _Noting(Evaluator):
    """Notes each job before it is trained."""

    log: Path

    def _train(self, group, first, bar):  # type: ignore[no-untyped-def]
        with self.log.open("a") as file:
            file.write("".join(f"{key}\n" for key in group))
        return super()._train(group, first, bar)


def work(folder: Path, log: Path) -> None:
    """Build a database and evaluate 96 jobs, in groups of ``GROUP``; says in ``log`` that it has
    begun, and what it is about to train.
    """
    engine.cores = lambda: 1
    log.write_text("begun\n")
    build(SPEC, folder / "database", workers=1)
    evaluator = _Noting(folder / "evaluations.sqlite", progress=False)
    evaluator.log = log
    evaluator.evaluate(_jobs(96))
    evaluator.store.close()


def _jobs(count: int) -> list[Job]:
    masks = [erdos_renyi(16, 0.6, np.random.default_rng(k)) for k in range(count)]
    return [
        Job(Recipe(layer_masks(m, SHORT.widths, SHORT.masked_layers)), k, SHORT, "mnist-5k")
        for k, m in enumerate(masks)
    ]


def searched(folder: Path, workers: int) -> None:
    """A small search from the database to the retrained masks, its tables written as CSV; times,
    which are measurements, left out.
    """
    engine.cores = lambda: workers
    whole = build(SPEC, folder / "database", workers=workers)
    masks, evaluator = whole.at(0.6), Evaluator(folder / "evaluations.sqlite", progress=False)
    settings = search.SearchSettings(n_initial=3, n_iterations=3)
    searchers = [
        kind
        for seed in range(2)
        for kind in (search.BoxSearch(masks, settings, seed), search.RandomSearch(masks, 6, seed))
    ]
    history = search.run(searchers, masks, evaluator, SHORT, "mnist-5k")
    chosen = search.retrain(search.recommend(history), masks, evaluator, SHORT, "mnist-5k", seeds=2)
    for name, table in {
        "masks": whole.table,
        "history": history,
        "chosen": chosen,
        "evaluations": evaluator.store.table(),
    }.items():
        write_table(
            table.drop(columns=["seconds", "finished"], errors="ignore"), folder / f"{name}.csv", {}
        )
    evaluator.store.close()


def files(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    """Contents by name, without what a killed process left unfinished (hidden, and never read)."""
    return {p.name: p.read_bytes() for p in folder.glob(pattern) if not p.name.startswith(".")}
