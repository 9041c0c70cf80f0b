// The words of the kernels beyond plain C++. NVRTC reads the definitions below; for a C++ compiler host_shim.cuh, which
// the loader puts in front, defines the same words. Nothing else differs between the two builds.
#pragma once

typedef long long int64;

// Storage of 16 bits; arithmetic is in float.
struct Half {
    unsigned short bits;
};
struct BFloat16 {
    unsigned short bits;
};

#ifdef __CUDACC__

// One block's shared array: SHARED_ARRAY(float, name, [4][8]).
#define SHARED_ARRAY(type, name, extents) __shared__ __align__(16) type name extents
// A kernel of so many threads, with registers to spare for so many blocks on a multiprocessor.
#define KERNEL(name, threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks) name
// Makes a kernel known to the host runner; the device finds it by its name.
#define EXPORT(name)
#define UNROLL _Pragma("unroll")

__device__ __forceinline__ unsigned bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float float_of(unsigned bits) { return __uint_as_float(bits); }

__device__ __forceinline__ float widen(Half x)
{
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

__device__ __forceinline__ Half narrow_to_half(float x)
{
    Half y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

#else

inline float widen(Half x)
{
    _Float16 y;
    memcpy(&y, &x, sizeof y);
    return y;
}

inline Half narrow_to_half(float x)
{
    const _Float16 rounded = x;
    Half y;
    memcpy(&y, &rounded, sizeof y);
    return y;
}

#endif

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(BFloat16 x) { return float_of((unsigned)x.bits << 16); }

__device__ __forceinline__ void narrow(float x, float &y) { y = x; }
__device__ __forceinline__ void narrow(double x, double &y) { y = x; }
__device__ __forceinline__ void narrow(float x, Half &y) { y = narrow_to_half(x); }
__device__ __forceinline__ void narrow(float x, BFloat16 &y)
{
    // To nearest, ties to even: add just under half a unit of the kept bits, and the last kept bit.
    const unsigned bits = bits_of(x);
    const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    y.bits = is_nan ? 0x7FC0 : (unsigned short)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

__device__ __forceinline__ int64 ceil_div(int64 a, int64 b) { return (a + b - 1) / b; }

// Neighbours in memory, moved by one instruction.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
    T at[N];
};
