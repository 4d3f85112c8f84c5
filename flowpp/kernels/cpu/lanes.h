// Vectors of 16 floats, and matrix products of blocks of them.
//
// A matrix of n rows is stored in blocks of 16 columns, each block dense with shape (n, 16). A row of a
// block is one cache line, and one vector of AVX-512 or two of AVX.

#pragma once

#include "transpose.h"

namespace {

constexpr int LANES = 16;
#ifdef __AVX512F__
constexpr int WIDTH = 16;  // floats of a vector
constexpr int SUMS = 24;   // vectors of sums that fit in registers beside the factors
#define PART_OF_CALLER inline __attribute__((always_inline))
#else
constexpr int WIDTH = 8;
constexpr int SUMS = 12;
#define PART_OF_CALLER inline  // with few registers, 1.1 times as fast if not forced inline
#endif
constexpr int VECTORS = LANES / WIDTH;  // per row of a block

typedef float Vec __attribute__((vector_size(4 * WIDTH)));

inline __attribute__((always_inline)) Vec load(const float *from) {
    Vec v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

inline __attribute__((always_inline)) void store(float *to, Vec v) {
    __builtin_memcpy(to, &v, sizeof v);
}

// x in every lane; keeps the sign of -0.
inline __attribute__((always_inline)) Vec broadcast(float x) { return x - Vec{}; }

// Prevents a compiler short of registers from loading a row of b again for each of its products.
#if defined(__AVX512F__)
#define IN_REGISTER(vector) asm("" : "+v"(vector))
#elif defined(__x86_64__) && defined(__AVX__)
#define IN_REGISTER(vector) asm("" : "+x"(vector))
#else
#define IN_REGISTER(vector)
#endif

// Number of rows of sums that fit in registers, for rows of this many vectors.
constexpr int rows_at_once(int vectors) { return SUMS / vectors; }

// Strides of a matrix whose rows have a few vectors: between rows, and between the vectors of a row.
struct Columns {
    long row_stride, vector_stride;
};

// c[r][:] = (if `accumulate`, c[r][:] +) sum over chunks and steps of
// a[chunk * a_chunk + step * a_step + r * A_ROW] * b[chunk * steps + step][:], for r < R.
// Rows of b and c have V vectors.
template <int R, int V, int A_ROW>
inline __attribute__((always_inline)) void sum_of_products(
    const float *a, long a_chunk, long a_step, const float *b, Columns of_b, long steps, long chunks,
    float *c, Columns of_c, bool accumulate
) {
    Vec sums[R][V] = {};
    for (long n = 0; n < chunks; ++n) {
        const float *factor = a + n * a_chunk;
        for (long k = 0; k < steps; ++k, factor += a_step, b += of_b.row_stride) {
            Vec row[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                row[v] = load(b + v * of_b.vector_stride);
                IN_REGISTER(row[v]);
            }
#pragma GCC unroll 24
            for (int r = 0; r < R; ++r) {
                const Vec x = broadcast(factor[r * A_ROW]);
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) sums[r][v] += x * row[v];
            }
        }
    }
#pragma GCC unroll 24
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            float *to = c + r * of_c.row_stride + v * of_c.vector_stride;
            store(to, accumulate ? load(to) + sums[r][v] : sums[r][v]);
        }
}

// The same for any number of rows, in groups of nearly equal size that fit in registers. In a small
// group each product would have to wait for the one before.
template <int V, int A_ROW>
PART_OF_CALLER void all_rows(
    long rows, const float *a, long a_chunk, long a_step, const float *b, Columns of_b, long steps,
    long chunks, float *c, Columns of_c, bool accumulate = false
) {
    constexpr int max_rows = rows_at_once(V);
    const long groups = (rows + max_rows - 1) / max_rows;
    for (long g = 0; g < groups; ++g) {
        const long first = rows * g / groups, count = rows * (g + 1) / groups - first;
        const float *from = a + first * A_ROW;
        float *to = c + first * of_c.row_stride;
#define CASE_OF_ROWS(R)                                                                            \
    case R:                                                                                        \
        if constexpr (R <= max_rows)                                                               \
            sum_of_products<R, V, A_ROW>(                                                          \
                from, a_chunk, a_step, b, of_b, steps, chunks, to, of_c, accumulate                \
            );                                                                                     \
        break;
        switch (count) {
            CASE_OF_ROWS(1)
            CASE_OF_ROWS(2)
            CASE_OF_ROWS(3)
            CASE_OF_ROWS(4)
            CASE_OF_ROWS(5)
            CASE_OF_ROWS(6)
            CASE_OF_ROWS(7)
            CASE_OF_ROWS(8)
            CASE_OF_ROWS(9)
            CASE_OF_ROWS(10)
            CASE_OF_ROWS(11)
            CASE_OF_ROWS(12)
            CASE_OF_ROWS(13)
            CASE_OF_ROWS(14)
            CASE_OF_ROWS(15)
            CASE_OF_ROWS(16)
            CASE_OF_ROWS(17)
            CASE_OF_ROWS(18)
            CASE_OF_ROWS(19)
            CASE_OF_ROWS(20)
            CASE_OF_ROWS(21)
            CASE_OF_ROWS(22)
            CASE_OF_ROWS(23)
            CASE_OF_ROWS(24)
        }
#undef CASE_OF_ROWS
    }
}

// Number of column blocks whose sums are in registers at a time, sharing each load of a.
constexpr long BLOCKS_AT_ONCE = VECTORS == 1 ? 3 : 1;

// The same for any number of column blocks, with strides b_block and c_block. Rows of c have stride
// c_row.
template <int A_ROW>
inline void all_blocks(
    long blocks, long rows, const float *a, long a_chunk, long a_step, const float *b, long b_block,
    long steps, long chunks, float *c, long c_row, long c_block, bool accumulate
) {
    const long groups = (blocks + BLOCKS_AT_ONCE - 1) / BLOCKS_AT_ONCE;
    for (long g = 0; g < groups; ++g) {
        const long first = blocks * g / groups, count = blocks * (g + 1) / groups - first;
        const float *from = b + first * b_block;
        float *to = c + first * c_block;
        if constexpr (BLOCKS_AT_ONCE == 1)
            all_rows<VECTORS, A_ROW>(
                rows, a, a_chunk, a_step, from, {LANES, WIDTH}, steps, chunks, to,
                {c_row, WIDTH}, accumulate
            );
        else if (count == 3)
            all_rows<3, A_ROW>(
                rows, a, a_chunk, a_step, from, {LANES, b_block}, steps, chunks, to,
                {c_row, c_block}, accumulate
            );
        else if (count == 2)
            all_rows<2, A_ROW>(
                rows, a, a_chunk, a_step, from, {LANES, b_block}, steps, chunks, to,
                {c_row, c_block}, accumulate
            );
        else
            all_rows<1, A_ROW>(
                rows, a, a_chunk, a_step, from, {LANES, b_block}, steps, chunks, to,
                {c_row, c_block}, accumulate
            );
    }
}

}  // namespace
