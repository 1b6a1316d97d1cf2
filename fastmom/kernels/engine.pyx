"""One compiled call per optimizer step: `Engine.run`.

Design. Arrays are bound once. A step then compares object identities and those fields of the C
array struct that Python code could have changed since (data pointer, dtype, flags, shape, and the
same of the array that owns the memory); a difference takes the slow path, which validates again or
raises. Nothing is written before everything is validated.
"""

cimport cython
from cpython.object cimport PyObject
from libc.float cimport FLT_MAX
from libc.math cimport INFINITY, NAN, isfinite
from libc.stdlib cimport calloc, free

import numpy as np

from fastmom.kernels.arrays cimport (PyArray_NDIM, RawArray, Slot, bind_slot, check_array, data_of,
                                     dtype_of, item_of, same_shape, shape_of, size_of, unchanged)
from fastmom.kernels.factors cimport has_direction, set_norms, set_scales, set_trust
from fastmom.kernels.loops cimport loops
from fastmom.kernels.rules cimport MAX_ARRAYS, Form
from fastmom.kernels.sweep cimport (CHUNK, DIRECTION_SUMS, GRADIENT, GRADIENT_SUMS, LINE, STATE,
                                    UPDATE, Chunk, Plan, Row, SquareSum, Tensor, cut,
                                    sweep)
from fastmom.kernels.system cimport flushing

from fastmom.kernels.arrays import MemoryMap, owner_of
from fastmom.kernels.loops_baseline import rules

cdef list FORMS = [          # dtypes of a parameter (and its gradient and average) and of its state
    (np.dtype(np.float32), np.dtype(np.float32)),       # as in rules.pxd
    (np.dtype(np.float64), np.dtype(np.float64)),
]


@cython.final
cdef class Engine:
    """Binds parameters, state and gradients of one optimizer and updates them in place.

    `state` holds, per parameter, a tuple of arrays of the parameter's dtype and shape. With
    `averaged` the last of them is the parameter's running average, moved after each update.
    """
    cdef readonly list params
    cdef readonly list state
    cdef readonly bint averaged             # the last array of each state is a running average
    cdef readonly object steps              # int64, per tensor: updates it has had
    cdef readonly long long iterations
    cdef readonly bint uneven               # some tensor has been skipped at some step
    cdef readonly double norm               # of the latest gradients, where it was needed
    cdef public double scale                # of gradients, before anything else
    cdef public double clip_norm
    cdef public double clip_norm_per_tensor
    cdef public double clip_value
    cdef public str nonfinite               # ignore, raise or skip
    cdef public str blocked_by              # why it must not step now, or None
    cdef public int parts                   # 0: as many threads as pay
    cdef Plan plan
    cdef Slot* slots                        # of parameter and gradient, in turn
    cdef Slot* owners                       # of the memory of all state
    cdef Py_ssize_t n_owners
    cdef long long[::1] _steps
    cdef list _grads, _rows
    cdef object _memory
    cdef Py_ssize_t _work, _active
    cdef bint _busy, _moved, _directed      # _directed: some rule has a direction

    def __cinit__(self, list params, list state, bint averaged=False):
        cdef Py_ssize_t n = len(params), chunks = 0, i
        # Nobody else holds these views of the state, so only their memory needs watching.
        self.state = [tuple([array.view() for array in arrays]) for arrays in state]
        for i in range(n):
            check_array(params[i], "params", i, True)
        self.params, self._grads = list(params), [None] * n
        self.steps = np.zeros(n, np.int64)
        self._steps = self.steps
        self.norm, self.scale, self.nonfinite = np.nan, 1.0, "ignore"
        self.clip_norm = self.clip_norm_per_tensor = self.clip_value = INFINITY
        self.plan.uniform = NAN
        self.plan.n_tensors = n
        self.plan.n_arrays = 2 + (len(state[0]) if n else 0)
        if self.plan.n_arrays > MAX_ARRAYS:
            raise ValueError(f"at most {MAX_ARRAYS - 2} state buffers a parameter")
        self.averaged = averaged
        self.plan.average = self.plan.n_arrays - 1 if averaged else 0
        for i in range(n):
            chunks += (size_of(<RawArray*>params[i]) + CHUNK - 1) // CHUNK
        self.plan.n_chunks = chunks
        self.slots = <Slot*>calloc(max(1, 2 * n), sizeof(Slot))
        self.owners = <Slot*>calloc(max(1, n * self.plan.n_arrays), sizeof(Slot))
        self.plan.tensors = <Tensor*>calloc(max(1, n), sizeof(Tensor))
        self.plan.rows = <Row*>calloc(max(1, n), sizeof(Row))
        self.plan.chunks = <Chunk*>calloc(max(1, chunks), sizeof(Chunk))
        self.plan.partial = <SquareSum*>calloc(max(1, 2 * chunks), sizeof(SquareSum))
        if not (self.slots and self.owners and self.plan.tensors and self.plan.rows
                and self.plan.chunks and self.plan.partial):
            raise MemoryError()
        for i in range(n):
            self.plan.tensors[i].size = size_of(<RawArray*>params[i])
            self.plan.tensors[i].form = <Form>self._form(i)
        cut(&self.plan)
        self._bind_memory()

    def __dealloc__(self):
        free(self.slots)
        free(self.owners)
        free(self.plan.tensors)
        free(self.plan.rows)
        free(self.plan.chunks)
        free(self.plan.partial)

    cdef int _form(self, Py_ssize_t i) except -1:
        """The form of a tensor's arrays: its place in FORMS."""
        own = self.state[i][:self.plan.average - STATE] if self.plan.average else self.state[i]
        for form, (real, stored) in enumerate(FORMS):
            if dtype_of(self.params[i]) == real and all([a.dtype == stored for a in own]):
                return form
        raise TypeError(f"params[{i}] is {dtype_of(self.params[i])} with state of "
                        f"{', '.join([str(a.dtype) for a in own])}; no rule takes that")

    cdef object _dtype(self, Py_ssize_t i, int j):
        """The dtype that array j of a tensor must have."""
        return FORMS[<int>self.plan.tensors[i].form][j >= STATE and j != self.plan.average]

    cdef int _bind_memory(self) except -1:
        """Validate parameters and state, and remember where they lie."""
        cdef Py_ssize_t i
        cdef int j
        cdef Tensor* t
        memory = MemoryMap()
        for i in range(self.plan.n_tensors):
            for j, array in enumerate((self.params[i], None, *self.state[i])):
                if j == GRADIENT:
                    continue
                name = "params" if j == 0 else "state"
                check_array(array, name, i, True)
                if (size_of(<RawArray*>array) != self.plan.tensors[i].size
                        or dtype_of(array) != self._dtype(i, j)):
                    raise ValueError(f"{name}[{i}] is now {dtype_of(array)} of shape "
                                     f"{shape_of(array)}: it was changed in place after the "
                                     f"optimizer was built")
                memory.add(array, f"{name}[{i}]")
        memory.seal()
        self._memory = memory
        owners = {id(owner): owner for arrays in self.state for owner in map(owner_of, arrays)}
        self.n_owners = len(owners)
        for i, owner in enumerate(owners.values()):
            bind_slot(&self.owners[i], owner, True)
        for i in range(self.plan.n_tensors):
            bind_slot(&self.slots[2 * i], self.params[i], True)
            t = &self.plan.tensors[i]
            for j, array in enumerate((self.params[i], None, *self.state[i])):
                if j != GRADIENT:
                    t.data[j], t.item[j] = data_of(array), item_of(array)
            t.item[GRADIENT] = t.item[0]
            t.lead = (LINE - <size_t>t.data[0] % LINE) % LINE // t.item[0]
        return 0

    cdef int _bind_gradient(self, Py_ssize_t i, object grad) except -1:
        cdef Slot* slot = &self.slots[2 * i + GRADIENT]
        param = self.params[i]
        if isinstance(grad, np.generic) and PyArray_NDIM(<RawArray*>param) == 0:
            grad = np.array(grad)       # arithmetic on arrays without axes gives scalars
        if grad is not None:
            check_array(grad, "grads", i, False)
            if dtype_of(grad) != dtype_of(param):
                raise TypeError(f"grads[{i}] has dtype {dtype_of(grad)}, expected "
                                f"{dtype_of(param)} as params[{i}]")
            if shape_of(grad) != shape_of(param):
                raise ValueError(f"grads[{i}] has shape {shape_of(grad)}, expected "
                                 f"{shape_of(param)} as params[{i}]")
            self._memory.refuse(grad, f"grads[{i}]")
        self._moved = True
        bind_slot(slot, grad, False)
        self._grads[i] = grad
        self.plan.tensors[i].data[GRADIENT] = slot.data
        return 0

    cdef int _match(self, tuple grads) except -1:
        """Make the plan point at these gradients; cheap when they are those of the last step."""
        cdef Py_ssize_t i
        cdef Slot* slots
        if len(grads) != self.plan.n_tensors:
            raise ValueError(f"grads has {len(grads)} entries, expected {self.plan.n_tensors}: one "
                             f"for each array in params")
        for i in range(self.n_owners):
            if not unchanged(&self.owners[i]):
                self._bind_memory()
        for i in range(self.plan.n_tensors):
            slots = &self.slots[2 * i]
            if not unchanged(&slots[0]):
                self._bind_memory()
            if (<PyObject*>grads[i] != slots[GRADIENT].array or not unchanged(&slots[GRADIENT])
                    or not same_shape(&slots[0], &slots[GRADIENT])):
                self._bind_gradient(i, grads[i])
        if self._moved:
            self._work = self._active = 0
            for i in range(self.plan.n_tensors):
                if self._grads[i] is not None:
                    self._work += self.plan.tensors[i].size
                    self._active += 1
            self._moved = False
        return 0

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
        self._rows = rows
        return 0

    cdef int _refuse(self, Py_ssize_t i, tuple row, Py_ssize_t j) except -1:
        """Raise ValueError if row i applies to a tensor whose dtype cannot hold its entry j."""
        cdef Py_ssize_t k
        name, names = list(rules.items())[row[0]]
        for k in range(self.plan.n_tensors):
            dtype = dtype_of(self.params[k])
            if self.plan.tensors[k].row == i and not abs(row[j]) <= float(np.finfo(dtype).max):
                raise ValueError(f"the hyper-parameters make {names[j - 1]}={row[j]:g} (rule "
                                 f"{name}), which {dtype}, the dtype of params[{k}], cannot hold")
        return 0

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
        cdef Engine new = Engine(self.params + params, self.state + state, self.averaged)
        new.restore(self.steps.tolist() + [0] * len(params), self.iterations)
        new.plan.smoothing = self.plan.smoothing
        new.norm, new.scale, new.nonfinite = self.norm, self.scale, self.nonfinite
        new.clip_norm, new.clip_value = self.clip_norm, self.clip_value
        new.clip_norm_per_tensor = self.clip_norm_per_tensor
        new.blocked_by, new.parts = self.blocked_by, self.parts
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

    def run(self, grads, list rows, long long now=-1) -> bool:
        """Update every tensor that has a gradient. False, with nothing changed, if none was.

        `rows` lists (rule, coefficient, ...) tuples; `assign` says which tensor takes which. If
        they hold for one step alone, `now` is the number of steps before it.
        """
        cdef Py_ssize_t i
        if not isinstance(grads, (list, tuple)):
            raise TypeError(f"grads must be a list or tuple of arrays (or None) aligned with "
                            f"params, not {type(grads).__name__}")
        self._check_idle(now)
        if self.blocked_by is not None:
            raise RuntimeError(self.blocked_by)
        self._busy = True
        try:
            self._match(tuple(grads))
            self.plan.table = &loops().rules
            self._load(rows)
            self.plan.flush = flushing()
            if self._active == 0 or not self._prepare():
                return False
            if self._directed:
                sweep(&self.plan, DIRECTION_SUMS, self._work, self.parts)
                set_trust(&self.plan)
            sweep(&self.plan, UPDATE, self._work, self.parts)
            for i in range(self.plan.n_tensors):
                self._steps[i] += self.slots[2 * i + GRADIENT].array != <PyObject*>None
            self.uneven = self.uneven or self._active < self.plan.n_tensors
            self.iterations += 1
            return True
        finally:
            self._busy = False

    # Gradients as a whole: unscaling, clipping by norm, non-finite values ------------------------

    cdef bint _prepare(self) except -1:
        """Set every tensor's gradient scale. False if this step is to be skipped."""
        if (isfinite(self.clip_norm) or isfinite(self.clip_norm_per_tensor)
                or self.nonfinite != "ignore"):
            sweep(&self.plan, GRADIENT_SUMS, self._work, self.parts)
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
        for i, grad in enumerate(self._grads):
            finite = np.isfinite(np.asarray(0 if grad is None else grad))
            if not finite.all():
                where = np.unravel_index(np.argmin(finite), finite.shape)
                raise FloatingPointError(f"grads[{i}] is {np.asarray(grad)[where]} at index "
                                         f"{tuple(map(int, where))}")
        return 0
