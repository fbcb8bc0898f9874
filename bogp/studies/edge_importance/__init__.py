"""Notebook 11: which score predicts what removing an edge does."""
