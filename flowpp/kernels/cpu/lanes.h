// Sixteen numbers side by side, and matrix products of blocks of them.
//
// A matrix of n rows lies in blocks of 16 columns, each block (n, 16) and dense. A row of a block is
// one line of the cache, and one vector of AVX-512 or two of AVX.

#pragma once

#include "transpose.h"

namespace {

constexpr int LANES = 16;
#ifdef __AVX512F__
constexpr int WIDTH = 16;  // numbers in a vector
constexpr int SUMS = 24;   // vectors that stay in registers during a product, beside its factors
#define PART_OF_CALLER inline __attribute__((always_inline))
#else
constexpr int WIDTH = 8;
constexpr int SUMS = 12;
#define PART_OF_CALLER inline  // measured: with few registers, 1.1 times as fast on its own
#endif
constexpr int VECTORS = LANES / WIDTH;  // of a row of a block

typedef float Vec __attribute__((vector_size(4 * WIDTH)));

inline __attribute__((always_inline)) Vec load(const float *from) {
    Vec v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

inline __attribute__((always_inline)) void store(float *to, Vec v) {
    __builtin_memcpy(to, &v, sizeof v);
}

// In every place; minus zero stays itself.
inline __attribute__((always_inline)) Vec all(float x) { return x - Vec{}; }

// Left alone, a compiler short of registers would load a row of b anew for each of its products.
#if defined(__AVX512F__)
#define IN_REGISTER(vector) asm("" : "+v"(vector))
#elif defined(__x86_64__) && defined(__AVX__)
#define IN_REGISTER(vector) asm("" : "+x"(vector))
#else
#define IN_REGISTER(vector)
#endif

// Rows of sums that stay in registers, if a row has so many vectors.
constexpr int rows_at_once(int vectors) { return SUMS / vectors; }

// Rows of some vectors each: the next row is `along` on, the next vector of a row `apart`.
struct Columns {
    long along, apart;
};

// c[r][:] = (if `more`, c[r][:] +) the sum over chunks and steps of
// a[chunk * a_chunk + step * along + r * ACROSS] * b[chunk * steps + step][:], for r < R.
// Rows of b and c have V vectors.
template <int R, int V, int ACROSS>
inline __attribute__((always_inline)) void sum_of_products(
    const float *a, long a_chunk, long along, const float *b, Columns of_b, long steps, long chunks,
    float *c, Columns of_c, bool more
) {
    Vec sums[R][V] = {};
    for (long n = 0; n < chunks; ++n) {
        const float *factor = a + n * a_chunk;
        for (long k = 0; k < steps; ++k, factor += along, b += of_b.along) {
            Vec row[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                row[v] = load(b + v * of_b.apart);
                IN_REGISTER(row[v]);
            }
#pragma GCC unroll 24
            for (int r = 0; r < R; ++r) {
                const Vec x = all(factor[r * ACROSS]);
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) sums[r][v] += x * row[v];
            }
        }
    }
#pragma GCC unroll 24
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            float *to = c + r * of_c.along + v * of_c.apart;
            store(to, more ? load(to) + sums[r][v] : sums[r][v]);
        }
}

// The same for any number of rows, as many at once as registers hold, or a little less: with many
// less, each product would wait for the one before.
template <int V, int ACROSS>
PART_OF_CALLER void all_rows(
    long rows, const float *a, long a_chunk, long along, const float *b, Columns of_b, long steps,
    long chunks, float *c, Columns of_c, bool more = false
) {
    constexpr int most = rows_at_once(V);
    const long groups = (rows + most - 1) / most;
    for (long g = 0; g < groups; ++g) {
        const long first = rows * g / groups, count = rows * (g + 1) / groups - first;
        const float *from = a + first * ACROSS;
        float *to = c + first * of_c.along;
#define SOME_ROWS(R)                                                                               \
    case R:                                                                                        \
        if constexpr (R <= most)                                                                   \
            sum_of_products<R, V, ACROSS>(from, a_chunk, along, b, of_b, steps, chunks, to, of_c, more); \
        break;
        switch (count) {
            SOME_ROWS(1)
            SOME_ROWS(2)
            SOME_ROWS(3)
            SOME_ROWS(4)
            SOME_ROWS(5)
            SOME_ROWS(6)
            SOME_ROWS(7)
            SOME_ROWS(8)
            SOME_ROWS(9)
            SOME_ROWS(10)
            SOME_ROWS(11)
            SOME_ROWS(12)
            SOME_ROWS(13)
            SOME_ROWS(14)
            SOME_ROWS(15)
            SOME_ROWS(16)
            SOME_ROWS(17)
            SOME_ROWS(18)
            SOME_ROWS(19)
            SOME_ROWS(20)
            SOME_ROWS(21)
            SOME_ROWS(22)
            SOME_ROWS(23)
            SOME_ROWS(24)
        }
#undef SOME_ROWS
    }
}

// Blocks of columns whose sums are in registers at a time: each reading of a serves them all.
constexpr long BLOCKS_AT_ONCE = VECTORS == 1 ? 3 : 1;

// The same for any number of blocks of columns, b_block and c_block apart; a row of c is c_row on.
template <int ACROSS>
inline void all_blocks(
    long blocks, long rows, const float *a, long a_chunk, long along, const float *b, long b_block,
    long steps, long chunks, float *c, long c_row, long c_block, bool more
) {
    const long groups = (blocks + BLOCKS_AT_ONCE - 1) / BLOCKS_AT_ONCE;
    for (long g = 0; g < groups; ++g) {
        const long first = blocks * g / groups, count = blocks * (g + 1) / groups - first;
        const float *from = b + first * b_block;
        float *to = c + first * c_block;
        if constexpr (BLOCKS_AT_ONCE == 1)
            all_rows<VECTORS, ACROSS>(
                rows, a, a_chunk, along, from, {LANES, WIDTH}, steps, chunks, to, {c_row, WIDTH}, more
            );
        else if (count == 3)
            all_rows<3, ACROSS>(
                rows, a, a_chunk, along, from, {LANES, b_block}, steps, chunks, to, {c_row, c_block}, more
            );
        else if (count == 2)
            all_rows<2, ACROSS>(
                rows, a, a_chunk, along, from, {LANES, b_block}, steps, chunks, to, {c_row, c_block}, more
            );
        else
            all_rows<1, ACROSS>(
                rows, a, a_chunk, along, from, {LANES, b_block}, steps, chunks, to, {c_row, c_block}, more
            );
    }
}

}  // namespace
