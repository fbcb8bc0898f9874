"""Settings of the tests of small networks."""

import pytest
import torch
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    """One thread: these networks are too small for more, which only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):  # of numpy's and scikit-learn's libraries
        yield
    torch.set_num_threads(threads)
