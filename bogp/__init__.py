"""bogp: Bayes Optimal Neural Network Pruning using Relational Graph Properties, reproduced and audited.

Nothing heavy is imported here; import the module that you need, for example ``from bogp import masks, properties``.
The modules stand on floors, and each imports only from the floors below its own:

    0  errors, checks, paths, progress, provenance, datasets, relational, masks, protocols, and
       compiled, bitsets, connectivity, centrality, properties (each from those before it)
    1  database, store, training (with compiled_networks and tensor_networks under it)
    2  scores, baselines, labelled (features of graphs whose nodes hold pixels)
    3  evaluation
    4  search, statistics, components (of variance)
    5  claims; controls (other proposers and recommenders)
    6  motivation (notebook 01); tradeoff, front, table_2 (04); comparison, table_1 (05); audit (06)
    7  figures
    8  run
"""

__version__ = "0.1.0"
