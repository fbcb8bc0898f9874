"""The errors that bogp raises on purpose: each says what was wrong, what is allowed, and what to
do.

Command-line entry points print these as one or two lines; anything else is a bug and keeps its
traceback.
"""


class BogpError(Exception):
    """Base of every error raised on purpose."""


class InvalidInput(BogpError, ValueError):
    """An argument is of the wrong kind, shape or range."""


class UnreachableSparsity(InvalidInput):
    """A mask family has no member of the sparsity that was asked for."""


class DatasetError(BogpError):
    """A data set is unknown, missing, damaged or mislabelled."""


class DatabaseError(BogpError):
    """A mask database is missing, incomplete or damaged."""


class StoreError(BogpError):
    """The store of evaluations cannot be read or written."""


class NotCapturable(BogpError):
    """A model whose computation graph cannot be captured, or not faithfully; the message names the
    operation.
    """


class NothingToRemove(InvalidInput):
    """A model without an edge that could be removed."""


class Disconnected(InvalidInput):
    """A removal that would cut an output off from every input."""


class NotFinite(BogpError):
    """A loss that is NaN or infinite."""
