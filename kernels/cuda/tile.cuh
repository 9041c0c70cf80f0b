// The register tile of a blocked matrix product: every thread of a block keeps TM x TN sums of a BM x BN tile.
//
// Every sum adds its products one after the other, from the first k to the last, with the same instruction: two sums
// over equal operands are equal to the last bit, wherever they stand in the tile, the block or the grid.
#pragma once
#include "portable.cuh"

template <class Acc_, int BM_, int BN_, int BK_, int TM_, int TN_>
struct Tile {
    typedef Acc_ Acc;
    static constexpr int BM = BM_, BN = BN_, BK = BK_, TM = TM_, TN = TN_;
    static constexpr int THREADS = (BM / TM) * (BN / TN);
    // A thread reads its operands in packs of 16 bytes; neighbours read neighbouring packs, so no bank is asked twice.
    static constexpr int PACK = 16 / sizeof(Acc);
    static constexpr int PM = TM < PACK ? TM : PACK, PN = TN < PACK ? TN : PACK;
    // Rows of an operand in shared memory; the extra pack keeps them aligned and spreads a column over the banks.
    static constexpr int ROW_A = BM + PACK, ROW_B = BN + PACK;

    Acc sum[TM][TN];

    __device__ __forceinline__ static int row(int i)
    {
        return (i / PM) * (BM * PM / TM) + (int)threadIdx.x / (BN / TN) * PM + i % PM;
    }
    __device__ __forceinline__ static int column(int j)
    {
        return (j / PN) * (BN * PN / TN) + (int)threadIdx.x % (BN / TN) * PN + j % PN;
    }

    __device__ __forceinline__ void clear()
    {
        UNROLL for (int i = 0; i < TM; ++i) UNROLL for (int j = 0; j < TN; ++j) sum[i][j] = 0;
    }

    __device__ __forceinline__ void add(const Acc (&a)[BK][ROW_A], const Acc (&b)[BK][ROW_B])
    {
        UNROLL for (int k = 0; k < BK; ++k) {
            Pack<Acc, PM> left[TM / PM];
            Pack<Acc, PN> right[TN / PN];
            UNROLL for (int i = 0; i < TM / PM; ++i) left[i] = *(const Pack<Acc, PM> *)&a[k][row(i * PM)];
            UNROLL for (int j = 0; j < TN / PN; ++j) right[j] = *(const Pack<Acc, PN> *)&b[k][column(j * PN)];
            UNROLL for (int i = 0; i < TM; ++i) UNROLL for (int j = 0; j < TN; ++j)
                sum[i][j] += left[i / PM].at[i % PM] * right[j / PN].at[j % PN];
        }
    }
};
