"""One folder for each notebook: what is measured, its tables, its plots."""
