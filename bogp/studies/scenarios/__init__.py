"""Notebooks 12 and 13: removal, fine-tuning and transfer."""
