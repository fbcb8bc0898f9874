"""Executes the notebooks in place with their defaults (smoke), as they are committed: ``make
notebooks``.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from bogp.workflow.notebook import ipc

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def main() -> None:
    """Run each notebook in its own folder, without times and other traces of the run in its
    metadata.
    """
    for path in NOTEBOOKS:
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
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main()
