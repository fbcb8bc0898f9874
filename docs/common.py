"""Paths, links, and the texts of notebooks: what the other modules of the site share. Links are
relative to this folder.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from functools import cache
from itertools import groupby
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
EXECUTED = DOCS / "executed"
FILE = re.compile(r"^\{\{ file: (.+) \}\}$", re.M)


def link(text: str, path: Path, anchor: str = "") -> str:
    """A link from a page of this folder to a file of the repository: to the page that shows it if
    there is one, else to a copy that the site carries.

    Args:
        text: what is clicked on.
        path: absolute.
        anchor: place in a page of the site, such as ``slug`` makes.
    """
    place = Path(os.path.relpath(shown().get(path, path), DOCS)).as_posix()
    # without the role MyST looks for a page of that name
    if place.startswith("..") and path.suffix in (".md", ".ipynb"):
        return f"{{download}}`{text.strip('`')} <{place}>`"
    return f"[{text}]({place}{anchor and '#' + anchor})"


@cache
def shown() -> dict[Path, Path]:
    """Files of the repository that a page shows in full, and those pages."""
    return {
        ROOT / name: page
        for page in DOCS.glob("*.md")
        for name in FILE.findall(page.read_text(encoding="utf-8"))
    }


def relative(text: str, folder: Path) -> str:
    """A Markdown text of another folder with its links rewritten for this one.

    Args:
        text: with links relative to ``folder``; those to addresses and within the page stay, those
            to folders, which a site cannot show, become plain text.
        folder: absolute.
    """

    def rewritten(found: re.Match[str]) -> str:
        target, _, anchor = found["target"].partition("#")
        if "://" in found["target"] or not target:
            return found[0]
        path = (folder / target).resolve()
        return (
            found["text"] if path.is_dir() else found["image"] + link(found["text"], path, anchor)
        )

    return re.sub(r"(?P<image>!?)\[(?P<text>[^\]\[]*)\]\((?P<target>[^)\s]+)\)", rewritten, text)


def grouped(paths: Iterable[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    """Paths by key, keys and paths in order."""
    return {name: list(those) for name, those in groupby(sorted(sorted(paths), key=key), key)}


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@cache
def texts(notebook: Path) -> list[str]:
    """The Markdown cells of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def headings(notebook: Path) -> list[str]:
    """All headings of a notebook, its title first."""
    return [
        line.lstrip("# ")
        for text in texts(notebook)
        for line in text.splitlines()
        if line.startswith("#")
    ]
