// The regular convolution of O and O_h in aligned Fourier coordinates (grid/aligned.py has the formulas).
//
//     spectrum[r, i](X) = sum_h T[r, h] F_i(sX + h q, h)                                one tap q, one channel i
//     Y[(c, a), o](X) = sum_{q, i, b} M_q[(a, o), (b, i)] spectrum[(c, b), i](X)        block by block
//     y_o(X, g) = sum_r T[r, g] Y[r, o](X)
//
// The functions on O fall into blocks of sizes 1, 1, 2, 3, 3, each with as many copies. O_h is O times the inversion:
// from h and -h come an even and an odd half, F(h) + F(-h) and F(h) - F(-h), and each half is transformed as on O.
//
// A block owns BX voxels and BO output channels of the whole group. For every tap and every IC channels it gathers and
// transforms in registers, a column of 24 numbers to a thread, leaves the spectrum in shared memory, and adds products
// of blocks to the sums in its registers. The signals F_q are nowhere in memory.
#include "grid_window.cuh"
#include "tile.cuh"

constexpr int ROWS = 24; // of a half

// A loop that stays one: unrolled, its loads would all be made at once, and spilled.
#ifdef __CUDACC__
#define ROLLED _Pragma("unroll 1")
#define FEW_AT_ONCE _Pragma("unroll 4")
#else
#define ROLLED
#define FEW_AT_ONCE
#endif

template <class Acc_, int HALVES_, int BX_, int BO_, int TX_, int TO_, int IC_>
struct FourierTile {
    typedef Acc_ Acc;
    static constexpr int HALVES = HALVES_, BX = BX_, BO = BO_, TX = TX_, TO = TO_, IC = IC_;
    static constexpr int PER_HALF = (BX / TX) * (BO / TO), THREADS = HALVES * PER_HALF;
};

// Element h = order[j], read at the tap h q.
template <bool PLAIN>
__device__ __forceinline__ Tap aligned_tap(const GridShape &s, const int *order, const int *taps, int64 j, int64 q)
{
    const int64 h = order[j];
    const int *moved = taps + (h * s.taps + q) * 3;
    Tap tap = {h * s.x_fibre, {0, 0, 0}};
    UNROLL for (int a = 0; a < 3; ++a) {
        tap.at[a] = (int)(PLAIN ? moved[a] : wrapped(moved[a], s.wrap[a]));
        if (PLAIN) tap.offset += moved[a] * s.x_space[a];
    }
    return tap;
}

// One column of a half, from the numbers of all elements around one voxel, STEP apart from each other.
template <int HALVES, int STEP, class Acc>
__device__ __forceinline__ void read_column(const Acc *signals, int opposite, int half, Acc (&column)[ROWS])
{
    UNROLL for (int j = 0; j < ROWS; ++j) {
        column[j] = signals[j * STEP];
        if (HALVES == 2) {
            const Acc other = signals[opposite + j * STEP];
            column[j] = half == 0 ? column[j] + other : column[j] - other;
        }
    }
}

// Row r of the transform of a column; the row of T is read by all threads at once.
template <class Acc>
__device__ __forceinline__ Acc transformed(const Acc (&column)[ROWS], const Acc *basis, int r)
{
    constexpr int PACK = 16 / sizeof(Acc);
    Acc sum = 0;
    UNROLL for (int j = 0; j < ROWS; j += PACK) {
        const Pack<Acc, PACK> row = *(const Pack<Acc, PACK> *)&basis[r * ROWS + j];
        UNROLL for (int p = 0; p < PACK; ++p) sum += row.at[p] * column[j + p];
    }
    return sum;
}

// The block of D x D rows from row AT on: sum[(c, a)] += spectrum[(c, b)] filters[(a, b)].
template <int AT, int D, class Tile>
__device__ __forceinline__ void multiply(typename Tile::Acc (&sum)[ROWS][Tile::TX][Tile::TO],
                                         const typename Tile::Acc *spectrum, const typename Tile::Acc *filters)
{
    typedef Pack<typename Tile::Acc, Tile::TX> Voxels;
    typedef Pack<typename Tile::Acc, Tile::TO> Outputs;
    Voxels left[D][D];
    UNROLL for (int c = 0; c < D; ++c) UNROLL for (int b = 0; b < D; ++b)
        left[c][b] = *(const Voxels *)&spectrum[(AT + c * D + b) * Tile::BX];
    UNROLL for (int a = 0; a < D; ++a) UNROLL for (int b = 0; b < D; ++b) {
        const Outputs right = *(const Outputs *)&filters[(AT + a * D + b) * Tile::BO];
        UNROLL for (int c = 0; c < D; ++c) UNROLL for (int i = 0; i < Tile::TX; ++i)
            UNROLL for (int o = 0; o < Tile::TO; ++o) sum[AT + c * D + a][i][o] += left[c][b].at[i] * right.at[o];
    }
}

template <class Tile, class Scalar, bool PLAIN>
__device__ __forceinline__ void grid_fourier_forward(const Scalar *x, const typename Tile::Acc *m,
                                                     const typename Tile::Acc *t, const int *order, const int *moved,
                                                     Scalar *y, const GridShape &s)
{
    typedef typename Tile::Acc Acc;
    constexpr int HALVES = Tile::HALVES, BX = Tile::BX, BO = Tile::BO, TX = Tile::TX, TO = Tile::TO, IC = Tile::IC;
    constexpr int THREADS = Tile::THREADS, PER_HALF = Tile::PER_HALF, GROUP = HALVES * ROWS, PACK = 16 / sizeof(Acc);
    static_assert(THREADS % BX == 0 && HALVES * IC * BX <= THREADS && GROUP <= THREADS && ROWS % PACK == 0, "the work must divide evenly");
    static_assert(PACK * TX * TO * PER_HALF <= IC * ROWS * BX, "the halves meet in the memory of the spectrum");
    SHARED_ARRAY(Acc, spectrum, [HALVES * IC * ROWS * BX]);
    SHARED_ARRAY(Acc, filters, [HALVES * IC * ROWS * BO]);
    SHARED_ARRAY(Acc, basis, [ROWS * ROWS]);
    SHARED_ARRAY(Tap, taps, [GROUP]);

    const int thread = (int)threadIdx.x, half = thread / PER_HALF, place = thread % PER_HALF;
    const int x0 = place % (BX / TX) * TX, o0 = place / (BX / TX) * TO;
    const int64 voxels = s.out[0] * s.out[1] * s.out[2], rows = s.batch * voxels;
    const int64 first_row = (int64)blockIdx.x * BX, first_output = (int64)blockIdx.y * BO;
    const int64 row = first_row + thread % BX;
    const Window window = row < rows ? window_of<PLAIN>(s, row / voxels, row % voxels) : Window{0, {ABSENT, 0, 0}};

    Acc sum[ROWS][TX][TO];
    UNROLL for (int r = 0; r < ROWS; ++r) UNROLL for (int i = 0; i < TX; ++i) UNROLL for (int o = 0; o < TO; ++o)
        sum[r][i][o] = 0;
    for (int at = thread; at < ROWS * ROWS; at += THREADS) basis[at] = t[at];

    for (int64 q = 0; q < s.taps; ++q) {
        // Nobody reads the taps of the step before: a barrier ended it.
        if (thread < GROUP) taps[thread] = aligned_tap<PLAIN>(s, order, moved, thread, q);
        __syncthreads();
        for (int64 i0 = 0; i0 < s.in_channels; i0 += IC) {
            FEW_AT_ONCE for (int at = thread / BX; at < HALVES * IC * ROWS; at += THREADS / BX) {
                const int of = at / (IC * ROWS), i = at / ROWS % IC, j = at % ROWS;
                const Scalar *channel = x + (i0 + i) * s.x_channel;
                spectrum[at * BX + thread % BX] =
                    i0 + i < s.in_channels ? gather<PLAIN>(channel, s, window, taps[of * ROWS + j]) : 0;
            }
            ROLLED for (int at = thread; at < HALVES * IC * ROWS * BO; at += THREADS) {
                const int of = at / (IC * ROWS * BO), i = at / (ROWS * BO) % IC, r = at / BO % ROWS;
                const int64 o = first_output + at % BO;
                const bool inside = i0 + i < s.in_channels && o < s.out_channels;
                filters[at] =
                    inside ? m[(((q * HALVES + of) * s.in_channels + i0 + i) * ROWS + r) * s.out_channels + o] : 0;
            }
            __syncthreads();
            // A column is read by the threads of all halves, and then overwritten.
            Acc column[ROWS];
            const int voxel = thread % BX, of = thread / BX / IC, i = thread / BX % IC;
            if (of < HALVES)
                read_column<HALVES, BX>(&spectrum[i * ROWS * BX + voxel], IC * ROWS * BX, of, column);
            __syncthreads();
            if (of < HALVES) {
                ROLLED for (int r = 0; r < ROWS; ++r)
                    spectrum[((of * IC + i) * ROWS + r) * BX + voxel] = transformed(column, basis, r);
            }
            __syncthreads();
            ROLLED for (int i = 0; i < IC; ++i) {
                const Acc *left = &spectrum[(half * IC + i) * ROWS * BX + x0];
                const Acc *right = &filters[(half * IC + i) * ROWS * BO + o0];
                multiply<0, 1, Tile>(sum, left, right);
                multiply<1, 1, Tile>(sum, left, right);
                multiply<2, 2, Tile>(sum, left, right);
                multiply<6, 3, Tile>(sum, left, right);
                multiply<15, 3, Tile>(sum, left, right);
            }
            __syncthreads();
        }
    }

    // Back to the group, a pack of elements at a time; even and odd halves meet in the memory of the spectrum.
    ROLLED for (int j0 = 0; j0 < ROWS; j0 += PACK) {
        Acc values[PACK][TX][TO];
        UNROLL for (int p = 0; p < PACK; ++p) UNROLL for (int i = 0; i < TX; ++i) UNROLL for (int o = 0; o < TO; ++o)
            values[p][i][o] = 0;
        UNROLL for (int r = 0; r < ROWS; ++r) {
            const Pack<Acc, PACK> column = *(const Pack<Acc, PACK> *)&basis[r * ROWS + j0];
            UNROLL for (int p = 0; p < PACK; ++p) UNROLL for (int i = 0; i < TX; ++i)
                UNROLL for (int o = 0; o < TO; ++o) values[p][i][o] += column.at[p] * sum[r][i][o];
        }
        if (HALVES == 2) {
            constexpr int COUNT = PACK * TX * TO;
            UNROLL for (int e = 0; e < COUNT; ++e)
                spectrum[(half * COUNT + e) * PER_HALF + place] = values[e / (TX * TO)][e / TO % TX][e % TO];
            __syncthreads();
            UNROLL for (int e = 0; e < COUNT; ++e) {
                const Acc other = spectrum[((1 - half) * COUNT + e) * PER_HALF + place];
                Acc &value = values[e / (TX * TO)][e / TO % TX][e % TO];
                value = half == 0 ? value + other : other - value;
            }
            __syncthreads();
        }
        UNROLL for (int p = 0; p < PACK; ++p) {
            const int64 g = order[half * ROWS + j0 + p];
            UNROLL for (int i = 0; i < TX; ++i) {
                const int64 at = first_row + x0 + i;
                if (at >= rows) continue;
                UNROLL for (int o = 0; o < TO; ++o) {
                    const int64 output = first_output + o0 + o;
                    if (output < s.out_channels)
                        narrow(values[p][i][o],
                               y[((at / voxels * s.out_channels + output) * s.order + g) * voxels + at % voxels]);
                }
            }
        }
    }
}

// The spectrum of one tap alone, for the gradient of the weight: [HALVES * 24, channel, (b, X)].
template <class Acc, class Scalar, int HALVES, int THREADS, bool PLAIN>
__device__ __forceinline__ void grid_fourier_spectrum(const Scalar *x, const Acc *t, const int *order,
                                                      const int *moved, Acc *out, int64 q, const GridShape &s)
{
    static_assert(HALVES * ROWS <= THREADS, "a thread to every element");
    SHARED_ARRAY(Acc, basis, [ROWS * ROWS]);
    SHARED_ARRAY(Tap, taps, [HALVES * ROWS]);
    const int thread = (int)threadIdx.x, half = (int)blockIdx.z;
    for (int at = thread; at < ROWS * ROWS; at += THREADS) basis[at] = t[at];
    if (thread < HALVES * ROWS) taps[thread] = aligned_tap<PLAIN>(s, order, moved, thread, q);
    __syncthreads();
    const int64 voxels = s.out[0] * s.out[1] * s.out[2], rows = s.batch * voxels;
    const int64 row = (int64)blockIdx.x * THREADS + thread, i = blockIdx.y;
    if (row >= rows) return;
    const Window window = window_of<PLAIN>(s, row / voxels, row % voxels);
    Acc sums[ROWS];
    UNROLL for (int r = 0; r < ROWS; ++r) sums[r] = 0;
    ROLLED for (int j = 0; j < ROWS; ++j) {
        Acc value = gather<PLAIN>(x + i * s.x_channel, s, window, taps[j]);
        if (HALVES == 2) {
            const Acc opposite = gather<PLAIN>(x + i * s.x_channel, s, window, taps[ROWS + j]);
            value = half == 0 ? value + opposite : value - opposite;
        }
        UNROLL for (int r = 0; r < ROWS; ++r) sums[r] += basis[r * ROWS + j] * value;
    }
    UNROLL for (int r = 0; r < ROWS; ++r) out[((half * ROWS + r) * s.in_channels + i) * rows + row] = sums[r];
}

#define GRID_FOURIER_FORWARD(name, Scalar, Acc, HALVES, BX, BO, TX, TO, IC, BLOCKS)                                   \
    KERNEL(name, HALVES * (BX / TX) * (BO / TO), BLOCKS)                                                              \
    (const Scalar *__restrict__ x, const Acc *__restrict__ filters, const Acc *__restrict__ basis,                    \
     const int *__restrict__ order, const int *__restrict__ taps, Scalar *__restrict__ y, const GridShape shape)      \
    {                                                                                                                 \
        grid_fourier_forward<FourierTile<Acc, HALVES, BX, BO, TX, TO, IC>, Scalar, true>(x, filters, basis, order,    \
                                                                                          taps, y, shape);            \
    }                                                                                                                 \
    EXPORT(name)

#define GRID_FOURIER_SPECTRUM(name, Scalar, Acc, HALVES, THREADS)                                                     \
    KERNEL(name, THREADS, 1)                                                                                          \
    (const Scalar *__restrict__ x, const Acc *__restrict__ basis, const int *__restrict__ order,                      \
     const int *__restrict__ taps, Acc *__restrict__ spectrum, const int64 q, const GridShape shape)                  \
    {                                                                                                                 \
        grid_fourier_spectrum<Acc, Scalar, HALVES, THREADS, true>(x, basis, order, taps, spectrum, q, shape);         \
    }                                                                                                                 \
    EXPORT(name)
