"""What the small networks learn: data in four disjoint parts, a loss, and the training.

- ``mixture``: 4,000 of a mixture of Gaussians with 5 classes, synthetic; network's input: (N, 20)
- ``patterns``: 4,000 synthetic images of 10 classes: shifted waves in noise; network's input: (N,
  3, 32, 32)
- ``sentences``: 2,400 pieces of 32 characters of synthetic sentences; network's input: (N, 32)
  tokens
- ``mnist-5k``, ``mnist``: digits (``bogp.datasets``); network's input: (N, 1, 28, 28)
- ``cifar10-12k``, ``cifar10``: photographs (``bogp.zoo.cifar_wikitext``); network's input: (N, 3,
  32, 32)
- ``wikitext-2``: pieces of 64 characters, or of another length; trained on the validation articles;
  network's input: (N, 64) tokens

*Training* fits weights, *calibration* gives derivatives and mean activations, *validation* chooses,
*test* reports; no example is in two of them. Texts are read character by character, so that a
network of 0.1 M parameters can learn them; perplexities are by character and not comparable with
the literature's.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bogp import datasets, parallel
from bogp.checks import choice, number, refuse, whole
from bogp.errors import DatasetError, NotFinite
from bogp.structural.gates import Examples, Loss, accuracy, cross_entropy
from bogp.zoo import cifar_wikitext

NAMES = (
    "mixture",
    "patterns",
    "sentences",
    "mnist-5k",
    "mnist",
    "cifar10-12k",
    "cifar10",
    "wikitext-2",
)


# of a piece of text: each part of wikitext-2 holds more characters than that
MOST_LENGTH = 10_000


@dataclass(frozen=True, eq=False)
class Task:
    """A data set with a loss.

    Attributes:
        name: of the data set.
        train, calibration, validation, test: disjoint parts.
        outputs: number of classes, or of tokens.
        loss: of each example, to be minimised.
        accuracy: of each example, to be reported.
    """

    name: str
    train: Examples
    calibration: Examples
    validation: Examples
    test: Examples
    outputs: int
    loss: Loss = cross_entropy
    accuracy: Loss = accuracy


def load(name: str, seed: int = 0, *, length: int = 64) -> Task:
    """A task by name.

    Args:
        name: one of ``NAMES``.
        seed: of the synthetic ones and of the split between training and calibration.
        length: of the pieces of ``wikitext-2``, characters; other tasks do not read it.

    Raises:
        DatasetError: an unknown name, or a data set that is missing or damaged.
        InvalidInput: a seed or a length that is none.
    """
    choice("task", name, NAMES, DatasetError)
    whole("seed", seed, 0), whole("length", length, 1, MOST_LENGTH)
    if name == "mixture":
        from sklearn.datasets import make_classification

        x, y = make_classification(
            4_000, 20, n_informative=8, n_redundant=4, n_classes=5, class_sep=1.5, random_state=seed
        )
        return _split(name, ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), y, seed)
    if name == "patterns":
        return _split(name, *_patterns(4_000, seed), seed)
    if name == "sentences":
        pieces, alphabet = _pieces([_sentences(76_800, seed)], 32)
        parts = pieces.split((1_500, 200, 200, len(pieces) - 1_900))
        return _of_pieces(name, parts, len(alphabet) + 1)
    if name in ("mnist-5k", "mnist"):
        digits = datasets.load(name)
        held = 400 if name == "mnist-5k" else 2_000
        rows = datasets.stratified(digits.train.labels, (len(digits.train) - held, held), seed)
        own = [datasets.Split(digits.train.images[i], digits.train.labels[i]) for i in rows]
        examples = [
            _images(part.images.reshape(-1, 28, 28, 1), part.labels, (0.1307,), (0.3081,))
            for part in (*own, digits.validation, digits.test)
        ]
        return _task(name, examples, 10)
    if name in ("cifar10-12k", "cifar10"):
        photos = cifar_wikitext.cifar10(name)
        x, y, many = photos.train_images, photos.train_labels, len(photos.train_labels)
        sizes = (many - many // 10 - many // 20, many // 20, many // 10)
        parts = [(x[rows], y[rows]) for rows in datasets.stratified(y, sizes, seed)]
        parts.append((photos.test_images, photos.test_labels))
        mean, std = (0.491, 0.482, 0.447), (0.247, 0.244, 0.262)
        return _task(name, [_images(i, c, mean, std) for i, c in parts], 10)
    return _wikitext(seed, length)


def classes(task: Task, kept: Sequence[int]) -> Task:
    """The task of telling those classes apart, labelled from 0 in the order given; for transfer
    from some classes to others.

    Raises:
        InvalidInput: fewer than two classes, one twice, or one that the task does not have; a task
            whose targets are not classes.
    """
    wanted = [whole("A class", c) for c in kept]
    refuse(
        task.train.targets.dim() != 1,
        f"{task.name} has no classes to choose from; transfer needs a task of classification.",
    )
    refuse(
        len(wanted) < 2
        or len(set(wanted)) != len(wanted)
        or not set(wanted) <= set(range(task.outputs)),
        f"classes are {wanted}; name two or more different ones from 0 to {task.outputs - 1}.",
    )
    new = torch.full((task.outputs,), -1)
    new[torch.tensor(wanted)] = torch.arange(len(wanted))

    def restricted(part: Examples) -> Examples:
        rows = torch.nonzero(new[part.targets] >= 0).ravel()
        return Examples(tuple(i[rows] for i in part.inputs), new[part.targets[rows]])

    parts = (task.train, task.calibration, task.validation, task.test)
    return _task(task.name, map(restricted, parts), len(wanted))


# of a learning rate and of weight decay: beyond is a slip of the hand, and far beyond torch cannot
# compute with it
MOST_RATE = 1e3


def train(
    model: nn.Module,
    examples: Examples,
    loss: Loss,
    *,
    epochs: int,
    seed: int,
    rate: float = 3e-3,
    decay: float = 1e-2,
    batch: int = 64,
) -> nn.Module:
    """Train a network in place with AdamW and a one-cycle schedule.

    Args:
        model: any module; frozen parameters stay as they are.
        examples: to learn from.
        loss: of each example.
        epochs: passes over them; 0 leaves the model as it is.
        seed: of the order of the examples and of layers that draw at random.
        rate: the highest learning rate.
        decay: of the weights.
        batch: examples a step.

    Returns:
        The model, in evaluation mode.

    Raises:
        InvalidInput: a value out of range, or nothing to train.
        NotFinite: the loss became NaN or infinite.
    """
    whole("epochs", epochs, 0), whole("seed", seed, 0)
    batch = min(whole("batch", batch, 2), len(examples))
    refuse(
        not (0 < number("rate", rate) <= MOST_RATE and 0 <= number("decay", decay) <= MOST_RATE),
        f"rate is {rate} and decay {decay}; the rate is positive, the decay not negative, "
        f"and both are at most {MOST_RATE:g}.",
    )
    weights = [p for p in model.parameters() if p.requires_grad]
    refuse(
        not weights,
        "The model has no parameters to train.",
    )
    steps = epochs * max(1, len(examples) // batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.train()
        if steps:
            optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser,
                rate,
                total_steps=steps,
                # torch divides by zero where the rise is one step long
                pct_start=0.2 if steps != 5 else 0.3,
            )
            with parallel.progress_bar(steps, "step", label="training") as bar:
                for epoch in range(epochs):
                    value = math.nan
                    order = torch.randperm(len(examples))
                    # the last few, too few for a batch, wait for another epoch
                    for rows in order[: max(1, len(examples) // batch) * batch].split(batch):
                        part = examples.part(rows)
                        mean = loss(model(*part.inputs), part.targets).mean()
                        optimiser.zero_grad(set_to_none=True)
                        mean.backward()
                        nn.utils.clip_grad_norm_(weights, 1.0)
                        optimiser.step()
                        schedule.step()
                        bar.update()
                        value = float(mean.detach())
                    refuse(
                        not math.isfinite(value),
                        f"The loss became {value} in epoch {epoch + 1} of training; lower "
                        f"the learning rate (now {rate}).",
                        NotFinite,
                    )
    return model.eval()


def measure(
    model: nn.Module, examples: Examples, measures: Sequence[Loss], batch: int = 1024
) -> NDArray[np.float64]:
    """(K,) the mean of each measure over the examples, the model in evaluation mode."""
    sums = np.zeros(len(measures))
    model.eval()
    with torch.inference_mode():
        for part in examples.batches(batch):
            outputs = model(*part.inputs)
            sums += [float(m(outputs, part.targets).double().sum()) for m in measures]
    return sums / len(examples)


def _images(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    mean: Sequence[float],
    std: Sequence[float],
) -> Examples:
    x = (torch.as_tensor(images).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    return Examples((x.permute(0, 3, 1, 2).contiguous(),), torch.as_tensor(labels).long())


def _split(name: str, x: NDArray[np.float32], y: NDArray[np.integer], seed: int) -> Task:
    """4,000 examples in parts, the classes in each as in all of them."""
    parts = datasets.stratified(y.astype(np.uint8), (2_400, 400, 400, 800), seed)
    every = Examples((torch.as_tensor(x),), torch.as_tensor(y).long())
    return _task(name, [every.part(rows) for rows in parts], int(y.max()) + 1)


def _patterns(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Each class a colour wave of its own direction and length, shifted at random, in noise."""
    rng = np.random.default_rng(whole("seed", seed, 0))
    waves, colours = rng.uniform(-0.9, 0.9, (10, 2, 2)), rng.normal(size=(10, 2, 3))
    y = np.arange(count) % 10
    grid = np.stack(np.meshgrid(np.arange(32), np.arange(32), indexing="ij"))
    phase = np.einsum("nkd,dhw->nkhw", waves[y], grid) + rng.uniform(0, 2 * np.pi, (count, 2, 1, 1))
    x = (
        np.einsum("nkhw,nkc->nchw", np.sin(phase), colours[y])
        + rng.normal(size=(count, 3, 32, 32)) * 4
    )
    return (x / x.std()).astype(np.float32), y


def _sentences(length: int, seed: int) -> str:
    rng = np.random.default_rng(whole("seed", seed, 0))
    words = [
        ["the", "a", "one", "my"],
        ["old", "red", "tall", "slow"],
        ["fox", "ship", "tree", "king"],
        ["sees", "finds", "holds", "keeps"],
    ]
    text = ""
    while len(text) < length:
        text += " ".join(words[k][rng.integers(4)] for k in (0, 1, 2, 3, 0, 2)) + ". "
    return text[:length]


def _wikitext(seed: int, length: int) -> Task:
    """Three of four validation articles to train on, the rest to calibrate and validate with; the
    test articles to test.
    """
    texts = {
        part: text.replace("<unk>", "\x00") for part, text in cifar_wikitext.wikitext2().items()
    }
    articles = re.split(r"(?m)^(?= = [^=].*[^=] = $)", texts["valid"])[1:]
    order = np.random.default_rng(whole("seed", seed, 0)).permutation(len(articles))
    bounds = [0, round(0.75 * len(order)), round(0.85 * len(order)), len(order)]
    groups = [
        [articles[i] for i in sorted(order[a:b])]
        for a, b in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    alphabet = [c for c, _ in Counter("".join(groups[0])).most_common(95)]
    parts = [_pieces(group, length, alphabet)[0] for group in (*groups, [texts["test"]])]
    return _of_pieces("wikitext-2", parts, len(alphabet) + 1)


def _pieces(
    texts: Sequence[str], length: int, alphabet: Sequence[str] | None = None
) -> tuple[Tensor, list[str]]:
    """(N, length + 1) token numbers: the first ``length`` are read, the last ``length`` predicted.
    0 stands for a character outside of the alphabet.
    """
    known = list(alphabet or sorted(set("".join(texts))))
    numbers = {c: i + 1 for i, c in enumerate(known)}
    tokens = torch.tensor([numbers.get(c, 0) for c in "".join(texts)])
    return tokens.unfold(0, length + 1, length), known


def _of_pieces(name: str, pieces: Sequence[Tensor], outputs: int) -> Task:
    parts = (Examples((p[:, :-1].contiguous(),), p[:, 1:].contiguous()) for p in pieces)
    return _task(name, parts, outputs)


def _task(name: str, parts: Iterable[Examples], outputs: int) -> Task:
    training, calibration, validation, test = parts
    return Task(name, training, calibration, validation, test, outputs)
