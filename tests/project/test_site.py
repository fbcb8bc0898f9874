"""The site says what the committed results say, and leads nowhere else: its pages here, the built
site under the marker ``full``.
"""

import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
import yaml

import bogp
from bogp.errors import BogpError
from bogp.studies.claims import verdicts
from docs import common, measured, pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def claims_map() -> str:
    return measured.claims_map()


def test_the_map_of_claims_gives_every_claim_its_committed_verdict(claims_map):
    committed = pd.read_csv(measured.RESULTS / "06_claims" / "calibrated_claims.csv")
    lines = claims_map.splitlines()[2:]
    assert len(lines) == len(verdicts.CLAIMS) + 2, "twelve claims, and those of notebooks 01 and 04"
    for line, one in zip(lines, committed.itertuples(), strict=False):
        assert line.startswith(f"| {one.claim}: {one.statement} | [{one.verdict}]{{.verdict ")
        assert one.source in line


def test_other_results_give_another_verdict(tmp_path, monkeypatch, claims_map):
    for name in ("01_motivation", "04_alpha_tradeoff_bo", "06_claims"):
        shutil.copytree(measured.RESULTS / name, tmp_path / name)
    path = tmp_path / "06_claims" / "calibrated_evidence.csv"
    evidence = pd.read_csv(path)
    evidence.loc[evidence.claim == 8, ["p_for", "p_against"]] = [1.0, 0.0]
    evidence.to_csv(path, index=False)
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    changed = measured.claims_map().splitlines()
    differ = [
        new
        for new, old in zip(changed, claims_map.splitlines(), strict=True)
        if new.split("|")[2] != old.split("|")[2]
    ]
    assert len(differ) == 1 and differ[0].startswith("| 8:") and "[does not hold]" in differ[0]
    assert measured.BADGES.keys() == set(verdicts.VERDICTS)


def test_a_verdict_that_names_no_section_of_its_notebook_is_refused():
    claim = {"table": "06_claims/calibrated_audit.csv", "notebook section": "13 · Luck"}
    with pytest.raises(BogpError, match=r"06_calibrated\.ipynb has no section '13 · Luck'"):
        measured.section(claim)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_each_page_is_filled_in_and_its_links_lead_to_files(page):
    filled = pages.filled(page.read_text(encoding="utf-8"))
    assert not re.search(r"^\{\{", filled, re.M)
    for target in [
        *LINK.findall(page.read_text(encoding="utf-8")),
        *LINK.findall(filled),
        *re.findall(r"\{download\}`[^<`]*<([^>]+)>`", filled),
    ]:
        if "://" not in target:
            made = target.startswith("api/")  # by Sphinx
            assert made or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"])
def test_links_of_other_texts_lead_to_files(name):
    for target in LINK.findall((ROOT / name).read_text(encoding="utf-8")):
        assert "://" in target or ((ROOT / name).parent / target).exists(), target


def test_what_a_page_cannot_show_is_refused():
    with pytest.raises(BogpError, match=r"asks for \{\{ verdict"):
        pages.filled("a\n{{ verdict }}\n")
    with pytest.raises(BogpError, match="shows NOWHERE"):
        pages.filled("{{ file: NOWHERE.md }}")
    with pytest.raises(BogpError, match=r"captions\.yaml"):
        measured.caption_of("99_new")
    assert pages.filled("in a line {{ jobs }}, {{ x }}") == "in a line {{ jobs }}, {{ x }}"


def test_links_are_rewritten_for_the_site():
    text = (
        "[a](data/README.md) [b](bogp/search/loop.py#L3) [c](bogp) [d](https://example.org) "
        "[e](README.md) ![f](figures/paper/02_reach.png) [g](#there)"
    )
    assert common.relative(text, ROOT) == (
        "[a](data.md) [b](../bogp/search/loop.py#L3) c [d](https://example.org) [e](index.md) "
        "![f](../figures/paper/02_reach.png) [g](#there)"
    )


def test_figures_and_captions_belong_together():
    names = {p.stem for p in measured.FIGURES.glob("*.png")}
    used = {
        next(
            pattern
            for pattern, text in measured.captions().items()
            if measured.caption_of(n).startswith(text)
        )
        for n in names
    }
    assert used == set(measured.captions()), "a caption for each figure, a figure for each caption"
    assert not any(re.search(r"0\.\d{3}", text) for text in measured.captions().values()), (
        "results are not typed"
    )
    assert measured.caption_of("03_calibrated_s0.60_trace").endswith(
        "Protocol calibrated, s = 0.60."
    )


def test_every_executed_notebook_is_shown_under_a_title_of_its_own_and_its_cost_is_listed():
    page, jobs = pages.notebooks_page(), measured.jobs()
    titles = set()
    for notebook in sorted(common.EXECUTED.glob("*.ipynb")):
        assert f"\nexecuted/{notebook.stem}\n" in page
        source = pages.named(f"executed/{notebook.stem}", notebook.read_text(encoding="utf-8"))
        first = json.loads(source)["cells"][0]["source"]
        titles.add("".join(first).splitlines()[0])
        variant = "all" if (ROOT / "notebooks" / notebook.name).exists() else notebook.stem[3:]
        wanted = rf"\| {notebook.stem[:2]}[^|]* \| {variant} \| [\d.]+ \| \d+ \|"
        assert re.search(wanted, jobs) or not list(
            measured.RESULTS.glob(f"{notebook.stem[:2]}_*")
        ), notebook.stem
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"<../notebooks/{notebook.name}>" in page
    assert len(titles) == len(list(common.EXECUTED.glob("*.ipynb")))


def test_trainings_are_counted_once():
    counted = [
        int(line.split("|")[2].replace(",", "")) for line in measured.trained().splitlines()[2:]
    ]
    rows = pd.concat(
        [
            pd.read_parquet(p, columns=["key", "trainings"])
            for p in measured.EVALUATIONS.glob("[0-9]*.parquet")
        ]
    )
    assert sum(counted) == rows.drop_duplicates("key").trainings.sum()


def test_the_api_page_lists_every_module_once():
    listed = [name for names in pages.rooms().values() for name in names]
    assert len(listed) == len(set(listed)) and all(pages.rooms().values()), (
        "each room of bogp/__init__.py has modules"
    )
    assert "errors" in pages.rooms()[""] and "training.engine" in pages.rooms()["training"]
    for module in pkgutil.walk_packages(bogp.__path__, "bogp."):
        assert f"   {module.name}\n" in pages.api_index() or "__" in module.name


def test_a_new_page_enters_the_navigation_by_itself(tmp_path, monkeypatch):
    assert pages.further_pages().count("toctree") <= 1
    shutil.copy(ROOT / "docs" / "index.md", tmp_path)
    (tmp_path / "limits.md").touch()
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    assert pages.further_pages() == ""
    (tmp_path / "news.md").touch()
    assert pages.further_pages().splitlines()[-2:] == ["news", "```"]


def test_every_point_of_the_checklist_says_where_or_why_not():
    rows = [
        line.strip("| ").split(" | ")
        for line in (ROOT / "docs" / "checklist.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    points = [row for row in rows if row[0] not in ("point", "---")]
    assert len(points) > 40 and all(len(row) == 3 for row in points)
    assert {row[1] for row in points} == {"met", "not met", "in part", "not applicable"}
    assert {row[0] for row in points if row[1] == "not met"} >= {
        "Available: in a public archive with a permanent identifier"
    }


def test_checksums_of_data_sets_are_those_that_are_checked():
    from bogp import datasets

    text = (ROOT / "data" / "README.md").read_text()
    for name, those in datasets._FILES.items():
        for one in those:
            assert f"| `{name}` | `{one.name}` | `{one.sha256}` |" in text
    assert datasets._MNIST_5K_SHA256 in text


def test_the_citation_agrees_with_the_package():
    citation, project = (
        yaml.safe_load((ROOT / "CITATION.cff").read_text()),
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"],
    )
    assert {"cff-version", "message", "title", "authors"} <= citation.keys(), (
        "what the format requires"
    )
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert (str(citation["version"]), citation["license"], citation["keywords"]) == (
        project["version"],
        project["license"],
        project["keywords"],
    )
    assert citation["authors"] == project["authors"] and project["version"] == bogp.__version__
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
    assert project["license"] == "MIT" and (ROOT / "LICENSE").read_text().startswith("MIT License")


class Page(HTMLParser):
    """What a built page refers to, where one can jump in it, and its tables."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.tables: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[k] for k in ("id", "name") if found.get(k)}
        if tag == "table":
            self.tables.append("")
        if tag == "link" and "stylesheet" not in found.get("rel", ""):
            self.links.append(found["href"])
        elif tag in ("script", "img", "link", "iframe", "source") and (
            found.get("src") or found.get("href")
        ):
            self.loaded.append(found.get("src") or found["href"])
        elif found.get("href"):
            self.links.append(found["href"])

    def handle_data(self, data):
        if self.tables:
            self.tables[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        str(folder / "doctrees"),
        "docs",
        str(folder / "html"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return {path: Page(path) for path in (folder / "html").rglob("*.html")}


def first_page(site: dict[Path, Page]) -> Path:
    return next(
        path
        for path in site
        if path.name == "index.html" and (path.parent / "searchindex.js").exists()
    )


@pytest.mark.full  # builds the site: about half a minute
def test_no_link_of_the_built_site_is_broken(site):
    broken = []
    for path, page in site.items():
        for target in [*page.links, *page.loaded]:
            address = urlsplit(target)
            if address.scheme in ("http", "https", "mailto", "data"):
                continue
            file = (path.parent / unquote(address.path)).resolve() if address.path else path
            if not file.is_file() or (
                address.fragment
                and file in site
                and unquote(address.fragment) not in site[file].ids
            ):
                broken.append(f"{path.name}: {target}")
    assert not broken


@pytest.mark.full
def test_the_built_site_loads_nothing_from_elsewhere(site):
    for path, page in site.items():
        assert not [
            t for t in page.loaded if urlsplit(t).scheme in ("http", "https") or t.startswith("//")
        ], path
    for sheet in first_page(site).parent.rglob("*.css"):
        assert not re.search(
            r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")
        ), sheet


@pytest.mark.full
def test_every_page_can_be_reached_from_the_first(site):
    index = first_page(site)
    seen, waiting = {index}, [index]
    while waiting:
        path = waiting.pop()
        found = {
            (path.parent / unquote(urlsplit(t).path)).resolve()
            for t in site[path].links
            if not urlsplit(t).scheme and urlsplit(t).path
        }
        waiting += (new := found & site.keys() - seen)
        seen |= new
    unreached = {p.relative_to(index.parent).as_posix() for p in site.keys() - seen}
    assert unreached <= {"search.html", "genindex.html", "py-modindex.html", "_modules/index.html"}
    assert {p.stem for p in seen} >= {p.stem for p in [*PAGES, *common.EXECUTED.glob("*.ipynb")]}
    assert {f"bogp.{p.stem}" for p in ROOT.glob("bogp/*.py") if not p.stem.startswith("_")} <= {
        p.stem for p in seen
    }


@pytest.mark.full
def test_the_map_of_claims_of_the_built_site_has_the_verdicts(site):
    table = " ".join(site[first_page(site).parent / "claims_map.html"].tables[0].split())
    for one in pd.read_csv(measured.RESULTS / "06_claims" / "calibrated_claims.csv").itertuples():
        assert f"{one.claim}: {one.statement} {one.verdict}" in table
