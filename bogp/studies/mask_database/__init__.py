"""Notebook 02: what masks of one sparsity span."""
