"""bogp: Bayes Optimal Neural Network Pruning using Relational Graph Properties, reproduced and
audited.

The package has eight rooms, and modules on the ground that all of them share (errors, checks,
paths, records, statistics, plotting and more). Nothing heavy is imported here: import what you
need, such as ``from bogp.graphs import families, properties``.

    graphs      masks as graphs: relational, families, properties, database
    training    protocols, the engine, baselines, evaluation, the store; builds on graphs
    search      searchers, the loop around them, and your_network; builds on training
    benchmark   4,000 masks with everything trained, for methods of search; builds on graphs
    structural  which parts of a network's own computation graph can go; needs the ground alone
    zoo         small networks, trained ones too, and tasks for structural
    studies     a folder for each notebook: measure, tables, plots; no other room imports it
    workflow    run a notebook, check a machine (doctor), run all of it (batch)
"""

__version__ = "0.1.0"
