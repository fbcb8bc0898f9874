"""The papers' printed numbers, which our own are held against."""

# Table 1 of the paper: accuracy on the MNIST validation set, which is the set that masks were
# chosen on.
PAPER_BASE = 0.970

PAPER_TABLE_1 = {
    "bogp": {0.15: 0.972, 0.30: 0.972, 0.45: 0.970, 0.60: 0.968, 0.75: 0.966, 0.90: 0.951},
    "glob_1": {0.15: 0.971, 0.30: 0.970, 0.45: 0.970, 0.60: 0.967, 0.75: 0.965, 0.90: 0.945},
    "glob_5": {0.15: 0.972, 0.30: 0.972, 0.45: 0.971, 0.60: 0.970, 0.75: 0.966, 0.90: 0.962},
    "unif_1": {0.15: 0.970, 0.30: 0.970, 0.45: 0.969, 0.60: 0.966, 0.75: 0.963, 0.90: 0.810},
    "unif_5": {0.15: 0.972, 0.30: 0.972, 0.45: 0.971, 0.60: 0.970, 0.75: 0.965, 0.90: 0.950},
}

# The unpruned network is printed once; it stands beside each sparsity.
PAPER_PRUNED = PAPER_TABLE_1 | {"base": dict.fromkeys(PAPER_TABLE_1["bogp"], PAPER_BASE)}

PAPER_BOGP = PAPER_TABLE_1["bogp"]

# Table 2 of the paper: accuracy and sparsity at each alpha, both printed with two decimals (those
# of Table 1 with three).
PAPER_TABLE_2 = {
    0.1: (0.90, 0.73),
    0.15: (0.88, 0.76),
    0.25: (0.82, 0.79),
    0.5: (0.37, 0.93),
    0.75: (0.36, 0.94),
    0.9: (0.25, 0.98),
}
