"""One compiled call per optimizer step: `Engine.run`.

Nothing is written before everything is validated.
"""

cimport cython
from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, NAN, isfinite
from libc.string cimport memset

import numpy as np

from fastmom.kernels.arrays cimport (RawArray, check_array, data_of, dtype_of, item_of, shape_of,
                                     size_of)
from fastmom.kernels.factors cimport (has_direction, loaded_norm, product_of, set_norms, set_scales,
                                      set_trust)
from fastmom.kernels.gradients cimport Gradients
from fastmom.kernels.loops cimport loops
from fastmom.kernels.rules cimport FLOAT64, Rule
from fastmom.kernels.sweep cimport (AFTER, AWAY, BEFORE, CHUNK, DIRECTION_SUMS, GRADIENT,
                                    GRADIENT_SUMS, LOADED_SUMS, ROWS, STATE, UPDATE, Tensor,
                                    add_up, sweep)
from fastmom.kernels.system cimport flushing

from fastmom.kernels.loops_baseline import rules
from fastmom.kernels.row_grads import check_finite
from fastmom.kernels.sums import describe


@cython.final
cdef class Engine(Gradients):
    """Updates bound parameters and their state in place."""

    cdef readonly object steps              # int64, per tensor: updates it has had
    cdef readonly long long iterations
    cdef readonly bint uneven               # some tensor has been skipped at some step
    cdef readonly double norm               # of the latest gradients, where it was needed
    cdef readonly list products             # of the latest gradients and velocities: see `measure`
    cdef public double scale                # of gradients, before anything else
    cdef public double clip_norm
    cdef public double clip_norm_per_tensor
    cdef public double clip_value
    cdef public str nonfinite               # ignore, raise or skip
    cdef public str blocked_by              # why it must not step now, or None
    cdef public int parts                   # 0: as many threads as pay
    cdef long long[::1] _steps
    cdef list _rows
    cdef bint _busy                         # a step is under way
    cdef bint _asking                       # and calls the function that returns its rows
    cdef bint _directed                     # some rule has a direction
    cdef readonly list restarts             # what they decide on: see `restart`
    cdef bint _looks                        # at products

    def __cinit__(self, list params, list state, bint averaged=False, bint stochastic=False):
        self.steps = np.zeros(len(params), np.int64)
        self._steps = self.steps
        self.norm, self.scale, self.nonfinite = np.nan, 1.0, "ignore"
        self.clip_norm = self.clip_norm_per_tensor = self.clip_value = INFINITY
        self.plan.uniform = NAN
        self.products = self.restarts = []
        self.no_rows = "which this engine does not take"

    cdef int _check_idle(self, long long now=-1) except -1:
        if self._busy or (now >= 0 and now != self.iterations):
            raise RuntimeError("this optimizer is being stepped in another thread (or was when the "
                               "process forked); it takes one step at a time")
        return 0

    def assign(self, list rows) -> None:
        """Set for each tensor which of the rows given to `run` applies to it."""
        cdef Py_ssize_t i
        self._check_idle()
        for i in range(self.plan.n_tensors):
            self.plan.tensors[i].row = rows[i]

    def orient(self, list signs) -> None:
        """Set for each tensor what multiplies its gradient: 1 to minimize, -1 to maximize."""
        cdef Py_ssize_t i
        self._check_idle()
        for i in range(self.plan.n_tensors):
            self.plan.tensors[i].sign = signs[i]
        self.plan.uniform = NAN

    def measure(self) -> None:
        """Let each step leave in `products`, for each tensor, that of its gradient, after all
        clipping, and its velocity before the step, which is its first state.
        """
        cdef Py_ssize_t i
        self._check_idle()
        self._looks = True
        for i in range(self.plan.n_tensors):
            self.plan.tensors[i].look = BEFORE

    def restart(self, list groups) -> None:
        """Let each step set velocities to 0 that no longer go down.

        Parameters
        ----------
        groups : list of (float, list of int)
            Tensors whose velocities, their first state, become 0 together after a step in which
            their products with the gradients add up to less than 0, multiplied with the number.
        """
        cdef Py_ssize_t i
        self._check_idle()
        self._looks, self.restarts = bool(groups), groups
        for i in range(self.plan.n_tensors):
            self.plan.tensors[i].look = AWAY
        for _, members in groups:
            for i in members:
                self.plan.tensors[i].look = AFTER

    cdef int _look(self) except -1:
        """Take the products from the update's sums, and act on them."""
        cdef Py_ssize_t i
        cdef const Tensor* t
        self.products = [0.0] * self.plan.n_tensors
        for i in range(self.plan.n_tensors):
            t = &self.plan.tensors[i]
            if t.look != AWAY and t.data[GRADIENT] != NULL:
                self.products[i] = product_of(&self.plan, t)
        for sign, members in self.restarts:
            if sign * sum([self.products[i] for i in members]) < 0:
                for i in members:
                    memset(self.plan.tensors[i].data[STATE], 0, self.state[i][0].nbytes)
        return 0

    cdef int _load(self, list rows) except -1:
        cdef Py_ssize_t i, j
        cdef tuple row
        if rows is self._rows:
            return 0
        self._rows, self._directed = None, False
        for i, row in enumerate(rows):
            self.plan.rows[i].rule = row[0]
            for j in range(1, len(row)):
                self.plan.rows[i].c[j - 1] = row[j]
                if not -FLT_MAX <= self.plan.rows[i].c[j - 1] <= FLT_MAX:
                    self._refuse(i, row, j)
            self._directed = self._directed or has_direction(&self.plan, &self.plan.rows[i])
        self._check_forms()
        self._rows = rows
        return 0

    cdef int _check_forms(self) except -1:
        """Raise TypeError if a rule would take a tensor's state for other numbers than it holds."""
        cdef Py_ssize_t k
        cdef const Rule* rule
        for k in range(self.plan.n_tensors):
            low = self.plan.tensors[k].low
            rule = &self.plan.table.rules[self.plan.rows[self.plan.tensors[k].row].rule]
            if low and (low & rule.precise or ~low & rule.stored):
                raise TypeError(f"state[{k}] has other formats than its rule reads")
        return 0

    cdef int _refuse(self, Py_ssize_t i, tuple row, Py_ssize_t j) except -1:
        """Raise ValueError if row i applies to a tensor whose dtype cannot hold its entry j."""
        cdef Py_ssize_t k
        name, names = list(rules.items())[row[0]]
        for k in range(self.plan.n_tensors):
            dtype = np.dtype(np.float64 if self.plan.tensors[k].form == FLOAT64 else np.float32)
            if self.plan.tensors[k].row == i and not abs(row[j]) <= float(np.finfo(dtype).max):
                raise ValueError(f"the hyper-parameters make {names[j - 1]}={row[j]:g} (rule "
                                 f"{name}), which {dtype}, the dtype of params[{k}], cannot hold")
        return 0

    def copy_into(self, list copies) -> None:
        """Fill these arrays, or None for some, with the parameters now and at each update.

        Raises
        ------
        TypeError, ValueError
            If one is not float16 or bfloat16 of the shape of a float32 parameter, cannot be written
            in place, or overlaps another array. Nothing has changed then.
        """
        self._check_idle()
        before = self.copies
        if len(copies) != len(before):
            raise ValueError(f"copies has {len(copies)} entries, expected {len(before)}: one for "
                             f"each array in params")
        self.copies = list(copies)
        try:
            self._bind_memory()
        except BaseException:
            self.copies = before
            raise
        self.fill_copies()

    def fill_copies(self) -> None:
        """Fill the copies with the parameters as they are now."""
        with np.errstate(all="ignore"):         # beyond float16 is infinite, as in a step
            for copy, param in zip(self.copies, self.params):
                if copy is not None:
                    copy[...] = param

    def smooth(self, double decay) -> None:
        """Set how much of the running average each step keeps."""
        self._check_idle()
        self.plan.smoothing = [decay - 1, 0, decay]

    def extended(self, list params, list state) -> Engine:
        """Return an engine of its own tensors and these, which goes on from where it stands.

        The arrays of its state serve on, so nothing is copied; counters, limits and the decay of a
        running average are taken over, and the new tensors have had no update. Where it moves
        averages, the last array of each new tensor's state is its average. Rows and signs are to be
        assigned anew, and this engine is to be left alone from then on.

        Parameters
        ----------
        params : list of ndarray
            To add.
        state : list of tuple of ndarray
            Of each, as for the constructor.

        Raises
        ------
        TypeError, ValueError
            If an array cannot be updated in place or overlaps another. Nothing has changed then.
        """
        self._check_idle()
        cdef Engine new = Engine(self.params + params, self.state + state, self.averaged,
                                 self.stochastic)
        new.restore(self.steps.tolist() + [0] * len(params), self.iterations)
        new.plan.smoothing = self.plan.smoothing
        new.copy_into(self.copies + [None] * len(params))
        new.norm, new.scale, new.nonfinite = self.norm, self.scale, self.nonfinite
        new.clip_norm, new.clip_value = self.clip_norm, self.clip_value
        new.clip_norm_per_tensor = self.clip_norm_per_tensor
        new.blocked_by, new.parts, new.no_rows = self.blocked_by, self.parts, self.no_rows
        return new

    def __reduce__(self):
        raise TypeError("an Engine cannot be copied or pickled: it holds the memory of its arrays; "
                        "copy the optimizer, or save its state_dict()")

    def restore(self, steps, long long iterations) -> None:
        """Set the counters: updates per tensor, and steps."""
        self._check_idle()
        self.steps[:] = steps
        self.iterations = iterations
        self.uneven = bool((self.steps != iterations).any())

    def run(self, grads, rows, long long now=-1) -> bool:
        """Update every tensor that has a gradient. False, with nothing changed, if none was.

        `rows` lists (rule, coefficient, ...) tuples; `assign` says which tensor takes which. If
        they hold for one step alone, `now` is the number of steps before it.

        Where they depend on the gradients, `rows` is a function that returns them; it is called
        once all is validated, and `norms` and `load` tell it what the gradients are. If it returns
        none, it has updated the tensors by itself.
        """
        cdef Py_ssize_t i
        cdef list known = rows if type(rows) is list else None
        if not isinstance(grads, (list, tuple)):
            raise TypeError(f"grads must be a list or tuple of arrays (or None) aligned with "
                            f"params, not {type(grads).__name__}")
        if type(grads) is not list and type(grads) is not tuple:
            grads = tuple(grads)        # a subclass may iterate as it likes
        self._check_idle(now)
        if self.blocked_by is not None:
            raise RuntimeError(self.blocked_by)
        self.hold(grads)
        self._busy = True
        try:
            self.match()
            self.plan.table = &loops().rules
            if known is not None:
                self._load(known)
            self.plan.flush = flushing()
            self.plan.step = self.iterations
            if self.active == 0 or not self._prepare():
                return False
            if known is None:
                self._asking = True
                known = rows()
                self._asking = False
                self._load(known)
            if self._directed:
                sweep(&self.plan, DIRECTION_SUMS, self.work, self.parts)
                set_trust(&self.plan)
            if known:
                sweep(&self.plan, UPDATE, self.work, self.parts)
                if self._looks:
                    self._look()
            for i in range(self.plan.n_tensors):
                self._steps[i] += self.plan.tensors[i].data[GRADIENT] != NULL
            self.uneven = self.uneven or self.active < self.plan.n_tensors
            self.iterations += 1
            return True
        finally:
            self.release()
            self._busy = self._asking = False

    # Gradients on their way into a function of the step ------------------------------------------

    cdef int _check_within(self) except -1:
        if not self._asking:
            raise RuntimeError("only a function that a step calls may ask for its gradients")
        return 0

    def norms(self) -> list:
        """Return the norm of each tensor's gradient after all clipping; 0 where it has none."""
        cdef Py_ssize_t i
        self._check_within()
        sweep(&self.plan, LOADED_SUMS, self.work, self.parts)
        return [loaded_norm(&self.plan, &self.plan.tensors[i])
                if self.plan.tensors[i].data[GRADIENT] != NULL else 0.0
                for i in range(self.plan.n_tensors)]

    def load(self, Py_ssize_t i, Py_ssize_t start, out) -> None:
        """Fill an array with the elements of a tensor's gradient from `start` on, after all clipping."""
        cdef Tensor* t
        cdef char* g
        self._check_within()
        check_array(out, "out", 0, True)
        if not 0 <= i < self.plan.n_tensors or self.plan.tensors[i].data[GRADIENT] == NULL:
            raise ValueError(f"tensor {i} has no gradient")
        t = &self.plan.tensors[i]
        if (dtype_of(out) != dtype_of(self.params[i]) or start < 0
                or size_of(<RawArray*>out) > t.size - start):
            raise ValueError(f"out does not fit elements from {start} on of the gradient {i}")
        stages = &self.plan.table.stages[<int>t.form]
        g = t.data[GRADIENT] + start * t.item[GRADIENT]
        if t.sources:
            self._add_up(i, start, out)
            g = data_of(out)
        elif t.format[GRADIENT]:
            self.plan.table.codecs[<int>t.format[GRADIENT]].decode(
                <float*>data_of(out), g, size_of(<RawArray*>out))
            g = data_of(out)
        (stages.rescale if t.rescaled else stages.load)(data_of(out), g, size_of(<RawArray*>out),
                                                        t.scale, self.plan.limit)

    cdef int _add_up(self, Py_ssize_t i, Py_ssize_t start, out) except -1:
        """Fill an array with elements of a gradient that is a weighted sum."""
        cdef float[CHUNK] spare
        cdef Py_ssize_t size = size_of(<RawArray*>out), done
        for done in range(0, size, CHUNK):
            add_up(&self.plan, &self.plan.tensors[i], start + done,
                   min(<Py_ssize_t>CHUNK, size - done), data_of(out) + done * item_of(out),
                   <char*>spare)
        return 0

    # Gradients as a whole: unscaling, clipping by norm, non-finite values ------------------------

    cdef bint _prepare(self) except -1:
        """Set every tensor's gradient scale. False if this step is to be skipped."""
        if (isfinite(self.clip_norm) or isfinite(self.clip_norm_per_tensor)
                or self.nonfinite != "ignore"):
            sweep(&self.plan, GRADIENT_SUMS, self.work, self.parts)
            self.norm = set_norms(&self.plan, self.scale)
            if not isfinite(self.plan.square.value) and self.nonfinite != "ignore":
                if self.nonfinite == "raise":
                    self._raise_nonfinite()
                return False
        set_scales(&self.plan, self.scale, self.clip_norm, self.clip_norm_per_tensor)
        self.plan.limited = isfinite(self.clip_value)
        self.plan.limit = self.clip_value
        return True

    cdef int _raise_nonfinite(self) except -1:
        """Raise FloatingPointError for the first element that is a NaN or infinite."""
        for i in range(self.plan.n_tensors):
            grad, total = <object>self.grads[i], ()
            if type(grad) is tuple and self.plan.tensors[i].sources == ROWS:
                check_finite(f"grads[{i}]", grad[0], grad[1])
                continue
            if type(grad) is tuple:
                is_double = self.plan.tensors[i].form == FLOAT64
                total, grad = grad, np.empty(shape_of(self.params[i]),
                                             np.float64 if is_double else np.float32)
                self._add_up(i, 0, grad)
            finite = np.isfinite(np.asarray(0 if grad is None else grad))
            if not finite.all():
                where = np.unravel_index(np.argmin(finite), finite.shape)
                raise FloatingPointError(f"grads[{i}] is {np.asarray(grad)[where]} at index "
                                         f"{tuple(map(int, where))}{describe(total, where)}")
        return 0
