"""fastmom's optimizers for thinc, with which spaCy trains, registered as ``fastmom.SGD.v1`` etc.

A spaCy config that names one trains with it, once this module is imported (``--code``):

>>> from thinc.api import Config, registry
>>> config = Config().from_str('''
... [training]
... [training.optimizer]
... @optimizers = "fastmom.AdamW.v1"
... learn_rate = 0.01
... ''')
>>> registry.resolve(config["training"])["optimizer"].learn_rate
0.01
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastmom.checks import choice, flag, number, reject_unknown
from fastmom.extras import need
from fastmom.optim import OPTIMIZERS
from fastmom.optim import Optimizer as Base
from fastmom.optim.ema import EMA

if not TYPE_CHECKING:
    found = need("thinc.about", "thinc", "its optimizers").__version__
    if not found.startswith("8."):
        raise ImportError(f"fastmom.integrations.thinc needs thinc 8, with which spaCy trains, not "
                          f"{found}: pip install 'thinc<9'")

from thinc.config import registry
from thinc.optimizers import ADAM_DEFAULTS
from thinc.optimizers import Optimizer as ThincOptimizer

__all__ = ["Optimizer"]

Key = tuple[int, str]
# thinc's attributes, which schedules set, and our hyper-parameters
ATTRIBUTES = {"learn_rate": "lr", "b1": "beta1", "b2": "beta2", "eps": "eps", "L2": "weight_decay",
              "grad_clip": "clip_norm_per_tensor"}
THEIRS = ("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled_weight_decay",
          "clip_norm_per_tensor")
MOST = 0.9999       # of its averages that a step keeps


@dataclass
class Own:
    """The part of one array of weights."""

    weights: Any
    optimizer: Base
    average: EMA | None
    values: tuple[float, ...] = ()      # of thinc's attributes, that are in force

    def set(self, values: Mapping[str, Any]) -> None:
        """Let these hyper-parameters take effect."""
        group = self.optimizer.param_groups[0]
        for name, value in values.items():
            place = group if name in group else self.optimizer._options
            if place[name] != value:
                place[name] = value


class Optimizer(ThincOptimizer):
    """One of fastmom's optimizers behind thinc's interface.

    Parameters
    ----------
    learn_rate, L2, beta1, beta2, eps, grad_clip : float or iterable of float
        As in thinc, iterables being schedules; `L2` is ``weight_decay``, and `grad_clip` limits the
        norm of each array's gradient: by default to 1, but for Rprop, which knows signs alone.
    use_averages : bool, default True
        Keep running averages of the weights, as thinc does.
    use_radam : bool
        Take "radam".
    L2_is_weight_decay : bool, default True
        Decouple `L2` from the gradient, where the optimizer can do both.
    optimizer : str, optional
        The name of any of fastmom's optimizers, such as "sgd", "adamw" or "lion". Otherwise it is
        thinc's choice: "adam", or "sgd" if `beta1` or `beta2` is 0.
    **hyper
        Its other hyper-parameters, such as ``momentum=0.9``.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or the optimizer needs all gradients together: `YellowFin`, and
        `SGD` with ``restart=True``.

    Notes
    -----
    Weights are updated in place: float32 or float64 arrays of NumPy, C-contiguous. The gradient is
    set to 0, as thinc's layers expect. Where thinc subtracts the decay after the step, fastmom does
    before it, and an `L2` that is not decoupled is added after clipping; `eps` is added to the root
    of the unbiased mean of squares.

    Examples
    --------
    >>> import numpy as np
    >>> optimizer = Optimizer(0.1, optimizer="sgd", momentum=0.9, use_averages=False)
    >>> weights, gradient = optimizer((0, "W"), np.ones(2), np.array([1.0, 0.0]))
    >>> weights, gradient
    (array([0.9, 1. ]), array([0., 0.]))
    """

    def __init__(self, learn_rate: Any, *, L2: Any = 0.0, beta1: Any = ADAM_DEFAULTS["beta1"],
                 beta2: Any = ADAM_DEFAULTS["beta2"], eps: Any = ADAM_DEFAULTS["eps"],
                 grad_clip: Any = None, use_averages: bool = True, use_radam: bool = False,
                 L2_is_weight_decay: bool = True, optimizer: str | None = None,
                 **hyper: Any) -> None:
        if grad_clip is None:
            grad_clip = 0.0 if optimizer == "rprop" else 1.0
        super().__init__(learn_rate, L2=L2, beta1=beta1, beta2=beta2, eps=eps, grad_clip=grad_clip,
                         use_averages=flag("use_averages", use_averages),
                         use_radam=flag("use_radam", use_radam),
                         L2_is_weight_decay=flag("L2_is_weight_decay", L2_is_weight_decay))
        if optimizer is None:
            optimizer = "radam" if use_radam else "adam" if self.b1 > 0 and self.b2 > 0 else "sgd"
        self._kind: Callable[..., Base] = OPTIMIZERS[choice("optimizer", optimizer, OPTIMIZERS)]
        known = OPTIMIZERS[optimizer]._hypers
        reject_unknown(self._kind.__name__, hyper, set(known) - set(THEIRS))
        self._hyper = dict(hyper)
        if "decoupled_weight_decay" in known:
            self._hyper["decoupled_weight_decay"] = L2_is_weight_decay
        self._names = [(theirs, ours) for theirs, ours in ATTRIBUTES.items() if ours in known]
        if self.L2 and "weight_decay" not in known:
            raise TypeError(f"{self._kind.__name__} has no L2, which was {L2!r}")
        self._averages_apart = optimizer == "muon"      # whose step ends outside of the kernels
        self._get = attrgetter(*(theirs for theirs, _ in self._names))
        self._own: dict[Key, Own] = {}
        self._loaded: dict[Key, tuple[dict[str, Any], Any]] = {}
        made = self._kind(**self._values(1.0))      # raises if a value is not allowed
        made._check_divisible("together, and thinc hands over one after the other")

    def _values(self, lr_scale: float) -> dict[str, Any]:
        values = self._hyper | {ours: getattr(self, theirs) for theirs, ours in self._names}
        values["lr"] *= lr_scale
        values["clip_norm_per_tensor"] = values["clip_norm_per_tensor"] or None
        return values

    def __call__(self, key: Key, weights: Any, gradient: Any, *,
                 lr_scale: float = 1.0) -> tuple[Any, Any]:
        """Update an array of weights in place, and set its gradient to 0; return both.

        Parameters
        ----------
        key : tuple of int and str
            Of the weights. Other arrays under the same key go on with its state.
        weights, gradient : ndarray
        lr_scale : float
            Multiplies the learning rate.
        """
        if len(gradient) < 1:
            return weights, gradient
        own = self._own.get(key)
        if own is None or own.weights is not weights:
            own = self._take(key, weights)
        if own.values != (values := (lr_scale, *self._get(self))):
            own.set(self._values(number("lr_scale", lr_scale, 0.0)))
            own.values = values
        self.nr_update[key] += 1
        if own.average is not None:
            seen = self.nr_update[key]
            own.average.decay = min((1 + seen) / (10 + seen), MOST)
        own.optimizer.step([gradient])
        if own.average is not None and self._averages_apart:
            own.average.update()
        gradient.fill(0)
        return weights, gradient

    def _take(self, key: Key, weights: Any) -> Own:
        """Begin with these weights, or go on with them in place of others or after loading."""
        optimizer, average = self._kind([weights], **self._values(1.0)), None
        before, held = self._own.get(key), self._loaded.get(key)
        if before is not None:
            held = before.optimizer.state_dict(), before.average and before.average.averages[0]
        if held is not None:
            optimizer.load_state_dict(held[0])
        if self.averages is not None:
            average = EMA([weights], 0.0, optimizer=None if self._averages_apart else optimizer)
            kept = average.averages[0]
            kept[...] = 0 if held is None or held[1] is None else held[1]
            self.averages[key] = kept
        self._own[key] = Own(weights, optimizer, average)
        self._loaded.pop(key, None)
        return self._own[key]

    # Files ----------------------------------------------------------------------------------------

    def _held(self) -> Iterator[tuple[Key, dict[str, Any], Any]]:
        for key, own in self._own.items():
            average = None if own.average is None else own.average.averages[0]
            yield key, own.optimizer.state_dict(), average
        yield from ((key, *held) for key, held in self._loaded.items())

    def to_bytes(self) -> bytes:
        """Return state, counters and averages of all weights, without the weights; no pickle."""
        arrays: dict[str, Any] = {}
        described = []
        for i, (key, state, average) in enumerate(self._held()):
            for name, array in state["state"][0].items():
                arrays[f"{i}.{name}"] = array
            if average is not None:
                arrays[f"{i}"] = average
            described.append({"key": key, "updates": self.nr_update[key],
                              "state": {**state, "state": [sorted(state["state"][0])]}})
        header = json.dumps(described).encode()
        file = io.BytesIO()
        np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
        return file.getvalue()

    def from_bytes(self, data: bytes) -> Self:
        """Go on from what `to_bytes` returned, when weights of the same keys come.

        Raises
        ------
        ValueError
            If the data are damaged, or another optimizer's. Nothing has changed then.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                loaded, updates = {}, {}
                for i, one in enumerate(json.loads(bytes(file["header"]))):
                    key, state = (one["key"][0], one["key"][1]), one["state"]
                    state["state"] = [{name: file[f"{i}.{name}"] for name in state["state"][0]}]
                    loaded[key] = state, file.get(f"{i}")
                    updates[key] = one["updates"]
                kinds = {state["optimizer"] for state, _ in loaded.values()}
        except Exception as error:      # of several libraries, for any kind of damage
            raise ValueError(f"data hold no state of an optimizer: {error}") from error
        if kinds - {self._kind.__name__}:
            raise ValueError(f"data are the state of {kinds.pop()}, not of {self._kind.__name__}")
        self._own, self._loaded = {}, loaded
        self.nr_update.clear()
        self.nr_update.update(updates)
        return self


# thinc's registry ---------------------------------------------------------------------------------

def register(name: str) -> None:
    """Make an optimizer known to configs, with its hyper-parameters as arguments."""
    kind = OPTIMIZERS[name]

    def make(**arguments: Any) -> Optimizer:
        return Optimizer(optimizer=name, **arguments)

    def argument(called: str, default: Any, annotation: Any) -> Parameter:
        return Parameter(called, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    scheduled = float | Iterable[float]
    hypers = kind._hypers
    parameters = [argument("learn_rate", hypers["lr"].default, scheduled)]
    parameters += [argument(called, hypers[called].default, scheduled)
                   for called in ("beta1", "beta2", "eps") if called in hypers]
    if "weight_decay" in hypers:
        parameters += [argument("L2", hypers["weight_decay"].default, scheduled)]
    if "decoupled_weight_decay" in hypers:
        parameters += [argument("L2_is_weight_decay",
                                hypers["decoupled_weight_decay"].default, bool)]
    parameters += [argument("grad_clip", None, scheduled | None),
                   argument("use_averages", True, bool)]
    parameters += [argument(called, hyper.default, Any) for called, hyper in hypers.items()
                   if called not in THEIRS]
    make.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    make.__doc__ = f"Make `fastmom.{kind.__name__}` for thinc."
    registry.optimizers(f"fastmom.{kind.__name__}.v1", func=make)


for _name in OPTIMIZERS:
    register(_name)
