"""Notebook 01: is accuracy a monotone function of graph properties?"""
