"""ResNet-50, ViT-B/16 and GPT-2 (124 M parameters) in their published sizes, with random weights:
what their losses cost does not depend on the weights. They need no library beside torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bogp.structural.gates import Examples, Loss, cross_entropy, next_token


class Bottleneck(nn.Module):
    """relu(around(x) + three convolutions), a quarter of the channels between (He et al. 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()

        def unit(i: int, o: int, size: int, stride: int = 1) -> list[nn.Module]:
            conv = nn.Conv2d(i, o, size, stride, size // 2, bias=False)
            return [conv, nn.BatchNorm2d(o)]

        self.branch = nn.Sequential(
            *unit(inputs, width, 1),
            nn.ReLU(),
            *unit(width, width, 3, stride),
            nn.ReLU(),
            *unit(width, 4 * width, 1),
        )
        same = inputs == 4 * width and stride == 1
        self.around = (
            nn.Sequential() if same else nn.Sequential(*unit(inputs, 4 * width, 1, stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.around(x) + self.branch(x))


class ResNet(nn.Module):
    """A residual network of bottlenecks; the defaults are ResNet-50."""

    def __init__(
        self, blocks: Sequence[int] = (3, 4, 6, 3), width: int = 64, classes: int = 1000
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        layers, inputs = [], width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                layers.append(Bottleneck(inputs, width * 2**stage, stride))
                inputs = 4 * width * 2**stage
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class Attention(nn.Module):
    """Attention of several heads in one branch (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.read, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.read(x).chunk(3, dim=-1)
        heads = map(self._heads, (q, k, v))
        mixed = F.scaled_dot_product_attention(*heads, is_causal=self.causal)
        return self.join(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class VisionTransformer(nn.Module):
    """A transformer over patches and a class token (Dosovitskiy et al. 2021); the defaults are
    ViT-B/16, for images of 64 x 64.
    """

    def __init__(
        self,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        image: int = 64,
        patch: int = 16,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) / 50)
        self.position = nn.Parameter(torch.randn((image // patch) ** 2 + 1, width) / 50)
        self.layers = nn.Sequential(*[Layer(width, heads, False) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return self.head(self.norm(self.layers(tokens + self.position))[:, 0])


class LanguageModel(nn.Module):
    """A causal transformer whose head is its embedding (Radford et al. 2019); the defaults are
    GPT-2 of 124 M parameters.
    """

    def __init__(
        self,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        vocabulary: int = 50257,
        length: int = 1024,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(length, width) / 50)
        self.layers = nn.Sequential(*[Layer(width, heads, True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position[: tokens.shape[1]]
        return F.linear(self.norm(self.layers(x)), self.embedding.weight)


@dataclass(frozen=True, eq=False)
class Case:
    """A network and what it is measured on.

    Attributes:
        model: in evaluation mode.
        examples: random ones.
        loss: of each example.
        branches: names of the modules that give exactly what a residual branch adds.
    """

    model: nn.Module
    examples: Examples
    loss: Loss
    branches: tuple[str, ...]


NAMES = ("ResNet-50", "ViT-B/16", "GPT-2")


def case(name: str, examples: int = 32, tiny: bool = False) -> Case:
    """One of the networks.

    Args:
        name: of ``NAMES``.
        examples: how many: images of 96 x 96 (ResNet-50) or 64 x 64 pixels (ViT-B/16), or texts of
            16 tokens (GPT-2).
        tiny: whether it is small enough for a test.
    """
    torch.manual_seed(0)
    size = {"layers": 2, "width": 16, "heads": 2} if tiny else {}
    if name == "GPT-2":
        model: nn.Module = LanguageModel(**size, **({"vocabulary": 50} if tiny else {}))
        inputs = torch.randint(50 if tiny else 50257, (examples, 16))
        found = Examples((inputs,), inputs)
    else:
        images = 32 if tiny else 96 if name == "ResNet-50" else 64
        small_net = ResNet((1, 2), 8, 10) if tiny else ResNet()
        small_vit = VisionTransformer(**size, image=images)
        model = small_net if name == "ResNet-50" else small_vit
        inputs = torch.randn(examples, 3, images, images)
        found = Examples((inputs,), torch.arange(examples) % 10)
    ends = ("branch",) if name == "ResNet-50" else ("attention", "mlp")
    branches = tuple(n for n, _ in model.named_modules() if n.split(".")[-1] in ends)
    return Case(model.eval(), found, next_token if name == "GPT-2" else cross_entropy, branches)
