"""Notebook 05: magnitude pruning and its peers beside the search."""
