/* Formats that arrays are kept in and that nothing computes with, converted from and to float a piece
 * at a time. Integers and ordinary arithmetic only: every build gives the same bits, whether or not
 * subnormals are flushed.
 *
 * A block format holds records of a scale and of BLOCK codes of one byte. The scale belongs to the
 * largest of the block, which keeps its full precision. A block with a NaN or an infinity becomes
 * NaN; one of numbers below TINY becomes 0.
 *
 * An encoding rounds to nearest or dithers: adds noise below the last bit that stays, so that the
 * mean over all noise is the number itself. The noise is key + i WEYL, uniform for each element over
 * all keys and evenly spread over the elements that share a key, which is another one at each step.
 */
#ifndef FASTMOM_FORMATS_H
#define FASTMOM_FORMATS_H

#include <stddef.h>

#include "storage.h"

namespace fm {
namespace {

const int BLOCK = 128, RECORD = 4 + BLOCK;
const float TINY = 3e-36f;
const uint32_t SIZE = 0x7FFFFFFF, INFINITE = 0x7F800000, NOT_A_NUMBER = 0x7FC00000;

const uint32_t WEYL = 0x9E3779B9;

/* Formats of an element: T converts from and to float ------------------------------------------ */

template <class T> void decode(float *out, const char *x, ptrdiff_t n) {
    const T *codes = (const T *)x;
    for (ptrdiff_t i = 0; i < n; i++)
        out[i] = (float)codes[i];
}

template <class T> void encode(char *out, const float *x, ptrdiff_t n, uint32_t) {
    T *codes = (T *)out;
    for (ptrdiff_t i = 0; i < n; i++)
        codes[i] = (T)x[i];
}

template <class T> void dither(char *out, const float *x, ptrdiff_t n, uint32_t key) {
    T *codes = (T *)out;
    for (ptrdiff_t i = 0; i < n; i++, key += WEYL)
        codes[i] = T::dithered(x[i], key);
}

/* Formats of a block: F reads a code, and writes or dithers one of a number of -TOP to TOP ------- */

struct Int8 {
    static float top() { return 127; }

    static float read(uint8_t code) { return (int8_t)code; }

    static uint8_t write(float x, uint32_t) {
        return (uint8_t)fm_bits(x + 12582912.0f);       /* 1.5 2^23: rounds to an integer */
    }

    static uint8_t dither(float x, uint32_t noise) {
        float part = (float)(int32_t)(noise >> 16) * 0x1p-16f;
        return write(x + (part - (0.5f - 0x1p-17f)), 0);    /* above -0.5 and below 0.5 */
    }
};

/* A sign, 4 bits of exponent and 3 of fraction: 127 stands for 1, 1 for 2^-15.75, 0 for 0. */
struct Float8 {
    static float top() { return 1; }

    static float read(uint8_t code) {
        uint32_t bits = (uint32_t)(int32_t)(int8_t)code << 20 & 0x87F00000;
        return fm_float(bits + (bits & SIZE ? ZEROTH : 0));
    }

    static uint8_t write(float x, uint32_t) {
        uint32_t bits = fm_bits(x);
        int32_t above = (int32_t)((bits & SIZE) + (bits >> 20 & 1) + (0x7FFFF - ZEROTH));
        return signed_code(above > 0 ? above : 0, bits);
    }

    static uint8_t dither(float x, uint32_t noise) {
        const int32_t largest = 127 * ONE;
        uint32_t bits = fm_bits(x), size = bits & SIZE;
        int32_t above = (int32_t)(size + (noise >> 12) - ZEROTH);
        float part = (float)(int32_t)(noise >> 8) * (fm_float(ZEROTH + ONE) * 0x1p-24f);
        int32_t small = fm_float(size) > part ? ONE : 0;
        above = above < largest ? above : largest;
        return signed_code(size < ZEROTH + ONE ? small : above, bits);
    }

  private:
    static const uint32_t ONE = 1u << 20, ZEROTH = 889u << 20;  /* a code; what 0 would stand for */

    static uint8_t signed_code(int32_t above, uint32_t bits) {
        return (uint8_t)(((uint32_t)above | (bits >> 4 & 128 * ONE)) >> 20);
    }
};

/* For means of squares, 5 bits of exponent and 3 of fraction: 255 stands for 1, 1 for 2^-31.75.
 * Above 0 nothing is rounded to 0, since it will divide. Always dithered: rounded to nearest, a mean
 * with beta = 0.999 would stand still. */
struct UFloat8 {
    static float top() { return 1; }

    static float read(uint8_t code) {
        return fm_float(code ? ((uint32_t)code + 761) << 20 : 0);
    }

    static uint8_t dither(float x, uint32_t noise) {
        uint32_t size = fm_bits(x) & SIZE;
        int32_t above = (int32_t)(size + (noise >> 12) - (761u << 20)), largest = 255 << 20;
        above = above < largest ? above : largest;
        above = above > 1 << 20 ? above : 1 << 20;
        return (uint8_t)((size ? (uint32_t)above : 0) >> 20);
    }
};

template <class F> inline void read_block(float *out, const char *record) {
    const uint8_t *codes = (const uint8_t *)record + 4;
    float scale;
    memcpy(&scale, record, 4);
    for (int i = 0; i < BLOCK; i++)
        out[i] = scale * F::read(codes[i]);
}

typedef uint8_t Write(float x, uint32_t noise);

template <class F, Write write> inline void write_block(char *record, const float *x, uint32_t key) {
    uint8_t *codes = (uint8_t *)record + 4;
    uint32_t largest = 0;       /* as bits, which integers can be compared as */
    for (int i = 0; i < BLOCK; i++) {
        uint32_t own = fm_bits(x[i]) & SIZE;
        largest = own > largest ? own : largest;
    }
    float size = fm_float(largest), scale = size < TINY ? 0 : size / F::top();
    float unit = size < TINY ? 0 : F::top() / size;
    scale = largest < INFINITE ? scale : fm_float(NOT_A_NUMBER);
    memcpy(record, &scale, 4);
    for (int i = 0; i < BLOCK; i++, key += WEYL)
        codes[i] = write(x[i] * unit, key);
}

template <class F> void decode_blocks(float *out, const char *x, ptrdiff_t n) {
    float last[BLOCK];
    for (; n >= BLOCK; n -= BLOCK, out += BLOCK, x += RECORD)
        read_block<F>(out, x);
    if (n > 0) {
        read_block<F>(last, x);
        memcpy(out, last, n * sizeof *out);
    }
}

template <class F, Write write>
void encode_blocks(char *out, const float *x, ptrdiff_t n, uint32_t key) {
    float last[BLOCK] = {};
    for (; n >= BLOCK; n -= BLOCK, x += BLOCK, out += RECORD, key += BLOCK * WEYL)
        write_block<F, write>(out, x, key);
    if (n > 0) {
        memcpy(last, x, n * sizeof *x);
        write_block<F, write>(out, last, key);
    }
}

}
}

#endif
