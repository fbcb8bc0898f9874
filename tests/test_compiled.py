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


CALLER = """
from bogp.compiled import compiled
from other import one

@compiled
def three():
    return one() + 2

print(three())
"""
CALLED = """
from bogp.compiled import compiled

@compiled
def one():
    return {}
"""


def test_what_is_kept_is_compiled_again_when_a_file_changes_from_which_it_takes_functions(tmp_path):
    """Numba by itself looks at the function's own file, and prints 3 twice."""
    (tmp_path / "caller.py").write_text(CALLER)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    printed = []
    for value, times in ((1, 2), (10, 1)):
        (tmp_path / "other.py").write_text(CALLED.format(value))
        for _ in range(times):
            result = subprocess.run(
                [sys.executable, "-c", "import caller"],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            printed.append(result.stdout.strip())
    assert printed == ["3", "3", "12"]
    assert list((tmp_path / "kept").rglob("*.nbi"))
