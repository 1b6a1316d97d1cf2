# The update rules: one plain loop each, compiled for every form and once per instruction set.
#
# Design. The loops hold no branch and no bare number: the optimizer class folds the conventions of
# a method into coefficients, and a literal would widen float arithmetic to double. f.scale
# multiplies the gradient: clipping by norm, unscaling, maximizing. The compiler vectorises loops;
# contraction into fused multiply-adds is off (setup.py), so every instruction set, chunk position
# and thread count gives the same bits.
#
# A rule is a struct that names its coefficients, a loop, and the call of `register` that makes both
# known under a name; the optimizer class names the same coefficients (fastmom/kernels/rows.py).

from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport sqrt, sqrtf
from libc.stdlib cimport realloc
from fastmom.kernels.rules cimport (LANES, MAX_COEFFICIENTS, N_FORMS, Add, AddProducts, Direction, Factors,
                                    Load, Rule, Stages, Subtract, Sum, Table, TrustRatio, Update)

cdef extern from "storage.h":
    cdef cppclass bfloat16:
        pass
    cdef cppclass float16:
        pass

ctypedef fused stored:      # of state; parameters, gradients and averages are real
    float
    double
    bfloat16
    float16

cdef Table _table
cdef double[MAX_COEFFICIENTS] NOTHING   # a struct lies over it where only its names are wanted

rules = {}                  # the names of each rule's coefficients, in the table's order


cdef int register(str name, dict coefficients, str state, Update* loops,
                  Direction* directions=NULL) except -1:
    """Append a rule to the table: a loop per form, and a direction if it has a trust ratio.

    `state` has a letter for each array of state that it uses: s if that is `stored`, p if it is
    precise, of the parameters' type in all forms.
    """
    names = []
    for key, value in coefficients.items():     # in the order of the struct
        names += [f"{key}{i}" for i in range(len(value))] if isinstance(value, list) else [key]
    assert len(names) <= MAX_COEFFICIENTS, f"{name} has more than {MAX_COEFFICIENTS} coefficients"
    cdef Rule* rules_ = <Rule*>realloc(_table.rules, (_table.n_rules + 1) * sizeof(Rule))
    if rules_ == NULL:
        raise MemoryError()
    cdef Rule* rule = &rules_[_table.n_rules]
    cdef int form
    for form in range(<int>N_FORMS):
        rule.loop[form] = loops[form]
        rule.direction[form] = NULL
        if directions != NULL:
            rule.direction[form] = directions[form]
    rule.n_coefficients = len(names)
    rule.stored = sum([1 << j for j, letter in enumerate(state) if letter == "s"])
    rule.precise = sum([1 << j for j, letter in enumerate(state) if letter == "p"])
    _table.rules = rules_
    _table.n_rules += 1
    rules[name] = tuple(names)
    return 0


cdef inline real root(real x) noexcept nogil:
    return sqrtf(x) if real is float else sqrt(x)


cdef inline real positive(real x) noexcept nogil:
    # for a coefficient that must not be flushed to 0: at least the smallest normal number
    cdef real smallest = <real>FLT_MIN if real is float else <real>DBL_MIN
    return x if x > smallest else smallest


include "rules_momentum.pxi"
include "rules_adaptive.pxi"
include "rules_variants.pxi"
include "stages.pxi"
include "codecs.pxi"
