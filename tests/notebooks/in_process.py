"""A notebook's cells run in this process: a kernel for each would take most of the time of all
tests.

That notebooks run in kernels, and that an error then reaches the command line in one line, is
tested in ``test_notebooks`` and for notebook 07.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib.pyplot as plt
import nbformat

from bogp.errors import BogpError
from bogp.workflow.notebook import check_parameters, declared_parameters


def run(notebook: Path, parameters: Mapping[str, Any], *, save_figures: bool = True) -> None:
    """Run a notebook to its end; what cells print is printed, what they show is dropped.

    Args:
        notebook: its file.
        parameters: other values than its defaults.
        save_figures: whether figures are written, which takes seconds; a second run whose tables
            alone are looked at needs none.

    Raises:
        BogpError: a parameter is refused.
        Exception: what a cell raised.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    checked = check_parameters(declared_parameters(notebook), parameters)
    saving = nullcontext() if save_figures else mock.patch("bogp.plotting.save", return_value=[])
    try:
        with plt.rc_context(), saving:
            for cell in nbformat.read(notebook, as_version=4).cells:
                if cell.cell_type == "code":
                    exec(compile(cell.source, notebook.name, "exec"), names)
                    names |= checked if "parameters" in cell.metadata.get("tags", []) else {}
    finally:
        plt.close("all")


def refusal(notebook: Path, parameters: Mapping[str, Any]) -> str:
    """What the notebook says to those parameters.

    Raises:
        AssertionError: it ran to its end.
        Exception: what a cell raised, if it is no ``BogpError``.
    """
    try:
        run(notebook, parameters)
    except BogpError as error:
        return str(error)
    raise AssertionError(f"{notebook.name} ran to its end with {dict(parameters)}")
