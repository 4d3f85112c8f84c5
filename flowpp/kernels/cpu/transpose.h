// Transposition of 8 by 8 blocks of floats.

#pragma once

namespace {

constexpr int EIGHT = 8;
typedef float Octet __attribute__((vector_size(4 * EIGHT)));

// Elements of the concatenation of a and b by index. GCC before 12 has only the second form.
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SHUFFLE
typedef int OctetIndices __attribute__((vector_size(4 * EIGHT)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, OctetIndices{__VA_ARGS__})
#endif

// to[j][i] = from[i][j] for an 8 by 8 block.
inline __attribute__((always_inline)) void transpose(
    const float *from, long from_stride, float *to, long to_stride
) {
    Octet a[EIGHT], b[EIGHT];
    for (int i = 0; i < EIGHT; ++i) __builtin_memcpy(&a[i], from + i * from_stride, sizeof a[i]);
    for (int i = 0; i < EIGHT; i += 2) {
        b[i] = SHUFFLE(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = SHUFFLE(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < EIGHT; i += 4)
        for (int j = 0; j < 2; ++j) {
            a[i + 2 * j] = SHUFFLE(b[i + j], b[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + 2 * j + 1] = SHUFFLE(b[i + j], b[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int j = 0; j < 4; ++j) {
        const Octet upper = SHUFFLE(a[j], a[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        const Octet lower = SHUFFLE(a[j], a[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
        __builtin_memcpy(to + j * to_stride, &upper, sizeof upper);
        __builtin_memcpy(to + (j + 4) * to_stride, &lower, sizeof lower);
    }
}

}  // namespace
