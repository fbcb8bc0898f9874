"""What was measured, as Markdown for the site: claims, figures, cost, lists of tables. All of it is
worked out from what is committed.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bogp import outputs
from bogp.errors import BogpError
from bogp.studies import answers
from bogp.studies.claims import NOTEBOOK as CLAIMS_NOTEBOOK
from bogp.studies.claims import verdicts
from bogp.studies.motivation import measure as motivation_measure
from bogp.studies.tradeoff import measure as tradeoff_measure
from docs.common import DOCS, EXECUTED, ROOT, grouped, headings, link, slug

RESULTS, FIGURES, EVALUATIONS = (
    ROOT / "data" / "results" / "paper",
    ROOT / "figures" / "paper",
    ROOT / "data" / "evaluations" / "paper",
)
PROTOCOL = "calibrated"  # of the verdicts
BADGES = {verdicts.HOLDS: "holds", verdicts.FAILS: "fails", verdicts.UNDECIDED: "undecided"}


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of texts and numbers as a Markdown table."""
    return outputs.as_markdown(pd.DataFrame(list(rows)))


def record(table: Path) -> dict[str, Any]:
    """What is recorded beside a table of results: what made it, its rows, time and memory."""
    found: dict[str, Any] = json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def files(*tables: Path) -> str:
    """Links to tables and to what says how they were made."""
    return " · ".join(
        f"{link(p.name, p)} ({link('provenance', p.with_suffix('.json'))})" for p in tables
    )


def judged() -> pd.DataFrame:
    """The committed evidence, judged again by the rules (``verdicts.judge``)."""
    evidence = pd.read_csv(RESULTS / CLAIMS_NOTEBOOK / f"{PROTOCOL}_evidence.csv")
    return verdicts.judge(evidence[list(verdicts.COLUMNS)])


def claims_table() -> pd.DataFrame:
    """Claims, verdicts and where they come from, as ``verdicts.rendered`` has them."""
    found, first = judged(), RESULTS / motivation_measure.MOTIVATION
    others = verdicts.elsewhere(
        pd.read_csv(first / f"{PROTOCOL}_correlations.csv"),
        pd.read_csv(first / f"{PROTOCOL}_monotone.csv"),
        pd.read_csv(RESULTS / tradeoff_measure.ALPHA_TRADEOFF / f"{PROTOCOL}_tables_compared.csv"),
        PROTOCOL,
    )
    return verdicts.rendered(verdicts.overall(found), found, others)


def badge(verdict: str) -> str:
    """A verdict's words, marked so that the style sheet sets them off; what follows the words stays
    plain.
    """
    words = next(v for v in verdicts.VERDICTS if verdict.startswith(v))
    return f"[{words}]{{.verdict .{BADGES[words]}}}{verdict.removeprefix(words)}"


def claims_map() -> str:
    """Claim, rule, notebook section, and the files behind it."""
    rules = {
        f"{c.number}: {c.statement}": f"{c.quantity}; holds if {c.holds_if}, does not if "
        f"{c.fails_if}"
        for c in verdicts.CLAIMS
    }
    return markdown(
        {
            "claim": one["claim"],
            "verdict": badge(next(v for v in verdicts.VERDICTS if one["verdict"].startswith(v))),
            "rule": rules.get(one["claim"], "stands in the notebook"),
            "notebook, executed": section(one),
            "table": files(*(RESULTS / source for source in sources(one))),
            "figures": ", ".join(
                link(p.stem.removeprefix(f"06_{PROTOCOL}_"), p)
                for p in figures_of(one["claim"].split(":")[0])
            ),
        }
        for one in claims_table().to_dict("records")
    )


def sources(claim: dict[str, str]) -> list[str]:
    """CSV files behind a claim, relative to the run's results."""
    return claim["table"].split(", ")


def figures_of(claim: str) -> list[Path]:
    """Figures whose caption begins with the number of a claim."""
    numbers = {
        pattern: re.findall(r"\d+", caption.split(".")[0])
        for pattern, caption in captions().items()
        if caption.startswith("Claim")
    }
    return [
        path
        for pattern, those in numbers.items()
        if claim in those
        for path in sorted(FIGURES.glob(f"{pattern}.png"))
    ]


@cache
def captions() -> dict[str, str]:
    """What each figure shows, by pattern of its name."""
    found: dict[str, str] = yaml.safe_load((DOCS / "captions.yaml").read_text(encoding="utf-8"))
    return found


def section(claim: dict[str, str]) -> str:
    """A link to the section of the executed notebook that answers a claim."""
    folder, name = sources(claim)[0].split("/")
    notebook = EXECUTED / f"{folder[:2]}_{name.split('_')[0]}.ipynb"
    cell = claim["notebook section"]
    # other notebooks' sections are named with their notebook's number
    wanted = (cell, cell.removeprefix(f"{folder[:2]} · "))
    for heading in headings(notebook):
        if heading in wanted:
            return link(cell, notebook, slug(heading))
    raise BogpError(
        f"{notebook.name} has no section {cell!r}, which a verdict names. Run notebook "
        f"{folder} again with make reproduce PROFILE=paper."
    )


def figures_page() -> str:
    """Every figure of the paper profile with its caption from ``captions.yaml``, by notebook."""
    titles = {p.stem[:2]: headings(p)[0] for p in EXECUTED.glob("*.ipynb")}
    lines = []
    for number, pictures in grouped(FIGURES.glob("*.png"), lambda p: p.stem[:2]).items():
        lines += [f"## {titles.get(number, 'Speed')}", "", "::::{container} gallery", ""]
        for picture in pictures:
            caption, place = (
                caption_of(picture.stem),
                Path(os.path.relpath(picture, DOCS)).as_posix(),
            )
            lines += [
                f":::{{figure}} {place}",
                f":alt: {caption}",
                ":width: 100%",
                ":loading: lazy",
                "",
            ]
            lines += [f"{caption} {link('PDF', picture.with_suffix('.pdf'))}", ":::", ""]
        lines += ["::::", ""]
    return "\n".join(lines)


def caption_of(name: str) -> str:
    """What a figure shows, and under which protocol and sparsity.

    Raises:
        BogpError: it has no caption.
    """
    for pattern, caption in captions().items():
        if fnmatch(name, pattern):
            found = re.match(r"\d\d_([a-z]+)(?:_s(\d\.\d+))_", name) or re.match(
                r"\d\d_(paper)_", name
            )
            return caption if not found else f"{caption} Protocol {', s = '.join(found.groups())}."
    raise BogpError(f"The figure {name} has no caption. Add one to docs/captions.yaml.")


def structural() -> str:
    """What was asked of structural pruning and what was found."""
    return answers.markdown(answers.answers(RESULTS))


def all_tables() -> str:
    """Every committed table by folder, with its rows and what made it."""
    lines = []
    for folder, tables in grouped(
        RESULTS.rglob("*.csv"), lambda p: p.parent.relative_to(RESULTS).as_posix()
    ).items():
        lines += [f"## {'Made by scripts' if folder == '.' else folder}", ""]
        lines += [
            markdown(
                {
                    "table": link(p.name, p),
                    "rows": record(p)["rows"],
                    "provenance": link("JSON", p.with_suffix(".json")),
                }
                for p in tables
            ),
            "",
        ]
    return "\n".join(lines)


def jobs() -> str:
    """One row a job of the notebooks: the longest wall time and the most memory recorded with the
    tables that it wrote.
    """
    rows = []
    for folder in sorted(p for p in RESULTS.iterdir() if p.is_dir()):
        for job, tables in grouped(folder.glob("*.csv"), job_of).items():
            records = [record(p) for p in tables]
            rows.append(
                {
                    "notebook": folder.name,
                    "job": job or "all",
                    "wall time (s)": max(r["wall_seconds"] for r in records),
                    "peak memory (MiB)": max(r["peak_memory_mib"] for r in records),
                    "machine": ", ".join(
                        sorted(
                            {
                                f"{r['hardware']['processor']}, {r['hardware']['cores']} cores"
                                for r in records
                            }
                        )
                    ),
                    "commit": ", ".join(sorted({r["git_commit"][:10] for r in records})),
                }
            )
    return markdown(rows)


def job_of(table: Path) -> str:
    """The job that wrote a table: a protocol, and sparsity or alpha where it is one cell; "" where
    the name holds none.
    """
    found = re.match(
        r"((?:calibrated|paper|literal|released|converged)(?:_[as]\d\.\d+)?)_", table.name
    )
    return found[1] if found else ""


def trained() -> str:
    """One row a file of evaluations: networks trained and the time recorded with them, each counted
    where it was first needed.
    """
    rows, seen = [], set()
    for path in sorted(EVALUATIONS.glob("[0-9]*.parquet")):
        table = pd.read_parquet(path, columns=["key", "trainings", "seconds"]).drop_duplicates(
            "key"
        )
        new = table[~table["key"].isin(seen)]
        seen |= set(new["key"])
        rows.append(
            {
                "evaluations": link(path.name, path),
                "trainings": f"{new['trainings'].sum():,}",
                "time (min)": f"{new['seconds'].sum() / 60:.1f}",
            }
        )
    return markdown(rows)
