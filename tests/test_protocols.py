from dataclasses import replace

import pytest
import torch

from bogp import protocols
from bogp.errors import InvalidInput
from bogp.protocols import CALIBRATED, NAMED, PAPER, Protocol

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


def test_the_name_is_not_part_of_the_id():
    assert replace(PAPER, name="another").id == PAPER.id


def test_widths_may_be_a_list():
    assert Protocol("x", widths=[784, 32, 32, 10]) == Protocol("x", widths=(784, 32, 32, 10))


def test_named_protocols_carry_the_ids_that_stored_evaluations_carry():
    # A new field with a default, or another way to hash, would orphan every stored number: change these on purpose only.
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


def test_mini_batches_cost_by_their_size_and_not_by_the_data():
    protocol = replace(PAPER, batch_size=100, steps=7)
    assert protocol.training_flops(60_000) == protocol.training_flops(500) == pytest.approx(PAPER.training_flops(100) * 7 / 50)


def test_the_learning_rate_of_each_step_is_what_torchs_scheduler_gives():
    constant, linear = Protocol("constant", learning_rate=0.3, steps=5), Protocol("linear", learning_rate=0.3, steps=5, schedule="linear")
    assert [constant.learning_rate_at(step) for step in range(5)] == [0.3] * 5
    adam = torch.optim.Adam([torch.zeros(1)], lr=0.3)
    scheduler = torch.optim.lr_scheduler.LinearLR(adam, start_factor=1.0, end_factor=0.0, total_iters=5)
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
