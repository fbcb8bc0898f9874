"""The engine: trains many masked networks side by side and measures their accuracies (the training
step of Algorithms 3 and 4).

Networks advance in small groups, one thread a group; what a step computes is written twice:
``compiled_networks`` (float32 and float64 on a CPU) and ``tensor_networks`` (bfloat16, CUDA). No
operation mixes two networks, and on a CPU none rounds one otherwise beside another, so the numbers
of a network are there the same, bit for bit, whatever is trained with it, and on however many cores
(the tests compare them).

A pruned weight is zero at the start and its gradient is zeroed at every step, which is what
``torch.nn.utils.prune`` computes: Adam then never moves it. Needs numpy and torch; in float32 and
float64 on a CPU also numba, with scipy's BLAS, and threadpoolctl.
"""

import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bogp.checks import is_one_of, refuse, whole
from bogp.datasets import Dataset, Split
from bogp.errors import InvalidInput
from bogp.graphs.relational import LayerMasks, check_layer_masks, weight_shapes
from bogp.training.protocols import Protocol
from bogp.training.tensor_networks import Group, Layers, TensorImages, TensorNetworks

if TYPE_CHECKING:  # imported where it is used, so that training on CUDA needs no compiler
    from bogp.training.compiled_networks import CompiledNetworks

# raise it when a change alters numbers: stored evaluations of other versions then no longer count
ENGINE_VERSION = 3
# of each group's arithmetic, whatever the machine has, so that the same job gives the same bits
# everywhere
THREADS = 1
# images that a group's networks together read in a step; full batches on a CPU train alone, since a
# killed run loses the groups in flight
GROUP_ROWS = {"cpu": 1024, "cuda": 2**19}
GROUP = {"cpu": 8, "cuda": 64}  # networks in a group at most
FULL_BATCH = 65_536  # images of a full batch, roughly
CHUNK = 16  # mini-batch steps between two looks at the outside world: progress, interruption
PRECISIONS = ("float32", "float64", "bfloat16", "tf32")


# a group of K networks: what the training loop calls of them is the same in both back ends
Networks: TypeAlias = "TensorNetworks | CompiledNetworks"


@dataclass(frozen=True)
class Training:
    """What training K networks gave.

    Attributes:
        train_accuracy, validation_accuracy, test_accuracy: (K,) shares of images classified
            correctly, after training. The first is measured on the first training images, as many
            as there are validation images (the order is shuffled and stratified). Under the split
            ``reported`` validation and test are the same images.
        loss: (K, steps) mean training loss before each step, of that step's batch.
        final_loss: (K,) last entry of each loss curve; NaN where training diverged.
        steps: (K,) optimiser steps behind the measured weights.
        looks: (K, looks) validation accuracy every ``Protocol.check_every`` steps; (K, 0) without.
            Rows of ``loss`` and ``looks`` that ended early are filled up with NaN.
        weights: on request, the layers after training.
    """

    train_accuracy: NDArray[np.float64]
    validation_accuracy: NDArray[np.float64]
    test_accuracy: NDArray[np.float64]
    loss: NDArray[np.float64]
    final_loss: NDArray[np.float64]
    steps: NDArray[np.int64]
    looks: NDArray[np.float64]
    weights: Layers | None = None


def resolve_precision(precision: str, device: str = "cpu") -> str:
    """The precision that a name stands for on this machine.

    Args:
        precision: ``float32``, ``float64`` (CPU only), ``bfloat16`` (factors of matrix products and
            what hidden layers pass on are bfloat16; sums inside a product, parameters, gradients,
            Adam's state and the last layer are float32), ``tf32`` (CUDA only), or ``auto``:
            ``bfloat16`` where hardware multiplies matrices of it (a CPU with AMX, a CUDA device
            that has it), else ``float32``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InvalidInput: no such precision or device, or this machine has not got it.
    """
    cuda = isinstance(device, str) and re.fullmatch(r"cuda(:\d+)?", device) is not None
    refuse(
        not cuda and not is_one_of(device, ("cpu",)),
        f"device is {device!r}; allowed: cpu, cuda, cuda:0, cuda:1, ...",
    )
    refuse(
        cuda and not torch.cuda.is_available(),
        f"device is {device!r}, but PyTorch finds no CUDA device here; use 'cpu'.",
    )
    if cuda and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise InvalidInput(
            f"device is {device!r}, but PyTorch finds {torch.cuda.device_count()} CUDA "
            "devices here, counted from 0."
        )
    if is_one_of(precision, ("auto",)):
        return (
            "bfloat16"
            if (torch.cuda.is_bf16_supported(including_emulation=False) if cuda else has_amx())
            else "float32"
        )
    refuse(
        not is_one_of(precision, PRECISIONS),
        f"precision is {precision!r}; allowed: auto, {', '.join(PRECISIONS)}.",
    )
    refuse(
        (precision == "tf32" and not cuda) or (precision == "float64" and cuda),
        f"precision {precision!r} is not for device {device!r}: tf32 is a mode of CUDA "
        "devices, and float64 is for the CPU.",
    )
    return precision


def has_amx() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware (AMX)."""
    return bool(getattr(torch.cpu, "get_capabilities", dict[str, bool])().get("amx_bf16", False))


@dataclass(frozen=True)
class Prepared:
    """A data set as training multiplies it, for callers that train on it more than once.

    Attributes:
        purpose: what it was prepared for: data set checksum, split, input scaling, precision,
            device.
        train, validation, test: the parts (see ``Protocol.split``), as ``CompiledImages`` or
            ``TensorImages``.
        sample: number of training images on which training accuracy is measured.
    """

    purpose: tuple[str, str, str, str, str]
    train: Any
    validation: Any
    test: Any
    sample: int


def prepare(
    dataset: Dataset, protocol: Protocol, precision: str = "float32", device: str = "cpu"
) -> Prepared:
    """Make a data set ready for all trainings under protocols of this split and input scaling.

    Args:
        dataset: the images.
        protocol: of which the split and the input scaling count.
        precision, device: see ``resolve_precision``.

    Raises:
        InvalidInput: see ``resolve_precision``.
    """
    precision = resolve_precision(precision, device)

    train, validation, test = _splits(dataset, protocol)

    def images(split: Split) -> Any:
        if _is_compiled(precision, device):
            from bogp.training.compiled_networks import CompiledImages, is_dark

            scaling = protocol.input_scaling
            return CompiledImages(split, scaling, np.dtype(precision), is_dark(train))
        return TensorImages(split, protocol.input_scaling, precision, device)

    selection = images(validation)
    return Prepared(
        purpose=purpose_of(dataset, protocol, precision, device),
        train=images(train),
        validation=selection,
        test=selection if test is validation else images(test),
        sample=len(validation),
    )


def train(
    layer_masks: Sequence[LayerMasks],
    seeds: Sequence[int],
    protocol: Protocol,
    dataset: Dataset,
    init: Layers | None = None,
    *,
    precision: str = "float32",
    device: str = "cpu",
    prepared: Prepared | None = None,
    return_weights: bool = False,
    workers: int | None = None,
    on_step: Callable[[int], object] | None = None,
) -> Training:
    """Train K masked networks side by side.

    Args:
        layer_masks: K tuples with one mask a layer, (d_out, d_in), or None for dense.
        seeds: K seeds; seed k fixes the initial weights (``initial_layers``) and the batch order
            (``batches``).
        protocol: everything else.
        dataset: the images.
        init: layers of K networks to start from instead of the seeds' own; not changed.
        precision: see ``resolve_precision``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        prepared: what ``prepare`` made of this data set, protocol, precision and device, where it
            is at hand.
        return_weights: also return the trained layers.
        workers: groups trained at a time; None is one a core, and one on CUDA. It changes the time,
            never the numbers.
        on_step: called with a number of optimiser steps that networks have made, from the thread
            that trains them.

    Returns:
        Accuracies on each split, the loss curves, and the weights on request.

    Raises:
        InvalidInput: masks, seeds, protocol, data, precision and device do not fit each other.
    """
    precision = resolve_precision(precision, device)
    _check(layer_masks, seeds, protocol, dataset)
    k, shapes = len(seeds), weight_shapes(protocol.widths)
    refuse(
        init is not None
        and [(w.shape, b.shape) for w, b in init]
        != [((k, d_out, d_in), (k, d_out)) for d_out, d_in in shapes],
        f"init does not hold the layers of {len(seeds)} networks of widths {protocol.widths}.",
    )
    data = prepared or prepare(dataset, protocol, precision, device)
    refuse(
        data.purpose != purpose_of(dataset, protocol, precision, device),
        "The prepared data belong to another data set, split, scaling, precision or device.",
    )
    at_work = (cores() if device == "cpu" else 1) if workers is None else workers
    groups = _groups(seeds, group_size(protocol, device), whole("workers", at_work, 1))
    stop = threading.Event()

    def one(members: list[int]) -> list[_Trained]:
        torch.set_num_threads(THREADS)  # of this thread's matrix products
        # Adam's means of a dead unit fade to numbers below 1e-38, with which a processor is up to
        # 25 times slower; as zeros they leave the bits of all weights as they are.
        torch.set_flush_denormal(True)
        parts = [
            (
                layer_masks[k],
                initial_layers(seeds[k], protocol) if init is None else _network(init, k),
                seeds[k],
            )
            for k in members
        ]
        networks = _networks(parts, protocol, data, precision, device)
        return _train_group(networks, protocol, data, stop, on_step, return_weights)

    with _fixed_arithmetic(precision, device), ThreadPoolExecutor(at_work) as pool:
        try:
            tasks = [pool.submit(one, members) for members in groups]
            done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
        finally:  # after an error or an interruption, the other groups end at their next look
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        for task in done:
            task.result()  # raises the error, if there was one
    network = {
        k: result
        for members, task in zip(groups, tasks, strict=True)
        for k, result in zip(members, task.result(), strict=True)
    }
    return _collect([network[k] for k in range(len(seeds))], protocol, return_weights)


def group_size(protocol: Protocol, device: str = "cpu") -> int:
    """Networks that one thread trains side by side at most, on ``cpu`` or ``cuda``.

    On a CPU, networks whose matrices do not fill whole vectors of the processor train alone: in the
    stacks of bfloat16 they would begin in the middle of one, and libraries may then round them in
    another way.
    """
    kind = device.split(":")[0]
    if kind == "cpu" and any(
        size % 16 for size in (*protocol.widths[:-1], protocol.batch_size or 0)
    ):
        return 1
    return max(1, min(GROUP[kind], GROUP_ROWS[kind] // (protocol.batch_size or FULL_BATCH)))


def _groups(seeds: Sequence[int], size: int, workers: int) -> list[list[int]]:
    """Cut the networks into groups of much the same size, a whole number a worker, equal seeds side
    by side (they share their batches).
    """
    number = min(len(seeds), -(-len(seeds) // (size * workers)) * workers)
    return [part.tolist() for part in np.array_split(np.argsort(seeds, kind="stable"), number)]


def _is_compiled(precision: str, device: str) -> bool:
    return device == "cpu" and precision in ("float32", "float64")


def _networks(
    members: list[tuple[LayerMasks, Layers, int]],
    protocol: Protocol,
    data: Prepared,
    precision: str,
    device: str,
) -> Networks:
    """A group's networks, each with its masks, initial layers and seed."""
    masks, starts, seeds = map(list, zip(*members, strict=True))
    runs, orders = [slice(0, len(seeds))], []
    if protocol.batch_size is not None:
        runs = [
            slice(seeds.index(seed), seeds.index(seed) + seeds.count(seed))
            for seed in dict.fromkeys(seeds)
        ]
        orders = [batches(seeds[run.start], len(data.train), protocol) for run in runs]
    group = Group(masks, starts, protocol, orders, runs)
    if isinstance(data.train, TensorImages):
        return TensorNetworks(group, data.train, precision, device)
    from bogp.training.compiled_networks import CompiledNetworks

    return CompiledNetworks(group, data.train)


class _Stopped(BaseException):
    """Ends a group because another one failed, or the caller was interrupted."""


@dataclass
class _Trained:
    """One network after training: its layers (on request), (train, validation, test) accuracy, loss
    curve, steps behind the layers, and looks.
    """

    layers: Layers
    accuracy: tuple[float, float, float]
    loss: NDArray[np.float64]
    steps: int
    looks: NDArray[np.float64]


def _train_group(
    networks: Networks,
    protocol: Protocol,
    data: Prepared,
    stop: threading.Event,
    on_step: Callable[[int], object] | None,
    keep_layers: bool,
) -> list[_Trained]:
    """The training loop of a group: steps, looks at validation accuracy, and accuracy at the
    end.
    """
    stopping, losses = _EarlyStopping(networks, protocol), []
    for first, last in _chunks(protocol):
        if stop.is_set():
            raise _Stopped
        losses.append(networks.run(first, last))
        if on_step:
            on_step((last - first) * stopping.active)
        if protocol.check_every and last % protocol.check_every == 0:
            stopping.look(last, networks.accuracy(data.validation))
            if not stopping.active:
                break
    stopping.restore()
    parts = [networks.accuracy(data.train, data.sample), networks.accuracy(data.validation)]
    parts.append(parts[1] if data.test is data.validation else networks.accuracy(data.test))
    loss, accuracy, layers = (
        np.concatenate(losses, axis=1),
        np.stack(parts, axis=1),
        networks.layers() if keep_layers else [],
    )
    return [
        _Trained(
            _network(layers, k),
            tuple(accuracy[k]),
            loss[k, : stopping.steps_made[k]],
            int(stopping.steps[k]),
            stopping.looks(k),
        )
        for k in range(networks.count)
    ]


def _chunks(protocol: Protocol) -> Iterator[tuple[int, int]]:
    """Cut the steps where something is to be done between two of them."""
    cuts = {
        *range(0, protocol.steps, CHUNK if protocol.batch_size else 1),
        *range(0, protocol.steps, protocol.check_every or protocol.steps),
        protocol.steps,
    }
    yield from zip(sorted(cuts), sorted(cuts)[1:], strict=False)


def _collect(networks: list[_Trained], protocol: Protocol, weights: bool) -> Training:
    """Stack K networks; a loss curve or looks that ended early (patience) are filled up with
    NaN.
    """
    accuracy = np.array([n.accuracy for n in networks])
    return Training(
        train_accuracy=accuracy[:, 0],
        validation_accuracy=accuracy[:, 1],
        test_accuracy=accuracy[:, 2],
        loss=_filled([n.loss for n in networks]),
        final_loss=np.array([n.loss[-1] for n in networks]),
        steps=np.array([n.steps for n in networks]),
        looks=_filled([n.looks for n in networks]),
        weights=[
            (
                torch.cat([n.layers[i][0] for n in networks]),
                torch.cat([n.layers[i][1] for n in networks]),
            )
            for i in range(len(protocol.widths) - 1)
        ]
        if weights
        else None,
    )


def _filled(curves: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    return table


def initial_layers(seed: int, protocol: Protocol) -> Layers:
    """The weights that ``torch.manual_seed(seed)`` and ``torch.nn.Linear``, layer after layer,
    start from; K = 1.
    """
    generator, start = torch.Generator().manual_seed(seed), torch.nn.init
    return [  # as torch.nn.Linear.reset_parameters
        (
            start.kaiming_uniform_(
                torch.empty(d_out, d_in, dtype=torch.float32), a=math.sqrt(5), generator=generator
            )[None],
            start.uniform_(
                torch.empty(d_out, dtype=torch.float32),
                -1 / math.sqrt(d_in),
                1 / math.sqrt(d_in),
                generator=generator,
            )[None],
        )
        for d_out, d_in in weight_shapes(protocol.widths)
    ]


def batches(seed: int, images: int, protocol: Protocol) -> Iterator[Tensor]:
    """Indices of each step's mini-batch, (batch_size,): a fresh permutation an epoch, an incomplete
    last batch left out.
    """
    generator = torch.Generator().manual_seed(seed)
    size = protocol.batch_size or images
    while True:
        yield from torch.randperm(images, generator=generator)[: images - images % size].split(size)


class _EarlyStopping:
    """Keeps each network's layers of its best look at validation accuracy until its patience has
    run out; without looks, nothing.

    Attributes:
        steps: (K,) steps behind the layers that ``restore`` leaves.
        steps_made: (K,) steps until training ended.
    """

    def __init__(self, networks: Networks, protocol: Protocol) -> None:
        self._networks, self._patience = networks, protocol.patience
        self._best = networks.layers() if self._patience else []
        self._best_accuracy, self._waited = (
            np.full(networks.count, -1.0),
            np.zeros(networks.count, int),
        )
        self._looks: list[NDArray[np.float64]] = []
        self.steps, self.steps_made = (
            np.full(networks.count, protocol.steps),
            np.full(networks.count, protocol.steps),
        )

    @property
    def active(self) -> int:
        """Number of networks that still train."""
        return int(self._trains.sum())

    @property
    def _trains(self) -> NDArray[np.bool_]:
        return self._waited < self._patience if self._patience else np.ones(len(self.steps), bool)

    def look(self, step: int, accuracy: NDArray[np.float64]) -> None:
        """Take note of (K,) validation accuracies after so many steps."""
        trained = self._trains
        better = trained & (accuracy > self._best_accuracy)
        self._looks.append(np.where(trained, accuracy, np.nan))
        self._waited = np.where(better, 0, self._waited + trained)
        self._best_accuracy[better], self.steps[better] = accuracy[better], step
        self.steps_made[trained & ~self._trains] = step
        for best, now in zip(self._best, self._networks.layers(), strict=True):
            for kept, parameters in zip(best, now, strict=True):
                kept[better] = parameters[better]

    def restore(self) -> None:
        """Put the best layers back."""
        if self._best:
            self._networks.set_layers(self._best)

    def looks(self, k: int) -> NDArray[np.float64]:
        """Validation accuracies that network k was seen at."""
        seen = np.array([look[k] for look in self._looks])
        return seen[~np.isnan(seen)]


def training_part(dataset: Dataset, protocol: Protocol) -> Split:
    """The images that networks are trained on under a protocol, in order."""
    return _splits(dataset, protocol)[0]


def _splits(dataset: Dataset, protocol: Protocol) -> tuple[Split, Split, Split]:
    if protocol.split == "held_out":
        return dataset.train, dataset.validation, dataset.test
    parts = dataset.train, dataset.validation
    whole = Split(
        np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts])
    )
    return whole, dataset.test, dataset.test


def purpose_of(
    dataset: Dataset, protocol: Protocol, precision: str, device: str
) -> tuple[str, str, str, str, str]:
    """What decides whether prepared data serve a training, as ``Prepared.purpose`` says it;
    precision as ``resolve_precision`` gives it.
    """
    return (
        dataset.checksum,
        protocol.split,
        protocol.input_scaling,
        precision,
        device,
    )


def _network(layers: Layers, k: int) -> Layers:
    return [(weight[k : k + 1], bias[k : k + 1]) for weight, bias in layers]


@contextmanager
def _fixed_arithmetic(precision: str, device: str) -> Iterator[None]:
    """Settings of the whole process that trainings depend on; they are left as they were.

    Compiled networks call scipy's BLAS, on one thread (Apple's Accelerate cannot be told). On CUDA
    the factors of float32 products are rounded to TF32 where that was asked for, and only there.
    """
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with _one_blas_thread() if _is_compiled(precision, device) else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)


def _one_blas_thread() -> AbstractContextManager[object]:
    import scipy.linalg  # noqa: F401  (what is not loaded yet cannot be limited)
    from threadpoolctl import threadpool_limits

    return threadpool_limits(THREADS, user_api="blas")


@cache
def libraries(precision: str = "float32", device: str = "cpu") -> str:
    """The libraries whose versions can change the last bits of such trainings: of the compiler, of
    BLAS, and of the tensors.
    """
    names = ("numba", "scipy", "torch") if _is_compiled(precision, device) else ("torch",)
    return ", ".join(f"{name} {version(name).split('+')[0]}" for name in names)


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(
    layer_masks: Sequence[LayerMasks], seeds: Sequence[int], protocol: Protocol, dataset: Dataset
) -> None:
    refuse(
        not seeds or len(layer_masks) != len(seeds),
        f"{len(layer_masks)} networks' masks and {len(seeds)} seeds were given; there "
        "must be as many, and at least one.",
    )
    for masks in layer_masks:
        check_layer_masks(masks, protocol.widths)
    refuse(
        dataset.train.images.shape[1] != protocol.widths[0],
        f"Images have {dataset.train.images.shape[1]} pixels; the protocol's input width "
        f"is {protocol.widths[0]}.",
    )
    classes = 1 + max(
        int(part.labels.max()) for part in (dataset.train, dataset.validation, dataset.test)
    )
    refuse(
        classes > protocol.widths[-1],
        f"The labels are of {classes} classes; the protocol's output width is "
        f"{protocol.widths[-1]}.",
    )
    images = len(dataset.train) + (len(dataset.validation) if protocol.split == "reported" else 0)
    refuse(
        (protocol.batch_size or 1) > images,
        f"batch_size {protocol.batch_size} is more than the {images} training images.",
    )
