// Many matrix products of different sizes in one launch: C_g = A_g B_g for every group g of a table.
//
// A group reads its operands where they are. An index of a product (row m, column n, depth k) is a pair (outer, inner)
// of indices of a tensor: its offset is outer * stride_outer + inner * stride_inner. So (batch, m), (order, channel) or
// a transposed operand need no copy, and forward product and both gradients of a degree are three tables.
#include "ragged.cuh"
#include "tile.cuh"

template <class Tile>
__device__ __forceinline__ void ragged_gemm(const RaggedGroup *groups, const typename Tile::Acc *a,
                                            const typename Tile::Acc *b, typename Tile::Acc *c, const RaggedShape &s)
{
    typedef typename Tile::Acc Acc;
    constexpr int BM = Tile::BM, BN = Tile::BN, BK = Tile::BK, THREADS = Tile::THREADS;
    constexpr int LEFT = BM * BK / THREADS, RIGHT = BN * BK / THREADS;
    static_assert(THREADS % BK == 0 && BM * BK % THREADS == 0 && BN * BK % THREADS == 0, "the loads must divide evenly");
    SHARED_ARRAY(Acc, left, [2][BK][Tile::ROW_A]);
    SHARED_ARRAY(Acc, right, [2][BK][Tile::ROW_B]);
    // Offsets of the rows, the columns and of the depths of two steps, -1 beyond the end.
    SHARED_ARRAY(int64, row_at, [BM]);
    SHARED_ARRAY(int64, column_at, [BN]);
    SHARED_ARRAY(int64, left_at, [2][BK]);
    SHARED_ARRAY(int64, right_at, [2][BK]);

    const int thread = (int)threadIdx.x;
    const RaggedGroup &group = group_of_block(groups, s);
    const int64 tile_at = blockIdx.x - group.first_tile, tiles_across = ceil_div(group.columns, BN);
    const int64 row0 = tile_at / tiles_across * BM, column0 = tile_at % tiles_across * BN;
    const int64 steps = ceil_div(group.depth, BK);
    a += group.a, b += group.b, c += group.c;

    // Where rows and columns are, in an operand or in the result.
    auto locate = [&](const int64(&row_stride)[2], const int64(&column_stride)[2]) {
        for (int e = thread; e < BM; e += THREADS)
            row_at[e] = row0 + e < group.rows ? place(row0 + e, group.inner_row, row_stride) : -1;
        for (int e = thread; e < BN; e += THREADS)
            column_at[e] = column0 + e < group.columns ? place(column0 + e, group.inner_column, column_stride) : -1;
    };
    Acc next_left[LEFT], next_right[RIGHT];
    Tile tile;
    tile.clear();

    auto describe = [&](int64 step) {
        if (thread < BK) {
            const int64 k = step * BK + thread;
            left_at[step % 2][thread] = k < group.depth ? place(k, group.inner_depth, group.a_depth) : -1;
            right_at[step % 2][thread] = k < group.depth ? place(k, group.inner_depth, group.b_depth) : -1;
        }
    };
    // Element e of a step's operand: neighbouring threads take neighbours in memory.
    auto index = [](int e, int size, bool along_depth, int &k) {
        k = along_depth ? e % BK : e / size;
        return along_depth ? e / BK : e % size;
    };
    auto load = [&](int64 step) {
        UNROLL for (int e = 0; e < LEFT; ++e) {
            int k;
            const int64 m = row_at[index(thread + e * THREADS, BM, s.a_along_depth, k)], at = left_at[step % 2][k];
            next_left[e] = m >= 0 && at >= 0 ? a[m + at] : 0;
        }
        UNROLL for (int e = 0; e < RIGHT; ++e) {
            int k;
            const int64 n = column_at[index(thread + e * THREADS, BN, s.b_along_depth, k)], at = right_at[step % 2][k];
            next_right[e] = n >= 0 && at >= 0 ? b[n + at] : 0;
        }
    };
    auto store = [&](int64 step) {
        UNROLL for (int e = 0; e < LEFT; ++e) {
            int k;
            const int m = index(thread + e * THREADS, BM, s.a_along_depth, k);
            left[step % 2][k][m] = next_left[e];
        }
        UNROLL for (int e = 0; e < RIGHT; ++e) {
            int k;
            const int n = index(thread + e * THREADS, BN, s.b_along_depth, k);
            right[step % 2][k][n] = next_right[e];
        }
    };

    // As in grid_exact.cu: one barrier a step, each buffer written a barrier after it was last read.
    locate(group.a_row, group.b_column);
    describe(0);
    __syncthreads();
    load(0);
    store(0);
    describe(1);
    __syncthreads();
    for (int64 step = 0; step < steps; ++step) {
        if (step + 1 < steps) load(step + 1);
        if (step + 2 < steps) describe(step + 2);
        tile.add(left[step % 2], right[step % 2]);
        if (step + 1 < steps) store(step + 1);
        __syncthreads();
    }

    locate(group.c_row, group.c_column);
    __syncthreads();
    UNROLL for (int i = 0; i < Tile::TM; ++i) UNROLL for (int j = 0; j < Tile::TN; ++j) {
        const int64 row = row_at[Tile::row(i)], column = column_at[Tile::column(j)];
        if (row >= 0 && column >= 0) c[row + column] = tile.sum[i][j];
    }
}

#define RAGGED_GEMM(name, Acc, BM, BN, BK, TM, TN, BLOCKS)                                                            \
    KERNEL(name, (BM / TM) * (BN / TN), BLOCKS)                                                                       \
    (const RaggedGroup *__restrict__ groups, const Acc *__restrict__ a, const Acc *__restrict__ b,                    \
     Acc *__restrict__ c, const RaggedShape shape)                                                                    \
    {                                                                                                                 \
        ragged_gemm<Tile<Acc, BM, BN, BK, TM, TN>>(groups, a, b, c, shape);                                           \
    }                                                                                                                 \
    EXPORT(name)
