"""Small networks of every shape that capture must take, and a few that it must refuse."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bogp.structural.graph import ComputationGraph
from bogp.structural.tracing import capture
from bogp.zoo import networks


class Linears(nn.Module):
    """A base of named linear layers of one width."""

    def __init__(self, *names: str, width: int = 6) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(width, width))


class MultiBranch(Linears):
    def __init__(self):
        super().__init__("stem", "a", "b", "c", "head")

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(self.a(x) + torch.tanh(self.b(x)) - self.c(x))


class Concatenating(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = (
            nn.Linear(6, 3),
            nn.Linear(6, 4),
            nn.Linear(6, 5),
            nn.Linear(12, 2),
        )

    def forward(self, x):
        return self.head(torch.cat((self.a(x), self.b(x), torch.sin(self.c(x))), dim=1))


class Stacking(Linears):
    def __init__(self):
        super().__init__("a", "b", "head")

    def forward(self, x):
        return self.head(torch.stack([self.a(x), self.b(x)], dim=1).amax(dim=1))


class Chunks(Linears):
    def __init__(self):
        super().__init__("stem", "head")
        self.a, self.b, self.c = nn.Linear(2, 6), nn.Linear(2, 6), nn.Linear(2, 6)

    def forward(self, x):
        first, second, third = self.stem(x).chunk(3, dim=1)
        return self.head(self.a(first) + self.b(second) + self.c(third))


class Splits(Linears):
    def __init__(self):
        super().__init__("stem")
        self.a, self.b, self.head = nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x):
        parts = torch.split(self.stem(x), [4, 2], dim=1)
        return self.head(self.a(parts[0]) + self.b(parts[1]))


class Unbinds(Linears):
    def __init__(self):
        super().__init__("stem")
        self.a, self.b, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        first, second = self.stem(x).view(-1, 2, 3).unbind(1)
        return self.head(self.a(first) + self.b(second))


class Slices(Linears):
    def __init__(self):
        super().__init__("stem")
        self.a, self.b, self.head = nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.a(x[:, :4]) + self.b(x[:, 4:]))


class TwoInputs(Linears):
    def __init__(self):
        super().__init__("a", "b", "c", "head")

    def forward(self, x, y):
        return self.head(self.a(x) + self.b(y) + self.c(x))


class UnusedInput(Linears):
    def __init__(self):
        super().__init__("a", "b")

    def forward(self, x, y):
        return self.a(x) + self.b(x)


class TupleOutput(Linears):
    def __init__(self):
        super().__init__("stem", "a", "b", "c")

    def forward(self, x):
        x = self.stem(x)
        return self.a(x) + self.b(x), (self.c(x) + x, 3)


class DictOutput(Linears):
    def __init__(self):
        super().__init__("stem", "a", "b", "c")

    def forward(self, x):
        x = self.stem(x)
        return {"one": self.a(x) + self.b(x), "two": self.c(x) + x}


class SharedParameters(Linears):
    """A module used twice, a weight used as a function's, and one nobody uses."""

    def __init__(self):
        super().__init__("twice", "tied", "unused")
        self.head = nn.Linear(6, 6)
        self.head.weight = self.tied.weight
        self.nobody = nn.Parameter(torch.ones(3))

    def forward(self, x):
        x = x + torch.relu(self.twice(x))
        x = x + torch.tanh(self.twice(x))
        return self.head(self.tied(x) + x)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(6, 6) / 3), nn.Parameter(torch.randn(6, 6) / 3)
        self.register_buffer("shift", torch.randn(6))
        self.gain = nn.Parameter(torch.ones(6))

    def forward(self, x):
        a = F.linear(x, self.w, self.shift)
        b = F.softplus(x @ self.v)
        y = torch.add(a, b, alpha=0.5) + self.shift
        return F.layer_norm(torch.sub(y, x, alpha=2), (6,), self.gain)


class Constants(nn.Module):
    """Sums with numbers and parameters in them, from either side."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.bias = nn.Linear(6, 6), nn.Linear(6, 1), nn.Parameter(torch.randn(6))

    def forward(self, x):
        y = 1.5 - (self.a(x) - self.b(x)) + self.bias
        return torch.tanh(y.mul(2.0)) + x.sum(dim=1, keepdim=True)


class Frozen(MultiBranch):
    def __init__(self):
        super().__init__()
        for parameter in self.a.parameters():
            parameter.requires_grad_(False)


class AllFrozen(MultiBranch):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm, self.mlp = nn.LayerNorm(6), nn.Linear(6, 6)

    def forward(self, x):
        read = self.norm(x)
        x = x + self.attention(read, read, read, need_weights=False)[0]
        return (x + torch.relu(self.mlp(x))).mean(dim=1)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.act(self.a(x))
        z = self.b(x)
        z += y
        z.add_(x)
        F.relu_(z)
        return self.head(z) + y


class InPlaceUnused(Linears):
    """The result of the operation in place is not used, its effect is."""

    def __init__(self):
        super().__init__("a", "b")

    def forward(self, x):
        y, z = self.a(x), self.b(x)
        y.mul_(2)
        y.add_(z)
        return y + torch.relu(z)


class AssignsItems(Linears):
    def __init__(self):
        super().__init__("a", "b")

    def forward(self, x):
        y, z = self.a(x), self.b(x)
        y[:, 0] = 0.5
        return y + z


class KeywordArguments(Linears):
    def __init__(self):
        super().__init__("a", "b", "head")

    def forward(self, x):
        y = torch.add(input=self.a(x), other=self.b(x), alpha=2.0)
        z = torch.cat(tensors=[y, x], dim=-1)
        return self.head(input=z[..., 3:9]) + F.linear(weight=self.a.weight, input=y)


class Steps(Linears):
    """A loop as long as the sequence is: only torch.export follows it."""

    def __init__(self):
        super().__init__("a", "b")

    def forward(self, x):
        state = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            state = torch.tanh(self.a(state) + self.b(x[:, step]))
        return state


class Asserts(Linears):
    def __init__(self):
        super().__init__("a", "b")

    def forward(self, x):
        if x.shape[1] != 6:
            raise ValueError("six features")
        assert x.dim() == 2
        return self.a(x) + self.b(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.around, self.head = (
            nn.LSTM(6, 6, batch_first=True),
            nn.Linear(6, 6),
            nn.Linear(6, 2),
        )

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.head((y + self.around(x))[:, -1])


class BothSides(Linears):
    """One value on both sides of a sum, and of a product."""

    def __init__(self):
        super().__init__("a", "b")

    def forward(self, x):
        y = self.a(x)
        return (y + y) + self.b(x) * y


class Gated(Linears):
    """A product of two branches beside a sum (squeeze and excitation)."""

    def __init__(self):
        super().__init__("stem", "gate", "head")

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + x * torch.sigmoid(self.gate(x.mean(dim=1, keepdim=True).expand_as(x))))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places, self.head = (
            nn.Embedding(11, 6),
            nn.Embedding(5, 6),
            nn.Linear(6, 11),
        )

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens) + self.places(places)
        return self.head(x + torch.relu(x.cumsum(dim=1)))


class Widening(nn.Module):
    """A sum whose arguments have different shapes."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 1), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(torch.relu(self.a(x) + self.b(x)))


class Chain(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


class BatchLast(Linears):
    """The batch moves to the second dimension on the way."""

    def __init__(self):
        super().__init__("a", "b")

    def forward(self, x):
        x = x.transpose(0, 1)
        return (self.a(x) + self.b(x)).transpose(0, 1)


class Parallel(Linears):
    """Linear branches side by side: the output is linear in the gates, each path has one that
    counts.
    """

    def __init__(self):
        super().__init__("stem", "a", "b", "c", "head")

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.a(x) + self.b(x) - self.c(x) + x)


class Smooth(Linears):
    """Branches of branches with tanh: gates act on each other."""

    def __init__(self):
        super().__init__("a", "b", "c", "d", "head")

    def forward(self, x):
        y = torch.tanh(self.a(x)) + torch.tanh(self.b(x)) + x
        z = torch.tanh(self.c(y)) + torch.tanh(self.d(y)) + y
        return self.head(torch.cat([y, z], dim=1)[:, 3:9])


def x(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(*shape: int, high: int = 11) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(1))


def make(factory, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    """A network of the given weights' seed, in evaluation mode, its norms with statistics that are
    not those of a new one.
    """
    torch.manual_seed(seed)
    model = factory().to(dtype).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return model


def dag(size: str = "10-15", seed: int = 0) -> networks.RandomDag:
    return networks.RandomDag(networks.random_parents(size, seed), 6, 5, 3)


ZOO = {
    "dag": (dag, (x(4, 6),)),
    "dag, large": (lambda: dag("50-100"), (x(4, 6),)),
    "residual": (lambda: networks.Residual(4, (4, 6), 2), (x(3, 3, 8, 8),)),
    "inception": (lambda: networks.Inception(4, (3, 4)), (x(3, 3, 12, 12),)),
    "transformer": (lambda: networks.Transformer(11, 8, 8, 2, 2), (tokens(3, 6),)),
}

ANY = {
    **ZOO,
    "multi-branch": (MultiBranch, (x(4, 6),)),
    "concatenating": (Concatenating, (x(4, 6),)),
    "stacking": (Stacking, (x(4, 6),)),
    "chunk": (Chunks, (x(4, 6),)),
    "split": (Splits, (x(4, 6),)),
    "unbind": (Unbinds, (x(4, 6),)),
    "slices": (Slices, (x(4, 6),)),
    "two inputs": (TwoInputs, (x(4, 6), x(4, 6, seed=2))),
    "unused input": (UnusedInput, (x(4, 6), x(4, 6, seed=2))),
    "tuple output": (TupleOutput, (x(4, 6),)),
    "dict output": (DictOutput, (x(4, 6),)),
    "shared and unused parameters": (SharedParameters, (x(4, 6),)),
    "functional": (Functional, (x(4, 6),)),
    "constants": (Constants, (x(4, 6),)),
    "frozen": (Frozen, (x(4, 6),)),
    "all frozen": (AllFrozen, (x(4, 6),)),
    "MultiheadAttention": (Attention, (x(4, 5, 6),)),
    "in place": (InPlace, (x(4, 6),)),
    "in place, result unused": (InPlaceUnused, (x(4, 6),)),
    "assigns items": (AssignsItems, (x(4, 6),)),
    "keyword arguments": (KeywordArguments, (x(4, 6),)),
    "loop over a shape": (Steps, (x(4, 3, 6),)),
    "asserts on shapes": (Asserts, (x(4, 6),)),
    "LSTM": (Recurrent, (x(4, 3, 6),)),
    "both sides": (BothSides, (x(4, 6),)),
    "product": (Gated, (x(4, 6),)),
    "tokens": (Tokens, (tokens(4, 5),)),
    "widening": (Widening, (x(4, 6),)),
    "chain": (Chain, (x(4, 6),)),
    "batch moves": (BatchLast, (x(4, 3, 6),)),
}


@cache
def captured(name: str) -> ComputationGraph:
    """The graph of one of ``ANY``, captured once for all tests: none of them may change it."""
    factory, inputs = ANY[name]
    return capture(make(factory), inputs)
