"""Notebook 17 and the data behind it: the benchmark of masks (``bogp.benchmark``)."""
