"""Loops that numba compiles give the same in plain Python."""

import os
import subprocess
import sys

MEASURE = """
import numpy as np
from bogp.graphs import families, properties
from bogp.training import engine
masks = np.stack([families.bernoulli(8, 0.5, np.random.default_rng(i)) for i in range(3)])
print(properties.measure(masks).to_json())
"""


def test_without_the_compiler_the_properties_are_the_same():
    """``NUMBA_DISABLE_JIT=1`` is how compiled loops are debugged, and their coverage traced."""
    printed = [
        subprocess.run(
            [sys.executable, "-c", MEASURE],
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for disabled in "01"
    ]
    assert printed[0] == printed[1]
