"""Notebook 14 run for real, small; its numbers against a forward pass by hand, scipy and searches
replayed.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from bogp import paths
from bogp.structural import search
from bogp.studies.surrogates import fresh, measure, searching, tables
from bogp.zoo import networks
from tests.notebooks.in_process import refusal, run

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "14_surrogate_search.ipynb"
SETTINGS = measure.Settings("mnist-5k", width=4, train=200, images=30, masks=30, design=1)
SMALL = {
    "run": "t",
    "sizes": ["10-15", "50-100"],
    "width": 4,
    "train_images": 200,
    "images": 30,
    "masks": 30,
    "design": 1,
}
SMALL |= {"share": 0.02, "repeats": 2, "cores": 1}


def loss_by_hand(network, seed, mask):
    """The mean test loss of a random network under a mask, vertex by vertex; a vertex that nothing
    live reaches is silent.
    """
    parents = networks.random_parents("10-15", seed)
    own = measure.own_edges(network.graph)
    assert len(own) == sum(map(len, parents)), "this graph has no chains that were contracted"
    kept = {(e.source - 1, e.target - 1) for e in network.graph.edges if mask[e.index]}
    assert {
        (network.graph.edges[i].source - 1, network.graph.edges[i].target - 1) for i in own
    } == {(p, j) for j, ps in enumerate(parents) for p in ps}
    weights = dict(network.graph.module.named_parameters())
    values = [
        torch.relu(
            network.test.inputs[0].flatten(1) @ weights["vertices.0.weight"].T
            + weights["vertices.0.bias"]
        )
    ]
    for j in range(1, len(parents)):
        live = [values[p] for p in parents[j] if (p, j) in kept and values[p] is not None]
        values.append(
            torch.relu(
                sum(live) @ weights[f"vertices.{j}.weight"].T + weights[f"vertices.{j}.bias"]
            )
            if live
            else None
        )
    outputs = (
        torch.zeros(len(network.test), 10)
        if values[-1] is None
        else values[-1] @ weights["head.weight"].T + weights["head.bias"]
    )
    return torch.nn.functional.cross_entropy(outputs, network.test.targets).item()


def test_14_surrogate_search_and_again_from_its_tables(home):
    results, units = (
        d("t") / "14_surrogate_search" for d in (paths.results_dir, paths.evaluations_dir)
    )
    run(NOTEBOOK, SMALL)
    ranked, summary, found, reached, signed, verdicts = (
        pd.read_csv(results / f"{t}.csv")
        for t in ("ranks", "summary", "searches", "reached", "signed", "verdicts")
    )
    table = pd.read_csv(units / "ranks-10-15-0.csv.gz")
    network = measure.trained("10-15", 0, SETTINGS)
    masks = measure.as_masks(table["mask"], len(network.graph.edges))
    measured = table.index[table.part != "larger"][:: len(table) // 12]
    assert table.test[measured].tolist() == pytest.approx(
        [loss_by_hand(network, 0, masks[i]) for i in measured], abs=1e-5
    )
    assert table.test[table.part == "larger"].isna().all(), (
        "what surrogates learn from is not what they are tested on"
    )
    assert not set(table["mask"][table.part.isin(["half", "connected"])]) & set(
        table["mask"][table.part.isin(["published", "larger"])]
    )
    assert table.connected[table.part.isin(["connected", "larger"])].all()
    cut = table[(table.part == "half") & ~table.connected]
    assert len(cut) > 3
    assert cut.test.to_numpy() == pytest.approx(np.log(10), abs=1e-6), (
        "a dead network knows nothing"
    )
    assert cut.test_zeroed.nunique() > 1

    of = ranked.set_index(["size", "seed", "reading", "design", "predictor", "masks"])
    assert (
        ranked[(ranked.masks == "half disconnected") & (ranked.reading == "removed")]
        .spearman.isna()
        .all()
    )
    rows = table.part == "half"
    for predictor in ("magnitude", "published_taylor", "hessian"):
        one = of.loc["10-15", 0, "removed", "zero-shot", predictor, "half"]
        expected = (
            stats.spearmanr(table[predictor][rows], table.test[rows]).statistic,
            stats.kendalltau(table[predictor][rows], table.test[rows]).statistic,
        )
        assert (one.spearman, one.kendall) == pytest.approx(expected, abs=1e-3)
    for row in summary.sample(10, random_state=0).itertuples():
        chosen = (
            (ranked["size"] == row.size)
            & (ranked.reading == row.reading)
            & (ranked.design == row.design)
        )
        values = ranked[
            chosen & (ranked.predictor == row.predictor) & (ranked.masks == row.masks)
        ].spearman.dropna()
        assert (row.spearman, row.n) == pytest.approx((values.mean(), len(values)))
        if len(values) > 1 and values.std() > 0:
            assert (row.spearman_low, row.spearman_high) == pytest.approx(
                np.clip(
                    stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values)), -1, 1
                )
            )
    printed = summary[(summary.predictor == "path") & (summary["size"] == "50-100")].printed
    assert (printed == 0.349).all(), "as structural.md has it"
    connected = ranked[
        (ranked.masks == "connected")
        & (ranked.reading == "removed")
        & (ranked.design == "zero-shot")
    ]
    wide = connected.pivot(index=["size", "seed"], columns="predictor", values="spearman")
    assert signed["mean"][0] == pytest.approx((wide.first_order - wide.published_taylor).mean())

    seeds = searching.search_seeds(2)
    assert found.seed.unique().tolist() == seeds
    for seed in seeds:
        measured = pd.read_csv(units / f"search-{seed}.csv.gz")
        graph = measure.blank_graph("10-15", seed)
        removed = measured.edges.max()
        feasible = measured[measured.edges == removed].loss
        space = search.Space(graph, int(removed))
        assert len(feasible) == len(space.all())
        losses = measure.looked_up(
            measure.as_masks(measured["mask"], len(graph.edges)), measured.loss
        )
        for repeat in (0, 1):
            mine = found[
                (found.seed == seed) & (found.method == "random") & (found.repeat == repeat)
            ]
            again = search.random(space, losses, round(0.02 * len(feasible)), repeat)
            assert mine.regret.to_numpy() == pytest.approx(
                (again.best - feasible.min()) / (feasible.median() - feasible.min())
            )
            assert mine.share.max() == pytest.approx(0.02, abs=0.5 / len(feasible))
    assert (
        found.groupby(["method", "seed", "repeat"])
        .regret.apply(lambda r: r.is_monotonic_decreasing or r.iloc[0] > 1)
        .all()
    )
    assert (found.regret >= 0).all()
    last = (
        found.groupby(["method", "seed", "repeat"]).regret.last().groupby(["method", "seed"]).mean()
    )
    for row in reached.itertuples():
        assert (row.graphs, row.of, row.mean) == pytest.approx(
            ((last[row.method] <= 0.05).sum(), 2, last[row.method].mean())
        )
    assert verdicts.verdict.tolist() == ["no verdict", "no verdict"], (
        "two graphs a class; and there is none of more than 100 edges"
    )
    assert len(list(paths.figures_dir("t").glob("14_*.p[dn][fg]"))) == 8
    new = pd.read_csv(results / "fresh_ranks.csv")
    assert sorted(new.seed.unique()) == [10, 11] and set(new["size"]) == {"10-15", "50-100"}
    one = pd.read_csv(units / "fresh-10-15-10.csv.gz")
    rows = one.part == "connected"
    flow = new[(new.predictor == "flow") & (new.masks == "connected")].iloc[0]
    rho = stats.spearmanr(one.flow[rows].round(9), one.test[rows]).statistic
    assert flow.spearman == pytest.approx(rho)
    hard = pd.read_csv(results / "hard_searches.csv")
    assert set(hard["size"]) == {"50-100"} and set(hard.prior) == set(fresh.PRIORS)
    assert (pd.read_csv(results / "fresh_verdicts.csv").verdict == "no verdict").all()

    before = {f: f.read_bytes() for f in (*results.glob("*.csv"), *units.glob("*.csv.gz"))}
    times = {f: f.stat().st_mtime_ns for f in units.iterdir()}
    run(NOTEBOOK, SMALL | {"cores": 2}, save_figures=False)
    assert {f: f.read_bytes() for f in before} == before
    assert {f: f.stat().st_mtime_ns for f in units.iterdir()} == times, "nothing was measured twice"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": ["7-9"]}, "7-9"),
        ({"share": 0.0}, "share is 0.0"),
        ({"dataset": "cifar10-12k", "cores": 0}, "mnist-5k, mnist"),
    ],
)
def test_bad_values_end_in_one_clear_message_before_any_training(home, change, message):
    assert message in refusal(NOTEBOOK, SMALL | change)
    assert not paths.evaluations_dir("t").exists()


def verdict_of(ranked, regrets, share=0.1):
    summary = tables.summary(ranked)
    return tables.verdicts(ranked, summary, tables.reached(regrets, 0.05, 0.1), share)


def test_verdicts_follow_their_rules():
    rng = np.random.default_rng(0)

    def world(signed, best, regret, graphs=10):
        values = {
            ("zero-shot", "first_order"): signed,
            ("zero-shot", "published_taylor"): 0.0,
            ("larger", "path"): best,
        }
        rows = [
            {
                "size": size,
                "seed": seed,
                "reading": "removed",
                "masks": masks,
                "design": d,
                "predictor": p,
                "spearman": v,
                "kendall": v,
                "n": 9,
            }
            for size in networks.SIZES
            for seed in range(graphs)
            for masks in ("connected", "single")
            for (d, p), v in values.items()
        ]
        ranked = pd.DataFrame(rows)
        ranked["spearman"] += 0.01 * rng.normal(size=len(ranked))
        ranked.loc[ranked.masks == "single", "spearman"] *= -1  # no rule reads them
        regrets = [
            {"method": m, "seed": s, "repeat": 0, "share": 0.1, "regret": regret if s < 8 else 1.0}
            for m in ("bo", "random")
            for s in range(graphs)
        ]
        return verdict_of(ranked, pd.DataFrame(regrets)).verdict.tolist()

    assert world(0.3, 0.9, 0.05) == ["met"] * 3
    assert world(-0.3, 0.7, 0.06) == ["not met"] * 3
    assert world(0.3, 0.9, 0.05, graphs=9) == ["no verdict"] * 3
