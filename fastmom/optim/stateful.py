"""The state that an optimizer keeps beside its parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmom.optim.buffers import zeros_beside
from fastmom.optim.formats import chosen, computed, dtype_named, readable, shape_in
from fastmom.optim.groups import Grouped, arrays_of

if TYPE_CHECKING:
    from fastmom.kernels import Engine
    from fastmom.types import Array


class Stateful(Grouped):
    """The part of `Optimizer` that has state and counters."""

    state_names: ClassVar[tuple[str, ...]] = ()     # of arrays like the parameter
    treats_matrices: ClassVar[bool] = False     # arrays with two axes take `_matrix_row`
    matrix_state_names: ClassVar[tuple[str, ...]] = ()      # of those, as many
    precise_state_names: ClassVar[Collection[str]] = ()     # in the parameter's dtype always
    slow_state_names: ClassVar[Collection[str]] = ()    # in another only if a dict names them
    square_state_names: ClassVar[Collection[str]] = ()  # of the precise, means of squares
    takes_rows: ClassVar[bool] = False          # its rule works on some rows as on all: `RowGrad`
    needs_masters: ClassVar[bool] = False       # it changes the parameters in NumPy
    needs_whole_tensors: ClassVar[bool] = False     # a part of one would get another step
    _is_part = False        # it has parts of tensors; who has all decides what depends on all norms

    def _bound_engine(self) -> Engine:
        """Return the engine, or raise if there are no parameters yet."""
        if self._engine is None:
            raise RuntimeError(f"this {type(self).__name__} has no parameters yet: pass params or "
                               f"call bind(params)")
        return self._engine

    def _new_state(self, arrays: list[Array], first: int) -> tuple[list[tuple[Array, ...]],
                                                                   list[dict[str, Array]]]:
        """Return for each parameter the state that the engine updates, and by name the rest."""
        formats = {name: dtype_named(word) for name, word
                   in chosen(type(self), self._options["state_dtype"],
                             self._options["rounding"]).items()}
        # a subclass may report another shape than its memory has
        plain: list[Any] = [np.asarray(array) for array in arrays]
        for i, array in enumerate(plain, first):
            if formats and array.dtype == np.float64:
                raise TypeError(f"state_dtype={self._options['state_dtype']!r} is for float32 "
                                f"parameters, and params[{i}] is {array.dtype}")
        own = len(self.state_names)
        apart = [self._state_apart(array) for array in plain]
        kinds = []
        for array, shapes in zip(plain, apart, strict=True):
            usual = computed(array.dtype)
            dtypes = [formats.get(name, usual) for name in self._names_of(array)]
            kinds.append([*((shape_in(dtype, array.shape), dtype) for dtype in dtypes),
                          *((shape, usual) for shape in shapes.values())])
        buffers = zeros_beside(arrays, kinds)
        return ([all_[:own] for all_ in buffers],
                [dict(zip(names, all_[own:], strict=True))
                 for names, all_ in zip(apart, buffers, strict=True)])

    def _names_of(self, array: Array) -> tuple[str, ...]:
        """Return the names of the state that the engine updates with this parameter."""
        is_matrix = self.treats_matrices and np.asarray(array).ndim == 2
        return self.matrix_state_names if is_matrix else self.state_names

    def _check_together(self, values: Mapping[str, Any]) -> None:
        super()._check_together(values)
        if "state_dtype" in values:
            chosen(type(self), values["state_dtype"], values["rounding"])
        if not values.get("master", True):
            if self.needs_masters:
                raise ValueError(f"master=False: {type(self).__name__} steps in NumPy, which needs "
                                 f"float32 masters")
            if values["rounding"] != "stochastic":
                raise ValueError("master=False needs rounding='stochastic': rounded to nearest, "
                                 "parameters would lose the small changes")

    def _state_apart(self, array: Array) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of a parameter's state that the engine has no part in."""
        return {}

    @property
    def iterations(self) -> int:
        """Steps taken so far."""
        return 0 if self._engine is None else self._engine.iterations

    @property
    def state(self) -> list[dict[str, Array]]:
        """The state of each parameter by name, in the order of the parameters.

        Views of the buffers; of those in 8 bits read-only float32 copies.
        """
        return [{name: readable(buffer, array.shape) for name, buffer in own.items()}
                for own, array in zip(self._buffers(), self._shaped(), strict=True)]

    def _shaped(self) -> list[Any]:
        """Return the tensors that steps change."""
        return [] if self._engine is None else [np.asarray(p) for p in self._engine.params]

    def _buffers(self) -> list[dict[str, Array]]:
        """Return the state as it is kept: views, of records where it is in blocks."""
        if self._engine is None:
            return []
        names = [self.matrix_state_names if self._kinds[kind][1] else self.state_names
                 for kind in self._kind_of]
        # a running average, if there is one, comes after
        moved = [dict(zip(own, arrays, strict=False))
                 for own, arrays in zip(names, self._engine.state, strict=True)]
        kept = [{} if master is None else {"master": master} for master in self._masters]
        return [{name: a.view() for name, a in {**own, **apart, **master}.items()}
                for own, apart, master in zip(moved, self._apart, kept, strict=True)]

    def _no_rows(self, engine: Engine) -> str | None:
        """Return why gradients of some rows will not do, to complete an error, or None."""
        if not self.takes_rows:
            return f"which {type(self).__name__} does not take; SGD, Adagrad, Adam and AdamW do"
        if engine.averaged:
            return ("and an EMA in the step moves the averages of all rows; make it without "
                    "optimizer= and call its update")
        if any(buffer.dtype.names for own in engine.state for buffer in own):
            return (f"and state_dtype={self._options['state_dtype']!r} keeps numbers in blocks, "
                    f"which rows would cut; choose one of 16 bits or None")
        return None

    def _needs_whole_gradients(self) -> str | None:
        """Return what, if anything, depends on products over the gradients of all parameters."""
        return None

    def _check_divisible(self, why: str) -> None:
        """Raise ValueError unless a step may be taken by parts; say where they come together."""
        if what := self._needs_whole_gradients():
            raise ValueError(f"{what} needs the gradients of all parameters {why}")

    def _idle_state(self, group: Mapping[str, Any]) -> Collection[str]:
        """Return the names of state that steps leave alone; it takes no memory."""
        return ()

    def memory(self) -> dict[str, int]:
        """Return what the optimizer takes and moves, in bytes.

        Returns
        -------
        dict
            ``"params"``; ``"state"`` that steps use; where there are any, ``"masters"`` and
            ``"copies"``; and ``"moved"``, what the pass of a step over all parameters reads and
            writes: parameters or their masters, state and the average of an `EMA` twice, gradients
            of the parameters' dtypes, copies and parameters with masters once. Passes for norms and
            the matrix products of `Muon` come on top.

        Examples
        --------
        >>> import numpy as np, fastmom as fm
        >>> fm.SGD([np.zeros(1000, np.float32)], momentum=0.9).memory()
        {'params': 4000, 'state': 4000, 'moved': 20000}
        """
        if self._engine is None:
            return {"params": 0, "state": 0, "moved": 0}
        groups = [group for group in self.param_groups for _ in group["params"]]
        params = sum(p.nbytes for p in arrays_of(self.param_groups))
        changed = sum(p.nbytes for p in self._engine.params)
        masters = sum(m.nbytes for m in self._masters if m is not None)
        filled = sum(c.nbytes for c in self._engine.copies if c is not None)
        with_masters = sum(c.nbytes for c, m in zip(self._engine.copies, self._masters, strict=True)
                           if c is not None and m is not None)
        state = sum(a.nbytes for own, group in zip(self._buffers(), groups, strict=True)
                    for name, a in own.items()
                    if name not in self._idle_state(group) and name != "master")
        averages = sum(own[-1].nbytes for own in self._engine.state) if self._engine.averaged else 0
        some = {"masters": masters, "copies": filled - with_masters}
        return {"params": params, "state": state, **{n: size for n, size in some.items() if size},
                "moved": 2 * (changed + state + averages) + params + filled}

    @property
    def grad_norm(self) -> float:
        """Global norm of the latest gradients before clipping; NaN where no option needed it."""
        return math.nan if self._engine is None else self._engine.norm
