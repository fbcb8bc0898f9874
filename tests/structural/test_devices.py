"""Scores on other devices, in other number types, and on several devices at once.

A device that is not there is stood in for by ``meta``; numbers that are read of its tensors are
taken to be near 1. Each tensor that code makes elsewhere than where the network lies is seen.
"""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bogp import structural
from bogp.errors import InvalidInput
from bogp.structural import gates, importance
from bogp.structural.gates import Examples
from bogp.structural.importance import GREEDY, METHODS
from bogp.structural.traced.containers import mapped
from tests.structural.models import ZOO, make

META, CUDA = torch.device("meta"), "cuda"
NETWORKS = ("dag", "residual", "inception", "transformer")
aten = torch.ops.aten


class Elsewhere(TorchDispatchMode):
    """Notes operations that make a tensor elsewhere than on ``meta`` of none that lies there.

    Numbers that are read from ``meta``, by ``cpu()`` or ``item()``, are ones, and those of a tensor
    of floating-point numbers are drawn around one, so that examples differ.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        from_meta = any(t.is_meta for t in given)
        if func.overloadpacket in (aten._local_scalar_dense, aten.item) and from_meta:
            return 1
        copies = func.overloadpacket in (aten._to_copy, aten.to) and from_meta
        if copies and torch.device("cpu") in (*args[1:], *kwargs.values()):
            types = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.dtype)]
            read = torch.ones(args[0].shape, dtype=[*types, args[0].dtype][0])
            if read.is_floating_point():
                drawn = np.random.default_rng(read.numel()).uniform(0.5, 1.5, read.shape)
                read.copy_(torch.from_numpy(drawn))
            return read
        result = func(*args, **kwargs)
        made = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        if not all(t.is_meta for t in made) and all(t.is_meta for t in given):
            self.found.add(str(func))
        return result


def examples_of(name: str) -> tuple[Examples, gates.Loss]:
    inputs = ZOO[name][1]
    targets = inputs[0] if name == "transformer" else torch.arange(len(inputs[0])) % 3
    return Examples(inputs, targets), gates.cross_entropy


def moved(graph, examples, device):
    """The same graph and examples on another device."""
    inputs = mapped(lambda t: t.to(device), (graph.example_inputs, examples.inputs))
    there = replace(graph, module=copy.deepcopy(graph.module).to(device), example_inputs=inputs[0])
    return there, Examples(inputs[1], examples.targets.to(device))


@cache
def away(name: str, level: str = "all"):
    """A captured network with its examples on ``meta``, and the loss."""
    factory, inputs = ZOO[name]
    examples, loss = examples_of(name)
    graph = structural.capture(make(factory), inputs, level=level)
    return *moved(graph, examples, META), loss


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_passes_make_no_tensor_elsewhere(name):
    graph, examples, loss = away(name)
    masks = gates.single_removals(graph)
    with Elsewhere() as seen:
        for only in (None, graph.candidates[:2].tolist()):
            one = graph.outputs(torch.ones(len(graph.edges), device=META), None, examples.inputs)
            each = torch.ones(len(examples), len(graph.edges), device=META)
            several = graph.outputs(each, None, examples.inputs, only)
            assert one.is_meta and several.shape == one.shape
        for rounds in (False, True):
            removals = gates.Removals(graph, examples, loss, batch=2, rounds=rounds)
            assert removals.under(masks).shape == (len(masks),)
        gates.losses_under(graph, masks, examples, loss)
        references = gates.mean_activations(graph, examples)
        gates.losses_under(graph, masks, examples, loss, references=references)
    assert not seen.found


def test_what_is_made_elsewhere_is_seen():
    with Elsewhere() as seen:
        torch.ones(2, device=META) + torch.ones((), device=META)
        assert not seen.found
        torch.ones(2, device=META) + torch.zeros(())
    assert seen.found == {"aten.zeros.default"}


ON_CPU = ("flow", "flow_greedy")  # they read a copy there


@pytest.mark.parametrize("method", [m for m in (*METHODS, *GREEDY) if m not in ON_CPU])
@pytest.mark.parametrize("level", ["all", "blocks"])
@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_scores_make_no_tensor_elsewhere(name, level, method):
    graph, examples, loss = away(name, level)
    with Elsewhere() as seen:
        order = structural.removal_order(graph, examples, loss, method, limit=2)
    assert len(order) == min(2, len(graph.candidates))
    assert not seen.found


@pytest.mark.parametrize("method", ON_CPU)
@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_the_flow_of_a_network_elsewhere_is_read_on_a_copy(name, method):
    graph, examples, loss = away(name)
    with Elsewhere():  # a tensor there and one here in one operation would be an error
        order = structural.removal_order(graph, examples, loss, method, limit=2)
    assert len(order) == 2 and graph.device == META


def hooked(name: str, model, examples: Examples, loss) -> np.ndarray:
    """The changes of the mean loss when each block's branches give zeros, by plain hooks."""

    def mean() -> float:
        with torch.no_grad():
            return float(loss(model(*examples.inputs), examples.targets).double().mean())

    def branches(block) -> list[torch.nn.Module]:
        return [block.second_norm] if name == "residual" else [*block.joins, block.mlp]

    full, found = mean(), []
    for block in model.blocks:
        hooks = [
            m.register_forward_hook(lambda *call: torch.zeros_like(call[-1]))
            for m in branches(block)
        ]
        found.append(mean() - full)
        for hook in hooks:
            hook.remove()
    return np.array(found)


def narrow(examples: Examples, dtype: torch.dtype) -> Examples:
    inputs = mapped(lambda t: t.to(dtype) if t.is_floating_point() else t, examples.inputs)
    return replace(examples, inputs=inputs)


def agree(model, examples: Examples, loss, dtype: torch.dtype, truth: dict) -> None:
    """Scores and smaller models are those of float32, up to the rounding of the type."""
    graph = structural.capture(model, examples.inputs, level="blocks")
    # A value of size 1 is rounded by eps / 2 in each of some ten operations, one after the other.
    least = 8 * torch.finfo(dtype).eps
    for method in ("leave_one_out", "first_order"):
        found = structural.importances(graph, examples, loss, [method])[method].to_numpy()
        assert found == pytest.approx(truth[method], abs=least * truth["full"])
    gone = graph.candidates[:1]
    with torch.no_grad():
        smaller = (
            structural.drop(model, graph, gone),
            structural.remove(graph, graph.without(gone)),
        )
        for one in smaller:
            after = float(loss(one(*examples.inputs), examples.targets).double().mean())
            change = after - truth["full"]
            assert change == pytest.approx(truth["leave_one_out"][0], abs=least * truth["full"])


@cache
def truth_of(name: str):
    """A float32 network, its examples and loss, and what is to be found in other types."""
    factory, _ = ZOO[name]
    model, (examples, loss) = make(factory), examples_of(name)
    graph = structural.capture(model, examples.inputs, level="blocks")
    with torch.no_grad():
        full = float(loss(model(*examples.inputs), examples.targets).mean())
    scores = structural.importances(graph, examples, loss, ["leave_one_out", "first_order"])
    truth = {method: scores[method].to_numpy() for method in scores} | {"full": full}
    return model, examples, loss, truth


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_models_in_16_bits_are_scored_and_pruned(name, dtype):
    model, examples, loss, truth = truth_of(name)
    agree(copy.deepcopy(model).to(dtype), narrow(examples, dtype), loss, dtype, truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_models_under_autocast_are_scored_and_pruned(name, dtype):
    model, examples, loss, truth = truth_of(name)
    with torch.autocast("cpu", dtype=dtype):
        agree(model, examples, loss, dtype, truth)


@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_losses_of_16_bits_are_those_of_hooks(name):
    model, examples, loss, _ = truth_of(name)
    model, examples = copy.deepcopy(model).bfloat16(), narrow(examples, torch.bfloat16)
    graph = structural.capture(model, examples.inputs, level="blocks")
    found = structural.leave_one_out(graph, examples, loss)
    whole = np.flatnonzero(
        [graph.classes[graph.name(e)].endswith("Block") for e in graph.candidates]
    )
    truth = hooked(name, model, examples, loss)
    names = [graph.name(graph.candidates[at]) for at in whole]
    assert names
    for at, block in zip(whole, names, strict=True):
        # what the loss of 16-bit outputs could not tell apart
        assert found[at] == pytest.approx(truth[int(block.split(".")[1])], abs=2e-3)


def test_losses_of_16_bits_are_counted_in_32():
    outputs = torch.tensor([[10.0, 0.0, 0.0]]).bfloat16()
    texts = outputs.expand(1, 3, 3)
    for losses in (
        gates.cross_entropy(outputs, torch.tensor([1])),
        gates.next_token(texts, torch.ones(1, 3, dtype=torch.long)),
    ):
        assert losses.tolist() == pytest.approx([10 + np.log1p(2 * np.exp(-10))], rel=1e-6)
    error = gates.squared_error(torch.full((1, 3), 1.0).bfloat16(), torch.tensor([[1, 1, 1.01]]))
    assert error.tolist() == pytest.approx([1e-4 / 3], rel=1e-4)


@pytest.mark.parametrize("method", ["leave_one_out", "first_order", "activation"])
def test_examples_on_another_device_are_refused(method):
    graph, examples, loss = away("residual")
    here = Examples(ZOO["residual"][1], examples_of("residual")[0].targets)
    with pytest.raises(InvalidInput, match="inputs lie on cpu, the network on meta"):
        importance.importances(graph, here, loss, [method])
    with pytest.raises(InvalidInput, match="Inputs and targets lie on cpu and meta"):
        Examples(here.inputs, examples.targets)


@pytest.mark.parametrize("level", ["all", "blocks"])
def test_a_model_on_two_devices_is_refused(level):
    factory, inputs = ZOO["residual"]
    model = make(factory)
    model.head.to("meta")
    with pytest.raises(InvalidInput, match=r"head\.weight is on the meta device"):
        structural.capture(model, inputs, level=level)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", NETWORKS)
def test_on_cuda_scores_and_smaller_models_are_those_of_the_cpu(name):
    factory, inputs = ZOO[name]
    examples, loss = examples_of(name)
    graph = structural.capture(make(factory), inputs)
    there, moved_examples = moved(graph, examples, CUDA)
    captured = structural.capture(make(factory).to(CUDA), there.example_inputs)
    assert captured.device.type == CUDA
    for method in [*METHODS, *GREEDY]:
        order = structural.removal_order(captured, moved_examples, loss, method, limit=2)
        assert len(order) == 2, method
    for method in METHODS:
        here = structural.importances(graph, examples, loss, [method])[method]
        for one in (there, captured):
            far = structural.importances(one, moved_examples, loss, [method])[method]
            # convolutions there may round in TF32
            assert far.to_numpy() == pytest.approx(here.to_numpy(), rel=1e-2, abs=1e-2), method
    mask = graph.without(graph.candidates[:1])
    with torch.no_grad():
        small = structural.remove(graph, mask)(*inputs)
        smaller = structural.remove(captured, mask)(*there.example_inputs)
    assert torch.allclose(smaller.cpu(), small, rtol=1e-2, atol=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_model_on_a_card_and_the_cpu_is_refused():
    factory, inputs = ZOO["residual"]
    model = make(factory)
    model.head.to(CUDA)
    with pytest.raises(InvalidInput, match="lie on several devices"):
        structural.capture(model, inputs)
