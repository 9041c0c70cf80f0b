// The products of ragged_gemm.cu on tensor cores: float32 in and out, sums in float32.
//
// Every run of neighbours in memory is a multiple of four numbers (ragged_mma.py sends other products to ragged_gemm.cu),
// so operands travel in packs of 16 bytes, straight to shared memory, while the step before is multiplied.
#include "mma.cuh"
#include "ragged.cuh"

// One product of TF32 numbers: error 2^-11 per operand.
struct OneTf32 {
    typedef Tf32 Type;
    template <int M, int N>
    __device__ __forceinline__ static void add(float (&sum)[M][N][4], const float (&a)[M][4], const float (&b)[N][2])
    {
        unsigned left[M][4], right[N][2];
        UNROLL for (int i = 0; i < M; ++i) UNROLL for (int e = 0; e < 4; ++e) left[i][e] = round_to_tf32(a[i][e]);
        UNROLL for (int j = 0; j < N; ++j) UNROLL for (int e = 0; e < 2; ++e) right[j][e] = round_to_tf32(b[j][e]);
        multiply_fragments<Tf32>(sum, left, right);
    }
};

// x = big + small + rest, |rest| <= 2^-22 |x|: three products, and the fourth, small * small, is as small as the rest.
struct ThreeTf32 {
    typedef Tf32 Type;
    __device__ __forceinline__ static void split(float x, unsigned &big, unsigned &small)
    {
        big = round_to_tf32(x);
        small = round_to_tf32(x - float_of(big)); // exact before it is rounded
    }
    template <int M, int N>
    __device__ __forceinline__ static void add(float (&sum)[M][N][4], const float (&a)[M][4], const float (&b)[N][2])
    {
        unsigned big_right[N][2], small_right[N][2];
        UNROLL for (int j = 0; j < N; ++j) UNROLL for (int e = 0; e < 2; ++e)
            split(b[j][e], big_right[j][e], small_right[j][e]);
        UNROLL for (int i = 0; i < M; ++i) { // one at a time: both halves of all would not fit into registers on sm_80
            unsigned big[1][4], small[1][4];
            UNROLL for (int e = 0; e < 4; ++e) split(a[i][e], big[0][e], small[0][e]);
            float(&row)[1][N][4] = *(float(*)[1][N][4]) & sum[i];
            multiply_fragments<Tf32>(row, small, big_right);
            multiply_fragments<Tf32>(row, big, small_right);
            multiply_fragments<Tf32>(row, big, big_right);
        }
    }
};

// One product of bfloat16 numbers: error 2^-8 per operand.
struct OneBFloat {
    typedef BFloat Type;
    template <int M, int N>
    __device__ __forceinline__ static void add(float (&sum)[M][N][4], const float (&a)[M][8], const float (&b)[N][4])
    {
        unsigned left[M][4], right[N][2];
        UNROLL for (int i = 0; i < M; ++i) UNROLL for (int e = 0; e < 4; ++e)
            left[i][e] = round_to_bfloats(a[i][2 * e], a[i][2 * e + 1]);
        UNROLL for (int j = 0; j < N; ++j) UNROLL for (int e = 0; e < 2; ++e)
            right[j][e] = round_to_bfloats(b[j][2 * e], b[j][2 * e + 1]);
        multiply_fragments<BFloat>(sum, left, right);
    }
};

// An operand of a step in shared memory, in the order that it has in global memory: one row per index across the depth
// (m of A, n of B), or one per depth. The padding puts the 32 numbers that a warp reads at once into 32 banks.
template <int ACROSS, int BK, bool ALONG_DEPTH, int THREADS>
struct Staged {
    static constexpr int WIDTH = ALONG_DEPTH ? BK : ACROSS, ROWS = ALONG_DEPTH ? ACROSS : BK;
    static constexpr int ROW = WIDTH + (ALONG_DEPTH ? 4 : 8), PACKS = ROWS * WIDTH / 4 / THREADS;
    static_assert(ROWS * WIDTH % (4 * THREADS) == 0, "the packs must divide evenly");
    typedef float Buffer[ROWS][ROW];

    // Pack r of this thread: its row and its first number.
    __device__ __forceinline__ static int row(int r) { return ((int)threadIdx.x + r * THREADS) / (WIDTH / 4); }
    __device__ __forceinline__ static int first(int r) { return ((int)threadIdx.x + r * THREADS) % (WIDTH / 4) * 4; }
    __device__ __forceinline__ static int across(int r) { return ALONG_DEPTH ? row(r) : first(r); }
    __device__ __forceinline__ static int depth(int r) { return ALONG_DEPTH ? first(r) : row(r); }
    __device__ __forceinline__ static float at(const Buffer &buffer, int across, int k)
    {
        return ALONG_DEPTH ? buffer[across][k] : buffer[k][across];
    }
};

template <class Mode, int BM, int BN, int BK, int WM, int WN, bool A_ALONG_DEPTH, bool B_ALONG_DEPTH>
__device__ __forceinline__ void ragged_mma(const RaggedGroup *groups, const float *a, const float *b, float *c,
                                           const RaggedShape &s)
{
    typedef typename Mode::Type Type;
    constexpr int THREADS = BM / WM * (BN / WN) * 32, M = WM / 16, N = WN / 8;
    typedef Staged<BM, BK, A_ALONG_DEPTH, THREADS> Left;
    typedef Staged<BN, BK, B_ALONG_DEPTH, THREADS> Right;
    SHARED_ARRAY(typename Left::Buffer, left, [2]);
    SHARED_ARRAY(typename Right::Buffer, right, [2]);

    const RaggedGroup &group = group_of_block(groups, s);
    const int64 tile_at = blockIdx.x - group.first_tile, tiles_across = ceil_div(group.columns, BN);
    const unsigned row0 = (unsigned)(tile_at / tiles_across) * BM, column0 = (unsigned)(tile_at % tiles_across) * BN;
    const unsigned depth = (unsigned)group.depth; // as rows and columns: below 2^31
    a += group.a, b += group.b;

    // Where this thread's packs are, across the depth; -1 beyond the end.
    int64 left_at[Left::PACKS], right_at[Right::PACKS];
    UNROLL for (int r = 0; r < Left::PACKS; ++r) {
        const unsigned m = row0 + Left::across(r);
        left_at[r] = m < (unsigned)group.rows ? place(m, group.inner_row, group.a_row) : -1;
    }
    UNROLL for (int r = 0; r < Right::PACKS; ++r) {
        const unsigned n = column0 + Right::across(r);
        right_at[r] = n < (unsigned)group.columns ? place(n, group.inner_column, group.b_column) : -1;
    }
    auto load = [&](unsigned step) {
        UNROLL for (int r = 0; r < Left::PACKS; ++r) {
            const unsigned k = step * BK + Left::depth(r);
            const bool present = left_at[r] >= 0 && k < depth;
            const float *from = present ? a + left_at[r] + place(k, group.inner_depth, group.a_depth) : a;
            copy_async(&left[step % 2][Left::row(r)][Left::first(r)], from, present);
        }
        UNROLL for (int r = 0; r < Right::PACKS; ++r) {
            const unsigned k = step * BK + Right::depth(r);
            const bool present = right_at[r] >= 0 && k < depth;
            const float *from = present ? b + right_at[r] + place(k, group.inner_depth, group.b_depth) : b;
            copy_async(&right[step % 2][Right::row(r)][Right::first(r)], from, present);
        }
        commit_copies();
    };

    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int warp_row = warp / (BN / WN) * WM, warp_column = warp % (BN / WN) * WN;
    float sum[M][N][4];
    UNROLL for (int i = 0; i < M; ++i) UNROLL for (int j = 0; j < N; ++j) UNROLL for (int e = 0; e < 4; ++e)
        sum[i][j][e] = 0;

    // One barrier a step: behind it the step's operands are there, and nobody reads those of the step before any more.
    load(0);
    for (unsigned step = 0; step * BK < depth; ++step) {
        wait_for_copies();
        __syncthreads();
        if ((step + 1) * BK < depth) load(step + 1);
        UNROLL for (int k = 0; k < BK; k += Type::K) {
            float from_left[M][Type::A], from_right[N][Type::B];
            UNROLL for (int i = 0; i < M; ++i) UNROLL for (int e = 0; e < Type::A; ++e)
                from_left[i][e] = Left::at(left[step % 2], warp_row + i * 16 + Type::a_row(lane, e), k + Type::a_depth(lane, e));
            UNROLL for (int j = 0; j < N; ++j) UNROLL for (int e = 0; e < Type::B; ++e)
                from_right[j][e] = Right::at(right[step % 2], warp_column + j * 8 + lane / 4, k + Type::b_depth(lane, e));
            Mode::add(sum, from_left, from_right);
        }
    }

    UNROLL for (int i = 0; i < M; ++i) UNROLL for (int e = 0; e < 4; e += 2) {
        const unsigned m = row0 + warp_row + i * 16 + sum_row(lane, e);
        if (m >= (unsigned)group.rows) continue;
        float *const row = c + group.c + place(m, group.inner_row, group.c_row);
        UNROLL for (int j = 0; j < N; ++j) {
            const unsigned n = column0 + warp_column + j * 8 + sum_column(lane, e);
            if (n >= (unsigned)group.columns) continue;
            *(Pack<float, 2> *)(row + place(n, group.inner_column, group.c_column)) = {sum[i][j][e], sum[i][j][e + 1]};
        }
    }
}

#define RAGGED_MMA(name, Mode, BM, BN, BK, WM, WN, A_ALONG_DEPTH, B_ALONG_DEPTH, BLOCKS)                              \
    KERNEL(name, (BM / WM) * (BN / WN) * 32, BLOCKS)                                                                  \
    (const RaggedGroup *__restrict__ groups, const float *__restrict__ a, const float *__restrict__ b,                \
     float *__restrict__ c, const RaggedShape shape)                                                                  \
    {                                                                                                                 \
        ragged_mma<Mode, BM, BN, BK, WM, WN, A_ALONG_DEPTH, B_ALONG_DEPTH>(groups, a, b, c, shape);                   \
    }                                                                                                                 \
    EXPORT(name)
