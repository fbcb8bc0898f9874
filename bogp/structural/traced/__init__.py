"""A traced network: its nodes, what goes in and out, its sizes, and passes through it."""
