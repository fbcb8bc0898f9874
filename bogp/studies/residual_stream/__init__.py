"""Notebook 16: one graph on every block of a residual stream, and of a transformer."""
