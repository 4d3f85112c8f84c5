// What the CUDA kernels need of CUDA, for a host compiler. Included before them.

#pragma once

#include <cmath>
#include <cstring>

#define __CUDACC__
#define __device__
#define __global__
#define __shared__

struct Index3 { unsigned x, y, z; };

extern Index3 threadIdx, blockIdx, blockDim;

void __syncthreads();

template <typename To, typename From> inline To host_bits(From from) {
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float x) { return host_bits<int>(x); }
inline float __int_as_float(int x) { return host_bits<float>(x); }
inline long long __double_as_longlong(double x) { return host_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return host_bits<double>(x); }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }

// CUDA documents at most 2 ulps for this function; `division_error` sets the error.
extern int division_error;
inline float __fdividef(float a, float b) {
    return __int_as_float(__float_as_int(a / b) + division_error);
}

using std::atanh;
using std::fmaf;
using std::log;
