"""The benchmark of depth scores, on tiny networks: what it compares is right."""

import numpy as np
import pytest
import torch

from benchmarks import depth
from benchmarks.large_networks import NAMES, case
from bogp.structural.gates import Removals, single_removals


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_networks_have_their_published_sizes():
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in case(name, 1).model.parameters()) / 1e6 for name in NAMES
        }
        branches = [len(case(name, 1).branches) for name in NAMES]
    # the ViT's positions are those of 64 x 64 pixels: 180 vectors fewer than at 224 x 224
    assert sizes == pytest.approx(
        {"ResNet-50": 25.557, "ViT-B/16": 86.568 - 180 * 0.000768, "GPT-2": 124.440}, abs=1e-3
    )
    assert branches == [16, 24, 24]


@pytest.mark.parametrize("name", NAMES)
def test_hooks_zero_the_branches_and_operations_are_counted(name):
    one = case(name, 8, tiny=True)
    graph = depth.captured(one)
    assert graph.batched
    assert [graph.name(edge) for edge in graph.candidates] == list(one.branches)
    removals = Removals(graph, one.examples, one.loss, memory=depth.MEMORY)
    masks = np.concatenate([np.ones((1, len(graph.edges)), bool), single_removals(graph)])
    losses, ours = depth.operations(lambda: removals.under(masks))
    changes, hooks = depth.operations(lambda: depth.with_hooks(one, one.branches))
    assert losses[1:] - losses[0] == pytest.approx(changes, abs=1e-5)
    _, single = depth.operations(lambda: one.model(*one.examples.inputs))
    assert hooks == single * (len(one.branches) + 1)
    assert hooks / len(masks) < ours < hooks


@pytest.mark.parametrize("name", NAMES)
def test_a_line_of_each_table(name):
    single, search, derived = depth.measured(name, tiny=True)
    assert single["ratio"] == single["hooks_s"] / single["ours_s"]
    assert single["share"] == pytest.approx(single["ratio"] / single["allowed"])
    assert (single["verdict"] == "met") == (single["share"] >= depth.SHARE)
    assert single["difference"] <= depth.TOLERANCE
    assert single["bound_mib"] == depth.MEMORY / 2**20
    assert search["allowed"] >= 1
    assert [line["method"] for line in derived] == ["first_order", "fisher"]
    for line in derived:
        assert line["ratio"] == line["seconds"] / line["against_s"]
    assert (derived[0]["verdict"] == "met") == (derived[0]["ratio"] <= depth.PASSES)


def test_losses_that_differ_are_refused(monkeypatch):
    one = case("ResNet-50", 4, tiny=True)
    graph = depth.captured(one)
    right = depth.with_hooks(one, one.branches)
    monkeypatch.setattr(depth, "with_hooks", lambda case, branches: right + 0.01)
    with pytest.raises(RuntimeError, match="losses of ResNet-50"):
        depth.scoring("ResNet-50", one, graph)


def test_the_peak_is_that_of_the_work():
    _, peak = depth.with_peak(lambda: torch.ones(2**24).sum())
    assert np.isnan(peak) or 64 * 2**20 <= peak < 96 * 2**20
