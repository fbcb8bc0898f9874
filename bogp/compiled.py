"""Loops compiled to machine code (numba), and kept on disk so that only the first run on a machine
waits for the compiler.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numba
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a function over arrays and numbers at its first call, for the processor it runs on.

    It releases the interpreter lock, so that threads run side by side, and may fuse a product with
    the sum it goes into (one rounding instead of two); sums keep their order, so the same machine
    always gives the same bits. Where no folder can be written, or the disk is full, the code is not
    kept. What is kept is compiled again when the function's own file changes, or one from which it
    takes compiled functions.

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
    _keep_until_any_changes(dispatcher, _files_behind(function))
    keep = dispatcher._cache.save_overload

    def keep_if_possible(signature: object, code: object) -> None:
        # a full disk is no reason to stop: the code is compiled again next time
        with suppress(OSError):
            keep(signature, code)

    dispatcher._cache.save_overload = keep_if_possible
    return dispatcher


def _files_behind(function: Callable[..., object]) -> frozenset[str]:
    """The files of a function's code, and of all compiled functions that its module names."""
    files = {function.__code__.co_filename}
    for value in function.__globals__.values():
        own = isinstance(value, ModuleType) and value.__name__.startswith(__package__)
        for each in vars(value).values() if own else [value]:
            if isinstance(each, Dispatcher):
                files |= each.files_behind if hasattr(each, "files_behind") else set()
            elif isinstance(each, _Intrinsic):  # instructions that are written for numba
                files.add(each._defn.__code__.co_filename)
    return frozenset(files)


def _keep_until_any_changes(dispatcher: Any, files: frozenset[str]) -> None:
    """Numba looks at the function's own file alone, and would run old code of the others."""
    dispatcher.files_behind = files
    cache = getattr(dispatcher._cache, "_cache_file", None)
    if cache is not None:
        stats = [Path(file).stat() for file in sorted(files)]
        cache._source_stamp = tuple((stat.st_mtime, stat.st_size) for stat in stats)
