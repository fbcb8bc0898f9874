"""Notebook 09: graphs with places, searched, and compared with the field."""
