// A vectorizable exponential function, e^x and e^x - 1 for x <= 0.
//
// The polynomial is that of mixture_logistic.cu. That file cannot include this one, since NVRTC
// compiles it alone, and its function also returns subnormal numbers.

#pragma once

#include <cstring>

namespace {

inline int bits_of(float x) {
    int b;
    std::memcpy(&b, &x, sizeof b);
    return b;
}

inline float from_bits(int b) {
    float x;
    std::memcpy(&x, &b, sizeof x);
    return x;
}

// e^x = scale * (1 + q) for x <= 0, with scale a power of two and q = e^r - 1 for the remainder
// |r| <= log(2) / 2. Both e^x and e^x - 1 are within about 2 ulps. Below -87, near the end of the
// normal numbers, e^x is 0. The comparisons let NaN propagate.
struct Power {
    float scale, q;
    float exponential() const { return scale * q + scale; }
    float minus_one() const { return scale * q + (scale - 1.0f); }
};

inline __attribute__((always_inline)) Power power(float x) {
    const bool vanishes = x < -87.0f;
    x = vanishes ? -87.0f : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const float shifted = x * 1.44269504f + magic;
    const int n = bits_of(shifted) - bits_of(magic);
    const float whole = shifted - magic;
    const float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return {vanishes ? 0.0f : from_bits((n + 127) << 23), p * r * r + r};
}

}  // namespace
