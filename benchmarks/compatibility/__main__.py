"""The compatibility table: ``make compatibility``, or within its environment

    python -m benchmarks.compatibility [--only TEXT ...] [--again] [--earlier] [--seconds 150]

Each network is measured in a process of its own, one after the other, with a limit of time and of
memory. What was measured of the same code is not measured again, so that an interrupted run goes on
where it was; what was never measured comes first, then what did not answer everything with yes.
With all rows there (with ``--earlier`` also those of earlier code, which the column ``code`` tells
apart), the table is written to ``data/results/compatibility/`` and the page to
``docs/compatibility.md``.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib
import json
import multiprocessing
import os
import resource
import signal
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from benchmarks.compatibility import names, page
from benchmarks.compatibility.measure import COLUMNS, PEER_SECONDS, WHOLE, YES, Row, measure
from benchmarks.compatibility.names import Architecture
from benchmarks.compatibility.stubs import make_importable
from bogp.records import write_atomically, write_table

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "data" / "evaluations" / "compatibility"
SECONDS, GIBIBYTES, SEED = 150.0, 12, 0
PATIENCE = 8  # times as long by the clock as of a processor, on a machine that is shared
PACKAGES = ("torch", "torchvision", "timm", "transformers", "torch-pruning")


def main() -> None:
    """Measure what is missing, and write table and page if all is there."""
    arguments = _arguments()
    chosen = [a for a in names.ALL if _is_chosen(a, arguments.only)]
    code = code_digest()
    missing = [a for a in chosen if arguments.again or recorded(a, code) is None]
    if not arguments.write:
        _preload()
        for architecture in tqdm(sorted(missing, key=_last), unit="network"):
            in_a_process(architecture, code, arguments.seconds)
    earlier = code if not arguments.earlier else ""
    rows = [recorded(a, code) or recorded(a, earlier) for a in names.ALL]
    if absent := sum(row is None for row in rows):
        print(f"{absent} of {len(rows)} networks were not measured with this code; no table.")
        return
    # Rows of earlier code were not asked everything.
    rows = [{c: row.get(c, None if c in WHOLE else "") for c in COLUMNS} for row in rows if row]
    table = pd.DataFrame(rows).astype(dict.fromkeys(WHOLE, "Int64"))
    write_table(table, page.TABLE, parameters(arguments.seconds))
    page.write()
    print(page.PAGE)


def parameters(seconds: float) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "seed": SEED,
        "seconds": seconds,
        "peer_seconds": PEER_SECONDS,
        "gibibytes": GIBIBYTES,
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="libraries, or parts of names")
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    parser.add_argument("--earlier", action="store_true", help="rows of earlier code count too")
    parser.add_argument("--write", action="store_true", help="the table, measuring nothing")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a processor, for each")
    return parser.parse_args()


def _is_chosen(architecture: Architecture, only: Sequence[str]) -> bool:
    return not only or any(
        text == architecture.library or text.lower() in architecture.name.lower() for text in only
    )


def code_digest() -> str:
    """A digest of all code that a row depends on, versions of libraries included.

    Docstrings, comments and layout do not count.
    """
    files = [ROOT / "bogp" / "structural" / name for name in _of_bogp()]
    files += [Path(__file__).with_name(f"{name}.py") for name in ("measure", "models", "truth")]
    parts = [ast.dump(_without_docstrings(ast.parse(f.read_text()))) for f in files]
    parts += [f"{name} {metadata.version(name)}" for name in PACKAGES]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _of_bogp() -> list[str]:
    """The modules of ``bogp.structural`` that are measured."""
    room = ROOT / "bogp" / "structural"
    found = sorted(path.relative_to(room).as_posix() for path in room.rglob("*.py"))
    others = ("drawing.py", "search.py", "surrogate.py", "pruning.py", "journal.py")
    return [name for name in found if name not in others]


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value.value = ""
    return tree


def _path(architecture: Architecture) -> Path:
    return ROWS / f"{architecture.library}-{architecture.name}.json"


def recorded(architecture: Architecture, code: str = "") -> Row | None:
    """The row of an earlier run on the same settings, or None.

    Args:
        architecture: which.
        code: digest of what it was measured with; any by default.
    """
    try:
        content = json.loads(_path(architecture).read_text())
    except (OSError, ValueError):
        return None
    done = content["done"] and content["settings"] == repr(architecture)
    if not done or code not in ("", content["code"]):
        return None
    return content["row"] | {"code": content["code"]}


def _last(architecture: Architecture) -> int:
    """What comes last: 0 was never measured, 1 did not answer everything with yes, 2 did."""
    row = recorded(architecture)
    if row is None:
        return 0
    return 1 + all(row.get(column, YES) in ("", YES) for column in page.ANSWERS)


def in_a_process(architecture: Architecture, code: str, seconds: float) -> None:
    """Measure one network in a child, and record its row, whatever becomes of the child."""
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(architecture, code, seconds)
    )
    trial = _path(architecture).with_suffix(".trial")  # an earlier row stays until this is done
    _record(trial, architecture, code, {"library": architecture.library, "name": architecture.name})
    child.start()
    child.join(PATIENCE * seconds)  # it ends by itself, unless it waits for something
    if child.is_alive():
        child.kill()
        child.join()
    row = json.loads(trial.read_text())["row"]
    if child.exitcode:
        number = -child.exitcode
        known = number in set(signal.Signals)
        ended = signal.Signals(number).name if known else f"exit {child.exitcode}"
        row["stopped"] = f"{row.get('stopped', '')} ({ended})".strip()
    _record(_path(architecture), architecture, code, row, done=True)
    trial.unlink()


def _child(architecture: Architecture, code: str, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (GIBIBYTES << 30, GIBIBYTES << 30))
    most = round(seconds) + 30  # for what does not listen to the signal before
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        os.dup2(nothing.fileno(), 2)  # what libraries say is in the row, or of no interest
        trial = _path(architecture).with_suffix(".trial")
        measure(architecture, seconds, lambda row: _record(trial, architecture, code, row), SEED)


def _record(
    path: Path, architecture: Architecture, code: str, row: Row, done: bool = False
) -> None:
    content = {"code": code, "settings": repr(architecture), "done": done, "row": row}
    write_atomically({path: json.dumps(content, indent=1).encode()})


def _preload() -> None:
    """Import once, in the parent, what each child would have to import."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    torch.set_num_threads(1)
    make_importable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("torchvision", "timm", "transformers", "torch_pruning"):
            importlib.import_module(name)
        # The first export imports as much again.
        torch.export.export(torch.nn.Linear(2, 2), (torch.ones(3, 2),))


if __name__ == "__main__":
    main()
