/* Formats that state is kept in and that nothing computes with: each is converted from and to float,
   rounded to nearest, ties to even. Without branches, so that loops over them vectorise; the numbers
   below the smallest normal one stay in float16, whether or not floats are flushed. */
#ifndef FASTMOM_STORAGE_H
#define FASTMOM_STORAGE_H

#include <stdint.h>
#include <string.h>

static inline uint32_t fm_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float fm_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

struct bfloat16 { /* the upper half of a float */
    uint16_t bits;

    bfloat16() = default;

    explicit bfloat16(float x) {
        uint32_t u = fm_bits(x), rounded = u + 0x7fff + (u >> 16 & 1), nan = u | 0x400000;
        bits = (uint16_t)(((u & 0x7fffffff) > 0x7f800000 ? nan : rounded) >> 16);
    }

    operator float() const { return fm_float((uint32_t)bits << 16); }
};

struct float16 { /* IEEE 754 binary16 */
    uint16_t bits;

    float16() = default;

    explicit float16(float x) {
        uint32_t u = fm_bits(x), sign = u >> 16 & 0x8000, size = u & 0x7fffffff;
        uint32_t special = size > 0x7f800000 ? 0x7e00 : 0x7c00;     /* NaN; beyond the largest */
        /* below 2^-14 the last place is 2^-24, as that of a float from 0.5 on: adding 0.5 rounds */
        uint32_t small = fm_bits(fm_float(size) + 0.5f) - fm_bits(0.5f);
        uint32_t normal = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
        uint32_t held = size < (113u << 23) ? small : normal;
        bits = (uint16_t)(sign | (size >= (143u << 23) ? special : held));
    }

    operator float() const {
        uint32_t size = (uint32_t)(bits & 0x7fff) << 13, exponent = size & (0x1fu << 23);
        uint32_t normal = size + (112u << 23);
        uint32_t special = size + (224u << 23);
        uint32_t small = fm_bits(fm_float(size + (113u << 23)) - fm_float(113u << 23));
        uint32_t held = exponent == 0 ? small : normal;
        return fm_float((uint32_t)(bits & 0x8000) << 16
                        | (exponent == (0x1fu << 23) ? special : held));
    }
};

#endif
