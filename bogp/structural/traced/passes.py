"""Losses under many masks, one pass for each, that computes nothing twice.

A removal changes nothing before the value that it takes away, and makes all that led only there
unneeded. So each pass begins where its mask first differs from the one before (masks are sorted so
that this is late), takes the values there as they are kept, and leaves out what leads nowhere. For
the removals of single layers, one after another, that is half of the work of whole passes, less the
removed layers themselves.

For greedy search ``Passes`` also keeps the values at which removals can begin from one round to the
next, as far as its memory reaches.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from bogp.errors import InvalidInput
from bogp.structural.traced.containers import positional, tensors_of
from bogp.structural.traced.nodes import (
    SUBTRACTIONS,
    SUMS,
    Inputs,
    arguments,
    bypass,
    last,
    node_values,
    with_arguments,
)

Cut = frozenset[int]  # the slots of a node whose edges are cut
MEMORY = 2**30  # bytes, the default
AT_ONCE = 3  # values of a pass stand in memory as kept ones, current ones, and within an operation


class State(NamedTuple):
    """A pass that has come as far as a node.

    Attributes:
        position: of the next node.
        values: of those before it that later ones read.
        constants: of the network.
    """

    position: int
    values: dict[fx.Node, Any]
    constants: Mapping[fx.Node, Any]


@dataclass(frozen=True, eq=False)
class Program:
    """A traced network as a list of steps.

    Attributes:
        module: the network.
        edges: of its graph, as ``graph.Edge``.
        inputs: an example.
    """

    module: fx.GraphModule
    edges: Sequence[Any]
    inputs: Inputs

    @cached_property
    def nodes(self) -> list[fx.Node]:
        """In an order in which each comes only when it is needed.

        So what a removal makes unneeded lies together, and passes part late.
        """
        graph = self.module.graph
        first = [n for n in graph.nodes if n.op == "placeholder" or n.target is torch._assert]
        found: dict[fx.Node, None] = {}
        ahead = [*reversed([*first, last(graph)])]
        while ahead:
            missing = [a for a in arguments(ahead[-1]) if a not in found]
            if missing:
                ahead += reversed(missing)
            else:
                found.setdefault(ahead.pop())
        return list(found)

    @cached_property
    def place(self) -> dict[fx.Node, int]:
        """The position of each node."""
        return {node: i for i, node in enumerate(self.nodes)}

    @cached_property
    def last_use(self) -> dict[fx.Node, int]:
        """The position of the last node that reads each."""
        place = self.place
        users = {n: [place[u] for u in n.users if u in place] for n in self.nodes}
        return {n: max(users[n], default=place[n]) for n in self.nodes}

    @cached_property
    def dies_at(self) -> list[list[fx.Node]]:
        """The nodes whose values nobody reads after each position."""
        found: list[list[fx.Node]] = [[] for _ in self.nodes]
        for node, position in self.last_use.items():
            if node.op != "get_attr":
                found[position].append(node)
        return found

    def constants(self) -> dict[fx.Node, Any]:
        """What the network reads of its own, as it is now: parameters and buffers."""
        read = (n for n in self.nodes if n.op == "get_attr")
        return {n: operator.attrgetter(str(n.target))(self.module) for n in read}

    @cached_property
    def example(self) -> dict[str, Any]:
        """What each node gives on the example inputs: a tensor without its numbers, or a list."""
        values = node_values(self.module, self.inputs)
        forms = {name: [t.to("meta") for t in tensors_of(value)] for name, value in values.items()}
        return {n: form[0] if isinstance(values[n], Tensor) else form for n, form in forms.items()}

    @cached_property
    def bytes_of_example(self) -> tuple[int, int, int]:
        """Of the example: the most bytes that values take at once, all together, and how many."""
        sizes = {n: _bytes(self.example[n.name]) for n in self.nodes if n.op != "get_attr"}
        now = most = 0
        for position, node in enumerate(self.nodes):
            now += sizes.get(node, 0)
            most = max(most, now)
            now -= sum(sizes[n] for n in self.dies_at[position])
        large = [size for size in sizes.values() if size]
        return most, sum(large), len(large)

    @cached_property
    def count_of_example(self) -> int:
        """How many examples there are in the example inputs."""
        tensors = tensors_of(self.inputs)
        return next((len(t) for t in tensors if t.dim()), 1)

    def plans(self, closed: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[Cut]]:
        """What each mask does at each node.

        Args:
            closed: (M, E) the edges whose gates are closed.

        Returns:
            (M, n) 0 where a node is left out, else one more than the index of what is cut there, in
            the list that follows.
        """
        cuts: list[Cut] = [frozenset()]
        known = {cuts[0]: 1}
        slots: dict[str, list[tuple[int, int]]] = {}
        for edge in self.edges:
            if closed[:, edge.index].any():
                slots.setdefault(edge.consumer, []).append((edge.slot, edge.index))
        plans = np.zeros((len(closed), len(self.nodes)), dtype=np.int32)
        needed = np.zeros((len(self.nodes), len(closed)), dtype=bool)
        for position in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[position]
            if node.op == "output" or node.target is torch._assert:
                needed[position] = True
            row = needed[position]
            mine = dict(slots.get(node.name, ()))
            code = np.ones(len(closed), dtype=np.int32)
            if mine:
                gone = closed[:, list(mine.values())]
                for which, pattern in enumerate(map(tuple, gone)):
                    cut = frozenset(s for s, g in zip(mine, pattern, strict=True) if g)
                    if cut not in known:
                        known[cut] = len(known) + 1
                        cuts.append(cut)
                    code[which] = known[cut]
            plans[:, position] = np.where(row, code, 0) if node.op != "get_attr" else 0
            for slot, source in enumerate(arguments(node)):
                reads = row
                if node.target is bypass:  # reads one of its arguments
                    skipped = closed[:, mine[1]] if 1 in mine else np.zeros(len(closed), bool)
                    reads = row & (skipped if slot == 0 else ~skipped)
                elif slot in mine:
                    reads = row & ~closed[:, mine[slot]]
                needed[self.place[source]] |= reads
        return plans, cuts

    def run(
        self,
        state: State,
        plan: NDArray[np.int32],
        cuts: Sequence[Cut],
        forms: Callable[[], Mapping[str, Any]],
        stops: Sequence[int] = (),
    ) -> Iterator[State | Any]:
        """Go on from a state to the end.

        Args:
            state: where to begin; it stays as it is.
            plan: (n,) a row of ``plans``.
            cuts: with it.
            forms: gives each node's value, where the form of a cut one is needed.
            stops: positions before which the state is handed out.

        Yields:
            The states before the stops, then what the network gives.
        """
        env = dict(state.values)
        ahead = list(reversed(stops))
        for position in range(state.position, len(self.nodes)):
            if ahead and position == ahead[-1]:
                ahead.pop()
                yield State(position, dict(env), state.constants)
            node = self.nodes[position]
            if plan[position] and node not in env:
                cut = cuts[plan[position] - 1]
                result = self._step(node, cut, env, state.constants, forms)
                if node.op == "output":
                    yield result
                    return
                env[node] = result
            for dead in self.dies_at[position]:
                env.pop(dead, None)

    def begin(self, inputs: Inputs) -> State:
        """The state before the first operation."""
        given = iter(positional(self.module, inputs))
        placeholders = [n for n in self.nodes if n.op == "placeholder"]
        values = {n: next(given, n.args[0] if n.args else None) for n in placeholders}
        return State(0, values, self.constants())

    def _step(
        self,
        node: fx.Node,
        cut: Cut,
        env: Mapping[fx.Node, Any],
        constants: Mapping[fx.Node, Any],
        forms: Callable[[], Mapping[str, Any]],
    ) -> Any:
        def value(a: fx.Node) -> Any:
            return env[a] if a in env else constants[a]

        if node.target is bypass:
            return value(node.args[0 if cut else 1])  # type: ignore[arg-type]
        if cut:
            if (kept := self._of_sum(node, cut)) is not None:
                side, factor = kept
                return value(side) if factor == 1 else value(side) * factor
            zeros = {
                slot: torch.zeros_like(forms()[a.name]) if slot in cut else value(a)
                for slot, a in enumerate(arguments(node))
            }
            args, kwargs = with_arguments(node, zeros)
        else:
            args = fx.node.map_arg(node.args, value)
            kwargs = fx.node.map_arg(node.kwargs, value)
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if node.op == "call_module":
            return self.module.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return args[0]

    def _of_sum(self, node: fx.Node, cut: Cut) -> tuple[fx.Node, float] | None:
        """What is left of a sum of two values of its own form, and its factor; None where zeros
        have to stand in.
        """
        both = arguments(node)
        if node.target not in SUMS or len(both) != 2 or len(node.args) != 2 or len(cut) != 1:
            return None
        total, *sides = (self.example[n.name] for n in (node, *both))
        if any(not isinstance(s, Tensor) or s.dtype != total.dtype for s in sides):
            return None
        if 1 in total.shape or any(s.shape != total.shape for s in sides):
            return None
        (slot,) = cut
        sign = -1 if node.target in SUBTRACTIONS else 1
        factor: Any = node.kwargs.get("alpha", 1)
        return (both[0], 1) if slot == 1 else (both[1], sign * factor)


def _bytes(value: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors_of(value))


def order_of(plans: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """An order of masks in which neighbours differ late, and where each differs from the next.

    Args:
        plans: (M, n).

    Returns:
        (M,) the order, and (M,) the first position at which each, in this order, differs from the
        one after it; n for the last.
    """
    if len(plans) == 0:
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    order = np.lexsort(plans.T[::-1])
    rows = plans[order]
    differs = rows[1:] != rows[:-1]
    first = np.where(differs.any(axis=1), differs.argmax(axis=1), plans.shape[1])
    return order, np.append(first, plans.shape[1])


class Passes:
    """Mean losses of a network on some examples under any masks.

    Args:
        program: the network.
        parts: inputs and targets, in batches.
        sums: of outputs and targets the sum of each measure over the examples, () or (K,).
        kept: bytes that values may take which are kept from one call to the next.
    """

    def __init__(
        self,
        program: Program,
        parts: Sequence[tuple[Inputs, Tensor]],
        sums: Callable[[Any, Tensor], Tensor],
        kept: int = 0,
    ) -> None:
        self.program, self.parts, self.sums, self.memory = program, parts, sums, kept
        self.steps = 0  # nodes that were computed
        self.most_kept = 0  # bytes
        self._kept: dict[tuple[int, int, bytes], tuple[State, int]] = {}

    def totals(
        self,
        closed: NDArray[np.bool_],
        known: Callable[[int, int], Tensor | None] = lambda batch, mask: None,
        done: Callable[[int, int, Tensor], None] = lambda batch, mask, total: None,
    ) -> list[Tensor]:
        """The sums over all examples under each mask.

        Args:
            closed: (M, E) the edges whose gates are closed.
            known: gives the sum over a batch under a mask, by their numbers, where it is known.
            done: is called with the number of a batch, of a mask, and the sum, as they come.
        """
        plans, cuts = self.program.plans(closed)
        found: list[Any] = [None] * len(closed)
        for number, (inputs, targets) in enumerate(self.parts):
            before = [known(number, mask) for mask in range(len(closed))]
            open_ = [mask for mask, total in enumerate(before) if total is None]
            order, differs = order_of(plans[open_])
            self._forget(number, plans[open_], sorted(set(differs[:-1].tolist())))
            for rank, outputs in self._outputs(number, inputs, plans[open_], cuts, order, differs):
                before[open_[rank]] = total = self.sums(outputs, targets)
                done(number, open_[rank], total)
            pairs = zip(found, before, strict=True)
            found = [total if sum_ is None else sum_ + total for sum_, total in pairs]
        return found

    def _outputs(
        self,
        number: int,
        inputs: Inputs,
        plans: NDArray[np.int32],
        cuts: Sequence[Cut],
        order: NDArray[np.intp],
        differs: NDArray[np.intp],
    ) -> Iterator[tuple[int, Any]]:
        """The outputs of one batch under each mask, with its number."""
        program, known = self.program, dict[str, Any]()
        where = sorted(set(differs[:-1].tolist()))

        def forms() -> Mapping[str, Any]:
            if not known:  # a whole pass, for the few operations that need it
                known.update(node_values(program.module, inputs))
            return known

        path = [program.begin(inputs)]  # states of the current mask that later ones begin with
        for rank, mask in enumerate(order):
            plan = plans[mask]
            state = self._latest(number, plan, where, path[-1])
            begins = _begins(differs[rank:], state.position)
            stops = {*begins, *(where if self.memory else ())}
            ahead = sorted(s for s in stops if s > state.position)
            for step in program.run(state, plan, cuts, forms, ahead):
                if not isinstance(step, State):
                    yield int(mask), step
                    break
                if step.position in begins:
                    path.append(step)
                self._keep(number, plan, step)
            self.steps += int(np.count_nonzero(plan[state.position :]))
            path = [s for s in path if s.position <= differs[rank]]

    def _latest(
        self, number: int, plan: NDArray[np.int32], where: Sequence[int], other: State
    ) -> State:
        """The kept state that is furthest on the way of a plan."""
        for position in reversed(where) if self._kept else ():
            if position <= other.position:
                break
            if found := self._kept.get((number, position, plan[:position].tobytes())):
                return found[0]
        return other

    def _keep(self, number: int, plan: NDArray[np.int32], state: State) -> None:
        if not self.memory:
            return
        key = (number, state.position, plan[: state.position].tobytes())
        size = _bytes(list(state.values.values()))
        kept = sum(size for _, size in self._kept.values())
        if key not in self._kept and kept + size <= self.memory:
            self._kept[key] = (state, size)
            self.most_kept = max(self.most_kept, kept + size)

    def _forget(self, batch: int, plans: NDArray[np.int32], where: Sequence[int]) -> None:
        """Let go of a batch's states that no plan comes by."""
        useful = {(at, plan[:at].tobytes()) for plan in plans for at in where} if self._kept else ()
        self._kept = {
            key: kept for key, kept in self._kept.items() if key[0] != batch or key[1:] in useful
        }


def _begins(differs: NDArray[np.intp], position: int) -> set[int]:
    """Where, on the way of a mask, later ones begin that no state before serves as well.

    Args:
        differs: where the mask and those after it differ from the next.
        position: where the mask itself begins.
    """
    found, least = set(), np.iinfo(np.intp).max
    for at in differs[:-1].tolist():
        least = min(least, at)
        if least <= position:
            break
        found.add(least)
    return found


def batch_that_fits(program: Program, batch: int, memory: int) -> int:
    """The most examples in a pass, at most ``batch``, so that its values fit into the memory.

    Raises:
        InvalidInput: one example does not fit.
    """
    each = AT_ONCE * program.bytes_of_example[0] // program.count_of_example
    if each > memory:
        raise InvalidInput(
            f"memory is {memory:,} bytes; the values of one example take about {each:,}. Give "
            "more, or inputs of a smaller size."
        )
    return max(1, min(batch, memory // max(each, 1)))
