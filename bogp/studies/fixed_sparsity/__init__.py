"""Notebook 03: does the search beat random search at a fixed sparsity?"""
