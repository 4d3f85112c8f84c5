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
#include "status.h"
#include "winograd.h"
#include "workspace.h"

namespace {

// A buffer for each part of a parallel loop: for the pixels of a window and a block of channels.
struct Buffers {
    float *first;
    long each;
    static long size(const Passes &passes) {
        return (2 * passes.rows() + 2) * (2 * passes.columns() + 2) * LANES;
    }
    float *operator[](long part) const { return first + part * each; }
};

void transform_inputs(
    const float *x, const Images &images, const Window &window, const Matrices &shape, float *to,
    const Buffers &buffers, long threads
) {
    const long blocks = images.blocks(), work = 16 * window.tiles() * LANES;
    in_parallel(window.images * blocks, work, threads, [=, &shape](long from, long until, long part) {
        float *lanes = buffers[part];
        for (long n = from; n < until; ++n) {
            const long b = n / blocks, block = n % blocks;
            transform_input(
                x + (window.image + b) * images.channels * images.positions(), images, window,
                block * LANES, lanes, to + block * shape.block + b * window.tiles() * LANES,
                shape.place
            );
        }
    });
}

// Calls work(place, block, count) for every place and every group of up to BLOCKS_AT_ONCE blocks.
template <typename Work> void in_pieces(long blocks, long work_each, long threads, Work work) {
    const long pieces = quotient_up(blocks, BLOCKS_AT_ONCE), work_of_piece = work_each * BLOCKS_AT_ONCE;
    in_parallel(PLACES * pieces, work_of_piece, threads, [=](long from, long until, long) {
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
int winograd_forward(
    const float *x, const float *weight, const float *bias, long batch, long in, long out, long height,
    long width, long out_stride, long in_stride, long rotated, float *y, long threads
) try {
    const Images inputs{in, height, width}, outputs{out, height, width};
    const long in_blocks = inputs.blocks(), out_blocks = outputs.blocks();
    const Passes passes(inputs, batch);
    const Kernels kernels{weight, out_stride, in_stride, rotated != 0};
    const Matrices u_shape(in_blocks * LANES, out_blocks);
    const Matrices v_shape(passes.tiles(), in_blocks), m_shape(passes.tiles(), out_blocks);
    const long numbers = u_shape.size() + v_shape.size() + m_shape.size();
    const Workspace workspace(4 * (numbers + threads * Buffers::size(passes)));
    float *u = workspace.as<float>(), *v = u + u_shape.size(), *m = v + v_shape.size();
    const Buffers buffers{m + m_shape.size(), Buffers::size(passes)};
    in_parallel(out_blocks, 64 * in * LANES, threads, [=](long from, long until, long) {
        for (long block = from; block < until; ++block)
            transform_kernels(
                kernels, block * LANES, out, in, u + block * u_shape.block, u_shape.place
            );
    });
    for (long pass = 0; pass < passes.count(); ++pass) {
        const Window window = passes[pass];
        const long tiles = window.tiles(), rows = window.images * tiles;
        transform_inputs(x, inputs, window, v_shape, v, buffers, threads);
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
        const long many = window.images * out_blocks, work = 32 * tiles * LANES;
        in_parallel(many, work, threads, [=](long from, long until, long part) {
            float *lanes = buffers[part];
            for (long n = from; n < until; ++n) {
                const long b = n / out_blocks, block = n % out_blocks;
                transform_output(
                    m + block * m_shape.block + b * tiles * LANES, m_shape.place, bias, outputs,
                    window, block * LANES, lanes,
                    y + (window.image + b) * out * outputs.positions()
                );
            }
        });
    }
    return DONE;
} catch (const std::bad_alloc &) {
    return OUT_OF_MEMORY;
}

// Gradients of weight (out, in, 3, 3) and bias (out,), given that of y.
int winograd_weight_gradient(
    const float *x, const float *grad, long batch, long in, long out, long height, long width,
    float *grad_weight, float *grad_bias, long threads
) try {
    const Images inputs{in, height, width}, outputs{out, height, width};
    const long in_blocks = inputs.blocks(), out_blocks = outputs.blocks();
    const Passes passes(inputs, batch);
    const Matrices v_shape(passes.tiles(), in_blocks), m_shape(passes.tiles(), out_blocks);
    const long u_row = in_blocks * LANES, u_place = odd(out_blocks * LANES * in_blocks) * LANES;
    const long u_size = PLACES * u_place, all_sums = batch * out_blocks * LANES;
    const long numbers = u_size + v_shape.size() + m_shape.size() + all_sums;
    const Workspace workspace(4 * (numbers + threads * Buffers::size(passes)));
    float *u = workspace.as<float>(), *v = u + u_size, *m = v + v_shape.size();
    float *sums = m + m_shape.size();
    const Buffers buffers{sums + all_sums, Buffers::size(passes)};
    for (long pass = 0; pass < passes.count(); ++pass) {
        const Window window = passes[pass];
        const long tiles = window.tiles(), rows = window.images * tiles;
        transform_inputs(x, inputs, window, v_shape, v, buffers, threads);
        const long many = window.images * out_blocks, work = 32 * tiles * LANES;
        in_parallel(many, work, threads, [=](long from, long until, long part) {
            float *lanes = buffers[part];
            for (long n = from; n < until; ++n) {
                const long b = n / out_blocks, block = n % out_blocks;
                transform_gradient(
                    grad + (window.image + b) * out * outputs.positions(), outputs, window,
                    block * LANES, lanes, m + block * m_shape.block + b * tiles * LANES,
                    m_shape.place, sums + ((window.image + b) * out_blocks + block) * LANES
                );
            }
        });
        in_parallel(PLACES * out_blocks, rows * in * LANES, threads, [=](long from, long until, long) {
            for (long n = from; n < until; ++n) {
                const long place = n / out_blocks, block = n % out_blocks;
                all_blocks<1>(
                    in_blocks, LANES, m + place * m_shape.place + block * m_shape.block, 0, LANES,
                    v + place * v_shape.place, v_shape.block, rows, 1,
                    u + place * u_place + block * LANES * u_row, u_row, LANES, pass > 0
                );
            }
        });
    }
    in_parallel(out, 64 * in, threads, [=](long from, long until, long) {
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
    return DONE;
} catch (const std::bad_alloc &) {
    return OUT_OF_MEMORY;
}

}  // extern "C"
