"""Each operation on blocks: the instructions against the plain Python that stands beside them."""

import os
import subprocess
import sys

import numpy as np
import pytest

from bogp.compiled import compiled
from bogp.training import vectors
from bogp.training.vectors import VECTOR_BYTES, zeros

TYPES = [np.float32, np.float64]
CLOSE = {np.float32: 1e-6, np.float64: 1e-14}
AT = 3  # an offset in the middle of a vector


@compiled
def add_scaled(x, y, out, factor):
    vectors.store(vectors.add_scaled(vectors.load(zeros(x, 4), x, AT), factor, y, AT), out, AT)


@compiled
def add(x, y, out, factor):
    vectors.store(vectors.add(vectors.load(zeros(x, 4), x, AT), y, AT), out, AT)


@compiled
def times(x, y, out, factor):
    vectors.store(vectors.times(vectors.load(zeros(x, 4), x, AT), y, AT), out, AT)


@compiled
def filled(x, y, out, factor):
    vectors.store(vectors.filled(zeros(x, 4), factor), out, AT)


@compiled
def relu(x, y, out, factor):
    vectors.store(vectors.relu(vectors.load(zeros(x, 4), x, AT)), out, AT)


@compiled
def where_positive(x, y, out, factor):
    vectors.store(vectors.where_positive(vectors.load(zeros(x, 4), x, AT), y, AT), out, AT)


@compiled
def total(x, y, out, factor):
    out[0] = vectors.total(vectors.load(zeros(x, 4), x, AT))


@compiled
def dot(x, y, out, factor):
    out[0] = vectors.dot(vectors.load(zeros(x, 4), x, AT), y, AT)


@compiled
def dot_of_one_vector(x, y, out, factor):
    out[0] = vectors.dot(vectors.load(zeros(x, 1), x, AT), y, AT)


OPERATIONS = (
    add_scaled,
    add,
    times,
    filled,
    relu,
    where_positive,
    total,
    dot,
    dot_of_one_vector,
)


def plain_result(operation, x, y, factor):
    """What numpy says of the numbers that the operation reads: four vectors, or one."""
    size = (1 if operation is dot_of_one_vector else 4) * VECTOR_BYTES // x.itemsize
    a, b = (array[AT : AT + size].astype(float) for array in (x, y))
    return {
        add_scaled: a + float(factor) * b,
        add: a + b,
        times: a * b,
        filled: np.full(size, factor),
        relu: np.where(a <= 0, 0, a),
        where_positive: np.where(b <= 0, 0, a),
        total: a.sum(),
        dot: a @ b,
        dot_of_one_vector: a @ b,
    }[operation]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.__name__)
def test_an_operation_is_what_numpy_computes_and_touches_nothing_else(operation, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 100)).astype(dtype)
    x[5], y[6] = 0, 0
    factor, out = dtype(0.7), np.full(100, 9, dtype)
    operation(x, y, out, factor)
    expected = np.full(100, 9.0)
    result = plain_result(operation, x, y, factor)
    at = AT if np.ndim(result) else 0
    expected[at : at + np.size(result)] = result
    np.testing.assert_allclose(out, expected, rtol=CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_no_number_passes_through_a_relu(dtype):
    x, out = np.full(100, np.nan, dtype), np.zeros(100, dtype)
    relu(x, x, out, dtype(0))
    assert np.isnan(out[AT : AT + 32]).all()
    where_positive(np.ones(100, dtype), x, out, dtype(0))
    assert (out[AT : AT + 32] == 1).all()


@compiled
def exponentials(x):
    block = zeros(x, 1)
    for at in range(0, len(x), VECTOR_BYTES // x.itemsize):
        vectors.store(vectors.exponential(vectors.load(block, x, at)), x, at)


@pytest.mark.parametrize("dtype", TYPES)
def test_exponentials_are_right_to_the_last_bit_or_two(dtype):
    lowest = -85 if dtype is np.float32 else -700
    x = np.concatenate([np.linspace(lowest, 0, 4800), -np.logspace(-12, 0, 3200)]).astype(dtype)
    found = x.copy()
    exponentials(found)
    exact = np.exp(x.astype(np.longdouble))
    assert np.abs(found / exact - 1).max() < np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", TYPES)
def test_exponentials_of_zero_of_the_infinite_and_of_no_number(dtype):
    x = np.zeros(16, dtype)
    x[1:4] = -np.inf, -1e30, np.nan
    exponentials(x)
    assert x[0] == x[4] == 1
    assert 0 <= x[1] <= 1e-37
    assert x[2] == x[1]
    assert np.isnan(x[3])


@compiled
def transpose_square(x, y):
    vectors.transpose_square(zeros(x, 1), x, 5, 40, y, 7, 50)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_square_is_transposed_between_matrices_of_other_widths(dtype):
    side = VECTOR_BYTES // dtype().itemsize
    x, y = np.arange(2000, dtype=dtype), np.zeros(2000, dtype)
    transpose_square(x, y)
    rows = [x[5 + 40 * i : 5 + 40 * i + side] for i in range(side)]
    found = [y[7 + 50 * i : 7 + 50 * i + side] for i in range(side)]
    np.testing.assert_array_equal(found, np.array(rows).T)
    assert np.count_nonzero(y) == side * side


PLAIN = """
import numpy as np
from bogp.training import vectors
x = np.arange(100.0)
block = vectors.load(vectors.zeros(x, 4), x, 3)
assert len(block) == 32
assert vectors.dot(block, x, 3) == (x[3:35] ** 2).sum() and vectors.total(block) == x[3:35].sum()
assert (vectors.add_scaled(block, 2.0, x, 1) == x[3:35] + 2 * x[1:33]).all()
vectors.store(vectors.relu(-block), x, 3)
assert not x[3:35].any()
"""


def test_without_the_compiler_each_operation_is_the_plain_python_beside_it():
    """``NUMBA_DISABLE_JIT=1`` is how compiled loops are debugged."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", PLAIN], env=environment, check=True)
