# The formats' loops, in the order of Format.

from fastmom.kernels.codecs cimport Codec, Decode, Encode

cdef extern from "formats.h" namespace "fm" nogil:
    Decode decode_bfloat16 "fm::decode<bfloat16>"
    Encode encode_bfloat16 "fm::encode<bfloat16>"
    Encode dither_bfloat16 "fm::dither<bfloat16>"
    Decode decode_float16 "fm::decode<float16>"
    Encode encode_float16 "fm::encode<float16>"
    Encode dither_float16 "fm::dither<float16>"
    Decode decode_int8 "fm::decode_blocks<fm::Int8>"
    Encode encode_int8 "fm::encode_blocks<fm::Int8, fm::Int8::write>"
    Encode dither_int8 "fm::encode_blocks<fm::Int8, fm::Int8::dither>"
    Decode decode_float8 "fm::decode_blocks<fm::Float8>"
    Encode encode_float8 "fm::encode_blocks<fm::Float8, fm::Float8::write>"
    Encode dither_float8 "fm::encode_blocks<fm::Float8, fm::Float8::dither>"
    Decode decode_ufloat8 "fm::decode_blocks<fm::UFloat8>"
    Encode dither_ufloat8 "fm::encode_blocks<fm::UFloat8, fm::UFloat8::dither>"

_table.codecs = [
    Codec(NULL, NULL, NULL, 0, 0),
    Codec(decode_bfloat16, encode_bfloat16, dither_bfloat16, 2, 0),
    Codec(decode_float16, encode_float16, dither_float16, 2, 0),
    Codec(decode_int8, encode_int8, dither_int8, 132, 7),
    Codec(decode_float8, encode_float8, dither_float8, 132, 7),
    Codec(decode_ufloat8, dither_ufloat8, dither_ufloat8, 132, 7),
]
