"""Structural pruning of any network's computation graph (paper "Surrogate-based neural network structural pruning").

The first group is for any model, the second what notebooks 10 to 14 try it on:

    capture    a network's vertices and edges
    gates      a gate on each edge; losses under many masks at once
    taylor     the change of the loss, predicted from derivatives by the gates
    scores     importance of edges, and the order in which they go
    surgery    the pruned network as an ordinary, smaller one, and what it costs
    surrogate  models that predict the loss of a mask from evaluated masks
    search     masks of a fixed number of removed edges

    zoo        small networks with branches
    data       CIFAR-10 and WikiText-2
    tasks      what the networks learn, in four disjoint parts, and their training
    examples   what capture takes and what it refuses (notebook 10)
    importance how well scores predict (11)
    scenarios  prune, prune and fine-tune, transfer; scenario_tables what is made of it (12, 13)
    ranking    surrogates and searches on random graphs (14)
    answers    the questions with what was found, from the notebooks' tables
"""
