import json
import tempfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from bogp.errors import BogpError, InvalidInput
from bogp.workflow.notebook import _yaml as yaml_text
from bogp.workflow.notebook import (
    check_parameters,
    declared_parameters,
    main,
    output_names,
    parse_value,
)

PARAMETERS = """sparsity: float = 0.6  # share of zeros
seed: int = 0  # of everything
tag: str = "smoke"  # name of the run
sizes: list[float] = [0.6, 0.9]  # sparsities
quick: bool = True  # a few masks only
target: str = ""  # where the last cell writes"""
TYPES = {
    "sparsity": "float",
    "seed": "int",
    "tag": "str",
    "sizes": "list[float]",
    "quick": "bool",
    "target": "str",
}
WRITE = """import json, pathlib
names = ["sparsity", "seed", "tag", "sizes", "quick"]
found = {name: [type(globals()[name]).__name__, globals()[name]] for name in names}
pathlib.Path(target).write_text(json.dumps(found))"""


@pytest.fixture
def notebook(home):
    def write(*cells, parameters=PARAMETERS):
        first = [new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
        path = home / "notebook.ipynb"
        kernel = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
        nbformat.write(
            new_notebook(cells=[*first, *map(new_code_cell, cells)], metadata=kernel), path
        )
        return path

    return write


@pytest.fixture
def refused(home, notebook, capsys):
    """Run a good notebook with bad arguments; returns what stands on stderr."""

    def call(*arguments, path=None):
        out = home / "results" / "out.ipynb"
        status = main([str(path or notebook(WRITE)), str(out), "--no-progress", *arguments])
        assert status == 1
        assert not out.exists()  # refused before anything ran
        message = capsys.readouterr().err
        assert message.startswith("bogp: ")
        assert "Traceback" not in message
        assert len(message.splitlines()) <= 2
        return message

    return call


def test_a_notebook_runs_with_typed_parameters_and_later_sources_win(home, notebook, capsys):
    (home / "first.yaml").write_text("seed: 1\nsparsity: 0.1\nquick: false\n")
    (home / "second.yaml").write_text("seed: 2\ntag: second\n")
    out, target = home / "new" / "folder" / "out.ipynb", home / "values.json"
    files = ["-f", str(home / "first.yaml"), "-f", str(home / "second.yaml")]
    singles = {"sparsity": "1", "tag": "010", "sizes": "[0.5, 1]", "target": str(target)}
    singly = [word for name, value in singles.items() for word in ("-p", name, value)]
    status = main(
        [
            str(notebook(WRITE)),
            str(out),
            "--no-progress",
            *files,
            "-y",
            "{seed: 3, sparsity: 0.2}",
            *singly,
        ]
    )
    assert status == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert json.loads(target.read_text()) == {
        "sparsity": ["float", 1.0],  # a whole number for a float, from -p
        "seed": ["int", 3],  # -y wins over both files
        "tag": ["str", "010"],  # plain papermill makes it the number 10
        "sizes": ["list", [0.5, 1.0]],
        "quick": ["bool", False],  # from the first file
    }
    executed = nbformat.read(out, 4)
    # parameters, injected parameters, the cell
    assert [c.execution_count for c in executed.cells] == [1, 2, 3]


def test_a_failing_cell_gives_two_lines_and_leaves_the_executed_copy(home, notebook, capfd):
    out = home / "out.ipynb"
    assert (
        main(
            [
                str(
                    notebook(
                        "print('before')", "raise ValueError('no such mask')", "print('after')"
                    )
                ),
                str(out),
                "--no-progress",
            ]
        )
        == 1
    )
    message = capfd.readouterr().err
    assert "Traceback" not in message
    # a kernel interrupted while it ends
    lines = [line for line in message.strip().splitlines() if not line.startswith("[IPKernelApp]")]
    assert len(lines) == 2
    assert "ValueError: no such mask" in lines[0]
    assert str(out) in lines[1]
    outputs = [o for c in nbformat.read(out, 4).cells for o in c.get("outputs", [])]
    assert [o["ename"] for o in outputs if o.output_type == "error"] == ["ValueError"]
    # nothing ran after the error
    assert [o["text"] for o in outputs if o.output_type == "stream"] == ["before\n"]


def test_a_kernel_that_dies_gives_a_message_and_a_status(home, notebook, capfd):
    # What the system does to a process that takes too much memory.
    path = notebook("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert main([str(path), str(home / "out.ipynb"), "--no-progress"]) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_a_misspelt_name_is_refused_with_the_nearest_one(refused):
    assert "did you mean 'sparsity'?" in refused("-p", "sparsty", "0.5")


@pytest.mark.parametrize("source", ["-p", "-y", "-f"])
def test_an_unknown_name_is_refused_from_every_source(source, home, refused):
    (home / "p.yaml").write_text("zzz: 1\n")
    arguments = {
        "-p": ["-p", "zzz", "1"],
        "-y": ["-y", "zzz: 1"],
        "-f": ["-f", str(home / "p.yaml")],
    }[source]
    message = refused(*arguments)
    assert "'zzz'" in message
    assert "sparsity, seed, tag, sizes, quick" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sparsity", "many"),
        ("sparsity", "true"),
        ("sparsity", "[0.6]"),
        ("seed", "0.5"),
        ("seed", "1.0"),
        ("seed", "true"),
        ("seed", ""),
        ("quick", "1"),
        ("sizes", "0.6"),
        ("sizes", "[0.6, many]"),
        ("sizes", "[0.6"),
    ],
)
def test_a_value_of_another_type_is_refused(name, value, refused):
    assert f"'{name}'" in refused("-p", name, value)


def test_a_number_for_a_text_is_refused_where_yaml_says_it_is_one(refused):
    assert "'tag'" in refused("-y", "tag: 010")


def test_a_missing_notebook_is_an_error(home, refused):
    assert "missing.ipynb" in refused(path=home / "missing.ipynb")


@pytest.mark.parametrize("content", ["", "no notebook", "{}", '{"cells": 3}', "[1, 2]"])
def test_a_file_that_is_no_notebook_is_an_error(content, home, refused):
    (home / "bad.ipynb").write_text(content)
    assert "bad.ipynb" in refused(path=home / "bad.ipynb")


def test_a_notebook_without_parameters_is_an_error(notebook, refused):
    assert "tagged 'parameters'" in refused(path=notebook("1 + 1", parameters=None))


def test_a_missing_parameter_file_is_an_error(home, refused):
    assert "missing.yaml" in refused("-f", str(home / "missing.yaml"))


def test_a_parameter_file_that_is_no_text_is_an_error(home, refused):
    (home / "binary.yaml").write_bytes(b"\xff\xfe\x80\x81")
    assert "binary.yaml" in refused("-f", str(home / "binary.yaml"))


@pytest.mark.parametrize("text", ["{seed: 1", "- seed", "seed", "3", ""])
def test_yaml_that_holds_no_parameters_is_an_error(text, home, refused):
    assert "the value of -y" in refused("-y", text)
    (home / "bad.yaml").write_text(text)
    assert "bad.yaml" in refused("-f", str(home / "bad.yaml"))


def test_declared_parameters_are_names_with_their_annotations(notebook):
    assert declared_parameters(notebook(WRITE)) == TYPES


def test_checking_keeps_good_values_and_adds_none():
    given = {"sparsity": 0.3, "seed": 4, "tag": "010", "sizes": [1, 0.5], "quick": False}
    found = check_parameters(TYPES, given)
    assert found == given
    assert [type(v) for v in found["sizes"]] == [float, float]
    assert type(check_parameters(TYPES, {"sparsity": 1})["sparsity"]) is float
    assert check_parameters(TYPES, {}) == {}


def test_a_list_is_checked_item_by_item():
    with pytest.raises(InvalidInput, match="'sizes'"):
        check_parameters(TYPES, {"sizes": [0.5, "0.6"]})
    assert check_parameters({"names": "list[str]"}, {"names": ["1"]}) == {"names": ["1"]}
    with pytest.raises(InvalidInput):
        check_parameters({"names": "list[str]"}, {"names": [1]})


@pytest.mark.parametrize("annotation", ["None", "dict", "list", "list[dict]", "tuple[int]", "list["])
def test_an_annotation_that_cannot_be_checked_is_refused(annotation):
    with pytest.raises(InvalidInput, match="annotation"):
        check_parameters({"a": annotation}, {"a": []})


@pytest.mark.parametrize("text", ["010", "yes", "1e-3", "[a", "null", ""])
def test_a_text_is_taken_as_it_stands(text):
    assert parse_value("tag", text, "str") == text


@pytest.mark.parametrize(
    ("text", "value"), [("0.6", 0.6), ("1e-3", 0.001), ("3E4", 30000.0), (".5", 0.5), ("-2", -2.0)]
)
def test_a_float_may_be_written_as_python_writes_it(text, value):
    found = check_parameters({"rate": "float"}, {"rate": parse_value("rate", text, "float")})
    assert found == {"rate": value}


def test_an_integer_with_a_leading_zero_is_not_read_as_octal():
    try:
        found = parse_value("seed", "010", "int")
    except BogpError:
        return  # to refuse it is as good
    assert found == 10


@pytest.mark.parametrize(
    "text", ["seed: !!int ''", "quick: !!bool perhaps", "tag: !!timestamp soon", "a: " + "[" * 600]
)
def test_yaml_that_breaks_the_reader_is_an_error_for_people(text, refused):
    assert "the value of -y is no YAML" in refused("-y", text)


def test_names_of_outputs_are_read_from_the_code(notebook):
    cells = ["history = out.table(table, 'history')\nout.figure(plot(x), name='trace');"]
    path = notebook(*cells, "if quick:\n    out.table(f(out.table(g, 'b')), 'a')")
    assert output_names(path, "table") == ["a", "b", "history"]
    assert output_names(path, "figure") == ["trace"]
    assert output_names(notebook("1 + 1"), "table") == []


@pytest.mark.parametrize(
    "code",
    [
        "out.table(t, name)",
        "out.table(t, f'{a}')",
        "out.table(t)",
        "out.table(t, 'a')\nout.table(u, 'a')",
    ],
)
def test_a_name_of_an_output_that_is_no_literal_or_stands_twice_is_refused(notebook, code):
    with pytest.raises(InvalidInput, match="a name of its own"):
        output_names(notebook(code), "table")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n: 010", 10),
        ("n: 1:30", "1:30"),
        ("n: 1e-3", 1e-3),
        ("n: no", "no"),
        ("n: true", True),
        ("n: -.5", -0.5),
        ('{"n": 1e-05}', 1e-5),
        ("n:", None),
    ],
)
def test_numbers_in_yaml_are_what_people_take_them_for(text, value):
    read = yaml_text(text, "")["n"]
    assert read == value
    assert type(read) is type(value)


def test_a_notebook_as_other_programs_write_it_runs(home, monkeypatch, capsys):
    """No kernel or language is named, the file begins with a byte order mark, comments hold signs
    of equality, the folder for temporary files has a long name, and the home folder is ``~``.
    """
    lines = [
        "n: int = 3  # units = rows / cols",
        "rate: float | None = None  # None: the default",
        'metric: Literal["cosine", "l2"] = "l2"  # = of Algorithm 2',
        "from typing import Literal",
    ]
    first = new_code_cell("\n".join(lines[::-1]), metadata={"tags": ["parameters"]})
    write = new_code_cell(
        "import pathlib; pathlib.Path('found').write_text(repr((n, rate, metric)))"
    )
    text = nbformat.writes(new_notebook(cells=[first, write]))
    (home / "notebook.ipynb").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (home / "grössen.yaml").write_bytes(b"\xef\xbb\xbfrate: 1e-3\n")
    long = home / ("x" * 118)
    long.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(home)
    given = ["-p", "n", "4", "-p", "metric", "cosine", "-f", "~/grössen.yaml", "--no-progress"]
    assert main(["~/notebook.ipynb", "~/out.ipynb", *given]) == 0, capsys.readouterr().err
    assert (home / "found").read_text() == "(4, 0.001, 'cosine')"
    assert (home / "out.ipynb").is_file()


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("int | None", "None", None),
        ("int | None", "007", 7),
        ("Optional[float]", "1e-3", 0.001),
        ("typing.Optional[float]", "null", None),
        ("str | None", "010", "010"),
        ("str | int", "10", 10),
        ("list[float] | None", "[0.5, 1]", [0.5, 1.0]),
        ('Literal["a", 2]', "2", 2),
        ('Literal["a", 2] | None', "~", None),
    ],
)
def test_a_union_and_literals_are_read_as_what_the_text_can_be(annotation, text, value):
    read = parse_value("x", text, annotation)
    found = check_parameters({"x": annotation}, {"x": read})["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int | None", "3"),
        ("int | None", True),
        ("Literal['a', 'b']", "c"),
        ("Literal[1]", True),
        ("list[int] | None", [None]),
    ],
)
def test_a_value_that_no_member_of_a_union_takes_is_refused(annotation, value):
    with pytest.raises(InvalidInput, match="'x'"):
        check_parameters({"x": annotation}, {"x": value})
    with pytest.raises(InvalidInput):
        check_parameters({"x": annotation}, {"x": parse_value("x", "c", annotation)})
