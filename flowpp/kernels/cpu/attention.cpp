// Attention head by head, in float32. The attention weights stay in caches.
//
// A head's q, k and v are dense, (depth, length). Lanes are 16 queries: their weights for all keys have
// the shape (length, 16), so that a softmax needs no sums across lanes, and products no packing.

#include <algorithm>
#include <cstring>

#include "exponential.h"
#include "lanes.h"
#include "parallel.h"
#include "status.h"
#include "workspace.h"

namespace {

constexpr float ones[LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
constexpr Columns IN_BLOCK{LANES, WIDTH};
constexpr long QUERY_BLOCKS = 4;  // blocks of 16 queries whose weights are buffered for one product

struct Head {
    long depth, length, stride;  // stride: from a head's q to its k, and from k to v
    float scale;
    long numbers() const { return depth * length; }
    long blocks() const { return (length + LANES - 1) / LANES; }
    long padded() const { return blocks() * LANES; }
    // Number of positions in the block that begins at `first`.
    long present(long first) const { return std::min<long>(LANES, length - first); }
};

// Copies 16 positions of (depth, length) to (depth, 16), padded with zeros.
void pack_block(const float *from, const Head &head, long first, float *to) {
    const long present = head.present(first);
    for (long d = 0; d < head.depth; ++d, to += LANES) {
        const float *row = from + d * head.length + first;
        if (present == LANES)
            std::memcpy(to, row, 4 * LANES);
        else
            for (long i = 0; i < LANES; ++i) to[i] = i < present ? row[i] : 0.0f;
    }
}

void pack(const float *from, const Head &head, float *to) {
    for (long first = 0; first < head.length; first += LANES)
        pack_block(from, head, first, to + first * head.depth);
}

// Transposes (depth, length) to (depth / wide, padded length, wide), padded with zeros.
void pack_transposed(const float *from, const Head &head, long wide, float *to) {
    for (long d = 0; d < head.depth; d += wide, to += head.padded() * wide) {
        const float *rows = from + d * head.length;
        const long deep = std::min(wide, head.depth - d);
        if (deep < wide) std::memset(to, 0, 4 * head.padded() * wide);
        long i = 0;
        if (deep % EIGHT == 0)
            for (; i + EIGHT <= head.length; i += EIGHT)
                for (long e = 0; e < deep; e += EIGHT)
                    transpose(rows + e * head.length + i, head.length, to + i * wide + e, wide);
        for (; i < head.length; ++i)
            for (long e = 0; e < deep; ++e) to[i * wide + e] = rows[e * head.length + i];
        std::memset(to + i * wide, 0, 4 * (head.padded() - i) * wide);
    }
}

// The inverse of pack_transposed.
void unpack_transposed(const float *from, const Head &head, long wide, float *to) {
    for (long d = 0; d < head.depth; d += wide, from += head.padded() * wide) {
        float *rows = to + d * head.length;
        const long deep = std::min(wide, head.depth - d);
        long i = 0;
        if (deep % EIGHT == 0)
            for (; i + EIGHT <= head.length; i += EIGHT)
                for (long e = 0; e < deep; e += EIGHT)
                    transpose(from + i * wide + e, wide, rows + e * head.length + i, head.length);
        for (; i < head.length; ++i)
            for (long e = 0; e < deep; ++e) rows[e * head.length + i] = from[i * wide + e];
    }
}

long transposed_size(const Head &head, long wide) {
    return (head.depth + wide - 1) / wide * wide * head.padded();
}

// to[j][i] = sum over d of packed[d][j] block[d][i], of shape (length, 16).
void products(const float *packed, const float *block, const Head &head, float *to) {
    for (long j = 0; j < head.length; j += LANES)
        all_rows<VECTORS, 1>(
            head.present(j), packed + j * head.depth, 0, LANES, block, IN_BLOCK, head.depth, 1,
            to + j * LANES, IN_BLOCK
        );
}

// to[d][i] = factor[i] times the sum over j of transposed[j][d] weights[j][i]: 16 columns of
// (depth, length).
template <int V>
void sums(
    const float *transposed, const float *weights, const float *factor, const Head &head, long first,
    float *block, float *to
) {
    constexpr long wide = V * WIDTH;
    for (long d = 0; d < head.depth; d += wide)
        all_rows<VECTORS, 1>(
            std::min(wide, head.depth - d), transposed + d * head.padded(), 0, wide, weights, IN_BLOCK,
            head.length, 1, block + d * LANES, IN_BLOCK
        );
    const long present = head.present(first);
    for (long d = 0; d < head.depth; ++d, block += LANES) {
        float *row = to + d * head.length + first;
        if (present == LANES)
            for (int i = 0; i < LANES; ++i) row[i] = block[i] * factor[i];
        else
            for (long i = 0; i < present; ++i) row[i] = block[i] * factor[i];
    }
}

// A value per lane.
struct Lanes {
    Vec part[VECTORS] = {};
    Lanes() = default;
    explicit Lanes(const float *from) {
        for (int v = 0; v < VECTORS; ++v) part[v] = load(from + v * WIDTH);
    }
    void write(float *to) const {
        for (int v = 0; v < VECTORS; ++v) store(to + v * WIDTH, part[v]);
    }
};

Lanes maximum_of(const float *scores, long length) {
    Lanes top(scores);
    for (long j = 1; j < length; ++j) {
        const Lanes row(scores + j * LANES);
        for (int v = 0; v < VECTORS; ++v)
            top.part[v] = row.part[v] > top.part[v] ? row.part[v] : top.part[v];
    }
    return top;
}

Lanes sum_of(const float *weights, long length) {
    Lanes total;
    for (long j = 0; j < length; ++j)
        for (int v = 0; v < VECTORS; ++v) total.part[v] += load(weights + j * LANES + v * WIDTH);
    return total;
}

// Replaces each score by e^(scale (score - maximum)) times factor.
void exponentials(float *scores, long length, float scale, const float *maxima, const float *factor) {
    for (long j = 0; j < length; ++j, scores += LANES)
        for (int i = 0; i < LANES; ++i)
            scores[i] = power(scale * (scores[i] - maxima[i])).exponential() * factor[i];
}

template <int V> long forward_size(const Head &head) {
    return (head.padded() + LANES) * head.depth + transposed_size(head, V * WIDTH) +
           head.padded() * LANES;
}

// `buffer` has forward_size numbers.
template <int V>
void forward(
    const float *query, const Head &head, float *buffer, float *maxima, float *totals, float *to
) {
    constexpr long wide = V * WIDTH;
    const float *key = query + head.stride, *value = key + head.stride;
    float *keys = buffer, *values = keys + head.padded() * head.depth;
    float *weights = values + transposed_size(head, wide), *block = weights + head.padded() * LANES;
    pack(key, head, keys);
    pack_transposed(value, head, wide, values);
    for (long first = 0; first < head.length; first += LANES) {
        pack_block(query, head, first, block);
        products(keys, block, head, weights);
        float top[LANES], total[LANES], factor[LANES];
        maximum_of(weights, head.length).write(top);
        exponentials(weights, head.length, head.scale, top, ones);
        sum_of(weights, head.length).write(total);
        for (int i = 0; i < LANES; ++i) factor[i] = 1.0f / total[i];
        std::memcpy(maxima + first, top, 4 * head.present(first));
        std::memcpy(totals + first, total, 4 * head.present(first));
        sums<V>(values, weights, factor, head, first, block, to);
    }
}

// Replaces scores by weights, and the gradients of weights by those of scores, all (length, 16).
void softmax_backward(
    float *scores, float *grad, const Head &head, const float *maxima, const float *factor
) {
    exponentials(scores, head.length, head.scale, maxima, factor);
    Lanes mean;
    for (long j = 0; j < head.length; ++j) {
        const Lanes w(scores + j * LANES), g(grad + j * LANES);
        for (int v = 0; v < VECTORS; ++v) mean.part[v] += w.part[v] * g.part[v];
    }
    for (long j = 0; j < head.length; ++j) {
        const Lanes w(scores + j * LANES);
        Lanes g(grad + j * LANES);
        for (int v = 0; v < VECTORS; ++v)
            g.part[v] = head.scale * w.part[v] * (g.part[v] - mean.part[v]);
        g.write(grad + j * LANES);
    }
}

template <int V> long backward_size(const Head &head) {
    return (2 * head.padded() + LANES) * head.depth + 5 * transposed_size(head, V * WIDTH) +
           2 * QUERY_BLOCKS * head.padded() * LANES;
}

// `buffer` has backward_size numbers.
template <int V>
void backward(
    const float *query, const Head &head, float *buffer, const float *maxima, const float *totals,
    const float *grad, float *by_query
) {
    constexpr long wide = V * WIDTH;
    const long packed = head.padded() * head.depth;
    const long transposed = transposed_size(head, wide), weighed = head.padded() * LANES;
    const float *key = query + head.stride, *value = key + head.stride;
    float *by_key = by_query + head.stride, *by_value = by_key + head.stride;
    float *keys = buffer, *values = keys + packed, *t = values + packed;
    float *transposed_query = t, *transposed_key = t + transposed;
    float *transposed_grad = t + 2 * transposed;
    float *to_key = t + 3 * transposed, *to_value = t + 4 * transposed;
    float *weights = t + 5 * transposed, *grads = weights + QUERY_BLOCKS * weighed;
    float *block = grads + QUERY_BLOCKS * weighed;
    pack(key, head, keys);
    pack(value, head, values);
    pack_transposed(query, head, wide, transposed_query);
    pack_transposed(key, head, wide, transposed_key);
    pack_transposed(grad, head, wide, transposed_grad);
    for (long group = 0; group < head.blocks(); group += QUERY_BLOCKS) {
        const long blocks = std::min(QUERY_BLOCKS, head.blocks() - group);
        for (long n = 0; n < blocks; ++n) {
            const long first = (group + n) * LANES, present = head.present(first);
            float *w = weights + n * weighed, *g = grads + n * weighed;
            float top[LANES] = {}, factor[LANES] = {};
            for (long i = 0; i < present; ++i) {
                top[i] = maxima[first + i];
                factor[i] = 1.0f / totals[first + i];
            }
            pack_block(query, head, first, block);
            products(keys, block, head, w);
            pack_block(grad, head, first, block);
            products(values, block, head, g);
            softmax_backward(w, g, head, top, factor);
            sums<V>(transposed_key, g, ones, head, first, block, by_query);
        }
        for (long d = 0; d < head.depth; d += wide) {
            const long at = d * head.padded(), from = at + group * LANES * wide;
            all_rows<V, LANES>(
                head.length, weights, weighed, 1, transposed_grad + from, {wide, WIDTH}, LANES, blocks,
                to_value + at, {wide, WIDTH}, group > 0
            );
            all_rows<V, LANES>(
                head.length, grads, weighed, 1, transposed_query + from, {wide, WIDTH}, LANES, blocks,
                to_key + at, {wide, WIDTH}, group > 0
            );
        }
    }
    unpack_transposed(to_key, head, wide, by_key);
    unpack_transposed(to_value, head, wide, by_value);
}

// Vectors per row, or part of a row, of this depth that leave the least padding.
constexpr int vectors_for(long depth) {
    const long two = (depth + 2 * WIDTH - 1) / (2 * WIDTH) * 2 * WIDTH;
    const long three = (depth + 3 * WIDTH - 1) / (3 * WIDTH) * 3 * WIDTH;
    return depth <= WIDTH ? 1 : three < two ? 3 : 2;
}

template <typename Kernel> Kernel kernel_for(long depth, Kernel one, Kernel two, Kernel three) {
    const int vectors = vectors_for(depth);
    return vectors == 1 ? one : vectors == 2 ? two : three;
}

// Calls work(n, buffer) for every head; the buffers of the threads have `size` numbers.
template <typename Work>
void for_each_head(long count, const Head &head, long size, long threads, Work work) {
    const Workspace workspace(4 * size * std::min(threads, count));
    float *buffers = workspace.as<float>();
    const long each = head.numbers() * head.length;
    in_parallel(count, each, threads, [=](long from, long until, long part) {
        for (long n = from; n < until; ++n) work(n, buffers + part * size);
    });
}

// Offset of the n-th head's q in (batch, 3, heads, depth, length).
long head_offset(long n, long heads, const Head &head) {
    return (n / heads * 3 * heads + n % heads) * head.numbers();
}

}  // namespace

extern "C" {

// projected: (batch, 3, heads, depth, length); merged: (batch, heads, depth, length); maxima of each
// query's scores, and sums of its exponentials: (batch, heads, length).
int attention_forward(
    const float *projected, long batch, long heads, long depth, long length, float scale, float *maxima,
    float *totals, float *merged, long threads
) try {
    const Head head{depth, length, heads * depth * length, scale};
    const auto one = kernel_for(depth, forward<1>, forward<2>, forward<3>);
    const auto size = kernel_for(depth, forward_size<1>, forward_size<2>, forward_size<3>);
    for_each_head(batch * heads, head, size(head), threads, [=](long n, float *buffer) {
        one(projected + head_offset(n, heads, head), head, buffer, maxima + n * length,
            totals + n * length, merged + n * head.numbers());
    });
    return DONE;
} catch (const std::bad_alloc &) {
    return OUT_OF_MEMORY;
}

// grad: gradient of merged; grad_projected: gradient of projected.
int attention_backward(
    const float *projected, const float *maxima, const float *totals, const float *grad, long batch,
    long heads, long depth, long length, float scale, float *grad_projected, long threads
) try {
    const Head head{depth, length, heads * depth * length, scale};
    const auto one = kernel_for(depth, backward<1>, backward<2>, backward<3>);
    const auto size = kernel_for(depth, backward_size<1>, backward_size<2>, backward_size<3>);
    for_each_head(batch * heads, head, size(head), threads, [=](long n, float *buffer) {
        one(projected + head_offset(n, heads, head), head, buffer, maxima + n * length,
            totals + n * length, grad + n * head.numbers(),
            grad_projected + head_offset(n, heads, head));
    });
    return DONE;
} catch (const std::bad_alloc &) {
    return OUT_OF_MEMORY;
}

}  // extern "C"
