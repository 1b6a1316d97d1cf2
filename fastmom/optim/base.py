"""The base of all optimizers: what all take, and the step."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastmom.kernels import Engine
from fastmom.optim.binding import Bindable
from fastmom.optim.copying import refuse_shallow_copy
from fastmom.optim.formats import BLOCKS, SQUARES, WORDS
from fastmom.optim.groups import arrays_of
from fastmom.optim.hyper import Choice, Flag, Formats, Limit, Number, argument

if TYPE_CHECKING:
    from dataclasses import InitVar

    from fastmom.types import Copies, Grads, Params, Row


class Optimizer(Bindable):
    """Base of all optimizers.

    Notes
    -----
    A numeric hyper-parameter may be a schedule: any callable that takes the number of steps taken
    so far and returns the value for the coming one, such as those in `fastmom.optim.schedules`.

    Nothing of the gradients is kept after a step, and new arrays cost no more than the same again.

    Parameters and gradients may be other libraries' arrays in the processor's memory as well: what
    speaks DLPack (PyTorch, JAX), NumPy's array interface or the buffer protocol (`array.array`,
    `memoryview`). They are used where they lie, without a copy, or refused; `param_groups` then
    holds NumPy arrays on their memory.

    Examples
    --------
    >>> import array, fastmom as fm
    >>> p, g = array.array("f", [1, 2]), array.array("f", [1, 0])
    >>> fm.SGD([p], lr=0.5).step([g])
    True
    >>> p
    array('f', [0.5, 2.0])
    """

    params: InitVar[Params | None] = None
    copies: InitVar[Copies | None] = argument(default=None, kw_only=True)
    clip_norm: Limit = Limit(
        default=None, kw_only=True, shared=True,
        doc="Scale all gradients together so that their global Euclidean norm is at most this.")
    clip_norm_per_tensor: Limit = Limit(
        default=None, kw_only=True, shared=True,
        doc="The same for each gradient on its own. Excludes `clip_norm`.")
    clip_value: Limit = Limit(
        default=None, kw_only=True, shared=True,
        doc="Limit every gradient element to ``[-clip_value, clip_value]``, after the norm.")
    grad_scale: Number = Number(
        default=1.0, low=sys.float_info.min, kw_only=True, shared=True,
        doc="Gradients are divided by it first (loss scaling).")
    nonfinite: Choice = Choice(
        default="ignore", words=("ignore", "raise", "skip"), kw_only=True, shared=True,
        doc="What to do with a gradient that has a NaN or infinity: compute with it, raise "
            "FloatingPointError, or leave out the whole step. The latter two read all gradients "
            "once more.")
    maximize: Flag = Flag(
        default=False, kw_only=True,
        doc="Step along the gradient instead of against it.")
    state_dtype: Formats = Formats(
        default=None, words=(*WORDS, *BLOCKS), named=(*WORDS, *BLOCKS, SQUARES), kw_only=True,
        shared=True, at_binding=True,
        doc="Keep state in this format; it is computed with in float32. A name leaves in float32 "
            "what would stand still when rounded; with those of 8 bits means of squares become "
            "`ufloat8`, rounded by noise. A dict, such as ``{\"mean\": \"bfloat16\"}``, changes "
            "what it names. Fixed once the optimizer has parameters, none of which may be float64.")
    rounding: Choice = Choice(
        default="nearest", words=("nearest", "stochastic"), kw_only=True, shared=True,
        at_binding=True,
        doc="Of what is kept in fewer bits than float32: to nearest, or up or down by noise that "
            "is even over the steps, so that no small change is lost on the average; then bfloat16 "
            "may keep means of squares too. Fixed once the optimizer has parameters.")
    master: Flag = Flag(
        default=True, kw_only=True, shared=True, at_binding=True,
        doc="Keep a float32 master of each float16 or bfloat16 parameter, as ``state[i][\"master\"]"
            "``: steps change it and round it to the parameter, whatever that holds. False: steps "
            "change the parameter itself, with ``rounding=\"stochastic\"``. Fixed once the "
            "optimizer has parameters.")

    def __init__(self, params: Params | None = None, *args: Any, copies: Copies | None = None,
                 **hyper: Any) -> None:
        self._start(self._named(args, hyper))
        if params is not None:
            self.bind(params, copies)
        elif copies is not None:
            raise ValueError("copies needs params, which they are of")

    # The step -------------------------------------------------------------------------------------

    def step(self, grads: Grads) -> bool:
        """Update the parameters in place from these gradients.

        Parameters
        ----------
        grads : list or tuple of (ndarray, WeightedSum, RowGrad or None)
            One for each parameter, with its dtype and shape, C-contiguous; read only. Those of
            float32 parameters may be float16 or bfloat16 as well. A `WeightedSum` of such arrays is
            added up on the way, a `RowGrad` touches some rows alone. None leaves the parameter and
            its state untouched.

        Returns
        -------
        bool
            Whether a step was taken: False if every gradient is None, or if ``nonfinite="skip"``
            and one has a NaN or infinity. Then nothing has changed.

        Raises
        ------
        TypeError, ValueError, FloatingPointError
            If a gradient does not fit, overlaps a parameter or is not finite. Parameters, state
            and counters are as before.
        RuntimeError
            If the optimizer has no parameters, or another thread is stepping it.
        """
        engine = self._engine or self._bound_engine()
        if self._rows is not None:
            return engine.run(grads, self._rows)
        now = engine.iterations
        return engine.run(grads, self._make_rows(engine, now), now)

    def flush(self) -> None:
        """Write parameters in memory-mapped files to the disk, as `numpy.memmap.flush` does.

        Their state needs no writing: it ends with the optimizer, or is saved by a checkpoint.
        """
        for array in arrays_of(self.param_groups):
            if isinstance(array, np.memmap):
                array.flush()

    def _make_rows(self, engine: Engine, now: int) -> list[Row]:
        """Return the coming step's coefficients; keep those that hold for the one after, too."""
        if self._stale:
            self._take_values(engine, now)
        if engine.uneven:       # tensors of one kind may differ in age
            keys = list(zip(self._kind_of, engine.steps.tolist(), strict=True))
            distinct = {key: i for i, key in enumerate(dict.fromkeys(keys))}
            engine.assign([distinct[key] for key in keys])
            self._stale = True
            made = [(*self._makers[kind], age) for kind, age in distinct]
            return [make(self, group, age) for make, group, age in made]
        rows: list[Row] = []        # a comprehension is a call of its own before Python 3.12
        for make, group in self._makers:
            rows.append(make(self, group, now))
        if self._all_steady and not self._stale:
            self._rows = rows
        return rows

    def _take_values(self, engine: Engine, now: int) -> None:
        """Let the values of all hyper-parameters at this step take effect."""
        options = self._options.at(now)
        if self._is_part:
            options = {**options, "clip_norm": None, "nonfinite": "ignore"}
        self._set_options(engine, options)
        groups = [group.at(now) for group in self.param_groups]
        cls = type(self)        # bound methods would keep the optimizer alive
        self._makers = [(cls._matrix_row if is_matrix else cls._row, groups[i])
                        for i, is_matrix in self._kinds]
        self._all_steady = all(map(self._steady, groups))
        engine.assign(self._kind_of)
        if self._signs_stale:
            engine.orient([-1.0 if groups[i]["maximize"] else 1.0 for i in self._group_of])
            self._signs_stale = False
        self._stale = any(v.scheduled for v in (self._options, *self.param_groups))

    @staticmethod
    def _set_options(engine: Engine, options: Mapping[str, Any]) -> None:
        def limit(value: float | None) -> float:
            return math.inf if value is None else value
        engine.clip_norm = limit(options["clip_norm"])
        engine.clip_norm_per_tensor = limit(options["clip_norm_per_tensor"])
        engine.clip_value = limit(options["clip_value"])
        engine.scale = 1.0 / options["grad_scale"]
        engine.nonfinite = options["nonfinite"]

    def _row(self, group: Mapping[str, Any], age: int) -> Row:
        """Return the rule's number and coefficients for tensors that have had `age` updates.

        `group` holds the numbers in force, without its params.
        """
        raise NotImplementedError

    def _matrix_row(self, group: Mapping[str, Any], age: int) -> Row:
        """Return the row for arrays with two axes, where `treats_matrices`."""
        raise NotImplementedError

    def _steady(self, group: Mapping[str, Any]) -> bool:
        """Return whether the row depends on hyper-parameters alone, not on the time."""
        return False

    # Copies and data ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all but the parameters as data: see `fastmom.optim.state.state_dict`."""
        from fastmom.optim.state import state_dict
        return state_dict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from such data: see `fastmom.optim.state.load_state_dict`."""
        from fastmom.optim.state import load_state_dict
        load_state_dict(self, state)

    def _from_format_1(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state dict of the first format in today's: `maximize` was one for all groups."""
        maximize = state["options"]["maximize"]
        options = {name: value for name, value in state["options"].items() if name != "maximize"}
        groups = [{**group, "maximize": maximize} for group in state["groups"]]
        return {**state, "options": options, "groups": groups, "format": 2}

    def __getstate__(self) -> dict[str, Any]:
        """Return everything, parameters included, for `pickle` and `copy.deepcopy`.

        A running average is not part of it: it is the `EMA`'s, which takes the optimizer along.
        """
        from fastmom.optim.state import snapshot
        return snapshot(self)

    def __setstate__(self, saved: dict[str, Any]) -> None:
        from fastmom.optim.state import restore
        self._start(saved["hyper"])
        restore(self, saved)

    def __copy__(self) -> Self:
        if self._engine is not None:
            refuse_shallow_copy(self)
        from copy import deepcopy
        return deepcopy(self)


delattr(Optimizer, "params")      # arguments of the constructor, and no attributes
delattr(Optimizer, "copies")


def weight_decay(group: Mapping[str, Any], lr: float) -> tuple[float, float]:
    """Return (L2 coefficient, shrink factor): one is added to the gradient, one multiplies p."""
    if group["decoupled_weight_decay"]:
        return 0.0, 1 - lr * group["weight_decay"]
    return group["weight_decay"], 1.0
