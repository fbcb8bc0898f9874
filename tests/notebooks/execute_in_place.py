"""Executes the notebooks in place with their defaults (smoke), as they are committed: ``make
notebooks``, or those whose numbers are given, ``python -m tests.notebooks.execute_in_place 08 10``.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from bogp.workflow.notebook import ipc

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def main(numbers: list[str]) -> None:
    """Run each notebook in its own folder, without times and other traces of the run in its
    metadata.
    """
    for path in NOTEBOOKS:
        if numbers and path.stem[:2] not in numbers:
            continue
        notebook = nbformat.read(path, as_version=4)
        where = {"metadata": {"path": str(path.parent)}}
        with ipc() as config:
            NotebookClient(
                notebook,
                timeout=600,
                kernel_name="python3",
                record_timing=False,
                resources=where,
                config=config,
            ).execute()
        notebook.metadata["language_info"] = {"name": "python"}
        notebook.metadata.pop("widgets", None)  # the state of progress bars
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
