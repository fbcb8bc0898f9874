"""The training engine against the ways that others offer, on full MNIST, one core against one core.

Each side is warmed up and has its data in memory; what is compiled is compiled before. A time is
the median of several runs, and includes what a training is for: batches, and the accuracy on all
three parts. The peers are a plain PyTorch loop (``plain_training``), ``torch.func`` and JAX
(``peers``); the floor is what the products that cannot be left out take at the rate of a large
matrix product. ``python -m benchmarks.speed`` runs it.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from benchmarks import peers, plain_training
from benchmarks.timing import row, seconds, verdict
from bogp import datasets
from bogp.datasets import Dataset, Split
from bogp.graphs import families
from bogp.graphs.relational import LayerMasks, layer_masks
from bogp.training import compiled_networks, engine, kernels
from bogp.training.protocols import CALIBRATED, PAPER, Protocol

COUNTS = (1, 8, 64)  # networks in one call
JAX_COUNTS = (1, 4, 8, 64)
SPARSE = (0.90, 0.95, 0.97, 0.99)
ALL = replace(CALIBRATED, name="calibrated, all layers", scope="all")
RESIDUAL = Protocol(
    "residual",
    widths=(784, *[128] * 5, 10),
    learning_rate=1e-3,
    batch_size=128,
    steps=400,
    blocks="residual",
)
GREY = replace(CALIBRATED, name="grey", widths=(3072, 128, 128, 10), steps=200)


class Trainings:
    """Trains the same masks in every way."""

    def __init__(self) -> None:
        self.dataset = datasets.load("mnist")
        self._losses: dict[tuple[str, str], np.ndarray] = {}

    def masks(self, protocol: Protocol, networks: int, sparsity: float) -> list[LayerMasks]:
        """Random masks of so many networks, those of more networks beginning with them."""
        rng = np.random.default_rng(0)
        if protocol.scope == "hidden":
            drawn = [families.bernoulli(128, sparsity, rng) for _ in range(networks)]
            return [layer_masks(m, protocol.widths, protocol.masked_layers) for m in drawn]
        shapes = list(zip(protocol.widths[1:], protocol.widths, strict=False))
        return [
            tuple(
                rng.random(shape) >= sparsity if i in protocol.masked_layers else None
                for i, shape in enumerate(shapes)
            )
            for _ in range(networks)
        ]

    def ours(
        self,
        protocol: Protocol,
        networks: int,
        sparsity: float = 0.6,
        precision: str = "float32",
        seeds: int = 1,
        runs: int = 5,
        dataset: Dataset | None = None,
    ) -> float:
        """Seconds a network, one thread."""
        data = dataset or self.dataset
        prepared = engine.prepare(data, protocol, precision)
        masks, of = self.masks(protocol, networks, sparsity), [k % seeds for k in range(networks)]
        results = []

        def work(protocol: Protocol = protocol) -> None:
            results.append(
                engine.train(
                    masks,
                    of,
                    protocol,
                    data,
                    precision=precision,
                    prepared=prepared,
                    workers=1,
                )
            )

        work(replace(protocol, steps=2))
        taken = seconds(work, runs) / networks
        self._losses[protocol.id, precision] = results[-1].loss[0]
        return taken

    def plain(
        self,
        protocol: Protocol,
        sparsity: float = 0.6,
        runs: int = 3,
        dataset: Dataset | None = None,
    ) -> float:
        """Seconds a network, one after another."""
        parts = _parts(dataset or self.dataset, protocol)
        masks, results = self.masks(protocol, 1, sparsity)[0], []
        plain_training.train(masks, 0, replace(protocol, steps=2), *parts)
        taken = seconds(
            lambda: results.append(plain_training.train(masks, 0, protocol, *parts)), runs
        )
        self._losses[protocol.id, "plain"] = np.array(results[-1][0])
        return taken

    def torch_func(self, networks: int, runs: int = 3) -> float:
        """Seconds a network with ``torch.func``."""
        parts, masks = _parts(self.dataset, CALIBRATED), self.masks(CALIBRATED, networks, 0.6)
        peers.with_torch_func(masks, 0, replace(CALIBRATED, steps=2), parts)
        work = lambda: peers.with_torch_func(masks, 0, CALIBRATED, parts)  # noqa: E731
        return seconds(work, runs) / networks

    def jax(self, networks: int, runs: int = 3) -> float:
        """Seconds a network with JAX, compiled before."""
        parts, masks = _parts(self.dataset, CALIBRATED), self.masks(CALIBRATED, networks, 0.6)
        work = peers.with_jax(masks, 0, CALIBRATED, parts)
        work()
        return seconds(work, runs) / networks

    def agreement(self, protocol: Protocol, precision: str) -> dict:
        """Largest relative difference of the loss from the plain loop's over all steps of the first
        network.
        """
        ours, plain = self._losses[protocol.id, precision], self._losses[protocol.id, "plain"]
        worst = float(np.max(np.abs(ours / plain - 1)))
        line = {
            "what": f"loss against the plain loop, {protocol.name}, {precision}, {len(plain)} "
            "steps",
            "unit": "at most, relative",
            "ours": worst,
        }
        if (protocol.name, precision) == ("paper", "float32"):
            line |= {"at_least": 1e-4, "verdict": "met" if worst <= 1e-4 else "missed"}
        return line


def _parts(dataset: Dataset, protocol: Protocol) -> list[peers.Part]:
    return [
        (torch.from_numpy(part.images).float() / 255, torch.from_numpy(part.labels).long())
        for part in engine._splits(dataset, protocol)
    ]


def rows_and_rates(trainings: Trainings) -> tuple[list[dict], pd.DataFrame]:
    """The trainings' lines of the table, and trainings a second against the number of masks."""
    plain = trainings.plain(CALIBRATED)
    rates = [{"masks": n, "way": "PyTorch loop", "per_second": 1 / plain} for n in COUNTS]
    ours, func, jax = {}, {}, {}
    for n in tqdm(COUNTS, "trainings a second", leave=False):
        runs = 5 if n < 64 else 1
        ours[n], func[n] = trainings.ours(CALIBRATED, n, runs=runs), trainings.torch_func(n, runs)
        rates.append({"masks": n, "way": "bogp", "per_second": 1 / ours[n]})
        rates.append({"masks": n, "way": "torch.func", "per_second": 1 / func[n]})
    for n in JAX_COUNTS if peers.has_jax() else ():
        jax[n] = trainings.jax(n, 3 if n < 64 else 1)
        rates.append({"masks": n, "way": "JAX", "per_second": 1 / jax[n]})
    unit, s6 = "s a training", "hidden layer at s = .60"
    rows = [
        row(f"8 masks, {s6}, against the plain loop", unit, ours[8], plain, 4.2, 4.6),
        row("the same, against torch.func at its best", unit, ours[8], min(func.values())),
        row("the same, against JAX at its best", unit, ours[8], min(jax.values()), 2.1, 2.3)
        if jax
        else {
            "what": "the same, against JAX at its best",
            "unit": unit,
            "ours": ours[8],
            "verdict": "not measured: JAX is not installed",
        },
        row(f"one mask, {s6}, against the plain loop", unit, ours[1], plain),
        row(
            f"64 masks with a seed each, {s6}, against the plain loop",
            unit,
            trainings.ours(CALIBRATED, 64, seeds=64, runs=1),
            plain,
        ),
    ]
    for s in tqdm(SPARSE, "both layers sparse", leave=False):
        rows.append(
            row(
                f"8 masks, both layers at s = {s:.2f}, against the plain loop",
                unit,
                trainings.ours(ALL, 8, s),
                trainings.plain(ALL, s, runs=1),
            )
        )
    rows.append(
        row(
            "full batch, 2 masks, against the plain loop",
            unit,
            trainings.ours(PAPER, 2, runs=1),
            trainings.plain(PAPER, runs=1),
            1.8,
            2.2,
        )
    )
    rows += other_protocols(trainings)
    rows += [trainings.agreement(protocol, "float32") for protocol in (PAPER, CALIBRATED)]
    return rows, pd.DataFrame(rates)


def other_protocols(trainings: Trainings) -> list[dict]:
    """Residual blocks, and images without a dark background."""
    rows = []
    for first in ("trained", "frozen"):
        protocol = replace(RESIDUAL, first_layer=first)
        rows.append(
            row(
                f"8 masks, 4 residual blocks at s = .90, first layer {first}, against the plain "
                "loop",
                "s a training",
                trainings.ours(protocol, 8, 0.9, runs=3),
                trainings.plain(protocol, 0.9, runs=1),
            )
        )
    grey = grey_images()
    for protocol, s in ((GREY, 0.6), (replace(GREY, scope="all"), 0.95)):
        where = "hidden layer" if protocol.scope == "hidden" else "both layers"
        rows.append(
            row(
                f"8 masks, 3,072 grey pixels, {where} at s = {s:.2f}, against the plain loop",
                "s a training",
                trainings.ours(protocol, 8, s, runs=3, dataset=grey),
                trainings.plain(protocol, s, runs=1, dataset=grey),
            )
        )
    return rows


def grey_images(count: int = 12_000, pixels: int = 3072) -> Dataset:
    """Noise of the size of CIFAR-10's images: products take their time whatever these show."""
    rng = np.random.default_rng(0)

    def split(size: int) -> Split:
        images = rng.integers(0, 256, (size, pixels), dtype=np.uint8)
        return Split(images, rng.integers(0, 10, size, dtype=np.uint8))

    return Dataset("grey", split(count * 2 // 3), split(count // 6), split(count // 6))


def time_shares(trainings: Trainings) -> pd.DataFrame:
    """Where the time of a training of one network out of a group goes, ms, part by part, and the
    floors.
    """
    parts = []
    for protocol, sparsity in ((CALIBRATED, 0.6), (ALL, 0.95)):
        total = trainings.ours(protocol, engine.group_size(protocol), sparsity)
        of_a_step, accuracy = _parts_of_a_step(trainings, protocol, sparsity)
        spent = {name: each * protocol.steps for name, each in of_a_step.items()}
        spent["accuracy"] = accuracy
        spent["rest: memory, calls"] = total - sum(spent.values())
        spent["total"] = total
        if protocol is CALIBRATED:
            spent["floor: products with lit pixels"] = floor(trainings, protocol)
        parts += [
            {"protocol": protocol.name, "part": name, "ms": 1e3 * s} for name, s in spent.items()
        ]
    return pd.DataFrame(parts)


def floor(trainings: Trainings, protocol: Protocol) -> float:
    """Seconds that the products of a training take at the rate of a large matrix product, if those
    with black pixels are left out and the other layers are dense.
    """
    lit = np.count_nonzero(trainings.dataset.train.images) / trainings.dataset.train.images.size
    first = 4.0 * protocol.widths[0] * protocol.widths[1] * protocol.steps * 128
    flops = protocol.training_flops(len(trainings.dataset.train))
    return (flops - (1 - lit) * first) / product_rate()


def _parts_of_a_step(
    trainings: Trainings, protocol: Protocol, sparsity: float
) -> tuple[dict[str, float], float]:
    """Seconds of each part of a step of one network of eight, each part on its own; and of all its
    accuracies at the end.
    """
    prepared = engine.prepare(trainings.dataset, protocol)
    masks = trainings.masks(protocol, 1, sparsity)[0]
    networks = engine._networks(
        [(masks, engine.initial_layers(0, protocol), 0)], protocol, prepared, "float32", "cpu"
    )
    assert isinstance(networks, compiled_networks.CompiledNetworks)
    networks.run(0, 8)
    (layers,), images = networks._networks, prepared.train
    buffers, rng = networks._buffers[128], np.random.default_rng(0)
    rows = [rng.permutation(len(images))[:128] for _ in range(compiled_networks.STEPS_IN_A_ROW)]
    tiles = networks._tiles(images, rows, 128)
    step = np.array(compiled_networks._adam_step(1e-9, 8), np.float32)

    def weights_of(i: int) -> None:
        x = buffers.outputs[i - 1] if i else tiles.dense[0] if len(tiles.dense) else buffers.turned
        compiled_networks._move_weights(
            images.matrix, tiles, 0, layers[i], x, buffers.inner[i], buffers, step, True, True
        )

    def loss() -> None:
        last = len(layers) - 1
        kernels.loss_and_delta(
            buffers.outputs[last],
            tiles.labels[0],
            128,
            np.float32(1 / 128),
            False,
            buffers.deltas[last],
            buffers.column[0],
            buffers.column[1],
        )

    def all_gradients() -> None:
        for i in range(1, len(layers)):
            weights_of(i)
            compiled_networks._through_weights(layers[i], buffers.inner[i], buffers.deltas[i - 1])

    forward = seconds(
        lambda: compiled_networks._forward(images.matrix, tiles, 0, layers, buffers), 101
    )
    of_batches = seconds(lambda: networks._tiles(images, rows, 128), 21)
    parts = (prepared.train, prepared.sample), (prepared.validation, None), (prepared.test, None)
    accuracy = seconds(lambda: [networks.accuracy(part, n) for part, n in parts], 3)
    return {
        "all layers, forward": forward,
        "first layer, gradient and optimiser": seconds(lambda: weights_of(0), 101),
        "other layers, gradients and optimiser": seconds(all_gradients, 101),
        "loss": seconds(loss, 101),
        "batches": of_batches / len(rows) / engine.group_size(protocol),
    }, accuracy


def switch_points() -> pd.DataFrame:
    """Milliseconds of a step of one network with a layer multiplied in each of two ways, on both
    sides of where the engine switches between them (``compiled_networks.SPARSE``, ``kind_of``).
    """
    rows, rng = [], np.random.default_rng(0)
    kept, lit, dense = compiled_networks.KEPT, compiled_networks.LIT, compiled_networks.DENSE
    names = {kept: "kept weights", lit: "lit pixels", dense: "BLAS"}

    def compare(what: str, share: float, masks: LayerMasks, images: Dataset, at: int, *kinds: int):
        times = {names[kind]: 1e3 * _step_as(masks, images, at, kind) for kind in kinds}
        chosen = compiled_networks.kind_of(
            np.ones((128, 128), bool) if masks[at] is None else masks[at],
            at == 0,
            engine.prepare(images, CALIBRATED).train,
        )
        for way, ms in times.items():
            rows.append(
                {"layer": what, "share": share, "way": way, "ms": ms}
                | {"chosen": way == names[chosen]}
            )

    mnist = datasets.load("mnist-5k")
    for q in (0.4, 0.5, 0.6, 0.7, 0.8):
        masks = (None, rng.random((128, 128)) < q, None)
        compare("hidden, weights kept", q, masks, mnist, 1, kept, dense)
    for q in (0.1, 0.15, 0.2, 0.25):
        masks = (rng.random((128, 784)) < q, rng.random((128, 128)) < q, None)
        compare("first, weights kept", q, masks, mnist, 0, kept, lit)
    for q in (0.4, 0.5, 0.6, 0.7):
        lit_images = _scattered(q)
        compare("first, pixels lit", q, (None, None, None), lit_images, 0, lit, dense)
    return pd.DataFrame(rows)


def _scattered(share: float, count: int = 1500, pixels: int = 784) -> Dataset:
    """Images of which a share of the pixels is lit, at random."""
    rng = np.random.default_rng(0)

    def split() -> Split:
        images = rng.integers(1, 256, (count, pixels)) * (rng.random((count, pixels)) < share)
        return Split(images.astype(np.uint8), rng.integers(0, 10, count, dtype=np.uint8))

    return Dataset("scattered", split(), split(), split())


def _step_as(masks: LayerMasks, dataset: Dataset, at: int, kind: int) -> float:
    """Seconds of a step with layer ``at`` of that kind, batches shared by eight networks."""
    images = compiled_networks.CompiledImages(
        dataset.train, "unit", np.dtype(np.float32), kind != compiled_networks.DENSE or at > 0
    )
    usual = compiled_networks.kind_of
    calls = iter(range(len(masks)))
    try:
        compiled_networks.kind_of = lambda *given: kind if next(calls) == at else usual(*given)
        group = compiled_networks.Group(
            [masks], [engine.initial_layers(0, CALIBRATED)], CALIBRATED, [], [slice(0, 1)]
        )
        networks = compiled_networks.CompiledNetworks(group, images)
    finally:
        compiled_networks.kind_of = usual
    rng = np.random.default_rng(0)
    rows = [rng.permutation(len(images))[:128] for _ in range(compiled_networks.STEPS_IN_A_ROW)]
    tiles = networks._tiles(images, rows, 128)
    steps = np.array([compiled_networks._adam_step(1e-9, 8)] * len(rows), np.float32)

    def advance() -> None:
        compiled_networks._advance(
            images.matrix,
            tiles,
            networks._networks[0],
            networks._buffers[128],
            steps,
            0,
            1,
            1 / 128,
            False,
            np.zeros(len(rows)),
        )

    advance()
    batches = seconds(lambda: networks._tiles(images, rows, 128), 21) / 8
    return (seconds(advance, 41) + batches) / len(rows)


def product_rate() -> float:
    """Floating-point operations a second of one core in a large float32 matrix product."""
    a, b = (
        np.random.default_rng(k).standard_normal((2048, 2048)).astype(np.float32) for k in range(2)
    )
    a @ b
    return 2 * 2048**3 / seconds(lambda: a @ b, 5)


def floor_row(shares: pd.DataFrame) -> dict:
    """How far a training is from its floor, as a line of the table."""
    ms = shares[shares.protocol == CALIBRATED.name].set_index("part").ms
    times = float(ms["total"] / ms["floor: products with lit pixels"])
    return {
        "what": "times the floor: products with lit pixels and dense other layers",
        "unit": "times",
        "ours": times,
        "at_least": 2.0,
        "aim": 1.8,
        "verdict": verdict(-times, -2.0, -1.8),
    }


def accuracy_row(trainings: Trainings, networks: int = 64) -> dict:
    """Difference of the mean test accuracy of 64 networks from the plain loop's."""
    masks, parts = trainings.masks(CALIBRATED, networks, 0.6), _parts(trainings.dataset, CALIBRATED)
    ours = engine.train(masks, range(networks), CALIBRATED, trainings.dataset, workers=1)
    theirs = [
        plain_training.train(mask, seed, CALIBRATED, *parts)[1][2]
        for seed, mask in enumerate(tqdm(masks, "plain loop", leave=False))
    ]
    difference = float(np.mean(ours.test_accuracy - theirs))
    return {
        "what": f"mean test accuracy of {networks} networks, less that of the plain loop",
        "unit": "of images",
        "ours": difference,
        "at_least": 0.0005,
        "verdict": "met" if abs(difference) <= 0.0005 else "missed",
    }
