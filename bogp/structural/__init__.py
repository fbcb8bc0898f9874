"""Structural pruning of any network's computation graph (paper "Surrogate-based neural network structural pruning").

capture    a network's vertices and edges
gates      a gate on each edge; losses under many masks at once
taylor     the change of the loss, predicted from derivatives by the gates
scores     importance of edges: the baselines
surgery    the pruned network as an ordinary, smaller one
surrogate  models that predict the loss of a mask
search     masks of a fixed number of removed edges
scenarios  prune, prune and fine-tune, transfer
zoo        small networks with branches; tasks the data that they learn
"""
