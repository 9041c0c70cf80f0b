// The table of a ragged launch: one product C_g = A_g B_g per group, operands read where they are (ragged.py).
#pragma once
#include "portable.cuh"

// One product. The host fills the table in this order (ragged.py).
struct RaggedGroup {
    int64 first_tile; // of the tiles of all groups, numbered through
    int64 rows, columns, depth;
    int64 inner_row, inner_column, inner_depth; // how many inner indices an outer one has
    int64 a, a_row[2], a_depth[2];              // where the operand starts, strides (outer, inner)
    int64 b, b_depth[2], b_column[2];
    int64 c, c_row[2], c_column[2];
};

struct RaggedShape {
    int64 groups;
    int64 a_along_depth, b_along_depth; // whether consecutive k, not m or n, are neighbours in memory
};

// Sizes fit in 31 bits (ragged.py refuses others), offsets need not.
__device__ __forceinline__ int64 place(int64 index, int64 inner, const int64 (&stride)[2])
{
    return (unsigned)index / (unsigned)inner * stride[0] + (unsigned)index % (unsigned)inner * stride[1];
}

// The group whose tile this block computes.
__device__ __forceinline__ const RaggedGroup &group_of_block(const RaggedGroup *groups, const RaggedShape &s)
{
    int64 low = 0;
    for (int64 high = s.groups; high - low > 1;) {
        const int64 middle = (low + high) / 2;
        if (groups[middle].first_tile <= (int64)blockIdx.x) low = middle; else high = middle;
    }
    return groups[low]; // read where it is needed: a copy would hold 44 registers
}
