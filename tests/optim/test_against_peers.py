"""The same path as the installed PyTorch, optax and Keras: 200 float64 steps, lr changing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastmom as fm

STEPS = 200
RNG = np.random.default_rng(0)
START = RNG.standard_normal(50)
CURVATURE = np.logspace(0, 3, 50)       # an ill-conditioned quadratic
Make = Callable[..., fm.Optimizer]


def lr_at(step: int) -> float:
    return 1e-4 * (1 + step % 7)


def gradient(p: Any, step: int) -> Any:
    """Of the quadratic, with a turning slope that keeps it from settling."""
    return CURVATURE * p + np.cos(step + np.arange(50.0))


def ours(make: Make) -> Any:
    p = START.copy()
    optimizer = make([p], lr=lr_at(0))
    for step in range(STEPS):
        optimizer.lr = lr_at(step)      # type: ignore[attr-defined]
        optimizer.step([gradient(p, step)])
    return p


def partial(cls: Any, **hyper: Any) -> Make:
    return lambda params, lr: cls(params, lr=lr, **hyper)


# fastmom's optimizer, torch's name and arguments
TORCH: list[tuple[Make, str, dict[str, Any]]] = [
    (partial(fm.SGD), "SGD", {}),
    (partial(fm.SGD, weight_decay=0.1), "SGD", {"weight_decay": 0.1}),
    (partial(fm.SGD, momentum=0.9), "SGD", {"momentum": 0.9}),
    (partial(fm.SGD, momentum=0.9, nesterov=True, weight_decay=0.1), "SGD",
     {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (partial(fm.SGD, momentum=0.9, dampening=0.5), "SGD", {"momentum": 0.9, "dampening": 0.5}),
    (partial(fm.SGD, momentum=0.5, maximize=True), "SGD", {"momentum": 0.5, "maximize": True}),
    (partial(fm.RMSprop), "RMSprop", {}),
    (partial(fm.RMSprop, momentum=0.9, beta2=0.9, eps=1e-3, weight_decay=0.1), "RMSprop",
     {"momentum": 0.9, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    (partial(fm.RMSprop, centered=True, momentum=0.5), "RMSprop",
     {"centered": True, "momentum": 0.5}),
    (partial(fm.Adagrad, decay=0.1, initial_accumulator=0.2, weight_decay=0.1), "Adagrad",
     {"lr_decay": 0.1, "initial_accumulator_value": 0.2, "weight_decay": 0.1}),
    (partial(fm.Adam), "Adam", {}),
    (partial(fm.Adam, weight_decay=0.1, amsgrad=True), "Adam",
     {"weight_decay": 0.1, "amsgrad": True}),
    (partial(fm.Adam, beta1=0.5, beta2=0.8, eps=1e-3), "Adam", {"betas": (0.5, 0.8), "eps": 1e-3}),
    (partial(fm.AdamW), "AdamW", {}),
    (partial(fm.AdamW, weight_decay=0.5, amsgrad=True), "AdamW",
     {"weight_decay": 0.5, "amsgrad": True}),
    (partial(fm.NAdam), "NAdam", {}),
    (partial(fm.NAdam, momentum_decay=0.1, weight_decay=0.1, decoupled_weight_decay=True), "NAdam",
     {"momentum_decay": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (partial(fm.Adadelta, weight_decay=0.1, beta2=0.8), "Adadelta",
     {"weight_decay": 0.1, "rho": 0.8}),
    (partial(fm.Adamax, weight_decay=0.1), "Adamax", {"weight_decay": 0.1}),
    (partial(fm.Adafactor), "Adafactor", {}),
    (partial(fm.Adafactor, weight_decay=0.1, clipping_threshold=1.5, eps1=0.1, eps2=2.0,
             beta2_decay=-0.5), "Adafactor",
     {"weight_decay": 0.1, "d": 1.5, "eps": (0.1, 2.0), "beta2_decay": -0.5}),
    (partial(fm.RAdam), "RAdam", {}),
    (partial(fm.RAdam, beta2=0.9, weight_decay=0.1, decoupled_weight_decay=True), "RAdam",
     {"betas": (0.9, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}),
]


@pytest.mark.parametrize(("make", "name", "hyper"), TORCH, ids=[f"{r[1]}-{r[2]}" for r in TORCH])
def test_torch(make: Make, name: str, hyper: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)      # else NAdam's product of momenta is kept in float32
    try:
        p = torch.from_numpy(START.copy()).requires_grad_()
        optimizer = getattr(torch.optim, name)([p], lr=lr_at(0), **hyper)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = lr_at(step)
            p.grad = torch.from_numpy(gradient(p.detach().numpy(), step))
            optimizer.step()
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_allclose(ours(make), p.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_torch_clipping() -> None:
    """Up to torch's eps of 1e-6 beside the norm."""
    torch = pytest.importorskip("torch")
    grads = [RNG.standard_normal((7, 3)), RNG.standard_normal(5)]
    params = [np.zeros_like(g) for g in grads]
    optimizer = fm.SGD(params, lr=1.0, clip_norm=0.5)
    optimizer.step(grads)
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in grads]
    for p, g in zip(theirs, grads, strict=True):
        p.grad = torch.from_numpy(g.copy())
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    assert optimizer.grad_norm == pytest.approx(float(norm), rel=1e-14)
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(-p, q.grad.numpy(), rtol=1e-6 / float(norm) * 1.01)


def test_torch_rprop() -> None:
    """At a constant lr: torch's has no effect after the first step."""
    torch = pytest.importorskip("torch")
    p, q = START.copy(), torch.from_numpy(START.copy()).requires_grad_()
    ours, theirs = fm.Rprop([p], lr=1e-3), torch.optim.Rprop([q], lr=1e-3)
    for step in range(STEPS):
        q.grad = torch.from_numpy(gradient(q.detach().numpy(), step))
        theirs.step()
        ours.step([gradient(p, step)])
    np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("shape", [(5, 10), (50, 1), (2, 5, 5)])
def test_torch_adafactor(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    p = START.reshape(shape).copy()
    q = torch.from_numpy(p.copy()).requires_grad_()
    ours = fm.Adafactor([p], weight_decay=0.1)
    theirs = torch.optim.Adafactor([q], weight_decay=0.1)
    for step in range(STEPS):
        ours.lr = theirs.param_groups[0]["lr"] = lr_at(step)
        q.grad = torch.from_numpy(gradient(q.detach().numpy().reshape(50), step).reshape(shape))
        theirs.step()
        ours.step([gradient(p.reshape(50), step).reshape(shape)])
    np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("hyper", [
    {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.5, "nesterov": True, "centered": True, "eps": 0.01}], ids=str)
def test_optax_rmsprop(hyper: dict[str, Any]) -> None:
    """At a constant lr: optax's momentum is of the step times lr."""
    optax = pytest.importorskip("optax")
    jax = pytest.importorskip("jax")
    ours = START.copy()
    optimizer = fm.RMSprop([ours], lr=1e-3, eps_inside_root=True, **hyper)
    with jax.enable_x64(True):
        p = jax.numpy.asarray(START)
        theirs = optax.rmsprop(1e-3, decay=0.99, **{"eps": 1e-8, **hyper})
        state = theirs.init(p)
        for step in range(STEPS):
            updates, state = theirs.update(jax.numpy.asarray(gradient(np.asarray(p), step)), state)
            p = optax.apply_updates(p, updates)
            optimizer.step([gradient(ours, step)])
    np.testing.assert_allclose(ours, np.asarray(p), rtol=1e-11, atol=1e-14)


# fastmom's optimizer, optax's name and arguments
OPTAX: list[tuple[Make, str, dict[str, Any]]] = [
    (partial(fm.SGD), "sgd", {}),
    (partial(fm.SGD, momentum=0.9), "sgd", {"momentum": 0.9}),
    (partial(fm.SGD, momentum=0.9, nesterov=True), "sgd", {"momentum": 0.9, "nesterov": True}),
    (partial(fm.Lion, beta1=0.8, weight_decay=0.1), "lion", {"b1": 0.8, "weight_decay": 0.1}),
    (partial(fm.Adam), "adam", {}),
    (partial(fm.AdamW, weight_decay=0.1), "adamw", {"weight_decay": 0.1}),
    (partial(fm.LARS, trust_coefficient=0.1, weight_decay=0.1), "lars",
     {"trust_coefficient": 0.1, "weight_decay": 0.1, "momentum": 0.9}),
    (partial(fm.LARS, trust_coefficient=0.1, nesterov=True), "lars",
     {"trust_coefficient": 0.1, "nesterov": True, "momentum": 0.9}),
    (partial(fm.LAMB, weight_decay=0.1), "lamb", {"weight_decay": 0.1}),
    (partial(fm.NovoGrad), "novograd", {}),
    (partial(fm.NovoGrad, beta1=0.5, beta2=0.9, weight_decay=0.1), "novograd",
     {"b1": 0.5, "b2": 0.9, "weight_decay": 0.1}),
    (partial(fm.Yogi), "yogi", {}),
    (partial(fm.AdaBelief), "adabelief", {}),
    (partial(fm.Adan, weight_decay=0.1), "adan", {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("make", "name", "hyper"), OPTAX, ids=[f"{r[1]}-{r[2]}" for r in OPTAX])
def test_optax(make: Make, name: str, hyper: dict[str, Any]) -> None:
    optax = pytest.importorskip("optax")
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        p = jax.numpy.asarray(START)
        optimizer = optax.inject_hyperparams(getattr(optax, name))(learning_rate=lr_at(0), **hyper)
        state = optimizer.init(p)
        for step in range(STEPS):
            state.hyperparams["learning_rate"] = jax.numpy.asarray(lr_at(step))
            updates, state = optimizer.update(jax.numpy.asarray(gradient(np.asarray(p), step)),
                                              state, p)
            p = optax.apply_updates(p, updates)
    np.testing.assert_allclose(ours(make), np.asarray(p), rtol=1e-12, atol=1e-14)


# fastmom's optimizer, Keras's name and arguments. Keras rounds some of its numbers to float32 even
# where it computes in float64, so these are exact in both. (That leaves out Nadam, whose 0.96 is
# fixed.) Adagrad and Adam add eps at another place, so it is too small to matter there.
KERAS: list[tuple[Make, str, dict[str, Any]]] = [
    (partial(fm.SGD), "SGD", {}),
    (partial(fm.SGD, convention="keras", momentum=0.875), "SGD", {"momentum": 0.875}),
    (partial(fm.SGD, convention="keras", momentum=0.875, nesterov=True), "SGD",
     {"momentum": 0.875, "nesterov": True}),
    (partial(fm.SGD, convention="keras", momentum=0.5, weight_decay=0.125,
             decoupled_weight_decay=True), "SGD", {"momentum": 0.5, "weight_decay": 0.125}),
    (partial(fm.SGD, convention="keras", momentum=0.5, clip_norm=20.0), "SGD",
     {"momentum": 0.5, "global_clipnorm": 20.0}),
    (partial(fm.SGD, convention="keras", momentum=0.5, clip_norm_per_tensor=20.0), "SGD",
     {"momentum": 0.5, "clipnorm": 20.0}),
    (partial(fm.SGD, convention="keras", momentum=0.5, clip_value=2.0), "SGD",
     {"momentum": 0.5, "clipvalue": 2.0}),
    (partial(fm.Lion, beta1=0.875, beta2=0.5, weight_decay=0.125), "Lion",
     {"beta_1": 0.875, "beta_2": 0.5, "weight_decay": 0.125}),
    (partial(fm.RMSprop, beta2=0.875, eps=2**-10, eps_inside_root=True), "RMSprop",
     {"rho": 0.875, "epsilon": 2**-10}),
    (partial(fm.RMSprop, beta2=0.875, eps=2**-10, eps_inside_root=True, centered=True), "RMSprop",
     {"rho": 0.875, "epsilon": 2**-10, "centered": True}),
    (partial(fm.Adagrad, initial_accumulator=0.125, eps=1e-30), "Adagrad",
     {"initial_accumulator_value": 0.125, "epsilon": 1e-30}),
    (partial(fm.Adam, beta1=0.875, beta2=0.9375, eps=1e-30), "Adam",
     {"beta_1": 0.875, "beta_2": 0.9375, "epsilon": 1e-30}),
    (partial(fm.Adam, beta1=0.5, beta2=0.75, eps=1e-30), "Adam",
     {"beta_1": 0.5, "beta_2": 0.75, "epsilon": 1e-30}),
    (partial(fm.AdamW, beta1=0.875, beta2=0.9375, eps=1e-30, weight_decay=0.125), "AdamW",
     {"beta_1": 0.875, "beta_2": 0.9375, "epsilon": 1e-30, "weight_decay": 0.125}),
]


@pytest.mark.parametrize(("make", "name", "hyper"), KERAS, ids=[f"{r[1]}-{r[2]}" for r in KERAS])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")   # TensorFlow's
def test_keras(make: Make, name: str, hyper: dict[str, Any]) -> None:
    keras = pytest.importorskip("keras")
    if keras.config.backend() != "tensorflow":
        pytest.skip("the NumPy and JAX backends compute in float32")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")          # else the lr is kept in float32
    try:
        p = keras.Variable(START)
        optimizer = getattr(keras.optimizers, name)(learning_rate=lr_at(0), **hyper)
        for step in range(STEPS):
            optimizer.learning_rate = lr_at(step)
            grad = gradient(keras.ops.convert_to_numpy(p), step)
            optimizer.apply([keras.ops.convert_to_tensor(grad)], [p])
    finally:
        keras.config.set_floatx(before)
    np.testing.assert_allclose(ours(make), keras.ops.convert_to_numpy(p), rtol=1e-12, atol=1e-14)
