"""Masks as relational graphs: families that draw them, properties that measure them, databases that
keep them.
"""
