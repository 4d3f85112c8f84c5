// Logit of a logistic mixture's CDF: value, log-derivative, gradients, root.
//
// One source for GPU and CPU: a change here changes both. mixture_kernels.cu includes it for CUDA,
// one element per thread; ../cpu/mixture_logistic.cpp for the CPU: there the same functions compute
// LANES elements at a time, which a C++ compiler turns into vector instructions.
// Do not compile with fast-math or with subnormal numbers flushed to zero: the accuracy depends on
// the order of operations.
//
// Offsets into arrays have the type Index, because elements * components may exceed 32 bits.
//
// With w = softmax(logits), z_k = (x - mu_k) e^{-s_k}, e_k = e^{-|z_k|}, r_k = 1 / (1 + e_k):
//
//     F = sum_k w_k sigmoid(z_k)      S = 1 - F = sum_k w_k sigmoid(-z_k)
//     f = sum_k w_k e^{-s_k} sigmoid(z_k) sigmoid(-z_k)
//     y = log(F / S)                  l = log dy/dx = log(f / (F S))
//
// While F, S and f are far from underflow ("body"), these sums of positive terms are computed
// directly, with three exponentials per component and compensated summation. Elsewhere ("tail")
// every sum is taken relative to its largest term, its anchor, and large numbers are subtracted
// from each other before anything is added: the anchor's logit from the logits, its z from the zs.
// Near the median y = 2 atanh(F - S), with F - S summed term by term.

#ifdef __CUDACC__
#define FLOWPP_FUNCTION __device__ static inline
#define FLOWPP_METHOD __device__ inline
#define FLOWPP_VECTOR
#else
#define FLOWPP_FUNCTION static inline __attribute__((always_inline))
#define FLOWPP_METHOD inline __attribute__((always_inline))
#define FLOWPP_VECTOR _Pragma("GCC ivdep")
#endif

typedef long long Index;  // 64 bits everywhere, as the launcher passes; `long` has 32 on Windows

// ---- numbers -----------------------------------------------------------------------------------

template <typename T> struct Number;

template <> struct Number<float> {
    static constexpr float eps = 1.1920928955078125e-07f;
    static constexpr float tiny = 1.1754943508222875e-38f;
    static constexpr float largest = 3.4028234663852886e38f;
    static constexpr float body = 1e-30f;
#ifdef __CUDACC__
    static constexpr float lost = tiny / eps;  // `decay` is 0 where it would be subnormal
#else
    static constexpr float lost = tiny;
#endif
    static constexpr float exp_range = 80.0f;  // largest |a| for which e^a is a normal number
    static constexpr int most_evaluations = 40;  // per element, see find_root
    static constexpr int numbers_per_octave = 1 << 23;
    typedef int Bits;
};

template <> struct Number<double> {
    static constexpr double eps = 2.220446049250313e-16;
    static constexpr double tiny = 2.2250738585072014e-308;
    static constexpr double largest = 1.7976931348623157e308;
    static constexpr double body = 1e-280;
    static constexpr double lost = tiny;
    static constexpr double exp_range = 700.0;
    static constexpr int most_evaluations = 65;
    static constexpr long long numbers_per_octave = 1ll << 52;
    typedef long long Bits;
};

#ifdef __CUDACC__
FLOWPP_FUNCTION int bits_of(float x) { return __float_as_int(x); }
FLOWPP_FUNCTION long long bits_of(double x) { return __double_as_longlong(x); }
FLOWPP_FUNCTION float from_bits(int b) { return __int_as_float(b); }
FLOWPP_FUNCTION double from_bits(long long b) { return __longlong_as_double(b); }
FLOWPP_FUNCTION int leading_zeros(unsigned long long n) { return __clzll((long long)n); }
#else
template <typename To, typename From> FLOWPP_FUNCTION To same_bits(From from) {
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
FLOWPP_FUNCTION int bits_of(float x) { return same_bits<int>(x); }
FLOWPP_FUNCTION long long bits_of(double x) { return same_bits<long long>(x); }
FLOWPP_FUNCTION float from_bits(int b) { return same_bits<float>(b); }
FLOWPP_FUNCTION double from_bits(long long b) { return same_bits<double>(b); }
FLOWPP_FUNCTION int leading_zeros(unsigned long long n) { return __builtin_clzll(n); }
#endif

template <typename T> FLOWPP_FUNCTION T lesser(T a, T b) { return a < b ? a : b; }
template <typename T> FLOWPP_FUNCTION T greater(T a, T b) { return a > b ? a : b; }
template <typename T> FLOWPP_FUNCTION T magnitude(T a) { return a < 0 ? -a : a; }
template <typename T> FLOWPP_FUNCTION bool is_finite(T a) {
    return magnitude(a) <= Number<T>::largest;
}

// e^x within about 1 ulp, without branches, so that a loop over lanes vectorizes; 0 far below the
// range and infinite above it. NaN does not propagate: callers handle it.
FLOWPP_FUNCTION float exponential(float x) {
    x = lesser(greater(x, -104.0f), 89.0f);
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    float shifted = x * 1.44269504f + magic;
    int n = bits_of(shifted) - bits_of(magic);
    float whole = shifted - magic;
    float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    int half = n >> 1;  // 2^n in two factors: the result may be subnormal, or overflow
    return p * from_bits((half + 127) << 23) * from_bits((n - half + 127) << 23);
}

FLOWPP_FUNCTION double exponential(double x) {
    x = lesser(greater(x, -746.0), 710.0);
    const double magic = 6755399441055744.0;  // 1.5 * 2^52
    double shifted = x * 1.4426950408889634 + magic;
    long long n = bits_of(shifted) - bits_of(magic);
    double whole = shifted - magic;
    double r = (x - whole * 6.93145751953125e-1) - whole * 1.42860682030941723212e-6;
    double p = 1.0 / 6227020800.0;  // Taylor: |r| <= log(2)/2 leaves 4e-18
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * (r * r) + r + 1.0;
    // AVX2 has no arithmetic shift of 64-bit integers, so shift a positive number.
    long long half = ((n + 2048) >> 1) - 1024;
    return p * from_bits((half + 1023) << 52) * from_bits((n - half + 1023) << 52);
}

// e^x for x <= 0, e^x for |x| <= exp_range, and 1 / x for 1 <= x <= 2.
#ifdef __CUDACC__
// Two thirds of the instructions: no subnormal results, and no test for the ends of the range.
FLOWPP_FUNCTION float normal_exponential(float x) {
    const float magic = 12582912.0f;
    float shifted = x * 1.44269504f + magic;
    float whole = shifted - magic;
    float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return from_bits(bits_of(p) + (int)((unsigned)bits_of(shifted) << 23));
}
FLOWPP_FUNCTION float decay(float x) {
    const float power = normal_exponential(fmaxf(x, -87.0f));
    return x < -87.0f ? 0.0f : power;
}
FLOWPP_FUNCTION float moderate_exponential(float x) {
    return normal_exponential(lesser(greater(x, -87.0f), 87.0f));
}
FLOWPP_FUNCTION float reciprocal(float x) {
#ifdef __CUDA_ARCH__
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
#else
    const float r = __fdividef(1.0f, x);
#endif
    // Within 2 ulps; one step of Newton's method follows.
    return fmaf(r, fmaf(-x, r, 1.0f), r);
}
#else
FLOWPP_FUNCTION float decay(float x) { return exponential(x); }
FLOWPP_FUNCTION float moderate_exponential(float x) { return exponential(x); }
FLOWPP_FUNCTION float reciprocal(float x) { return 1 / x; }
#endif
FLOWPP_FUNCTION double decay(double x) { return exponential(x); }
FLOWPP_FUNCTION double moderate_exponential(double x) { return exponential(x); }
FLOWPP_FUNCTION double reciprocal(double x) { return 1 / x; }

FLOWPP_FUNCTION float logarithm(float x) { return logf(x); }
FLOWPP_FUNCTION double logarithm(double x) { return log(x); }
FLOWPP_FUNCTION float area_tanh(float x) { return atanhf(x); }
FLOWPP_FUNCTION double area_tanh(double x) { return atanh(x); }

// ---- one component -----------------------------------------------------------------------------

template <typename T> struct Component {
    T rate, z;       // e^{-s}, (x - mu) e^{-s}
    T cdf, survival;  // sigmoid(z), sigmoid(-z)
    T excess;        // their difference, tanh(z / 2)
    T small;         // their product
};

template <typename T> FLOWPP_FUNCTION Component<T> component_at(T z, T rate) {
    Component<T> c;
    c.rate = lesser(rate, Number<T>::largest);
    c.z = lesser(greater(z, -Number<T>::largest), Number<T>::largest);
    T e = decay(-magnitude(c.z));
    T r = reciprocal(1 + e), er = e * r;
    c.cdf = z < 0 ? er : r;
    c.survival = z < 0 ? r : er;
    T excess = (1 - e) * r;
    c.excess = z < 0 ? -excess : excess;
    c.small = r * er;
    return c;
}

#ifdef __CUDACC__
// The same with fewer comparisons.
FLOWPP_FUNCTION Component<float> component_at(float z, float rate) {
    const float largest = Number<float>::largest;
    Component<float> c;
    c.rate = fminf(rate, largest);
    c.z = fminf(fmaxf(z, -largest), largest);
    const float e = decay(-magnitude(z));
    const float r = reciprocal(1 + e), er = e * r;
    c.cdf = z < 0 ? er : r;
    c.survival = z < 0 ? r : er;
    c.excess = copysignf((1 - e) * r, z);
    c.small = r * er;
    return c;
}
#endif

// Branch-free, for log-scales within exp_range.
template <typename T> FLOWPP_FUNCTION Component<T> component(T x, T mean, T log_scale) {
    T rate = moderate_exponential(-log_scale);
    return component_at((x - mean) * rate, rate);
}

// For any log-scale: x - mean or e^-s can overflow where z does not, so multiply by e^(-s/2)
// twice.
template <typename T> FLOWPP_FUNCTION Component<T> any_component(T x, T mean, T log_scale) {
    if (x == mean) return component_at(T(0), exponential(-log_scale));
    if (is_finite(x - mean) && magnitude(log_scale) <= Number<T>::exp_range)
        return component(x, mean, log_scale);
    T half = exponential(-log_scale / 2);
    return component_at((x / 2 - mean / 2) * half * half * 2, exponential(-log_scale));
}

// Kahan summation: the error does not grow with the number of terms.
template <typename T> FLOWPP_FUNCTION void add(T &sum, T &lost, T term) {
    T corrected = term - lost, next = sum + corrected;
    lost = (next - sum) - corrected;
    sum = next;
}

// Sums without compensation are sums of the sums of BLOCK terms, so that the error for hundreds of
// components is hardly larger than for BLOCK.
constexpr int BLOCK = 32;
FLOWPP_FUNCTION bool ends_block(int k, int count) {
    return k % BLOCK == BLOCK - 1 || k == count - 1;
}

// ---- body, LANES elements at a time ------------------------------------------------------------

// Sums over components with unnormalized weights e^{logit - shift}. Parameter k of lane i is at
// [k * stride + i]. Scales is a pointer to log-scales, or a class that reads like one.
template <typename T, int LANES> struct Sums {
    T shift[LANES], weight[LANES], cdf[LANES], survival[LANES], density[LANES], excess[LANES];
    T poison[LANES];  // 0, or NaN if any argument is not finite
    T widest[LANES];  // largest |log-scale|
    T fastest[LANES];  // largest e^{-log-scale}
    T components;
};

// Values of one component that the gradient's second pass reuses.
template <typename T, int LANES> struct alignas(LANES * sizeof(T)) Saved {
    T weight[LANES], rate[LANES], z[LANES], cdf[LANES], survival[LANES], small[LANES];
};

template <typename T, int LANES>
FLOWPP_FUNCTION void save(Saved<T, LANES> *saved, int k, int i, T weight, const Component<T> &c) {
    Saved<T, LANES> &entry = saved[k];
    entry.weight[i] = weight;
    entry.rate[i] = c.rate;
    entry.z[i] = c.z;
    entry.cdf[i] = c.cdf;
    entry.survival[i] = c.survival;
    entry.small[i] = c.small;
}

struct Unsaved {};
template <typename T> FLOWPP_FUNCTION void save(Unsaved, int, int, T, const Component<T> &) {}

// `saved` receives the values of `count` components: a pointer to Saved, or a class with another
// function `save`. A template parameter, because the vectorizer would compute both sides of a
// condition inside the loop over lanes.
template <typename T, int LANES, typename Scales, typename Memory>
FLOWPP_FUNCTION void body_sums(const T *x, const T *logits, const T *means, Scales log_scales,
                               Index stride, int count, Sums<T, LANES> &s, Memory saved) {
    s.components = T(count);
    T lost_weight[LANES], lost_cdf[LANES], lost_survival[LANES], lost_excess[LANES];
    T density[LANES];
    FLOWPP_VECTOR
    for (int i = 0; i < LANES; ++i) {
        s.shift[i] = logits[i];
        s.weight[i] = s.cdf[i] = s.survival[i] = s.density[i] = s.excess[i] = 0;
        s.widest[i] = s.fastest[i] = 0;
        lost_weight[i] = lost_cdf[i] = lost_survival[i] = lost_excess[i] = density[i] = 0;
        s.poison[i] = x[i] * 0;
    }
    for (int k = 1; k < count; ++k) {
        const T *logit = logits + k * stride;
        FLOWPP_VECTOR
        for (int i = 0; i < LANES; ++i) s.shift[i] = greater(s.shift[i], logit[i]);
    }
    for (int k = 0; k < count; ++k) {
        const T *logit = logits + k * stride, *mean = means + k * stride;
        const auto log_scale = log_scales + k * stride;
        FLOWPP_VECTOR
        for (int i = 0; i < LANES; ++i) {
            T w = decay(logit[i] - s.shift[i]);
            Component<T> c = component(x[i], mean[i], log_scale[i]);
            add(s.weight[i], lost_weight[i], w);
            add(s.cdf[i], lost_cdf[i], w * c.cdf);
            add(s.survival[i], lost_survival[i], w * c.survival);
            add(s.excess[i], lost_excess[i], w * c.excess);
            density[i] += w * (c.rate * c.small);
            s.poison[i] += logit[i] * 0 + mean[i] * 0 + log_scale[i] * 0;
            s.widest[i] = greater(s.widest[i], magnitude(log_scale[i]));
            s.fastest[i] = greater(s.fastest[i], c.rate);
            save(saved, k, i, w, c);
        }
        if (!ends_block(k, count)) continue;
        FLOWPP_VECTOR
        for (int i = 0; i < LANES; ++i) {
            s.density[i] += density[i];
            density[i] = 0;
        }
    }
}

// Whether a lane's sums are accurate. Weights and slopes that underflow are missing from them;
// beside a large rate these must have been negligible for the density.
template <typename T, int LANES> FLOWPP_FUNCTION bool in_body(const Sums<T, LANES> &s, int i) {
    T least = lesser(lesser(s.cdf[i], s.survival[i]), s.density[i]);
    return least > Number<T>::body * s.weight[i] && is_finite(s.density[i]) &&
           s.density[i] > s.components * s.fastest[i] * Number<T>::lost &&
           s.widest[i] <= Number<T>::exp_range;
}

template <typename T, int LANES>
FLOWPP_FUNCTION void body_values(const Sums<T, LANES> &s, int i, T &y, T &l) {
    T small = lesser(s.cdf[i], s.survival[i]), large = greater(s.cdf[i], s.survival[i]);
    T excess = s.excess[i] / s.weight[i];
    y = magnitude(excess) < T(0.5) ? 2 * area_tanh(excess) : logarithm(s.cdf[i] / s.survival[i]);
    // Divide by the smaller sum first: in a tail it is about as small as the density.
    l = logarithm((s.density[i] / small) * (s.weight[i] / large));
}

// ---- tail, one element at a time ---------------------------------------------------------------

// log sum_k e^{lw_k + q_k} r_k, in parts: the anchor's logit and q, and the sum relative to them.
// For F, q_k = min(z_k, 0); for S, q_k = -max(z_k, 0).
template <typename T> struct AnchoredSum {
    T logit, exponent, sum;

    FLOWPP_METHOD T relative(T logit_k, T exponent_k) const {
        return (logit_k - logit) + (exponent_k - exponent);
    }
};

template <typename T> struct Anchored {
    T log_weight;                      // logarithm of the total weight e^{logit - shift}
    AnchoredSum<T> cdf, survival;
    T anchor_cdf, anchor_survival;     // logarithms of the largest terms
    T anchor_density, density;         // of f / (F S): logarithm of the largest term, relative sum
    T excess;                          // F - S

    FLOWPP_METHOD T log_term(T logit, T z, T log_scale) const {
        // The anchor of the smaller of F and S is a large number that cancels most of this term.
        const bool in_cdf = anchor_cdf <= anchor_survival;
        const AnchoredSum<T> &near = in_cdf ? cdf : survival;
        const T far = in_cdf ? anchor_survival : anchor_cdf;
        return (((logit - near.logit) - (magnitude(z) + near.exponent)) - far) - log_scale;
    }
};

template <typename T> FLOWPP_FUNCTION T exponent_cdf(T z) { return lesser(z, T(0)); }
template <typename T> FLOWPP_FUNCTION T exponent_survival(T z) { return -greater(z, T(0)); }

template <typename T, typename Scales>
FLOWPP_FUNCTION Anchored<T> tail_sums(T x, const T *logits, const T *means, Scales log_scales,
                                      Index stride, int count, T shift, T weight) {
    Anchored<T> a;
    a.log_weight = logarithm(weight);
    a.cdf.logit = a.survival.logit = shift;
    a.cdf.exponent = a.survival.exponent = 0;
    // logit + q is rounded to its own size, so that rounding alone may decide between nearly equal
    // terms. Choose again relative to the first choice, where they differ by small numbers.
    for (int pass = 0; pass < 2; ++pass) {
        AnchoredSum<T> cdf = a.cdf, survival = a.survival;
        T most_cdf = -2 * Number<T>::largest, most_survival = most_cdf;
        for (int k = 0; k < count; ++k) {
            const T logit = logits[k * stride];
            const T z = any_component(x, means[k * stride], log_scales[k * stride]).z;
            const T by_cdf = a.cdf.relative(logit, exponent_cdf(z));
            const T by_survival = a.survival.relative(logit, exponent_survival(z));
            if (by_cdf > most_cdf) {
                most_cdf = by_cdf;
                cdf.logit = logit;
                cdf.exponent = exponent_cdf(z);
            }
            if (by_survival > most_survival) {
                most_survival = by_survival;
                survival.logit = logit;
                survival.exponent = exponent_survival(z);
            }
        }
        a.cdf = cdf;
        a.survival = survival;
    }
    a.anchor_cdf = ((a.cdf.logit - shift) - a.log_weight) + a.cdf.exponent;
    a.anchor_survival = ((a.survival.logit - shift) - a.log_weight) + a.survival.exponent;
    a.anchor_density = -2 * Number<T>::largest;
    a.cdf.sum = a.survival.sum = a.density = a.excess = 0;
    T lost_cdf = 0, lost_survival = 0, lost_excess = 0;
    for (int k = 0; k < count; ++k) {
        const T logit = logits[k * stride];
        Component<T> c = any_component(x, means[k * stride], log_scales[k * stride]);
        T r = greater(c.cdf, c.survival);
        add(a.cdf.sum, lost_cdf, exponential(a.cdf.relative(logit, exponent_cdf(c.z))) * r);
        add(a.survival.sum, lost_survival,
            exponential(a.survival.relative(logit, exponent_survival(c.z))) * r);
        add(a.excess, lost_excess, exponential(logit - shift) * c.excess);
        a.anchor_density =
            greater(a.anchor_density, a.log_term(logit, c.z, log_scales[k * stride]));
    }
    T density = 0;
    for (int k = 0; k < count; ++k) {
        Component<T> c = any_component(x, means[k * stride], log_scales[k * stride]);
        T r = greater(c.cdf, c.survival);
        T q = a.log_term(logits[k * stride], c.z, log_scales[k * stride]);
        density += exponential(q - a.anchor_density) * (r * r);
        if (!ends_block(k, count)) continue;
        a.density += density;
        density = 0;
    }
    a.excess /= weight;
    return a;
}

template <typename T> FLOWPP_FUNCTION void tail_values(const Anchored<T> &a, T &y, T &l) {
    T log_cdf = logarithm(a.cdf.sum), log_survival = logarithm(a.survival.sum);
    y = (a.anchor_cdf - a.anchor_survival) + (log_cdf - log_survival);
    if (magnitude(a.excess) < T(0.5)) y = 2 * area_tanh(a.excess);
    if (magnitude(y) >= Number<T>::largest) y *= 2;  // y overflows: the infinity of its sign
    l = a.anchor_density + (logarithm(a.density) - log_cdf - log_survival);
}

// ---- value, gradient, root ---------------------------------------------------------------------

template <typename T, int LANES, typename Scales>
FLOWPP_FUNCTION void evaluate(const T *x, const T *logits, const T *means, Scales log_scales,
                              Index stride, int count, T *y, T *l) {
    Sums<T, LANES> s;
    body_sums(x, logits, means, log_scales, stride, count, s, Unsaved());
    for (int i = 0; i < LANES; ++i) {
        if (in_body(s, i)) {
            body_values(s, i, y[i], l[i]);
        } else {
            Anchored<T> a = tail_sums(x[i], logits + i, means + i, log_scales + i, stride, count,
                                      s.shift[i], s.weight[i]);
            tail_values(a, y[i], l[i]);
        }
        y[i] += s.poison[i];
        l[i] += s.poison[i];
    }
}

// Gradients of g_y y + g_l l. With A_k, B_k and D_k the shares of component k in F, in S and in f:
//     dy/dz_k = A_k sigmoid(-z_k) + B_k sigmoid(z_k)           dy/dlog w_k = A_k - B_k
//     dl/dz_k = (D_k - A_k) sigmoid(-z_k) - (D_k - B_k) sigmoid(z_k)
//     dl/dlog w_k = D_k - A_k - B_k, and + w_k for the logits
template <typename T, typename ScaleTarget>
FLOWPP_FUNCTION void component_gradient(const Component<T> &c, T share_cdf, T share_survival,
                                        T share_density, T weight, T g_y, T g_l, T &g_x,
                                        T *g_logit, T *g_mean, ScaleTarget g_log_scale) {
    T y_z = share_cdf * c.survival + share_survival * c.cdf;
    T l_z = (share_density - share_cdf) * c.survival - (share_density - share_survival) * c.cdf;
    T by_z = g_y * y_z + g_l * l_z, by_x = by_z * c.rate;
    g_x += by_x;
    *g_mean = -by_x;
    *g_log_scale = -by_z * c.z - g_l * share_density;
    *g_logit = g_y * (share_cdf - share_survival) +
               g_l * (share_density - share_cdf - share_survival + weight);
}

// Gradients of an element outside the body, or with the poison NaN, which g_x holds at first. They may
// be written over the parameters.
template <typename T, typename Scales, typename ScaleTargets>
FLOWPP_FUNCTION void tail_gradient(T x, const T *logits, const T *means, Scales log_scales,
                                   Index stride, int count, T shift, T weight, T g_y, T g_l,
                                   T &g_x, T *g_logits, T *g_means, ScaleTargets g_log_scales) {
    if (!is_finite(g_x)) {  // an argument is not finite: so is no gradient
        for (int k = 0; k < count; ++k) {
            const Index at = k * stride;
            g_logits[at] = g_means[at] = g_x;
            *(g_log_scales + at) = g_x;
        }
        return;
    }
    Anchored<T> a = tail_sums(x, logits, means, log_scales, stride, count, shift, weight);
    T sum = 0;
    for (int k = 0; k < count; ++k) {
        const Index at = k * stride;
        const T logit = logits[at];
        Component<T> c = any_component(x, means[at], log_scales[at]);
        T r = greater(c.cdf, c.survival);
        T cdf = exponential(a.cdf.relative(logit, exponent_cdf(c.z))) * r / a.cdf.sum;
        T survival =
            exponential(a.survival.relative(logit, exponent_survival(c.z))) * r / a.survival.sum;
        T q = a.log_term(logit, c.z, log_scales[at]);
        T density = exponential(q - a.anchor_density) * (r * r) / a.density;
        component_gradient(c, cdf, survival, density, exponential(logit - shift) / weight, g_y,
                           g_l, sum, g_logits + at, g_means + at, g_log_scales + at);
        if (!ends_block(k, count)) continue;
        g_x += sum;
        sum = 0;
    }
}

// `saved` has space for `count` components.
template <typename T, int LANES>
FLOWPP_FUNCTION void gradient(const T *x, const T *logits, const T *means, const T *log_scales,
                              Index stride, int count, const T *g_y, const T *g_l, T *g_x,
                              T *g_logits, T *g_means, T *g_log_scales, Saved<T, LANES> *saved) {
    Sums<T, LANES> s;
    body_sums(x, logits, means, log_scales, stride, count, s, saved);
    T per_cdf[LANES], per_survival[LANES], per_density[LANES], per_weight[LANES];
    T sum[LANES], of_block[LANES];
    FLOWPP_VECTOR
    for (int i = 0; i < LANES; ++i) {
        per_cdf[i] = 1 / s.cdf[i];
        per_survival[i] = 1 / s.survival[i];
        per_density[i] = 1 / s.density[i];
        per_weight[i] = 1 / s.weight[i];
        sum[i] = s.poison[i];
        of_block[i] = 0;
    }
    for (int k = 0; k < count; ++k) {
        const Index at = k * stride;
        const Saved<T, LANES> &entry = saved[k];
        FLOWPP_VECTOR
        for (int i = 0; i < LANES; ++i) {
            const T w = entry.weight[i];
            const Component<T> c = {entry.rate[i],     entry.z[i], entry.cdf[i],
                                    entry.survival[i], 0,          entry.small[i]};
            component_gradient(c, w * c.cdf * per_cdf[i], w * c.survival * per_survival[i],
                               w * (c.rate * c.small) * per_density[i], w * per_weight[i], g_y[i],
                               g_l[i], of_block[i], g_logits + at + i, g_means + at + i,
                               g_log_scales + at + i);
        }
        if (!ends_block(k, count)) continue;
        FLOWPP_VECTOR
        for (int i = 0; i < LANES; ++i) {
            sum[i] += of_block[i];
            of_block[i] = 0;
        }
    }
    for (int i = 0; i < LANES; ++i) {
        g_x[i] = sum[i];
        if (in_body(s, i) && is_finite(s.poison[i])) continue;
        g_x[i] = s.poison[i];
        tail_gradient(x[i], logits + i, means + i, log_scales + i, stride, count, s.shift[i],
                      s.weight[i], g_y[i], g_l[i], g_x[i], g_logits + i, g_means + i,
                      g_log_scales + i);
    }
}

// Map bits to integers in the order of the floating-point numbers; its own inverse.
FLOWPP_FUNCTION int ordinal(int bits) {
    return bits < 0 ? (int)(0x80000000u - (unsigned)bits) : bits;
}
FLOWPP_FUNCTION long long ordinal(long long bits) {
    return bits < 0 ? (long long)(0x8000000000000000ull - (unsigned long long)bits) : bits;
}

// An ordered grid of numbers: multiples of `resolution` near zero, where floating-point numbers
// are denser than that, and every floating-point number from resolution / eps on.
template <typename T> struct Places {
    using Bits = typename Number<T>::Bits;
    static constexpr Bits dense = Number<T>::numbers_per_octave;
    T resolution;
    Bits first;  // ordinal of resolution / eps

    FLOWPP_METHOD explicit Places(T resolution)
        : resolution(resolution), first(ordinal(bits_of(resolution / Number<T>::eps))) {}
    FLOWPP_METHOD Bits of(T x) const {
        const T size = magnitude(x);
        const Bits n = ordinal(bits_of(size));
        const Bits place = n < first ? (Bits)(size / resolution) : n - first + dense;
        return x < 0 ? -place : place;
    }
    FLOWPP_METHOD T at(Bits place) const {
        const Bits size = place < 0 ? -place : place;
        const T x = size < dense ? (T)size * resolution : from_bits(ordinal(size - dense + first));
        return place < 0 ? -x : x;
    }
    // Number of halvings until no place is left between a bracket's ends.
    FLOWPP_METHOD int halvings(T lower, T upper) const {
        const unsigned long long gap =
            (unsigned long long)of(upper) - (unsigned long long)of(lower);
        return gap > 1 ? 64 - leading_zeros(gap - 1) : 0;
    }
    // The number halfway in places, or between neighbouring places halfway in floating-point
    // numbers.
    FLOWPP_METHOD T middle(T lower, T upper) const {
        const T x = at(halfway(of(lower), of(upper)));
        if (x > lower && x < upper) return x;
        return from_bits(ordinal(halfway(ordinal(bits_of(lower)), ordinal(bits_of(upper)))));
    }
    FLOWPP_METHOD static Bits halfway(Bits a, Bits b) { return (a >> 1) + (b >> 1) + (a & b & 1); }
};

template <typename T> struct Root {
    T root, residual, width;
    int evaluations;  // cap + 1 if the cap was reached; -1 if the bracket holds no root
};

// A bracket of the root, a first guess, the resolution near zero (eps / 4 of the smallest
// component's mean or scale; over less than that y hardly changes), and `poison`: 0, or NaN if any
// argument is not finite.
template <typename T> struct Bracket { T lower, upper, start, resolution, poison; };

// Accumulates a bracket over components. Component k alone has its root at mu_k + target e^{s_k};
// the mixture's lies between the smallest and the largest of these. The ends are moved out by a
// few roundings of these and of the target; beyond the type they are its largest number. So
// `extend` compares in a way that NaN (infinity minus infinity) gives that number, too.
template <typename T, int LANES> struct Bounds {
    T lower[LANES], upper[LANES], resolution[LANES], start[LANES], weight[LANES], poison[LANES];
};

template <typename T, int LANES> FLOWPP_FUNCTION void clear(Bounds<T, LANES> &r) {
    FLOWPP_VECTOR
    for (int i = 0; i < LANES; ++i) {
        r.lower[i] = r.resolution[i] = Number<T>::largest;
        r.upper[i] = -Number<T>::largest;
        r.start[i] = r.weight[i] = r.poison[i] = 0;
    }
}

// Include one component in lane i; its weight e^{logit - shift} may be 0.
template <typename T, int LANES>
FLOWPP_FUNCTION void extend(Bounds<T, LANES> &r, int i, T target, T weight, T logit, T mean,
                            T log_scale) {
    const T largest = Number<T>::largest, eps = Number<T>::eps, tiny = Number<T>::tiny;
    const T size = greater(magnitude(target), T(1));
    // e^s can overflow where target e^s does not: multiply by e^(s/2) twice.
    const bool extreme = magnitude(log_scale) > Number<T>::exp_range;
    const T first = exponential(extreme ? log_scale / 2 : log_scale), second = extreme ? first : 1;
    const T step = target == 0 ? 0 : target * first * second;
    const T unit = size * first * second, smallest = size * tiny;  // for scales that underflow
    const T root = mean + step, slack = 8 * eps * (magnitude(mean) + unit + smallest);
    const T left = root - slack, right = root + slack;
    r.lower[i] = lesser(r.lower[i], left >= -largest ? left : -largest);
    r.upper[i] = greater(r.upper[i], right <= largest ? right : largest);
    r.resolution[i] = lesser(r.resolution[i], eps / 4 * greater(magnitude(mean),
                                                                lesser(first * second, largest)));
    r.start[i] += weight * lesser(greater(root, -largest), largest);
    r.weight[i] += weight;
    r.poison[i] += logit * 0 + mean * 0 + log_scale * 0;
}

template <typename T, int LANES>
FLOWPP_FUNCTION Bracket<T> bracket_within(const Bounds<T, LANES> &r, T target) {
    const T largest = Number<T>::largest;
    Bracket<T> b = {r.lower[0], r.upper[0], r.start[0], r.resolution[0], target * 0 + r.poison[0]};
    T weight = r.weight[0];
    for (int i = 1; i < LANES; ++i) {
        b.lower = lesser(b.lower, r.lower[i]);
        b.upper = greater(b.upper, r.upper[i]);
        b.resolution = lesser(b.resolution, r.resolution[i]);
        b.start += r.start[i];
        b.poison += r.poison[i];
        weight += r.weight[i];
    }
    b.lower = lesser(b.lower, largest);
    b.upper = greater(b.upper, -largest);
    b.start /= weight;
    if (!is_finite(b.start)) b.start = b.lower / 2 + b.upper / 2;
    return b;
}

template <typename T, typename Scales>
FLOWPP_FUNCTION Bracket<T> bracket_root(T target, const T *logits, const T *means,
                                        Scales log_scales, Index stride, int count) {
    T top = logits[0];
    for (int k = 1; k < count; ++k) top = greater(top, logits[k * stride]);
    Bounds<T, 1> r;
    clear(r);
    for (int k = 0; k < count; ++k) {
        const T logit = logits[k * stride];
        extend(r, 0, target, exponential(logit - top), logit, means[k * stride],
               log_scales[k * stride]);
    }
    return bracket_within(r, target);
}

// Find x with y(x) = target by Newton's method, safeguarded by bisection, stopped in ulps. The
// same steps as in flowpp/root_finding.py, which explains them. `evaluate_at(x, y, l)` computes
// the function and its log-derivative.
template <typename T, typename Evaluate>
FLOWPP_FUNCTION Root<T> find_root(T target, Bracket<T> b, T ulps, int cap, Evaluate evaluate_at) {
    const T eps = Number<T>::eps, tiny = Number<T>::tiny, infinite = 2 * Number<T>::largest;
    const T allowed = ulps * eps * greater(magnitude(target), T(1));
    const Places<T> places(b.resolution);
    if (!is_finite(b.poison)) return {b.poison, b.poison, b.poison, 0};
    T lower = b.lower, upper = b.upper, x = lesser(greater(b.start, lower), upper);
    T r = infinite, at_lower = r, at_upper = r;  // residuals at x and at the bracket's ends
    T last_step = infinite, nudge = 1;
    bool has_lower = false, has_upper = false, halved = false;  // evaluated at this end
    for (int n = 1; n <= cap; ++n) {
        T y, l;
        evaluate_at(x, y, l);
        r = y - target;
        if (r <= 0) lower = x, at_lower = r, has_lower = true;
        if (r >= 0) upper = x, at_upper = r, has_upper = true;
        if (r != r) return {r, r, upper - lower, n};
        if (magnitude(r) <= allowed) return {x, r, upper - lower, n};
        const T middle = halved ? places.middle(lower, upper) : lower / 2 + upper / 2;
        if (middle <= lower || middle >= upper) {
            if (has_lower && has_upper) {
                const bool left = magnitude(at_lower) <= magnitude(at_upper);
                return {left ? lower : upper, left ? at_lower : at_upper, upper - lower, n};
            }
            // The function must be evaluated at both ends before the bracket counts as closed.
            const T open = has_lower ? upper : lower;
            if (x == open) return {x, r, upper - lower, -1};
            x = open;
            continue;
        }
        T step = -r * exponential(-l), shortest = nudge * (eps * magnitude(x) + tiny);
        bool is_short = magnitude(step) <= shortest;
        if (is_short) {
            step = r > 0 ? -shortest : shortest;
            nudge *= 2;
        }
        T next = x + step;
        // If Newton gains nothing, enough evaluations must be left to close the bracket by
        // halving: besides those, Newton's own, one halving by length, and one at an end not yet
        // evaluated.
        const int needed = 1 + !halved + !(has_lower && has_upper);
        bool trusted = next > lower && next < upper &&
                       (is_short || magnitude(step) <= last_step / 2) &&
                       n + places.halvings(lower, upper) + needed <= Number<T>::most_evaluations;
        last_step = step == step ? magnitude(step) : infinite;
        halved = halved || !trusted;
        x = trusted ? next : middle;
    }
    return {x, r, upper - lower, cap + 1};
}
