"""Is this machine ready for bogp, and if not, what is to be done? ``python -m bogp doctor``."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import bogp
from bogp.errors import BogpError
from bogp.workflow import readiness
from bogp.workflow.readiness import Finding

DATA_SETS = ("mnist-5k", "mnist", "fashion-mnist", "cifar10-12k", "wikitext-2")


def examine() -> list[Finding]:
    """Look at everything: about three seconds, most of it the import of PyTorch. A check that fails in a way of its own is a problem, never an exception."""
    first = readiness.python_version(sys.version_info[:3])
    if first.status == "problem":
        return [first]  # the other modules cannot be read by it

    from bogp import paths

    root, home = paths.checkout(), paths.home()
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("version", partial(readiness.code_version, root)),
        ("packages", partial(readiness.packages, root)),
        ("cores", readiness.cores),
        ("memory", readiness.memory),
        ("PyTorch", readiness.pytorch),
        ("precision", readiness.precision),
        ("GPU", readiness.gpu),
        ("numba", readiness.compiler),
        *((f"data set {name}", partial(readiness.data_set, name)) for name in DATA_SETS),
        *((f"{name}/", partial(readiness.write_access, home / name)) for name in ("data", "figures")),
        ("disk", partial(readiness.disk, home)),
        ("kernel", readiness.kernel),
        ("notebooks", partial(readiness.notebooks, root)),
        ("evaluations", partial(readiness.evaluations, paths.store_path())),
    ]
    return [first, *(_examined(name, check) for name, check in looks)]


def _examined(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except ImportError as error:
        return Finding(
            name, "problem", f"{error.name or 'a package'} cannot be imported ({readiness.one_line(error)})", readiness.install()
        )
    except BogpError as error:
        return Finding(name, "problem", "refused", str(error))
    except Exception as error:  # whatever is wrong with a machine must not keep the other checks from being made
        return Finding(
            name, "problem", f"{type(error).__name__}: {readiness.one_line(error)}", "Not foreseen: please report it with this output."
        )


def report(findings: Sequence[Finding], width: int = 110) -> str:
    """The findings as a table for people, and below it what to do.

    Args:
        findings: of ``examine``.
        width: of the lines, characters.
    """
    wrap = partial(textwrap.wrap, width=width, break_on_hyphens=False, break_long_words=False)
    named = max(len(f.name) for f in findings) + 2
    lines = []
    for f in findings:
        lines += wrap(f.found, initial_indent=f"{f.status:<9}{f.name:<{named}}", subsequent_indent=" " * (named + 9))
    for status, title in (("problem", "To be done:"), ("warning", "Good to know:")):
        todos: dict[str, list[str]] = {}  # the same cure of several things is said once
        for f in findings:
            if f.status == status:
                todos.setdefault(f.todo, []).append(f.name)
        lines += ["", title] if todos else []
        for todo, names in todos.items():
            lines += wrap(f"{', '.join(names)}: {todo}", initial_indent="- ", subsequent_indent="  ")
    problems, warnings = (sum(f.status == status for f in findings) for status in ("problem", "warning"))
    counts = " and ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((problems, "problem"), (warnings, "warning")))
    ready = "solve the problems first" if problems else "ready: `make reproduce` runs the smoke profile"
    return "\n".join([*lines, "", f"{counts}; {ready}."])


def main(as_json: bool = False) -> int:
    """Print what was found.

    Args:
        as_json: one JSON object, ``{"version", "status", "checks": [{"name", "status", "found", "todo"}]}``, in place of the table.

    Returns:
        0, or 1 where something is a problem.
    """
    findings = examine()
    worst = next((status for status in ("problem", "warning") if any(f.status == status for f in findings)), "ok")
    if as_json:
        print(json.dumps({"version": bogp.__version__, "status": worst, "checks": [asdict(f) for f in findings]}, indent=2))
    else:
        print(report(findings, min(140, shutil.get_terminal_size((110, 24)).columns)))
    return int(worst == "problem")
