"""The rules of `fastmom.optim.reference` that divide by roots of squared gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmom.types import Array


def rmsprop(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
            now: int) -> None:
    d, b, q = g + h["weight_decay"] * p, h["beta2"], s["square"]
    q[...] = b * q + (1 - b) * d * d
    variance = q
    if h["centered"]:
        s["mean"][...] = b * s["mean"] + (1 - b) * d
        variance = np.maximum(q - s["mean"] ** 2, 0)
    step = d / (np.sqrt(variance + h["eps"]) if h["eps_inside_root"]
                else np.sqrt(variance) + h["eps"])
    if h["momentum"] or h["centered"]:
        m, v = h["momentum"], s["velocity"]
        v[...] = m * v + step
        step = m * v + step if h["nesterov"] else v
    p -= h["lr"] * step


def adagrad(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
            now: int) -> None:
    d = g + h["weight_decay"] * p
    s["square"] += d * d
    p -= h["lr"] / (1 + h["decay"] * age) * d / (np.sqrt(s["square"]) + h["eps"])


def adam(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    t, d = age + 1, decayed(p, g, h, h["lr"])
    square = moments(s, d, h)
    if h["amsgrad"]:
        np.maximum(s["largest_square"], square, out=s["largest_square"])
        square = s["largest_square"]
    corrected = s["mean"] / (1 - h["beta1"] ** t)
    p -= h["lr"] * corrected / (np.sqrt(square / (1 - h["beta2"] ** t)) + h["eps"])


def nadam(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
          now: int) -> None:
    t, d = age + 1, decayed(p, g, h, h["lr"])
    square = moments(s, d, h)
    mu = [h["beta1"] * (1 - 0.5 * 0.96 ** (k * h["momentum_decay"])) for k in range(1, t + 2)]
    direction = ((1 - mu[-2]) / (1 - math.prod(mu[:-1])) * d
                 + mu[-1] / (1 - math.prod(mu)) * s["mean"])
    p -= h["lr"] * direction / (np.sqrt(square / (1 - h["beta2"] ** t)) + h["eps"])


def adadelta(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
             now: int) -> None:
    d, b, eps = g + h["weight_decay"] * p, h["beta2"], h["eps"]
    s["square"][...] = b * s["square"] + (1 - b) * d * d
    u = np.sqrt(s["step_square"] + eps) / np.sqrt(s["square"] + eps) * d
    s["step_square"][...] = b * s["step_square"] + (1 - b) * u * u
    p -= h["lr"] * u


def adamax(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
           now: int) -> None:
    d, b1, b2 = g + h["weight_decay"] * p, h["beta1"], h["beta2"]
    s["mean"][...] = b1 * s["mean"] + (1 - b1) * d
    np.maximum(b2 * s["largest"], np.abs(d) + h["eps"], out=s["largest"])
    p -= h["lr"] / (1 - b1 ** (age + 1)) * s["mean"] / s["largest"]


def radam(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
          now: int) -> None:
    t, b2 = age + 1, h["beta2"]
    square = moments(s, decayed(p, g, h, h["lr"]), h)
    step = s["mean"] / (1 - h["beta1"] ** t)
    limit = 2 / (1 - b2) - 1
    length = limit - 2 * t * b2 ** t / (1 - b2 ** t)
    if length > 5:
        rect = math.sqrt((length - 4) * (length - 2) * limit
                         / ((limit - 4) * (limit - 2) * length))
        step = step * (rect * math.sqrt(1 - b2 ** t)) / (np.sqrt(square) + h["eps"])
    p -= h["lr"] * step


def yogi(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    t, d, b1, b2 = age + 1, g + h["weight_decay"] * p, h["beta1"], h["beta2"]
    s["mean"][...] = b1 * s["mean"] + (1 - b1) * d
    v = s["square"]
    v -= (1 - b2) * np.sign(v - d * d) * d * d
    p -= h["lr"] / (1 - b1 ** t) * s["mean"] / (np.sqrt(v / (1 - b2 ** t)) + h["eps"])


def adabelief(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
              now: int) -> None:
    t, b1, b2, d = age + 1, h["beta1"], h["beta2"], decayed(p, g, h, h["lr"])
    s["mean"][...] = b1 * s["mean"] + (1 - b1) * d
    s["variance"][...] = b2 * s["variance"] + (1 - b2) * (d - s["mean"]) ** 2 + h["eps_root"]
    p -= (h["lr"] / (1 - b1 ** t) * s["mean"]
          / (np.sqrt(s["variance"] / (1 - b2 ** t)) + h["eps"]))


def adan(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int, now: int) -> None:
    t, b1, b2, b3 = age + 1, h["beta1"], h["beta2"], h["beta3"]
    change = g - s["gradient"] if age else np.zeros_like(g)
    s["mean"][...] = b1 * s["mean"] + (1 - b1) * g
    s["change"][...] = b2 * s["change"] + (1 - b2) * change
    s["square"][...] = b3 * s["square"] + (1 - b3) * (g + (1 - b2) * change) ** 2
    s["gradient"][...] = g
    u = s["mean"] / (1 - b1 ** t) + (1 - b2) * s["change"] / (1 - b2 ** t)
    u = u / (np.sqrt(s["square"] / (1 - b3 ** t) + h["eps_root"]) + h["eps"])
    p -= h["lr"] * (u + h["weight_decay"] * p)


def adafactor(p: Array, g: Array, s: dict[str, Array], h: Mapping[str, Any], age: int,
              now: int) -> None:
    if not p.size:
        return
    t, lr = age + 1, h["lr"]
    k, rate = t ** h["beta2_decay"], min(lr, t ** -0.5) * max(h["eps2"], rms(p))
    eps1 = h["eps1"] or h.get("machine_eps", np.finfo(p.dtype).eps)
    p *= 1 - lr * h["weight_decay"]
    if g.ndim > 1:
        row, column = s["row"], s["column"]
        row += k * (np.mean(g * g, axis=-1, keepdims=True) - row)
        column += k * (np.mean(g * g, axis=-2, keepdims=True) - column)
        v = row * column / np.maximum(row.mean(axis=-2, keepdims=True), eps1)
    else:
        v = s["square"]
        v += k * (g * g - v)
    u = g / np.sqrt(np.maximum(v, eps1 ** 2))
    p -= rate / max(1.0, rms(u) / h["clipping_threshold"]) * u


def rms(x: Array) -> Any:
    """Return the root of the mean of squares."""
    return np.sqrt(np.mean(x * x))


def decayed(p: Array, g: Array, h: Mapping[str, Any], lr: float) -> Array:
    """Return the gradient with its L2 penalty; a decoupled one shrinks the parameter now."""
    if h["decoupled_weight_decay"]:
        p *= 1 - lr * h["weight_decay"]
        return g
    penalised: Array = g + h["weight_decay"] * p
    return penalised


def moments(s: dict[str, Array], d: Array, h: Mapping[str, Any]) -> Array:
    """Update the mean of the gradient and of its square; return the latter."""
    s["mean"][...] = h["beta1"] * s["mean"] + (1 - h["beta1"]) * d
    square: Array = s["square"]
    square[...] = h["beta2"] * square + (1 - h["beta2"]) * d * d
    return square
