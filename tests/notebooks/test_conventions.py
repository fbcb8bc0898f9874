"""The notebooks as they are committed: run top to bottom, readable, and with parameters that the
runner can check.
"""

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from bogp.workflow.notebook import declared_parameters, output_names

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTED = sorted((ROOT / "docs" / "executed").glob("*.ipynb"))
# Notebooks that do not have the form yet: answer first, short cells, few parameters.
TO_DO = {
    "06_claims",
}
FORMED = [path for path in NOTEBOOKS if path.stem not in TO_DO]


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def test_there_are_notebooks():
    names = [
        "01_motivation",
        "02_mask_database",
        "03_fixed_sparsity_bo",
        "04_alpha_tradeoff_bo",
        "05_baselines",
        "06_claims",
        "07_your_own_network",
        "08_what_a_network_knows",
        "09_graphs_with_places",
        "10_computation_graphs",
        "11_edge_importance",
        "12_cifar10_scenarios",
        "13_wikitext",
        "14_surrogate_search",
        "15_depth_pruning",
        "16_residual_stream",
        "17_mask_benchmark",
    ]
    assert [p.stem for p in NOTEBOOKS] == names


@pytest.mark.parametrize("path", NOTEBOOKS + EXECUTED, ids=lambda p: p.stem)
def test_run_top_to_bottom_without_an_error_and_small(path):
    cells = code_cells(path)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert not [
        o for c in cells for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"
    ]
    data = [o.get("data", {}) for c in cells for o in c.outputs]
    shown = [one["image/png"] for one in data if "image/png" in one]
    assert shown, "a notebook shows figures"
    assert {Image.open(BytesIO(b64decode(png))).mode for png in shown} <= {"P", "RGB"}, (
        "`plotting.small`"
    )
    assert path.stat().st_size < 1e6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_one_cell_of_typed_and_explained_parameters(path):
    tagged = [c for c in code_cells(path) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert re.fullmatch(
            r"\w+: (int|float|str|bool|list\[(int|float|str|bool)\]) = .+  # \S.*", line
        ), line
    assert len(declared_parameters(path)) == len(tagged[0].source.splitlines())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_prose_first_and_logic_in_the_library(path):
    notebook = nbformat.read(path, as_version=4)
    prose = " ".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    code = [line for c in code_cells(path) for line in c.source.splitlines() if line.strip()]
    assert len(prose.split()) >= 3 * len(code)
    for cell in code_cells(path):
        assert len(cell.source.splitlines()) <= 25
        for body in re.findall(r"^def .*:\n((?:[ \t]+.*\n?)+)", cell.source, re.M):
            assert len(body.splitlines()) <= 5
    for part in (
        "**Question.**",
        "**Paper.**",
        "Inputs",
        "Outputs",
        "Run time",
        "The paper says / we got",
    ):
        assert part in prose, part


@pytest.mark.parametrize("path", FORMED, ids=lambda p: p.stem)
def test_short_cells_of_width_100_and_few_parameters(path):
    assert len(declared_parameters(path)) <= 12
    for cell in nbformat.read(path, as_version=4).cells:
        lines = cell.source.splitlines()
        assert cell.cell_type == "markdown" or len(lines) <= 15, cell.source
        # An address or a row of a table cannot be broken.
        words = [line for line in lines if not line.startswith("|") and "](" not in line]
        assert max(map(len, words), default=0) <= 100, max(words, key=len)


@pytest.mark.parametrize("path", FORMED, ids=lambda p: p.stem)
def test_answer_and_figure_stand_within_five_cells(path):
    first = nbformat.read(path, as_version=4).cells[:5]
    shown = [out.get("data", {}) for cell in first for out in cell.get("outputs", [])]
    assert any(data.get("text/markdown", "").startswith("**Answer.**") for data in shown)
    assert any("image/png" in data for data in shown)


@pytest.mark.parametrize("path", FORMED, ids=lambda p: p.stem)
def test_the_workflow_can_read_the_names_of_outputs(path):
    code = "\n".join(cell.source for cell in code_cells(path))
    assert output_names(path, "table") and output_names(path, "figure")
    assert "write_table(" not in code and "plotting.save(" not in code, "all through `out`"


@pytest.mark.parametrize(
    "profile", sorted((ROOT / "notebooks" / "profiles").glob("*.yaml")), ids=lambda p: p.stem
)
def test_profiles_name_only_parameters_that_exist(profile):
    import yaml

    declared = {p.stem[:2]: set(declared_parameters(p)) for p in NOTEBOOKS}
    config = yaml.safe_load(profile.read_text())
    assert set(config["database"]) <= declared["02"]
    for section, number in (
        ("motivation", "01"),
        ("fixed_sparsity", "03"),
        ("tradeoff", "04"),
        ("baselines", "05"),
        ("claims", "06"),
    ):
        for settings in config[section].values():
            assert (
                set(settings) - ({"sparsities"} if number == "03" else set()) <= declared[number]
            ), section
    assert set(config["your_own_network"]) <= declared["07"]
    for number, name in zip(
        range(10, 16),
        (
            "computation_graphs",
            "edge_importance",
            "cifar10_scenarios",
            "wikitext",
            "surrogate_search",
            "depth_pruning",
        ),
        strict=True,
    ):
        assert set(config[name]) <= declared[str(number)], name
    for protocol, settings in config["baselines"].items():
        assert set(settings["sparsities"]) <= set(
            config["fixed_sparsity"][protocol]["sparsities"]
        ), "Table 1 has the masks of notebook 03"
