"""Errors of structural pruning."""

from bogp.errors import BogpError, InvalidInput


class NotCapturable(BogpError):
    """A model whose computation graph cannot be captured, or not faithfully; the message names the operation."""


class NothingToRemove(InvalidInput):
    """A model without an edge that could be removed."""


class Disconnected(InvalidInput):
    """A removal that would cut an output off from every input."""


class NotFinite(BogpError):
    """A loss that is NaN or infinite."""
