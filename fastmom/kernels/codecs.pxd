"""Number formats of arrays whose parameters are float32: loops to and from float, one row each."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum Format:
    NATIVE                  # the loops of rules take the array as it is
    BFLOAT16
    FLOAT16
    INT8                    # in blocks, as are those below
    FLOAT8
    UFLOAT8
    N_FORMATS

ctypedef void (*Decode)(float* out, const char* x, Py_ssize_t n) noexcept nogil
ctypedef void (*Encode)(char* out, const float* x, Py_ssize_t n, uint32_t key) noexcept nogil

cdef struct Codec:
    Decode decode
    Encode encode           # rounds to nearest, or dithers where nothing else will do
    Encode dither           # rounds up or down by noise that depends on the key
    int item                # bytes of each 2^shift numbers
    int shift

cdef enum:
    KEYED = 512             # elements that have one key, whatever pieces they are encoded in

cdef inline uint32_t drawn(uint64_t step, uint64_t tensor, uint64_t array,
                           uint64_t start) noexcept nogil:
    """Return the noise of one element, from which that of the following ones goes on by WEYL.

    A key is by the output function of Steele et al.'s SplitMix.
    """
    cdef uint64_t z = (step << 32) + (tensor << 3) + array, past = start % KEYED
    z = (z ^ ((start - past) * <uint64_t>0xD1342543DE82EF95)) + <uint64_t>0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return <uint32_t>((z ^ (z >> 31)) >> 32) + <uint32_t>(past * <uint64_t>0x9E3779B9)
