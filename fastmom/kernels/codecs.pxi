# The formats' loops, in the order of Format.

from fastmom.kernels.codecs cimport Codec, Decode, Encode

cdef extern from "formats.h" namespace "fm" nogil:
    Decode decode_bfloat16 "fm::decode<bfloat16>"
    Encode encode_bfloat16 "fm::encode<bfloat16>"
    Decode decode_float16 "fm::decode<float16>"
    Encode encode_float16 "fm::encode<float16>"
    Decode decode_int8 "fm::decode_blocks<fm::Int8>"
    Encode encode_int8 "fm::encode_blocks<fm::Int8>"
    Decode decode_float8 "fm::decode_blocks<fm::Float8>"
    Encode encode_float8 "fm::encode_blocks<fm::Float8>"
    Decode decode_ufloat8 "fm::decode_blocks<fm::UFloat8>"
    Encode encode_ufloat8 "fm::encode_blocks<fm::UFloat8>"

_table.codecs = [
    Codec(NULL, NULL, 0, 0),
    Codec(decode_bfloat16, encode_bfloat16, 2, 0),
    Codec(decode_float16, encode_float16, 2, 0),
    Codec(decode_int8, encode_int8, 132, 7),
    Codec(decode_float8, encode_float8, 132, 7),
    Codec(decode_ufloat8, encode_ufloat8, 132, 7),
]
