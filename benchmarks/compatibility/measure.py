"""What is measured of one network: a row of the table, made stage by stage.

Each stage answers with columns of the row. Where something does not work its column holds the
reason, in words; what could not be asked is empty.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import re
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.compatibility import truth
from benchmarks.compatibility.models import (
    HAS_LENGTH,
    Inputs,
    built,
    call,
    example,
    main_output,
    tensors,
)
from benchmarks.compatibility.names import LENGTH, Architecture
from bogp import structural
from bogp.errors import NothingToRemove
from bogp.records import peak_memory
from bogp.structural.drop import NotInPlace
from bogp.structural.gates import Examples, losses_under
from bogp.structural.graph import ComputationGraph, as_gates, float_type
from bogp.structural.levels import at_level
from bogp.structural.traced.nodes import node_values

Row = dict[str, Any]

YES = "yes"
EDGES = 8  # drawn for the comparison of leave-one-out losses
PART = 0.25  # of the candidates are removed by surgery
TOLERANCE = 1e-4  # relative, in float32
PEER_SECONDS = 40.0
# A row that was not finished has empty ones; the reason stands in ``stopped``.
COLUMNS = (
    *("library", "name", "captured", "wrapped", "route", "vertices", "edges", "candidates"),
    *("batched", "drawn", "compared", "equal", "leave_one_out", "largest_difference"),
    *("first_order", "fisher"),
    *(
        "removed",
        "surgery",
        "surgery_difference",
        "gradients",
        "cost",
        "parameters",
        "parameters_cut",
        "flops",
    ),
    *("flops_cut", "idle", "trains", "exports", "saves", "other_batch", "other_length"),
    *("level", "dropped", "generates", "reloads"),
    *("capture_seconds", "seconds", "peak_mb", "torch_pruning", "stopped", "code"),
)
WHOLE = (  # columns of whole numbers
    *("vertices", "edges", "candidates", "drawn", "compared", "equal", "removed"),
    *("parameters", "parameters_cut", "flops", "flops_cut", "idle", "peak_mb"),
)


class TookTooLong(BaseException):
    """A time limit; no ``Exception``, which the measured code may catch."""


@dataclass(frozen=True)
class Subject:
    """A network and what it is called with.

    Attributes:
        architecture: its entry in the list.
        model: in evaluation mode.
        inputs: tuple or keyword arguments.
        seed: of weights, values and draws.
    """

    architecture: Architecture
    model: nn.Module
    inputs: Inputs
    seed: int

    def other(self, **sizes: int) -> Inputs:
        """Inputs of another number of examples (``count``), or another ``length``."""
        inputs = example(self.architecture, **sizes, seed=self.seed + 7)
        return inputs if isinstance(self.inputs, dict) else positional(inputs)

    @cached_property
    def examples(self) -> Examples:
        """The inputs with targets near the outputs, so that no derivative is zero."""
        with torch.no_grad():
            outputs = main_output(call(self.model, self.inputs), self.count)
        draw = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(outputs.shape, generator=draw) * outputs.std()
        return Examples(self.inputs, outputs + noise)

    @property
    def count(self) -> int:
        """The number of examples."""
        return self.architecture.examples


@dataclass(frozen=True)
class Cut:
    """A captured network and a random removal from it.

    Attributes:
        graph: of the network.
        subject: that was captured.
        mask: (E,) what stays.
        module: what surgery returned.
    """

    graph: ComputationGraph
    subject: Subject
    mask: NDArray[np.bool_]
    module: nn.Module

    def gated(self, inputs: Inputs) -> Any:
        """What the network gives with closed gates, which the cut module has to give."""
        gates = torch.as_tensor(self.graph.gates(self.mask)[0], dtype=float_type(self.graph))
        with torch.no_grad():
            return self.graph.outputs(gates, None, inputs)


class Wrapped(nn.Module):
    """A network as it can be handed over where keyword arguments are refused.

    Args:
        model: called by name.
        names: of the positional arguments, in order.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, a: Tensor, b: Any = None, c: Any = None) -> Tensor:
        """The first output."""
        outputs = self.model(**dict(zip(self.names, (a, b, c), strict=False)))
        return tensors(outputs)[0]


def positional(inputs: Inputs) -> tuple[Any, ...]:
    """Inputs as a tuple."""
    return tuple(inputs.values()) if isinstance(inputs, dict) else inputs


def measure(
    architecture: Architecture, seconds: float, keep: Callable[[Row], None], seed: int = 0
) -> Row:
    """The row of one network.

    Args:
        architecture: which.
        seconds: of a processor that it may take; Torch-Pruning may take ``PEER_SECONDS`` of them.
        keep: is called with the row after each stage, so that nothing is lost in a crash.
        seed: of weights, values and draws.
    """
    warnings.simplefilter("ignore")
    start = time.process_time()
    row: Row = {"library": architecture.library, "name": architecture.name, "stopped": ""}

    def note(found: Mapping[str, Any], stage: str) -> None:
        row.update(found)
        row["seconds"] = round(time.process_time() - start, 1)
        row["peak_mb"] = peak_memory() // 2**20
        keep(row | {"stopped": f"ended while it was asked: {stage}"})

    note({}, "is built")
    subject = Subject(
        architecture, built(architecture, seed), example(architecture, seed=seed), seed
    )
    note({}, "Torch-Pruning")
    note({"torch_pruning": asked(lambda: torch_pruning(subject), PEER_SECONDS)}, "captured")
    stage = "captured"
    try:
        with limited(seconds - (time.process_time() - start)):
            for stage, found in _stages(subject):
                note(found, stage)
    except TookTooLong:
        row["stopped"] = f"took longer than {seconds:.0f} s: {stage}"
    keep(row)
    return row


def _stages(subject: Subject) -> Iterator[tuple[str, Row]]:
    """The name of the next stage, and the columns that the last one answered with."""
    found, graph, subject = captured(subject)
    yield "leave-one-out", found
    if graph is None:
        return
    if len(graph.candidates):
        yield "gradient scores", leave_one_out(graph, subject)
        yield "surgery", gradient_scores(graph, subject)
        found, cut = surgery(graph, subject)
        yield "trains", found
        if cut is not None:
            yield "saves", {"trains": asked(lambda: trains(cut))}
            yield "other batch", {"saves": asked(lambda: saves(cut))}
            yield "other length", {"other_batch": asked(lambda: other_batch(cut))}
            if subject.architecture.inputs in HAS_LENGTH:
                yield "exports", {"other_length": asked(lambda: other_length(cut))}
            yield "dropped", {"exports": asked(lambda: exports(cut))}
        found, smaller = dropped(graph, subject)
        yield "generates", found
        if smaller is not None and subject.architecture.library == "transformers":
            if getattr(subject.model, "can_generate", bool)():
                yield "reloads", {"generates": asked(lambda: generates(smaller, subject))}
            yield "", {"reloads": asked(lambda: reloads(smaller, subject))}


def captured(subject: Subject) -> tuple[Row, ComputationGraph | None, Subject]:
    """Whether the network is captured as it is, or else within a wrapper; and its graph."""
    start = time.process_time()
    row: Row = {"captured": YES, "wrapped": ""}
    graph = None
    try:
        graph = structural.capture(subject.model, subject.inputs)
    except Exception as error:  # whatever it is, it is the answer
        row["captured"] = in_words(error)
    if graph is None and isinstance(subject.inputs, dict):
        subject = Subject(
            subject.architecture,
            Wrapped(subject.model, tuple(subject.inputs)).eval(),
            positional(subject.inputs),
            subject.seed,
        )
        try:
            graph = structural.capture(subject.model, subject.inputs)
            row["wrapped"] = YES
        except Exception as error:
            row["wrapped"] = in_words(error)
    row["capture_seconds"] = round(time.process_time() - start, 1)
    if graph is not None:
        row |= {
            "route": graph.traced_by.removeprefix("torch."),
            "vertices": len(graph.vertices),
            "edges": len(graph.edges),
            "candidates": len(graph.candidates),
            "batched": YES if graph.batched else "no",
        }
    return row, graph, subject


def loss(outputs: Any, targets: Tensor) -> Tensor:
    """(N,) the mean squared error of the main output."""
    found = main_output(outputs, len(targets))
    return (found - targets).square().flatten(1).mean(dim=1)


def leave_one_out(graph: ComputationGraph, subject: Subject) -> Row:
    """How many losses without one edge are those of the original network with zeros there."""
    draw = np.random.default_rng(subject.seed)
    chosen = draw.permutation(graph.candidates)[:EDGES]
    row: Row = {"drawn": len(chosen)}
    try:
        masks = ~np.eye(len(graph.edges), dtype=bool)[chosen]
        whole = np.ones((1, len(graph.edges)), dtype=bool)
        ours = losses_under(graph, np.concatenate([whole, masks]), subject.examples, loss)
        where = truth.places(subject.model, subject.inputs, wanted(graph, subject, chosen))
        theirs = [
            math.nan
            if place is None
            else mean_loss(truth.outputs_without(subject.model, subject.inputs, place), subject)
            for place in where
        ]
    except Exception as error:
        return row | {"leave_one_out": in_words(error)}
    scale = np.maximum(np.abs(ours[1:]), np.abs(ours[0]))
    differences = np.abs(ours[1:] - theirs) / scale
    known = differences[~np.isnan(differences)]
    equal = int((known <= TOLERANCE).sum())
    row |= {"compared": len(known), "equal": equal}
    if not len(known):
        return row | {"leave_one_out": "no edge was found again in the original network"}
    answer = YES if equal == len(known) else f"{len(known) - equal} of {len(known)} are others"
    return row | {"leave_one_out": answer, "largest_difference": float(f"{known.max():.1e}")}


def wanted(
    graph: ComputationGraph, subject: Subject, chosen: NDArray[np.intp]
) -> list[truth.Wanted]:
    """Edges as the values at their ends."""
    values = node_values(graph.module, subject.inputs)
    producers: dict[tuple[str, int], str] = {
        (edge.consumer, edge.slot): edge.producer for edge in graph.edges
    }
    found = []
    for edge in (graph.edges[index] for index in chosen):
        before = [producers.get((edge.consumer, slot)) for slot in range(edge.slot)]
        repeat = before.count(edge.producer)
        found.append(truth.Wanted(values[edge.producer], values[edge.consumer], repeat))
    return found


def mean_loss(outputs: Any, subject: Subject) -> float:
    """Of all examples."""
    return float(loss(outputs, subject.examples.targets).double().mean())


def gradient_scores(graph: ComputationGraph, subject: Subject) -> Row:
    """Whether scores from gradients run, and are finite."""

    def runs(name: str) -> str:
        scores = structural.importances(graph, subject.examples, loss, [name])[name]
        return YES if np.isfinite(scores).all() else "not finite"

    return {
        "first_order": asked(lambda: runs("first_order")),
        "fisher": asked(lambda: runs("fisher")),
    }


def removal(graph: ComputationGraph, seed: int) -> NDArray[np.bool_]:
    """(E,) a mask without a random part of the candidates, which leaves every output its paths."""
    draw = np.random.default_rng(seed)
    mask = np.ones(len(graph.edges), dtype=bool)
    for edge in draw.permutation(graph.candidates):
        if len(graph.edges) - mask.sum() >= max(1, round(PART * len(graph.candidates))):
            break
        mask[edge] = False
        mask[edge] = not graph.connected(mask)[0]
    return mask


def surgery(graph: ComputationGraph, subject: Subject) -> tuple[Row, Cut | None]:
    """Whether the cut network gives what the gated one gives, and is smaller."""
    mask = removal(graph, subject.seed)
    row: Row = {"removed": int((~mask).sum())}
    try:
        cut = Cut(graph, subject, mask, structural.remove(graph, mask))
        difference = apart(run(cut.module, subject.inputs), cut.gated(subject.inputs))
    except Exception as error:
        return row | {"surgery": in_words(error)}, None
    row["surgery"] = YES if difference <= TOLERANCE else "other outputs"
    row["surgery_difference"] = float(f"{difference:.1e}")
    return row | gradients(cut) | costs(cut), cut


def gradients(cut: Cut) -> Row:
    """Whether all parameters of the cut network get a gradient that had one before."""
    try:
        idle = len(idle_parameters(cut))
    except Exception as error:
        return {"gradients": in_words(error)}
    return {"idle": idle, "gradients": f"parameters without use: {idle}" if idle else YES}


def costs(cut: Cut) -> Row:
    """Parameters and operations of the whole network and of the cut one."""
    try:
        before, after = (
            structural.cost(module, cut.subject.inputs, seconds=0.001)  # type: ignore[arg-type]
            for module in (cut.graph.module, cut.module)
        )
    except Exception as error:
        return {"cost": in_words(error)}
    rises = after.flops > before.flops or after.parameters > before.parameters
    return {
        "cost": "more than before" if rises else YES,
        "parameters": sum(p.numel() for p in cut.subject.model.parameters()),
        "parameters_cut": after.parameters,
        "flops": before.flops,
        "flops_cut": after.flops,
    }


def idle_parameters(cut: Cut) -> set[str]:
    """Parameters that get no gradient in the cut network, though they do in the whole one."""
    without, ever = (_no_gradient(module, cut.subject) for module in (cut.module, cut.graph.module))
    return without - ever


def _no_gradient(module: nn.Module, subject: Subject) -> set[str]:
    """Names of the parameters that no output depends on.

    A gradient that is there can still be zero: attention has none among tokens that are equal.
    """
    module = copy.deepcopy(module).requires_grad_(True)
    outputs = [tensor for tensor in tensors(call(module, subject.inputs)) if tensor.requires_grad]
    draw = torch.Generator().manual_seed(subject.seed)
    total = sum((tensor * torch.randn(tensor.shape, generator=draw)).sum() for tensor in outputs)
    total.backward()  # type: ignore[union-attr]
    return {name for name, parameter in module.named_parameters() if parameter.grad is None}


def trains(cut: Cut) -> str:
    """Whether training mode switches on what the model has of it, and a step can be made."""
    module = copy.deepcopy(cut.module).train()
    before = {name: b.clone() for name, b in module.named_buffers()}
    try:
        outputs = [call(module, cut.subject.inputs) for _ in range(2)]
    except RuntimeError as error:
        if "captured in evaluation mode" in str(error):
            return "refused: captured in evaluation mode"
        raise
    loss(outputs[0], cut.subject.examples.targets).mean().backward()
    torch.optim.SGD(module.parameters(), 1e-3).step()
    changed = apart(*outputs) > 0 or any(
        not torch.equal(b, before[name]) for name, b in module.named_buffers()
    )
    return YES if changed or not has_modes(cut.subject.model) else "evaluation mode is frozen"


def has_modes(model: nn.Module) -> bool:
    """Whether a layer of the model does something else in training."""
    norms, drops = nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd
    return any(isinstance(m, norms) or (isinstance(m, drops) and m.p) for m in model.modules())


class ByName(nn.Module):
    """Calls a network by name: torch.export itself hands keyword arguments on by their place.

    Args:
        network: that it calls.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, **kwargs: Any) -> Any:
        """What the network gives."""
        return self.network(**kwargs)


def exports(cut: Cut) -> str:
    """Whether ``torch.export`` takes the cut network, and gives the same."""
    inputs = cut.subject.inputs
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})

    with contextlib.suppress(Exception):  # how transformers itself exports networks with a cache
        from transformers.integrations import executorch

        executorch.register_dynamic_cache_export_support()

    def exported(module: nn.Module) -> nn.Module:
        by_name = ByName(module) if kwargs else module
        return torch.export.export(by_name, args, kwargs, strict=False).module()

    try:
        found = run(exported(cut.module), inputs)
    except Exception:
        try:
            exported(cut.subject.model)
        except Exception as error:  # it would be too much to ask of its part
            return f"the model itself: {in_words(error)}"
        raise
    return YES if apart(found, run(cut.module, inputs)) <= TOLERANCE else "other outputs"


def saves(cut: Cut) -> str:
    """Whether the whole cut network comes back from a file, and its keys are the model's."""
    added = sorted(cut.module.state_dict().keys() - cut.graph.module.state_dict().keys())
    added += sorted(cut.module.state_dict().keys() - cut.subject.model.state_dict().keys())
    if added:
        return f"new names in the state dict, such as {added[0].rpartition('.')[2]}"
    file = io.BytesIO()
    torch.save(cut.module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    inputs = cut.subject.inputs
    same = apart(run(loaded, inputs), run(cut.module, inputs)) <= TOLERANCE
    return YES if same else "other outputs after loading"


def other_batch(cut: Cut) -> str:
    """Whether one example more and a single one are right."""
    count = cut.subject.count
    answers = (on_others(cut, cut.subject.other(count=n)) for n in (count + 1, 1))
    return next((answer for answer in answers if answer != YES), YES)


def other_length(cut: Cut) -> str:
    """Whether shorter and longer texts are right."""
    answers = (on_others(cut, cut.subject.other(length=n)) for n in (LENGTH - 3, LENGTH + 5))
    return next((answer for answer in answers if answer != YES), YES)


def on_others(cut: Cut, inputs: Inputs) -> str:
    """Whether captured and cut networks are right on inputs of another size."""
    try:
        expected = run(cut.subject.model, inputs)
    except Exception as error:
        return f"the model itself: {in_words(error)}"
    if apart(run(cut.graph.module, inputs), expected) > TOLERANCE:
        return "other outputs: the captured network"
    if apart(run(cut.module, inputs), cut.gated(inputs)) > TOLERANCE:
        return "other outputs: the cut network"
    return YES


def without_cache(subject: Subject) -> Inputs:
    """The inputs, and the wish to have no keys and values of single layers among the outputs."""
    inputs = subject.inputs
    caches = getattr(getattr(subject.model, "config", None), "use_cache", False)
    return inputs | {"use_cache": False} if isinstance(inputs, dict) and caches else inputs


def dropped(graph: ComputationGraph, subject: Subject) -> tuple[Row, nn.Module | None]:
    """Whether a block, or else a branch, leaves the model in place; and what is left."""
    model, inputs = subject.model, without_cache(subject)
    row: Row = {"level": "", "dropped": ""}
    try:
        graph = graph if inputs is subject.inputs else structural.capture(model, inputs)
        for level in ("blocks", "residual"):
            with contextlib.suppress(NothingToRemove):
                found = at_level(graph, level)
                row["level"] = level
                break
        if not row["level"]:
            return row, None
        middle = found.candidates[len(found.candidates) // 2]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NotInPlace)
            smaller = structural.drop(model, found, [int(middle)])
    except Exception as error:
        return row | {"dropped": in_words(error)}, None
    if said := [str(w.message) for w in caught if issubclass(w.category, NotInPlace)]:
        return row | {"dropped": f"another module: {said[0]}"[:400]}, None
    with torch.no_grad():
        gates = as_gates(found, found.gates(found.without([middle]))[0])
        expected = found.outputs(gates, None, inputs)
    same = type(smaller) is type(model) and apart(run(smaller, inputs), expected) <= TOLERANCE
    return row | {"dropped": YES if same else "other outputs"}, smaller


def generates(model: Any, subject: Subject) -> str:
    """Whether a smaller model writes with its cache what it writes without."""
    inputs = {k: v for k, v in subject.inputs.items() if not k.startswith("decoder")}  # type: ignore[union-attr]

    def texts(one: Any) -> list[Tensor]:
        settings = {"max_new_tokens": 4, "do_sample": False, "num_beams": 1}
        return [one.generate(**inputs, **settings, use_cache=cache) for cache in (True, False)]

    try:
        with torch.no_grad():
            texts(subject.model)
    except Exception as error:
        return f"the model itself: {in_words(error)}"
    with torch.no_grad():
        return YES if torch.equal(*texts(model)) else "another text than without its cache"


def reloads(model: Any, subject: Subject) -> str:
    """Whether a smaller model comes back from the folder that it was saved in."""
    inputs = without_cache(subject)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = structural.load(type(model), folder)
    return YES if apart(run(again, inputs), run(model, inputs)) <= TOLERANCE else "other outputs"


def torch_pruning(subject: Subject) -> str:
    """Whether Torch-Pruning finds the dependencies of the network as it is."""
    import torch_pruning as tp

    tp.DependencyGraph().build_dependency(copy.deepcopy(subject.model), subject.inputs)
    return YES


def run(module: Callable[..., Any], inputs: Inputs) -> Any:
    """Outputs, without derivatives, for inputs that may be overwritten."""
    with torch.no_grad():
        return call(module, copy.deepcopy(inputs))


def apart(found: Any, expected: Any) -> float:
    """The largest difference of two outputs, relative to the largest value of each tensor; infinite
    where they are not of the same shapes.
    """
    ours, theirs = tensors(found), tensors(expected)
    if [o.shape for o in ours] != [t.shape for t in theirs]:
        return math.inf
    return max((_apart(o, t) for o, t in zip(ours, theirs, strict=True)), default=0.0)


def _apart(found: Tensor, expected: Tensor) -> float:
    if found.numel() == 0 or torch.equal(found, expected):
        return 0.0
    difference = (found.double() - expected.double()).abs().max()
    ratio = float(difference / expected.double().abs().max().clamp(min=1e-30))
    return math.inf if math.isnan(ratio) else ratio


def asked(question: Callable[[], str], seconds: float = 0.0) -> str:
    """The answer, or the reason why there is none."""
    try:
        if not seconds:
            return question()
        with limited(seconds):
            return question()
    except Exception as error:  # the measured code can raise anything
        return in_words(error)
    except TookTooLong:
        if not seconds:
            raise  # the limit of the whole row
        return f"took longer than {seconds:.0f} s"


def in_words(error: BaseException) -> str:
    """The first line of an error that says something, without folders of this machine."""
    lines = (" ".join(line.split()) for line in str(error).splitlines())
    text = re.sub(r"(?<![\w.:/])/(?:[\w.+-]+/)+", "", next((line for line in lines if line), ""))
    kind = type(error).__name__
    return (text if kind in ("InvalidInput", "NotCapturable") else f"{kind}: {text}")[:400]


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise ``TookTooLong`` after that time of a processor, whatever else the machine does.

    One limit may stand within another: the inner one has to be the shorter.
    """

    def stop(*_: Any) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGPROF, stop)
    rest, _ = signal.setitimer(signal.ITIMER_PROF, max(seconds, 0.01))
    start = time.process_time()
    try:
        yield
    finally:
        left = rest and max(rest - (time.process_time() - start), 0.01)
        signal.setitimer(signal.ITIMER_PROF, left)
        signal.signal(signal.SIGPROF, before)
