// Elementwise layers of conditioners, in float32, each in one pass through memory.
//
// Images are dense, (batch, channels, positions). Torch's own operations take several passes for each
// layer, and copies: a concatenation before an ELU, transpositions around a normalization.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "exponential.h"
#include "parallel.h"
#include "status.h"

namespace {

constexpr int LANES = 16;
constexpr int BLOCK = 128;

inline __attribute__((always_inline)) float magnitude(float x) { return x < 0.0f ? -x : x; }

inline __attribute__((always_inline)) float sigmoid(float x) {
    const float e = power(-magnitude(x)).exponential();
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// Calls work(image, begin, end) for ranges of each image's [0, half), also if there are few images.
template <typename Work> void in_pieces(long batch, long half, int threads, Work work) {
    const long pieces = threads < 1 ? 1 : threads;
    in_parallel(batch * pieces, half / pieces, threads, [=](long from, long to, long) {
        for (long n = from; n < to; ++n) {
            const long piece = n % pieces;
            work(n / pieces, half * piece / pieces, half * (piece + 1) / pieces);
        }
    });
}

// Calls work(image, begin, count, part) for every BLOCK of each image's positions.
template <typename Work>
void in_blocks(long batch, long channels, long positions, int threads, Work work) {
    const long groups = (positions + BLOCK - 1) / BLOCK, all = batch * groups;
    const long parts = threads < 1 ? 1 : threads;
    in_parallel(parts, all * BLOCK * channels / parts, threads, [=](long from, long to, long) {
        for (long part = from; part < to; ++part)
            for (long g = all * part / parts; g < all * (part + 1) / parts; ++g) {
                const long begin = (g % groups) * BLOCK;
                const long left = positions - begin;
                work(g / groups, begin, static_cast<int>(left < BLOCK ? left : BLOCK), part);
            }
    });
}

template <typename Term> inline float lane_sum(long count, Term term) {
    float partial[LANES] = {};
    long i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; ++j) partial[j] += term(i + j);
    float total = 0.0f;
    for (int j = 0; j < LANES; ++j) total += partial[j];
    for (; i < count; ++i) total += term(i);
    return total;
}

// 16 random bits against a threshold: kept with probability 1 - threshold / 65536.
inline float kept(uint16_t bits, int threshold, float scale) { return bits < threshold ? 0.0f : scale; }

// Normalizes each position's channels to mean 0 and variance 1, then applies gain and bias. Positions
// are contiguous in memory; up to BLOCK of them are computed at a time, without a transposition.
struct Norm {
    long channels, positions;
    const float *gain, *bias;
    float epsilon;

    // Sums are of type T. Returns false if a variance overflows: no output is written then.
    template <typename T>
    bool forward(const float *in, int present, float *out, float *mean, float *rate) const {
        T sum[BLOCK] = {}, square[BLOCK] = {};
        for (long c = 0; c < channels; ++c) {
            const float *row = in + c * positions;
            for (int i = 0; i < present; ++i) sum[i] += row[i];
        }
        for (int i = 0; i < present; ++i) sum[i] /= channels;
        for (long c = 0; c < channels; ++c) {
            const float *row = in + c * positions;
            for (int i = 0; i < present; ++i) square[i] += (row[i] - sum[i]) * (row[i] - sum[i]);
        }
        int infinite = 0;
        for (int i = 0; i < present; ++i) infinite += square[i] > std::numeric_limits<T>::max();
        if (infinite) return false;
        for (int i = 0; i < present; ++i) {
            mean[i] = sum[i];
            rate[i] = square[i] = 1 / std::sqrt(square[i] / channels + epsilon);
        }
        for (long c = 0; c < channels; ++c) {
            const float *row = in + c * positions;
            float *target = out + c * positions;
            const float g = gain[c], h = bias[c];
#pragma GCC ivdep
            for (int i = 0; i < present; ++i) target[i] = (row[i] - sum[i]) * square[i] * g + h;
        }
        return true;
    }

    template <typename T>
    void backward(
        const float *in, const float *grad, int present, const float *mean, const float *rate,
        float *grad_in, float *by_gain, float *by_bias
    ) const {
        T sum[BLOCK] = {}, product[BLOCK] = {};
        for (long c = 0; c < channels; ++c) {
            const float *row = in + c * positions, *g = grad + c * positions;
            const float weight = gain[c];
            T with_row[BLOCK];
            for (int i = 0; i < present; ++i) {
                with_row[i] = g[i] * ((row[i] - T(mean[i])) * rate[i]);
                sum[i] += weight * g[i];
                product[i] += weight * with_row[i];
            }
            by_bias[c] += lane_sum(present, [=](long i) { return g[i]; });
            by_gain[c] += lane_sum(present, [&](long i) { return float(with_row[i]); });
        }
        for (int i = 0; i < present; ++i) {
            sum[i] /= channels;
            product[i] /= channels;
        }
        for (long c = 0; c < channels; ++c) {
            const float *row = in + c * positions, *g = grad + c * positions;
            float *out = grad_in + c * positions;
            const float weight = gain[c];
#pragma GCC ivdep
            for (int i = 0; i < present; ++i) {
                const T normal = (row[i] - T(mean[i])) * rate[i];
                out[i] = rate[i] * (weight * g[i] - sum[i] - normal * product[i]);
            }
        }
    }
};

}  // namespace

extern "C" {

// y = [elu(x), elu(-x)] along channels: half = channels * positions numbers of x for each image.
// One of the two is x or -x, the other e^-|x| - 1.
int concat_elu_forward(const float *x, long batch, long half, float *y, long threads) {
    in_pieces(batch, half, threads, [=](long b, long begin, long end) {
        const float *in = x + b * half;
        float *first = y + 2 * b * half, *second = first + half;
#pragma GCC ivdep
        for (long i = begin; i < end; ++i) {
            const float below = power(-magnitude(in[i])).minus_one();
            first[i] = in[i] > 0.0f ? in[i] : below;
            second[i] = in[i] > 0.0f ? below : -in[i];
        }
    });
    return DONE;
}

// Computed from the outputs: the smaller one is e^-|x| - 1, the other has slope 1.
int concat_elu_backward(
    const float *y, const float *grad, long batch, long half, float *grad_x, long threads
) {
    in_pieces(batch, half, threads, [=](long b, long begin, long end) {
        const float *first = y + 2 * b * half, *second = first + half;
        const float *by_first = grad + 2 * b * half, *by_second = by_first + half;
        float *out = grad_x + b * half;
#pragma GCC ivdep
        for (long i = begin; i < end; ++i) {
            const bool positive = first[i] > 0.0f;
            const float slope = 1.0f + (positive ? second[i] : first[i]);
            out[i] = by_first[i] * (positive ? 1.0f : slope) -
                     by_second[i] * (positive ? slope : 1.0f);
        }
    });
    return DONE;
}

// The same, then dropout: each output is multiplied by scale or set to 0.
int concat_elu_dropout_forward(
    const float *x, const uint16_t *bits, long batch, long half, long threshold, float scale,
    float *y, long threads
) {
    const int limit = static_cast<int>(threshold);
    in_pieces(batch, half, threads, [=](long b, long begin, long end) {
        const float *in = x + b * half;
        const uint16_t *bits_first = bits + 2 * b * half, *bits_second = bits_first + half;
        float *first = y + 2 * b * half, *second = first + half;
#pragma GCC ivdep
        for (long i = begin; i < end; ++i) {
            const float below = power(-magnitude(in[i])).minus_one();
            first[i] = (in[i] > 0.0f ? in[i] : below) * kept(bits_first[i], limit, scale);
            second[i] = (in[i] > 0.0f ? below : -in[i]) * kept(bits_second[i], limit, scale);
        }
    });
    return DONE;
}

int concat_elu_dropout_backward(
    const float *x, const uint16_t *bits, const float *grad, long batch, long half, long threshold,
    float scale, float *grad_x, long threads
) {
    const int limit = static_cast<int>(threshold);
    in_pieces(batch, half, threads, [=](long b, long begin, long end) {
        const float *in = x + b * half;
        const uint16_t *bits_first = bits + 2 * b * half, *bits_second = bits_first + half;
        const float *by_first = grad + 2 * b * half, *by_second = by_first + half;
        float *out = grad_x + b * half;
#pragma GCC ivdep
        for (long i = begin; i < end; ++i) {
            const bool positive = in[i] > 0.0f;
            const float slope = power(-magnitude(in[i])).exponential();
            out[i] = by_first[i] * kept(bits_first[i], limit, scale) * (positive ? 1.0f : slope) -
                     by_second[i] * kept(bits_second[i], limit, scale) * (positive ? slope : 1.0f);
        }
    });
    return DONE;
}

// y = dropout of x. With the gradient for x, this is also the backward pass.
int dropout(
    const float *x, const uint16_t *bits, long count, long threshold, float scale, float *y,
    long threads
) {
    const int limit = static_cast<int>(threshold);
    in_parallel(threads, count / threads, threads, [=](long from, long to, long) {
#pragma GCC ivdep
        for (long i = count * from / threads; i < count * to / threads; ++i)
            y[i] = x[i] * kept(bits[i], limit, scale);
    });
    return DONE;
}

// y = x + a sigmoid(b), with a and b the channel halves of gates.
int gated_sum_forward(
    const float *x, const float *gates, long batch, long half, float *y, long threads
) {
    in_pieces(batch, half, threads, [=](long n, long begin, long end) {
        const float *in = x + n * half, *a = gates + 2 * n * half, *b = a + half;
        float *out = y + n * half;
#pragma GCC ivdep
        for (long i = begin; i < end; ++i) out[i] = in[i] + a[i] * sigmoid(b[i]);
    });
    return DONE;
}

int gated_sum_backward(
    const float *gates, const float *grad, long batch, long half, float *grad_gates, long threads
) {
    in_pieces(batch, half, threads, [=](long n, long begin, long end) {
        const float *a = gates + 2 * n * half, *b = a + half, *g = grad + n * half;
        float *by_a = grad_gates + 2 * n * half, *by_b = by_a + half;
#pragma GCC ivdep
        for (long i = begin; i < end; ++i) {
            const float e = power(-magnitude(b[i])).exponential();
            const float gate = (b[i] < 0.0f ? e : 1.0f) / (1.0f + e);
            const float complement = (b[i] < 0.0f ? 1.0f : e) / (1.0f + e);
            by_a[i] = g[i] * gate;
            by_b[i] = g[i] * a[i] * (gate * complement);
        }
    });
    return DONE;
}

// y = normalized x, with the means and 1 / sqrt(variance + epsilon) of each position.
int layer_norm_forward(
    const float *x, const float *gain, const float *bias, long batch, long channels, long positions,
    float epsilon, float *y, float *means, float *rates, long threads
) {
    const Norm norm{channels, positions, gain, bias, epsilon};
    in_blocks(batch, channels, positions, threads, [=](long b, long begin, int present, long) {
        const long image = b * channels * positions + begin, position = b * positions + begin;
        const auto compute = [&](auto forward) {
            return (norm.*forward)(
                x + image, present, y + image, means + position, rates + position
            );
        };
        if (!compute(&Norm::forward<float>)) compute(&Norm::forward<double>);
    });
    return DONE;
}

// partial: zeros (threads, 2, channels). Its sum over threads is the gradient of gain and bias.
int layer_norm_backward(
    const float *x, const float *gain, const float *means, const float *rates, const float *grad,
    long batch, long channels, long positions, float *grad_x, float *partial, long threads
) {
    const Norm norm{channels, positions, gain, nullptr, 0};
    in_blocks(batch, channels, positions, threads, [=](long b, long begin, int present, long part) {
        float *by_gain = partial + part * 2 * channels, *by_bias = by_gain + channels;
        const long image = b * channels * positions + begin;
        const float *mean = means + b * positions + begin, *rate = rates + b * positions + begin;
        // With a smaller rate the difference of x and its mean might overflow.
        const bool wide = *std::min_element(rate, rate + present) < 1e-30f;
        (norm.*(wide ? &Norm::backward<double> : &Norm::backward<float>))(
            x + image, grad + image, present, mean, rate, grad_x + image, by_gain, by_bias
        );
    });
    return DONE;
}

}  // extern "C"
