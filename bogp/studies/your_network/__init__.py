"""Notebook 07: masks for a network of one's own."""
