"""docs/compatibility.md, worked out from the table and from nothing else: ``python -m
benchmarks.compatibility.page`` writes it again from the committed CSV.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bogp.records import read_table

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "data" / "results" / "compatibility" / "networks.csv"
PAGE = ROOT / "docs" / "compatibility.md"
LIBRARIES = ("torchvision", "timm", "transformers")
YES, REFUSED = "yes", "refused: "

# What can be answered with yes, with its heading and what it asks.
ANSWERS = {
    "captured": (
        "captured",
        "`structural.capture(model, inputs)` takes the network *as it is*: the library's own "
        "module and inputs, which are keyword arguments and containers in transformers. *wrapped*: "
        "only within a small module that hands over positional tensors and returns the first "
        "output.",
    ),
    "batched": (
        "batched",
        "each edge carries the batch first, so that masks stand side by side in one batch.",
    ),
    "leave_one_out": (
        "leave-one-out",
        "of up to eight candidate edges drawn at random, all that can be compared change the loss "
        "as the original network does when that operand of its own sum or concatenation is "
        "overwritten with zeros on the way, within 1e-4 of the loss. The network runs as it is, "
        "without this package; an edge is found in it by its values. The numbers say how many are "
        "equal, of how many whose place is clear.",
    ),
    "first_order": ("first order", "the score of that name runs, and is finite."),
    "fisher": ("Fisher", "likewise."),
    "surgery": (
        "cut",
        "`structural.remove` without a random quarter of the candidates gives the outputs of the "
        "gated network, within 1e-4 of the largest.",
    ),
    "gradients": (
        "gradients",
        "every parameter that the cut network still has gets a gradient, if it does in the whole "
        "one: none is left without use.",
    ),
    "cost": (
        "cost",
        "`structural.cost` takes the same inputs, and neither parameters nor operations rise.",
    ),
    "trains": (
        "trains",
        "`.train()` switches on dropout and batch statistics in the cut network, and a step can be "
        "made. *refused*: the network says that it was captured in evaluation mode.",
    ),
    "saves": (
        "saves",
        "the cut network comes back from a file with the same outputs, and all names in its state "
        "dict are the model's.",
    ),
    "other_batch": (
        "batches",
        "with one example more, and with one alone, the captured network gives the model's "
        "outputs, and the cut one those of the gated one.",
    ),
    "other_length": ("lengths", "the same with texts three tokens shorter, and five longer."),
    "exports": (
        "exports",
        "`torch.export` takes the cut network, and gives the same outputs; one with keyword "
        "arguments within a module that calls it by name.",
    ),
    "dropped": (
        "dropped in place",
        "`structural.drop` takes the middle one of its blocks, or where it has none of its "
        "residual branches, out of the model itself, which stays of its class and gives the "
        "outputs of the gated network. Asked where there is a block or a branch.",
    ),
    "generates": (
        "generates",
        "the smaller model of transformers writes with its cache what it writes without.",
    ),
    "reloads": (
        "reloads",
        "saved by `save_pretrained` and loaded by `structural.load` it gives the same outputs.",
    ),
    "torch_pruning": (
        "Torch-Pruning",
        "for comparison: `DependencyGraph().build_dependency` of Torch-Pruning runs on the same "
        "network and inputs.",
    ),
}
# What else there is.
_NUMBERS = """- *vertices, edges, candidates* of the graph; *route*: which tracer took it.
- *parameters*, *FLOPs*: of the cut network, in percent of the whole one (products and
  convolutions, by `structural.cost`).
- *s*, *MB*: time and peak memory of all of this for the one network, libraries included, on a
  machine that had other work to do."""


def page(table: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """The page in Markdown.

    Args:
        table: a row a network, as ``measure`` makes them.
        record: its provenance.
    """
    parameters = record["parameters"]
    versions = ", ".join(f"{name} {v}" for name, v in parameters["versions"].items())
    parts = [
        "# Compatibility",
        _wrapped(summary(table)),
        _wrapped(
            f"Measured with {versions} and Python {record['python']}. `make compatibility` makes "
            "an environment of its own from `requirements-compatibility.lock`, measures again what "
            "was measured with other code, and writes this page and the [table](../data/results/"
            "compatibility/networks.csv) that it is made from; reasons are there in full. Each "
            "network is built from a configuration, with random weights (seed "
            f"{parameters['seed']}) of which none are constant, and measured in a process of its "
            f"own within {parameters['seconds']:.0f} seconds and {parameters['gibibytes']} GiB. "
            "The [list of names](../benchmarks/compatibility/names.py) was written before the "
            "first run, and none has left it: what does not work is a row with its reason."
            f"{states(table)}"
        ),
        "## In short",
        _markdown([["networks for which it holds, of those asked", *LIBRARIES], *in_short(table)]),
        "## What is asked",
        "\n".join(_wrapped(f"- *{label}*: {text}", "  ") for label, text in ANSWERS.values())
        + f"\n{_NUMBERS}",
    ]
    for library in LIBRARIES:
        parts += [f"## {library}", _markdown(rows(table[table["library"] == library]))]
    return "\n\n".join([*parts, "## What does not work, and why", *reasons(table)]) + "\n"


def summary(table: pd.DataFrame) -> str:
    """The counts in two sentences."""

    def of_each(column: str) -> str:
        counts = (
            f"{_count(those, column)} of {len(those)} of {library}"
            for library, those in _libraries(table)
        )
        return ", ".join(counts)

    cut = table[table["surgery"] != ""]
    rise = (table["flops_cut"] > table["flops"]).sum()
    return (
        f"Captured as they are: **{of_each('captured')}**. Torch-Pruning builds its graph for "
        f"{of_each('torch_pruning')}. Of {table['compared'].sum():,.0f} losses without one edge "
        f"that could be compared with the original network {table['equal'].sum():,.0f} are the "
        "same; "
        f"{_count(cut, 'surgery')} of {len(cut)} networks that were cut give what the gated "
        f"network gives, {(table['idle'] > 0).sum()} of them keep a parameter without use, and "
        f"{rise} need more operations than before."
    )


def states(table: pd.DataFrame) -> str:
    """Which rows are not of the latest code, if any."""
    counts = table["code"].value_counts()
    if len(counts) == 1:
        return ""
    return (
        f" Rows were measured with {len(counts)} states of the code, which the table's column "
        f"`code` tells apart: {', '.join(f'{n} with `{code}`' for code, n in counts.items())}."
    )


def in_short(table: pd.DataFrame) -> list[list[str]]:
    """A row a question: its count in each library."""
    lines = []
    for column, (label, _) in ANSWERS.items():
        counts = []
        for _, those in _libraries(table):
            known = those[those[column] != ""]
            refused = known[column].str.startswith(REFUSED).sum()
            more = f" ({refused} refused)" if refused else ""
            counts.append(f"{_count(known, column)} of {len(known)}{more}")
        lines.append([label, *counts])
    return lines


def rows(table: pd.DataFrame) -> list[list[str]]:
    """The heading and a row a network."""
    apart = ("captured", "batched", "leave_one_out")
    answers = {c: label for c, (label, _) in ANSWERS.items() if c not in apart}
    heading = ["network", "captured", "route", "vertices", "edges", "candidates", "batched"]
    heading += ["leave-one-out", "parameters", "FLOPs", *answers.values(), "s", "MB"]
    lines = [heading]
    for row in table.to_dict("records"):
        wrapped = row["captured"] != YES and row["wrapped"] == YES
        lines.append(
            [
                row["name"],
                "wrapped" if wrapped else _short(row["captured"]),
                row["route"],
                *(_whole(row[name]) for name in ("vertices", "edges", "candidates")),
                _short(row["batched"]),
                _compared(row),
                *(_percent(row, name) for name in ("parameters", "flops")),
                *(_short(row[name]) for name in answers),
                _whole(row["seconds"]),
                _whole(row["peak_mb"]),
            ]
        )
    return lines


def reasons(table: pd.DataFrame) -> list[str]:
    """For each question the reasons why it was not answered with yes, and of which networks."""
    parts = []
    columns = {name: label for name, (label, _) in ANSWERS.items() if name != "batched"}
    for column, label in {**columns, "stopped": "stopped"}.items():
        found: dict[str, list[str]] = {}
        for row in table.to_dict("records"):
            text = str(row[column])
            if text not in ("", YES):
                found.setdefault(_shortened(text), []).append(row["name"])
        if found:
            lines = (
                _wrapped(f"- `{reason}`: {', '.join(names)}", "  ")
                for reason, names in sorted(found.items(), key=lambda item: -len(item[1]))
            )
            parts += [f"**{label}**", "\n".join(lines)]
    return parts or ["Everything works."]


def _libraries(table: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    return ((library, table[table["library"] == library]) for library in LIBRARIES)


def _count(table: pd.DataFrame, column: str) -> int:
    return int((table[column] == YES).sum())


def _short(answer: str) -> str:
    if answer.startswith(REFUSED):
        return "refused"
    return answer if answer in ("", YES) else "no"


def _whole(number: float) -> str:
    return "" if pd.isna(number) else f"{number:,.0f}"


def _compared(row: Mapping[str, Any]) -> str:
    if pd.isna(row["compared"]):
        return _short(row["leave_one_out"])
    return f"{row['equal']:.0f} of {row['compared']:.0f}"


def _percent(row: Mapping[str, Any], name: str) -> str:
    before, after = row[name], row[f"{name}_cut"]
    return "" if pd.isna(after) or not before else f"{100 * after / before:.0f} %"


def _shortened(reason: str) -> str:
    """A reason that fits into a list, without what Markdown would read in it."""
    return textwrap.shorten(reason.replace("`", "'"), 220, placeholder=" ...")


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        100,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table, numbers to the right."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def read(path: Path = TABLE) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table, its empty answers as empty texts, and its provenance.

    Raises:
        BogpError: it is not what was written.
    """
    table = read_table(path)
    texts = [*ANSWERS, "wrapped", "route", "stopped", "code"]
    table[texts] = table[texts].astype(object).where(table[texts].notna(), "").astype(str)
    return table, json.loads(path.with_suffix(".json").read_text())


def write() -> None:
    """Write the page from the committed table."""
    PAGE.write_text(page(*read()), encoding="utf-8")


if __name__ == "__main__":
    write()
    print(PAGE)
