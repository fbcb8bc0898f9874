"""Masks on networks of one's own, against networks multiplied by hand; searches against a
written-out loop; exports in a process without bogp.
"""

import copy
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from bogp import search
from bogp.errors import BogpError, InvalidInput
from bogp.graphs import database
from bogp.search import searchers as search_searchers
from bogp.search import your_network
from bogp.search.searchers import Proposal

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "your_own_network.md"
SETTINGS = search.SearchSettings(("clustering", "path_length"), n_initial=2, n_iterations=3)
LAYERS = ["conv2", "fc"]
WITHOUT_BOGP = "import sys; sys.modules['bogp'] = None\n"


class Net(nn.Module):
    """Seven and nine channels: neither is a multiple of the four nodes."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 7, 3), nn.Conv2d(7, 9, (3, 2), padding=1)
        self.fc, self.out = nn.Linear(9 * 4 * 5, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.out(torch.relu(self.fc(x.flatten(1))))


def nodes(width, n):
    """The node of each channel, by dealing out: the first ``width % n`` nodes hold one more."""
    return [node for node in range(n) for _ in range(width // n + (node < width % n))]


def by_hand(mask, d_out, d_in):
    """A loop over channels."""
    row, column = nodes(d_out, len(mask)), nodes(d_in, len(mask))
    return torch.tensor(
        [[float(mask[row[o], column[i]]) for i in range(d_in)] for o in range(d_out)]
    )


@pytest.fixture
def mask():
    return np.array([[1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]], dtype=bool)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x():
    return torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return database.build(
        database.DatabaseSpec((0.5,), 20, n=4), tmp_path_factory.mktemp("masks") / "d", workers=1
    )


def test_the_masked_network_is_the_one_multiplied_by_hand(net, mask, x):
    plain = copy.deepcopy(net)
    with torch.no_grad():
        plain.fc.weight *= by_hand(mask, 8, 180)
        connected = by_hand(mask, 9, 7)
        for o in range(9):
            for i in range(7):
                plain.conv2.weight[o, i] *= connected[o, i]  # a whole kernel of 3 x 2
    before = net(x)
    assert your_network.apply(net, mask, LAYERS) is net
    assert torch.equal(net(x), plain(x))
    assert not torch.allclose(net(x), before)
    assert {n for n, _ in net.fc.named_parameters()} == {"weight_orig", "bias"} and prune.is_pruned(
        net
    )
    assert torch.equal(net.conv2.weight_mask, connected[:, :, None, None].expand(9, 7, 3, 2))

    removed = {
        "conv2": 6 * int((connected == 0).sum()),
        "fc": int((by_hand(mask, 8, 180) == 0).sum()),
    }
    found = your_network.sparsity(net)
    assert found.layers == {"conv2": removed["conv2"] / 378, "fc": removed["fc"] / 1440}
    assert found.masked == pytest.approx(sum(removed.values()) / (378 + 1440))
    assert found.model == pytest.approx(sum(removed.values()) / (63 + 378 + 1440 + 24))
    assert your_network.sparsity(plain) == your_network.Sparsity({}, 0.0, 0.0), (
        "zeros of training are not counted, masks are"
    )


def test_zeros_stay_zero_in_training_and_remove_changes_nothing(net, mask, x):
    your_network.apply(net, mask, LAYERS)
    zero = {name: net.get_submodule(name).weight_mask == 0 for name in LAYERS}
    first = net.fc.weight.detach().clone()
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(4):
        optimiser.zero_grad()
        net(x).square().sum().backward()
        optimiser.step()
    after = net(x)
    for name in LAYERS:
        assert (net.get_submodule(name).weight[zero[name]] == 0).all() and zero[name].any()
    assert (net.fc.weight[~zero["fc"]] != first[~zero["fc"]]).any(), "the others were trained"
    for name in LAYERS:
        prune.remove(net.get_submodule(name), "weight")
    assert torch.equal(net(x), after)
    assert not prune.is_pruned(net)


def test_an_export_loads_into_the_plain_module_without_bogp(net, mask, x, tmp_path):
    your_network.apply(net, mask, LAYERS)
    prune.l1_unstructured(net.conv1, "weight", amount=0.3)  # torch's own pruning is exported alike
    net(x).sum().backward()  # after which a pruned model cannot be deep-copied
    state = {k: v.clone() for k, v in net.state_dict().items()}
    for name in ("pruned.pt", "pruned.safetensors"):
        assert your_network.save(net, tmp_path / name) == tmp_path / name
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items()) and list(
        net.state_dict()
    ) == list(state)
    torch.save((x, net(x).detach()), tmp_path / "expected.pt")

    code = f"""{WITHOUT_BOGP}
import torch
from torch import nn
from safetensors.torch import load_file
{inspect.getsource(Net)}
x, y = torch.load("expected.pt")
for state in (load_file("pruned.safetensors"), torch.load("pruned.pt", weights_only=True)):
    net = Net()
    print(net.load_state_dict(state))
    assert torch.equal(net(x), y) and (net.fc.weight == 0).any()
    assert (net.conv1.weight == 0).sum() == 19
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("All keys matched") == 2


def test_the_state_of_any_module_is_exported(tmp_path):
    tied = nn.Sequential(
        nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False)
    )
    tied[2].weight = tied[0].weight
    your_network.save(tied, tmp_path / "a.safetensors")  # safetensors refuses memory that is shared
    from safetensors.torch import load_file

    assert torch.equal(load_file(tmp_path / "a.safetensors")["2.weight"], tied[0].weight)
    single = prune.random_unstructured(nn.Linear(4, 4), "weight", amount=4)
    assert sorted(your_network.plain_state(single)) == ["bias", "weight"], (
        "a module without submodules too"
    )
    odd = type("Odd", (nn.Linear,), {"get_extra_state": lambda self: {"epoch": 3}})(2, 2)
    with pytest.raises(InvalidInput, match="_extra_state"):
        your_network.save(odd, tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda m: m * 0.5, "0.5"),
        (lambda m: np.triu(np.ones_like(m)), "not symmetric"),
        (lambda m: m[:3], "square"),
        (lambda m: np.stack([m, m]), "batch of 2"),
        (
            lambda m: np.ones((8, 8), dtype=bool),
            "'conv2' has 7 inputs and 9 outputs, and the graph 8 nodes",
        ),
    ],
)
def test_masks_that_cannot_be_laid_are_refused_and_nothing_is_pruned(net, mask, wrong, message):
    with pytest.raises(InvalidInput, match=message):
        your_network.apply(net, wrong(mask), ["fc", "conv2"])
    assert not prune.is_pruned(net)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["fc", "conv9"], "no layer 'conv9'; layers that can be masked: conv1, conv2, fc, out"),
        ([], "one or more names"),
        ("fc", "a list is needed"),
        (["fc", "fc"], "each once"),
        (["fc", ""], "is a Net; only Linear and Conv2d"),
        (["fc", "out"], "'out' has 8 inputs and 3 outputs"),
    ],
)
def test_layers_that_cannot_be_masked_are_refused_and_nothing_is_pruned(net, mask, layers, message):
    with pytest.raises(InvalidInput, match=message):
        your_network.apply(net, mask, layers)
    assert not prune.is_pruned(net)


def test_layers_where_a_mask_would_be_wrong_are_refused(mask):
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    cases = [
        (nn.Sequential(nn.Conv2d(8, 8, 3, groups=2)), "0", "2 groups"),
        (nn.Sequential(nn.MultiheadAttention(8, 2)), "0.out_proj", "attention"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))),
            "0",
            "parametrised",
        ),
        (tied, "0", r"shared \(0.weight, 1.weight\)"),
        (your_network.apply(nn.Sequential(nn.Linear(8, 8)), mask, ["0"]), "0", "already pruned"),
        (
            nn.Sequential(prune.l1_unstructured(nn.Linear(8, 8), "weight", amount=0.5)),
            "0",
            "already pruned",
        ),
    ]
    for model, layer, message in cases:
        with pytest.raises(InvalidInput, match=message):
            your_network.apply(model, mask, [layer])
    with pytest.raises(InvalidInput, match="no weights"):
        your_network.sparsity(nn.ReLU())


def test_what_cannot_be_saved(net, tmp_path):
    for name in ("pruned.bin", "pruned"):
        with pytest.raises(InvalidInput, match=r"\.pt and \.safetensors"):
            your_network.save(net, tmp_path / name)
    assert not list(tmp_path.iterdir())
    your_network.save(net, tmp_path / "net.pt")
    earlier = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.safetensors").mkdir()  # cannot be replaced by a file, not even by root
    with pytest.raises(BogpError, match=r"net\.safetensors cannot be written"):
        your_network.save(net, tmp_path / "net.safetensors")
    # stands for a full disk: the new version cannot be written
    (tmp_path / f".net.pt.{os.getpid()}.tmp").mkdir()
    with torch.no_grad():
        net.fc.weight += 1
    with pytest.raises(BogpError, match="nothing was lost"):
        your_network.save(net, tmp_path / "net.pt")
    assert (tmp_path / "net.pt").read_bytes() == earlier


def make_model():
    return nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 4))


def score(model, seed):
    """Anything that depends on weights, masks, torch's generators and the seed."""
    return model(torch.ones(3, 6)).square().mean().item() + seed / 7 + torch.rand(()).item()


def searchers(masks):
    return [
        search.BoxSearch(masks, SETTINGS, 0),
        search.BoxSearch(masks, SETTINGS, 3),
        search.RandomSearch(masks, 5, 0),
        search_searchers.PoolSearch(masks, SETTINGS, 0),
    ]


def expected_score(masks, row, seed):
    torch.manual_seed(seed)
    model = make_model()
    for layer in (model[0], model[2]):
        layer.weight.data *= by_hand(masks.mask(row), *layer.weight.shape)
    return score(model, seed)


def test_a_search_is_ask_score_tell(masks):
    state = torch.get_rng_state()
    history = your_network.search(make_model, score, masks, searchers(masks), ["0", "2"])
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is left alone"
    assert (
        history.groupby(["method", "search_seed"]).evaluation.apply(list).tolist()
        == [list(range(5))] * 4
    )
    rows = masks.row_of()
    for searcher in searchers(masks):  # each alone, in a loop of its own
        mine = history[
            (history.method == searcher.name) & (history.search_seed == searcher.seed)
        ].itertuples()
        seen = []
        while proposals := searcher.ask():
            told = []
            for p in proposals:
                seed = searcher.seed + 10_000 * seen.count(p.row)
                seen.append(p.row)
                told.append(expected_score(masks, p.row, seed))
                one = next(mine)
                assert (rows[one.mask_id], one.training_seed, one.phase) == (p.row, seed, p.phase)
                assert one.objective == told[-1]
                assert one.sparsity == 1 - masks.mask(p.row).mean()
            searcher.tell(told)
    assert (history.visit > 0).any(), "a mask came again, with another seed"
    assert (
        history[history.method == "bogp"].query_clustering.notna().all()
        and history[history.method == "random"].query_clustering.isna().all()
    )
    assert (history.masked_sparsity == history.model_sparsity).all(), "both layers are masked"
    best = search.recommend(history)
    assert (
        best.objective.to_numpy()
        == history.groupby(["method", "search_seed"]).objective.max().to_numpy()
    ).all()

    fresh = your_network.retrain(best, make_model, score, masks, ["0", "2"], 2)
    for one in fresh.itertuples():
        seeds = 5_000 + 2 * one.search_seed, 5_001 + 2 * one.search_seed
        assert one.fresh == pytest.approx(
            np.mean([expected_score(masks, rows[one.mask_id], s) for s in seeds]), abs=1e-12
        )
    assert (fresh.apparent == best.objective).all()


class Interrupted(Exception):
    pass


def test_an_interrupted_search_goes_on_where_it_stopped(masks, tmp_path):
    calls, stop_at = [], [4]

    def counted(model, seed):
        if len(calls) == stop_at[0]:
            raise Interrupted
        calls.append(seed)
        return score(model, seed)

    def again(**more):
        return your_network.search(make_model, counted, masks, searchers(masks), ["0", "2"], **more)

    path = tmp_path / "scores.json"
    for stop_at[0] in (4, 11):
        with pytest.raises(Interrupted):
            again(record=path)
        assert len(json.loads(path.read_text())["scores"]) == stop_at[0], "what was scored is kept"
    stop_at[0] = None
    resumed = again(record=path)
    total = len(calls)
    assert total == resumed.groupby(["mask_id", "training_seed"]).ngroups, (
        "nothing was scored twice"
    )
    pd.testing.assert_frame_equal(resumed, again(record=path))
    assert len(calls) == total, "and nothing again"
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), again().drop(columns="seconds"))

    calls.clear()
    again(record=path, settings={"epochs": 2})
    assert len(calls) == total, "other settings, other scores"
    your_network.retrain(
        search.recommend(resumed), make_model, counted, masks, ["0", "2"], 1, record=path
    )
    assert len(calls) > total


def test_a_damaged_record_is_refused_before_any_training(masks, tmp_path):
    (tmp_path / "scores.json").write_text("{}")
    refused(masks, "damaged", record=tmp_path / "scores.json")


def refused(masks, message, **changes):
    """Refused before a score is asked for."""

    def never(model, seed):
        raise AssertionError("work has started")

    arguments = {
        "make_model": make_model,
        "score": never,
        "database": masks,
        "searchers": searchers(masks),
        "layers": ["0"],
    } | changes
    with pytest.raises(BogpError, match=message):
        your_network.search(**arguments)


def test_bad_input_is_refused_before_any_training(masks, tmp_path):
    once = make_model()
    twice = [search.RandomSearch(masks, 2, 1), search.RandomSearch(masks, 3, 1)]
    refused(masks, "no layer 'fc'", layers=["fc"])
    refused(
        masks,
        "already pruned; begin with a new model",
        make_model=lambda: your_network.apply(once, masks.mask(0), ["0"]),
    )
    refused(masks, "fewer nodes", make_model=lambda: nn.Sequential(nn.Linear(9, 3)))
    refused(masks, "no searchers to run", searchers=[])
    refused(masks, "same name and seed", searchers=twice)
    refused(masks, "is empty", database=masks.take([]))
    refused(masks, r"ends in \.json", record=tmp_path / "scores.csv")
    refused(masks, "cannot be written", record=Path("/proc/none/scores.json"))
    refused(masks, "made with def", record=tmp_path / "scores.json", score=lambda model, seed: 0)
    refused(masks, "JSON", record=tmp_path / "scores.json", settings={"data": object()})


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), None, "high", torch.zeros(2), -1e155, 10**400, 10**5000],
    ids=lambda value: str(value)[:12] if not isinstance(value, int) else "whole",
)
def test_a_score_that_is_no_number_ends_the_search_and_keeps_the_others(masks, tmp_path, value):
    given = iter([0.5, 0.25, value])

    def own(model, seed):
        return next(given)

    with pytest.raises(InvalidInput, match=r"score\(model, 0\) gave .* for mask s0.5-"):
        your_network.search(
            make_model,
            own,
            masks,
            [search.RandomSearch(masks, 4, 0)],
            ["0"],
            record=tmp_path / "scores.json",
        )
    kept = json.loads((tmp_path / "scores.json").read_text())["scores"].values()
    assert [k["objective"] for k in kept] == [0.5, 0.25]


class Own:
    """A search method with a row of its choice."""

    def __init__(self, row, name="own", seed=0):
        self.name, self.seed, self.rows = name, seed, [row]

    def ask(self):
        rows, self.rows = self.rows, []
        return [Proposal(row, "own", {}) for row in rows]

    def tell(self, scores):
        pass


def test_a_search_method_of_ones_own(masks):
    history = your_network.search(make_model, score, masks, [Own(7)], ["0"])
    assert history.mask_id.tolist() == [masks.table.mask_id[7]]
    for row in (20, -1):
        with pytest.raises(InvalidInput, match=f"row {row} of a database of 20"):
            your_network.search(make_model, score, masks, [Own(row)], ["0"])
    refused(masks, "search seed is 'first'", searchers=[Own(1, seed="first")])
    with pytest.raises(InvalidInput, match="has no masks"):
        your_network.retrain(
            search.recommend(history), make_model, score, masks.take([0]), ["0"], 1
        )


def test_the_document_works_as_it_stands(tmp_path):
    """Its blocks one after another; the one that loads the file once more without bogp; and the ten
    lines are ten.
    """
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    own, ten, load, rest = blocks
    lines = [line for line in ten.splitlines() if line.strip() and not line.startswith("from ")]
    assert len(lines) <= 10
    environment = os.environ | {
        "BOGP_HOME": str(tmp_path),
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
        "LOKY_MAX_CPU_COUNT": "1",
    }  # quick here
    for code in (
        own + ten + load + rest,
        WITHOUT_BOGP + own + load + "assert (plain[2].weight == 0).float().mean() > 0.7",
    ):
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-2000:]
        if "bogp" in result.stdout:
            accuracy = float(re.search(r"tensor\(([\d.]+)\) Sparsity", result.stdout).group(1))
            assert 0.6 < accuracy < 1, "chance is 0.1"


# kinds of networks and files that people have


class ReadsItsWeight(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return nn.functional.linear(x, self.fc.weight, self.fc.bias)


def test_a_weight_that_is_read_and_not_called_is_masked_anew_at_each_step():
    torch.manual_seed(0)
    model = your_network.apply(ReadsItsWeight(), np.eye(4), ["fc"])
    optimiser, x = torch.optim.SGD(model.parameters(), 0.5), torch.randn(4, 8)
    for _ in range(2):  # a second backward pass needs a second product
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()
    plain = ReadsItsWeight()
    plain.load_state_dict(your_network.plain_state(model))
    torch.testing.assert_close(plain(x), model(x))
    assert (plain.fc.weight == 0).sum() == 8 * 8 * 3 // 4


@pytest.mark.parametrize("place", ["whole", "part"])
@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrappers_leave_no_trace_in_files_and_names(wrap, place, tmp_path):
    def made():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8)))

    model = made()
    if place == "whole":
        model = wrap(model)
    else:
        model[2] = wrap(model[2])
    your_network.apply(model, np.eye(4), ["0", "2.0"])
    path = your_network.save(model, tmp_path / "pruned.pt")
    plain = made()
    plain.load_state_dict(torch.load(path, weights_only=True))
    assert your_network.sparsity(model).layers.keys() == {"0", "2.0"}
    x = torch.randn(3, 8)
    torch.testing.assert_close(plain(x), model(x))


def test_a_module_that_is_called_module_keeps_its_name():
    model = nn.Sequential()
    model.add_module("module", nn.Linear(8, 8))
    assert list(your_network.plain_state(model)) == ["module.weight", "module.bias"]


def test_every_pruned_weight_counts():
    lstm = prune.l1_unstructured(nn.LSTM(8, 8), "weight_hh_l0", 0.5)
    found = your_network.sparsity(lstm)
    assert found.layers == {"weight_hh_l0": 0.5}
    assert found.model == 0.25  # of 32 x 8 weights each, one of two matrices is halved


def test_a_layer_under_two_names_is_masked_once():
    layer = nn.Linear(8, 8)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    your_network.apply(model, np.eye(4), ["0"])
    assert your_network.sparsity(model).masked == 0.75


def test_a_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert your_network.save(nn.Linear(2, 2), "~/x.pt") == tmp_path / "x.pt"


class WithExtraState(nn.Linear):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


def sparse_layer():
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(layer.weight.detach().to_sparse(), requires_grad=False)
    return layer


@pytest.mark.parametrize(
    "neighbour",
    [
        lambda: WithExtraState(4, 4),
        lambda: nn.Linear(4, 4, dtype=torch.complex128),
        lambda: nn.Linear(4, 4, device="meta"),
        sparse_layer,
        lambda: torch.ao.nn.quantized.Linear(4, 4),
    ],
    ids=["extra state", "complex", "meta", "sparse", "quantised"],
)
def test_a_search_minds_the_masked_layers_and_no_others(masks, neighbour):
    beside = neighbour()  # made here, so that it draws nothing from the seeded generator
    history = your_network.search(
        lambda: nn.Sequential(make_model(), beside),
        lambda model, seed: score(model[0], seed),
        masks,
        [search.RandomSearch(masks, 2, 0)],
        ["0.0"],
    )
    alone = your_network.search(make_model, score, masks, [search.RandomSearch(masks, 2, 0)], ["0"])
    assert history.objective.tolist() == alone.objective.tolist()


@pytest.mark.parametrize(
    ("neighbour", "message"),
    [
        (lambda: WithExtraState(4, 4), "_extra_state', a dict; only tensors"),
        (lambda: nn.Linear(4, 4, device="meta"), "has no values yet"),
        (lambda: nn.LazyLinear(4), "has no values yet"),
    ],
    ids=["extra state", "meta", "lazy"],
)
def test_a_state_without_values_is_not_exported(neighbour, message, tmp_path):
    network = nn.Sequential(nn.Linear(4, 4), neighbour())
    with pytest.raises(InvalidInput, match=message):
        your_network.save(network, tmp_path / "net.pt")
    assert not list(tmp_path.iterdir())


def test_complex_and_sparse_neighbours_are_exported(mask, tmp_path):
    network = nn.Sequential(
        nn.Linear(8, 8), nn.Linear(4, 4, dtype=torch.complex128), sparse_layer()
    )
    your_network.apply(network, np.ones((4, 4)), ["0"])
    your_network.save(network, tmp_path / "net.pt")
    back = torch.load(tmp_path / "net.pt", weights_only=True)
    assert torch.equal(back["1.weight"], network[1].weight.detach())
    assert torch.equal(back["2.weight"].to_dense(), network[2].weight.to_dense())


def test_layers_of_unknown_size_are_refused_in_words(masks):
    lazy = "is lazy, so that its size is not known yet; run the network once first"
    refused(masks, lazy, make_model=lambda: nn.Sequential(nn.Linear(8, 8), nn.LazyLinear(4)))
    refused(masks, lazy, make_model=lambda: nn.Sequential(nn.LazyLinear(8)))
    with pytest.raises(InvalidInput, match=lazy):
        your_network.sparsity(nn.LazyLinear(4))


def test_a_masked_network_can_be_copied_at_once(net, mask, x):
    your_network.apply(net, mask, ["fc"])
    copied = copy.deepcopy(net)
    assert torch.equal(copied(x), net(x))
    copied(x).sum().backward()
    assert (copied.fc.weight_orig.grad[copied.fc.weight_mask == 0] == 0).all()
    assert copied.fc.weight_orig.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "given",
    [
        lambda m: m.bfloat16(),
        lambda m: m.half(),
        lambda m: m.requires_grad_(),
        lambda m: m.to_sparse(),
        lambda m: m.to_sparse_csr(),
        lambda m: m.bool(),
    ],
    ids=["bfloat16", "half", "requires_grad", "sparse", "sparse rows", "bool"],
)
def test_a_mask_may_be_a_tensor_of_any_type(given):
    mask = torch.eye(4) + torch.eye(4).roll(2, 0)
    plain, other = nn.Linear(8, 8), nn.Linear(8, 8)
    your_network.apply(plain, mask.numpy(), [""])
    your_network.apply(other, given(mask.clone()), [""])
    assert torch.equal(plain.weight_mask, other.weight_mask)


def test_a_mask_tensor_that_is_none_is_refused():
    for wrong, message in (
        (torch.full((4, 4), 1 + 1e-12, dtype=torch.float64), "only 0 and 1"),
        (torch.full((4, 4), 1j), "only 0 and 1"),
        (torch.ones(4, 4, device="meta"), "has no values"),
    ):
        with pytest.raises(InvalidInput, match=message):
            your_network.apply(nn.Linear(8, 8), wrong, [""])


@pytest.mark.parametrize(
    "layers", [(n for n in ("0", "2")), np.array(["0", "2"]), {"0": 1, "2": 2}]
)
def test_layers_come_in_any_collection(masks, layers):
    one = [search.RandomSearch(masks, 2, 0)]
    again = [search.RandomSearch(masks, 2, 0)]
    history = your_network.search(make_model, score, masks, one, layers)
    listed = your_network.search(make_model, score, masks, again, ["0", "2"])
    assert history.objective.tolist() == listed.objective.tolist()
