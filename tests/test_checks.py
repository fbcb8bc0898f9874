import math

import numpy as np
import pytest

from bogp.checks import choice, flag, floats, is_one_of, listed, number, share, texts, whole
from bogp.errors import InvalidInput


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (whole, 2.0),
        (whole, True),
        (whole, None),
        (whole, "3"),
        (number, "0.5"),
        (number, True),
        (number, None),
        (number, 1j),
        (flag, 1),
        (flag, None),
        (floats, ["a"]),
        (floats, [[1], [1, 2]]),
        (floats, {}),
        (floats, [10**400]),
        (listed, "abc"),
        (listed, 3),
        (listed, None),
        (texts, ["a", 1]),
    ],
)
def test_what_is_of_another_kind_is_refused_by_its_name(check, value):
    with pytest.raises(InvalidInput, match=r"^size"):
        check("size", value)


def test_a_choice_that_there_is_not_is_refused_with_those_that_there_are():
    assert choice("metric", "l1", ("l1", "l2")) == "l1"
    for name in ("l3", "", None, 1, ["l1"]):
        with pytest.raises(InvalidInput, match=r"no metric .*there are: l1, l2"):
            choice("metric", name, {"l1": 0, "l2": 1})


@pytest.mark.parametrize("value", [0, 1, -0.1, 2, math.nan, math.inf, True, "0.5", None], ids=repr)
def test_a_share_lies_strictly_between_0_and_1(value):
    assert share("level", np.float32(0.5)) == 0.5
    with pytest.raises(InvalidInput, match=r"^level is "):
        share("level", value)


def test_whole_numbers_have_limits_which_the_message_tells():
    assert whole("n", np.int64(3), 1, 3) == 3
    with pytest.raises(InvalidInput, match="from 1 to 3 is needed"):
        whole("n", 4, 1, 3)
    with pytest.raises(InvalidInput, match="of at least 1 is needed"):
        whole("n", 0, 1)


def test_numbers_beyond_floats_are_infinite():
    assert number("x", 10**400) == math.inf
    assert number("x", -(10**400)) == -math.inf
    assert math.isnan(number("x", np.float32("nan")))


def test_known_names_are_texts_among_those_that_are_allowed():
    assert is_one_of("a", ("a", "b"))
    assert not is_one_of("c", ("a", "b"))
    assert not is_one_of(np.zeros(0), ("a", "b"))
    assert not is_one_of([], {"a": 1})


def test_lists_keep_their_items():
    assert listed("x", range(3)) == (0, 1, 2)
    assert texts("x", ["a"]) == ("a",)
    assert floats("x", [[1, 2]]).shape == (1, 2)
    assert flag("x", np.True_) is True
