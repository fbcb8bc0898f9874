"""Sums that stay in the processor's registers, for the kernels of the training engine.

A *block* is some whole vectors of 64 bytes (16 numbers of float32, 8 of float64). Each operation
stands here twice: as plain Python over arrays, which says what it computes (and runs under
``NUMBA_DISABLE_JIT=1``), and as the instructions that numba is given for it. They are LLVM's
vectors, so they run on every processor that numba knows: where registers are shorter, LLVM takes
several for one. Plain compiled loops load and store such a sum once for each term.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

F = TypeVar("F", bound=Callable[..., Any])

VECTOR_BYTES = 64
# LLVM may fuse a product with the sum it goes into (one rounding instead of two)
_FUSE = ("contract",)
_INDEX = ir.IntType(64)
_TERMS = {32: 7, 64: 13}  # powers in a series of exp, for numbers of so many bits


class BlockType(types.Type):
    """The type of a block, as numba sees it."""

    def __init__(self, dtype: types.Float, vectors: int) -> None:
        self.dtype, self.vectors = dtype, vectors
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        self.number = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
        self.vector = ir.VectorType(self.number, self.lanes)
        super().__init__(f"Block({dtype}, {vectors})")


@register_model(BlockType)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, manager: Any, block: BlockType) -> None:
        super().__init__(manager, block, ir.ArrayType(block.vector, block.vectors))


class _Code:
    """Writes the instructions of one operation.

    Args:
        context, builder: numba's.
        block: the type of the block that it works on.
        kinds, values: of the operation's arguments.
    """

    def __init__(self, context: Any, builder: Any, block: BlockType, kinds: Any, values: Any):
        self.context, self.builder, self.block = context, builder, block
        self._kinds, self._values = kinds, values

    def vectors(self, argument: int) -> list[Any]:
        """The vectors of a block."""
        return [
            self.builder.extract_value(self._values[argument], v) for v in range(self.block.vectors)
        ]

    def repeated(self, argument: int) -> Any:
        """A number, as often as a vector is long."""
        undefined = ir.Constant(self.block.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, self._values[argument], _int32(0))
        return self.builder.shuffle_vector(first, undefined, _int32([0] * self.block.lanes))

    def constant(self, x: float) -> Any:
        """A vector of one number, rounded to the block's precision."""
        rounded = float(np.float32(x)) if self.block.dtype.bitwidth == 32 else x
        return ir.Constant(self.block.vector, [rounded] * self.block.lanes)

    def value(self, argument: int) -> Any:
        """A number."""
        return self._values[argument]

    def pointers(self, array: int, offset: int, further: Any = None) -> list[Any]:
        """Where each vector lies in an array, from an offset on (and ``further``)."""
        proxy = cgutils.create_struct_proxy(self._kinds[array])
        data = proxy(self.context, self.builder, value=self._values[array]).data
        first = self._values[offset]
        if further is not None:
            first = self.builder.add(first, further)
        return [
            self.builder.bitcast(
                self.builder.gep(
                    data,
                    [self.builder.add(first, ir.Constant(_INDEX, v * self.block.lanes))],
                ),
                self.block.vector.as_pointer(),
            )
            for v in range(self.block.vectors)
        ]

    def load(self, pointers: list[Any]) -> list[Any]:
        """The vectors that lie there."""
        return [self.builder.load(p, align=self.block.dtype.bitwidth // 8) for p in pointers]

    def store(self, vectors: list[Any], pointers: list[Any]) -> None:
        """Write vectors there."""
        for vector, pointer in zip(vectors, pointers, strict=True):
            self.builder.store(vector, pointer, align=self.block.dtype.bitwidth // 8)

    def together(self, vectors: list[Any]) -> Any:
        """Vectors as a block."""
        block = ir.Constant(ir.ArrayType(self.block.vector, self.block.vectors), ir.Undefined)
        for v, vector in enumerate(vectors):
            block = self.builder.insert_value(block, vector, v)
        return block

    def product(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_FUSE)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``."""
        return self.builder.fadd(self.product(a, b), c, flags=_FUSE)

    def where_above_zero(self, of: list[Any], vectors: list[Any]) -> Any:
        """The vectors where those of ``of`` are above zero, or no number; else 0."""
        zero = self.constant(0.0)
        return self.together(
            [
                self.builder.select(self.builder.fcmp_ordered("<=", x, zero), zero, vector)
                for x, vector in zip(of, vectors, strict=True)
            ]
        )

    def sum(self, vectors: list[Any]) -> Any:
        """The sum of all numbers: vector on vector, then half on half."""
        while len(vectors) > 1:
            half = len(vectors) // 2
            vectors = [
                self.builder.fadd(a, b) for a, b in zip(vectors[:half], vectors[half:], strict=True)
            ]
        left, lanes = vectors[0], self.block.lanes
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(left.type, ir.Undefined)
            low, high = (
                self.builder.shuffle_vector(
                    left, undefined, _int32(list(range(first, first + lanes)))
                )
                for first in (0, lanes)
            )
            left = self.builder.fadd(low, high)
        return self.builder.extract_element(left, _int32(0))


def _int32(x: int | list[int]) -> Any:
    kind = ir.IntType(32)
    return ir.Constant(ir.VectorType(kind, len(x)) if isinstance(x, list) else kind, x)


def _compiled_as(result: str, code: Callable[[_Code], Any]) -> Callable[[F], F]:
    """Give a plain function its instructions. Its first argument is a block.

    Args:
        result: ``block``, ``number``, ``index`` or ``nothing``.
        code: writes the instructions and returns the result.
    """

    def decorate(plain: F) -> F:
        names = plain.__code__.co_varnames[: plain.__code__.co_argcount]

        def typed(typing: Any, block: Any, *rest: Any) -> Any:
            if not isinstance(block, BlockType):
                return None
            gives = {
                "block": block,
                "number": block.dtype,
                "index": types.int64,
                "nothing": types.void,
            }[result]
            arguments = [
                kind
                if isinstance(kind, types.Array | BlockType)
                else types.int64
                if name.endswith(("offset", "stride"))
                else block.dtype
                for name, kind in zip(names[1:], rest, strict=True)
            ]

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                made = code(_Code(context, builder, block, signature.args, values))
                return context.get_dummy_value() if result == "nothing" else made

            return gives(block, *arguments), generate

        typed.__name__, typed.__doc__ = plain.__name__, plain.__doc__
        own = list(inspect.signature(plain).parameters.values())
        first = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        vars(typed)["__signature__"] = inspect.Signature([first, *own])  # which numba reads
        return intrinsic(typed)

    return (lambda plain: plain) if numba.config.DISABLE_JIT else decorate


@_compiled_as("block", lambda code: code.together([code.repeated(1)] * code.block.vectors))
def filled(block, x):
    """A block of one number."""
    return np.full_like(block, x)


@_compiled_as("block", lambda code: code.together(code.load(code.pointers(1, 2))))
def load(block, array, offset):
    """``array[offset:]``, as many numbers as the block has."""
    return array[offset : offset + len(block)].copy()


@_compiled_as("nothing", lambda code: code.store(code.vectors(0), code.pointers(1, 2)))
def store(block, array, offset):
    """``array[offset:] = block``."""
    array[offset : offset + len(block)] = block


@_compiled_as("index", lambda code: ir.Constant(_INDEX, code.block.lanes * code.block.vectors))
def size(block):
    """How many numbers a block has."""
    return len(block)


def _add_scaled(code: _Code) -> Any:
    factor, other = code.repeated(1), code.load(code.pointers(2, 3))
    return code.together(
        [code.fused(factor, x, own) for x, own in zip(other, code.vectors(0), strict=True)]
    )


@_compiled_as("block", _add_scaled)
def add_scaled(block, x, array, offset):
    """``block + x * array[offset:]``."""
    return block + x * array[offset : offset + len(block)]


def _times(code: _Code) -> Any:
    return code.together(
        [
            code.product(a, b)
            for a, b in zip(code.vectors(0), code.load(code.pointers(1, 2)), strict=True)
        ]
    )


@_compiled_as("block", _times)
def times(block, array, offset):
    """``block * array[offset:]``."""
    return block * array[offset : offset + len(block)]


def _add(code: _Code) -> Any:
    return code.together(
        [
            code.builder.fadd(a, b)
            for a, b in zip(code.vectors(0), code.load(code.pointers(1, 2)), strict=True)
        ]
    )


@_compiled_as("block", _add)
def add(block, array, offset):
    """``block + array[offset:]``."""
    return block + array[offset : offset + len(block)]


@_compiled_as("block", lambda code: code.where_above_zero(code.vectors(0), code.vectors(0)))
def relu(block):
    """The block where it is above zero, or no number; else 0."""
    return np.where(block <= 0, 0, block)


@_compiled_as(
    "block",
    lambda code: code.where_above_zero(code.load(code.pointers(1, 2)), code.vectors(0)),
)
def where_positive(block, array, offset):
    """The block where ``array[offset:]`` is above zero, or no number; else 0."""
    return np.where(array[offset : offset + len(block)] <= 0, 0, block)


def _exponential(code: _Code) -> Any:
    b, short = code.builder, code.block.dtype.bitwidth == 32
    bits, mantissa = (32, 23) if short else (64, 52)
    whole = ir.VectorType(ir.IntType(bits), code.block.lanes)
    magic = code.constant(1.5 * 2.0**mantissa)  # a sum with it is rounded to a whole number
    lowest = code.constant(-87.0 if short else -708.0)  # below, no ordinary number is left
    high, low = (
        (0.693359375, -2.12194440e-4) if short else (0.6931471803691238, 1.9082149292705877e-10)
    )
    shift = ir.Constant(whole, [mantissa] * code.block.lanes)
    results = []
    for x in code.vectors(0):
        kept = b.select(b.fcmp_ordered("<", x, lowest), lowest, x)
        with_magic = code.fused(kept, code.constant(1 / math.log(2)), magic)
        power = b.fsub(with_magic, magic)
        rest = code.fused(power, code.constant(-high), kept)
        rest = code.fused(power, code.constant(-low), rest)
        series = code.constant(1 / math.factorial(_TERMS[bits]))
        for term in range(_TERMS[bits] - 1, -1, -1):
            series = code.fused(series, rest, code.constant(1 / math.factorial(term)))
        exponent = b.shl(b.bitcast(with_magic, whole), shift)
        result = b.bitcast(b.add(b.bitcast(series, whole), exponent), code.block.vector)
        results.append(b.select(b.fcmp_unordered("uno", x, x), x, result))
    return code.together(results)


@_compiled_as("block", _exponential)
def exponential(block):
    """``exp`` of a block of numbers that are not above 0, to the last bit or two: 2 to a whole
    power, times a power series of what is left (at most ln(2) / 2).
    """
    return np.exp(np.maximum(block, -87 if block.itemsize == 4 else -708))


@_compiled_as("number", lambda code: code.sum(code.vectors(0)))
def total(block):
    """The sum of the block's numbers."""
    return block.sum()


def _dot(code: _Code) -> Any:
    sums: list[Any] = []  # two, so that one product need not wait for the one before
    for a, b in zip(code.vectors(0), code.load(code.pointers(1, 2)), strict=True):
        if len(sums) < 2:
            sums.append(code.product(a, b))
        else:
            sums = [sums[1], code.fused(a, b, sums[0])]
    return code.sum(sums)


@_compiled_as("number", _dot)
def dot(block, array, offset):
    """The sum of ``block * array[offset:]``."""
    return (block * array[offset : offset + len(block)]).sum()


def _transposed(code: _Code) -> None:
    b, lanes = code.builder, code.block.lanes
    rows = []
    for side, stride in ((1, 3), (4, 6)):
        steps = [b.mul(code.value(stride), ir.Constant(_INDEX, i)) for i in range(lanes)]
        rows.append([code.pointers(side, side + 1, step)[0] for step in steps])
    square, step = code.load(rows[0]), 1
    while step < lanes:  # exchanges ever larger squares on both sides of the diagonal
        for i in range(lanes):
            if not i & step:
                upper, lower = square[i], square[i + step]
                above = [j if not j & step else lanes + j - step for j in range(lanes)]
                square[i] = b.shuffle_vector(upper, lower, _int32(above))
                below = [j + step if not j & step else lanes + j for j in range(lanes)]
                square[i + step] = b.shuffle_vector(upper, lower, _int32(below))
        step *= 2
    code.store(square, rows[1])


@_compiled_as("nothing", _transposed)
def transpose_square(block, x, x_offset, x_stride, y, y_offset, y_stride):
    """Write the transpose of a square, a vector long and wide, from one matrix into another;
    offset: of its first number, stride: numbers in a row. The block (of one vector) says the type.
    """
    for i in range(len(block)):
        for j in range(len(block)):
            y[y_offset + j * y_stride + i] = x[x_offset + i * x_stride + j]


def _adam(code: _Code) -> None:
    places = [code.pointers(array, 4) for array in (1, 2, 3)]
    weights, means, squares = map(code.load, places)
    size, root = code.repeated(5), code.repeated(6)
    keep, new, keep_square, new_square, tiny = map(
        code.constant, (0.9, 1 - 0.9, 0.999, 1 - 0.999, 1e-8)
    )
    of_vectors = ir.FunctionType(code.block.vector, [code.block.vector])
    name = f"llvm.sqrt.v{code.block.lanes}f{code.block.dtype.bitwidth}"
    square_root = cgutils.get_or_insert_function(code.builder.module, of_vectors, name)
    for v, g in enumerate(code.vectors(0)):
        means[v] = code.fused(keep, means[v], code.product(new, g))
        squares[v] = code.fused(
            keep_square, squares[v], code.product(code.product(new_square, g), g)
        )
        below = code.fused(code.builder.call(square_root, [squares[v]]), root, tiny)
        change = code.builder.fdiv(code.product(size, means[v]), below)
        weights[v] = code.builder.fsub(weights[v], change)
    for vectors, pointers in zip((weights, means, squares), places, strict=True):
        code.store(vectors, pointers)


@_compiled_as("nothing", _adam)
def adam(gradient, weight, mean, square, offset, size, root):
    """One step of Adam (betas .9 and .999, eps 1e-8) for the weights from an offset on, whose
    gradient is a block. size: of the step, and root: the factor of the second moment's root, both
    with the correction for the first steps (Kingma & Ba 2015).
    """
    kind, part = gradient.dtype.type, slice(offset, offset + len(gradient))
    mean[part] = kind(0.9) * mean[part] + kind(1 - 0.9) * gradient
    square[part] = kind(0.999) * square[part] + kind(1 - 0.999) * gradient * gradient
    weight[part] -= size * mean[part] / (np.sqrt(square[part]) * root + kind(1e-8))


def _plain_zeros(like, vectors):
    return np.zeros(vectors * VECTOR_BYTES // like.itemsize, like.dtype)


@intrinsic(prefer_literal=True)
def _compiled_zeros(typing: Any, like: Any, vectors: Any) -> Any:
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    block = BlockType(like.dtype, vectors.literal_value)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return ir.Constant(context.get_value_type(block), None)

    return block(like, vectors), generate


# zeros(like, vectors): a block of so many vectors (written as a number) of an array's type
zeros = _plain_zeros if numba.config.DISABLE_JIT else _compiled_zeros
