"""The base of all optimizers: validation, binding and the step."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastmom.kernels import Engine
from fastmom.optim.copying import refuse_shallow_copy
from fastmom.optim.formats import BLOCKS, SQUARES, WORDS
from fastmom.optim.hyper import Choice, Flag, Formats, Limit, Number, argument
from fastmom.optim.masters import check_effect, mastered, new_masters, tensors
from fastmom.optim.stateful import Stateful

if TYPE_CHECKING:
    from dataclasses import InitVar

    from fastmom.optim.values import Values
    from fastmom.types import Array, Copies, Grads, Params, Row


class Optimizer(Stateful):
    """Base of all optimizers.

    Notes
    -----
    A numeric hyper-parameter may be a schedule: any callable that takes the number of steps taken
    so far and returns the value for the coming one, such as those in `fastmom.optim.schedules`.

    Nothing of the gradients is kept after a step, and new arrays cost no more than the same again.
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

    # Binding --------------------------------------------------------------------------------------

    def bind(self, params: Params, copies: Copies | None = None) -> None:
        """Take these parameters (arrays or groups); once per optimizer.

        Parameters
        ----------
        params : list
            Arrays or groups, as for the constructor.
        copies : list of (ndarray or None), optional
            float16 or bfloat16 arrays, one for each float32 parameter and of its shape. They are
            filled now, and each step fills them with the new parameters while those are in the
            cache. They belong to these arrays alone: no state dict or copy holds them.

        Raises
        ------
        RuntimeError
            If the optimizer has parameters already.
        TypeError, ValueError
            If an array cannot be updated in place, overlaps another, or a group is malformed.

        Examples
        --------
        >>> import numpy as np, fastmom as fm
        >>> p, half = np.ones(3, np.float32), np.empty(3, np.float16)
        >>> optimizer = fm.SGD([p], lr=0.5, copies=[half])
        >>> optimizer.step([np.ones(3, np.float32)])
        True
        >>> half
        array([0.5, 0.5, 0.5], dtype=float16)
        """
        if self._engine is not None:
            raise RuntimeError(f"this {type(self).__name__} is bound to its parameters already")
        groups = self._make_groups(params)
        arrays = [array for group in groups for array in group["params"]]
        if not arrays:
            raise ValueError("params is empty; expected at least one array")
        if not (copies is None or isinstance(copies, (list, tuple))):
            raise TypeError(f"copies must be a list or tuple of arrays (or None) aligned with "
                            f"params, not {type(copies).__name__}")
        master, rounding = self._options["master"], self._options["rounding"]
        masters = new_masters(arrays, 0, master, copies)
        state, apart = self._new_state(tensors(arrays, masters), 0)
        check_effect(arrays, state, master, rounding)
        engine = Engine(tensors(arrays, masters), state, False, rounding == "stochastic")
        engine.copy_into(mastered(arrays, masters, copies))
        self._attach(engine, groups, apart, masters)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Take further parameters; those there keep state and counters.

        Parameters
        ----------
        group : dict
            ``{"params": [...], "lr": ...}``; a hyper-parameter that is not given is what the
            constructor got. The gradients of its parameters come after all others'.

        Raises
        ------
        RuntimeError
            If there are no parameters yet, or they are averaged by an `EMA`: make that afterwards.
        TypeError, ValueError
            If the group is malformed, or an array cannot be updated in place or overlaps another.
            Nothing has changed then.
        """
        engine = self._bound_engine()
        if engine.averaged:
            raise RuntimeError(f"the parameters of this {type(self).__name__} are averaged; add "
                               f"groups before the EMA is made")
        new = self._make_group("group", len(self.param_groups), group)
        if not new["params"]:
            raise ValueError("params of the group is empty; expected at least one array")
        first, arrays = len(engine.params), new["params"]
        masters = new_masters(arrays, first, self._options["master"], None)
        state, apart = self._new_state(tensors(arrays, masters), first)
        extended = engine.extended(tensors(arrays, masters), state)
        extended.copy_into([*engine.copies, *mastered(arrays, masters)])
        self._attach(extended, [*self.param_groups, new], apart, masters)

    def _attach(self, engine: Engine, groups: list[Values],
                apart: Sequence[dict[str, Array]] = (),
                masters: Sequence[Array | None] = ()) -> None:
        """Use this engine, whose parameters are those of the groups, from now on."""
        first = 0 if self._engine is None else len(self._engine.params)
        self._engine, self.param_groups = engine, groups
        self._apart += apart
        self._masters += masters
        self._group_of = [i for i, group in enumerate(groups) for _ in group["params"]]
        kinds = [(i, self.treats_matrices and np.asarray(array).ndim == 2)
                 for i, array in zip(self._group_of, engine.params, strict=True)]
        self._kinds = list(dict.fromkeys(kinds))
        self._kind_of = [self._kinds.index(kind) for kind in kinds]
        self._changed()
        self._bound(first)

    def _bound(self, first: int) -> None:
        """Prepare the state of the parameters from the `first` on, which are new."""

    def _average(self, averages: list[Array]) -> Engine:
        """Let each step move these averages as well: see `EMA`."""
        old = self._engine
        assert old is not None
        if old.averaged:
            raise RuntimeError(f"the parameters of this {type(self).__name__} are averaged already")
        state = [(*own, e) for own, e in zip(old.state, averages, strict=True)]
        engine = Engine(old.params, state, True, old.stochastic)
        engine.restore(old.steps, old.iterations)
        engine.copy_into(old.copies)
        self._attach(engine, self.param_groups)
        return engine

    # The step -------------------------------------------------------------------------------------

    def step(self, grads: Grads) -> bool:
        """Update the parameters in place from these gradients.

        Parameters
        ----------
        grads : list or tuple of (ndarray, WeightedSum or None)
            One for each parameter, with its dtype and shape, C-contiguous; read only. Those of
            float32 parameters may be float16 or bfloat16 as well. A `WeightedSum` of such arrays is
            added up on the way. None leaves the parameter and its state untouched.

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
        for group in self.param_groups:
            for array in group["params"]:
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
