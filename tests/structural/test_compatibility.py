"""The compatibility table: its truth and its page here; a dozen networks of the three libraries
under the marker ``full``, within the environment of ``make compatibility``.
"""

import re
import warnings
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.compatibility import measure, models, names, page, stubs, truth
from benchmarks.compatibility.measure import COLUMNS, WHOLE, YES
from bogp import structural
from bogp.structural.drop import NotInPlace

PAGE = Path(__file__).resolve().parents[2] / "docs" / "depth_pruning.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
FIRST = {"gpt2": 0, "bert": 1, "vit": 2, "timm": 3}  # each stands alone
ABSENT = [name for name in names.LIBRARIES if find_spec(name) is None]
SMALL = (
    *(("torchvision", name) for name in ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5")),
    *(("timm", name) for name in ("regnetx_002", "starnet_s050", "edgenext_xx_small")),
    *(("transformers", name) for name in ("GPT2LMHeadModel", "LlamaForCausalLM")),
    ("transformers", "BertForSequenceClassification"),
    ("transformers", "T5ForConditionalGeneration"),
    ("transformers", "ViTForImageClassification"),
    ("transformers", "ConvNextForImageClassification"),
)


class Branches(nn.Module):
    """A sum, a sum in place, and a concatenation."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        h = self.a(x) + self.b(x)
        h += self.c(x)
        return self.head(torch.cat([h, x], 1))


@pytest.fixture
def branches():
    torch.manual_seed(0)
    return Branches().eval(), torch.randn(3, 4)


@pytest.mark.parametrize(
    ("place", "lost"), [((0, 0), "a"), ((0, 1), "b"), ((1, 1), "c"), ((2, 0), "abc"), ((2, 1), "x")]
)
def test_the_truth_overwrites_one_operand(branches, place, lost):
    model, x = branches
    parts = [0 if name in lost else getattr(model, name)(x) for name in "abc"]
    h = sum(parts) + torch.zeros(3, 4)
    expected = model.head(torch.cat([h, x * (lost != "x")], 1))
    assert torch.allclose(truth.outputs_without(model, (x,), place), expected, atol=1e-6)


def test_the_truth_finds_an_edge_by_its_values(branches):
    model, x = branches
    a, b, c = (getattr(model, name)(x) for name in "abc")
    wanted = [truth.Wanted(b, a + b), truth.Wanted(a + b, a + b + c), truth.Wanted(a, b)]
    assert truth.places(model, (x,), wanted) == [(0, 1), (1, 0), None]


def test_an_operand_that_stands_twice_is_told_apart_by_its_place():
    class Twice(nn.Module):
        def forward(self, x):
            return torch.cat([x, 2 * x, x], 1)

    x = torch.randn(3, 4)
    made = Twice()(x)
    wanted = [truth.Wanted(x, made), truth.Wanted(x, made, repeat=1)]
    assert truth.places(Twice(), (x,), wanted) == [(0, 0), (0, 2)]


def test_leave_one_out_is_compared_with_the_truth(branches):
    model, x = branches
    architecture = names.Architecture("none", "branches", examples=3)
    subject = measure.Subject(architecture, model, (x,), seed=0)
    graph = structural.capture(model, (x,))
    row = measure.leave_one_out(graph, subject)
    assert row["leave_one_out"] == YES and row["compared"] == row["drawn"] == len(graph.candidates)
    found, cut = measure.surgery(graph, subject)
    assert found["surgery"] == YES and found["idle"] == 0 and cut is not None
    assert found["flops_cut"] < found["flops"]


def test_parameters_without_use_are_seen(branches):
    model, x = branches
    subject = measure.Subject(names.Architecture("none", "x", examples=3), model, (x,), seed=0)
    graph = structural.capture(model, (x,))
    module = structural.remove(graph, graph.without([graph.candidates[0]]))
    module.register_parameter("left", nn.Parameter(torch.ones(2)))
    cut = measure.Cut(graph, subject, graph.without([]), module)
    assert measure.idle_parameters(cut) == {"left"}


def test_a_time_limit_is_of_the_processor_and_ends_the_row():
    def forever():
        while True:
            pass

    assert measure.asked(forever, 0.05) == "took longer than 0 s"
    with pytest.raises(measure.TookTooLong), measure.limited(0.05):
        measure.asked(forever)


def test_nothing_is_constant_after_perturbation():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LayerNorm(144))
    models.perturb(model)
    assert all(p.unique().numel() > 1 for p in model.parameters())
    model.eval()
    models.settle(model, (torch.randn(8, 3, 8, 8) * 50,))
    assert not model[1].training and model[1].momentum == 0.1
    values = model[1](model[0](torch.randn(8, 3, 8, 8) * 50))
    assert 0.3 < values.std() < 3, "the norm knows what reaches it"


def test_the_list_holds_enough_of_each_library_once():
    counts = Counter(a.library for a in names.ALL)
    assert counts["torchvision"] >= 27 and counts["timm"] >= 65 and counts["transformers"] >= 35
    assert len({(a.library, a.name) for a in names.ALL}) == len(names.ALL)
    assert {a.inputs for a in names.ALL} <= models.INPUTS.keys()
    assert set(models.HAS_LENGTH) <= models.INPUTS.keys()


def made_up() -> tuple[pd.DataFrame, dict]:
    """Three rows: all right, refused, and stopped."""
    good = dict.fromkeys(page.ANSWERS, YES) | dict.fromkeys(WHOLE, 8)
    good |= {"library": "timm", "name": "fine", "route": "fx", "flops": 200, "flops_cut": 100}
    good |= {"idle": 0, "trains": "refused: captured in evaluation mode", "seconds": 1.5}
    bad = {"library": "transformers", "name": "BadModel", "captured": "`x` | is unknown"}
    bad |= {"wrapped": YES, "torch_pruning": YES, "leave_one_out": "1 of 8 are others"}
    bad |= {"compared": 8, "equal": 7}
    slow = {"library": "torchvision", "name": "slow", "stopped": "took longer than 150 s: captured"}
    table = pd.DataFrame([good, bad, slow], columns=list(COLUMNS))
    table["code"] = ["a1", "a1", "b2"]
    texts = [c for c in COLUMNS if c not in (*WHOLE, "seconds", "capture_seconds")]
    table[texts] = table[texts].astype(object).fillna("")
    record = {"python": "3", "parameters": {"versions": {"torch": "2"}, "seed": 0}}
    record["parameters"] |= {"seconds": 150, "gibibytes": 12}
    return table, record


def test_the_committed_page_is_what_the_committed_table_gives():
    table, record = page.read()
    assert page.PAGE.read_text(encoding="utf-8") == page.page(table, record)
    listed = [(a.library, a.name) for a in names.ALL]
    assert list(zip(table["library"], table["name"], strict=True)) == listed, "none is left out"


def test_no_committed_number_is_wrong():
    table, _ = page.read()
    assert (table["equal"].dropna() == table["compared"].dropna()).all()
    assert set(table["surgery"]) <= {"", YES} and not (table["idle"] > 0).any()
    assert not (table["flops_cut"] > table["flops"]).any()


def test_the_page_says_what_the_rows_say():
    text = page.page(*made_up())
    joined = " ".join(text.split())
    assert "**0 of 1 of torchvision, 1 of 1 of timm, 0 of 1 of transformers**" in joined
    assert "Of 16 losses" in joined and "15 are the same" in joined
    assert "2 states of the code" in joined and "2 with `a1`, 1 with `b2`" in joined
    assert "| trains | 0 of 0 | 0 of 1 (1 refused) | 0 of 0 |" in text
    assert "| fine | yes | fx | 8 | 8 | 8 | yes | 8 of 8 | 100 % | 50 % | yes |" in text
    assert "| BadModel | wrapped |" in text and "- `'x' | is unknown`: BadModel" in text
    assert "- `took longer than 150 s: captured`: slow" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count(" | ") for line in block.splitlines()}) == 1


@pytest.mark.skipif(
    bool(ABSENT), reason=f"not installed here: {', '.join(ABSENT)}; see `make help`"
)
@pytest.mark.full  # some ten seconds each
@pytest.mark.parametrize(("library", "name"), SMALL)
def test_other_peoples_networks(library, name):
    row = measure.measure(names.found(library, name), 300, keep=lambda _: None)
    for column in ("captured", "leave_one_out", "surgery", "saves", "exports", "other_batch"):
        answer = str(row[column])
        assert answer == YES or answer.startswith("the model itself"), f"{column}: {answer}"
    assert row["compared"] >= 1 and row["idle"] == 0
    assert row["flops_cut"] <= row["flops"] and row["parameters_cut"] <= row["parameters"]


def test_the_page_on_depth_pruning_begins_with_four_models_in_ten_lines_each():
    assert "GPT2" in CODE[0] and "Bert" in CODE[1] and "ViT" in CODE[2] and "timm" in CODE[3]
    for text in CODE[:4]:
        assert 0 < sum(bool(line.strip()) for line in text.splitlines()) <= 10
        assert "structural.prune(model," in text


@pytest.mark.skipif(bool(ABSENT), reason=f"not installed here: {', '.join(ABSENT)}")
@pytest.mark.full
@pytest.mark.parametrize("name", FIRST)
def test_the_code_on_depth_pruning_runs(name, tmp_path, monkeypatch):
    stubs.make_importable()
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotInPlace)
        exec(CODE[FIRST[name]], names)
        small, model = names["small"], names["model"]
        assert type(small.model) is type(model)
        assert small.table.parameters["after"] < small.table.parameters["before"]
        assert ("fine-tuned" in small.table.index) == (name == "timm")
        for text in CODE[4:] if name == "gpt2" else ():  # the rest of the page goes on with it
            exec(text, names)
