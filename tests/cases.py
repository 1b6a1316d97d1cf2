"""The tables that the optimizers' tests run over: a new optimizer is a row here."""

from __future__ import annotations

from typing import Any

import fastmom as fm

# (class, hyper-parameters): at least one row for each form of the update
OPTIMIZERS: list[tuple[type[fm.Optimizer], dict[str, Any]]] = [
    (fm.SGD, {}),
    (fm.SGD, {"weight_decay": 0.1}),
    (fm.SGD, {"nesterov": True}),
    (fm.SGD, {"decay": 0.5}),
    (fm.SGD, {"momentum": 0.9}),
    (fm.SGD, {"momentum": 1.0}),
    (fm.SGD, {"momentum": 0.9, "decay": 0.5}),
    (fm.SGD, {"momentum": 0.9, "dampening": 0.3}),
    (fm.SGD, {"momentum": 0.9, "dampening": 1.0, "weight_decay": 0.1}),
    (fm.SGD, {"momentum": 0.9, "nesterov": True}),
    (fm.SGD, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "decay": 0.1}),
    (fm.SGD, {"momentum": 0.9, "convention": "keras"}),
    (fm.SGD, {"momentum": 0.9, "convention": "keras", "nesterov": True, "weight_decay": 0.1}),
    (fm.SGD, {"momentum": 0.9, "convention": "keras", "decay": 0.5}),
    (fm.SGD, {"momentum": 0.9, "convention": "ema"}),
    (fm.SGD, {"momentum": 0.9, "convention": "ema", "nesterov": True, "weight_decay": 0.1}),
    (fm.SGD, {"momentum": 0.9, "nesterov": True, "restart": True}),
    (fm.SGD, {"momentum": 0.9, "convention": "keras", "weight_decay": 0.1, "restart": True}),
    (fm.SGD, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (fm.SGD, {"momentum": 0.9, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (fm.QHM, {"momentum": 0.9, "weight_decay": 0.1}),
    (fm.QHM, {"momentum": 0.9, "nu": 0.2}),
    (fm.AggMo, {}),
    (fm.AggMo, {"momenta": (0.5,), "weight_decay": 0.1}),
    (fm.AggMo, {"momenta": (0.0, 0.9, 0.99, 1.0)}),
    (fm.Signum, {"weight_decay": 0.1}),
    (fm.Signum, {"momentum": 0.0}),
    (fm.Lion, {"weight_decay": 0.1}),
    (fm.Lion, {"beta1": 0.5, "beta2": 0.8}),
    (fm.RMSprop, {}),
    # a small eps would amplify the rounding of g + weight_decay p where the two nearly cancel
    (fm.RMSprop, {"weight_decay": 0.1, "eps": 0.1}),
    (fm.RMSprop, {"momentum": 0.9, "beta2": 0.9}),
    (fm.RMSprop, {"centered": True, "eps": 1e-2}),
    (fm.RMSprop, {"centered": True, "momentum": 0.9, "eps": 1e-2}),
    (fm.RMSprop, {"momentum": 0.9, "nesterov": True, "eps_inside_root": True}),
    (fm.RMSprop, {"centered": True, "momentum": 0.5, "nesterov": True, "eps": 1e-2}),
    (fm.RMSprop, {"eps_inside_root": True, "centered": True, "eps": 1e-2}),
    (fm.RMSprop, {"eps_inside_root": True, "weight_decay": 0.1, "eps": 0.1}),
    (fm.Adagrad, {"weight_decay": 0.1}),
    (fm.Adagrad, {"decay": 0.5, "initial_accumulator": 0.1, "eps": 1e-3}),
    (fm.Adam, {}),
    (fm.Adam, {"weight_decay": 0.1, "beta1": 0.5, "beta2": 0.8, "eps": 1e-3}),
    (fm.Adam, {"amsgrad": True, "beta2": 0.5}),
    (fm.AdamW, {"weight_decay": 0.1}),
    (fm.AdamW, {"amsgrad": True, "weight_decay": 0.1}),
    (fm.NAdam, {"weight_decay": 0.1}),
    (fm.NAdam, {"decoupled_weight_decay": True, "weight_decay": 0.1, "momentum_decay": 0.1}),
    (fm.Adadelta, {}),
    (fm.Adadelta, {"weight_decay": 0.1, "eps": 0.1, "beta2": 0.5}),
    (fm.Adamax, {"weight_decay": 0.1, "eps": 1e-2}),
    (fm.RAdam, {"weight_decay": 0.1}),
    (fm.RAdam, {"beta2": 0.9, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (fm.Yogi, {"weight_decay": 0.1}),
    (fm.AdaBelief, {"weight_decay": 0.1, "eps": 1e-3}),
    (fm.AdaBelief, {"eps_root": 1e-3, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (fm.Adan, {"weight_decay": 0.1}),
    (fm.Rprop, {}),
    (fm.Rprop, {"eta_plus": 1.5, "eta_minus": 0.25, "step_min": 0.005, "step_max": 0.03}),
    (fm.LARS, {"trust_coefficient": 0.1}),
    (fm.LARS, {"weight_decay": 0.1, "nesterov": True, "eps": 0.1}),
    (fm.LAMB, {}),
    (fm.LAMB, {"weight_decay": 0.1, "beta1": 0.5, "beta2": 0.8, "eps": 1e-3}),
    (fm.NovoGrad, {}),
    (fm.NovoGrad, {"weight_decay": 0.1, "beta1": 0.5, "beta2": 0.8, "eps": 0.1}),
    (fm.Adafactor, {}),
    (fm.Adafactor, {"weight_decay": 0.1, "eps1": 0.1, "eps2": 10.0, "beta2_decay": -0.5}),
    (fm.Adafactor, {"clipping_threshold": 1.1, "lr": 1.0}),
    (fm.YellowFin, {}),
    (fm.YellowFin, {"weight_decay": 0.1, "beta": 0.5, "curv_win_width": 3}),
    (fm.YellowFin, {"adapt_clip": False, "beta": 0.9}),
    (fm.Muon, {}),
    (fm.Muon, {"weight_decay": 0.0, "adamw_lr": 0.1, "beta1": 0.5}),
]

# What every optimizer takes besides
COMMON: list[dict[str, Any]] = [
    {},
    {"maximize": True},
    {"grad_scale": 1024.0},
    {"clip_value": 0.5},
    {"clip_norm": 1.0},
    {"clip_norm": 1e9},
    {"clip_norm_per_tensor": 1.0},
    {"clip_norm": 1.0, "clip_value": 0.01, "grad_scale": 0.125, "maximize": True},
    {"nonfinite": "skip"},
    {"nonfinite": "raise", "clip_norm_per_tensor": 0.1},
]

SIZES = [0, 1, 7, 8, 15, 16, 17, 31, 33, 1000, 4095, 4096, 4097, 100003]


def label(case: tuple[type[fm.Optimizer], dict[str, Any]]) -> str:
    """A readable test id."""
    return "-".join([case[0].__name__, *(f"{k}={v}" for k, v in case[1].items())])
