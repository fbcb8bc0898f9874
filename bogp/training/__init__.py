"""Networks with masks: protocols, the engine, pruning baselines, and the store that keeps every
evaluation.
"""
