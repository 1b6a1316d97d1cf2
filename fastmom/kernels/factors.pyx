"""The factors of each tensor's gradient and direction, between the sweeps of a step.

Design. Norms and their ratios are finite wherever the gradients are: where a double could not hold
them they carry an exponent of their own (`Scaled`). A factor that the tensor's type cannot hold is
split in two. In the ordinary case nothing of that costs more than a comparison.
"""

from libc.float cimport DBL_MAX, DBL_MIN, FLT_MAX, FLT_MIN
from libc.math cimport INFINITY, NAN, fabs, frexp, ldexp, sqrt

from fastmom.kernels.rules cimport FLOAT64, TrustRatio
from fastmom.kernels.sweep cimport CHUNK, GRADIENT, SHIFT, SquareSum, Tensor

cdef double LOW = 2.0 ** -300, HIGH = 2.0 ** 300    # products of some stay in range


cdef struct Scaled:         # m 2^e
    double m
    int e


cdef inline Scaled scaled(double x, int e=0) noexcept:
    cdef int own = 0
    cdef double m = frexp(x, &own)
    return Scaled(m, own + e)


cdef inline double plain(Scaled x) noexcept:
    return ldexp(x.m, x.e)


cdef inline Scaled times(Scaled x, Scaled y) noexcept:
    return scaled(x.m * y.m, x.e + y.e)


cdef inline Scaled over(Scaled x, Scaled y) noexcept:
    return scaled(x.m / y.m, x.e - y.e)


cdef inline bint at_most(Scaled x, Scaled y) noexcept:
    """Return whether x <= y; False for a NaN."""
    return ldexp(x.m, x.e - y.e) <= y.m


# Square sums -------------------------------------------------------------------------------------

cdef inline SquareSum total(const SquareSum* x, Py_ssize_t n, Py_ssize_t stride) noexcept:
    """Add n sums, so many bytes apart, in order."""
    cdef double value = 0
    cdef int shifted = 0
    cdef Py_ssize_t i
    for i in range(n):
        value += at(x, i * stride).value
        shifted |= at(x, i * stride).shift
    return shifted_total(x, n, stride) if shifted else SquareSum(value, 0)


cdef SquareSum shifted_total(const SquareSum* x, Py_ssize_t n, Py_ssize_t stride) noexcept:
    """Add those of each shift on their own; those far below the largest do not count."""
    cdef double[3] parts = [0, 0, 0]
    cdef Py_ssize_t i
    cdef int shift
    for i in range(n):
        parts[at(x, i * stride).shift + 1] += at(x, i * stride).value
    for shift in range(1, -1, -1):
        if parts[shift + 1] != 0:       # also a NaN
            return SquareSum(parts[shift + 1] + ldexp(parts[shift], -2 * SHIFT), shift)
    return SquareSum(parts[0], -1)


cdef inline const SquareSum* at(const SquareSum* x, Py_ssize_t offset) noexcept:
    return <const SquareSum*>(<const char*>x + offset)


cdef inline double norm_of(SquareSum x, double size) noexcept:
    """Return the norm of what is multiplied with `size`; infinite beyond double."""
    if x.shift == 0 and LOW < size < HIGH:
        return sqrt(x.value) * size
    return plain(times(root(x), scaled(size)))


cdef inline Scaled root(SquareSum x) noexcept:
    return scaled(sqrt(x.value), SHIFT * x.shift)


cdef inline SquareSum tensor_sum(const Plan* plan, const Tensor* t, int which) noexcept:
    """Add one of the two sums of a tensor's chunks."""
    return total(&plan.partial[2 * t.first + which], (t.extent + CHUNK - 1) // CHUNK,
                 2 * sizeof(SquareSum))


# Gradients ---------------------------------------------------------------------------------------

cdef double set_norms(Plan* plan, double scale) noexcept:
    """Set the square sum of each tensor's gradient and of all; return the norm of all, scaled."""
    cdef Tensor* t
    cdef Py_ssize_t i
    for i in range(plan.n_tensors):
        t = &plan.tensors[i]
        t.square = tensor_sum(plan, t, 0) if t.data[GRADIENT] != NULL else SquareSum(0, 0)
    plan.square = total(&plan.tensors[0].square, plan.n_tensors, sizeof(Tensor))
    return norm_of(plan.square, fabs(scale))


cdef void set_scales(Plan* plan, double scale, double clip_norm,
                     double clip_norm_per_tensor) noexcept:
    """Set what multiplies each tensor's gradient, which brings the norms within their limits."""
    cdef bint clips = clip_norm < INFINITY or clip_norm_per_tensor < INFINITY
    cdef bint ordinary = (LOW < fabs(scale) < HIGH and LOW < clip_norm
                          and LOW < clip_norm_per_tensor and plan.square.shift == 0)
    cdef double size = fabs(scale), clip = 1, own
    cdef Scaled s
    cdef Tensor* t
    cdef Py_ssize_t i
    if not clips and scale == plan.uniform:
        return
    plan.uniform = NAN if clips else scale
    if clips and ordinary:
        clip = clipping(sqrt(plan.square.value) * size, clip_norm)
    for i in range(plan.n_tensors):
        t = &plan.tensors[i]
        t.scale[0] = t.sign * scale
        if clips and ordinary:
            own = 1
            if clip_norm_per_tensor < INFINITY:
                own = clipping(sqrt(t.square.value) * size, clip_norm_per_tensor)
            t.scale[0] *= clip * own
        t.rescaled = not fits(t, t.scale[0])
        if t.rescaled or clips and not (ordinary and t.square.shift == 0):
            s = times(scaled(t.sign * scale), times(
                scaled_clipping(plan.square, size, clip_norm),
                scaled_clipping(t.square, size, clip_norm_per_tensor)))
            t.scale[0] = plain(s)
            t.rescaled = not fits(t, t.scale[0])
            if t.rescaled:
                halve(s, t.scale)
        t.factors.scale = t.scale[0]


cdef double loaded_norm(const Plan* plan, const Tensor* t) noexcept:
    """Return the norm of a tensor's gradient after all clipping, from the sums of its chunks."""
    return norm_of(tensor_sum(plan, t, 0),
                   1 if plan.limited or t.rescaled else fabs(t.factors.scale))


cdef double product_of(const Plan* plan, const Tensor* t) noexcept:
    """Return the product of a tensor's gradient after all clipping and its velocity."""
    return (tensor_sum(plan, t, 1).value
            * (1 if plan.limited or t.rescaled else t.factors.scale))


cdef inline double clipping(double norm, double limit) noexcept:
    """Return what brings a norm down to the limit, if it is above; a NaN stays a NaN."""
    return 1 if limit == INFINITY or norm <= limit else limit / norm


cdef Scaled scaled_clipping(SquareSum square, double size, double limit) noexcept:
    """Return the same for a norm, of gradients to be multiplied with `size`, of any magnitude."""
    cdef Scaled norm
    if limit == INFINITY:
        return scaled(1)
    norm = times(root(square), scaled(size))
    return scaled(1) if at_most(norm, scaled(limit)) else over(scaled(limit), norm)


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
