"""What a notebook hands out: tables, figures and Markdown."""

import pandas as pd


def as_markdown(table: pd.DataFrame) -> str:
    """A table of texts and whole numbers in Markdown, as it stands in the README."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
