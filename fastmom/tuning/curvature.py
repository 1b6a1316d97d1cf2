"""The largest curvature of a network's loss, and the learning rate that it allows."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.optim import SGD

if TYPE_CHECKING:
    from fastmom.nn import Sequential

SAMPLES, ROUNDS = 512, 12
REACH = 1e-2        # length of a finite difference: float32 gradients have some seven digits


def sharpness(model: Sequential, x: Any, y: Any, *, samples: int = SAMPLES, rounds: int = ROUNDS,
              seed: int = 0) -> float:
    """Estimate the largest eigenvalue L of the Hessian of the loss at the model's weights.

    By power iteration, with central differences of gradients for the products of the Hessian with
    a vector. It approaches L from below. Dropout is left out, and the model stays as it is.

    Parameters
    ----------
    model : Sequential
        Compiled.
    x, y : array-like
        As for `Sequential.fit`; the first `samples` of them are taken.
    samples, rounds : int
    seed : int
        Of the first direction.

    Returns
    -------
    float
        At least 0; NaN if a gradient is not finite.

    References
    ----------
    Y. LeCun, P. Simard and B. Pearlmutter, "Automatic learning rate maximization by on-line
    estimation of the Hessian's eigenvectors", NIPS 1992.
    """
    twin = copy.deepcopy(model)
    for layer in twin.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    twin.compile(SGD(lr=0.0), loss=model.loss)
    centre = [w.astype(np.float64) for w in twin.params]

    def gradient(offset: list[Any]) -> list[Any]:
        for param, at, by in zip(twin.params, centre, offset, strict=True):
            param[...] = at + by
        twin.train_on_batch(x[:samples], y[:samples])
        return [g.astype(np.float64) for g in twin.grads]

    rng = np.random.default_rng(seed)
    direction, found = unit([rng.standard_normal(w.shape) for w in centre]), 0.0
    with np.errstate(all="ignore"):
        for _ in range(rounds):
            ahead = gradient([REACH * d for d in direction])
            behind = gradient([-REACH * d for d in direction])
            product = [(a - b) / (2 * REACH) for a, b in zip(ahead, behind, strict=True)]
            found = float(sum(np.vdot(p, d) for p, d in zip(product, direction, strict=True)))
            if not np.isfinite(found):
                return float("nan")
            direction = unit(product)
    return max(found, 0.0)


def unit(vector: list[Any]) -> list[Any]:
    """Return the vector, of several arrays, divided by its length (if it has one)."""
    length = float(np.sqrt(sum(np.vdot(part, part) for part in vector)))
    return [part / length for part in vector] if length > 0 else vector


def stability_edge(momentum: float, curvature: float, *, nesterov: bool = False) -> float:
    r"""Return the learning rate above which momentum diverges on a quadratic of this curvature.

    ``2 (1 + m) / L`` for the heavy ball, where ``x_{k+1} = (1 + m - lr L) x_k - m x_{k-1}`` has a
    root at -1; ``2 (1 + m) / ((1 + 2 m) L)`` for Nesterov's form. Infinity where L is 0.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    Examples
    --------
    >>> stability_edge(0.9, 10.0)
    0.38
    >>> round(stability_edge(0.9, 10.0, nesterov=True), 4)
    0.1357
    """
    if curvature == 0:
        return float("inf")
    return 2 * (1 + momentum) / ((1 + 2 * momentum * nesterov) * curvature)
