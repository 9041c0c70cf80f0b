// A separable group convolution for inference, as one kernel:
//
//     z_o(x, g) = sum_{i,h} a_oi(g^-1 h) F_i(x, h)                         mix: a matrix product
//     v_o(X, g) = b_o + sum_t s_o(g^-1 t) z_o(sX + t, g)                   depthwise, turned by each element
//     y_o(X, g) = max(0, v scale_o + shift_o)                              norm with known statistics, ReLU: as asked
//
// A block owns BN rows (o, g) of the result and a tile of voxels. It mixes the channels on all voxels that the tile
// reads, BM of them at most, leaves z in shared memory and convolves from there: z is nowhere in memory. Neighbouring
// tiles mix the voxels between them twice; the launcher says how often (grid_separable.py). No bank exists either.
#include "grid_window.cuh"
#include "tile.cuh"

// A tile of outputs, the box of z that it reads, tiles per axis, and what follows the convolution.
struct SeparableShape {
    int64 tile[3], box[3], tiles[3], size[3]; // size: of the kernel, 1 on an axis that a plane lacks
    int64 biased, scaled, rectified;
};

template <class Tile, class Scalar>
__device__ __forceinline__ void grid_separable(const Scalar *x, const Scalar *a, const Scalar *f, const int *quotients,
                                               const int *moved, const Scalar *bias, const Scalar *scale,
                                               const Scalar *shift, Scalar *y, const GridShape &s,
                                               const SeparableShape &p)
{
    typedef typename Tile::Acc Acc;
    constexpr int BM = Tile::BM, BN = Tile::BN, BK = Tile::BK, THREADS = Tile::THREADS;
    constexpr int LEFT = BM * BK / THREADS, RIGHT = BN * BK / THREADS;
    constexpr int OPERANDS = BK * (Tile::ROW_A + Tile::ROW_B), MIXED = BN * (BM + 1);
    static_assert(BM % THREADS == 0 && BN * BK % THREADS == 0, "the loads must divide evenly");
    typedef Acc Left[BK][Tile::ROW_A];
    typedef Acc Right[BK][Tile::ROW_B];
    // First two pairs of operands, then z.
    SHARED_ARRAY(Acc, memory, [2 * OPERANDS > MIXED ? 2 * OPERANDS : MIXED]);

    const int thread = (int)threadIdx.x;
    const int64 tiles = p.tiles[0] * p.tiles[1] * p.tiles[2], b = blockIdx.x / tiles, at = blockIdx.x % tiles;
    const int64 first[3] = {at / p.tiles[2] / p.tiles[1] * p.tile[0], at / p.tiles[2] % p.tiles[1] * p.tile[1],
                            at % p.tiles[2] * p.tile[2]};
    const int64 row0 = (int64)blockIdx.y * BN, rows = s.out_channels * s.order, depth = s.in_channels * s.order;
    const int64 steps = ceil_div(depth, BK);

    // Where the voxels of this thread lie, or that they are zeros.
    constexpr int VOXELS = BM / THREADS;
    int64 offset[VOXELS];
    UNROLL for (int e = 0; e < VOXELS; ++e) {
        const int64 v = thread + e * THREADS;
        const int64 in_box[3] = {v / p.box[2] / p.box[1], v / p.box[2] % p.box[1], v % p.box[2]};
        bool inside = v < p.box[0] * p.box[1] * p.box[2];
        offset[e] = b * s.x_batch;
        UNROLL for (int c = 0; c < 3; ++c) {
            const int64 to = wrapped(first[c] * s.stride - s.pad[c] + in_box[c], s.wrap[c]);
            inside = inside && to >= 0 && to < s.in[c];
            offset[e] += to * s.x_space[c];
        }
        if (!inside) offset[e] = -1;
    }

    Acc next_left[LEFT], next_right[RIGHT];
    auto load = [&](int64 step) {
        UNROLL for (int k = 0; k < BK; ++k) {
            const int64 of = step * BK + k, i = of / s.order, h = of % s.order;
            UNROLL for (int e = 0; e < VOXELS; ++e)
                next_left[k * VOXELS + e] =
                    of < depth && offset[e] >= 0 ? widen(x[offset[e] + i * s.x_channel + h * s.x_fibre]) : 0;
        }
        UNROLL for (int e = 0; e < RIGHT; ++e) {
            const int64 of = step * BK + (thread + e * THREADS) % BK, i = of / s.order, h = of % s.order;
            const int64 row = row0 + (thread + e * THREADS) / BK, o = row / s.order, g = row % s.order;
            next_right[e] =
                of < depth && row < rows ? widen(a[(o * s.in_channels + i) * s.order + quotients[g * s.order + h]]) : 0;
        }
    };
    Tile tile;
    tile.clear();
    load(0);
    for (int64 step = 0; step < steps; ++step) {
        // The pair of buffers that was read in the step before last: a barrier ended that step.
        Left &left = *(Left *)&memory[step % 2 * OPERANDS];
        Right &right = *(Right *)&memory[step % 2 * OPERANDS + BK * Tile::ROW_A];
        UNROLL for (int k = 0; k < BK; ++k) UNROLL for (int e = 0; e < VOXELS; ++e)
            left[k][thread + e * THREADS] = next_left[k * VOXELS + e];
        UNROLL for (int e = 0; e < RIGHT; ++e)
            right[(thread + e * THREADS) % BK][(thread + e * THREADS) / BK] = next_right[e];
        __syncthreads();
        if (step + 1 < steps) load(step + 1);
        tile.add(left, right);
    }
    __syncthreads();
    UNROLL for (int i = 0; i < Tile::TM; ++i) UNROLL for (int j = 0; j < Tile::TN; ++j)
        memory[Tile::column(j) * (BM + 1) + Tile::row(i)] = tile.sum[i][j];
    __syncthreads();

    const int64 outputs = p.tile[0] * p.tile[1] * p.tile[2];
    for (int64 e = thread; e < BN * outputs; e += THREADS) {
        const int64 row = row0 + e / outputs, v = e % outputs, o = row / s.order, g = row % s.order;
        const int64 in_tile[3] = {v / p.tile[2] / p.tile[1], v / p.tile[2] % p.tile[1], v % p.tile[2]};
        bool inside = row < rows;
        UNROLL for (int c = 0; c < 3; ++c) inside = inside && first[c] + in_tile[c] < s.out[c];
        if (!inside) continue;
        const Acc *z = &memory[e / outputs * (BM + 1)];
        Acc sum = p.biased ? widen(bias[o]) : 0;
        for (int64 t = 0; t < s.taps; ++t) {
            const int64 tap[3] = {t / p.size[2] / p.size[1], t / p.size[2] % p.size[1], t % p.size[2]};
            int64 from = 0;
            UNROLL for (int c = 0; c < 3; ++c) from = from * p.box[c] + in_tile[c] * s.stride + tap[c];
            sum += widen(f[o * s.taps + moved[g * s.taps + t]]) * z[from];
        }
        if (p.scaled) sum = sum * widen(scale[o]) + widen(shift[o]);
        if (p.rectified && sum < 0) sum = 0;
        const int64 to = ((first[0] + in_tile[0]) * s.out[1] + first[1] + in_tile[1]) * s.out[2] + first[2] + in_tile[2];
        narrow(sum, y[((b * s.out_channels + o) * s.order + g) * s.out[0] * s.out[1] * s.out[2] + to]);
    }
}

#define GRID_SEPARABLE(name, Scalar, Acc, BM, BN, BK, TM, TN, BLOCKS)                                                 \
    KERNEL(name, (BM / TM) * (BN / TN), BLOCKS)                                                                       \
    (const Scalar *__restrict__ x, const Scalar *__restrict__ a, const Scalar *__restrict__ f,                        \
     const int *__restrict__ quotients, const int *__restrict__ moved, const Scalar *__restrict__ bias,               \
     const Scalar *__restrict__ scale, const Scalar *__restrict__ shift, Scalar *__restrict__ y,                      \
     const GridShape shape, const SeparableShape parts)                                                               \
    {                                                                                                                 \
        grid_separable<Tile<Acc, BM, BN, BK, TM, TN>, Scalar>(x, a, f, quotients, moved, bias, scale, shift, y,       \
                                                              shape, parts);                                          \
    }                                                                                                                 \
    EXPORT(name)
