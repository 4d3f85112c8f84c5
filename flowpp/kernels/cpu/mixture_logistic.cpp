// CPU kernels of the logistic mixture: LANES elements at a time, in several threads.
//
// The formulas are in ../cuda/mixture_logistic.cu, the source of the CUDA kernels too, which is
// included below. This file has only the memory layout, the threads and the interface.

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "status.h"
#include "transpose.h"
#include "workspace.h"

using std::atanh;
using std::log;

#include "../cuda/mixture_logistic.cu"

namespace {

template <typename T> constexpr int lanes() { return 64 / sizeof(T); }

// Memory layout of a parameter: component k of element n = outer * inner_size + inner is at
// base + outer * outer_stride + inner * inner_stride + k * component_stride.
struct Layout {
    long inner_size, outer_stride, inner_stride, component_stride;

    long offset(long n) const {
        return (n / inner_size) * outer_stride + (n % inner_size) * inner_stride;
    }
};

// Orders of LANES elements' parameters in memory. The latter two can be copied fast.
enum class Order { other, elements_contiguous, components_contiguous };

template <typename T> Order order_of(const Layout &layout, long begin, int present) {
    constexpr int L = lanes<T>();
    if (present < L || begin % layout.inner_size + L > layout.inner_size) return Order::other;
    if (layout.inner_stride == 1) return Order::elements_contiguous;
    return layout.component_stride == 1 ? Order::components_contiguous : Order::other;
}

// Copies columns[k][i] = rows[i][k] for LANES rows and the largest multiple of 8 values of k
// within `count`, and returns that multiple.
inline int to_columns(const float *rows, long row_stride, int count, float *columns) {
    constexpr int L = lanes<float>();
    const int whole = count / EIGHT * EIGHT;
    for (int k = 0; k < whole; k += EIGHT)
        for (int i = 0; i < L; i += EIGHT)
            transpose(rows + i * row_stride + k, row_stride, columns + k * L + i, L);
    return whole;
}

// The inverse of `to_columns`.
inline int to_rows(const float *columns, int count, float *rows, long row_stride) {
    constexpr int L = lanes<float>();
    const int whole = count / EIGHT * EIGHT;
    for (int k = 0; k < whole; k += EIGHT)
        for (int i = 0; i < L; i += EIGHT)
            transpose(columns + k * L + i, L, rows + i * row_stride + k, row_stride);
    return whole;
}

inline int to_columns(const double *, long, int, double *) { return 0; }
inline int to_rows(const double *, int, double *, long) { return 0; }

// Copies the parameters of up to LANES elements to buffer[k * LANES + i]. Missing lanes repeat the
// last element.
template <typename T>
void gather(const T *source, const Layout &layout, long begin, int present, int count, T *buffer) {
    constexpr int L = lanes<T>();
    const Order order = order_of<T>(layout, begin, present);
    if (order == Order::elements_contiguous) {
        const T *first = source + layout.offset(begin);
        for (int k = 0; k < count; ++k)
            for (int i = 0; i < L; ++i) buffer[k * L + i] = first[k * layout.component_stride + i];
        return;
    }
    int copied = 0;
    if (order == Order::components_contiguous)
        copied = to_columns(source + layout.offset(begin), layout.inner_stride, count, buffer);
    if (copied == count) return;
    for (int i = 0; i < L; ++i) {
        const T *element = source + layout.offset(begin + (i < present ? i : present - 1));
        for (int k = copied; k < count; ++k)
            buffer[k * L + i] = element[k * layout.component_stride];
    }
}

template <typename T>
void scatter(const T *buffer, const Layout &layout, long begin, int present, int count,
             T *target) {
    constexpr int L = lanes<T>();
    const Order order = order_of<T>(layout, begin, present);
    if (order == Order::elements_contiguous) {
        T *first = target + layout.offset(begin);
        for (int k = 0; k < count; ++k)
            for (int i = 0; i < L; ++i) first[k * layout.component_stride + i] = buffer[k * L + i];
        return;
    }
    int copied = 0;
    if (order == Order::components_contiguous)
        copied = to_rows(buffer, count, target + layout.offset(begin), layout.inner_stride);
    if (copied == count) return;
    for (int i = 0; i < present; ++i) {
        T *element = target + layout.offset(begin + i);
        for (int k = copied; k < count; ++k)
            element[k * layout.component_stride] = buffer[k * L + i];
    }
}

// Replaces log-scales below `floor` by it; NaN stays NaN. No floor is -infinity.
template <typename T> void apply_floor(T floor, int count, T *log_scales) {
    if (floor < -Number<T>::largest) return;
    for (int i = 0; i < count; ++i) log_scales[i] = log_scales[i] < floor ? floor : log_scales[i];
}

// Gradients of `apply_floor`: 0 below the floor and for NaN.
template <typename T> void clear_below(T floor, const T *log_scales, int count, T *gradients) {
    if (floor < -Number<T>::largest) return;
    for (int i = 0; i < count; ++i) gradients[i] = log_scales[i] >= floor ? gradients[i] : 0;
}

template <typename T> void load(const T *source, long begin, int present, T *lane) {
    for (int i = 0; i < lanes<T>(); ++i) lane[i] = source[begin + (i < present ? i : present - 1)];
}

// Calls work(begin, present, buffer) for every group of lanes; a buffer of `bytes`, a multiple of 64,
// belongs to one thread at a time.
template <typename T, typename Work>
void for_each_group(long elements, long bytes, int threads, Work work) {
    constexpr int L = lanes<T>();
    const long groups = (elements + L - 1) / L, parts = std::min<long>(threads, groups);
    const Workspace workspace(bytes * parts);
    char *buffers = workspace.as<char>();
    auto run = [&](long from, long to, long part) {
        for (long g = from; g < to; ++g) {
            const long left = elements - g * L;
            work(g * L, static_cast<int>(left < L ? left : L), buffers + part * bytes);
        }
    };
    in_parts(groups, parts, parts, run);
}

template <typename T>
void forward(const T *x, const T *logits, const T *means, const T *log_scales,
             const Layout *layout, long elements, int count, T floor, T *y, T *l, int threads) {
    constexpr int L = lanes<T>();
    const long bytes = 3l * count * L * sizeof(T);
    for_each_group<T>(elements, bytes, threads, [&](long begin, int present, char *buffer) {
        T *a = reinterpret_cast<T *>(buffer), *b = a + L * count, *c = b + L * count;
        alignas(64) T lane[L], value[L], slope[L];
        load(x, begin, present, lane);
        gather(logits, layout[0], begin, present, count, a);
        gather(means, layout[1], begin, present, count, b);
        gather(log_scales, layout[2], begin, present, count, c);
        apply_floor(floor, L * count, c);
        evaluate<T, L>(lane, a, b, c, L, count, value, slope);
        for (int i = 0; i < present; ++i) y[begin + i] = value[i], l[begin + i] = slope[i];
    });
}

template <typename T>
void backward(const T *x, const T *logits, const T *means, const T *log_scales,
              const Layout *layout, long elements, int count, T floor, const T *g_y, const T *g_l,
              T *g_x, T *g_logits, T *g_means, T *g_log_scales, const Layout *target,
              int threads) {
    constexpr int L = lanes<T>();
    const long bytes = count * (7l * L * sizeof(T) + sizeof(Saved<T, L>));
    for_each_group<T>(elements, bytes, threads, [&](long begin, int present, char *buffer) {
        T *a = reinterpret_cast<T *>(buffer), *b = a + L * count, *c = b + L * count;
        T *ga = c + L * count, *gb = ga + L * count, *gc = gb + L * count, *raw = gc + L * count;
        auto *saved = reinterpret_cast<Saved<T, L> *>(raw + L * count);
        alignas(64) T lane[L], by_y[L], by_l[L], by_x[L];
        load(x, begin, present, lane);
        load(g_y, begin, present, by_y);
        load(g_l, begin, present, by_l);
        gather(logits, layout[0], begin, present, count, a);
        gather(means, layout[1], begin, present, count, b);
        gather(log_scales, layout[2], begin, present, count, c);
        if (floor >= -Number<T>::largest) std::copy_n(c, L * count, raw);
        apply_floor(floor, L * count, c);
        gradient<T, L>(lane, a, b, c, L, count, by_y, by_l, by_x, ga, gb, gc, saved);
        clear_below(floor, raw, L * count, gc);
        for (int i = 0; i < present; ++i) g_x[begin + i] = by_x[i];
        scatter(ga, target[0], begin, present, count, g_logits);
        scatter(gb, target[1], begin, present, count, g_means);
        scatter(gc, target[2], begin, present, count, g_log_scales);
    });
}

// One element prepared for many evaluations. Quantities that do not depend on x are computed once,
// and the components are contiguous and padded with weight 0 to a multiple of L.
template <typename T, int L> class Prepared {
  public:
    static long padded_count(int count) { return (count + L - 1l) / L * L; }
    static long numbers(int count) { return 5 * padded_count(count); }

    Prepared(int count, T *memory) : padded(padded_count(count)), memory(memory) {}

    void load(const T *logit, const T *mean, const T *log_scale, const Layout *layout, long n,
              int components, T floor) {
        count = components;
        T *a = raw(0), *b = raw(1), *c = raw(2);
        for (int k = 0; k < count; ++k) {
            a[k] = logit[layout[0].offset(n) + k * layout[0].component_stride];
            b[k] = mean[layout[1].offset(n) + k * layout[1].component_stride];
            c[k] = log_scale[layout[2].offset(n) + k * layout[2].component_stride];
        }
        apply_floor(floor, count, c);
        T top = a[0];
        for (int k = 1; k < count; ++k) top = greater(top, a[k]);
        shift = top;
        widest = 0;
        for (int k = 0; k < count; ++k) widest = greater(widest, magnitude(c[k]));
        FLOWPP_VECTOR
        for (int k = 0; k < count; ++k) weight[k] = exponential(a[k] - top);
        FLOWPP_VECTOR
        for (int k = 0; k < count; ++k) rate[k] = exponential(-c[k]);
        fastest = 0;
        for (int k = 0; k < count; ++k) fastest = greater(fastest, rate[k]);
        T lost = total = 0;
        for (int k = 0; k < count; ++k) add(total, lost, weight[k]);
        for (long k = count; k < padded; ++k) {
            a[k] = a[0], b[k] = b[0], c[k] = c[0];
            weight[k] = rate[k] = 0;
        }
    }

    Bracket<T> bracket(T target) {
        const T *a = raw(0), *b = raw(1), *c = raw(2);
        Bounds<T, L> bounds;
        clear(bounds);
        for (long k = 0; k < padded; k += L) {
            FLOWPP_VECTOR
            for (int i = 0; i < L; ++i)
                extend(bounds, i, target, weight[k + i], a[k + i], b[k + i], c[k + i]);
        }
        return bracket_within(bounds, target);
    }

    // 1.04 times as fast if not inlined.
    __attribute__((noinline)) void operator()(T x, T &y, T &l) {
        const T *mean = raw(1);
        const T largest = Number<T>::largest;
        T cdf[L] = {}, survival[L] = {}, density[L] = {}, excess[L] = {};
        T lost_cdf[L] = {}, lost_survival[L] = {}, lost_excess[L] = {};
        for (long k = 0; k < padded; k += L) {
            FLOWPP_VECTOR
            for (int i = 0; i < L; ++i) {
                const T z = lesser(greater((x - mean[k + i]) * rate[k + i], -largest), largest);
                const T e = exponential(-magnitude(z)), r = 1 / (1 + e), er = e * r;
                const T w = weight[k + i], low = z < 0 ? er : r, high = z < 0 ? r : er;
                add(cdf[i], lost_cdf[i], w * low);
                add(survival[i], lost_survival[i], w * high);
                add(excess[i], lost_excess[i], w * (z < 0 ? (e - 1) * r : (1 - e) * r));
                density[i] += w * (rate[k + i] * (r * er));
            }
        }
        FLOWPP_VECTOR
        for (int i = 0; i < L; ++i) {
            cdf[i] -= lost_cdf[i];
            survival[i] -= lost_survival[i];
            excess[i] -= lost_excess[i];
        }
        for (int half = L / 2; half > 0; half /= 2) {
            FLOWPP_VECTOR
            for (int i = 0; i < half; ++i) {
                cdf[i] += cdf[i + half];
                survival[i] += survival[i + half];
                excess[i] += excess[i + half];
                density[i] += density[i + half];
            }
        }
        Sums<T, 1> s = {};
        s.cdf[0] = cdf[0];
        s.survival[0] = survival[0];
        s.excess[0] = excess[0];
        s.density[0] = density[0];
        s.weight[0] = total;
        s.widest[0] = widest;
        s.fastest[0] = fastest;
        s.components = T(count);
        if (in_body(s, 0)) {
            body_values(s, 0, y, l);
        } else {
            const Anchored<T> a = tail_sums(x, raw(0), raw(1), raw(2), 1, count, shift, total);
            tail_values(a, y, l);
        }
    }

  private:
    long padded;
    T *memory, *weight = memory + 3 * padded, *rate = memory + 4 * padded;
    T shift = 0, total = 0, widest = 0, fastest = 0;
    int count = 0;

    T *raw(int which) { return memory + which * padded; }
};

template <typename T, int L>
void inverse_by(const T *y, const T *logits, const T *means, const T *log_scales,
                const Layout *layout, long elements, int count, T floor, T ulps, int cap, T *root,
                T *residual, T *width, long long *evaluations, int threads) {
    const long bytes = (Prepared<T, L>::numbers(count) * sizeof(T) + 63) / 64 * 64;
    for_each_group<T>(elements, bytes, threads, [&](long begin, int present, char *buffer) {
        Prepared<T, L> element(count, reinterpret_cast<T *>(buffer));
        for (long n = begin; n < begin + present; ++n) {
            element.load(logits, means, log_scales, layout, n, count, floor);
            const Root<T> r = find_root<T, Prepared<T, L> &>(
                y[n], element.bracket(y[n]), ulps, cap, element);
            root[n] = r.root;
            residual[n] = r.residual;
            width[n] = r.width;
            evaluations[n] = r.evaluations;
        }
    });
}

// For few components half the vector length is faster: less of the last vector is padding.
template <typename T>
void inverse(const T *y, const T *logits, const T *means, const T *log_scales,
             const Layout *layout, long elements, int count, T floor, T ulps, int cap, T *root,
             T *residual, T *width, long long *evaluations, int threads) {
    constexpr int L = lanes<T>();
    const auto solve = count > L ? inverse_by<T, L> : inverse_by<T, L / 2>;
    solve(y, logits, means, log_scales, layout, elements, count, floor, ulps, cap, root, residual,
          width, evaluations, threads);
}

}  // namespace

#define FLOWPP_CPU_KERNELS(T, NAME)                                                               \
    extern "C" int mixture_forward_##NAME(const T *x, const T *a, const T *b, const T *c,         \
                                          const Layout *layout, long elements, int count,         \
                                          T floor, T *y, T *l, int threads) try {                 \
        forward<T>(x, a, b, c, layout, elements, count, floor, y, l, threads);                    \
        return DONE;                                                                              \
    } catch (const std::bad_alloc &) {                                                            \
        return OUT_OF_MEMORY;                                                                     \
    }                                                                                             \
    extern "C" int mixture_backward_##NAME(                                                       \
        const T *x, const T *a, const T *b, const T *c, const Layout *layout, long elements,      \
        int count, T floor, const T *g_y, const T *g_l, T *g_x, T *g_a, T *g_b, T *g_c,           \
        const Layout *target, int threads) try {                                                  \
        backward<T>(x, a, b, c, layout, elements, count, floor, g_y, g_l, g_x, g_a, g_b, g_c,     \
                    target, threads);                                                             \
        return DONE;                                                                              \
    } catch (const std::bad_alloc &) {                                                            \
        return OUT_OF_MEMORY;                                                                     \
    }                                                                                             \
    extern "C" int mixture_inverse_##NAME(const T *y, const T *a, const T *b, const T *c,         \
                                          const Layout *layout, long elements, int count,         \
                                          T floor, T ulps, int cap, T *root, T *residual,         \
                                          T *width, long long *evaluations, int threads) try {    \
        inverse<T>(y, a, b, c, layout, elements, count, floor, ulps, cap, root, residual, width,  \
                   evaluations, threads);                                                         \
        return DONE;                                                                              \
    } catch (const std::bad_alloc &) {                                                            \
        return OUT_OF_MEMORY;                                                                     \
    }

FLOWPP_CPU_KERNELS(float, float32)
FLOWPP_CPU_KERNELS(double, float64)
