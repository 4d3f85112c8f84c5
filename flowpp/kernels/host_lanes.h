// Sixteen numbers side by side, and matrix products of blocks of them.
//
// A matrix of n rows lies in blocks of 16 columns, each block (n, 16) and dense. A row of a block is
// one line of the cache and two vectors of AVX; where vectors are longer, the compiler knows.

#pragma once

namespace {

constexpr int LANES = 16;
constexpr int HALF = 8;
constexpr int ROWS = 6;  // times two vectors: the sums that fit 16 registers beside what they need

typedef float Vec __attribute__((vector_size(4 * HALF)));
typedef int Places __attribute__((vector_size(4 * HALF)));

inline __attribute__((always_inline)) Vec load(const float *from) {
    Vec v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

inline __attribute__((always_inline)) void store(float *to, Vec v) {
    __builtin_memcpy(to, &v, sizeof v);
}

inline __attribute__((always_inline)) Vec all(float x) { return Vec{x, x, x, x, x, x, x, x}; }

// to[j][i] = from[i][j] for 8 by 8 numbers.
inline __attribute__((always_inline)) void transpose(
    const float *from, long from_stride, float *to, long to_stride
) {
    const Places low = {0, 8, 1, 9, 4, 12, 5, 13}, high = {2, 10, 3, 11, 6, 14, 7, 15};
    const Places even = {0, 1, 8, 9, 4, 5, 12, 13}, odd = {2, 3, 10, 11, 6, 7, 14, 15};
    const Places first = {0, 1, 2, 3, 8, 9, 10, 11}, last = {4, 5, 6, 7, 12, 13, 14, 15};
    Vec a[HALF], b[HALF];
    for (int i = 0; i < HALF; ++i) a[i] = load(from + i * from_stride);
    for (int i = 0; i < HALF; i += 2) {
        b[i] = __builtin_shuffle(a[i], a[i + 1], low);
        b[i + 1] = __builtin_shuffle(a[i], a[i + 1], high);
    }
    for (int i = 0; i < HALF; i += 4)
        for (int j = 0; j < 2; ++j) {
            a[i + 2 * j] = __builtin_shuffle(b[i + j], b[i + 2 + j], even);
            a[i + 2 * j + 1] = __builtin_shuffle(b[i + j], b[i + 2 + j], odd);
        }
    for (int j = 0; j < 4; ++j) {
        store(to + j * to_stride, __builtin_shuffle(a[j], a[j + 4], first));
        store(to + (j + 4) * to_stride, __builtin_shuffle(a[j], a[j + 4], last));
    }
}

// c[r][:] = (if `more`, c[r][:] +) sum over chunks and steps of a[chunk][r * ACROSS + step * ALONG] * b[step][:], r < R.
template <int R, int ACROSS, int ALONG>
inline __attribute__((always_inline)) void sum_of_products(
    const float *a, long a_chunk, const float *b, long steps, long chunks, float *c, long c_stride,
    bool more
) {
    Vec sums[R][2] = {};
    for (long n = 0; n < chunks; ++n) {
        const float *factor = a + n * a_chunk;
        for (long k = 0; k < steps; ++k, factor += ALONG, b += LANES) {
            const Vec b0 = load(b), b1 = load(b + HALF);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const Vec x = all(factor[r * ACROSS]);
                sums[r][0] += x * b0;
                sums[r][1] += x * b1;
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
        if (more) {
            sums[r][0] += load(c + r * c_stride);
            sums[r][1] += load(c + r * c_stride + HALF);
        }
        store(c + r * c_stride, sums[r][0]);
        store(c + r * c_stride + HALF, sums[r][1]);
    }
}

// The same for any number of rows up to ROWS.
template <int ACROSS, int ALONG>
inline void some_rows(
    int rows, const float *a, long a_chunk, const float *b, long steps, long chunks, float *c,
    long c_stride, bool more = false
) {
    switch (rows) {
    case 6:
        return sum_of_products<6, ACROSS, ALONG>(a, a_chunk, b, steps, chunks, c, c_stride, more);
    case 5:
        return sum_of_products<5, ACROSS, ALONG>(a, a_chunk, b, steps, chunks, c, c_stride, more);
    case 4:
        return sum_of_products<4, ACROSS, ALONG>(a, a_chunk, b, steps, chunks, c, c_stride, more);
    case 3:
        return sum_of_products<3, ACROSS, ALONG>(a, a_chunk, b, steps, chunks, c, c_stride, more);
    case 2:
        return sum_of_products<2, ACROSS, ALONG>(a, a_chunk, b, steps, chunks, c, c_stride, more);
    case 1:
        return sum_of_products<1, ACROSS, ALONG>(a, a_chunk, b, steps, chunks, c, c_stride, more);
    }
}

// Calls work(first, count) for [0, rows) in groups of ROWS or a little less: many less would wait for sums.
template <typename Work> inline void in_rows(long rows, Work work) {
    const long groups = (rows + ROWS - 1) / ROWS;
    for (long g = 0; g < groups; ++g) {
        const long first = rows * g / groups;
        work(first, static_cast<int>(rows * (g + 1) / groups - first));
    }
}

}  // namespace
