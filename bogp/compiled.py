"""Loops compiled to machine code (numba), and kept on disk so that only the first run on a machine
waits for the compiler.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a function over arrays and numbers at its first call, for the processor it runs on.

    It releases the interpreter lock, so that threads run side by side, and may fuse a product with
    the sum it goes into (one rounding instead of two); sums keep their order, so the same machine
    always gives the same bits. Where no folder can be written, or the disk is full, the code is not
    kept. What is kept is compiled again when the function's own file changes, not when another does
    from which it takes functions: then delete ``__pycache__``.

    Args:
        function: of numpy arrays and numbers, in the subset of Python that numba compiles.

    Returns:
        The compiled function; the function itself under ``NUMBA_DISABLE_JIT=1``.
    """
    try:
        return _jit(function, cache=True)
    except RuntimeError:  # numba found no folder to keep it in
        return _jit(function, cache=False)


def _jit(function: F, *, cache: bool) -> F:
    if numba.config.DISABLE_JIT:  # the environment asks for plain Python, to debug or to trace
        return function
    dispatcher = numba.njit(cache=cache, nogil=True, error_model="numpy", fastmath={"contract"})(
        function
    )
    keep = dispatcher._cache.save_overload

    def keep_if_possible(signature: object, code: object) -> None:
        # a full disk is no reason to stop: the code is compiled again next time
        with suppress(OSError):
            keep(signature, code)

    dispatcher._cache.save_overload = keep_if_possible
    return dispatcher
