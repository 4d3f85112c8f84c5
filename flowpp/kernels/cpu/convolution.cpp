// 3x3 convolutions with zero padding by Winograd's F(2x2, 3x3), in float32: 16 products for each tile
// of 2x2 outputs, input channel and output channel, where the definition takes 36.
//
//     Y = A^T (sum over channels of (G g G^T) * (B^T d B)) A
//
// for a tile's 4x4 inputs d and a kernel g. Over the tiles of an image, each of the 16 places is a
// matrix product, (tiles, in) times (in, out). All data are in blocks of 16 channels meanwhile.
// The input's gradient is the same with kernels rotated by 180 degrees. The kernel's is the transpose
// of the map above, G^T (sum over tiles of (A y A^T) * (B^T d B)) G.
//
// Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

#include "lanes.h"
#include "parallel.h"
#include "scratch.h"
#include "winograd.h"

namespace {

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

// Calls work(place, block, count) for every place and every group of up to BLOCKS_AT_ONCE blocks.
template <typename Work> void in_pieces(long blocks, long work_each, long threads, Work work) {
    const long pieces = (blocks + BLOCKS_AT_ONCE - 1) / BLOCKS_AT_ONCE;
    in_parallel(PLACES * pieces, work_each * BLOCKS_AT_ONCE, threads, [=](long from, long until) {
        for (long n = from; n < until; ++n) {
            const long piece = n % pieces, block = blocks * piece / pieces;
            work(n / pieces, block, blocks * (piece + 1) / pieces - block);
        }
    });
}

}  // namespace

extern "C" {

// y = convolution of x (batch, in, height, width) with the kernels, plus bias unless it is null.
// Height and width are even. `rotated` rotates the kernels by 180 degrees.
void winograd_forward(
    const float *x, const float *weight, const float *bias, long batch, long in, long out, long height,
    long width, long out_stride, long in_stride, long rotated, float *y, long threads
) {
    static thread_local Scratch for_kernels, for_inputs, for_products;
    const Images inputs{in, height, width}, outputs{out, height, width};
    const long in_blocks = inputs.blocks(), out_blocks = outputs.blocks(), tiles = inputs.tiles();
    const long at_once = images_at_once(inputs, batch);
    const Kernels kernels{weight, out_stride, in_stride, rotated != 0};
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
        in_pieces(out_blocks, rows * in * LANES, threads, [=](long place, long block, long count) {
            const float *a = v + place * v_shape.place;
            const float *b = u + place * u_shape.place + block * u_shape.block;
            float *c = m + place * m_shape.place + block * m_shape.block;
            for (long i = 0; i < in_blocks; i += BLOCKS_PER_SUM)
                all_blocks<LANES>(
                    count, rows, a + i * v_shape.block, v_shape.block, 1, b + i * LANES * LANES,
                    u_shape.block, LANES,
                    in_blocks - i < BLOCKS_PER_SUM ? in_blocks - i : BLOCKS_PER_SUM, c, LANES,
                    m_shape.block, i > 0
                );
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

// Gradients of weight (out, in, 3, 3) and bias (out,), given that of y.
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
                all_blocks<1>(
                    in_blocks, LANES, m + place * m_shape.place + block * m_shape.block, 0, LANES,
                    v + place * v_shape.place, v_shape.block, rows, 1,
                    u + place * u_place + block * LANES * u_row, u_row, LANES, first > 0
                );
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
