"""Runs a notebook through papermill, strictly.

``python -m bogp.run NOTEBOOK OUT -f params.yaml -y 'seed: 3' -p sparsity 0.6``. Plain papermill
works too. What this adds: a parameter that the notebook does not have, or of another type than its
annotation says, is refused before anything runs. A value is read as its annotation says:
``-p tag 010`` stays the text 010. Kernels talk over IPC, so that parallel runs do not collide on
ports. An error is one or two lines and a non-zero exit status, and the executed notebook with the
error is left at OUT. A batch run, whose Snakemake removes what a failed job wrote, asks for a copy
elsewhere with ``--failed FOLDER``.
"""

import argparse
import ast
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import yaml

from bogp.checks import number, refuse
from bogp.errors import BogpError, InvalidInput

_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


def run_notebook(
    notebook: Path, out: Path, parameters: Mapping[str, Any], *, progress: bool = True
) -> Path:
    """Execute a notebook with parameters.

    Args:
        notebook: the notebook; its cell tagged ``parameters`` says which there are, in lines
            ``name: type = default  # help``.
        out: where the executed copy goes; its folder is made if need be.
        parameters: by name; checked against the annotations.
        progress: show a progress bar over cells.

    Returns:
        The path of the executed copy.

    Raises:
        InvalidInput: an unknown parameter, or a value of the wrong type.
        BogpError: the notebook is missing or is not one, the copy cannot be written, or a cell
            failed (the copy then holds the error).
    """
    import nbformat
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebook, out = notebook.expanduser(), out.expanduser()
    refuse(
        out.resolve() == notebook.resolve(),
        f"The executed copy would overwrite the notebook {notebook}; choose another OUT.",
    )
    checked = check_parameters(declared_parameters(notebook), parameters)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with ipc() as config:
            papermill.execute_notebook(
                nbformat.reads(notebook.read_text(encoding="utf-8-sig"), as_version=4),
                # papermill would fill parameters into braces of a path
                str(out).replace("{", "{{").replace("}", "}}"),
                parameters=checked,
                kernel_name="python3",
                language="python",  # an editor may have left out what says so
                progress_bar=progress,
                config=config,
            )
    except PapermillExecutionError as error:
        reason = (str(error.evalue).splitlines() or [""])[0]
        raise BogpError(
            f"{notebook.name} stopped in cell {error.exec_count}: {error.ename}: {reason}\n"
            f"The executed copy with the error is {out}."
        ) from None
    except DeadKernelError:
        raise BogpError(
            f"The kernel of {notebook.name} died, perhaps for want of memory; "
            f"the cells that ran are in {out}."
        ) from None
    except NoSuchKernel:
        raise BogpError(
            "There is no Jupyter kernel 'python3' here; install ipykernel, of requirements.lock."
        ) from None
    except OSError as error:
        raise BogpError(
            f"{notebook.name} could not be run, or {out} not be written "
            f"({error.strerror or error})."
        ) from None
    finally:
        if out.is_file():
            _strip(out)
    return out


@contextmanager
def ipc() -> Iterator[Any]:
    """Settings for kernels that talk over sockets in a folder of their own.

    Runs side by side then never meet on a port or a file name.
    """
    from traitlets.config import Config

    # a socket's name has at most 107 characters, and a cluster's TMPDIR may be longer
    short = Path("/tmp") if len(tempfile.gettempdir()) > 60 and os.access("/tmp", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="bogp-", dir=short) as folder:
        yield Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})


def _strip(out: Path) -> None:
    """Take papermill's record of paths and times out of an executed copy.

    The same run then gives the same copy on any machine.
    """
    import nbformat

    notebook = nbformat.read(out, as_version=4)
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
    nbformat.write(notebook, out)


def declared_parameters(notebook: Path) -> dict[str, str]:
    """Names and annotated types of a notebook's parameters.

    Raises:
        BogpError: the file is missing or is no notebook, or declares none.
    """
    found = {
        ast.unparse(line.target): ast.unparse(line.annotation)
        for tree in _trees(notebook, "parameters")
        for line in tree.body
        if isinstance(line, ast.AnnAssign)
    }
    refuse(
        not found,
        f"{notebook} declares no parameters: it needs a cell tagged 'parameters' "
        "with lines 'name: type = value  # help'.",
        BogpError,
    )
    return found


def output_names(notebook: Path, kind: str) -> list[str]:
    """Names of what a notebook hands out, as they stand in its code, sorted.

    The workflow has to know the files that a job makes before it runs. So each name is typed once,
    in a call such as ``out.table(history, "history")`` or ``out.figure(figure, "trace")``.

    Args:
        notebook: the notebook.
        kind: ``table`` or ``figure``.

    Raises:
        InvalidInput: a name is not a literal, or stands in two calls.
        BogpError: it cannot be read as a notebook of Python.
    """
    names: list[str] = []
    for call in (node for tree in _trees(notebook) for node in ast.walk(tree)):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == f"out.{kind}":
            given = call.args[1:2] + [word.value for word in call.keywords if word.arg == "name"]
            name = str(given[0].value) if given and isinstance(given[0], ast.Constant) else None
            if name is None or name in names:
                raise InvalidInput(
                    f"{notebook.name}: {ast.unparse(call)[:120]} has to have a name of its own, "
                    "written as a text in quotes: the workflow reads the names of all outputs "
                    "from the code."
                )
            names.append(name)
    return sorted(names)


def code_digest(notebook: Path) -> str:
    """A hash of what a notebook computes: comments, layout, prose and outputs do not count.

    Args:
        notebook: the notebook, or an executed copy of it (injected parameters do not count either).

    Raises:
        BogpError: it cannot be read as a notebook of Python.
    """
    trees = [_syntax(tree) for tree in _trees(notebook)]
    return hashlib.sha256(repr(trees).encode()).hexdigest()[:16]


def _trees(notebook: Path, tag: str = "") -> list[ast.Module]:
    """Syntax trees of the cells with a tag; without one, of all but injected parameters."""
    refuse(
        not notebook.is_file(),
        f"There is no notebook {notebook}.",
        BogpError,
    )
    try:
        code = [
            (c["metadata"].get("tags", []), c["source"])
            for c in json.loads(notebook.read_text(encoding="utf-8-sig"))["cells"]
            if c["cell_type"] == "code"
        ]
        return [
            ast.parse("".join(source))
            for tags, source in code
            if (tag in tags if tag else "injected-parameters" not in tags)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise BogpError(
            f"{notebook} cannot be read as a notebook of Python "
            f"({type(error).__name__}: {str(error)[:160]})."
        ) from None


def _syntax(node: Any) -> Any:
    """A syntax tree as nested tuples, without what is empty.

    ``ast.dump`` writes what is empty differently from one version of Python to the next.
    """
    if isinstance(node, ast.AST):
        return type(node).__name__, *(
            (name, _syntax(value))
            for name, value in ast.iter_fields(node)
            if value is not None and value != []
        )
    return [_syntax(one) for one in node] if isinstance(node, list) else repr(node)


def check_parameters(declared: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check names and types.

    Args:
        declared: annotated type of each parameter, such as ``int``, ``str`` or ``list[float]``.
        given: values by name.

    Returns:
        The values; a whole number given for a float becomes a float.

    Raises:
        InvalidInput: an unknown name (with the nearest known one), or a value of another type.
    """
    import difflib

    for name in given:
        close = difflib.get_close_matches(str(name), declared, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        refuse(
            name not in declared,
            f"There is no parameter {name!r}; {hint}The notebook has: {', '.join(declared)}.",
        )
    return {name: _converted(name, value, declared[name]) for name, value in given.items()}


def parse_value(name: str, text: str, annotation: str) -> Any:
    """A command-line value: the text itself for a ``str``, a number as Python writes it, else YAML.
    Of a union such as ``int | None`` it is what the text can be, and a ``str`` last.

    Raises:
        InvalidInput: it cannot be read as what the annotation says.
    """
    failure = InvalidInput(f"Parameter {name!r} is of type {annotation}; got {text!r}.")
    for member in sorted(_members(annotation), key="str".__eq__):
        try:
            return _read(name, text, member)
        except InvalidInput as error:
            failure = error
        except ValueError:
            continue
    raise failure


def _read(name: str, text: str, member: str) -> Any:
    if member in ("str", "int", "float"):
        return _TYPES[member](text)
    if member == "None" or _literals(member):
        allowed = dict.fromkeys(("None", "null", "~")) | {str(x): x for x in _literals(member)}
        refuse(text not in allowed, f"Parameter {name!r} is a {member}; got {text!r}.")
        return allowed[text]
    return _yaml(text, f"The value {text!r} of parameter {name!r} cannot be read as {member}")


def _members(annotation: str) -> list[str]:
    """The types of a union, as ``int | None`` or ``Optional[int]`` is; else the one that it is."""
    node = _annotation(annotation)
    if isinstance(node, ast.BinOp):
        return [*_members(ast.unparse(node.left)), *_members(ast.unparse(node.right))]
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Optional"):
        return [*_members(ast.unparse(node.slice)), "None"]
    return [annotation]


def _literals(member: str) -> tuple[Any, ...]:
    """The values of ``Literal["cosine", "l2"]``; none of another annotation."""
    node = _annotation(member)
    if not isinstance(node, ast.Subscript) or not ast.unparse(node.value).endswith("Literal"):
        return ()
    try:
        values = ast.literal_eval(node.slice)
    except ValueError:
        return ()
    return values if isinstance(values, tuple) else (values,)


def _annotation(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        raise InvalidInput(f"The annotation {text!r} is no Python.") from None


class _Loader(yaml.SafeLoader):
    """YAML as of version 1.2: ``010`` is ten, ``1e-3`` a number, ``1:30`` and ``no`` are texts."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


_TAG = "tag:yaml.org,2002:"
for _kind, _form, _starts in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_form})$"), list(_starts))
_Loader.add_constructor(f"{_TAG}int", lambda loader, node: int(loader.construct_scalar(node)))


def _yaml(text: str, complaint: str) -> Any:
    try:
        return _Loader(text).get_single_data()
    except Exception as error:  # beside YAMLError, an empty !!int is an IndexError, and so on
        reason = (str(error).splitlines() or [""])[0]
        raise InvalidInput(f"{complaint} ({type(error).__name__}: {reason[:120]}).") from None


def _converted(name: str, value: Any, annotation: str) -> Any:
    members = _members(annotation)
    for member in members:
        refuse(
            member.removeprefix("list[").removesuffix("]") not in _TYPES
            and not _literals(member)
            and (member != "None" or len(members) == 1),
            f"The annotation {annotation!r} is not supported; use {', '.join(_TYPES)}, a list of "
            "one of them, as in list[float], Literal['a', 'b'], or several, as in int | None.",
        )
    failures = []
    for member in members:
        try:
            return _as_member(name, value, member)
        except InvalidInput as error:
            failures.append(error)
    several = f"Parameter {name!r} is of type {annotation}; got {value!r}."
    raise failures[0] if len(failures) == 1 else InvalidInput(several)


def _as_member(name: str, value: Any, member: str) -> Any:
    inner = member.removeprefix("list[").removesuffix("]")
    if member == "None" or _literals(member):
        allowed = _literals(member) or (None,)
        same = [x for x in allowed if x == value and type(x) is type(value)]
        refuse(
            not same,
            f"Parameter {name!r} is {value!r}; allowed are {', '.join(map(repr, allowed))}.",
        )
        return value
    if member != inner:
        refuse(
            not isinstance(value, (list, tuple)),
            f"Parameter {name!r} is a {member}; got {value!r}. Write a list, as in '[0.6, 0.9]'.",
        )
        return [_as_member(name, item, inner) for item in value]
    if inner == "float" and type(value) is int:
        return number(f"Parameter {name!r}", value)
    refuse(
        type(value) is not _TYPES[inner],
        f"Parameter {name!r} is of type {inner}; got {value!r}, which is of type "
        f"{type(value).__name__}.",
    )
    return value


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bogp.run", description="Run a notebook with checked parameters."
    )
    parser.add_argument("notebook", type=_path)
    parser.add_argument("out", type=_path, help="where the executed copy goes")
    parser.add_argument(
        "-f",
        "--parameters-file",
        type=_path,
        action="append",
        default=[],
        metavar="FILE",
        help="YAML file of parameters",
    )
    parser.add_argument(
        "-y",
        "--parameters-yaml",
        action="append",
        default=[],
        metavar="YAML",
        help="YAML text of parameters",
    )
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="one parameter; wins over the others",
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.add_argument(
        "--failed",
        type=_path,
        metavar="FOLDER",
        help="if it fails, leave a copy of OUT and the message here as well",
    )
    return parser.parse_args(argv)


def _gather(arguments: argparse.Namespace) -> dict[str, Any]:
    declared = declared_parameters(arguments.notebook)
    given: dict[str, Any] = {}
    texts = []
    for path in arguments.parameters_file:
        try:
            text = path.read_text(encoding="utf-8-sig")
            texts.append((str(path), text))
        except (OSError, UnicodeDecodeError) as error:
            raise BogpError(f"The parameter file {path} cannot be read ({error}).") from None
    texts += [("the value of -y", text) for text in arguments.parameters_yaml]
    for source, text in texts:
        loaded = _yaml(text, f"{source} is no YAML")
        refuse(
            not isinstance(loaded, dict),
            f"{source} should hold 'name: value' lines.",
        )
        given |= {str(k): v for k, v in loaded.items()}
    return given | {
        name: parse_value(name, text, declared.get(name, "str"))
        for name, text in arguments.parameter
    }


def _set_aside(out: Path, message: str, folder: Path) -> str:
    """Keep a failed run's executed copy and its message in a folder.

    Returns:
        The message, which then names that copy.
    """
    copy = folder / out.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if str(out) in message and out.is_file():
            shutil.copyfile(out, copy)
            message = message.replace(str(out), str(copy))
        copy.with_suffix(".txt").write_text(message + "\n")
    except OSError as error:
        return f"{message}\nThe copy could not be kept in {folder} ({error.strerror})."
    return message


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = _arguments(argv)
    if arguments.failed:  # what an earlier run left
        for suffix in (".ipynb", ".txt"):
            (arguments.failed / arguments.out.name).with_suffix(suffix).unlink(missing_ok=True)
    try:
        print(
            run_notebook(
                arguments.notebook,
                arguments.out,
                _gather(arguments),
                progress=not arguments.no_progress,
            )
        )
        return 0
    except BogpError as error:
        message = (
            _set_aside(arguments.out, str(error), arguments.failed)
            if arguments.failed
            else str(error)
        )
        print(f"bogp: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # the cell that was cut off would log its traceback on the way out
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        print(
            "bogp: interrupted; evaluations and database shards finished so far are kept, "
            "and the same command goes on from there.",
            file=sys.stderr,
        )
        return 130
