"""What the paper says beside what we measured: the paper's printed numbers, and the tables that answer them.

``python -m bogp.claims RUN`` gathers the fixed-sparsity results of a run into one table and one figure.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bogp import paths
from bogp.database import DatabaseSpec, MaskDatabase, fit_scaling, nearest
from bogp.errors import BogpError
from bogp.evaluation import protocol_settings
from bogp.protocols import Protocol
from bogp.provenance import read_table, write_table
from bogp.search import SearchSettings
from bogp.statistics import mean_interval, paired_difference

# Table 1 of the paper: accuracy on the MNIST validation set, which is the set that masks were chosen on.
PAPER_BASE = 0.970
PAPER_TABLE_1 = {
    "bogp": {0.15: 0.972, 0.30: 0.972, 0.45: 0.970, 0.60: 0.968, 0.75: 0.966, 0.90: 0.951},
    "glob_1": {0.15: 0.971, 0.30: 0.970, 0.45: 0.970, 0.60: 0.967, 0.75: 0.965, 0.90: 0.945},
    "glob_5": {0.15: 0.972, 0.30: 0.972, 0.45: 0.971, 0.60: 0.970, 0.75: 0.966, 0.90: 0.962},
    "unif_1": {0.15: 0.970, 0.30: 0.970, 0.45: 0.969, 0.60: 0.966, 0.75: 0.963, 0.90: 0.810},
    "unif_5": {0.15: 0.972, 0.30: 0.972, 0.45: 0.971, 0.60: 0.970, 0.75: 0.965, 0.90: 0.950},
}
PAPER_BOGP = PAPER_TABLE_1["bogp"]
FIXED_SPARSITY = "03_fixed_sparsity_bo"  # folder of the results of that notebook, and start of the names of its figures


def search_parameters(
    protocol: Protocol, sparsity: float, settings: SearchSettings, searches: int, spec: DatabaseSpec, dataset: str
) -> dict[str, Any]:
    """What notebook 03 records of a search at a fixed sparsity, checksums and fresh seeds apart; arguments as there."""
    return {"protocol": protocol_settings(protocol), "sparsity": sparsity, "search": vars(settings), "searches": searches, "database": vars(spec),
            "dataset": dataset}  # fmt: skip


def reach(database: MaskDatabase, columns: Sequence[str], metric: str, scaling: str, queries: int, seed: int) -> dict[str, float]:
    """How much of a database Algorithm 2 can reach: queries drawn uniformly in the box of property ranges, then the nearest mask.

    Args:
        database: the masks.
        columns: the properties that span the box.
        metric, scaling: of ``database.nearest`` and ``database.fit_scaling``.
        queries: how many.
        seed: of the draw.

    Returns:
        ``reached`` (number of distinct masks), ``share`` of the database, and the mean ``similarity``.
    """
    fitted = fit_scaling(database, columns, scaling)
    values = database.values(fitted.columns)
    points = np.random.default_rng(seed).uniform(np.nanmin(values, axis=0), np.nanmax(values, axis=0), (queries, values.shape[1]))
    found = nearest(points, database, fitted, metric)
    reached = len(np.unique(found.row))
    return {"reached": reached, "share": reached / len(database), "similarity": float(found.similarity.mean())}


def fixed_sparsity_row(chosen: pd.DataFrame, sparsity: float, protocol: str, dataset: str) -> pd.DataFrame:
    """Sum up the chosen masks of one sparsity: one row a method, and the paired difference between BoGP and random masks.

    Args:
        chosen: from ``search.retrain``: one row a method and search seed.
        sparsity, protocol, dataset: what was run; repeated in each row.

    Returns:
        Rows for ``bogp``, ``random`` and ``bogp - random`` with mean, ``low`` and ``high`` (95 % t interval over ``n`` searches)
        of ``apparent``, ``fresh_validation`` and ``fresh_test``, in long form (column ``measure``).
    """
    rows = []
    by_seed = {method: one.set_index("search_seed").sort_index() for method, one in chosen.groupby("method")}
    for measure in ("apparent", "fresh_validation", "fresh_test"):
        intervals = {method: mean_interval(one[measure]) for method, one in by_seed.items()}
        intervals["bogp - random"] = paired_difference(by_seed["bogp"][measure], by_seed["random"][measure])
        for method, interval in intervals.items():
            rows.append((dataset, protocol, sparsity, method, measure, interval.mean, interval.low, interval.high, interval.n))
    names = ["dataset", "protocol", "target_sparsity", "method", "measure", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=names)


def fixed_sparsity_table(run: str) -> pd.DataFrame:
    """All sparsities and protocols of a run, as ``fixed_sparsity_row`` makes them, in order.

    Raises:
        BogpError: the run has no results yet.
    """
    files = sorted((paths.results_dir(run) / FIXED_SPARSITY).glob("*_summary.csv"))
    if not files:
        raise BogpError(f"The run {run!r} has no results of notebook {FIXED_SPARSITY} yet. Run it first, for instance with make reproduce.")
    table = pd.concat([read_table(f) for f in files], ignore_index=True)
    return table.sort_values(["dataset", "protocol", "measure", "target_sparsity", "method"], kind="stable", ignore_index=True)


def markdown(table: pd.DataFrame) -> str:
    """The fixed-sparsity table for people: one row a protocol and sparsity, means with 95 % intervals, beside the paper's number.

    Args:
        table: from ``fixed_sparsity_table``.
    """
    lines = [
        "| protocol | sparsity | searches | paper, BoGP | BoGP, as chosen (validation) | BoGP (test) | random masks (test) | BoGP minus random (test) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (protocol, sparsity), one in table.groupby(["protocol", "target_sparsity"]):
        rows = one.set_index(["method", "measure"])
        chosen, bogp, random = (
            rows.loc[k] for k in [("bogp", "apparent"), ("bogp", "fresh_test"), ("random", "fresh_test")]
        )  # fmt: skip
        gap = rows.loc[("bogp - random", "fresh_test")]
        paper = f"{PAPER_BOGP[sparsity]:.3f}" if sparsity in PAPER_BOGP else "-"
        lines.append(
            f"| `{protocol}` | {sparsity:.2f} | {gap['n']:.0f} | {paper} | {chosen['mean']:.4f} | {bogp['mean']:.4f} | {random['mean']:.4f} "
            f"| {gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}] |"
        )
    return "\n".join(lines)


def as_markdown(table: pd.DataFrame) -> str:
    """A table of texts and whole numbers in Markdown, as it stands in the README."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def findings(table: pd.DataFrame) -> str:
    """The comparison of BoGP with random search in two sentences, worked out from the table.

    Args:
        table: from ``fixed_sparsity_table``.
    """
    gap = table[(table["method"] == "bogp - random") & (table["measure"] == "fresh_test")]
    better, worse = int((gap["low"] > 0).sum()), int((gap["high"] < 0).sum())
    largest = gap["mean"].abs().max()
    return (
        f"Of {len(gap)} comparisons with random search on test images, the masks that BoGP chose are better in {better}, worse in {worse}, and cannot be told "
        f"apart in {len(gap) - better - worse} (95 % intervals, not corrected for their number). The largest mean difference, either way, is {largest:.4f}."
    )


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bogp.claims", description="Gather the fixed-sparsity results of a run.")
    parser.add_argument("run", help="name of the run: smoke, paper or one of yours")
    parser.add_argument("--markdown", action="store_true", help="print the table as it stands in the README, and write nothing")
    arguments = parser.parse_args(argv)
    run = arguments.run
    from bogp import figures

    try:
        table = fixed_sparsity_table(run)
        if arguments.markdown:
            print(markdown(table), findings(table), sep="\n\n")
            return 0
        path = write_table(table, paths.results_dir(run) / "fixed_sparsity.csv", parameters={"run": run})
        figures.use_style()
        figures.save(figures.fixed_sparsity(table, PAPER_BOGP), run, FIXED_SPARSITY)
    except BogpError as error:
        print(f"bogp: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
