// Transforms of inputs, outputs and kernels for Winograd's F(2x2, 3x3); see convolution.cpp.

#pragma once

#include <cstring>

#include "lanes.h"
#include "windows.h"

namespace {

constexpr int PLACES = 16;  // elements of a transformed 4x4 tile
constexpr long BLOCKS_PER_SUM = 12;  // channel blocks summed in registers; their kernels fit a cache

// Rounds up to an odd number of cache lines: even strides would use few sets of the cache.
long odd(long lines) { return lines | 1; }

// Strides of the matrices of all places: `block` between blocks of shape (tiles, 16), `place` between
// places.
struct Matrices {
    long block, place;
    Matrices(long tiles, long blocks)
        : block(odd(tiles) * LANES), place(odd(blocks * odd(tiles)) * LANES) {}
    long size() const { return PLACES * place; }
};

// Copies up to 16 channels of an image row, (channels, width), to (width, 16), padded with zeros.
void to_lanes(const float *from, long stride, long present, long width, float *to) {
    for (int half = 0; half < LANES; half += EIGHT) {
        const long here = present - half;
        long w = 0;
        if (here >= EIGHT)
            for (; w + EIGHT <= width; w += EIGHT)
                transpose(from + half * stride + w, stride, to + w * LANES + half, LANES);
        for (; w < width; ++w)
            for (long c = 0; c < EIGHT; ++c)
                to[w * LANES + half + c] = c < here ? from[(half + c) * stride + w] : 0.0f;
    }
}

// The inverse of to_lanes.
void from_lanes(const float *from, long width, float *to, long stride, long present) {
    for (int half = 0; half < LANES; half += EIGHT) {
        const long here = present - half;
        long w = 0;
        if (here >= EIGHT)
            for (; w + EIGHT <= width; w += EIGHT)
                transpose(from + w * LANES + half, LANES, to + half * stride + w, stride);
        for (; w < width; ++w)
            for (long c = 0; c < EIGHT && c < here; ++c)
                to[(half + c) * stride + w] = from[w * LANES + half + c];
    }
}

// Copies rows of pixels with their neighbours, zeros outside the image, to (2 rows + 2, 2 columns + 2,
// 16), for a block of channels.
void copy_padded(
    const float *x, const Images &images, const Window &window, long first, float *padded
) {
    const long across = window.pixels() + 2, present = images.channels - first;
    const long left = 2 * window.column - 1, right = left + across;  // of the image
    const long begin = std::max(0l, left), end = std::min(images.width, right);
    for (long line = 0; line < 2 * window.rows + 2; ++line, padded += across * LANES) {
        const long h = 2 * window.row - 1 + line;
        if (h < 0 || h >= images.height) {
            std::memset(padded, 0, 4 * across * LANES);
            continue;
        }
        std::memset(padded, 0, 4 * (begin - left) * LANES);
        to_lanes(
            x + first * images.positions() + h * images.width + begin, images.positions(), present,
            end - begin, padded + (begin - left) * LANES
        );
        std::memset(padded + (end - left) * LANES, 0, 4 * (right - end) * LANES);
    }
}

// B^T d B for every tile of a window and a block of channels. `padded` is a buffer
// (2 rows + 2, 2 columns + 2, 16).
void transform_input(
    const float *x, const Images &images, const Window &window, long first, float *padded, float *to,
    long place
) {
    const long row = (window.pixels() + 2) * LANES;
    copy_padded(x, images, window, first, padded);
    for (long r = 0; r < window.rows; ++r)
        for (int lane = 0; lane < LANES; lane += WIDTH) {
            const float *from = padded + 2 * r * row + lane;
            float *target = to + r * window.columns * LANES + lane;
            Vec column[4][4];  // columns of the tile, each B^T d
            const auto read = [&](int c, long at) {
                const float *p = from + at * LANES;
                const Vec d0 = load(p), d1 = load(p + row), d2 = load(p + 2 * row),
                          d3 = load(p + 3 * row);
                column[c][0] = d0 - d2;
                column[c][1] = d1 + d2;
                column[c][2] = d2 - d1;
                column[c][3] = d1 - d3;
            };
            read(2, 0);
            read(3, 1);
            for (long t = 0; t < window.columns; ++t, target += LANES) {
                for (int i = 0; i < 4; ++i) {
                    column[0][i] = column[2][i];
                    column[1][i] = column[3][i];
                }
                read(2, 2 * t + 2);
                read(3, 2 * t + 3);
                for (int i = 0; i < 4; ++i) {
                    float *out = target + 4 * i * place;
                    store(out, column[0][i] - column[2][i]);
                    store(out + place, column[1][i] + column[2][i]);
                    store(out + 2 * place, column[2][i] - column[1][i]);
                    store(out + 3 * place, column[1][i] - column[3][i]);
                }
            }
        }
}

// A y A^T for every tile of a window and a block of channels, and the sums of y, which continue those
// of the image's windows before. `lanes` is a buffer (2, pixels, 16).
void transform_gradient(
    const float *y, const Images &images, const Window &window, long first, float *lanes, float *to,
    long place, float *sums
) {
    const long row = window.pixels() * LANES, present = images.channels - first;
    const float *corner = y + first * images.positions() + images.corner(window);
    Vec total[VECTORS] = {};
    if (!window.is_first())
        for (int v = 0; v < VECTORS; ++v) total[v] = load(sums + v * WIDTH);
    for (long r = 0; r < window.rows; ++r) {
        for (long h = 0; h < 2; ++h)
            to_lanes(
                corner + (2 * r + h) * images.width, images.positions(), present, window.pixels(),
                lanes + h * row
            );
        for (int lane = 0; lane < LANES; lane += WIDTH)
            for (long t = 0; t < window.columns; ++t) {
                const float *from = lanes + 2 * t * LANES + lane;
                Vec left[4], right[4];
                left[0] = load(from);
                right[0] = load(from + LANES);
                left[3] = load(from + row);
                right[3] = load(from + row + LANES);
                total[lane / WIDTH] += (left[0] + right[0]) + (left[3] + right[3]);
                left[1] = left[0] + left[3];
                right[1] = right[0] + right[3];
                left[2] = left[0] - left[3];
                right[2] = right[0] - right[3];
                left[3] = -left[3];
                right[3] = -right[3];
                float *out = to + (r * window.columns + t) * LANES + lane;
                for (int i = 0; i < 4; ++i, out += 4 * place) {
                    store(out, left[i]);
                    store(out + place, left[i] + right[i]);
                    store(out + 2 * place, left[i] - right[i]);
                    store(out + 3 * place, -right[i]);
                }
            }
    }
    for (int v = 0; v < VECTORS; ++v) store(sums + v * WIDTH, total[v]);
}

// A^T m A plus bias for every tile of a window and a block of channels. `lanes` is a buffer
// (2, pixels, 16).
void transform_output(
    const float *from, long place, const float *bias, const Images &images, const Window &window,
    long first, float *lanes, float *y
) {
    const long row = window.pixels() * LANES, present = images.channels - first;
    float *corner = y + first * images.positions() + images.corner(window);
    float offset[LANES] = {};
    if (bias)
        for (long c = 0; c < LANES && c < present; ++c) offset[c] = bias[first + c];
    for (long r = 0; r < window.rows; ++r) {
        for (int lane = 0; lane < LANES; lane += WIDTH) {
            const Vec add = load(offset + lane);
            for (long t = 0; t < window.columns; ++t) {
                const float *m = from + (r * window.columns + t) * LANES + lane;
                Vec upper[4], lower[4];
                for (int j = 0; j < 4; ++j, m += place) {
                    const Vec m0 = load(m), m1 = load(m + 4 * place), m2 = load(m + 8 * place),
                              m3 = load(m + 12 * place);
                    upper[j] = (m0 + m1) + m2;
                    lower[j] = (m1 - m2) - m3;
                }
                float *out = lanes + 2 * t * LANES + lane;
                store(out, (upper[0] + upper[1]) + upper[2] + add);
                store(out + LANES, (upper[1] - upper[2]) - upper[3] + add);
                store(out + row, (lower[0] + lower[1]) + lower[2] + add);
                store(out + row + LANES, (lower[1] - lower[2]) - lower[3] + add);
            }
        }
        for (long h = 0; h < 2; ++h)
            from_lanes(
                lanes + h * row, window.pixels(), corner + (2 * r + h) * images.width,
                images.positions(), present
            );
    }
}

// Kernels of 9 numbers with a stride per output and input channel; read backwards if rotated.
struct Kernels {
    const float *first;
    long out_stride, in_stride;
    bool rotated;
};

// Copies up to 16 kernels of 9 numbers, with stride `stride`, to taps[i][kernel].
inline void read_taps(const float *from, long stride, long present, float (*taps)[LANES]) {
    long c = 0;
    for (; c + EIGHT <= present; c += EIGHT) transpose(from + c * stride, stride, taps[0] + c, LANES);
    for (; c < present; ++c)
        for (int i = 0; i < 8; ++i) taps[i][c] = from[c * stride + i];
    for (c = 0; c < present; ++c) taps[8][c] = from[c * stride + 8];
}

inline void write_taps(float (*taps)[LANES], long present, float *to) {
    long c = 0;
    for (; c + EIGHT <= present; c += EIGHT) transpose(taps[0] + c, LANES, to + 9 * c, 9);
    for (; c < present; ++c)
        for (int i = 0; i < 8; ++i) to[9 * c + i] = taps[i][c];
    for (c = 0; c < present; ++c) to[9 * c + 8] = taps[8][c];
}

// G g G^T of 16 output channels and all input channels: (places, in, 16), places with stride `place`.
void transform_kernels(
    const Kernels &kernels, long first, long out, long in, float *to, long place
) {
    const long present = out - first < LANES ? out - first : LANES;
    for (long c = 0; c < blocks_of(in) * LANES; ++c, to += LANES) {
        float taps[9][LANES] = {};
        if (c < in)
            read_taps(
                kernels.first + first * kernels.out_stride + c * kernels.in_stride,
                kernels.out_stride, present, taps
            );
        for (int lane = 0; lane < LANES; lane += WIDTH) {
            Vec rows[4][3];
            for (int j = 0; j < 3; ++j) {
                const auto tap = [&](int i) { return load(taps[kernels.rotated ? 8 - i : i] + lane); };
                const Vec g0 = tap(j), g1 = tap(3 + j), g2 = tap(6 + j);
                const Vec outer = 0.5f * (g0 + g2), inner = 0.5f * g1;
                rows[0][j] = g0;
                rows[1][j] = outer + inner;
                rows[2][j] = outer - inner;
                rows[3][j] = g2;
            }
            float *target = to + lane;
            for (int i = 0; i < 4; ++i, target += 4 * place) {
                const Vec outer = 0.5f * (rows[i][0] + rows[i][2]), inner = 0.5f * rows[i][1];
                store(target, rows[i][0]);
                store(target + place, outer + inner);
                store(target + 2 * place, outer - inner);
                store(target + 3 * place, rows[i][2]);
            }
        }
    }
}

// G^T u G of one output channel and 16 input channels, to contiguous kernels of 9 numbers.
void transform_kernel_gradient(const float *from, long place, long present, float *to) {
    float taps[9][LANES];
    for (int lane = 0; lane < LANES; lane += WIDTH) {
        Vec rows[3][4];
        for (int j = 0; j < 4; ++j) {
            const float *u = from + j * place + lane;
            const Vec u0 = load(u), u1 = load(u + 4 * place), u2 = load(u + 8 * place),
                      u3 = load(u + 12 * place);
            const Vec even = 0.5f * (u1 + u2);
            rows[0][j] = u0 + even;
            rows[1][j] = 0.5f * (u1 - u2);
            rows[2][j] = even + u3;
        }
        for (int i = 0; i < 3; ++i) {
            const Vec even = 0.5f * (rows[i][1] + rows[i][2]);
            store(taps[3 * i] + lane, rows[i][0] + even);
            store(taps[3 * i + 1] + lane, 0.5f * (rows[i][1] - rows[i][2]));
            store(taps[3 * i + 2] + lane, even + rows[i][3]);
        }
    }
    write_taps(taps, present < LANES ? present : LANES, to);
}

}  // namespace
