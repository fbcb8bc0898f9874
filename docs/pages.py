"""The site's pages: what stands for each ``{{ name }}`` in the Markdown of this folder, the
notebooks' pages, and the list of modules.
"""

import pkgutil
import re
from collections.abc import Callable
from pathlib import Path

import bogp
from bogp.errors import BogpError
from docs import measured
from docs.common import DOCS, EXECUTED, ROOT, headings, link, relative, texts


def notebooks_page() -> str:
    """All notebooks by number: title, question, executed copies, downloads; and the navigation to
    the copies.
    """
    lines = []
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        copies = sorted(EXECUTED.glob(f"{notebook.stem[:2]}_*.ipynb"))
        lines += [f"## {headings(notebook)[0]}", "", question(notebook), ""]
        lines += [
            f"- executed: {link(variant(p) or p.stem, p)} ({{download}}`download "
            f"<executed/{p.name}>`)"
            for p in copies
        ]
        lines += [f"- to run, small sizes by default: {link(notebook.name, notebook)}", ""]
        lines += (
            ["```{toctree}", ":hidden:", "", *(f"executed/{p.stem}" for p in copies), "```", ""]
            if copies
            else []
        )
    return "\n".join(lines)


def question(notebook: Path) -> str:
    """The question that a notebook opens with, as one line."""
    return " ".join(texts(notebook)[0].split("**Question.**")[1].split("\n\n")[0].split())


def variant(notebook: Path) -> str:
    """What tells an executed copy from others of its notebook: protocol and sparsity, such as
    "calibrated, s = 0.60"; "" where the name holds neither.
    """
    found = re.fullmatch(
        r"\d\d_(calibrated|paper|literal|released|converged)(?:_s(\d\.\d+))?", notebook.stem
    )
    return ", s = ".join(part for part in found.groups() if part) if found else ""


def named(docname: str, source: str) -> str:
    """The source of an executed notebook, with a title that says which copy it is.

    Args:
        docname: as Sphinx has it, such as ``executed/03_paper_s0.60``.
        source: the notebook as JSON.
    """
    notebook = DOCS / f"{docname}.ipynb"
    title, label = headings(notebook)[0], variant(notebook)
    # from notebooks/ the pages of this folder lie elsewhere than from docs/executed/
    source = source.replace("](../docs/", "](../")
    # a script needs something that it stands at, or docutils gives up
    source = re.sub(r"\$([\^_])", r"${}\1", source)
    return source.replace(f"# {title}", f"# {title} ({label})", 1) if label else source


def file(name: str) -> str:
    """A Markdown file of the repository, its links made relative to this folder.

    Raises:
        BogpError: there is no such file.
    """
    path = ROOT / name
    if not path.is_file():
        raise BogpError(f"A page in docs/ shows {name}, which is not in the repository.")
    return relative(path.read_text(encoding="utf-8"), path.parent)


def further_pages() -> str:
    """Navigation to the pages of this folder that the first page does not name, so that a new page
    needs no entry.
    """
    index = (DOCS / "index.md").read_text(encoding="utf-8").splitlines()
    others = sorted(p.stem for p in DOCS.glob("*.md") if p.stem not in ("index", *index))
    return (
        "\n".join(["```{toctree}", ":hidden:", ":caption: More", "", *others, "```"])
        if others
        else ""
    )


def rooms() -> dict[str, list[str]]:
    """The modules of the package by room, in the order of ``bogp/__init__.py``; those on the ground
    come first, under "".
    """
    names = [m.name.removeprefix("bogp.") for m in pkgutil.walk_packages(bogp.__path__, "bogp.")]
    named = re.findall(r"^    (\w+)  ", bogp.__doc__ or "", re.M)
    found: dict[str, list[str]] = {room: [] for room in ("", *named)}
    for name in names:
        found[name.split(".")[0] if name.split(".")[0] in named else ""].append(name)
    return found


def api_index() -> str:
    """The API page, in reStructuredText: an autosummary table a room, from which Sphinx makes a
    page a module.
    """
    lines = ["API reference", "=" * 13, ""]
    for room, modules in rooms().items():
        title = f"bogp.{room}" if room else "The ground, which every room builds on"
        names = [f"   bogp.{name}" for name in modules if not name.startswith("__")]
        lines += [
            title,
            "-" * len(title),
            "",
            ".. autosummary::",
            "   :toctree: modules",
            "",
            *names,
            "",
        ]
    return "\n".join(lines)


FILLERS: dict[str, Callable[[], str]] = {
    "claims_map": measured.claims_map,
    "figures": measured.figures_page,
    "structural": measured.structural,
    "all_tables": measured.all_tables,
    "jobs": measured.jobs,
    "trained": measured.trained,
    "notebooks": notebooks_page,
    "further_pages": further_pages,
}


def filled(text: str) -> str:
    """A page as Sphinx reads it: each ``{{ name }}`` or ``{{ file: path }}`` that is a line of its
    own filled in.

    Raises:
        BogpError: a name that nothing stands for, a file that is not there, or results that do not
            fit together.
    """

    def one(found: re.Match[str]) -> str:
        name, argument = found["name"], found["argument"]
        if argument:
            return file(argument)
        if name not in FILLERS:
            raise BogpError(
                f"A page asks for {{{{ {name} }}}}, which docs/pages.py does not know; it "
                f"knows {', '.join(FILLERS)}."
            )
        return FILLERS[name]()

    return re.sub(
        r"^\{\{ (?P<name>file(?=: )|\w+(?= \}))(?:: (?P<argument>.+))? \}\}$",
        one,
        relative(text, DOCS),
        flags=re.M,
    )
