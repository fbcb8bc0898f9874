"""Bad values handed to a notebook, its cells run in this process: a kernel for each would take most of the time of all tests.

That an error reaches the command line in one line is tested with kernels, in ``test_notebooks`` and for notebook 07.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat

from bogp.errors import BogpError
from bogp.workflow.notebook import check_parameters, declared_parameters


def refusal(notebook: Path, parameters: Mapping[str, Any]) -> str:
    """What the notebook says to those parameters.

    Raises:
        AssertionError: it ran to its end.
        Exception: what a cell raised, if it is no ``BogpError``.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        checked = check_parameters(declared_parameters(notebook), parameters)
        with plt.rc_context():
            for cell in nbformat.read(notebook, as_version=4).cells:
                if cell.cell_type == "code":
                    exec(compile(cell.source, notebook.name, "exec"), names)
                    names |= checked if "parameters" in cell.metadata.get("tags", []) else {}
    except BogpError as error:
        return str(error)
    finally:
        plt.close("all")
    raise AssertionError(f"{notebook.name} ran to its end with {dict(parameters)}")
