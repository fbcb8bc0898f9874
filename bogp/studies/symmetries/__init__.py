"""Notebook 08: what a network can know of its mask."""
