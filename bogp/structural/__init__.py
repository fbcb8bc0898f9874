"""Structural pruning: which parts of any network's own computation graph can go (the second paper).

>>> from bogp import structural
>>> graph = structural.capture(model, example_inputs)  # vertices, edges, candidates
>>> order = structural.removal_order(graph, examples, loss, "leave_one_out")
>>> smaller = structural.remove(graph, mask)  # an ordinary module without them
"""

from bogp.structural.graph import ComputationGraph
from bogp.structural.importance import importances, removal_order
from bogp.structural.surgery import cost, remove
from bogp.structural.tracing import capture

__all__ = ["ComputationGraph", "capture", "cost", "importances", "removal_order", "remove"]
