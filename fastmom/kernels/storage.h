/* Formats that state is kept in and that nothing computes with: each is converted from and to float,
   rounded to nearest, ties to even, or dithered: up or down, by noise of 32 bits below what stays.
   Without branches, so that loops over them vectorise; the numbers below the smallest normal one
   stay in float16, whether or not floats are flushed. */
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
        uint32_t u = fm_bits(x);
        bits = upper(u, 0x7fff + (u >> 16 & 1));
    }

    static bfloat16 dithered(float x, uint32_t noise) {
        bfloat16 result;
        result.bits = upper(fm_bits(x), noise >> 16);
        return result;
    }

    /* The upper half of u + part, and of a NaN its own made quiet. By a mask: a choice would be made
       after the shift, in vectors of 16 bits, whose loops read less far ahead. */
    static uint16_t upper(uint32_t u, uint32_t part) {
        uint32_t nan = (uint32_t)((int32_t)(0x7f800000 - (u & 0x7fffffff)) >> 31);
        return (uint16_t)((u + (part & ~nan) | (nan & 0x400000)) >> 16);
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

    static float16 dithered(float x, uint32_t noise) {
        uint32_t u = fm_bits(x), sign = u >> 16 & 0x8000, size = u & 0x7fffffff;
        uint32_t special = size > 0x7f800000 ? 0x7e00 : 0x7c00;
        /* below 2^-14 in units of 2^-24; exact, and the sum is off by 2^-14 of one at most */
        float part = (float)(int32_t)(noise >> 19) * 0x1p-13f;
        float units = fm_float(size < (113u << 23) ? size : 0) * 0x1p24f;
        uint32_t small = (uint32_t)(int32_t)(units + part);
        uint32_t normal = (size - (112u << 23) + (noise >> 19)) >> 13;
        uint32_t held = size < (113u << 23) ? small : normal;
        float16 result;
        result.bits = (uint16_t)(sign | (size >= (143u << 23) ? special : held));
        return result;
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
