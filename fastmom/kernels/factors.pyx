"""The factors of each tensor's gradient and direction, between the sweeps of a step.

Design. Norms and their ratios are finite wherever the gradients are: they carry an exponent of their
own (`Scaled`). With it they round as doubles do, so where all is within double's range the bits are
those of plain arithmetic. A factor that the tensor's type cannot hold is split in two.
"""

from libc.float cimport DBL_MAX, DBL_MIN, FLT_MAX, FLT_MIN
from libc.math cimport INFINITY, fabs, frexp, ldexp, sqrt

from fastmom.kernels.rules cimport FLOAT64, TrustRatio
from fastmom.kernels.sweep cimport CHUNK, GRADIENT, SHIFT, SquareSum, Tensor


cdef inline Scaled scaled(double x, int e=0) noexcept:
    cdef int own = 0
    cdef double m = frexp(x, &own)
    return Scaled(m, own + e)


cdef double plain(Scaled x) noexcept:
    return ldexp(x.m, x.e)


cdef inline Scaled times(Scaled x, Scaled y) noexcept:
    return scaled(x.m * y.m, x.e + y.e)


cdef inline Scaled over(Scaled x, Scaled y) noexcept:
    return scaled(x.m / y.m, x.e - y.e)


cdef inline bint at_most(Scaled x, Scaled y) noexcept:
    """Return whether x <= y; False for a NaN."""
    return ldexp(x.m, x.e - y.e) <= y.m


# Square sums -------------------------------------------------------------------------------------

cdef struct Total:          # of square sums: of each shift on its own, in order
    double value[3]


cdef inline void add(Total* total, SquareSum x) noexcept:
    total.value[x.shift + 1] += x.value


cdef SquareSum whole(const Total* total) noexcept:
    """Add the parts; those far below the largest do not count."""
    cdef int shift
    for shift in range(1, -1, -1):
        if total.value[shift + 1] != 0:     # also a NaN
            return SquareSum(total.value[shift + 1] + ldexp(total.value[shift], -2 * SHIFT), shift)
    return SquareSum(total.value[0], -1)


cdef inline Scaled root(SquareSum x) noexcept:
    return scaled(sqrt(x.value), SHIFT * x.shift)


cdef SquareSum tensor_sum(const Plan* plan, const Tensor* t, int which) noexcept:
    """Add one of the two sums of a tensor's chunks, in order."""
    cdef Total total = Total([0, 0, 0])
    cdef Py_ssize_t k
    for k in range(t.first, t.first + (t.size + CHUNK - 1) // CHUNK):
        add(&total, plan.partial[2 * k + which])
    return whole(&total)


# Gradients ---------------------------------------------------------------------------------------

cdef Scaled set_norms(Plan* plan, double scale) noexcept:
    """Set the norm of each tensor's scaled gradient; return that of all."""
    cdef Total total = Total([0, 0, 0])
    cdef Scaled s = scaled(fabs(scale))
    cdef SquareSum own
    cdef Tensor* t
    cdef Py_ssize_t i
    for i in range(plan.n_tensors):
        t = &plan.tensors[i]
        own = tensor_sum(plan, t, 0) if t.data[GRADIENT] != NULL else SquareSum(0, 0)
        t.norm = times(root(own), s)
        add(&total, own)
    return times(root(whole(&total)), s)


cdef void set_scales(Plan* plan, Scaled norm, double scale, double clip_norm,
                     double clip_norm_per_tensor) noexcept:
    """Set what multiplies each tensor's gradient, which brings the norms within their limits."""
    cdef bint clips = clip_norm < INFINITY or clip_norm_per_tensor < INFINITY
    cdef Scaled s
    cdef Tensor* t
    cdef Py_ssize_t i
    for i in range(plan.n_tensors):
        t = &plan.tensors[i]
        t.scale[0] = t.sign * scale
        if clips:
            s = times(scaled(t.sign * scale), times(clipping(norm, clip_norm),
                                                    clipping(t.norm, clip_norm_per_tensor)))
            t.scale[0] = plain(s)
        t.rescaled = not fits(t, t.scale[0])
        if t.rescaled:
            if not clips:
                s = scaled(t.scale[0])
            halve(s, t.scale)
        t.factors.scale = t.scale[0]


cdef inline Scaled clipping(Scaled norm, double limit) noexcept:
    """Return what brings a norm down to the limit, if it is above; a NaN stays a NaN."""
    if limit == INFINITY or at_most(norm, scaled(limit)):
        return scaled(1)
    return over(scaled(limit), norm)


cdef inline bint fits(const Tensor* t, double factor) noexcept:
    """Return whether the tensor's type can hold a factor; True for a NaN, infinity."""
    cdef double size = fabs(factor)
    if t.form == FLOAT64:
        return not (size < DBL_MIN or DBL_MAX < size < INFINITY)
    return not (size < FLT_MIN or FLT_MAX < size < INFINITY)


cdef inline void halve(Scaled x, double* halves) noexcept:
    """Split into two factors on the same side of 1, which double holds."""
    cdef int e = max(-2040, min(2040, x.e))
    halves[0], halves[1] = ldexp(1, e // 2), ldexp(x.m, e - e // 2)


# Directions --------------------------------------------------------------------------------------

cdef bint has_direction(const Plan* plan, const Row* row) noexcept:
    return plan.table.rules[row.rule].direction[0] != NULL


cdef void set_trust(Plan* plan) noexcept:
    """Set each tensor's trust ratio: coefficient |p| / (|direction| + eps), 1 where one is zero."""
    cdef const TrustRatio* c
    cdef Tensor* t
    cdef Scaled p, r, trust
    cdef Py_ssize_t i
    for i in range(plan.n_tensors):
        t = &plan.tensors[i]
        if t.data[GRADIENT] == NULL or not has_direction(plan, &plan.rows[t.row]):
            continue
        c = <const TrustRatio*>plan.rows[t.row].c
        p, r = root(tensor_sum(plan, t, 0)), root(tensor_sum(plan, t, 1))
        trust = scaled(1)
        if p.m != 0 and r.m != 0:
            if c.trust_eps > 0 and r.e < 1000:
                r = scaled(plain(r) + c.trust_eps)
            trust = over(times(scaled(c.trust_coefficient), p), r)
        t.factors.trust, t.factors.unit = plain(trust), 1
        if not fits(t, t.factors.trust):
            halve(trust, &t.factors.trust)
