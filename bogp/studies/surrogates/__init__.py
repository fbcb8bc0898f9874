"""Notebook 14: surrogates of the loss, and searches over masks of edges."""
