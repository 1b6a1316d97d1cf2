"""What YellowFin measures and tunes, in plain NumPy, as the authors' program writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastmom.types import Array

EPS = 1e-6


def tune(grads: Sequence[Array | None], state: Sequence[dict[str, Array]],
         hyper: Sequence[dict[str, Any]], options: Mapping[str, Any]) -> None:
    """Measure the gradients, and put momentum, learning rate and share into each `hyper`.

    The averages are ``state[0]["measured"]``: see `fastmom.optim.yellowfin.NAMES`.
    """
    own, beta, clips = state[0]["measured"], options["beta"], options["adapt_clip"]
    width = options["curv_win_width"]
    (t, mass, square, norm, distance, log_min, log_max, signal, signal_square, signal_mass, weight,
     fall, _, _), window = own[:14], own[14:]
    t, fall = int(t), fall if t else 1.0
    g_norm = np.sqrt(sum(np.sum(g * g) for g in grads if g is not None))
    kept = share = 1.0
    h_max = np.exp(log_max / mass) if t else np.inf
    if clips and t > 1 and g_norm > np.sqrt(100 * h_max) + EPS:
        kept = (np.sqrt(100 * h_max) + EPS) / g_norm
    g_norm = kept * g_norm
    if clips and g_norm > np.sqrt(h_max) + EPS:
        share = (np.sqrt(h_max) + EPS) / g_norm
    window[t % len(window)] = g_norm ** 2
    seen = np.log(np.roll(window, -1 - t)[-min(width, t + 1):] + EPS)     # the latest

    mass = beta * mass + 1 - beta
    square = beta * square + (1 - beta) * g_norm ** 2
    norm = beta * norm + (1 - beta) * g_norm
    distance = beta * distance + (1 - beta) * norm / (square + EPS)
    log_min = beta * log_min + (1 - beta) * seen.min()
    log_max = beta * log_max + (1 - beta) * seen.max()
    h_min, h_max = np.exp(log_min / mass), np.exp(log_max / mass)
    variance = square / mass - max(signal / signal_mass if signal_mass else 0.0, 0.0)

    lr, m = 1e-4, 0.0
    if t:
        p = ((distance / mass + EPS) * (h_min + EPS)) ** 2 / 2 / (max(variance, EPS) + EPS)
        root = cubic_root(p)
        ratio = np.sqrt(max((h_max + EPS) / (h_min + EPS), 1 + EPS))
        m = max(root ** 2, ((ratio - 1) / (ratio + 1)) ** 2)
        lr = (1 - np.sqrt(m)) ** 2 / (h_min + EPS)
        lr = fall * min(lr, lr * (t + 1) / (10 * width))

    velocity = [s["velocity"] for s in state]
    product = kept * sum(np.sum(g * v) for g, v in zip(grads, velocity, strict=True)
                         if g is not None)
    if weight > 0:
        signal = beta * signal + (1 - beta) * product / weight
        signal_square = beta * signal_square + (1 - beta) * (product / weight) ** 2
        signal_mass = beta * signal_mass + 1 - beta
        mean, mean_square = signal / signal_mass, signal_square / signal_mass
        samples = (1 + beta) / (1 - beta) * signal_mass / (2 - signal_mass)
        fall *= beta if mean < -2 * np.sqrt(mean_square / samples) else 1.0
    weight = m * weight + kept * share
    own[:14] = (t + 1, mass, square, norm, distance, log_min, log_max, signal, signal_square,
                signal_mass, weight, fall, lr, m)
    for h in hyper:
        a = h["lr"] * lr
        h["tuned_lr"] = min(a, 100 / g_norm) if clips and a * g_norm > 100 else a
        h["tuned_momentum"], h["share"] = m, kept * share


def cubic_root(p: Any) -> Any:
    """Return 1 + y for the real root of ``y^3 + p y + p``, in -1 to 0."""
    low, high = -np.ones_like(p), np.zeros_like(p)
    for _ in range(np.finfo(p.dtype).nmant + 8):     # bisection: exact to the last digit
        y = (low + high) / 2
        low, high = (y, high) if y ** 3 + p * y + p < 0 else (low, y)
    return 1 + (low + high) / 2
