"""What the paper says beside what we measured: the paper's printed numbers, and the tables that answer them.

``python -m bogp.studies.fixed_sparsity.tables RUN`` gathers the fixed-sparsity results of a run into one table and one figure.
"""

import argparse
import sys
from typing import Any

import pandas as pd

from bogp import paths
from bogp.errors import BogpError
from bogp.graphs.database import DatabaseSpec
from bogp.records import read_table, write_table
from bogp.search.searchers import SearchSettings
from bogp.statistics import mean_interval, paired_difference
from bogp.studies.printed import PAPER_BOGP
from bogp.training.evaluation import protocol_settings
from bogp.training.protocols import Protocol

FIXED_SPARSITY = "03_fixed_sparsity_bo"  # folder of the results of that notebook, and start of the names of its figures


def search_parameters(
    protocol: Protocol, sparsity: float, settings: SearchSettings, searches: int, spec: DatabaseSpec, dataset: str
) -> dict[str, Any]:
    """What notebook 03 records of a search at a fixed sparsity, checksums and fresh seeds apart; arguments as there."""
    return {"protocol": protocol_settings(protocol), "sparsity": sparsity, "search": vars(settings), "searches": searches, "database": vars(spec),
            "dataset": dataset}  # fmt: skip


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
    parser = argparse.ArgumentParser(
        prog="python -m bogp.studies.fixed_sparsity.tables", description="Gather the fixed-sparsity results of a run."
    )
    parser.add_argument("run", help="name of the run: smoke, paper or one of yours")
    parser.add_argument("--markdown", action="store_true", help="print the table as it stands in the README, and write nothing")
    arguments = parser.parse_args(argv)
    run = arguments.run
    from bogp import plotting
    from bogp.studies.fixed_sparsity import plots

    try:
        table = fixed_sparsity_table(run)
        if arguments.markdown:
            print(markdown(table), findings(table), sep="\n\n")
            return 0
        path = write_table(table, paths.results_dir(run) / "fixed_sparsity.csv", parameters={"run": run})
        plotting.use_style()
        plotting.save(plots.fixed_sparsity(table, PAPER_BOGP), run, FIXED_SPARSITY)
    except BogpError as error:
        print(f"bogp: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())


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
