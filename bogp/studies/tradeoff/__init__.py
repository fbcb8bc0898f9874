"""Notebook 04: accuracy traded against sparsity."""
