// Sixteen numbers side by side, and matrix products of blocks of them.
//
// A matrix of n rows lies in blocks of 16 columns, each block (n, 16) and dense. A row of a block is
// one line of the cache and two vectors of AVX; where vectors are longer, the compiler knows.

#pragma once

namespace {

constexpr int LANES = 16;
constexpr int HALF = 8;

typedef float Vec __attribute__((vector_size(4 * HALF)));

inline __attribute__((always_inline)) Vec load(const float *from) {
    Vec v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

inline __attribute__((always_inline)) void store(float *to, Vec v) {
    __builtin_memcpy(to, &v, sizeof v);
}

inline __attribute__((always_inline)) Vec all(float x) { return Vec{x, x, x, x, x, x, x, x}; }

// Numbers of a and b by their places in both together; GCC before 12 knows the second form alone.
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SHUFFLE
typedef int Places __attribute__((vector_size(4 * HALF)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Places{__VA_ARGS__})
#endif

// to[j][i] = from[i][j] for 8 by 8 numbers.
inline __attribute__((always_inline)) void transpose(
    const float *from, long from_stride, float *to, long to_stride
) {
    Vec a[HALF], b[HALF];
    for (int i = 0; i < HALF; ++i) a[i] = load(from + i * from_stride);
    for (int i = 0; i < HALF; i += 2) {
        b[i] = SHUFFLE(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = SHUFFLE(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < HALF; i += 4)
        for (int j = 0; j < 2; ++j) {
            a[i + 2 * j] = SHUFFLE(b[i + j], b[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + 2 * j + 1] = SHUFFLE(b[i + j], b[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int j = 0; j < 4; ++j) {
        store(to + j * to_stride, SHUFFLE(a[j], a[j + 4], 0, 1, 2, 3, 8, 9, 10, 11));
        store(to + (j + 4) * to_stride, SHUFFLE(a[j], a[j + 4], 4, 5, 6, 7, 12, 13, 14, 15));
    }
}

// Left alone, a compiler short of registers would load a row of b anew for each of its products.
#if defined(__x86_64__) && defined(__AVX__)
#define IN_REGISTER(vector) asm("" : "+x"(vector))
#else
#define IN_REGISTER(vector)
#endif

// Rows of sums that fit 16 registers beside what they need, if a row has so many vectors.
constexpr int rows_at_once(int vectors) { return 12 / vectors; }

// c[r][:] = (if `more`, c[r][:] +) the sum over chunks and steps of
// a[chunk * a_chunk + step * along + r * ACROSS] * b[chunk * steps + step][:], for r < R.
// A row of b has V vectors, and so have those of c, which lie c_stride apart.
template <int R, int V, int ACROSS>
inline __attribute__((always_inline)) void sum_of_products(
    const float *a, long a_chunk, long along, const float *b, long steps, long chunks, float *c,
    long c_stride, bool more
) {
    Vec sums[R][V] = {};
    for (long n = 0; n < chunks; ++n) {
        const float *factor = a + n * a_chunk;
        for (long k = 0; k < steps; ++k, factor += along, b += V * HALF) {
            Vec row[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                row[v] = load(b + v * HALF);
                IN_REGISTER(row[v]);
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const Vec x = all(factor[r * ACROSS]);
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) sums[r][v] += x * row[v];
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            float *to = c + r * c_stride + v * HALF;
            store(to, more ? load(to) + sums[r][v] : sums[r][v]);
        }
}

// The same for any number of rows, as many at once as registers hold, or a little less: with many
// less, each product would wait for the one before.
template <int V, int ACROSS>
inline void all_rows(
    long rows, const float *a, long a_chunk, long along, const float *b, long steps, long chunks,
    float *c, long c_stride, bool more = false
) {
    constexpr int most = rows_at_once(V);
    const long groups = (rows + most - 1) / most;
    for (long g = 0; g < groups; ++g) {
        const long first = rows * g / groups, count = rows * (g + 1) / groups - first;
        const float *from = a + first * ACROSS;
        float *to = c + first * c_stride;
#define SOME_ROWS(R)                                                                               \
    case R:                                                                                        \
        if constexpr (R <= most)                                                                   \
            sum_of_products<R, V, ACROSS>(from, a_chunk, along, b, steps, chunks, to, c_stride, more); \
        break;
        switch (count) {
            SOME_ROWS(1)
            SOME_ROWS(2)
            SOME_ROWS(3)
            SOME_ROWS(4)
            SOME_ROWS(5)
            SOME_ROWS(6)
        }
#undef SOME_ROWS
    }
}

}  // namespace
