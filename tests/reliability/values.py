"""Values that entry points are called with: sensible ones, ones out of range, and things of another
type altogether.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bogp.graphs import properties

huge = st.sampled_from([2**31, 2**63, 2**70, -(2**70), 10**400])
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 40),
    huge,
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.lists(
        st.one_of(st.integers(-2, 9), st.floats(), st.text(max_size=3), st.none()), max_size=4
    ),
    st.lists(st.lists(st.integers(0, 1), max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.builds(np.zeros, st.tuples(st.integers(0, 3), st.integers(0, 3))),
    st.builds(np.float64, st.floats()),
)
share = st.one_of(st.sampled_from([0.3, 0.6, 0.9]), st.floats(0, 1))
level, power = st.sampled_from([0.05, 0.95]) | share, st.sampled_from([0.8, 0.99]) | share
count = st.integers(-1, 6)
extreme = st.sampled_from([0.5, 0.25, 1e308, 5e-324])
some = st.sampled_from([3, 4, 4]) | st.integers(0, 6)
numbers = some.flatmap(
    lambda n: st.one_of(
        *(
            st.lists(x, min_size=n, max_size=n)
            for x in (st.floats(-10, 10), st.floats(), st.just(0.5), extreme)
        )
    )
)
table = some.flatmap(
    lambda width: st.lists(st.lists(st.floats(-2, 2), min_size=width, max_size=width), max_size=4)
)
cube = st.builds(lambda *shape: np.random.default_rng(0).random(shape), *[st.integers(1, 3)] * 3)
small_mask = st.integers(1, 6).flatmap(
    lambda n: st.builds(lambda bits: _symmetric(n, bits), st.integers(0, 2 ** (n * n) - 1))
)
name = st.one_of(
    st.sampled_from(["calibrated", "mnist-5k", "bernoulli", "glob_1", "cosine", "a"]),
    st.text(max_size=5),
)
property_names = st.lists(st.sampled_from([*properties.PAPER_FIVE, "density"]), max_size=4)
widths = st.lists(st.integers(1, 40), min_size=3, max_size=5) | st.lists(
    st.integers(0, 40), max_size=3
)
seed = st.integers(-1, 12_000)


def _symmetric(n: int, bits: int) -> np.ndarray:
    upper = np.triu(np.array([bits >> k & 1 for k in range(n * n)], dtype=bool).reshape(n, n))
    return upper | upper.T


@st.composite
def arguments(draw: Any, good: Mapping[str, Any]) -> dict[str, Any]:
    """Sensible values for all arguments, but for up to two, which are anything."""
    free = sorted(set(good) - FIXED)
    number = draw(st.sampled_from([0, 0, 1, 2]))
    strange = draw(st.sets(st.sampled_from(free), max_size=number)) if free else set()
    return {key: draw(anything if key in strange else strategy) for key, strategy in good.items()}


annotation = st.sampled_from(
    ["int", "float", "str", "bool", "list[int]", "list[float]", "list[str]", "dict", "list["]
)
_wrong = [
    "!!int ''",
    "!!timestamp x",
    "!!bool x",
    "2001-99-99",
    "0b_",
    "- &a [*a]",
    "{[]: 1}",
    "!!python/object:os.system {}",
    "[" * 600,
    "- e\x07",
]
yaml_text = st.text(max_size=12) | st.sampled_from(_wrong)
# Of these the type is always right: a path, what a command line or a notebook says.
FIXED = {"file", "depth", "text", "annotation", "declared", "given"}
