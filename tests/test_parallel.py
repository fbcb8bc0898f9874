import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from bogp.workflow.notebook import ipc

CELL = "from bogp import progress\nwith progress.bar(3, 'mask') as bar:\n    bar.update(2)\nprint('done')"


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


def outputs(source):
    notebook = new_notebook(cells=[new_code_cell(source)])
    with ipc() as config:
        NotebookClient(notebook, kernel_name="python3", config=config, store_widget_state=False).execute()
    nbformat.validate(notebook)
    return notebook.cells[0].outputs


def test_in_a_notebook_a_bar_leaves_nothing_that_cannot_be_shown_again(shown):
    bar, text = outputs(CELL)  # closed before it was full
    assert bar.output_type == "display_data" and bar.data == {}  # there was one
    assert text.text == "done\n"


def test_in_a_notebook_no_bar_is_shown_where_none_is_wanted(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    (text,) = outputs(CELL)
    assert text.text == "done\n"


def test_in_a_terminal_a_bar_is_a_line_that_is_wiped(shown):
    result = subprocess.run([sys.executable, "-c", CELL], check=True, capture_output=True, env=os.environ)
    assert b"mask" in result.stderr and result.stderr.endswith(b" \r")  # the line is filled with blanks
    assert result.stdout == b"done\n"


def test_no_bar_where_none_is_asked_for(shown, capsys):
    from bogp import parallel

    with parallel.progress_bar(3, "mask", show=False) as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")
