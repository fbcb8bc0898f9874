"""Eigenvector centrality: the limit of the power iteration on A + I from a uniform start, by the
Lanczos iteration.

With u the uniform unit vector and P the projection on the top eigenspace of A, the limit is P u,
scaled to length one, and its mean entry is ``|P u| / sqrt(n)``. Now ``|P u|^2`` is the weight of
the largest eigenvalue in the spectral measure of u, and k Lanczos steps from u give the Gauss
quadrature of that measure (Golub & Welsch 1969): its largest node, with its weight, is the largest
eigenvalue of a tridiagonal k x k matrix, with the squared first entry of its eigenvector. Its error
is squared, so that 10 to 30 steps do.

**When to stop.** Let lambda be the largest eigenvalue and (theta, y) the top Ritz pair, of residual
r. y is ``p(A) u`` for a polynomial whose roots, the other Ritz values, lie below theta, and
p(theta) >= 1, so p(lambda) >= 1: y has no smaller a part in the top eigenspace than u has, which is
at least 1 / sqrt(n), as that space holds a non-negative vector. So ``lambda - theta <= r sqrt(n)``:
no false convergence. The weight is off by (r / g)^2 of itself, g being the distance to the next
eigenvalue. With r <= 1e-13 lambda that is 1e-8 even for g = 1e-9 lambda, where we count eigenvalues
as equal. Where a second Ritz value is close (1e-5), or 200 steps do not do, all eigenvalues are
computed.
"""

import numpy as np
from numpy.typing import NDArray

from bogp.compiled import compiled

Values = NDArray[np.float64]

_STEPS = 200
_RESIDUAL = 1e-13
_CLOSE = 1e-5
_EQUAL = 1e-9


def eigenvector_centrality(adjacency: NDArray[np.uint8]) -> Values:
    """Mean entry of the unit vector that the power iteration on A + I reaches from a uniform start:
    its projection on the top eigenspace.

    Args:
        adjacency: (B, n, n), of zeros and ones, symmetric.

    Returns:
        (B,) values in (0, 1].
    """
    values = _by_lanczos(adjacency)
    for b in np.flatnonzero(np.isnan(values)):
        eigenvalues, vectors = np.linalg.eigh(adjacency[b].astype(np.float64))
        top = vectors[:, eigenvalues >= eigenvalues[-1] - _EQUAL * (1.0 + abs(eigenvalues[-1]))]
        values[b] = np.linalg.norm(top.sum(0)) / adjacency.shape[-1]
    return values


@compiled
def _by_lanczos(adjacency: NDArray[np.uint8]) -> Values:
    """The same, NaN where Lanczos does not settle it."""
    values = np.empty(len(adjacency))
    for b in range(len(adjacency)):
        values[b] = _lanczos(adjacency[b])
    return values


@compiled
def _lanczos(adjacency: NDArray[np.uint8]) -> float:
    n = len(adjacency)
    here, before, ahead = np.full(n, 1.0 / np.sqrt(n)), np.zeros(n), np.empty(n)
    alpha, beta = np.empty(_STEPS), np.empty(_STEPS)  # diagonal and off-diagonal
    link, value, due, small = 0.0, 0.0, 4, 0.0
    for k in range(_STEPS):
        _product(adjacency, here, ahead)
        alpha[k] = _dot(here, ahead)
        for i in range(n):
            ahead[i] -= alpha[k] * here[i] + link * before[i]
        link = np.sqrt(_dot(ahead, ahead))
        beta[k] = link
        if k == 0:
            value = alpha[0]
            small = 1e-8 * np.sqrt(alpha[0] ** 2 + link**2)
        if k + 1 == due or k + 1 == n or link <= small:
            value, weight, residual = _top(alpha, beta, k + 1, value, n)
            if residual <= _RESIDUAL * value:
                beyond, _, _, poles = _fraction(alpha, beta, k + 1, value * (1.0 - _CLOSE))
                return np.sqrt(weight / n) if poles + (beyond <= 0.0) <= 1 else np.nan
            due += 4 + k // 8
        before, here, ahead = here, ahead, before
        for i in range(n):
            here[i] /= link
    return np.nan


@compiled
def _product(adjacency: NDArray[np.uint8], x: Values, y: Values) -> None:
    """Write A x to y, four columns at a time; a choice instead of a product, which the processor's
    masks do at once.
    """
    n = len(adjacency)
    y[:] = 0.0
    whole = n // 4 * 4
    for j in range(0, whole, 4):
        a, b, c, d = adjacency[j], adjacency[j + 1], adjacency[j + 2], adjacency[j + 3]
        xa, xb, xc, xd = x[j], x[j + 1], x[j + 2], x[j + 3]
        for i in range(n):
            y[i] += (
                (xa if a[i] else 0.0)
                + (xb if b[i] else 0.0)
                + ((xc if c[i] else 0.0) + (xd if d[i] else 0.0))
            )
    for j in range(whole, n):
        for i in range(n):
            y[i] += x[j] if adjacency[j, i] else 0.0


@compiled
def _dot(x: Values, y: Values) -> float:
    """Four sums side by side: a single one would wait for each addition."""
    n = len(x)
    whole = n // 4 * 4
    a = b = c = d = 0.0
    for i in range(0, whole, 4):
        a += x[i] * y[i]
        b += x[i + 1] * y[i + 1]
        c += x[i + 2] * y[i + 2]
        d += x[i + 3] * y[i + 3]
    for i in range(whole, n):
        a += x[i] * y[i]
    return (a + b) + (c + d)


@compiled
def _top(alpha: Values, beta: Values, k: int, low: float, n: int) -> tuple[float, float, float]:
    """Largest eigenvalue of a tridiagonal matrix, at least ``low`` and at most n; its weight, and
    its residual as a Ritz value.

    Beyond its last pole the continued fraction grows and is concave, so that Newton's steps stay
    below the root once they are there. The slope falls from infinity at the pole to at most n at
    the root, as the weight is at least 1/n: where it is larger, we bisect.
    """
    x, high = low, float(n)
    for _ in range(100):
        value, slope, last, poles = _fraction(alpha, beta, k, x)
        if poles > 0 or slope > 2.0 * n:
            low = x
            x = 0.5 * (low + high)
            continue
        step = value / slope
        if abs(step) <= 4e-15 * x:
            return x, 1.0 / slope, beta[k - 1] * abs(last) / np.sqrt(slope)
        if value < 0.0:
            low = x
        else:
            high = x
        x -= step
        if not low < x < high:
            x = 0.5 * (low + high)
    return x, np.nan, np.inf


@compiled
def _fraction(alpha: Values, beta: Values, k: int, x: float) -> tuple[float, float, float, int]:
    """The continued fraction x - alpha_1 - beta_1^2 / (x - alpha_2 - ...), its slope, and the
    number of its own poles beyond x.

    Its roots are the eigenvalues of the tridiagonal matrix, its poles those of the matrix without
    the first row and column. At a root the slope is the squared norm of the eigenvector whose first
    entry is 1, so one over the root's weight; its last entry is returned third.
    """
    value, slope, last, poles = x - alpha[k - 1], 1.0, 1.0, 0
    for i in range(k - 2, -1, -1):
        poles += value <= 0.0
        ratio = beta[i] / value  # of an entry of the eigenvector to the one before
        value = x - alpha[i] - beta[i] * ratio
        slope = 1.0 + ratio * ratio * slope
        last *= ratio
    return value, slope, last, poles
