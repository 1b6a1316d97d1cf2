"""Arrays that are bound once: parameters, state and copies.

Design. A step compares those fields of the C array structs that Python code could have changed
since (data pointer, dtype, flags, shape, and the same of the array that owns the memory); a
difference takes the slow path, which validates again or raises.
"""

from cpython.object cimport PyObject
from libc.stdlib cimport calloc, free

import numpy as np

from fastmom.kernels.arrays cimport (Gap, MemoryMap, RawArray, Slot, bind_slot, check_array, data_of,
                                     dtype_of, item_of, shape_of, size_of)
from fastmom.kernels.codecs cimport FLOAT16, NATIVE
from fastmom.kernels.formats cimport format_of
from fastmom.kernels.rules cimport FLOAT64, MAX_ARRAYS, Factors, Form
from fastmom.kernels.sweep cimport (CHUNK, GRADIENT, LINE, STATE, Chunk, Row, SquareSum, Tensor,
                                    cut)

from fastmom.kernels.arrays import owner_of

cdef object SINGLE = np.dtype(np.float32)

cdef list FORMS = [          # names of the dtypes of a parameter and of its state, as in rules.pxd
    ("float32", "float32"),
    ("float64", "float64"),
    ("float32", "bfloat16"),
    ("float32", "float16"),
]


cdef class Bound:
    """Parameters and state of one optimizer, and the plan of a step over them.

    `state` holds, per parameter, a tuple of arrays of its shape. With `averaged` the last of them
    is the parameter's running average, moved after each update. Parameters in float16 or bfloat16
    have averages and gradients as those in float32 have. What is kept in few bits is rounded to
    nearest, or with `stochastic` up or down by noise.
    """

    def __cinit__(self, list params, list state, bint averaged=False, bint stochastic=False):
        cdef Py_ssize_t n = len(params), chunks = 0, i
        cdef Tensor* t
        # Nobody else holds these views of the state, so only their memory needs watching.
        self.state = [tuple([array.view() for array in arrays]) for arrays in state]
        for i in range(n):
            check_array(params[i], "params", i, True, True)
        self.params, self.copies, self.dtypes = list(params), [None] * n, []
        self.plan.n_tensors = n
        self.plan.n_arrays = 2 + (len(state[0]) if n else 0)
        if self.plan.n_arrays > MAX_ARRAYS:
            raise ValueError(f"at most {MAX_ARRAYS - 2} state buffers a parameter")
        self.averaged, self.stochastic = averaged, stochastic
        self.plan.dithers = stochastic
        self.plan.average = self.plan.n_arrays - 1 if averaged else 0
        for i in range(n):
            chunks += (size_of(<RawArray*>params[i]) + CHUNK - 1) // CHUNK
        self.slots = <Slot*>calloc(max(1, n), sizeof(Slot))
        self.watched = <Slot*>calloc(max(1, n * self.plan.n_arrays), sizeof(Slot))
        self.gaps = <Gap*>calloc(max(1, n), sizeof(Gap))
        self.grads = <PyObject**>calloc(max(1, n), sizeof(PyObject*))
        self.plan.tensors = <Tensor*>calloc(max(1, n), sizeof(Tensor))
        self.plan.rows = <Row*>calloc(max(1, n), sizeof(Row))
        self.plan.chunks = <Chunk*>calloc(max(1, chunks), sizeof(Chunk))
        self.plan.partial = <SquareSum*>calloc(max(1, 2 * chunks), sizeof(SquareSum))
        if not (self.slots and self.watched and self.gaps and self.grads and self.plan.tensors
                and self.plan.rows and self.plan.chunks and self.plan.partial):
            raise MemoryError()
        for i in range(n):
            t = &self.plan.tensors[i]
            t.size = t.extent = size_of(<RawArray*>params[i])
            t.factors, t.sign, t.scale[0] = Factors(1, 1, 1), 1, 1
            self._find_form(i)
        cut(&self.plan)
        self._bind_memory()

    def __dealloc__(self):
        free(self.slots)
        free(self.watched)
        free(self.gaps)
        free(self.grads)
        free(self.plan.tensors)
        free(self.plan.rows)
        free(self.plan.chunks)
        free(self.plan.partial)
        free(self.plan.sources)
        free(self.plan.entries)
        free(self.plan.starts)

    cdef int _find_form(self, Py_ssize_t i) except -1:
        """Set the form of a tensor's arrays, which is its place in FORMS."""
        cdef Tensor* t = &self.plan.tensors[i]
        own = self.state[i][:self.plan.average - STATE] if self.plan.average else self.state[i]
        param = dtype_of(self.params[i])
        t.format[0] = format_of(param)
        real = SINGLE if t.format[0] else param
        low = [j for j, a in enumerate(own) if a.dtype != real]
        others = {own[j].dtype.name for j in low} or {real.name}
        formats = [format_of(own[j].dtype) for j in low]
        if t.format[0] > FLOAT16:
            raise TypeError(f"params[{i}] has dtype {param}; block formats are for state")
        if real.name == "float32" and (t.format[0] or len(others) > 1 or self.stochastic
                                       or max(formats, default=0) > FLOAT16):
            for j, format in zip(low, formats):
                t.format[STATE + j] = format
                t.shift[STATE + j] = 7 if format > FLOAT16 else 0
            if all(formats):
                low, others = [], {real.name}
                t.staged = t.format[0] or len(formats)
        t.low = sum([1 << j for j in low])
        form = (real.name, others.pop())
        if others or form not in FORMS:
            raise TypeError(f"params[{i}] is {param} with state of "
                            f"{', '.join([str(a.dtype) for a in own])}; no rule takes that")
        t.form = <Form><int>FORMS.index(form)
        self.dtypes.append([param, real, *[a.dtype for a in self.state[i]]])
        return 0

    cdef int _bind_memory(self) except -1:
        """Validate all that a step writes, and remember where it lies."""
        cdef Py_ssize_t i
        cdef int j
        cdef Tensor* t
        cdef MemoryMap memory = MemoryMap()
        for i in range(self.plan.n_tensors):
            for j, array in enumerate((self.params[i], None, *self.state[i])):
                if j == GRADIENT:
                    continue
                name = "params" if j == 0 else "state"
                check_array(array, name, i, True, True)
                t = &self.plan.tensors[i]
                if (size_of(<RawArray*>array) != -(-t.size >> t.shift[j])
                        or dtype_of(array) != self.dtypes[i][j]):
                    raise ValueError(f"{name}[{i}] is now {dtype_of(array)} of shape "
                                     f"{shape_of(array)}: it was changed in place after the "
                                     f"optimizer was built")
                memory.add(array, f"{name}[{i}]")
            if self.copies[i] is not None:
                self._check_copy(i)
                memory.add(self.copies[i], f"copies[{i}]")
        memory.seal()
        self.memory = memory
        watched = [owner_of(array) for arrays in self.state for array in arrays]
        watched += [copy for copy in self.copies if copy is not None]
        watched = list({id(array): array for array in watched}.values())
        self.n_watched = len(watched)
        for i, array in enumerate(watched):
            bind_slot(&self.watched[i], array)
        for i in range(self.plan.n_tensors):
            bind_slot(&self.slots[i], self.params[i])
            self.gaps[i] = Gap(1, 0)
            t = &self.plan.tensors[i]
            for j, array in enumerate((self.params[i], None, *self.state[i])):
                if j != GRADIENT:
                    t.data[j], t.item[j] = data_of(array), item_of(array)
            read_as(t, NATIVE)
            t.copy = NULL
            if self.copies[i] is not None:
                t.copy, t.copied = data_of(self.copies[i]), format_of(dtype_of(self.copies[i]))
            t.lead = (LINE - <size_t>t.data[0] % LINE) % LINE // t.item[0]
        return 0

    cdef int _check_copy(self, Py_ssize_t i) except -1:
        """Raise if a copy cannot hold its parameter."""
        param, copy = self.params[i], self.copies[i]
        check_array(copy, "copies", i, True, True)
        if dtype_of(param) != SINGLE or not 0 < format_of(dtype_of(copy)) <= FLOAT16:
            raise TypeError(f"copies[{i}] is {dtype_of(copy)} and params[{i}] {dtype_of(param)}; "
                            f"expected float16 or bfloat16 copies of float32 parameters")
        if shape_of(copy) != shape_of(param):
            raise ValueError(f"copies[{i}] has shape {shape_of(copy)}, expected {shape_of(param)} "
                             f"as params[{i}]")
        return 0
