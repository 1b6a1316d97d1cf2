/* Those parts of the layers' loops that a compiler does not find by itself: sums that stay in registers, the
   packing of nonzeros, and an exponential that vectorises. */
#ifndef FASTMOM_LAYERS_H
#define FASTMOM_LAYERS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__)
#define FM_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define FM_UNROLL _Pragma("GCC unroll 8")
#else
#define FM_UNROLL
#endif

/* out[j] = sum over i of v[i] base[stride k[i] + j], j below width: the sums of eight vectors stay in
   registers while the rows pass by. Every element is summed in the same order, whatever the vectors'
   width, so that every build gives the same bits. */
#if defined(__GNUC__) || defined(__clang__)
#if defined(__AVX512F__)
#define FM_BYTES 64
#elif defined(__AVX__)
#define FM_BYTES 32
#else
#define FM_BYTES 16
#endif
typedef float fm_vector32 __attribute__((vector_size(FM_BYTES), aligned(4), may_alias));
typedef double fm_vector64 __attribute__((vector_size(FM_BYTES), aligned(8), may_alias));

#define FM_COMBINE_CASE(real, vector, vectors)                                                      \
    case vectors: {                                                                                 \
        vector a[vectors] = {0};                                                                    \
        for (ptrdiff_t i = 0; i < count; i++) {                                                     \
            const real *b = base + stride * k[i] + j;                                               \
            FM_UNROLL for (int t = 0; t < vectors - 1; t++)                                         \
                a[t] += v[i] * *(const vector *)(b + t * lanes);                                    \
            a[vectors - 1] += v[i] * *(const vector *)(b + last);                                   \
        }                                                                                           \
        FM_UNROLL for (int t = 0; t < vectors - 1; t++) *(vector *)(out + j + t * lanes) = a[t];    \
        *(vector *)(out + j + last) = a[vectors - 1];                                               \
        break;                                                                                      \
    }
#define FM_COMBINE_BLOCKS(real, vector)                                                             \
    const ptrdiff_t lanes = sizeof(vector) / sizeof(real);                                          \
    for (ptrdiff_t n; width >= lanes && j < width; j += n) {                                        \
        n = width - j < 8 * lanes ? width - j : 8 * lanes;                                          \
        const ptrdiff_t last = n - lanes; /* it may overlap the vector before */                    \
        switch ((n + lanes - 1) / lanes) {                                                          \
            FM_COMBINE_CASE(real, vector, 1)                                                        \
            FM_COMBINE_CASE(real, vector, 2)                                                        \
            FM_COMBINE_CASE(real, vector, 3)                                                        \
            FM_COMBINE_CASE(real, vector, 4)                                                        \
            FM_COMBINE_CASE(real, vector, 5)                                                        \
            FM_COMBINE_CASE(real, vector, 6)                                                        \
            FM_COMBINE_CASE(real, vector, 7)                                                        \
            FM_COMBINE_CASE(real, vector, 8)                                                        \
        }                                                                                           \
    }
#else
#define FM_COMBINE_BLOCKS(real, vector)
#endif

#define FM_COMBINE(name, real, vector)                                                              \
    static inline void name(real *out, const real *base, ptrdiff_t stride, const real *v,           \
                            const int *k, ptrdiff_t count, ptrdiff_t width) {                       \
        ptrdiff_t j = 0;                                                                            \
        FM_COMBINE_BLOCKS(real, vector)                                                             \
        for (; j < width; j++) {                                                                    \
            real a = 0;                                                                             \
            for (ptrdiff_t i = 0; i < count; i++) a += v[i] * base[stride * k[i] + j];              \
            out[j] = a;                                                                             \
        }                                                                                           \
    }
FM_COMBINE(fm_combine32, float, fm_vector32)
FM_COMBINE(fm_combine64, double, fm_vector64)

/* The nonzeros of a row, times a scale, and their places: from one type to another. Writes up to 16
   entries past the last. */
#define FM_NONZEROS(from, to, blocks)                                                               \
    (const char *source, ptrdiff_t n, double factor, char *values, int *k) {                        \
        const from *x = (const from *)source;                                                       \
        const to scale = (to)factor;                                                                \
        to *v = (to *)values;                                                                       \
        ptrdiff_t c = 0, i = 0;                                                                     \
        blocks                                                                                      \
        for (; i < n; c += x[i] != 0, i++) /* no branch to mispredict */                            \
            v[c] = scale * (to)x[i], k[c] = (int)i;                                                 \
        return c;                                                                                   \
    }
#if defined(__AVX512F__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#define FM_PACK_16(read)                                                                            \
    __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);        \
    for (; i + 16 <= n; i += 16) {                                                                  \
        __m512 a = read;                                                                            \
        __mmask16 m = _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ);                      \
        a = _mm512_mul_ps(a, _mm512_set1_ps(scale));                                                \
        _mm512_storeu_ps(v + c, _mm512_maskz_compress_ps(m, a));                                    \
        _mm512_storeu_si512(k + c, _mm512_maskz_compress_epi32(m, place));                          \
        place = _mm512_add_epi32(place, _mm512_set1_epi32(16));                                     \
        c += __builtin_popcount(m);                                                                 \
    }
#define FM_PACK_FLOATS FM_PACK_16(_mm512_loadu_ps(x + i))
#define FM_PACK_BYTES FM_PACK_16(                                                                   \
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(x + i)))))
#else
#define FM_PACK_FLOATS
#define FM_PACK_BYTES
#endif
static inline ptrdiff_t fm_nonzeros_32_32 FM_NONZEROS(float, float, FM_PACK_FLOATS)
static inline ptrdiff_t fm_nonzeros_8_32 FM_NONZEROS(unsigned char, float, FM_PACK_BYTES)
static inline ptrdiff_t fm_nonzeros_64_32 FM_NONZEROS(double, float, )
static inline ptrdiff_t fm_nonzeros_8_64 FM_NONZEROS(unsigned char, double, )
static inline ptrdiff_t fm_nonzeros_32_64 FM_NONZEROS(float, double, )
static inline ptrdiff_t fm_nonzeros_64_64 FM_NONZEROS(double, double, )

/* Into the first cache or the second, if the compiler knows how. */
#if defined(__GNUC__) || defined(__clang__)
static inline void fm_prefetch(const char *p) { __builtin_prefetch(p, 0, 3); }
static inline void fm_prefetch_near(const char *p) { __builtin_prefetch(p, 0, 2); }
#else
static inline void fm_prefetch(const char *p) { (void)p; }
static inline void fm_prefetch_near(const char *p) { (void)p; }
#endif

/* e^x for x <= 0: 2^n e^r with |r| <= ln 2 / 2 and Taylor's polynomial of degree 7, whose remainder of
   5e-9 is below half an ulp; e^-87 for what is below. Within 1 ulp; the same bits in every build. */
static inline float fm_exp32(float x) {
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float n, r, p;
    uint32_t bits; /* of the sum: the integer is in the lowest */
    x = x < -87.0f ? -87.0f : x;
    n = x * 1.44269504f + shift;
    memcpy(&bits, &n, sizeof bits);
    n = n - shift;
    r = x - n * 0.693359375f; /* ln 2 in two parts, the first exact in n's range */
    r = r + n * 2.12194440e-4f;
    p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    bits = (bits + 127u) << 23;
    memcpy(&n, &bits, sizeof n);
    return p * n;
}

/* 64-bit lanes and the products of their lower halves. A compiler that is not told takes them for
   products of 64 bits, which take three times as long. */
#if (defined(__GNUC__) || defined(__clang__)) && defined(__AVX512F__)
typedef uint64_t fm_words __attribute__((vector_size(64)));
#define FM_HALVES(a, b) (fm_words) _mm512_mul_epu32((__m512i)(a), _mm512_set1_epi64(b))
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__AVX2__)
#include <immintrin.h>
typedef uint64_t fm_words __attribute__((vector_size(32)));
#define FM_HALVES(a, b) (fm_words) _mm256_mul_epu32((__m256i)(a), _mm256_set1_epi64x(b))
#else
typedef uint64_t fm_words;
#define FM_HALVES(a, b) (((a) & 0xFFFFFFFFu) * (b))
#endif

/* Philox4x32-10 of sixteen counters (first + lane, 0, step): 64 random words, four a lane. Salmon,
   Moraes, Dror and Shaw 2011: no state but the counter, so any batch can be drawn again. What is in
   the upper halves between the turns does not matter. */
static inline void fm_philox(uint32_t first, uint64_t step, uint64_t key, uint32_t *out) {
    enum { LANES = sizeof(fm_words) / sizeof(uint64_t), VECTORS = 16 / LANES };
    uint64_t counters[16], words[64];
    const fm_words none = {0};
    fm_words a[VECTORS], b[VECTORS], c[VECTORS], d[VECTORS];
    uint64_t k0 = (uint32_t)key, k1 = key >> 32;
    for (int i = 0; i < 16; i++) counters[i] = (uint32_t)(first + (uint32_t)i);
    FM_UNROLL for (int i = 0; i < (int)VECTORS; i++) {
        memcpy(&a[i], counters + i * LANES, sizeof(fm_words));
        b[i] = none, c[i] = none + (uint64_t)(uint32_t)step, d[i] = none + (step >> 32);
    }
    for (int turn = 0; turn < 10; turn++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        FM_UNROLL for (int i = 0; i < (int)VECTORS; i++) {
            const fm_words p = FM_HALVES(a[i], 0xD2511F53u), q = FM_HALVES(c[i], 0xCD9E8D57u);
            a[i] = (q >> 32) ^ b[i] ^ k0, b[i] = q;
            c[i] = (p >> 32) ^ d[i] ^ k1, d[i] = p;
        }
    FM_UNROLL for (int i = 0; i < (int)VECTORS; i++) {
        memcpy(words + i * LANES, &a[i], sizeof(fm_words));
        memcpy(words + 16 + i * LANES, &b[i], sizeof(fm_words));
        memcpy(words + 32 + i * LANES, &c[i], sizeof(fm_words));
        memcpy(words + 48 + i * LANES, &d[i], sizeof(fm_words));
    }
    for (int i = 0; i < 64; i++) out[i] = (uint32_t)words[i];
}

#endif
