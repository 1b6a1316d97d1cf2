"""The factors of each tensor's gradient and direction, between the sweeps of a step."""

from fastmom.kernels.sweep cimport Plan, Row, Tensor

cdef bint has_direction(const Plan* plan, const Row* row) noexcept
cdef double set_norms(Plan* plan, double scale) noexcept
cdef void set_scales(Plan* plan, double scale, double clip_norm,
                     double clip_norm_per_tensor) noexcept
cdef double loaded_norm(const Plan* plan, const Tensor* t) noexcept
cdef double product_of(const Plan* plan, const Tensor* t) noexcept
cdef void set_trust(Plan* plan) noexcept
