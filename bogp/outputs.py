"""What a notebook hands out: ``out.table(df, "history")``, ``out.figure(fig, "trace")``,
``out.answer("...")``; and tables in Markdown.

The workflow reads the names from the notebook's own code, so that each is typed once: they are
literals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bogp import paths, plotting
from bogp.records import write_table

_CAUTION = " *(A small run: it shows that the machinery works, and answers nothing.)*"


@dataclass(frozen=True)
class Outputs:
    """Where the tables, figures and evaluations of one notebook go, and what stands beside each
    table.

    Attributes:
        run: folder of results and figures, such as ``smoke`` or ``paper``.
        notebook: its name, such as ``03_fixed_sparsity_bo``: the folder of its tables; figures
            begin with its number.
        case: what its files begin with where one notebook runs for several cases, such as
            ``calibrated_s0.60``.
        parameters: what all its tables depend on, seeds included.
        inputs: files that were read; tables hold their checksums.
    """

    run: str
    notebook: str
    case: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Path] = ()

    def __post_init__(self) -> None:
        plotting.use_style()

    def path(self, name: str) -> Path:
        """The CSV of a table."""
        return paths.results_dir(self.run) / self.notebook / f"{self._named(name)}.csv"

    @property
    def evaluations(self) -> Path:
        """The Parquet file of the evaluations behind the notebook."""
        return (
            paths.evaluations_dir(self.run)
            / f"{'_'.join(filter(None, [self.notebook, self.case]))}.parquet"
        )

    @property
    def units(self) -> Path:
        """The folder of tables that are found again by their parameters (``records.kept``)."""
        return paths.evaluations_dir(self.run) / self.notebook

    def table(
        self, table: pd.DataFrame, name: str, parameters: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Write a table with its provenance, and give it back.

        Args:
            table: tidy, one observation a row.
            name: of the table, without ending.
            parameters: what it depends on beyond those of all tables.

        Raises:
            BogpError: it cannot be written.
        """
        write_table(table, self.path(name), {**self.parameters, **(parameters or {})}, self.inputs)
        return table

    def figure(self, figure: Figure, name: str) -> None:
        """Save a figure as PDF and PNG; the notebook shows it where it was drawn.

        Raises:
            BogpError: it cannot be written.
        """
        plotting.save(figure, self.run, f"{self.notebook[:2]}_{self._named(name)}")

    def answer(self, text: str) -> Any:
        """The answer to the notebook's question, shown as Markdown: the last expression of a
        cell.
        """
        from IPython.display import Markdown

        return Markdown(f"**Answer.** {text}{_CAUTION if self.run == 'smoke' else ''}")

    def _named(self, name: str) -> str:
        return f"{self.case}_{name}" if self.case else name


def as_markdown(table: pd.DataFrame) -> str:
    """A table of texts and whole numbers in Markdown."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict(met: bool, judged: bool = True) -> str:
    """Whether a target is met, in words; ``no verdict`` where a run is too small to judge."""
    return ("met" if met else "not met") if judged else "no verdict"


def with_interval(row: Mapping[str, float], form: str = ".4f") -> str:
    """A mean with its interval in words, such as ``0.9712 [0.9698, 0.9726]``.

    Args:
        row: ``mean``, ``low`` and ``high``, such as a row of a table or ``vars`` of an interval.
        form: format of each number.

    Returns:
        The text; the mean alone where there is no interval, and ``undefined`` without a mean.
    """
    mean, low, high = row["mean"], row["low"], row["high"]
    if pd.isna(mean):
        return "undefined"
    return f"{mean:{form}}" + ("" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]")
