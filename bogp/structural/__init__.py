"""Structural pruning: which parts of any network's own computation graph can go (the second paper).

>>> from bogp import structural
>>> small = structural.prune(model, (inputs, targets), structural.cross_entropy)  # in one call
>>> graph = structural.capture(model, inputs, level="blocks")  # or step by step: what can go
>>> order = structural.removal_order(graph, examples, loss, "leave_one_out")
>>> smaller = structural.drop(model, graph, order[:2])  # the same class, two layers less
>>> smaller = structural.remove(graph, mask)  # or an ordinary module without any edges
"""

from bogp.structural.drop import drop, load
from bogp.structural.gates import (
    Examples,
    cross_entropy,
    leave_one_out,
    next_token,
    own_loss,
    squared_error,
)
from bogp.structural.graph import ComputationGraph
from bogp.structural.importance import importances, removal_order
from bogp.structural.pruning import Pruned, prune
from bogp.structural.surgery import cost, remove
from bogp.structural.tracing import capture

__all__ = [
    "ComputationGraph",
    "Examples",
    "Pruned",
    "capture",
    "cost",
    "cross_entropy",
    "drop",
    "importances",
    "leave_one_out",
    "load",
    "next_token",
    "own_loss",
    "prune",
    "removal_order",
    "remove",
    "squared_error",
]
