"""Masks and gates against plain loops and networkx; many masks in one batch against one after
another.
"""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves

from bogp.errors import InvalidInput, NotCapturable, NotFinite, NothingToRemove
from bogp.structural import gates
from bogp.structural.gates import Examples
from bogp.structural.graph import edge_values, float_type
from bogp.structural.tracing import capture
from bogp.zoo import networks
from tests.structural import by_hand, models
from tests.structural.models import ANY, ZOO, make


def masks_of(graph, count, share=0.7, seed=0):
    rng = np.random.default_rng(seed)
    masks = rng.random((count, len(graph.edges))) < share
    masks[:, [e.index for e in graph.edges if not e.is_floating]] = True
    return masks


def gated(graph, z, inputs, references=None):
    with torch.no_grad():
        return graph.gated(torch.as_tensor(z, dtype=float_type(graph)), references, *inputs)


@pytest.mark.parametrize("name", ANY)
def test_gates_do_what_a_mask_means(name):
    graph, inputs = models.captured(name), ANY[name][1]
    for mask in [*masks_of(graph, 5), *masks_of(graph, 3, 0.9, seed=1)]:
        ours, truth = (
            gated(graph, graph.gates(mask)[0], inputs),
            by_hand.outputs(graph, mask, inputs),
        )
        for a, b in zip(tree_leaves(ours), tree_leaves(truth), strict=True):
            assert not isinstance(a, torch.Tensor) or torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@given(
    st.integers(0, 10_000),
    st.sampled_from(["10-15", "20-40"]),
    st.integers(0, 1000),
    st.floats(0.2, 0.95),
)
def test_reachability_of_random_dags_is_that_of_networkx(seed, size, mask_seed, share):
    graph = capture(
        make(lambda: networks.RandomDag(networks.random_parents(size, seed), 3, 2, 2)),
        (models.x(2, 3),),
    )
    masks = masks_of(graph, 4, share, mask_seed)
    assert {v.kind for v in graph.vertices} <= {"input", "chain", "sum", "output"}
    z, alive, connected = graph.gates(masks), graph.alive(masks), graph.connected(masks)
    for row, mask in enumerate(masks):
        kept = nx.MultiDiGraph()
        kept.add_nodes_from(v.index for v in graph.vertices)
        kept.add_edges_from((e.source, e.target) for e in graph.edges if mask[e.index])
        output = len(graph.vertices) - 1
        reached = nx.descendants(kept, 0) | {0}
        assert set(np.flatnonzero(alive[row])) == reached
        assert alive[row].tolist() == by_hand.alive(graph, mask)
        assert connected[row] == nx.has_path(kept, 0, output)
        counts = reached & nx.ancestors(kept, output)  # vertices on a live path to the output
        cut = {
            e.index
            for e in graph.edges
            if e.target in counts | {output} and not (mask[e.index] and e.source in reached)
        }
        assert set(np.flatnonzero(z[row] == 0)) == cut


def test_masks_with_equal_gates_have_equal_losses_and_each_removal_is_offered_once():
    graph = capture(make(models.MultiBranch), (models.x(4, 6),))
    examples = Examples((models.x(16, 6),), models.x(16, 6, seed=2))
    masks = np.array(list(itertools.product([False, True], repeat=len(graph.edges))))
    z, distinct = graph.gates(masks), {}
    losses = [
        float(
            gates.squared_error(by_hand.outputs(graph, m, examples.inputs), examples.targets).mean()
        )
        for m in masks
    ]
    for row, loss in zip(z, losses, strict=True):
        assert distinct.setdefault(row.tobytes(), loss) == pytest.approx(loss, rel=1e-6)
    assert len(distinct) == 8, (
        "the sets of three branches; none of them is the same as an output cut off"
    )
    assert gates.losses_under(graph, masks, examples, gates.squared_error) == pytest.approx(
        losses, rel=1e-5
    )
    single = graph.gates(gates.single_removals(graph))
    assert len(np.unique(single, axis=0)) == len(single) == len(graph.candidates) == 3


@pytest.mark.parametrize("name", ZOO)
def test_many_masks_in_a_batch_equal_one_after_another(name):
    graph, inputs = models.captured(name), ZOO[name][1]
    loss = (
        (lambda o, t: gates.cross_entropy(o, t)) if name == "transformer" else gates.squared_error
    )
    outputs = gated(graph, np.ones(len(graph.edges)), inputs)
    examples = Examples(inputs, inputs[0] if name == "transformer" else outputs + 1)
    masks = masks_of(graph, 9, 0.85)
    sequential = [
        float(loss(gated(graph, z, inputs), examples.targets).mean()) for z in graph.gates(masks)
    ]
    assert gates.losses_under(graph, masks, examples, loss) == pytest.approx(
        sequential, rel=1e-5, abs=1e-5
    )
    assert gates.losses_under(graph, masks, examples, loss, batch=2) == pytest.approx(
        sequential, rel=1e-5, abs=1e-5
    )
    alone = [
        gates.losses_under(graph, m, examples, loss)[0]
        for m in graph.masks(gates.single_removals(graph))
    ]
    full = gates.losses_under(graph, np.ones(len(graph.edges)), examples, loss)[0]
    assert gates.leave_one_out(graph, examples, loss) == pytest.approx(
        np.array(alone) - full, abs=1e-5
    )


def test_several_measures_at_once():
    graph = capture(make(models.dag), (models.x(4, 6),))
    examples = Examples((models.x(12, 6),), torch.arange(12) % 3)

    def both(outputs, targets):
        return torch.stack(
            [gates.cross_entropy(outputs, targets), gates.accuracy(outputs, targets)], dim=1
        )

    found = gates.losses_under(graph, masks_of(graph, 5), examples, both)
    assert found.shape == (5, 2)
    assert found[:, 0] == pytest.approx(
        gates.losses_under(graph, masks_of(graph, 5), examples, gates.cross_entropy)
    )
    assert np.isin(np.round(found[:, 1] * 12, 9) % 1, 0).all()


@pytest.mark.parametrize("name", ["residual", "inception", "multi-branch", "product", "widening"])
def test_references_stand_in_for_what_is_removed(name):
    graph, inputs = models.captured(name), ANY[name][1]
    examples = Examples(inputs, torch.zeros(len(inputs[0])))
    references = gates.mean_activations(graph, examples, batch=2)
    one = graph.candidates[0]
    values = edge_values(graph, inputs)
    edge = graph.edges[one]
    assert torch.allclose(references[one], values[edge.producer].mean(dim=0), atol=1e-6)
    constant = values[edge.producer].mean(dim=0, keepdim=True).expand_as(values[edge.producer])

    class Constant(torch.fx.Interpreter):
        def run_node(self, n):
            if n.name != edge.consumer:
                return super().run_node(n)
            slot = iter(range(100))
            args, kwargs = torch.fx.node.map_arg(
                (n.args, n.kwargs), lambda a: constant if next(slot) == edge.slot else self.env[a]
            )
            return getattr(self, n.op)(n.target, args, kwargs)

    with torch.no_grad():
        truth = Constant(graph.module).run(*inputs)
    assert torch.allclose(gated(graph, graph.without([one]), inputs, references), truth, atol=1e-5)


def test_bad_masks_losses_and_networks_are_refused():
    graph = capture(make(models.dag), (models.x(4, 6),))
    count, examples = len(graph.edges), Examples((models.x(4, 6),), models.x(4, 3))
    for bad in (np.ones(count + 1), np.ones((2, 3, count)), np.full(count, 0.5)):
        with pytest.raises(InvalidInput, match=r"[Mm]ask"):
            gates.losses_under(graph, bad, examples, gates.squared_error)
    with pytest.raises(InvalidInput, match=f"edges is {count}; .* from 0 to {count - 1}"):
        graph.without([count])
    with pytest.raises(InvalidInput, match="one value for each"):
        gates.losses_under(graph, np.ones(count), examples, lambda o, t: (o - t).square().mean())
    with pytest.raises(NotFinite, match="mask 0"):
        gates.losses_under(
            graph, np.ones(count), examples, lambda o, t: (o - t).mean(1).sqrt() * float("nan")
        )
    with pytest.raises(InvalidInput, match="same number"):
        Examples((models.x(4, 6),), models.x(3, 3))
    chain = capture(make(models.Chain), (models.x(4, 6),))
    with pytest.raises(NothingToRemove, match="no edge that can be removed"):
        gates.single_removals(chain)
    integers = capture(make(lambda: networks.Transformer(11, 8, 8, 2, 1)), (models.tokens(2, 5),))
    with pytest.raises(InvalidInput, match="no floating-point"):
        integers.masks(integers.without([0]))
    residual = capture(make(lambda: networks.Residual(4, (4, 6), 1)), (models.x(3, 3, 8, 8),))
    residual.module.train()
    with pytest.raises(InvalidInput, match="training mode"):
        gates.losses_under(
            residual,
            np.ones(len(residual.edges)),
            Examples((models.x(3, 3, 8, 8),), models.x(3, 4)),
            gates.squared_error,
        )


def test_without_the_batch_first_masks_run_one_after_another_and_means_are_refused():
    inputs = (models.x(4, 3, 6),)
    graph = capture(make(models.BatchLast), inputs)
    assert not graph.batched
    examples = Examples(inputs, models.x(4, 3, 6, seed=3))
    masks = masks_of(graph, 6)
    truth = [
        float(gates.squared_error(by_hand.outputs(graph, m, inputs), examples.targets).mean())
        for m in masks
    ]
    assert gates.losses_under(graph, masks, examples, gates.squared_error) == pytest.approx(
        truth, rel=1e-5
    )
    with pytest.raises(NotCapturable, match="batch as the first dimension"):
        gates.mean_activations(graph, examples)
