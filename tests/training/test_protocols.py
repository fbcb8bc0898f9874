from dataclasses import replace

import pytest
import torch

from bogp.errors import InvalidInput, UnreachableSparsity
from bogp.training import protocols
from bogp.training.protocols import (
    CALIBRATED,
    CONVERGED,
    NAMED,
    PAPER,
    Protocol,
    resized,
    smaller_dense,
)

OTHER_VALUES = {
    "widths": (784, 64, 64, 10),
    "input_scaling": "raw",
    "loss": "softmax_cross_entropy",
    "learning_rate": 1e-3,
    "schedule": "linear",
    "batch_size": 32,
    "steps": 51,
    "scope": "all",
    "split": "held_out",
    "blocks": "residual",
    "first_layer": "frozen",
}


def test_the_id_changes_with_every_setting_and_no_two_changes_share_one():
    changed = {field: replace(PAPER, **{field: value}) for field, value in OTHER_VALUES.items()}
    stopping = [replace(PAPER, check_every=c, patience=p) for c, p in ((1, 1), (2, 1), (1, 2))]
    ids = [PAPER.id, *(p.id for p in changed.values()), *(p.id for p in stopping)]
    assert len(set(ids)) == len(ids)


def test_every_setting_was_changed_above():
    # `optimiser` has one allowed value only; a new field must be added to the test.
    fields = set(Protocol.__dataclass_fields__) - {"name", "optimiser", "check_every", "patience"}
    assert fields == set(OTHER_VALUES)


def test_a_first_layer_of_which_the_bias_is_trained_is_another_protocol_too():
    ids = {replace(PAPER, first_layer=f).id for f in ("trained", "bias", "frozen")}
    assert len(ids) == 3


def test_residual_blocks_need_hidden_layers_of_one_width():
    assert Protocol("x", widths=(784, 64, 64, 64, 10), blocks="residual").blocks == "residual"
    with pytest.raises(InvalidInput, match="hidden layers of one width"):
        Protocol("x", widths=(784, 64, 32, 10), blocks="residual")


def test_the_name_is_not_part_of_the_id():
    assert replace(PAPER, name="another").id == PAPER.id


def test_widths_may_be_a_list():
    assert Protocol("x", widths=[784, 32, 32, 10]) == Protocol("x", widths=(784, 32, 32, 10))


def test_named_protocols_carry_the_ids_that_stored_evaluations_carry():
    # A new field with a default, or another way to hash, would orphan every stored number: change
    # these on purpose only.
    assert {name: p.id for name, p in NAMED.items()} == {
        "paper": "e136099aa11e",
        "literal": "a7f2d1b69c56",
        "released": "ee2b4107fb29",
        "calibrated": "26b671f4535f",
        "converged": "5095e0564aa1",
    }
    assert len({p.id for p in NAMED.values()}) == len(NAMED)


def test_a_named_protocol_is_found_by_its_name_and_an_unknown_name_lists_them():
    assert protocols.named("calibrated") is CALIBRATED
    with pytest.raises(InvalidInput, match="paper, literal, released"):
        protocols.named("papre")


@pytest.mark.parametrize(
    "bad",
    [
        {"input_scaling": "half"},
        {"loss": "mse"},
        {"optimiser": "sgd"},
        {"schedule": "cosine"},
        {"scope": "output"},
        {"split": "test"},
        {"widths": (784, 10)},
        {"widths": (784, 0, 128, 10)},
        {"widths": (784, 128, 10), "scope": "hidden"},
        {"learning_rate": 0.0},
        {"learning_rate": -1e-3},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"steps": 0},
        {"batch_size": 0},
        {"check_every": 5},
        {"patience": 5},
        {"check_every": 0, "patience": 5},
        {"check_every": 5, "patience": 0},
        {"steps": 10, "check_every": 11, "patience": 1},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(bad):
    with pytest.raises(InvalidInput):
        Protocol("bad", **bad)


def test_the_paper_costs_1_52_teraflop_on_60_000_images():
    assert PAPER.training_flops(60_000) == pytest.approx(1.52e12, rel=0.01)


def test_what_is_not_trained_costs_no_gradient():
    one = Protocol("x", widths=(7, 5, 5, 3), batch_size=1, steps=1)
    first, second, last = 35, 25, 15
    for first_layer, expected in (
        ("trained", 4 * first + 6 * second + 6 * last),
        ("bias", 2 * first + 6 * second + 6 * last),
        ("frozen", 2 * first + 4 * second + 6 * last),
    ):
        assert replace(one, first_layer=first_layer).training_flops(99) == expected


def test_mini_batches_cost_by_their_size_and_not_by_the_data():
    protocol = replace(PAPER, batch_size=100, steps=7)
    assert (
        protocol.training_flops(60_000)
        == protocol.training_flops(500)
        == pytest.approx(PAPER.training_flops(100) * 7 / 50)
    )


def test_the_learning_rate_of_each_step_is_what_torchs_scheduler_gives():
    constant, linear = (
        Protocol("constant", learning_rate=0.3, steps=5),
        Protocol("linear", learning_rate=0.3, steps=5, schedule="linear"),
    )
    assert [constant.learning_rate_at(step) for step in range(5)] == [0.3] * 5
    adam = torch.optim.Adam([torch.zeros(1)], lr=0.3)
    scheduler = torch.optim.lr_scheduler.LinearLR(
        adam, start_factor=1.0, end_factor=0.0, total_iters=5
    )
    for step in range(5):
        assert linear.learning_rate_at(step) == pytest.approx(adam.param_groups[0]["lr"], rel=1e-12)
        adam.step()
        scheduler.step()
    assert linear.learning_rate_at(0) == 0.3
    assert linear.learning_rate_at(4) == pytest.approx(0.06)  # the last step still learns


@pytest.mark.parametrize(
    ("widths", "scope", "layers"),
    [
        ((784, 128, 128, 10), "hidden", (1,)),
        ((784, 128, 128, 10), "all", (0, 1)),
        ((784, 128, 128, 10), "input", (0,)),
        ((784, 64, 64, 64, 10), "hidden", (1, 2)),
        ((784, 64, 64, 64, 10), "all", (0, 1, 2)),
        ((784, 128, 10), "input", (0,)),
        ((784, 128, 10), "all", (0,)),
    ],
)
def test_a_scope_says_which_layers_are_masked_and_the_last_never_is(widths, scope, layers):
    assert Protocol("x", widths=widths, scope=scope).masked_layers == layers


def weights(widths):
    return sum(a * b for a, b in zip(widths, widths[1:], strict=False))


@pytest.mark.parametrize("narrow", ["all", "last"])
@pytest.mark.parametrize(
    "widths", [(784, 128, 128, 10), (20, 6, 9, 4), (20, 9, 6, 3, 4), (5, 7, 2)], ids=str
)
def test_a_smaller_dense_network_comes_as_near_as_whole_units_allow(widths, narrow):
    protocol = Protocol("x", widths=widths, scope="input", steps=7)
    first, *hidden, last = widths
    top = max(hidden) if narrow == "all" else hidden[-1]
    every = {
        w: (first, *([w] * len(hidden) if narrow == "all" else [*hidden[:-1], w]), last)
        for w in range(1, top + 1)
    }
    sizes = {w: weights(network) for w, network in every.items()}
    wanted = range(sizes[1], sizes[top] + 1, 1 if sizes[top] < 1_000 else 997)
    for number in wanted:
        found = smaller_dense(protocol, number, narrow)
        assert found.widths in every.values()
        assert abs(weights(found.widths) - number) == min(
            abs(size - number) for size in sizes.values()
        )
    for width, size in sizes.items():
        assert smaller_dense(protocol, size, narrow).widths == every[width]


@pytest.mark.parametrize("narrow", ["all", "last"])
def test_below_the_smallest_dense_network_by_more_than_half_a_unit_there_is_none(narrow):
    protocol = Protocol("x", widths=(20, 6, 6, 4), scope="all")
    smallest, second = (
        weights((20, w, w, 4) if narrow == "all" else (20, 6, w, 4)) for w in (1, 2)
    )
    edge = smallest - (second - smallest) // 2
    assert smaller_dense(protocol, edge, narrow).widths[2] == 1
    for number in (edge - 1, 0, -5):
        with pytest.raises(
            UnreachableSparsity,
            match=f"with {number} weights.*smallest one of this depth has {smallest}",
        ):
            smaller_dense(protocol, number, narrow)


@pytest.mark.parametrize("narrow", ["first", "", None, "All"], ids=repr)
def test_an_unknown_way_to_narrow_is_refused(narrow):
    with pytest.raises(InvalidInput, match="allowed: all, last"):
        smaller_dense(PAPER, 10_000, narrow)


@pytest.mark.parametrize("protocol", [PAPER, CALIBRATED, CONVERGED], ids=lambda p: p.name)
def test_other_widths_change_nothing_else(protocol):
    found = resized(protocol, [784, 20, 10])
    assert found == replace(
        protocol, name=f"{protocol.name} 784-20-10", widths=(784, 20, 10), scope="input"
    )
    assert found.id != protocol.id
    assert smaller_dense(protocol, weights((784, 128, 40, 10)), "last") == resized(
        protocol, (784, 128, 40, 10)
    )
