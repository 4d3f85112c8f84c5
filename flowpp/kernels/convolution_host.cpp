// 3x3 convolutions with zero padding by Winograd's F(2x2, 3x3), in float32: 16 products where the
// definition has 36 for each tile of 2x2 outputs, channel in and channel out.
//
//     Y = A^T (sum over channels of (G g G^T) * (B^T d B)) A
//
// for a tile's 4x4 inputs d and a kernel g. A whole image's tiles make each of the 16 places one
// matrix product, (tiles, in) times (in, out). Numbers lie in lanes of 16 channels all the while.
// Gradients: of the input, the same with kernels turned by 180 degrees; of the kernel, the transpose
// of the map above, G^T (sum over tiles of (A y A^T) * (B^T d B)) G.
//
// Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

#include <cstring>

#include "host_lanes.h"
#include "host_parallel.h"
#include "host_scratch.h"

namespace {

constexpr int PLACES = 16;
constexpr long TILES = 512;  // worked on at once, if an image has no more
constexpr long TOGETHER = 12;  // blocks of channels summed in registers: kernels for them fit a cache

long blocks_of(long channels) { return (channels + LANES - 1) / LANES; }

// An odd number of cache lines, so that what is a block or a place apart meets in no set of the cache.
long odd(long lines) { return lines | 1; }

struct Images {
    long channels, height, width;
    long rows() const { return height / 2; }
    long columns() const { return width / 2; }
    long tiles() const { return rows() * columns(); }
    long positions() const { return height * width; }
    long blocks() const { return blocks_of(channels); }
};

// One place's matrix for some tiles: blocks of (tiles, 16), `block` numbers apart; places are `place` apart.
struct Matrices {
    long block, place;
    Matrices(long tiles, long blocks) : block(odd(tiles) * LANES), place(odd(blocks * odd(tiles)) * LANES) {}
    long size() const { return PLACES * place; }
};

// Up to 16 channels of an image row, (channels, width), to (width, 16) lanes; zeros where none is.
void to_lanes(const float *from, long stride, long present, long width, float *to) {
    for (int half = 0; half < LANES; half += HALF) {
        const long here = present - half;
        long w = 0;
        if (here >= HALF)
            for (; w + HALF <= width; w += HALF)
                transpose(from + half * stride + w, stride, to + w * LANES + half, LANES);
        for (; w < width; ++w)
            for (long c = 0; c < HALF; ++c)
                to[w * LANES + half + c] = c < here ? from[(half + c) * stride + w] : 0.0f;
    }
}

void from_lanes(const float *from, long width, float *to, long stride, long present) {
    for (int half = 0; half < LANES; half += HALF) {
        const long here = present - half;
        long w = 0;
        if (here >= HALF)
            for (; w + HALF <= width; w += HALF)
                transpose(from + w * LANES + half, LANES, to + half * stride + w, stride);
        for (; w < width; ++w)
            for (long c = 0; c < HALF && c < here; ++c)
                to[(half + c) * stride + w] = from[w * LANES + half + c];
    }
}

// B^T d B for every tile of one block of channels. `padded` has (height + 2, width + 2, 16) numbers.
void transform_input(
    const float *x, const Images &images, long first, float *padded, float *to, long place
) {
    const long across = images.width + 2, row = across * LANES;
    const long present = images.channels - first;
    std::memset(padded, 0, 4 * row);
    std::memset(padded + (images.height + 1) * row, 0, 4 * row);
    for (long h = 0; h < images.height; ++h) {
        float *line = padded + (h + 1) * row;
        std::memset(line, 0, 4 * LANES);
        to_lanes(
            x + first * images.positions() + h * images.width, images.positions(), present,
            images.width, line + LANES
        );
        std::memset(line + row - LANES, 0, 4 * LANES);
    }
    for (long r = 0; r < images.rows(); ++r)
        for (int half = 0; half < LANES; half += HALF) {
            const float *from = padded + 2 * r * row + half;
            float *target = to + r * images.columns() * LANES + half;
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
            for (long t = 0; t < images.columns(); ++t, target += LANES) {
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

// A y A^T for every tile of one block of channels, and the sums of y. `lanes` has (2, width, 16) numbers.
void transform_gradient(
    const float *y, const Images &images, long first, float *lanes, float *to, long place, float *sums
) {
    const long row = images.width * LANES, present = images.channels - first;
    Vec total[2] = {};
    for (long r = 0; r < images.rows(); ++r) {
        for (long h = 0; h < 2; ++h)
            to_lanes(
                y + first * images.positions() + (2 * r + h) * images.width, images.positions(),
                present, images.width, lanes + h * row
            );
        for (int half = 0; half < LANES; half += HALF)
            for (long t = 0; t < images.columns(); ++t) {
                const float *from = lanes + 2 * t * LANES + half;
                Vec left[4], right[4];
                left[0] = load(from);
                right[0] = load(from + LANES);
                left[3] = load(from + row);
                right[3] = load(from + row + LANES);
                total[half / HALF] += (left[0] + right[0]) + (left[3] + right[3]);
                left[1] = left[0] + left[3];
                right[1] = right[0] + right[3];
                left[2] = left[0] - left[3];
                right[2] = right[0] - right[3];
                left[3] = -left[3];
                right[3] = -right[3];
                float *out = to + (r * images.columns() + t) * LANES + half;
                for (int i = 0; i < 4; ++i, out += 4 * place) {
                    store(out, left[i]);
                    store(out + place, left[i] + right[i]);
                    store(out + 2 * place, left[i] - right[i]);
                    store(out + 3 * place, -right[i]);
                }
            }
    }
    for (int half = 0; half < 2; ++half) store(sums + half * HALF, total[half]);
}

// A^T m A plus bias for every tile of one block of channels. `lanes` has (2, width, 16) numbers.
void transform_output(
    const float *from, long place, const float *bias, const Images &images, long first, float *lanes,
    float *y
) {
    const long row = images.width * LANES, present = images.channels - first;
    float offset[LANES] = {};
    if (bias)
        for (long c = 0; c < LANES && c < present; ++c) offset[c] = bias[first + c];
    for (long r = 0; r < images.rows(); ++r) {
        for (int half = 0; half < LANES; half += HALF) {
            const Vec add = load(offset + half);
            for (long t = 0; t < images.columns(); ++t) {
                const float *m = from + (r * images.columns() + t) * LANES + half;
                Vec upper[4], lower[4];
                for (int j = 0; j < 4; ++j, m += place) {
                    const Vec m0 = load(m), m1 = load(m + 4 * place), m2 = load(m + 8 * place),
                              m3 = load(m + 12 * place);
                    upper[j] = (m0 + m1) + m2;
                    lower[j] = (m1 - m2) - m3;
                }
                float *out = lanes + 2 * t * LANES + half;
                store(out, (upper[0] + upper[1]) + upper[2] + add);
                store(out + LANES, (upper[1] - upper[2]) - upper[3] + add);
                store(out + row, (lower[0] + lower[1]) + lower[2] + add);
                store(out + row + LANES, (lower[1] - lower[2]) - lower[3] + add);
            }
        }
        for (long h = 0; h < 2; ++h)
            from_lanes(
                lanes + h * row, images.width,
                y + first * images.positions() + (2 * r + h) * images.width, images.positions(),
                present
            );
    }
}

// Where a kernel of 9 numbers begins, for each channel out and in; read from its end if turned.
struct Kernels {
    const float *first;
    long out_stride, in_stride;
    bool turned;
};

// Up to 16 kernels of 9 numbers, `stride` apart, to lanes.
inline void read_taps(const float *from, long stride, long present, float (*taps)[LANES]) {
    long c = 0;
    for (; c + HALF <= present; c += HALF) transpose(from + c * stride, stride, taps[0] + c, LANES);
    for (; c < present; ++c)
        for (int i = 0; i < 8; ++i) taps[i][c] = from[c * stride + i];
    for (c = 0; c < present; ++c) taps[8][c] = from[c * stride + 8];
}

inline void write_taps(float (*taps)[LANES], long present, float *to) {
    long c = 0;
    for (; c + HALF <= present; c += HALF) transpose(taps[0] + c, LANES, to + 9 * c, 9);
    for (; c < present; ++c)
        for (int i = 0; i < 8; ++i) to[9 * c + i] = taps[i][c];
    for (c = 0; c < present; ++c) to[9 * c + 8] = taps[8][c];
}

// G g G^T of 16 channels out and every channel in: (places, in, 16), places `place` numbers apart.
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
        for (int half = 0; half < LANES; half += HALF) {
            Vec rows[4][3];
            for (int j = 0; j < 3; ++j) {
                const auto tap = [&](int i) { return load(taps[kernels.turned ? 8 - i : i] + half); };
                const Vec g0 = tap(j), g1 = tap(3 + j), g2 = tap(6 + j);
                const Vec outer = 0.5f * (g0 + g2), inner = 0.5f * g1;
                rows[0][j] = g0;
                rows[1][j] = outer + inner;
                rows[2][j] = outer - inner;
                rows[3][j] = g2;
            }
            float *target = to + half;
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

// G^T u G of one channel out and 16 channels in, to kernels of 9 numbers side by side.
void transform_kernel_gradient(const float *from, long place, long present, float *to) {
    float taps[9][LANES];
    for (int half = 0; half < LANES; half += HALF) {
        Vec rows[3][4];
        for (int j = 0; j < 4; ++j) {
            const float *u = from + j * place + half;
            const Vec u0 = load(u), u1 = load(u + 4 * place), u2 = load(u + 8 * place),
                      u3 = load(u + 12 * place);
            const Vec even = 0.5f * (u1 + u2);
            rows[0][j] = u0 + even;
            rows[1][j] = 0.5f * (u1 - u2);
            rows[2][j] = even + u3;
        }
        for (int i = 0; i < 3; ++i) {
            const Vec even = 0.5f * (rows[i][1] + rows[i][2]);
            store(taps[3 * i] + half, rows[i][0] + even);
            store(taps[3 * i + 1] + half, 0.5f * (rows[i][1] - rows[i][2]));
            store(taps[3 * i + 2] + half, even + rows[i][3]);
        }
    }
    write_taps(taps, present < LANES ? present : LANES, to);
}

long images_at_once(const Images &images, long batch) {
    const long fitting = TILES / images.tiles();
    return fitting < 1 ? 1 : fitting < batch ? fitting : batch;
}

void transform_inputs(
    const float *x, const Images &images, long batch, const Matrices &shape, float *to, long threads
) {
    const long blocks = images.blocks(), padded = (images.height + 2) * (images.width + 2) * LANES;
    in_parallel(batch * blocks, 4 * padded, threads, [=, &shape](long from, long until) {
        static thread_local Scratch scratch;
        float *lanes = scratch(padded);
        for (long n = from; n < until; ++n) {
            const long b = n / blocks, block = n % blocks;
            transform_input(
                x + b * images.channels * images.positions(), images, block * LANES, lanes,
                to + block * shape.block + b * images.tiles() * LANES, shape.place
            );
        }
    });
}

}  // namespace

extern "C" {

// y = convolution of x (batch, in, height, width) with the kernels, plus bias unless it is null.
// Height and width are even. `turned` turns kernels by 180 degrees.
void winograd_forward(
    const float *x, const float *weight, const float *bias, long batch, long in, long out, long height,
    long width, long out_stride, long in_stride, long turned, float *y, long threads
) {
    static thread_local Scratch for_kernels, for_inputs, for_products;
    const Images inputs{in, height, width}, outputs{out, height, width};
    const long in_blocks = inputs.blocks(), out_blocks = outputs.blocks(), tiles = inputs.tiles();
    const long at_once = images_at_once(inputs, batch);
    const Kernels kernels{weight, out_stride, in_stride, turned != 0};
    const Matrices u_shape(in_blocks * LANES, out_blocks);
    const Matrices v_shape(at_once * tiles, in_blocks), m_shape(at_once * tiles, out_blocks);
    float *u = for_kernels(u_shape.size()), *v = for_inputs(v_shape.size());
    float *m = for_products(m_shape.size());
    in_parallel(out_blocks, 64 * in * LANES, threads, [=](long from, long until) {
        for (long block = from; block < until; ++block)
            transform_kernels(
                kernels, block * LANES, out, in, u + block * u_shape.block, u_shape.place
            );
    });
    for (long first = 0; first < batch; first += at_once) {
        const long here = batch - first < at_once ? batch - first : at_once;
        const long rows = here * tiles;
        transform_inputs(
            x + first * in * inputs.positions(), inputs, here, v_shape, v, threads
        );
        in_parallel(PLACES * out_blocks, rows * in * LANES, threads, [=](long from, long until) {
            for (long n = from; n < until; ++n) {
                const long place = n / out_blocks, block = n % out_blocks;
                const float *a = v + place * v_shape.place;
                const float *b = u + place * u_shape.place + block * u_shape.block;
                float *c = m + place * m_shape.place + block * m_shape.block;
                for (long i = 0; i < in_blocks; i += TOGETHER)
                    all_rows<2, LANES>(
                        rows, a + i * v_shape.block, v_shape.block, 1, b + i * LANES * LANES, LANES,
                        in_blocks - i < TOGETHER ? in_blocks - i : TOGETHER, c, LANES, i > 0
                    );
            }
        });
        in_parallel(here * out_blocks, 32 * tiles * LANES, threads, [=](long from, long until) {
            static thread_local Scratch scratch;
            float *lanes = scratch(2 * width * LANES);
            for (long n = from; n < until; ++n) {
                const long b = n / out_blocks, block = n % out_blocks;
                transform_output(
                    m + block * m_shape.block + b * tiles * LANES, m_shape.place, bias, outputs,
                    block * LANES, lanes, y + (first + b) * out * outputs.positions()
                );
            }
        });
    }
}

// Gradients of weight (out, in, 3, 3) and of bias (out,), given that of y.
void winograd_weight_gradient(
    const float *x, const float *grad, long batch, long in, long out, long height, long width,
    float *grad_weight, float *grad_bias, long threads
) {
    static thread_local Scratch for_inputs, for_gradients, for_products, for_sums;
    const Images inputs{in, height, width}, outputs{out, height, width};
    const long in_blocks = inputs.blocks(), out_blocks = outputs.blocks(), tiles = inputs.tiles();
    const long at_once = images_at_once(inputs, batch);
    const Matrices v_shape(at_once * tiles, in_blocks), m_shape(at_once * tiles, out_blocks);
    const long u_row = in_blocks * LANES, u_place = odd(out_blocks * LANES * in_blocks) * LANES;
    float *v = for_inputs(v_shape.size()), *m = for_gradients(m_shape.size());
    float *u = for_products(PLACES * u_place), *sums = for_sums(batch * out_blocks * LANES);
    for (long first = 0; first < batch; first += at_once) {
        const long here = batch - first < at_once ? batch - first : at_once;
        const long rows = here * tiles;
        transform_inputs(
            x + first * in * inputs.positions(), inputs, here, v_shape, v, threads
        );
        in_parallel(here * out_blocks, 32 * tiles * LANES, threads, [=](long from, long until) {
            static thread_local Scratch scratch;
            float *lanes = scratch(2 * width * LANES);
            for (long n = from; n < until; ++n) {
                const long b = n / out_blocks, block = n % out_blocks;
                transform_gradient(
                    grad + (first + b) * out * outputs.positions(), outputs, block * LANES, lanes,
                    m + block * m_shape.block + b * tiles * LANES, m_shape.place,
                    sums + ((first + b) * out_blocks + block) * LANES
                );
            }
        });
        in_parallel(PLACES * out_blocks, rows * in * LANES, threads, [=](long from, long until) {
            for (long n = from; n < until; ++n) {
                const long place = n / out_blocks, block = n % out_blocks;
                const float *a = m + place * m_shape.place + block * m_shape.block;
                for (long c = 0; c < in_blocks; ++c) {
                    const float *b = v + place * v_shape.place + c * v_shape.block;
                    float *to = u + place * u_place + block * LANES * u_row + c * LANES;
                    all_rows<2, 1>(LANES, a, 0, LANES, b, rows, 1, to, u_row, first > 0);
                }
            }
        });
    }
    in_parallel(out, 64 * in, threads, [=](long from, long until) {
        for (long o = from; o < until; ++o) {
            for (long c = 0; c < in; c += LANES)
                transform_kernel_gradient(
                    u + o * u_row + c, u_place, in - c, grad_weight + (o * in + c) * 9
                );
            float total = 0.0f;
            for (long b = 0; b < batch; ++b) total += sums[b * out_blocks * LANES + o];
            grad_bias[o] = total;
        }
    });
}

}  // extern "C"
