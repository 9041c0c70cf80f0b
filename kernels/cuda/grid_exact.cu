// Convolutions over a finite group of signed permutations in canonical order, as an implicit matrix product.
//
//     y_o(X, g) = sum_{i, u, t} w_oi(u, t) F_i(sX + g t, g u)                                           (forward)
//     dw_oi(u, t) = sum_{g, b, X} dy_o(X, g) F_i(sX + g t, g u)                                         (weight)
//
// Every y sums the same sequence over (i, u, t); only the place where F is read moves with g. That is what makes the
// layer equivariant to the last bit. The gradient of the input is the forward product with other weights and with the
// roles of stride and dilation exchanged (operators.py). No bank of transformed filters exists in either direction.
//
// Rows of the product are (b, X) for one g, columns are o, and k runs over (i, u, t).
#include "grid_window.cuh"
#include "tile.cuh"

template <bool PLAIN>
__device__ __forceinline__ Tap tap_of(const GridShape &s, const int *fibre, const int *taps, int64 g, int64 k)
{
    const int64 t = k % s.taps, u = k / s.taps % s.fibre, i = k / s.taps / s.fibre;
    const int *moved = taps + (g * s.taps + t) * 3;
    Tap tap = {i * s.x_channel + fibre[g * s.fibre + u] * s.x_fibre, {0, 0, 0}};
    UNROLL for (int a = 0; a < 3; ++a) {
        tap.at[a] = (int)(PLAIN ? moved[a] : wrapped(moved[a], s.wrap[a]));
        if (PLAIN) tap.offset += moved[a] * s.x_space[a];
    }
    return tap;
}

template <class Tile, class Scalar, bool PLAIN>
__device__ __forceinline__ void grid_exact_forward(const Scalar *x, const Scalar *w, const int *fibre, const int *taps,
                                                   Scalar *y, const GridShape &s)
{
    typedef typename Tile::Acc Acc;
    constexpr int BM = Tile::BM, BN = Tile::BN, BK = Tile::BK, THREADS = Tile::THREADS;
    constexpr int ROWS = BM / THREADS, WEIGHTS = BN * BK / THREADS;
    static_assert(BM % THREADS == 0 && BN * BK % THREADS == 0 && BK <= THREADS, "the loads must divide evenly");
    SHARED_ARRAY(Acc, gathered, [2][BK][Tile::ROW_A]);
    SHARED_ARRAY(Acc, weights, [2][BK][Tile::ROW_B]);
    SHARED_ARRAY(Tap, ahead, [2][BK]);

    // Neighbouring blocks read the same voxels under different elements.
    const int thread = (int)threadIdx.x;
    const int64 g = blockIdx.x % s.order, row0 = blockIdx.x / s.order * BM, o0 = (int64)blockIdx.y * BN;
    const int64 voxels = s.out[0] * s.out[1] * s.out[2], rows = s.batch * voxels;
    const int64 depth = s.in_channels * s.fibre * s.taps, steps = ceil_div(depth, BK);

    Window windows[ROWS];
    UNROLL for (int r = 0; r < ROWS; ++r) {
        const int64 row = row0 + thread + r * THREADS;
        windows[r] = row < rows ? window_of<PLAIN>(s, row / voxels, row % voxels) : Window{0, {ABSENT, 0, 0}};
    }
    Acc next_gathered[ROWS][BK], next_weights[WEIGHTS];
    Tile tile;
    tile.clear();

    auto describe = [&](int64 step) {
        if (thread < BK) {
            const int64 k = step * BK + thread;
            ahead[step % 2][thread] = k < depth ? tap_of<PLAIN>(s, fibre, taps, g, k) : Tap{0, {ABSENT, 0, 0}};
        }
    };
    auto load = [&](int64 step) {
        UNROLL for (int k = 0; k < BK; ++k) {
            const Tap tap = ahead[step % 2][k];
            UNROLL for (int r = 0; r < ROWS; ++r) next_gathered[r][k] = gather<PLAIN>(x, s, windows[r], tap);
        }
        UNROLL for (int e = 0; e < WEIGHTS; ++e) {
            const int64 k = step * BK + (thread + e * THREADS) % BK, o = o0 + (thread + e * THREADS) / BK;
            next_weights[e] = o < s.out_channels && k < depth ? widen(w[o * depth + k]) : 0;
        }
    };
    auto store = [&](int64 step) {
        UNROLL for (int k = 0; k < BK; ++k) UNROLL for (int r = 0; r < ROWS; ++r)
            gathered[step % 2][k][thread + r * THREADS] = next_gathered[r][k];
        UNROLL for (int e = 0; e < WEIGHTS; ++e)
            weights[step % 2][(thread + e * THREADS) % BK][(thread + e * THREADS) / BK] = next_weights[e];
    };

    // While one step is multiplied the next is on its way from memory, and the one after is described: each of the
    // pairs of buffers is written in the step after the one that read it last, with one barrier in between.
    describe(0);
    __syncthreads();
    load(0);
    store(0);
    describe(1);
    __syncthreads();
    for (int64 step = 0; step < steps; ++step) {
        if (step + 1 < steps) load(step + 1);
        if (step + 2 < steps) describe(step + 2);
        tile.add(gathered[step % 2], weights[step % 2]);
        if (step + 1 < steps) store(step + 1);
        __syncthreads();
    }

    UNROLL for (int i = 0; i < Tile::TM; ++i) {
        const int64 row = row0 + Tile::row(i);
        if (row >= rows) continue;
        const int64 b = row / voxels, voxel = row % voxels;
        UNROLL for (int j = 0; j < Tile::TN; ++j) {
            const int64 o = o0 + Tile::column(j);
            if (o < s.out_channels) narrow(tile.sum[i][j], y[((b * s.out_channels + o) * s.order + g) * voxels + voxel]);
        }
    }
}

// Rows are k = (i, u, t), columns o, and the sum runs over (g, b, X) in tiles of BK voxels of one sample. A block sums
// one slice of it; grid_exact_sum adds the slices in their order. dy is contiguous.
template <class Tile, class Scalar, bool PLAIN>
__device__ __forceinline__ void grid_exact_weight(const Scalar *x, const Scalar *dy, const int *fibre, const int *taps,
                                                  typename Tile::Acc *partial, const GridShape &s)
{
    typedef typename Tile::Acc Acc;
    constexpr int BM = Tile::BM, BN = Tile::BN, BK = Tile::BK, THREADS = Tile::THREADS;
    constexpr int TAPS = BM * BK / THREADS, OUTPUTS = BN * BK / THREADS, STEP = THREADS / BK;
    static_assert(THREADS % BK == 0 && BM % STEP == 0 && BN % STEP == 0, "the loads must divide evenly");
    // A sum of n terms in a row may err by n roundings. Sums of RUN tiles are added to a total: far fewer in a row.
    constexpr int RUN = 64;
    SHARED_ARRAY(Acc, gathered, [2][BK][Tile::ROW_A]);
    SHARED_ARRAY(Acc, outputs, [2][BK][Tile::ROW_B]);
    SHARED_ARRAY(Tap, rows, [BM]);

    const int thread = (int)threadIdx.x, lane = thread % BK, first = thread / BK;
    const int64 k0 = (int64)blockIdx.x * BM, o0 = (int64)blockIdx.y * BN, slice = blockIdx.z;
    const int64 voxels = s.out[0] * s.out[1] * s.out[2], depth = s.in_channels * s.fibre * s.taps;
    const int64 per_sample = ceil_div(voxels, BK), per_element = s.batch * per_sample;
    const int64 begin = slice * s.tiles_per_slice, whole = s.order * per_element;
    const int64 end = begin + s.tiles_per_slice < whole ? begin + s.tiles_per_slice : whole;

    Acc next_gathered[TAPS], next_outputs[OUTPUTS], total[Tile::TM][Tile::TN];
    Tile tile;
    tile.clear();
    UNROLL for (int i = 0; i < Tile::TM; ++i) UNROLL for (int j = 0; j < Tile::TN; ++j) total[i][j] = 0;
    int run = 0;

    auto load = [&](int64 at, int64 g) {
        const int64 b = at % per_element / per_sample, voxel = at % per_sample * BK + lane;
        const Window window = voxel < voxels ? window_of<PLAIN>(s, b, voxel) : Window{0, {ABSENT, 0, 0}};
        UNROLL for (int e = 0; e < TAPS; ++e) next_gathered[e] = gather<PLAIN>(x, s, window, rows[first + e * STEP]);
        UNROLL for (int e = 0; e < OUTPUTS; ++e) {
            const int64 o = o0 + first + e * STEP;
            const bool inside = voxel < voxels && o < s.out_channels;
            next_outputs[e] = inside ? widen(dy[((b * s.out_channels + o) * s.order + g) * voxels + voxel]) : 0;
        }
    };
    auto store = [&](int buffer) {
        UNROLL for (int e = 0; e < TAPS; ++e) gathered[buffer][lane][first + e * STEP] = next_gathered[e];
        UNROLL for (int e = 0; e < OUTPUTS; ++e) outputs[buffer][lane][first + e * STEP] = next_outputs[e];
    };
    auto flush = [&]() {
        UNROLL for (int i = 0; i < Tile::TM; ++i) UNROLL for (int j = 0; j < Tile::TN; ++j)
            total[i][j] += tile.sum[i][j];
        tile.clear();
        run = 0;
    };

    for (int64 at = begin; at < end;) {
        const int64 g = at / per_element, last = (g + 1) * per_element < end ? (g + 1) * per_element : end;
        // Nobody reads the rows of the element before: a barrier ended its last step.
        for (int r = thread; r < BM; r += THREADS)
            rows[r] = k0 + r < depth ? tap_of<PLAIN>(s, fibre, taps, g, k0 + r) : Tap{0, {ABSENT, 0, 0}};
        __syncthreads();
        load(at, g);
        store(0);
        __syncthreads();
        for (int buffer = 0; at < last; ++at, buffer ^= 1) {
            if (at + 1 < last) load(at + 1, g);
            tile.add(gathered[buffer], outputs[buffer]);
            if (++run == RUN) flush();
            if (at + 1 < last) store(buffer ^ 1);
            __syncthreads();
        }
    }
    flush();

    UNROLL for (int i = 0; i < Tile::TM; ++i) UNROLL for (int j = 0; j < Tile::TN; ++j) {
        const int64 k = k0 + Tile::row(i), o = o0 + Tile::column(j);
        if (k < depth && o < s.out_channels) partial[(slice * s.out_channels + o) * depth + k] = total[i][j];
    }
}

// dw = the slices added in their order.
template <class Acc, class Scalar, int THREADS>
__device__ __forceinline__ void grid_exact_sum(const Acc *partial, Scalar *dw, const GridShape &s)
{
    const int64 size = s.out_channels * s.in_channels * s.fibre * s.taps;
    const int64 at = (int64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= size) return;
    Acc sum = 0;
    for (int64 slice = 0; slice < s.slices; ++slice) sum += partial[slice * size + at];
    narrow(sum, dw[at]);
}

#define GRID_EXACT_FORWARD(name, Scalar, Acc, BM, BN, BK, TM, TN, BLOCKS, PLAIN)                                      \
    KERNEL(name, (BM / TM) * (BN / TN), BLOCKS)                                                                       \
    (const Scalar *__restrict__ x, const Scalar *__restrict__ w, const int *__restrict__ fibre,                       \
     const int *__restrict__ taps, Scalar *__restrict__ y, const GridShape shape)                                     \
    {                                                                                                                 \
        grid_exact_forward<Tile<Acc, BM, BN, BK, TM, TN>, Scalar, PLAIN>(x, w, fibre, taps, y, shape);                \
    }                                                                                                                 \
    EXPORT(name)

#define GRID_EXACT_WEIGHT(name, Scalar, Acc, BM, BN, BK, TM, TN, BLOCKS, PLAIN)                                       \
    KERNEL(name, (BM / TM) * (BN / TN), BLOCKS)                                                                       \
    (const Scalar *__restrict__ x, const Scalar *__restrict__ dy, const int *__restrict__ fibre,                      \
     const int *__restrict__ taps, Acc *__restrict__ partial, const GridShape shape)                                  \
    {                                                                                                                 \
        grid_exact_weight<Tile<Acc, BM, BN, BK, TM, TN>, Scalar, PLAIN>(x, dy, fibre, taps, partial, shape);          \
    }                                                                                                                 \
    EXPORT(name)

#define GRID_EXACT_SUM(name, Scalar, Acc, THREADS)                                                                    \
    KERNEL(name, THREADS, 1)(const Acc *__restrict__ partial, Scalar *__restrict__ dw, const GridShape shape)         \
    {                                                                                                                 \
        grid_exact_sum<Acc, Scalar, THREADS>(partial, dw, shape);                                                     \
    }                                                                                                                 \
    EXPORT(name)
