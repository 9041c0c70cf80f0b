// Tensor cores and asynchronous copies. A warp multiplies fragments: each lane holds of a 16 x K operand A, of a K x 8
// operand B and of the 16 x 8 sums the entries that are named here (PTX ISA, "Matrix fragments for mma.m16n8k8" and
// "mma.m16n8k16"); lane l holds column l / 4 of B. On the host the lanes of a warp meet, and each reads the others'
// fragments, by the tables of the PTX ISA written out a second time.
#pragma once
#include "portable.cuh"

// Entry e of a lane's sums: row and column of the 16 x 8 tile.
__device__ __forceinline__ int sum_row(int lane, int e) { return lane / 4 + e / 2 * 8; }
__device__ __forceinline__ int sum_column(int lane, int e) { return lane % 4 * 2 + e % 2; }

// 19 bits of a float: 10 of the mantissa. A register holds one number.
struct Tf32 {
    static constexpr int K = 8, A = 4, B = 2; // depth of an instruction, numbers of a lane in each operand
    __device__ __forceinline__ static int a_row(int lane, int e) { return lane / 4 + e % 2 * 8; }
    __device__ __forceinline__ static int a_depth(int lane, int e) { return lane % 4 + e / 2 * 4; }
    __device__ __forceinline__ static int b_depth(int lane, int e) { return lane % 4 + e * 4; }
};

// 16 bits of a float: 7 of the mantissa. A register holds two numbers, the first in its lower half.
struct BFloat {
    static constexpr int K = 16, A = 8, B = 4;
    __device__ __forceinline__ static int a_row(int lane, int e) { return lane / 4 + e / 2 % 2 * 8; }
    __device__ __forceinline__ static int a_depth(int lane, int e) { return lane % 4 * 2 + e % 2 + e / 4 * 8; }
    __device__ __forceinline__ static int b_depth(int lane, int e) { return lane % 4 * 2 + e % 2 + e / 2 * 8; }
};

#ifdef __CUDACC__

// To nearest, ties away from zero.
__device__ __forceinline__ unsigned round_to_tf32(float x)
{
    unsigned y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}

// To nearest, ties to even.
__device__ __forceinline__ unsigned round_to_bfloats(float first, float second)
{
    unsigned y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(second), "f"(first));
    return y;
}

__device__ __forceinline__ void multiply(Tf32, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void multiply(BFloat, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sum[i][j] += a[i] b[j], by all lanes of a warp together.
template <class Type, int M, int N>
__device__ __forceinline__ void multiply_fragments(float (&sum)[M][N][4], const unsigned (&a)[M][4],
                                                   const unsigned (&b)[N][2])
{
    UNROLL for (int i = 0; i < M; ++i) UNROLL for (int j = 0; j < N; ++j) multiply(Type(), sum[i][j], a[i], b[j]);
}

// Starts to copy 16 bytes to shared memory, or 16 zeros; both addresses are multiples of 16.
__device__ __forceinline__ void copy_async(void *to, const void *from, bool present)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(present ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }
// Waits for the copies that this thread has committed; other threads see them after a barrier.
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group 0;" : : : "memory"); }

#else

inline unsigned round_to_tf32(float x)
{
    const unsigned bits = bits_of(x);
    const bool is_finite = (bits & 0x7F800000u) != 0x7F800000u;
    return is_finite ? (bits + 0x1000u) & ~0x1FFFu : bits;
}

inline unsigned round_to_bfloats(float first, float second)
{
    BFloat16 low, high;
    narrow(first, low), narrow(second, high);
    return low.bits | (unsigned)high.bits << 16;
}

// What the PTX ISA says of lane 4 g + t: entry e of A is at row g + A_ROW[e], depth t * STEP + A_DEPTH[e], of B at depth
// t * STEP + B_DEPTH[e], column g, of the sums at row g + SUM_ROW[e], column 2 t + SUM_COLUMN[e].
template <class Type>
struct Isa;
template <>
struct Isa<Tf32> {
    static constexpr int STEP = 1, A_ROW[] = {0, 8, 0, 8}, A_DEPTH[] = {0, 0, 4, 4}, B_DEPTH[] = {0, 4};
    // A tensor core reads the upper 19 bits, whatever the others are.
    static float number(const unsigned *registers, int e) { return float_of(registers[e] & ~0x1FFFu); }
};
template <>
struct Isa<BFloat> {
    static constexpr int STEP = 2, A_ROW[] = {0, 0, 8, 8, 0, 0, 8, 8}, A_DEPTH[] = {0, 1, 0, 1, 8, 9, 8, 9};
    static constexpr int B_DEPTH[] = {0, 1, 8, 9};
    static float number(const unsigned *registers, int e)
    {
        return float_of((registers[e / 2] >> (e % 2 * 16)) << 16);
    }
};
constexpr int SUM_ROW[] = {0, 0, 8, 8}, SUM_COLUMN[] = {0, 1, 0, 1};

// Products are exact, sums are rounded to nearest one after the other; what a tensor core rounds inside is not modelled.
template <class Type, int M, int N>
inline void multiply_fragments(float (&sum)[M][N][4], const unsigned (&a)[M][4], const unsigned (&b)[N][2])
{
    struct Fragments {
        const unsigned *a, *b;
    };
    typedef Isa<Type> Rule;
    const Fragments mine = {&a[0][0], &b[0][0]};
    const void *const *const others = shim::meet_warp(&mine, __LINE__);
    float left[M][16][Type::K] = {}, right[N][8][Type::K] = {};
    for (int other = 0; other < 32; ++other) {
        const Fragments &given = *static_cast<const Fragments *>(others[other]);
        const int g = other / 4, t = other % 4;
        for (int i = 0; i < M; ++i)
            for (int e = 0; e < Type::A; ++e)
                left[i][g + Rule::A_ROW[e]][t * Rule::STEP + Rule::A_DEPTH[e]] = Rule::number(given.a + 4 * i, e);
        for (int j = 0; j < N; ++j)
            for (int e = 0; e < Type::B; ++e)
                right[j][g][t * Rule::STEP + Rule::B_DEPTH[e]] = Rule::number(given.b + 2 * j, e);
    }
    const int lane = (int)(threadIdx.x % 32);
    for (int i = 0; i < M; ++i)
        for (int j = 0; j < N; ++j)
            for (int e = 0; e < 4; ++e)
                for (int k = 0; k < Type::K; ++k)
                    sum[i][j][e] += left[i][lane / 4 + SUM_ROW[e]][k] * right[j][lane % 4 * 2 + SUM_COLUMN[e]][k];
    shim::leave_warp(__LINE__);
}

// A copy happens when it is waited for, so that a missing wait leaves what was there before.
inline void copy_async(void *to, const void *from, bool present) { shim::copy_later(to, present ? from : nullptr); }
inline void commit_copies() { shim::commit_copies(); }
inline void wait_for_copies() { shim::finish_copies(); }

#endif
