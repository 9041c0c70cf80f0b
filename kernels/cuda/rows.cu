// Weighted sums of rows: out[r] = sum_t weights[t] table[terms[t]], over the terms of row r in their order.
//
// From the sums over the rings of a kernel to its spectrum, and back (kernelmap.py). A row is written by one block, so
// nothing is added from two sides, and neighbouring threads read neighbouring columns.
#include "portable.cuh"

// The host fills it in this order (rows.py).
struct RowsShape {
    int64 rows, columns;
    int64 width, terms; // terms of every row, or 0: then row r has those from offsets[r] on; terms of all rows
};

constexpr int ROWS_WARPS = 8, ROWS_COLUMNS = 4; // rows of a block, and columns of a thread

template <class Acc>
__device__ __forceinline__ void weighted_rows(const Acc *table, const int64 *terms, const Acc *weights,
                                              const int64 *offsets, Acc *out, const RowsShape &s)
{
    const int64 row = (int64)blockIdx.x * ROWS_WARPS + threadIdx.x / 32;
    const int64 column = (int64)blockIdx.y * 32 * ROWS_COLUMNS + threadIdx.x % 32;
    if (row >= s.rows) return;
    const int64 first = s.width ? row * s.width : offsets[row];
    const int64 end = s.width ? first + s.width : row + 1 < s.rows ? offsets[row + 1] : s.terms;
    Acc sum[ROWS_COLUMNS] = {};
    for (int64 t = first; t < end; ++t) {
        const Acc weight = weights[t];
        const Acc *const from = table + terms[t] * s.columns;
        UNROLL for (int i = 0; i < ROWS_COLUMNS; ++i)
            if (column + 32 * i < s.columns) sum[i] += weight * from[column + 32 * i];
    }
    UNROLL for (int i = 0; i < ROWS_COLUMNS; ++i)
        if (column + 32 * i < s.columns) out[row * s.columns + column + 32 * i] = sum[i];
}

#define WEIGHTED_ROWS(name, Acc)                                                                                      \
    KERNEL(name, 32 * ROWS_WARPS, 4)                                                                                  \
    (const Acc *__restrict__ table, const int64 *__restrict__ terms, const Acc *__restrict__ weights,                 \
     const int64 *__restrict__ offsets, Acc *__restrict__ out, const RowsShape shape)                                 \
    {                                                                                                                 \
        weighted_rows<Acc>(table, terms, weights, offsets, out, shape);                                               \
    }                                                                                                                 \
    EXPORT(name)
