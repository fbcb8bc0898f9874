"""Checks of arguments that many modules make: each refuses what is not of the kind that is needed,
in words for people.
"""

import math
from collections.abc import Container, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bogp.errors import BogpError, InvalidInput


def refuse(wrong: object, message: str, error: type[BogpError] = InvalidInput) -> None:
    """Raise an error if something is wrong.

    Args:
        wrong: whether it is. Both arguments are computed before the call, so the message says
            nothing that exists only where something is wrong.
        message: what was wrong, what is allowed, and what to do; nothing that is slow to write.
        error: its kind.
    """
    if wrong:
        raise error(message)


def whole(what: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """A whole number, of at least ``low`` and at most ``high`` where these are given.

    Raises:
        InvalidInput: it is of another type (a boolean is no number here) or out of range.
    """
    limits = {
        (True, True): "",
        (True, False): f"of at most {high} ",
        (False, True): f"of at least {low} ",
        (False, False): f"from {low} to {high} ",
    }[low is None, high is None]
    refuse(
        not isinstance(value, (int, np.integer))
        or isinstance(value, bool)
        or (low is not None and value < low)
        or (high is not None and value > high),
        f"{what} is {value!r}; a whole number {limits}is needed.",
    )
    return int(value)


def number(what: str, value: Any) -> float:
    """A number, NaN and infinity included; whether it is in range the caller says. A whole number
    that no float can hold is infinite.

    Raises:
        InvalidInput: it is of another type (a boolean is no number here).
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    refuse(not is_number or isinstance(value, bool), f"{what} is {value!r}; a number is needed.")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def flag(what: str, value: Any) -> bool:
    """True or False.

    Raises:
        InvalidInput: it is neither.
    """
    is_flag = isinstance(value, (bool, np.bool_))
    refuse(not is_flag, f"{what} is {value!r}; True or False is needed.")
    return bool(value)


def floats(what: str, values: ArrayLike) -> NDArray[np.float64]:
    """Numbers as an array, of any shape.

    Raises:
        InvalidInput: they are no numbers, or nested lists of different lengths.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{what} should be numbers, in lists of one length ({error}).") from None


def bits(what: str, values: ArrayLike) -> NDArray[np.bool_]:
    """Truth values as an array, of any shape.

    Raises:
        InvalidInput: something else than True, False, 1 and 0, or nested lists of different
            lengths.
    """
    try:
        given = np.asarray(values)
    except ValueError:
        raise InvalidInput(
            f"{what} are lists of different lengths; all of one length are needed."
        ) from None
    refuse(
        given.dtype != bool and not np.isin(given, (0, 1)).all(),
        f"{what} hold True or 1 where something stays and False or 0 where it goes; got "
        "other values.",
    )
    return given.astype(bool)


def is_one_of(name: Any, allowed: Container[str]) -> bool:
    """Whether a name is one of those that are allowed; what is no text is none of them."""
    return isinstance(name, str) and name in allowed


def choice(
    what: str, name: Any, allowed: Iterable[str], error: type[BogpError] = InvalidInput
) -> str:
    """A name, one of those that are allowed.

    Raises:
        InvalidInput: it is none of them, or the kind of error given; the message lists them.
    """
    names = tuple(allowed)
    refuse(
        not is_one_of(name, names),
        f"There is no {what} {name!r}; there are: {', '.join(names)}.",
        error,
    )
    return name


def share(what: str, value: Any) -> float:
    """A number strictly between 0 and 1.

    Raises:
        InvalidInput: it is of another type, or out of range.
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    refuse(
        not is_number or isinstance(value, bool) or not 0 < value < 1,
        f"{what} is {value!r}; it lies strictly between 0 and 1.",
    )
    return float(value)


def listed(what: str, values: Any) -> tuple[Any, ...]:
    """The items of a list or the like.

    Raises:
        InvalidInput: it is no list; a text is none.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidInput(f"{what} is {values!r}; a list is needed.")
    return tuple(values)


def indices(what: str, values: Any, count: int) -> list[int]:
    """The items of a list of indices of ``count`` things.

    Raises:
        InvalidInput: it is no list, or an item is no whole number from 0 to ``count`` - 1.
    """
    return [whole(f"An item of {what}", value, 0, count - 1) for value in listed(what, values)]


def texts(what: str, values: Any) -> tuple[str, ...]:
    """The items of a list of texts.

    Raises:
        InvalidInput: it is no list, or an item is no text.
    """
    items = listed(what, values)
    if not all(isinstance(item, str) for item in items):
        raise InvalidInput(f"{what} is {items!r}; a list of names is needed.")
    return items
