"""JAX with the whole epoch in one compiled scan, parameters donated, momentum by hand."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from bench.timing import Step
from bench.workloads import Case, Run, Task

VERSIONS = f"jax {jax.__version__}"
NOTE = "an epoch is one jitted scan, a step one jitted call of Optax"


class Scan:
    """Dropout compares 16 random bits of the quickest generator, inside the scan."""

    def __init__(self, task: Task) -> None:
        self.task, setting = task, task.setting
        self.x, self.y = jnp.asarray(task.x), jnp.asarray(task.y, jnp.int32)
        self.rng = np.random.default_rng(setting.seed)
        params = [(self.uniform(shape), jnp.zeros(shape[1])) for shape in task.widths]
        self.state = params, jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32)
        self.run = jax.jit(self.scan, donate_argnums=0)

    def uniform(self, shape: tuple[int, int]) -> Any:
        bound = math.sqrt(6 / sum(shape))       # Glorot's
        return jnp.asarray(self.rng.uniform(-bound, bound, shape), jnp.float32)

    def loss(self, params: Any, x: Any, y: Any, key: Any) -> tuple[Any, Any]:
        rate = self.task.setting.dropout
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
            if rate:
                key, mine = jax.random.split(key)
                keep = jax.random.bits(mine, x.shape, jnp.uint16) < round((1 - rate) * 2**16)
                x = jnp.where(keep, x / (1 - rate), 0)
        w, b = params[-1]
        logits = x @ w + b
        own = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return -own.mean(), (-own.sum(), (logits.argmax(1) == y).sum())

    def step(self, x: Any, y: Any, state: Any, batch: Any) -> tuple[Any, Any]:
        (params, velocity, step), (chosen, key), setting = state, batch, self.task.setting
        grads, figures = jax.grad(self.loss, has_aux=True)(params, x[chosen], y[chosen], key)
        m, lr = setting.momentum, setting.lr / (1 + setting.decay * step)
        velocity = jax.tree.map(lambda v, g: m * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v, g: p - lr * (g + m * v), params, velocity, grads)
        return (params, velocity, step + 1), figures

    def scan(self, state: Any, key: Any, order: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """Scan the whole batches, and take one more step for the rest."""
        size = self.task.setting.batch
        whole = len(order) // size
        keys = jax.random.split(key, whole + 1)
        step = partial(self.step, x, y)
        state, figures = jax.lax.scan(step, state, (order[:whole * size].reshape(whole, size),
                                                    keys[:whole]))
        loss, correct = (figure.sum() for figure in figures)
        if len(order) % size:
            state, (last_loss, last_correct) = step(state, (order[whole * size:], keys[whole]))
            loss, correct = loss + last_loss, correct + last_correct
        return state, (loss / len(order), correct / len(order))

    def epoch(self) -> dict[str, Any]:
        key = jax.random.key(self.rng.integers(2**31), impl="unsafe_rbg")
        order = self.rng.permutation(len(self.y)).astype(np.int32)
        self.state, (loss, accuracy) = self.run(self.state, key, order, self.x, self.y)
        jax.block_until_ready(self.state)
        return {"loss": float(loss), "train_accuracy": float(accuracy)}

    def accuracy(self) -> float:
        x = jnp.asarray(self.task.x_test)
        params = self.state[0]
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return float(((x @ w + b).argmax(1) == jnp.asarray(self.task.y_test)).mean())


def variants(task: Task) -> dict[str, Run]:
    return {"scan": Scan(task)}


def steps(case: Case) -> dict[str, Step]:
    """Return the step of Optax's optimizer of this name, jitted, with its arrays donated."""
    import optax  # of the steps alone
    import optax.contrib

    name = case.optimizer.lower()
    make: Any = getattr(optax, name, None) or getattr(optax.contrib, name, None)
    if make is None:
        return {}
    params, grads = ([jnp.array(a) for a in part] for part in case.tensors())
    hyper = case.hyper
    rule = make(hyper.pop("lr"), **hyper)
    if case.clip is not None:
        rule = optax.chain(optax.clip_by_global_norm(case.clip), rule)
    state: list[Any] = [params, rule.init(params)]
    del params

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, inner: Any, grads: Any) -> Any:
        updates, inner = rule.update(grads, inner, params)
        return optax.apply_updates(params, updates), inner

    def step(grads: Any) -> None:
        state[:] = update(*state, grads)
        jax.block_until_ready(state)
    return {"optax": Step(step, [grads])}
