"""Settings of the tests of small networks."""

from tests.structural.conftest import one_thread

__all__ = ["one_thread"]
