"""How Sphinx builds the site (``make report``): from what is committed, nothing is executed,
nothing is fetched.
"""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # this checkout's bogp, whatever is installed

from docutils import nodes  # noqa: E402
from docutils.utils.math import latex2mathml  # noqa: E402

import bogp  # noqa: E402
from docs import pages  # noqa: E402

project, author, release = "bogp", "The bogp developers", bogp.__version__
copyright = "The bogp developers, MIT licence"
html_title = "bogp: a paper on pruning, reproduced and audited"
language = "en"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # its defaults come from a CDN
nb_merge_streams = True
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 4

(DOCS / "api").mkdir(exist_ok=True)  # what is made in it stays out of git
(DOCS / "api" / "index.rst").write_text(pages.api_index(), encoding="utf-8")
viewcode_follow_imported_members = False  # a package that exports a name would take over its links
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring, napoleon_numpy_docstring, napoleon_use_ivar = True, False, True
python_maximum_signature_line_length = 90

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# summaries are fetched, which browsers refuse to pages from the file system
html_show_search_summary = False
html_show_sourcelink = html_copy_source = html_show_sphinx = False
html_math_renderer = "mathml"  # browsers draw it themselves; MathJax would come from a CDN


def _visit_math(self, node: nodes.math | nodes.math_block) -> None:
    block = isinstance(node, nodes.math_block)
    text = latex2mathml.tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{text}</div>' if block else text)
    raise nodes.SkipNode


def _read(app, docname: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".ipynb":
        source[0] = pages.named(docname, source[0])
    elif path.suffix == ".md":
        source[0] = pages.filled(source[0])


def _join_names(app, what: str, name: str, thing, options, lines: list[str]) -> None:
    # Sphinx reads "low, high" as a type and a name
    lines[:] = [
        re.sub(r"^ +\w+(, \w+)+:", lambda found: found[0].replace(", ", "/"), line)
        for line in lines
    ]


def setup(app) -> None:
    """Fill in the pages as they are read, keep arguments that share a description together, and
    draw formulas.
    """
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _join_names, priority=400)  # before napoleon
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math, None))
