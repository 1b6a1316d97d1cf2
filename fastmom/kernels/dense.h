/* Dense products of matrices that fit a core's caches, as a layer's do: c = a b.

   Rows of a by two vectors of columns are summed in registers while b passes by. Few rows read it where
   it lies, but for transposed weights and columns that do not fill a vector; for many rows a panel of it
   is copied, in which vectors are aligned. BLAS copies both factors first, which pays where they are
   larger than this. Without that copy one core of a Zen 4 reached in GFLOP/s, for [32 784] [784 128], the
   gradient of these weights, [128 784] [784 512] and its: this 113, 106, 114, 110; OpenBLAS 0.3.30 86, 91,
   101, 101; SciPy's 71, 86, 97, 101; the package blis 32, 30, 34, 36 (it knows no Zen 4); the bound is 118.

   Every element is summed from the first to the last product, so that no partition into rows and no
   width of vectors changes its bits. They are those of fused multiply-adds; a build without them goes to
   NumPy, whose bits may be others. */
#ifndef FASTMOM_DENSE_H
#define FASTMOM_DENSE_H

#include "layers.h"

#if (defined(__GNUC__) || defined(__clang__)) && defined(__AVX512F__)
#define FM_TILE_ROWS 8 /* by two vectors: half of 32 registers hides the latency of a sum */
#define FM_FMA32(a, b, c) (fm_vector32) _mm512_fmadd_ps(_mm512_set1_ps(a), (__m512)(b), (__m512)(c))
#define FM_FMA64(a, b, c) (fm_vector64) _mm512_fmadd_pd(_mm512_set1_pd(a), (__m512d)(b), (__m512d)(c))
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__FMA__)
#include <immintrin.h>
#define FM_TILE_ROWS 4 /* of 16 registers; with 6 compilers spill */
#define FM_FMA32(a, b, c) (fm_vector32) _mm256_fmadd_ps(_mm256_set1_ps(a), (__m256)(b), (__m256)(c))
#define FM_FMA64(a, b, c) (fm_vector64) _mm256_fmadd_pd(_mm256_set1_pd(a), (__m256d)(b), (__m256d)(c))
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__)
#include <arm_neon.h>
#define FM_TILE_ROWS 8
#define FM_FMA32(a, b, c) (fm_vector32) vfmaq_n_f32((float32x4_t)(c), (float32x4_t)(b), a)
#define FM_FMA64(a, b, c) (fm_vector64) vfmaq_n_f64((float64x2_t)(c), (float64x2_t)(b), a)
#endif

#ifdef FM_TILE_ROWS
enum { FM_OWN_PRODUCTS = 1 };

/* The largest part of b at a time: as wide as a tile, and so deep that it stays in the cache. */
enum { FM_WIDE = 2 * FM_BYTES, FM_DEEP = 512 };

/* Rows of b that are asked for before their turn: they come from the second cache, and the hardware guesses
   little of two vectors in each row. */
enum { FM_AHEAD = 8 };

/* From so many rows of a on, b is copied: its vectors then lie aligned, and in all sets of the cache. */
enum { FM_OFTEN = 8 * FM_TILE_ROWS };

#ifdef __clang__
#define FM_SHUFFLE(bits, a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define FM_SHUFFLE(bits, a, b, i, j, k, l) __builtin_shuffle(a, b, (fm_four_int##bits){i, j, k, l})
#endif
typedef float fm_four32 __attribute__((vector_size(16), aligned(4), may_alias));
typedef double fm_four64 __attribute__((vector_size(32), aligned(8), may_alias));
typedef int32_t fm_four_int32 __attribute__((vector_size(16)));
typedef int64_t fm_four_int64 __attribute__((vector_size(32)));

/* One tile of c: `rows` by `vectors`, summed over the depth (at least 1), on top of c with `add`. */
#define FM_TILE(name, real, vector, FMA, rows, vectors)                                             \
    static void name##_##rows##_##vectors(ptrdiff_t depth, const real *a, ptrdiff_t a_row,          \
                                          ptrdiff_t a_column, const real *b, ptrdiff_t b_row,       \
                                          real *c, ptrdiff_t c_row, int add) {                      \
        enum { LANES = sizeof(vector) / sizeof(real) };                                             \
        vector s[rows][vectors], v[vectors];                                                        \
        FM_UNROLL for (int i = 0; i < rows; i++)                                                    \
            FM_UNROLL for (int j = 0; j < vectors; j++)                                             \
                s[i][j] = add ? *(const vector *)(c + i * c_row + j * LANES) : (vector){0};         \
        do {                                                                                        \
            FM_UNROLL for (int j = 0; j < vectors; j++) v[j] = *(const vector *)(b + j * LANES);    \
            FM_UNROLL for (int j = 0; j < vectors; j++)                                             \
                fm_prefetch((const char *)(b + FM_AHEAD * b_row + j * LANES));                      \
            FM_UNROLL for (int i = 0; i < rows; i++)                                                \
                FM_UNROLL for (int j = 0; j < vectors; j++)                                         \
                    s[i][j] = FMA(a[i * a_row], v[j], s[i][j]);                                     \
            a += a_column, b += b_row;                                                              \
        } while (--depth > 0);                                                                      \
        FM_UNROLL for (int i = 0; i < rows; i++)                                                    \
            FM_UNROLL for (int j = 0; j < vectors; j++)                                             \
                *(vector *)(c + i * c_row + j * LANES) = s[i][j];                                   \
    }
#define FM_TILE_PAIR(name, real, vector, FMA, rows)                                                 \
    FM_TILE(name, real, vector, FMA, rows, 1)                                                       \
    FM_TILE(name, real, vector, FMA, rows, 2)
#define FM_NAMES(name, rows) {name##_##rows##_1, name##_##rows##_2}
#if FM_TILE_ROWS == 8
#define FM_TALLER(name, real, vector, FMA)                                                          \
    FM_TILE_PAIR(name, real, vector, FMA, 5)                                                        \
    FM_TILE_PAIR(name, real, vector, FMA, 6)                                                        \
    FM_TILE_PAIR(name, real, vector, FMA, 7)                                                        \
    FM_TILE_PAIR(name, real, vector, FMA, 8)
#define FM_TALLER_NAMES(name) , FM_NAMES(name, 5), FM_NAMES(name, 6), FM_NAMES(name, 7), FM_NAMES(name, 8)
#else
#define FM_TALLER(name, real, vector, FMA)
#define FM_TALLER_NAMES(name)
#endif
#define FM_TILES(name, real, vector, FMA)                                                           \
    typedef void (*name)(ptrdiff_t, const real *, ptrdiff_t, ptrdiff_t, const real *, ptrdiff_t,    \
                         real *, ptrdiff_t, int);                                                   \
    FM_TILE_PAIR(name, real, vector, FMA, 1)                                                        \
    FM_TILE_PAIR(name, real, vector, FMA, 2)                                                        \
    FM_TILE_PAIR(name, real, vector, FMA, 3)                                                        \
    FM_TILE_PAIR(name, real, vector, FMA, 4)                                                        \
    FM_TALLER(name, real, vector, FMA)                                                              \
    static const name name##_table[FM_TILE_ROWS][2] = {                                             \
        FM_NAMES(name, 1), FM_NAMES(name, 2), FM_NAMES(name, 3),                                    \
        FM_NAMES(name, 4) FM_TALLER_NAMES(name)};
FM_TILES(fm_tile32, float, fm_vector32, FM_FMA32)
FM_TILES(fm_tile64, double, fm_vector64, FM_FMA64)

/* Copy some rows and columns of b to rows of `room`, the rest of them anything. `left` elements may
   be read from the first one on. */
#define FM_PACK(name, real, vector, four, bits)                                                     \
    static void name(real *out, ptrdiff_t room, const real *b, ptrdiff_t b_row, ptrdiff_t b_column, \
                     ptrdiff_t depth, ptrdiff_t columns, ptrdiff_t left) {                          \
        enum { LANES = sizeof(vector) / sizeof(real) };                                             \
        ptrdiff_t k = 0, fours = b_row == 1 ? columns / 4 * 4 : 0;                                  \
        if (b_column == 1)                                                                          \
            for (; k < depth && k * b_row + room <= left; k++) { /* two vectors, or twice the same */\
                const vector x0 = *(const vector *)(b + k * b_row);                                 \
                const vector x1 = *(const vector *)(b + k * b_row + room - LANES);                  \
                *(vector *)(out + k * room) = x0;                                                   \
                *(vector *)(out + k * room + room - LANES) = x1;                                    \
            }                                                                                       \
        for (ptrdiff_t first = k; k < depth; k++)                                                   \
            for (ptrdiff_t j = (k - first) / 4 * 4 + 4 <= depth - first ? fours : 0; j < room; j++) \
                out[k * room + j] = j < columns ? b[k * b_row + j * b_column] : 0;                  \
        for (ptrdiff_t j = 0; j < fours; j += 4)                                                    \
            for (k = 0; k + 4 <= depth; k += 4) {                                                   \
                const real *from = b + j * b_column + k;                                            \
                four x0 = *(const four *)from, x1 = *(const four *)(from + b_column);               \
                four x2 = *(const four *)(from + 2 * b_column);                                     \
                four x3 = *(const four *)(from + 3 * b_column);                                     \
                four y0 = FM_SHUFFLE(bits, x0, x1, 0, 4, 1, 5), y1 = FM_SHUFFLE(bits, x0, x1, 2, 6, 3, 7); \
                four y2 = FM_SHUFFLE(bits, x2, x3, 0, 4, 1, 5), y3 = FM_SHUFFLE(bits, x2, x3, 2, 6, 3, 7); \
                real *to = out + k * room + j;                                                      \
                *(four *)to = FM_SHUFFLE(bits, y0, y2, 0, 1, 4, 5);                                 \
                *(four *)(to + room) = FM_SHUFFLE(bits, y0, y2, 2, 3, 6, 7);                        \
                *(four *)(to + 2 * room) = FM_SHUFFLE(bits, y1, y3, 0, 1, 4, 5);                    \
                *(four *)(to + 3 * room) = FM_SHUFFLE(bits, y1, y3, 2, 3, 6, 7);                    \
            }                                                                                       \
    }
FM_PACK(fm_pack_panel32, float, fm_vector32, fm_four32, 32)
FM_PACK(fm_pack_panel64, double, fm_vector64, fm_four64, 64)

/* Copy n elements, fewer than a tile is wide: by fours, the last of which may overlap the one before. */
#define FM_COPY(name, real, four)                                                                   \
    static inline void name(real *to, const real *from, ptrdiff_t n) {                              \
        ptrdiff_t j = 0;                                                                            \
        for (; n >= 4 && j < n; j += 4) {                                                           \
            const ptrdiff_t place = j < n - 4 ? j : n - 4;                                          \
            *(four *)(to + place) = *(const four *)(from + place);                                  \
        }                                                                                           \
        for (; j < n; j++) to[j] = from[j];                                                         \
    }
FM_COPY(fm_copy32, float, fm_four32)
FM_COPY(fm_copy64, double, fm_four64)

/* c = a b for `rows` by `depth` and `depth` by `columns`, all strides in elements; rows of c lie
   contiguous, as do those of b or its columns. */
#define FM_MULTIPLY(name, real, tile, pack, copy)                                                   \
    static void name(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const real *a,             \
                     ptrdiff_t a_row, ptrdiff_t a_column, const real *b, ptrdiff_t b_row,           \
                     ptrdiff_t b_column, real *c, ptrdiff_t c_row) {                                \
        enum { WIDE = FM_WIDE / sizeof(real), LANES = WIDE / 2 };                                   \
        real panel[FM_DEEP * WIDE] __attribute__((aligned(FM_BYTES)));                              \
        real edge[FM_TILE_ROWS * WIDE];                                                             \
        const ptrdiff_t size = (depth - 1) * b_row + (columns - 1) * b_column + 1;                  \
        for (ptrdiff_t r = 0; depth == 0 && r < rows; r++)                                          \
            memset(c + r * c_row, 0, columns * sizeof(real));                                       \
        for (ptrdiff_t k = 0; k < depth; k += FM_DEEP)                                              \
            for (ptrdiff_t j = 0; j < columns; j += WIDE) {                                         \
                const ptrdiff_t deep = depth - k < FM_DEEP ? depth - k : FM_DEEP;                   \
                const ptrdiff_t n = columns - j < WIDE ? columns - j : WIDE;                        \
                const ptrdiff_t start = k * b_row + j * b_column, room = n > LANES ? WIDE : LANES;  \
                const real *v = b + start;                                                          \
                ptrdiff_t v_row = b_row;                                                            \
                if (b_column != 1 || n < room || rows >= FM_OFTEN) {                                \
                    pack(panel, room, v, b_row, b_column, deep, n, size - start);                   \
                    v = panel, v_row = room;                                                        \
                }                                                                                   \
                for (ptrdiff_t i = 0; i < rows; i += FM_TILE_ROWS) {                                \
                    const ptrdiff_t m = rows - i < FM_TILE_ROWS ? rows - i : FM_TILE_ROWS;          \
                    const tile multiply = tile##_table[m - 1][n > LANES];                           \
                    const real *x = a + i * a_row + k * a_column;                                   \
                    real *out = c + i * c_row + j;                                                  \
                    if (n == room) {                                                                \
                        multiply(deep, x, a_row, a_column, v, v_row, out, c_row, k > 0);            \
                        continue;                                                                   \
                    }                                                                               \
                    for (ptrdiff_t r = 0; k > 0 && r < m; r++)                                      \
                        copy(edge + r * WIDE, out + r * c_row, n);                                  \
                    multiply(deep, x, a_row, a_column, v, v_row, edge, WIDE, k > 0);                \
                    for (ptrdiff_t r = 0; r < m; r++)                                               \
                        copy(out + r * c_row, edge + r * WIDE, n);                                  \
                }                                                                                   \
            }                                                                                       \
    }
#else
enum { FM_OWN_PRODUCTS = 0 }; /* BLAS chooses its instructions at run time: it is faster than this build */
#define FM_MULTIPLY(name, real, tile, pack, copy)                                                   \
    static inline void name(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const real *a,      \
                            ptrdiff_t a_row, ptrdiff_t a_column, const real *b, ptrdiff_t b_row,    \
                            ptrdiff_t b_column, real *c, ptrdiff_t c_row) {                         \
        (void)rows, (void)columns, (void)depth, (void)a, (void)a_row, (void)a_column, (void)b;      \
        (void)b_row, (void)b_column, (void)c, (void)c_row;                                          \
    }
#endif
FM_MULTIPLY(fm_multiply32, float, fm_tile32, fm_pack_panel32, fm_copy32)
FM_MULTIPLY(fm_multiply64, double, fm_tile64, fm_pack_panel64, fm_copy64)

#endif
