"""Small networks with branches, which two cores train in seconds to a minute: random graphs,
residual, inception-like, transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from bogp.checks import choice, is_one_of, refuse, whole

# edges, the classes of the paper's surrogate
SIZES = {"10-15": (10, 15), "20-40": (20, 40), "50-100": (50, 100), "> 100": (101, 150)}


def random_parents(size: str, seed: int) -> tuple[tuple[int, ...], ...]:
    """A random directed acyclic graph with one source (vertex 0) and one sink (the last), each
    vertex on a path between them.

    Args:
        size: a class of ``SIZES``, which gives the range of the number of edges.
        seed: of the draw.

    Returns:
        The parents of each vertex, all earlier than itself.

    Raises:
        InvalidInput: no such class.
    """
    low, high = SIZES[choice("class of graphs", size, SIZES)]
    rng = np.random.default_rng(
        np.random.SeedSequence(whole("seed", seed, 0), spawn_key=(list(SIZES).index(size),))
    )
    edges = int(rng.integers(low, high + 1))
    # a little more than half of all pairs are linked
    vertices = int(np.ceil((1 + np.sqrt(1 + 8 * edges / 0.55)) / 2))
    chosen = {(int(rng.integers(0, j)), j) for j in range(1, vertices)}
    for i in range(vertices - 1):
        if not any(a == i for a, _ in chosen):
            chosen.add((i, int(rng.integers(i + 1, vertices))))
    rest = [(i, j) for j in range(vertices) for i in range(j) if (i, j) not in chosen]
    chosen |= {rest[k] for k in rng.permutation(len(rest))[: max(edges - len(chosen), 0)]}
    return tuple(tuple(sorted(i for i, b in chosen if b == j)) for j in range(vertices))


class RandomDag(nn.Module):
    """A graph of ReLU(Linear) vertices, each of which reads the sum of its parents; the first reads
    the input, a linear head the last.

    Args:
        parents: of each vertex, earlier ones (``random_parents``).
        inputs, width, outputs: numbers of features.
    """

    def __init__(
        self, parents: Sequence[Sequence[int]], inputs: int, width: int, outputs: int
    ) -> None:
        super().__init__()
        self.parents = [list(p) for p in parents]
        self.vertices = nn.ModuleList(
            nn.Linear(width if p else inputs, width) for p in self.parents
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        values: list[Tensor] = []
        for parents, vertex in zip(self.parents, self.vertices, strict=True):
            read = reduce(torch.add, [values[p] for p in parents]) if parents else x.flatten(1)
            values.append(torch.relu(vertex(read)))
        return self.head(values[-1])


class ResidualBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), with a 1 x 1 convolution on the way round where
    the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.around = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second_norm(self.second(torch.relu(self.first_norm(self.first(x)))))
        return torch.relu(self.around(x) + branch)


class Residual(nn.Module):
    """A residual network for small images (He et al. 2016) in three stages, about 0.1 M
    parameters.
    """

    def __init__(
        self,
        classes: int = 10,
        widths: Sequence[int] = (12, 24, 40),
        blocks: int = 2,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        shapes = pairwise([widths[0], *(wide for wide in widths for _ in range(blocks))])
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(width, wide, 2 if i and i % blocks == 0 else 1)
                for i, (width, wide) in enumerate(shapes)
            )
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class ResNet20(nn.Module):
    """The ResNet-20 for small images (He et al. 2016): three stages of three blocks at full, half
    and quarter resolution, about 0.27 M parameters. Shapes change by a 1 x 1 convolution.
    """

    def __init__(self, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                ResidualBlock(inputs, outputs, 1 if inputs == outputs else 2),
                ResidualBlock(outputs, outputs),
                ResidualBlock(outputs, outputs),
            )
            for inputs, outputs in ((16, 16), (16, 32), (32, 64))
        )
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


class InceptionBlock(nn.Module):
    """Four branches side by side: 1 x 1, 3 x 3, two 3 x 3, and pooling (after Szegedy et al.
    2015).
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()

        def unit(i: int, o: int, size: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(i, o, size, padding=size // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU()
            )

        self.one = unit(inputs, width, 1)
        self.three = nn.Sequential(unit(inputs, width, 1), unit(width, width, 3))
        self.five = nn.Sequential(
            unit(inputs, width, 1), unit(width, width, 3), unit(width, width, 3)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(inputs, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], dim=1)


class Inception(nn.Module):
    """Inception blocks for small images with a pooling step in between, about 0.1 M parameters."""

    def __init__(
        self, classes: int = 10, widths: Sequence[int] = (16, 28, 40), channels: int = 3
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        inputs = [16, *(4 * wide for wide in widths)]  # four branches side by side
        layers = [
            layer
            for width, wide in zip(inputs, widths, strict=False)
            for layer in (InceptionBlock(width, wide), nn.MaxPool2d(2))
        ]
        self.blocks = nn.Sequential(*layers[:-1])
        self.head = nn.Linear(inputs[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), each head of attention a branch of its own.

    Args:
        width: features of a token.
        heads: of attention, which share the features among them.
        causal: whether a token reads only itself and those before it.
    """

    def __init__(self, width: int, heads: int, causal: bool = True) -> None:
        super().__init__()
        size = width // heads
        self.causal = causal
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys, self.values = (
            nn.ModuleList(nn.Linear(width, size) for _ in range(heads)) for _ in range(3)
        )
        self.joins = nn.ModuleList(nn.Linear(size, width, bias=False) for _ in range(heads))
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        read = self.attention_norm(x)
        for query, key, value, join in zip(
            self.queries, self.keys, self.values, self.joins, strict=True
        ):
            x = x + join(
                nn.functional.scaled_dot_product_attention(
                    query(read), key(read), value(read), is_causal=self.causal
                )
            )
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """A causal language model over a small vocabulary, embedding and head tied (Vaswani et al.
    2017), about 0.1 M parameters.

    Args:
        vocabulary: number of tokens.
        length: the longest sequence.
        width, heads, blocks: its size.
    """

    def __init__(
        self, vocabulary: int, length: int = 64, width: int = 48, heads: int = 4, blocks: int = 3
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.Sequential(*[TransformerBlock(width, heads) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.position, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position[: tokens.shape[1]]
        return self.norm(self.blocks(x)) @ self.embedding.weight.T


class VisionTransformer(nn.Module):
    """A transformer over the patches of an image, whose means a linear head reads (Dosovitskiy et
    al. 2021), about 0.24 M parameters.

    Args:
        classes: number of classes.
        image, patch: their sides, pixels.
        width, heads, blocks: its size.
        channels: colours.
    """

    def __init__(
        self,
        classes: int = 10,
        image: int = 32,
        patch: int = 4,
        width: int = 48,
        heads: int = 3,
        blocks: int = 8,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(torch.zeros((image // patch) ** 2, width))
        self.blocks = nn.Sequential(*[TransformerBlock(width, heads, False) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))


KINDS = ("dag", "residual", "inception", "transformer")


def untrained(
    kind: str,
    inputs: Tensor,
    outputs: int,
    seed: int,
    *,
    size: str = "20-40",
    graph: int | None = None,
    width: int = 16,
) -> nn.Module:
    """A network of about 0.1 million parameters or less for some inputs, in evaluation mode.

    Args:
        kind: of ``KINDS``. ``dag`` reads rows of features or images, ``residual`` and ``inception``
            images, ``transformer`` tokens.
        inputs: examples, of which the shape counts.
        outputs: number of classes, or of tokens.
        seed: of the initial weights.
        size: of a random graph, a class of ``SIZES``.
        graph: seed of a random graph; ``seed`` if it is None.
        width: features of each vertex of a random graph.

    Raises:
        InvalidInput: there is no such kind, or it cannot read such inputs.
    """
    images, tokens = inputs.dim() == 4, not inputs.is_floating_point()
    reads = {"dag": not tokens, "residual": images, "inception": images, "transformer": tokens}
    refuse(
        not is_one_of(kind, KINDS) or not reads[kind],
        f"A network {kind!r} cannot read inputs of shape {tuple(inputs.shape)}; there "
        f"are: {', '.join(KINDS)}.",
    )
    shape = inputs.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "dag":
            parents = random_parents(size, seed if graph is None else graph)
            return RandomDag(parents, shape.numel(), width, outputs).eval()
        if kind == "transformer":
            return Transformer(outputs, shape[0]).eval()
        return (Residual if kind == "residual" else Inception)(outputs, channels=shape[0]).eval()
