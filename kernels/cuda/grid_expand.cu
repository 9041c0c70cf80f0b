// Filter expansion and its adjoint: from one filter to the bank of its transformed copies, and back.
//
//     bank[o, g, i, j] = w[o, i, g^-1 j]          (expand)          j = (fibre index, tap), g^-1 j = table[g][j]
//     w[o, i, j] = sum_g bank[o, g, i, g j]       (contract)        g j = table[inverse[g]][j]
//
// Every entry of a result is written by the thread that owns it: no atomics. The sum runs over g in the order of the
// group. An expansion only copies, so it knows the width of a number and not its type.
#include "portable.cuh"

// Filters [outer, inner, width], order elements; the host fills it in this order and sees to 2^31 entries at most.
struct ExpandShape {
    int64 outer, order, inner, width;
};

template <class Bits, int THREADS>
__device__ __forceinline__ void grid_expand(const Bits *w, const int64 *table, Bits *bank, const ExpandShape &s)
{
    const int64 at = (int64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= s.outer * s.order * s.inner * s.width) return;
    const unsigned width = (unsigned)s.width, inner = (unsigned)s.inner, order = (unsigned)s.order;
    const unsigned j = (unsigned)at % width, row = (unsigned)at / width;
    const unsigned i = row % inner, g = row / inner % order, o = row / inner / order;
    bank[at] = w[(int64)(o * inner + i) * width + table[(int64)g * width + j]];
}

template <class Scalar, class Acc, int THREADS>
__device__ __forceinline__ void grid_contract(const Scalar *bank, const int64 *table, const int64 *inverse, Scalar *w,
                                              const ExpandShape &s)
{
    const int64 at = (int64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= s.outer * s.inner * s.width) return;
    const unsigned width = (unsigned)s.width, inner = (unsigned)s.inner;
    const unsigned j = (unsigned)at % width, row = (unsigned)at / width, i = row % inner, o = row / inner;
    Acc sum = 0;
    for (int64 g = 0; g < s.order; ++g)
        sum += widen(bank[((o * s.order + g) * s.inner + i) * s.width + table[inverse[g] * s.width + j]]);
    narrow(sum, w[at]);
}

#define GRID_EXPAND(name, Bits, THREADS)                                                                              \
    KERNEL(name, THREADS, 1)                                                                                          \
    (const Bits *__restrict__ w, const int64 *__restrict__ table, Bits *__restrict__ bank, const ExpandShape shape)   \
    {                                                                                                                 \
        grid_expand<Bits, THREADS>(w, table, bank, shape);                                                            \
    }                                                                                                                 \
    EXPORT(name)

#define GRID_CONTRACT(name, Scalar, Acc, THREADS)                                                                     \
    KERNEL(name, THREADS, 1)                                                                                          \
    (const Scalar *__restrict__ bank, const int64 *__restrict__ table, const int64 *__restrict__ inverse,             \
     Scalar *__restrict__ w, const ExpandShape shape)                                                                 \
    {                                                                                                                 \
        grid_contract<Scalar, Acc, THREADS>(bank, table, inverse, w, shape);                                          \
    }                                                                                                                 \
    EXPORT(name)
