"""What notebook 16 measures, small; and verdicts that flip."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

from bogp.graphs import properties
from bogp.graphs.relational import mask_to_graph
from bogp.studies.residual_stream import designs, measure, plots, tables, transformer
from bogp.studies.residual_stream.designs import CELLS, FAMILIES, KNOWN, Cell
from bogp.training.evaluation import Evaluator
from bogp.training.protocols import CALIBRATED
from bogp.variance import components
from bogp.zoo import tasks
from bogp.zoo.networks import Transformer

CELL = Cell("frozen", 2, 8)


@pytest.mark.parametrize("degree", sorted({cell.degree for cell in CELLS}))
def test_graphs_have_their_degree_and_no_loops(degree):
    for name in FAMILIES:
        mask = measure.graph(name, degree, 3)
        assert not np.diag(mask).any()
        assert mask.sum() == degree * measure.NODES
        np.testing.assert_array_equal(mask, measure.graph(name, degree, 3))
    assert nx.is_isomorphic(
        mask_to_graph(measure.graph("ring", degree, 0)),
        nx.circulant_graph(128, range(1, degree // 2 + 1)),
    )


def test_cliques_are_nearly_disjoint_and_families_differ():
    graphs = {name: mask_to_graph(measure.graph(name, 8, 0)) for name in FAMILIES}
    clustering = {name: nx.average_clustering(graph) for name, graph in graphs.items()}
    assert clustering["cliques"] > 0.95 > 0.6 > clustering["WS .1"] > clustering["regular"]
    assert clustering["blocks 64"] > clustering["blocks 8"]


def test_the_protocol_of_a_cell():
    how = measure.protocol(Cell("bias", 4, 8), CALIBRATED, 40)
    assert how.widths == (784, 128, 128, 128, 128, 128, 10)
    assert (how.blocks, how.first_layer, how.steps) == ("residual", "bias", 40)
    assert how.masked_layers == (1, 2, 3, 4)
    assert len({cell.name for cell in CELLS}) == len(CELLS) == 16


def test_graphs_are_trained_from_fresh_seeds(home):
    evaluator = Evaluator(progress=False)
    how = (CELL, ["ring", "cliques"], 2, 2, CALIBRATED, 5, "mnist-5k", evaluator)
    rows, later = measure.trained(*how), measure.trained(*how, first=measure.FRESH)
    assert rows["family"].tolist() == ["ring"] * 4 + ["cliques"] * 4
    assert sorted(rows["seed"].unique()) == [0, 1]
    assert sorted(later["seed"].unique()) == [100, 101]
    assert not set(rows["key"]) & set(later["key"])
    cliques = rows[rows["family"] == "cliques"]
    graph = mask_to_graph(measure.graph("cliques", 8, 1))
    assert cliques["clustering"].iloc[-1] == pytest.approx(nx.average_clustering(graph))
    shares = measure.shares(rows)
    assert shares["cell"].tolist() == [CELL.name]
    assert shares["graphs"].iloc[0] == 3, "both rings are one graph"
    plots.families(rows)
    plots.cells(shares)
    evaluator.store.close()


def table(effects, seeds=6, noise=0.001, seed=0):
    """Trainings in which each family has a mean of its own, and graphs spread a little."""
    rng, rows = np.random.default_rng(seed), []
    for k, (family, effect) in enumerate(effects.items()):
        for g in range(4):
            path = 2 + k + 0.1 * g
            for s in range(seeds):
                accuracy = effect - 0.001 * g + rng.normal(0, noise)
                rows.append((k * 4 + g, s, family, accuracy, path, 0.063, rng.random()))
    columns = ["mask", "seed", "family", "test_accuracy", "path_length", "degree_centrality"]
    found = pd.DataFrame(rows, columns=[*columns, "noise"]).assign(cell=CELL.name)
    for name in ("degree_connectivity", "eigenvector_centrality", "clustering", "s_metric"):
        found[name] = found["path_length"] if name == "clustering" else found["noise"]
    return found.assign(wiener_index=found["path_length"], edge_connectivity=1.0)


def falling(names, step=0.003):
    return {name: 0.9 - step * k for k, name in enumerate(names)}


def test_the_liveliest_cell_has_the_highest_share():
    lively, quiet = table(falling(KNOWN)), table(falling(KNOWN, 0.0), noise=0.01)
    both = pd.concat([quiet.assign(cell=CELLS[1].name), lively.assign(cell=CELLS[0].name)])
    shares = measure.shares(both)
    assert measure.liveliest(shares) == CELLS[0]


def test_a_graph_that_was_drawn_twice_counts_once():
    masks = [measure.graph(name, 4, k) for name in ("ring", "regular") for k in range(3)]
    assert measure.first_alike(masks) == [0, 0, 0, 3, 4, 5]
    values = np.random.default_rng(0).normal(np.arange(6)[:, None], 0.5, (6, 4))
    rows = [
        {"cell": "c", "mask": mask, "seed": seed, "test_accuracy": values[mask, seed]}
        for mask in measure.first_alike(masks)
        for seed in range(4)
    ]
    found = measure.shares(pd.DataFrame(rows)).iloc[0]
    once = components(values[[0, 3, 4, 5]])
    assert found["graphs"] == 4 and found["icc"] == pytest.approx(once.icc.value)


def test_properties_that_rank_other_families_agree_with_the_known_ones():
    others = [name for name in FAMILIES if name not in KNOWN]
    seen, fresh = table(falling(KNOWN)), table(falling(others), seed=1)
    found = measure.predictors(seen, fresh, 200).set_index("property")
    assert found.loc["path_length", "known"] < -0.9
    assert found.loc["path_length", "agrees"] and found.loc["clustering", "agrees"]
    assert not found.loc["s_metric", "agrees"]
    assert np.isnan(found.loc["edge_connectivity", "mean"])  # constant
    against = measure.predictors(seen, table(falling(others, -0.003), seed=1), 200)
    assert not against.set_index("property").loc["path_length", "agrees"]
    plots.predictors(found.reset_index())


@pytest.mark.parametrize("name", measure.DATABASES)
def test_databases_of_rare_good_graphs(home, name):
    small = replace(designs.named("smoke"), database=10)
    base = measure.database(CELL, small, name)
    masks = base.masks()
    assert (masks.sum(axis=(1, 2)) == 8 * 128).all()
    assert not np.einsum("bii->bi", masks).any()


def test_in_the_second_database_graphs_without_long_paths_are_three_in_a_hundred():
    rng = np.random.default_rng(0)
    masks = np.stack([measure.rarer(128, 1 - 8 / 128, rng) for _ in range(300)])
    assert (masks.sum(axis=(1, 2)) == 8 * 128).all()
    clustering = properties.measure(masks, ["clustering"])["clustering"]
    assert 3 <= (clustering < 0.2).sum() <= 18  # 9 on average


# --- the transformer


def test_a_masked_transformer_reads_and_writes_along_the_graph():
    mask = measure.graph("cliques", 8, 0, transformer.WIDTH)
    model = transformer.masked(Transformer(20, 8, transformer.WIDTH, 4, 2), mask)
    block = model.blocks[0]
    for head in range(4):
        rows = slice(16 * head, 16 * (head + 1))
        zero = ~torch.from_numpy(mask[rows])
        for read in (block.queries, block.keys, block.values):
            assert (read[head].weight[zero] == 0).all() and (read[head].weight[~zero] != 0).any()
        assert (block.joins[head].weight[~torch.from_numpy(mask[:, rows])] == 0).all()
    first, second = block.mlp[0].weight, block.mlp[2].weight
    expected = torch.from_numpy(np.repeat(mask, 4, axis=0))
    assert (first[~expected] == 0).all() and (second[~expected.T] == 0).all()


@pytest.mark.parametrize("embeddings", ["fixed", "trained"])
def test_what_a_mask_removes_stays_zero_and_embeddings_may_stay(embeddings, monkeypatch):
    kept = []
    real = transformer.masked
    monkeypatch.setattr(transformer, "masked", lambda *a: kept.append(real(*a)) or kept[-1])
    mask, task = measure.graph("ring", 8, 0, transformer.WIDTH), tasks.load("sentences")
    found = transformer.trained(mask, task, embeddings, 0, 1, 128)
    model = kept[0]
    torch.manual_seed(0)
    fresh = Transformer(task.outputs, 31, transformer.WIDTH, 4, 3)
    assert (model.blocks[0].mlp[0].weight[~torch.from_numpy(np.repeat(mask, 4, axis=0))] == 0).all()
    moved = model.blocks[0].mlp[0].weight_orig - fresh.blocks[0].mlp[0].weight
    assert moved.abs().max() > 0
    assert model.embedding.weight.requires_grad == (embeddings == "trained")
    assert 0 < found["accuracy"] < 1 and found["loss"] < 6
    again = transformer.trained(mask, task, embeddings, 0, 1, 128)
    assert again == found


# --- verdicts


def verdicts(
    icc=0.8, agree=3, printed=(0.004, 0.005), near=(0.03, 0.04), numberings=0.5, attention=0.001
):
    confirmed = pd.DataFrame(
        [{"cell": CELL.name, "icc": icc, "low": icc - 0.1, "high": icc + 0.1, "seeds": 6}]
    )
    predicted = pd.DataFrame(
        [
            {"property": f"p{k}", "mean": 0.5, "low": 0.3, "high": 0.7, "agrees": k < agree}
            for k in range(8)
        ]
    )
    against = pd.DataFrame(
        [
            {"database": name, "searched": "nine properties", "mean": mean, "low": mean - 0.001}
            | {"high": mean + 0.001, "n": 40, "detectable": 0.0015}
            for name, mean in zip(measure.DATABASES, printed, strict=True)
        ]
    )
    rarity = pd.DataFrame({"database": list(measure.DATABASES), "near_best": near})
    numbered = pd.DataFrame({"part": ["graphs", "versions"], "p": [1e-6, numberings]})
    stream = pd.DataFrame(
        [{"embeddings": "fixed", "p": attention, "between": 0.002, "detectable": 0.001}]
    )
    found = tables.judged(confirmed, predicted, against, rarity, numbered, stream)
    assert list(found["rule"]) == list(designs.RULES)
    return found.set_index("rule")["verdict"]


def test_verdicts_are_met_where_all_is_as_hoped():
    assert (verdicts() == "met").all()


@pytest.mark.parametrize(
    ("change", "flips"),
    [
        ({"icc": 0.55}, "one training"),
        ({"agree": 1}, "properties"),
        ({"printed": (0.0005, 0.005)}, "printed"),
        ({"printed": (0.004, 0.0005)}, "printed, rarer"),
        ({"near": (0.06, 0.04)}, "rare"),
        ({"near": (0.03, 0.06)}, "rarer"),
        ({"numberings": 0.01}, "renumbered"),
        ({"attention": 0.2}, "transformer"),
    ],
)
def test_verdicts_flip_when_tables_are_altered(change, flips):
    found = verdicts(**change)
    assert found[flips] == "not met" and (found.drop(flips) == "met").all()


def test_transformers_are_judged_by_embeddings():
    rng = np.random.default_rng(0)
    rows = [
        {"embeddings": kind, "mask": m, "seed": s, "test_accuracy": 0.4 + own * m + noise}
        for kind, own in (("fixed", 0.01), ("trained", 0.0))
        for m in range(8)
        for s, noise in enumerate(rng.normal(0, 0.002, 3))
    ]
    found = measure.shares(pd.DataFrame(rows), "embeddings").set_index("embeddings")
    assert found.loc["fixed", "p"] < 1e-6 < 0.01 < found.loc["trained", "p"]
    assert found.loc["trained", "detectable"] == pytest.approx(0.0023, rel=0.5)
