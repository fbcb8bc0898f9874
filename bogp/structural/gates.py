"""The losses of a network under many masks at once, by a gate on each edge.

A gate z multiplies what its consumer receives: z h + (1 - z) r, where h is the producer's value and
r the reference that stands in for a removed edge: zero, or the mean activation over the calibration
data. Gates are one vector for all examples, (E,), or one for each example, (N, E). The same network
then runs under as many masks as there are examples in the batch, and one backward pass gives all
derivatives by gates, example by example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from bogp.checks import whole
from bogp.errors import InvalidInput, NotCapturable, NotFinite, NothingToRemove
from bogp.structural.graph import (
    ComputationGraph,
    References,
    as_gates,
    check_ready,
    edge_values,
    open_gates,
)
from bogp.structural.journal import Journal, fingerprint
from bogp.structural.traced.containers import as_call, close, mapped, tensors_of
from bogp.structural.traced.nodes import Inputs
from bogp.structural.traced.passes import AT_ONCE, MEMORY, Passes, batch_that_fits

BATCH = 1024  # examples
IGNORED = -100  # a target that does not count, as in torch
SMALL = 2**18  # bytes of a value, up to which calling its operation takes a good part of the time
WORTH_IT = 8  # masks in a pass; fewer are no faster than passes that compute nothing twice
Loss = Callable[[Any, Tensor], Tensor]  # (outputs, targets) -> (N,), a loss for each example


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs and targets of N examples.

    Attributes:
        inputs: what the network is called with: a tuple of arguments or a mapping of keyword
            arguments, each tensor in them (N, ...). A single tensor becomes a tuple.
        targets: (N, ...), as the loss reads them.
    """

    inputs: Inputs
    targets: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.inputs, Mapping):
            object.__setattr__(self, "inputs", as_call(self.inputs)[0])
        tensors = (*tensors_of(self.inputs), self.targets)
        lengths = {len(t) for t in tensors}
        if len(lengths) != 1 or 0 in lengths:
            raise InvalidInput(
                f"Inputs and targets hold {sorted(lengths)} examples; the same number of each "
                "is needed, at least one."
            )
        if len(devices := {t.device for t in tensors}) > 1:
            raise InvalidInput(
                f"Inputs and targets lie on {' and '.join(sorted(map(str, devices)))}; one device "
                "is needed, that of the model."
            )

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, rows: slice | Tensor | NDArray[np.intp]) -> Examples:
        """Those of the examples."""
        return Examples(mapped(lambda i: i[rows], self.inputs), self.targets[rows])

    def batches(self, size: int) -> Iterator[Examples]:
        """All of the examples in order, at most ``size`` of them at a time.

        Raises:
            InvalidInput: no positive whole number.
        """
        step = min(whole("batch", size, 1), len(self))
        return (self.part(slice(start, start + step)) for start in range(0, len(self), step))


def cross_entropy(outputs: Any, targets: Tensor) -> Tensor:
    """(N,) mean cross-entropy of each example, in nats.

    Args:
        outputs: (N, C) class scores, or (N, T, C) scores of T tokens; or what holds them as
            ``logits``.
        targets: (N,) or (N, T) classes; those of -100 do not count.
    """
    scores = _wide(logits(outputs))
    losses = torch.nn.functional.cross_entropy(
        scores.flatten(0, -2), targets.flatten(), reduction="none"
    )
    losses = losses.view(len(targets), -1)
    if targets.dim() == 1:
        return losses.mean(dim=1)
    counts = (targets != IGNORED).flatten(1).sum(dim=1)
    return losses.sum(dim=1) / counts.clamp(min=1)


def next_token(outputs: Any, targets: Tensor) -> Tensor:
    """(N,) mean cross-entropy of each text's next tokens, in nats.

    Args:
        outputs: (N, T, C) scores, or what holds them as ``logits``; those of place t are for the
            token after it.
        targets: (N, T) the tokens themselves, unshifted; those of -100 do not count.
    """
    # The last place has no next token; to leave its scores out would copy all others.
    following = torch.nn.functional.pad(targets[:, 1:], (0, 1), value=IGNORED)
    return cross_entropy(outputs, following)


def own_loss(outputs: Any, targets: Tensor) -> Tensor:
    """(N,) the loss that the model gives itself, as ``outputs.loss``: a mean over the examples, so
    the same for each of them.

    Capture the model with what it needs for that, such as ``labels``.

    Raises:
        InvalidInput: the outputs hold no loss.
    """
    loss = _named(outputs, "loss")
    if loss is None:
        raise InvalidInput(
            f"The outputs ({type(outputs).__name__}) hold no loss; call the model with labels, or "
            "use cross_entropy or next_token, or a function of your own."
        )
    return loss.reshape(-1).expand(len(targets)) if loss.numel() == 1 else loss


def logits(outputs: Any) -> Tensor:
    """The scores among a model's outputs: its only tensor, or what is called ``logits``.

    Raises:
        InvalidInput: there is neither.
    """
    if isinstance(outputs, Tensor):
        return outputs
    found = _named(outputs, "logits")
    if found is None:
        raise InvalidInput(
            f"The outputs ({type(outputs).__name__}) hold no logits; write a loss that takes what "
            "it needs from them."
        )
    return found


def _named(outputs: Any, name: str) -> Tensor | None:
    found = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
    return found if isinstance(found, Tensor) else None


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(N,) mean squared error of each example."""
    return (_wide(outputs) - targets).square().flatten(1).mean(dim=1)


def _wide(outputs: Tensor) -> Tensor:
    """In float32 at least: 16 bits are too few for the small differences of losses."""
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """(N,) share of each example's answers that are right: 0 or 1 for (N, C) class scores."""
    return (outputs.argmax(dim=-1) == targets).to(outputs.dtype).view(len(targets), -1).mean(dim=1)


def losses_under(
    graph: ComputationGraph,
    masks: ArrayLike,
    examples: Examples,
    loss: Loss,
    *,
    references: References = None,
    batch: int = BATCH,
    memory: int = MEMORY,
) -> NDArray[np.float64]:
    """The mean loss under each mask.

    Small networks run under many masks in one batch; large ones under one after another, and
    nothing is computed twice that a removal leaves as it was.

    Args:
        graph: of the network.
        masks: (M, E), True where an edge stays.
        examples: N of them.
        loss: of each example; or several measures at once, (N, K).
        references: a value for each edge that stands in for it where it is removed
            (``mean_activations``); None is zero. With references a vertex whose inputs are all
            removed goes on and emits what it makes of them; with zeros it emits zero.
        batch: the most examples in one pass.
        memory: bytes that the values of a pass may take; fewer examples are taken at once to fit.

    Returns:
        (M,) mean losses, or (M, K) means.

    Raises:
        InvalidInput: no masks, a mask of the wrong length, no positive batch, or a layer in
            training mode.
        NotCapturable: the network does not keep the batch in the first dimension.
        NotFinite: a loss is NaN or infinite; names the first mask.
    """
    rows = graph.masks(masks)
    if len(rows) == 0:
        raise InvalidInput("There are no masks; one or more are needed.")
    whole("batch", batch, 1)
    whole("memory", memory, 1)
    check_ready(graph)
    gates = graph.gates(rows) if references is None else rows.astype(np.float64)
    distinct, back = np.unique(gates, axis=0, return_inverse=True)
    side_by_side = _side_by_side(graph, len(examples), batch, memory)
    if references is not None or side_by_side > 1:
        found = _in_one_batch(graph, distinct, examples, loss, references, side_by_side, batch)
    else:
        found = Removals(graph, examples, loss, batch, memory).losses(distinct == 0)
    return _finite(found[back.ravel()])


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise NotFinite(
            f"The loss under mask {bad[0]} is not finite ({values[bad[0]]}); check the "
            "weights, the data and the loss."
        )
    return values


def _side_by_side(graph: ComputationGraph, examples: int, batch: int, memory: int) -> int:
    """How many masks run best in one pass.

    Where values are small, calling an operation takes longer than computing it, and more masks in a
    pass cost little; where they are large, computing nothing twice gains more (``traced.passes``).
    """
    if not graph.batched or examples > batch:
        return 1
    program = graph.program
    most, together, nodes = program.bytes_of_example
    share = examples / program.count_of_example
    fits = memory / max(AT_ONCE * share * most, 1)
    fitting = int(min(fits, SMALL * nodes / max(share * together, 1)))
    return fitting if fitting >= WORTH_IT else 1


def _in_one_batch(
    graph: ComputationGraph,
    gates: NDArray[np.float64],
    examples: Examples,
    loss: Loss,
    references: References,
    side_by_side: int,
    batch: int,
) -> NDArray[np.float64]:
    """(M, ...) mean losses under (M, E) gates, several in each pass."""
    found: list[NDArray[np.float64]] = []

    def means(gates: Tensor) -> NDArray[np.float64]:
        count, total = len(gates), torch.zeros((), dtype=torch.float64, device=graph.device)
        for part in examples.batches(batch):
            inputs, targets, rows = part.inputs, part.targets, gates[0]
            if count > 1:
                inputs, targets = mapped(
                    lambda i: i.repeat(count, *[1] * (i.dim() - 1)), (inputs, targets)
                )
                rows = gates.repeat_interleave(len(part), dim=0)
            losses = loss(graph.outputs(rows, references, inputs), targets)
            check_losses(losses, count * len(part))
            total = total + losses.double().view(count, len(part), *losses.shape[1:]).sum(dim=1)
        return (total / len(examples)).cpu().numpy()

    with torch.inference_mode():
        for some in as_gates(graph, gates).split(side_by_side):
            try:
                found.append(means(some))
            except NotCapturable:
                # Masks side by side can exceed a batch that the examples alone do not.
                if len(some) == 1:
                    raise
                found += map(means, some.split(1))
    return np.concatenate(found)


class Removals:
    """Mean losses of a network without parts of it, computing nothing twice (``traced.passes``).

    Args:
        graph: of the network.
        examples: N of them.
        loss: of each example.
        batch: the most examples in one pass.
        memory: bytes that values may take; the batch is made smaller to fit.
        rounds: whether masks come in rounds that each add a removal to those before (greedy
            search), so that values are kept from round to round.
        record: a file that keeps each sum as it is measured; with it an interrupted scoring goes
            on. None for none.
        progress: shows a bar of the passes, with their rate.
    """

    def __init__(
        self,
        graph: ComputationGraph,
        examples: Examples,
        loss: Loss,
        batch: int = BATCH,
        memory: int = MEMORY,
        rounds: bool = False,
        record: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        self.graph, self.examples, self.loss, self.progress = graph, examples, loss, progress
        program = graph.program
        parts = list(examples.batches(batch_that_fits(program, batch, memory)))
        kept = memory // 2 if rounds else 0
        self.journal = None
        if record is not None:
            size = len(parts[0])
            belongs_to = fingerprint(graph, examples.inputs, examples.targets, size, named(loss))
            self.journal = Journal(record, belongs_to)
        self.passes = Passes(program, [(p.inputs, p.targets) for p in parts], self._sum, kept)

    def _sum(self, outputs: Any, targets: Tensor) -> Tensor:
        losses = self.loss(outputs, targets)
        check_losses(losses, len(targets))
        return losses.double().sum(dim=0)

    def under(self, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(M,) or (M, K) mean losses under (M, E) masks.

        Raises:
            NotFinite: a loss is NaN or infinite; names the first mask.
        """
        return _finite(self.losses(self.graph.gates(masks) == 0))

    def losses(self, closed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(M,) or (M, K) mean losses.

        Args:
            closed: (M, E) the edges whose gates are closed.
        """
        journal = self.journal
        of_sums: Any = {"dtype": torch.float64, "device": self.graph.device}

        def known(batch: int, mask: int) -> Tensor | None:
            total = None if journal is None else journal.known(batch, closed[mask])
            bar.update(total is not None)
            return None if total is None else torch.as_tensor(total, **of_sums)

        def done(batch: int, mask: int, total: Tensor) -> None:
            bar.update()
            if journal is not None:
                journal.note(batch, closed[mask], total)

        count = len(closed) * len(self.passes.parts)
        with (
            tqdm(total=count, unit="pass", desc="losses", disable=not self.progress) as bar,
            torch.inference_mode(),
            self.graph.sizes_in_words(self.examples.inputs),
        ):
            totals = self.passes.totals(closed, known, done)
        return (torch.stack(totals) / len(self.examples)).cpu().numpy()


def named(function: Any) -> str:
    """The name of a function, to tell it from others in a file."""
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"


def check_losses(losses: Tensor, count: int) -> None:
    """Refuse what is not one loss an example.

    Raises:
        InvalidInput: says which shape there was.
    """
    if not isinstance(losses, Tensor) or losses.dim() not in (1, 2) or len(losses) != count:
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise InvalidInput(
            f"The loss gave {shape} for {count} examples; it returns one value for each "
            "(reduction='none')."
        )


def single_removals(graph: ComputationGraph) -> NDArray[np.bool_]:
    """(C, E) the masks that remove one candidate edge each.

    Raises:
        NothingToRemove: the graph has no candidates.
    """
    candidates = graph.candidates
    if len(candidates) == 0:
        reasons = "; ".join(f"{e.producer} to {e.consumer}: {e.why_kept}" for e in graph.edges[:5])
        raise NothingToRemove(
            f"The network has no edge that can be removed ({reasons}). Branches that meet in "
            "a sum or a concatenation can."
        )
    return ~np.eye(len(graph.edges), dtype=bool)[candidates]


def leave_one_out(
    graph: ComputationGraph,
    examples: Examples,
    loss: Loss,
    *,
    references: References = None,
    batch: int = BATCH,
    memory: int = MEMORY,
    record: str | Path | None = None,
    progress: bool = False,
) -> NDArray[np.float64]:
    """(C,) the exact change of the mean loss when each candidate edge is removed alone: positive
    where the loss grows (loss-based importance).

    Args:
        graph, examples, loss, references, batch, memory: as for ``losses_under``.
        record: a file that keeps what was measured, with which an interrupted scoring goes on; it
            takes one pass for each removal, without references. None for none.
        progress: shows a bar.
    """
    masks = np.concatenate([np.ones((1, len(graph.edges)), dtype=bool), single_removals(graph)])
    if references is None and (record is not None or progress):
        check_ready(graph)
        removals = Removals(graph, examples, loss, batch, memory, record=record, progress=progress)
        losses = removals.under(masks)
    else:
        losses = losses_under(
            graph, masks, examples, loss, references=references, batch=batch, memory=memory
        )
    return losses[1:] - losses[0]


def mean_activations(
    graph: ComputationGraph, examples: Examples, batch: int = 1024
) -> list[Tensor | None]:
    """The mean of each edge's value over the examples, to stand in for removed edges; None where it
    carries no floating-point numbers.

    Raises:
        InvalidInput: a layer in training mode.
        NotCapturable: the network does not keep the batch in the first dimension, over which the
            mean is taken.
    """
    check_ready(graph, for_each_example=True)
    types: dict[str, torch.dtype] = {}
    sums: list[Tensor | None] = [None] * len(graph.edges)
    with torch.inference_mode():
        for part in examples.batches(batch):
            values = edge_values(graph, part.inputs)
            for edge in graph.edges:
                if edge.is_floating:
                    value, before = values[edge.producer], sums[edge.index]
                    here, types[edge.producer] = value.double().sum(dim=0), value.dtype
                    sums[edge.index] = here if before is None else before + here
    pairs = zip(sums, graph.edges, strict=True)
    return [None if s is None else (s / len(examples)).to(types[e.producer]) for s, e in pairs]


def spread(outputs: Any, targets: Tensor) -> list[Tensor]:
    """The outputs that have a dimension; others, such as a mean loss, are of all examples."""
    return [tensor for tensor in tensors_of(outputs) if tensor.dim()]


def stand_alone(graph: ComputationGraph, examples: Examples, of: Callable[..., Any]) -> bool:
    """Whether each example alone gives what it gives among the others.

    Args:
        graph: of the network.
        examples: N of them.
        of: what is compared, (outputs, targets) -> tensors whose first dimension grows with N.
    """
    ones = open_gates(graph)

    def given(some: Examples) -> list[Tensor]:
        return tensors_of(of(graph.outputs(ones, None, some.inputs), some.targets))

    try:
        with torch.inference_mode():
            single = zip(*map(given, examples.batches(1)), strict=True)
            pairs = zip(single, given(examples), strict=True)
            return all(close(torch.cat(alone), among, least=1e-4) for alone, among in pairs)
    except (NotCapturable, RuntimeError, ValueError):  # the batch has another size, or none
        return False
