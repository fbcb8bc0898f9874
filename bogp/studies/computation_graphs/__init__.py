"""Notebook 10: graphs of four small networks, and removals carried out."""
