"""Algorithm 1 as a plain script: draws masks, measures them with networkx one after another, writes a table.

python -m benchmarks.plain_database MASKS_PER_SPARSITY OUTPUT.csv
"""

import csv
import sys

import numpy as np

from benchmarks.reference import nine_properties

SPARSITIES = (0.15, 0.30, 0.45, 0.60, 0.75, 0.90, 0.95)

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    with open(sys.argv[2], "w", newline="") as file:  # noqa: PTH123
        writer = csv.writer(file)
        for sparsity in SPARSITIES:
            for _ in range(int(sys.argv[1])):
                upper = np.triu(rng.random((128, 128)) < 1 - sparsity)
                mask = upper | upper.T
                writer.writerow([sparsity, *nine_properties(mask), np.packbits(mask).tobytes().hex()])
