"""Notebook 03 in tables: the masks that searches chose, summed up beside the paper's numbers.

``python -m bogp.studies.fixed_sparsity.tables RUN`` gathers the fixed-sparsity results of a run
into one table and one figure.
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import astuple
from typing import Any

import pandas as pd

from bogp import outputs, paths
from bogp.errors import BogpError
from bogp.graphs.database import DatabaseSpec
from bogp.records import read_table, write_table
from bogp.search.searchers import SearchSettings
from bogp.statistics import Interval, mean_interval
from bogp.studies.printed import PAPER_BASE, PAPER_BOGP
from bogp.training.evaluation import protocol_settings
from bogp.training.protocols import Protocol

# folder of the results of that notebook, and start of the names of its figures
FIXED_SPARSITY = "03_fixed_sparsity_bo"
MEASURES = ("apparent", "fresh_validation", "fresh_test")  # accuracies of a chosen mask
GAP = "bogp - random"  # the method that stands for the paired difference


def search_parameters(
    protocol: Protocol,
    sparsity: float,
    settings: SearchSettings,
    searches: int,
    spec: DatabaseSpec,
    dataset: str,
) -> dict[str, Any]:
    """What notebook 03 records of a search, checksums and fresh seeds apart; arguments as there."""
    return {
        "protocol": protocol_settings(protocol),
        "sparsity": sparsity,
        "search": vars(settings),
        "searches": searches,
        "database": vars(spec),
        "dataset": dataset,
    }


def with_difference(chosen: pd.DataFrame, measures: Iterable[str]) -> pd.DataFrame:
    """Sum up the masks that the two kinds of search chose, and their differences within pairs.

    Args:
        chosen: from ``search.retrain``: one row a method and search seed.
        measures: columns of it.

    Returns:
        Rows for ``bogp``, ``random`` and their paired difference ``bogp - random``: ``method``,
        ``measure``, ``mean``, ``low`` and ``high`` (95 % t interval over ``n`` searches).
    """
    wide = chosen.pivot(index="search_seed", columns="method", values=list(measures))
    rows = [
        (method, measure, *astuple(mean_interval(values)))
        for measure in measures
        for method, values in wide[measure]
        .assign(**{GAP: wide[measure].eval("bogp - random")})
        .items()
    ]
    return pd.DataFrame(rows, columns=["method", "measure", "mean", "low", "high", "n"])


def fixed_sparsity_row(
    chosen: pd.DataFrame, sparsity: float, protocol: str, dataset: str
) -> pd.DataFrame:
    """Sum up the chosen masks of one sparsity.

    Args:
        chosen: from ``search.retrain``.
        sparsity, protocol, dataset: what was run; repeated in each row.

    Returns:
        ``with_difference`` of the accuracies ``MEASURES``, after ``dataset``, ``protocol`` and
        ``target_sparsity``.
    """
    table = with_difference(chosen, MEASURES)
    labels = {"dataset": dataset, "protocol": protocol, "target_sparsity": sparsity}
    return table.assign(**labels)[[*labels, *table.columns]]


def answer(summary: pd.DataFrame, trainings: int) -> str:
    """What notebook 03 found at one sparsity, in a sentence.

    Args:
        summary: from ``fixed_sparsity_row``.
        trainings: networks that a search trains.
    """
    fresh = summary[summary["measure"] == "fresh_test"].set_index("method")
    gap = fresh.loc[GAP]
    better = "BoGP" if gap["low"] > 0 else "random search" if gap["high"] < 0 else None
    says = f"says that {better} did better" if better else "cannot be told from zero"
    return (
        f"At sparsity {gap['target_sparsity']:g}, with {trainings} trained networks a search, the "
        f"masks that BoGP chose reach a test accuracy of {fresh.loc['bogp', 'mean']:.4f} with "
        f"fresh seeds, those of random search {fresh.loc['random', 'mean']:.4f}. The difference, "
        f"{outputs.with_interval(gap, '+.4f')} (95 % t interval, {gap['n']} pairs of searches), "
        f"{says}."
    )


def beside_the_paper(summary: pd.DataFrame, unpruned: Interval) -> pd.DataFrame:
    """The chosen masks of one sparsity, and the unpruned network, beside the paper's numbers.

    Args:
        summary: from ``fixed_sparsity_row``.
        unpruned: test accuracy of the unpruned network.
    """
    rows = summary.set_index(["method", "measure"])
    printed = PAPER_BOGP.get(summary["target_sparsity"].iloc[0])

    def ours(method: str, measure: str, form: str = ".4f") -> str:
        one = rows.loc[(method, measure)]
        split = "validation" if measure == "apparent" else "test, fresh seeds"
        return f"{outputs.with_interval(one, form)} (n = {one['n']}), {split}"

    paper = f"{printed:.3f}" if printed else "-"
    lines = [
        ("accuracy of BoGP's mask", paper, ours("bogp", "fresh_test")),
        ("the same, as it was chosen", "-", ours("bogp", "apparent")),
        ("accuracy of random search's mask", "-", ours("random", "fresh_test")),
        ("accuracy of the unpruned network", f"{PAPER_BASE:.3f}", f"{unpruned}, test"),
        ("BoGP minus random search", "-", ours(GAP, "fresh_test", "+.4f")),
    ]
    return pd.DataFrame(lines, columns=["quantity", "the paper says", "we got"])


def fixed_sparsity_table(run: str) -> pd.DataFrame:
    """All sparsities and protocols of a run, as ``fixed_sparsity_row`` makes them, in order.

    Raises:
        BogpError: the run has no results yet.
    """
    files = sorted((paths.results_dir(run) / FIXED_SPARSITY).glob("*_summary.csv"))
    if not files:
        raise BogpError(
            f"The run {run!r} has no results of notebook {FIXED_SPARSITY} yet. "
            "Run it first, for instance with make reproduce."
        )
    table = pd.concat([read_table(f) for f in files], ignore_index=True)
    order = ["dataset", "protocol", "measure", "target_sparsity", "method"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def findings(table: pd.DataFrame) -> str:
    """The comparison of BoGP with random search in two sentences, worked out from the table.

    Args:
        table: from ``fixed_sparsity_table``.
    """
    gap = table[(table["method"] == GAP) & (table["measure"] == "fresh_test")]
    better, worse = int((gap["low"] > 0).sum()), int((gap["high"] < 0).sum())
    return (
        f"Of {len(gap)} comparisons with random search on test images, the masks that BoGP chose "
        f"are better in {better}, worse in {worse}, and cannot be told apart in "
        f"{len(gap) - better - worse} (95 % intervals, not corrected for their number). The "
        f"largest mean difference, either way, is {gap['mean'].abs().max():.4f}."
    )


def rendered(table: pd.DataFrame) -> pd.DataFrame:
    """The fixed-sparsity table for people: one row a protocol and sparsity, beside the paper's.

    Args:
        table: from ``fixed_sparsity_table``.
    """
    keys = ["protocol", "target_sparsity"]
    means = table.set_index([*keys, "method", "measure"])["mean"]
    gaps = table[(table["method"] == GAP) & (table["measure"] == "fresh_test")]
    return pd.DataFrame(
        {
            "protocol": f"`{key[0]}`",
            "sparsity": f"{key[1]:.2f}",
            "searches": gap["n"],
            "paper, BoGP": f"{PAPER_BOGP[key[1]]:.3f}" if key[1] in PAPER_BOGP else "-",
            "BoGP, as chosen (validation)": f"{means[*key, 'bogp', 'apparent']:.4f}",
            "BoGP (test)": f"{means[*key, 'bogp', 'fresh_test']:.4f}",
            "random masks (test)": f"{means[*key, 'random', 'fresh_test']:.4f}",
            "BoGP minus random (test)": outputs.with_interval(gap, "+.4f"),
        }
        for key, gap in gaps.sort_values(keys).set_index(keys).iterrows()
    )


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bogp.studies.fixed_sparsity.tables",
        description="Gather the fixed-sparsity results of a run.",
    )
    parser.add_argument("run", help="name of the run: smoke, paper or one of yours")
    parser.add_argument(
        "--markdown", action="store_true", help="print the table in Markdown, and write nothing"
    )
    arguments = parser.parse_args(argv)
    run = arguments.run
    from bogp import plotting
    from bogp.studies.fixed_sparsity import plots

    try:
        table = fixed_sparsity_table(run)
        if arguments.markdown:
            print(outputs.as_markdown(rendered(table)), findings(table), sep="\n\n")
            return 0
        path = write_table(table, paths.results_dir(run) / "fixed_sparsity.csv", {"run": run})
        plotting.use_style()
        plotting.save(plots.fixed_sparsity(table, PAPER_BOGP), run, FIXED_SPARSITY)
    except BogpError as error:
        print(f"bogp: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
