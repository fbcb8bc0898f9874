"""Notebook 15: whole blocks removed from trained networks, before and after fine-tuning."""
