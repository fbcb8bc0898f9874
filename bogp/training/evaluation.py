"""The one way from a question to a number: an ``Evaluator`` looks a job up in the store and trains
only what is missing.

A *job* is (recipe, seed, protocol, data set); a recipe is layer masks, or a pruning method that
makes them. Its row in the store is addressed by a hash of those and of the precision, the engine
version, the versions of the libraries that compute, and the device class, so that numbers which
could differ never stand in for each other.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bogp import datasets, parallel, paths
from bogp.checks import is_one_of, listed, refuse, whole
from bogp.graphs.relational import (
    LayerMasks,
    check_layer_masks,
    effective_sparsity,
    model_sparsity,
)
from bogp.training.protocols import Protocol
from bogp.training.store import COLUMNS, Store

if TYPE_CHECKING:  # imported where they are used
    from bogp.training import engine
    from bogp.training.baselines import Method


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is done to a network before it is trained: one mask a layer, (d_out, d_in), or None
    where the layer stays dense.
    """

    layer_masks: LayerMasks

    def __post_init__(self) -> None:
        refuse(
            any(
                mask is not None and not (isinstance(mask, np.ndarray) and mask.dtype == bool)
                for mask in listed("layer_masks", self.layer_masks)
            ),
            "The layer masks of a recipe are boolean arrays (True where the weight stays) or None.",
        )

    @property
    def id(self) -> str:
        """A hash of the masks' shapes and bits."""
        content = [
            b"dense" if mask is None else repr(mask.shape).encode() + np.packbits(mask).tobytes()
            for mask in self.layer_masks
        ]
        return hashlib.sha256(b"".join(content)).hexdigest()[:16]


@dataclass(frozen=True)
class Job:
    """One network: a recipe (layer masks, or a method that makes them) and a seed, under a
    protocol, on a data set.
    """

    recipe: Recipe | Method
    seed: int
    protocol: Protocol
    dataset: str

    @property
    def trainings(self) -> int:
        """Trainings that the network costs; methods that prune in rounds train in each."""
        return 1 if isinstance(self.recipe, Recipe) else self.recipe.trainings


class Evaluator:
    """Turns jobs into accuracies: looks in the store, trains only what is missing, group by group.

    Args:
        store: where rows are kept; None is the project's own (``paths.store_path``).
        precision: of the training arithmetic (``training.resolve_precision``); what ``auto`` stands
            for on this machine is chosen now and is part of each row's identity.
        device: ``cpu`` or ``cuda``; part of each row's identity.
        progress: show a progress bar while training.
        known: exported Parquet files whose rows are taken over first; one that does not exist yet
            is passed over.
        own: data sets of your own, which jobs then name as they do those of ``datasets.NAMES``.

    Raises:
        InvalidInput: precision and device do not fit this machine, or a data set of your own has
            the name of another.

    Attributes:
        precision: never ``auto``.
        trained: number of networks that this evaluator has trained (the others were known).
        asked: keys of all evaluations that it was asked for.
    """

    def __init__(
        self,
        store: Path | None = None,
        *,
        precision: str = "float32",
        device: str = "cpu",
        progress: bool = True,
        known: Sequence[Path] = (),
        own: Sequence[datasets.Dataset] = (),
    ) -> None:
        from bogp.training import engine

        taken = {data.name for data in own} & set(datasets.NAMES)
        refuse(
            taken or len({data.name for data in own}) != len(own),
            f"Data sets of your own need a name each, other than {', '.join(datasets.NAMES)}.",
        )

        self.precision, self.device = engine.resolve_precision(precision, device), device
        self.store = Store(store or paths.store_path())
        self.trained = 0
        self.asked: set[str] = set()
        for path in known:
            if path.exists():
                self.store.merge(path)
        self._progress = progress
        self._datasets = {data.name: data for data in own}
        self._prepared: engine.Prepared | None = None

    def dataset(self, name: str) -> datasets.Dataset:
        """The data set of that name, loaded once."""
        if not is_one_of(name, self._datasets):
            self._datasets[name] = datasets.load(name)
        return self._datasets[name]

    def key(self, job: Job) -> str:
        """The address of a job's row: a hash of everything that its numbers depend on."""
        identity = json.dumps(self._identity(job), sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    def evaluate(self, jobs: Sequence[Job]) -> pd.DataFrame:
        """Evaluate jobs.

        Args:
            jobs: any number, of any protocols and data sets; a job that stands twice is trained
                once.

        Returns:
            One row a job, in their order, with the columns ``COLUMNS``.

        Raises:
            InvalidInput: a job's masks do not fit its protocol, or its method cannot reach its
                sparsity or would empty a layer (before any training, but for what later rounds of a
                method come to).
            StoreError, DatasetError: the store or the data cannot be used. What was trained before
                is kept.
        """
        keys = [self.key(job) for job in jobs]
        wanted = dict(zip(keys, jobs, strict=True))
        self.asked.update(keys)
        for job in wanted.values():
            if isinstance(job.recipe, Recipe):  # refused before work starts if it does not fit
                check_layer_masks(job.recipe.layer_masks, job.protocol.widths)
        rows = self.store.get(list(wanted))
        unknown = {k: j for k, j in wanted.items() if k not in rows}
        # refuses methods that cannot do what is asked, before anything is trained
        first = self._all_first_masks(unknown)
        groups = list(self._groups(unknown))
        with parallel.progress_bar(
            sum(j.trainings for j in unknown.values()),
            "training",
            show=bool(groups) and self._progress,
        ) as bar:
            for group in groups:
                with self.store.locked(list(group)):
                    # another process may have trained some of them meanwhile
                    there = self.store.get(list(group))
                    rows |= there
                    missing = {k: j for k, j in group.items() if k not in there}
                    bar.update(sum(group[k].trainings for k in there))
                    if missing:
                        trained = self._train(missing, [first[k] for k in missing], bar)
                        self.store.add(trained)
                        self.trained += len(trained)
                        rows |= {row["key"]: row for row in trained}
        return pd.DataFrame([rows[k] for k in keys], columns=list(COLUMNS))

    def _groups(self, missing: dict[str, Job]) -> Iterator[dict[str, Job]]:
        """Jobs of one protocol, data set and number of rounds that keep every core busy once.

        A group is committed as a whole, so it is what a killed run can lose. A network's numbers do
        not depend on its company, so any grouping will do; equal seeds stand together because they
        share their batches.
        """
        from bogp.training import engine

        alike: dict[Any, dict[str, Job]] = {}
        for key, job in missing.items():
            rounds = (
                None
                if isinstance(job.recipe, Recipe)
                else (job.recipe.rounds, job.recipe.pretrain, job.recipe.rewind)
            )
            alike.setdefault((job.protocol.id, job.dataset, rounds), {})[key] = job
        for jobs in alike.values():
            keys = sorted(jobs, key=lambda key: jobs[key].seed)
            size = engine.group_size(jobs[keys[0]].protocol, self.device) * (
                engine.cores() if self.device == "cpu" else 1
            )
            for i in range(0, len(keys), size):
                yield {k: jobs[k] for k in keys[i : i + size]}

    def _all_first_masks(self, jobs: dict[str, Job]) -> dict[str, LayerMasks | None]:
        """The masks that each job's first training sees; None where it is of the unpruned network,
        to be pruned after it.
        """
        from bogp.training import baselines

        masks: dict[str, LayerMasks | None] = {}
        methods = sum(not isinstance(job.recipe, Recipe) for job in jobs.values())
        with parallel.progress_bar(methods, "pruning", show=methods > 0 and self._progress) as bar:
            for key, job in jobs.items():
                if isinstance(job.recipe, Recipe):
                    masks[key] = job.recipe.layer_masks
                else:
                    masks[key] = baselines.first_masks(
                        job.recipe, job.seed, job.protocol, self.dataset(job.dataset)
                    )
                    bar.update()
        return masks

    def _train(
        self, group: dict[str, Job], first: list[LayerMasks | None], bar: Any
    ) -> list[dict[str, Any]]:
        from bogp.training import baselines, engine

        jobs, shown, started = list(group.values()), bar.n, time.perf_counter()
        protocol, data, seeds = (
            jobs[0].protocol,
            self.dataset(jobs[0].dataset),
            [job.seed for job in jobs],
        )
        settings: dict[str, Any] = {
            "precision": self.precision,
            "device": self.device,
            "prepared": self._prepare(data, protocol),
            "on_step": lambda steps: bar.update(steps / protocol.steps),
        }
        methods = [job.recipe for job in jobs if not isinstance(job.recipe, Recipe)]
        if methods:
            fitted = baselines.fit(methods, seeds, protocol, data, first=first, **settings)
        else:
            masks = [mask for mask in first if mask is not None]
            fitted = baselines.Fitted(engine.train(masks, seeds, protocol, data, **settings), masks)
        # of those that stopped early
        bar.update(max(0.0, shown + sum(job.trainings for job in jobs) - bar.n))
        seconds, finished = (
            (time.perf_counter() - started) / len(jobs),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        result = fitted.training
        return [
            self._identity(job)
            | {
                "key": key,
                "protocol_name": protocol.name,
                "dataset": job.dataset,
                "method": "" if isinstance(job.recipe, Recipe) else job.recipe.settings,
                "trainings": job.trainings,
                "model_sparsity": model_sparsity(fitted.masks[i], protocol.widths),
                "effective_sparsity": effective_sparsity(fitted.masks[i], protocol.widths),
                "layer_sparsity": json.dumps(
                    [
                        0.0 if mask is None else round(1 - float(mask.mean()), 9)
                        for mask in fitted.masks[i]
                    ]
                ),
                "train_accuracy": float(result.train_accuracy[i]),
                "validation_accuracy": float(result.validation_accuracy[i]),
                "test_accuracy": float(result.test_accuracy[i]),
                "final_loss": float(result.final_loss[i])
                if np.isfinite(result.final_loss[i])
                else None,
                "steps": int(result.steps[i]),
                "seconds": seconds,
                "finished": finished,
            }
            for i, (key, job) in enumerate(group.items())
        ]

    def _prepare(self, data: datasets.Dataset, protocol: Protocol) -> engine.Prepared:
        """The data set in the form that is trained on; the last one is kept."""
        from bogp.training import engine

        purpose = engine.purpose_of(data, protocol, self.precision, self.device)
        if self._prepared is None or self._prepared.purpose != purpose:
            self._prepared = engine.prepare(data, protocol, self.precision, self.device)
        return self._prepared

    def _identity(self, job: Job) -> dict[str, Any]:

        return {
            "recipe": job.recipe.id,
            "seed": whole("A job's seed", job.seed, 0, 2**31 - 1),
            "protocol": job.protocol.id,
            **self.settings(job.dataset),
        }

    def settings(self, dataset: str) -> dict[str, Any]:
        """What every number of this evaluator on a data set depends on, beside recipe, seed and
        protocol.
        """
        from bogp.training import engine

        return {
            "dataset_checksum": self.dataset(dataset).checksum,
            "precision": self.precision,
            "engine_version": engine.ENGINE_VERSION,
            "libraries": engine.libraries(self.precision, self.device),
            "device": self.device.split(":")[0],
        }


def protocol_settings(protocol: Protocol) -> dict[str, Any]:
    """A protocol as JSON-ready settings, with its id, for provenance records."""
    return protocol.settings | {"id": protocol.id}
