"""The part of an optimizer that takes parameters, and the engine that steps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmom.kernels import Engine
from fastmom.kernels.interchange import share_params
from fastmom.optim.groups import arrays_of
from fastmom.optim.masters import check_effect, mastered, new_masters, tensors
from fastmom.optim.stateful import Stateful

if TYPE_CHECKING:
    from fastmom.optim.values import Values
    from fastmom.types import Array, Copies, Params


class Bindable(Stateful):
    """The part of `Optimizer` that has parameters."""

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
        share_params(groups)
        arrays = arrays_of(groups)
        if not arrays:
            raise ValueError("params is empty; expected at least one array")
        if not (copies is None or isinstance(copies, (list, tuple))):
            raise TypeError(f"copies must be a list or tuple of arrays (or None) aligned with "
                            f"params, not {type(copies).__name__}")
        master, rounding = self._options["master"], self._options["rounding"]
        masters = new_masters(arrays, 0, master, copies)
        changed = tensors(arrays, masters)
        state, apart = self._new_state(changed, 0)
        check_effect(arrays, state, master, rounding)
        engine = Engine(changed, state, False, rounding == "stochastic")
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
        share_params([new], len(engine.params))
        first, arrays = len(engine.params), new["params"]
        masters = new_masters(arrays, first, self._options["master"], None)
        changed = tensors(arrays, masters)
        state, apart = self._new_state(changed, first)
        extended = engine.extended(changed, state)
        extended.copy_into([*engine.copies, *mastered(arrays, masters)])
        self._attach(extended, [*self.param_groups, new], apart, masters)

    def _attach(self, engine: Engine, groups: list[Values],
                apart: Sequence[dict[str, Array]] = (),
                masters: Sequence[Array | None] = ()) -> None:
        """Use this engine, whose parameters are those of the groups, from now on."""
        engine.no_rows = self._no_rows(engine)
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
