"""A decoder as libraries of language models write it: grouped attention with rotary positions and a
mask, a cache of keys that it hands back, tied weights, options, and outputs that are at once a
dataclass and a dict. It is captured as it is.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bogp import structural
from bogp.errors import NotCapturable
from bogp.structural.gates import Examples, leave_one_out
from bogp.structural.importance import METHODS, importances
from bogp.structural.surgery import remove
from bogp.structural.traced.containers import alike, tensors_of
from tests.structural.traced.test_containers import OutputDict, saved_and_loaded

WIDTH, HEADS, WORDS = 16, 4, 31


@dataclass
class Output(OutputDict):
    loss: Any = None
    logits: Any = None
    cache: Any = None
    hidden: Any = None


class Cache:
    def __init__(self):
        self.layers: list[dict[str, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.layers.append({"keys": keys, "values": values})
        return keys, values


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def forward(self, x):
        kind, x = x.dtype, x.to(torch.float32)
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)).to(kind)


def turned(x):
    first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat((-second, first), dim=-1)


def repeated(x, times):
    n, heads, t, d = x.shape
    return x[:, :, None].expand(n, heads, times, t, d).reshape(n, heads * times, t, d)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(WIDTH, WIDTH // 2, bias=False) for _ in range(2))

    def forward(self, x, *, places, mask, cache=None):
        shape, heads = x.shape[:-1], (*x.shape[:-1], -1, WIDTH // HEADS)
        q, k, v = (layer(x).view(heads).transpose(1, 2) for layer in (self.q, self.k, self.v))
        cos, sin = (p.unsqueeze(1) for p in places)
        q, k = q * cos + turned(q) * sin, k * cos + turned(k) * sin
        if cache is not None:
            k, v = cache.update(k, v)
        y = F.scaled_dot_product_attention(q, repeated(k, 2), repeated(v, 2), attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(*shape, -1).contiguous())


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up = (nn.Linear(WIDTH, 32, bias=False) for _ in range(2))
        self.down = nn.Linear(32, WIDTH, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.mlp, self.first, self.second = Attention(), Mlp(), Norm(), Norm()

    def forward(self, x, **options):
        x = x + self.attention(self.first(x), **options)
        return x + self.mlp(self.second(x))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.norm = nn.Embedding(WORDS, WIDTH), Norm()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("speeds", 100.0 ** -torch.arange(0, 1, 0.5), persistent=False)

    @torch.no_grad()
    def places(self, x):
        angles = torch.arange(x.shape[1])[None, :, None] * self.speeds
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)

    def forward(
        self, input_ids=None, attention_mask=None, labels=None, use_cache=False, hidden=False
    ):
        if input_ids is None:
            raise ValueError("input_ids are needed")
        x, least = self.words(input_ids), torch.finfo(torch.float32).min
        t, cache, states = x.shape[1], Cache() if use_cache else None, ()
        mask = torch.full((t, t), least).triu(1)[None, None].expand(x.shape[0], 1, -1, -1)
        if attention_mask is not None:
            mask = mask.clone()
            mask[:, :, :, :t] = mask.masked_fill(attention_mask[:, None, None, :] == 0, least)
        places = self.places(x)
        for block in self.blocks:
            states += (x,) * hidden
            x = block(x, places=places, mask=mask, cache=cache)
        logits, loss = self.head(self.norm(x)), None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].reshape(-1, WORDS), labels[:, 1:].reshape(-1))
        return Output(loss=loss, logits=logits, cache=cache, hidden=states or None)


def tokens(n, t):
    return torch.randint(WORDS, (n, t), generator=torch.Generator().manual_seed(n))


def call(n, t, kind):
    """Keyword arguments for n sequences of t tokens."""
    ids = tokens(n, t)
    mask = torch.ones(n, t, dtype=torch.long)
    mask[0, -2:] = 0
    return {"input_ids": ids} | {
        "ids": {},
        "mask": {"attention_mask": mask},
        "cache": {"use_cache": True},
        "labels": {"labels": ids, "hidden": True, "use_cache": False},
    }[kind]


def next_word(outputs, ids):
    losses = F.cross_entropy(
        outputs.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    return losses.view(len(ids), -1).mean(1)


@pytest.mark.parametrize("kind", ["ids", "mask", "cache", "labels"])
def test_a_decoder_is_captured_as_it_is(kind):
    torch.manual_seed(0)
    model, given = Decoder().eval(), call(3, 5, kind)
    graph = structural.capture(model, given)
    gone = {  # branches into the residual sums, and the layers that give them
        f"blocks.{i}.{branch}": [
            e.index
            for e in graph.edges
            if f"blocks.{i}.{branch}.{layer}.weight" in graph.vertices[e.source].parameters
            and graph.vertices[e.target].kind == "sum"
        ]
        for i in range(2)
        for branch, layer in (("attention", "out"), ("mlp", "down"))
    }
    assert all(len(edges) == 1 for edges in gone.values())
    changes = dict(
        zip(
            graph.candidates,
            leave_one_out(graph, Examples(given, given["input_ids"]), next_word),
            strict=True,
        )
    )
    for part, (edge,) in gone.items():
        hook = model.get_submodule(part).register_forward_hook(lambda m, i, out: out * 0)
        cut = remove(graph, graph.without([edge]))
        with torch.no_grad():
            for others in (given, call(2, 7, kind)):
                truth = model(**others)
                if "attention" in part and kind == "cache":  # the keys go with their branch
                    truth.cache = cut(**others).cache
                assert alike(cut(**others), truth)
            less = next_word(model(**given), given["input_ids"]).mean()
        hook.remove()
        with torch.no_grad():
            full = next_word(model(**given), given["input_ids"]).mean()
        assert changes[edge] == pytest.approx((less - full).item(), abs=1e-5)
        left = {n.split(".", 2)[2] for n in cut.state_dict() if n.startswith(part[:8])}
        if kind != "cache":
            assert not any(name.startswith(part[9:]) for name in left)
    with torch.no_grad():
        assert alike(saved_and_loaded(cut)(**given), cut(**given))
    with pytest.raises(NotCapturable, match="use_cache"):
        graph.outputs(torch.ones(len(graph.edges)), None, given | {"use_cache": kind != "cache"})


def test_every_score_of_a_decoder():
    torch.manual_seed(0)
    model = Decoder().eval()
    for kind in ("mask", "labels"):  # a mean loss among the outputs mixes examples
        given = call(3, 5, kind)
        graph = structural.capture(model, given)
        table = importances(graph, Examples(given, given["input_ids"]), next_word)
        assert set(METHODS) < set(table) and table.notna().all().all()
        assert graph.batched == (kind == "mask")
        ranks = table.corr("spearman").loc["leave_one_out"]
        assert ranks["hessian"] > 0.9
        assert len(tensors_of(given)) == 2
