// The beta step of the transforms: table products on SO(3) (Wigner) and S2 (Legendre), with every symmetry of the table.
//
// Of d^l_mn the table holds the pairs m >= n >= 0 at the northern colatitudes, as P+- (tables.py): an eighth. A block
// takes one pair, and with it both (m, n) and (n, m) with all signs: four pairs of orders share each number it loads.
// P+- is even or odd about the equator, so space is folded, f(beta) +- f(pi - beta), and half of the products is left.
//
//   space     [n, m, (sin m, sin n, item), 2b] on SO(3), [m, (sin m, item), 2b] on S2; item = (batch, channel)
//   spectrum  real form, channels innermost: [batch, row, channel] with strides of the batch and of the rows
//
// Analysis writes finished coefficients, synthesis reads them: the sums over both parities never leave the registers.
#include "portable.cuh"

// The host fills it in this order (wigner.py).
struct WignerShape {
    int64 b, degrees, orders;
    int64 items, channels;       // items = batch * channels
    int64 batch_stride, row_stride; // of the spectrum
    int64 weighted, scaled;      // whether by the quadrature weights, whether by 2 l + 1
};

// A block: 32 columns of space (16 items in both orders of a pair, or both waves of an order), 32 degrees or colatitudes.
constexpr int ITEMS = 16, WARPS = 8, EACH = 4, DEPTH = 8, WIGNER_THREADS = 32 * WARPS, SPAN = WARPS * EACH;

// Four neighbours in shared memory, in packs of 16 bytes.
template <class Acc>
__device__ __forceinline__ void take(const Acc *from, Acc (&to)[4])
{
    constexpr int N = 16 / sizeof(Acc);
    UNROLL for (int i = 0; i < 4 / N; ++i) {
        const Pack<Acc, N> pack = *(const Pack<Acc, N> *)&from[i * N];
        UNROLL for (int k = 0; k < N; ++k) to[i * N + k] = pack.at[k];
    }
}

// A pair of orders, major >= minor >= 0, and where its table starts.
struct OrderPair {
    int major, minor;
    __device__ __forceinline__ explicit OrderPair(int64 index)
    {
        int64 low = 0;
        for (int64 high = index + 1; high - low > 1;) {
            const int64 middle = (low + high) / 2;
            if (middle * (middle + 1) / 2 <= index) low = middle; else high = middle;
        }
        major = (int)low, minor = (int)(index - low * (low + 1) / 2);
    }
    // Row of parity p, degree major + l: shells of [2 parities, major + 1 pairs, degrees - major] one after the other.
    __device__ __forceinline__ int64 row(int64 degrees, int64 parity, int64 l) const
    {
        const int64 M = major, pairs = M * (M + 1) / 2;
        const int64 shell = 2 * (degrees * pairs - (M - 1) * M * (2 * M - 1) / 6 - pairs + M);
        return shell + (parity * (M + 1) + minor) * (degrees - M) + l;
    }
};

// One of the 32 columns that a block works on: an item, and which of two (order of the pair, or wave).
struct Column {
    int64 item;
    int which;
    bool present;
    __device__ __forceinline__ Column(int index, const WignerShape &s, int kinds)
    {
        const int64 tiles = ceil_div(s.items, ITEMS);
        item = (int64)blockIdx.x % tiles * ITEMS + index % ITEMS;
        which = index / ITEMS;
        present = item < s.items && which < kinds;
    }
    __device__ __forceinline__ int64 in_spectrum(const WignerShape &s) const
    {
        return item / s.channels * s.batch_stride + item % s.channels;
    }
};

// What a pair of orders and one of its two orders mean for the coefficients X_{sm, tn} of a degree: see layout.py (1).
template <class Acc>
struct Coefficients {
    int m, n;
    Acc swap;      // (-1)^(m-n) for the second order of the pair
    bool both_odd; // whether P- counts: it vanishes at order 0
    __device__ __forceinline__ Coefficients(const OrderPair &pair, int which)
        : m(which ? pair.minor : pair.major), n(which ? pair.major : pair.minor),
          swap(which && (pair.major - pair.minor) % 2 ? -1 : 1), both_odd(pair.minor > 0)
    {
    }
    // s and t: 0 for a cosine, 1 for a sine; order 0 has no sine.
    __device__ __forceinline__ bool exists(int s, int t) const { return (m > 0 || s == 0) && (n > 0 || t == 0); }
    __device__ __forceinline__ int64 row(int64 l, int s, int t) const
    {
        const int64 i = m > 0 ? 2 * m - 1 + s : 0, j = n > 0 ? 2 * n - 1 + t : 0; // 0, +1, -1, +2, ..
        return l * (4 * l * l - 1) / 3 + i * (2 * l + 1) + j;
    }
    __device__ __forceinline__ Acc plus_sign(int s, int) const { return s ? -swap : swap; }
    __device__ __forceinline__ Acc minus_sign(int, int t) const { return !both_odd ? Acc(0) : t ? swap : -swap; }
};

template <class Acc>
__device__ __forceinline__ void wigner_analyse(const Acc *table, const Acc *weights, const Acc *space, Acc *spectrum,
                                               const WignerShape &s)
{
    constexpr int FOLDED = 2 * 4 * 32 + 16 / sizeof(Acc), ROWS = 2 * SPAN + 16 / sizeof(Acc);
    constexpr int LOADS = 4 * 32 * DEPTH / WIGNER_THREADS, ENTRIES = 2 * SPAN * DEPTH / WIGNER_THREADS;
    SHARED_ARRAY(Acc, folded, [2][DEPTH][FOLDED]); // [colatitude][parity][column][waves]
    SHARED_ARRAY(Acc, rows, [2][DEPTH][ROWS]);     // [colatitude][degree][parity]

    const int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;
    const OrderPair pair(blockIdx.x / ceil_div(s.items, ITEMS));
    const int kinds = pair.minor < pair.major ? 2 : 1;
    const int64 first = (int64)blockIdx.y * SPAN, length = s.degrees - pair.major; // of the degrees
    if (first >= length) return; // the whole block

    // What a thread loads: colatitude thread % 8 of a step, wave thread / 8 % 4 of the columns warp, warp + 8, ..
    // and of the table degree thread / 8, both parities.
    static_assert(DEPTH == 8 && WARPS == 8 && LOADS == 4 && ENTRIES == 2, "columns and rows are dealt out for these");
    const Column column0(warp, s, kinds), column8(warp + 8, s, kinds);
    const Acc *from[2]; // of the pair's two orders, at the north pole
    UNROLL for (int which = 0; which < 2; ++which) {
        const int64 m = which ? pair.minor : pair.major, n = which ? pair.major : pair.minor;
        from[which] = space + (((n * s.orders + m) * 4 + thread / 8 % 4) * s.items + column0.item) * 2 * s.b;
    }
    const Acc *const table_row = table + pair.row(s.degrees, 0, first + thread / 8) * s.b;
    const int64 to_odd = (pair.row(s.degrees, 1, 0) - pair.row(s.degrees, 0, 0)) * s.b;
    Acc north[LOADS], south[LOADS], entry[ENTRIES];
    auto load = [&](int64 step) {
        const int64 j = step * DEPTH + thread % 8, mirrored = 2 * s.b - 1 - j;
        const Acc weight = s.weighted && j < s.b ? weights[j] : Acc(1);
        UNROLL for (int r = 0; r < LOADS; ++r) {
            const bool present = (r % 2 ? column8 : column0).present && r / 2 < kinds && j < s.b;
            const Acc *const at = from[r / 2] + r % 2 * 16 * s.b;
            north[r] = present ? weight * at[j] : 0;
            south[r] = present ? weight * at[mirrored] : 0;
        }
        UNROLL for (int r = 0; r < ENTRIES; ++r)
            entry[r] = j < s.b && first + thread / 8 < length ? table_row[r * to_odd + j] : 0;
    };
    auto store = [&](int64 step) {
        UNROLL for (int r = 0; r < LOADS; ++r) {
            const int e = thread + r * WIGNER_THREADS;
            folded[step % 2][e % DEPTH][e / DEPTH] = north[r] + south[r];
            folded[step % 2][e % DEPTH][128 + e / DEPTH] = north[r] - south[r];
        }
        UNROLL for (int r = 0; r < ENTRIES; ++r) {
            const int e = thread + r * WIGNER_THREADS;
            rows[step % 2][e % DEPTH][e / DEPTH % SPAN * 2 + e / DEPTH / SPAN] = entry[r];
        }
    };

    Acc sum[EACH][2][4];
    UNROLL for (int i = 0; i < EACH; ++i) UNROLL for (int w = 0; w < 4; ++w) sum[i][0][w] = sum[i][1][w] = 0;
    const int64 steps = ceil_div(s.b, DEPTH);
    const bool busy = first + warp * EACH < length;
    load(0);
    store(0);
    __syncthreads();
    for (int64 step = 0; step < steps; ++step) { // one barrier a step, as in grid_exact.cu
        if (step + 1 < steps) load(step + 1);
        if (busy)
            UNROLL for (int j = 0; j < DEPTH; ++j) {
                Acc even[4], odd[4], low[4], high[4];
                take(&folded[step % 2][j][lane * 4], even);
                take(&folded[step % 2][j][128 + lane * 4], odd);
                take(&rows[step % 2][j][warp * EACH * 2], low);
                take(&rows[step % 2][j][warp * EACH * 2 + 4], high);
                UNROLL for (int i = 0; i < EACH; ++i) UNROLL for (int w = 0; w < 4; ++w) {
                    sum[i][0][w] += (i < 2 ? low[2 * i] : high[2 * i - 4]) * even[w];
                    sum[i][1][w] += (i < 2 ? low[2 * i + 1] : high[2 * i - 3]) * odd[w];
                }
            }
        if (step + 1 < steps) store(step + 1);
        __syncthreads();
    }

    const Column column(lane, s, kinds);
    if (!column.present) return;
    const Coefficients<Acc> of(pair, column.which);
    spectrum += column.in_spectrum(s);
    UNROLL for (int i = 0; i < EACH; ++i) {
        const int64 l = pair.major + first + warp * EACH + i;
        if (l >= s.degrees) continue;
        const bool flip = (i + pair.minor) % 2 != 0; // whether P+ is odd: l - major counts, and the rest of it is even
        const Acc factor = s.scaled ? Acc(2 * l + 1) : Acc(1);
        UNROLL for (int a = 0; a < 2; ++a) UNROLL for (int c = 0; c < 2; ++c) {
            if (!of.exists(a, c)) continue;
            const int here = 2 * a + c, mirrored = 3 - here; // P- meets the other wave in both angles
            const Acc plus = flip ? sum[i][1][here] : sum[i][0][here];
            const Acc minus = flip ? sum[i][0][mirrored] : sum[i][1][mirrored];
            spectrum[of.row(l, a, c) * s.row_stride] = factor * (of.plus_sign(a, c) * plus + of.minus_sign(a, c) * minus);
        }
    }
}

template <class Acc>
__device__ __forceinline__ void wigner_synthesise(const Acc *table, const Acc *weights, const Acc *spectrum, Acc *space,
                                                  const WignerShape &s)
{
    constexpr int LOADS = 4 * 32 * DEPTH / WIGNER_THREADS, ENTRIES = 2 * SPAN * DEPTH / WIGNER_THREADS;
    SHARED_ARRAY(Acc, cells, [2][DEPTH][2][4][32]);  // [degree][parity][wave][column]
    SHARED_ARRAY(Acc, rows, [2][DEPTH][2][SPAN]);    // [degree][parity][colatitude]

    const int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;
    const OrderPair pair(blockIdx.x / ceil_div(s.items, ITEMS));
    const int kinds = pair.minor < pair.major ? 2 : 1;
    const int64 first = (int64)blockIdx.y * SPAN, length = s.degrees - pair.major;

    const Column mine(lane, s, kinds); // of the coefficients that this thread loads
    const Coefficients<Acc> of(pair, mine.which);
    const Acc *const table_row = table + pair.row(s.degrees, 0, 0) * s.b + first + lane;
    const int64 to_odd = (pair.row(s.degrees, 1, 0) - pair.row(s.degrees, 0, 0)) * s.b;
    // Coefficient (cosine or sine of alpha, of gamma) warp % 4, of the degrees warp / 4, warp / 4 + 2, ..
    static_assert(DEPTH == 8 && WARPS == 8 && LOADS == 4 && ENTRIES == 2, "coefficients and rows are dealt out for these");
    const int a = warp / 2 % 2, c = warp % 2, here = 2 * a + c;
    const Acc *const from = spectrum + (mine.present ? mine.in_spectrum(s) : 0);
    const Acc plus = of.plus_sign(a, c), minus = of.minus_sign(a, c);
    const bool there = mine.present && of.exists(a, c);
    Acc next[LOADS], entry[ENTRIES];
    auto load = [&](int64 step) {
        UNROLL for (int r = 0; r < LOADS; ++r) {
            const int64 l = pair.major + step * DEPTH + warp / 4 + 2 * r;
            const Acc factor = s.scaled ? Acc(2 * l + 1) : Acc(1);
            next[r] = there && l < s.degrees ? factor * from[of.row(l, a, c) * s.row_stride] : 0;
        }
        const int64 l = step * DEPTH + warp;
        UNROLL for (int p = 0; p < 2; ++p)
            entry[p] = first + lane < s.b && l < length ? table_row[p * to_odd + l * s.b] : 0;
    };
    auto store = [&](int64 step) {
        UNROLL for (int r = 0; r < LOADS; ++r) {
            const int l = warp / 4 + 2 * r;
            const bool flip = (l + pair.minor) % 2 != 0; // whether P+ is odd: l counts from the major order
            cells[step % 2][l][flip][here][lane] = plus * next[r];
            cells[step % 2][l][!flip][3 - here][lane] = minus * next[r];
        }
        UNROLL for (int p = 0; p < 2; ++p) rows[step % 2][warp][p][lane] = entry[p];
    };

    Acc sum[EACH][2][4]; // of the warp's columns, at the lane's colatitude
    UNROLL for (int i = 0; i < EACH; ++i) UNROLL for (int w = 0; w < 4; ++w) sum[i][0][w] = sum[i][1][w] = 0;
    const int64 steps = ceil_div(length, DEPTH);
    load(0);
    store(0);
    __syncthreads();
    for (int64 step = 0; step < steps; ++step) {
        if (step + 1 < steps) load(step + 1);
        UNROLL for (int l = 0; l < DEPTH; ++l) UNROLL for (int p = 0; p < 2; ++p) {
            const Acc value = rows[step % 2][l][p][lane];
            UNROLL for (int w = 0; w < 4; ++w) {
                Acc of_columns[EACH];
                take(&cells[step % 2][l][p][w][warp * EACH], of_columns);
                UNROLL for (int i = 0; i < EACH; ++i) sum[i][p][w] += of_columns[i] * value;
            }
        }
        if (step + 1 < steps) store(step + 1);
        __syncthreads();
    }

    const int64 j = first + lane;
    if (j >= s.b) return;
    const Acc weight = s.weighted ? weights[j] : Acc(1);
    UNROLL for (int i = 0; i < EACH; ++i) {
        const Column column(warp * EACH + i, s, kinds);
        if (!column.present) continue;
        const int64 m = column.which ? pair.minor : pair.major, n = column.which ? pair.major : pair.minor;
        UNROLL for (int w = 0; w < 4; ++w) {
            Acc *const to = space + (((n * s.orders + m) * 4 + w) * s.items + column.item) * 2 * s.b;
            to[j] = weight * (sum[i][0][w] + sum[i][1][w]);
            to[2 * s.b - 1 - j] = weight * (sum[i][0][w] - sum[i][1][w]);
        }
    }
}

// On the sphere: d^l_m0 of one order m per block, even or odd about the equator with l - m; degrees m .. one after the
// other for each order. Sines count with a minus: sqrt 2 conj D_m0 has the imaginary part -sin.
__device__ __forceinline__ int64 legendre_row(int64 degrees, int64 m, int64 l) { return m * degrees - m * (m - 1) / 2 + l; }

__device__ __forceinline__ int64 s2_row(int64 l, int64 m, int wave) { return l * l + (m > 0 ? 2 * m - 1 + wave : 0); }

template <class Acc>
__device__ __forceinline__ void legendre_analyse(const Acc *table, const Acc *weights, const Acc *space, Acc *spectrum,
                                                 const WignerShape &s)
{
    constexpr int ENTRIES = SPAN * DEPTH / WIGNER_THREADS; // and as many columns to load
    SHARED_ARRAY(Acc, folded, [2][DEPTH][2][33]);                           // [colatitude][parity][column]
    SHARED_ARRAY(Acc, rows, [2][DEPTH][SPAN + 16 / sizeof(Acc)]); // [colatitude][degree]

    const int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int64 m = blockIdx.x / ceil_div(s.items, ITEMS), first = (int64)blockIdx.y * SPAN, length = s.degrees - m;
    if (first >= length) return;

    Acc north[ENTRIES], south[ENTRIES], entry[ENTRIES];
    auto load = [&](int64 step) {
        UNROLL for (int r = 0; r < ENTRIES; ++r) {
            const int e = thread + r * WIGNER_THREADS;
            const int64 j = step * DEPTH + e % DEPTH, l = first + e / DEPTH;
            const Column column(e / DEPTH, s, 2);
            const bool present = column.present && j < s.b;
            const Acc *from = space + ((m * 2 + column.which) * s.items + column.item) * 2 * s.b;
            const Acc weight = s.weighted && present ? weights[j] : Acc(1);
            north[r] = present ? weight * from[j] : 0;
            south[r] = present ? weight * from[2 * s.b - 1 - j] : 0;
            entry[r] = j < s.b && l < length ? table[legendre_row(s.degrees, m, l) * s.b + j] : 0;
        }
    };
    auto store = [&](int64 step) {
        UNROLL for (int r = 0; r < ENTRIES; ++r) {
            const int e = thread + r * WIGNER_THREADS;
            folded[step % 2][e % DEPTH][0][e / DEPTH] = north[r] + south[r];
            folded[step % 2][e % DEPTH][1][e / DEPTH] = north[r] - south[r];
            rows[step % 2][e % DEPTH][e / DEPTH] = entry[r];
        }
    };

    Acc sum[EACH] = {};
    const int64 steps = ceil_div(s.b, DEPTH);
    load(0);
    store(0);
    __syncthreads();
    for (int64 step = 0; step < steps; ++step) {
        if (step + 1 < steps) load(step + 1);
        UNROLL for (int j = 0; j < DEPTH; ++j) {
            Acc of_degrees[EACH];
            take(&rows[step % 2][j][warp * EACH], of_degrees);
            UNROLL for (int i = 0; i < EACH; ++i) sum[i] += of_degrees[i] * folded[step % 2][j][i % 2][lane];
        }
        if (step + 1 < steps) store(step + 1);
        __syncthreads();
    }

    const Column column(lane, s, m > 0 ? 2 : 1);
    if (!column.present) return;
    UNROLL for (int i = 0; i < EACH; ++i) {
        const int64 l = m + first + warp * EACH + i;
        const Acc factor = (s.scaled ? Acc(2 * l + 1) : Acc(1)) * (column.which ? -1 : 1);
        if (l < s.degrees) spectrum[column.in_spectrum(s) + s2_row(l, m, column.which) * s.row_stride] = factor * sum[i];
    }
}

template <class Acc>
__device__ __forceinline__ void legendre_synthesise(const Acc *table, const Acc *weights, const Acc *spectrum, Acc *space,
                                                    const WignerShape &s)
{
    SHARED_ARRAY(Acc, cells, [2][DEPTH][32]);  // [degree][column]
    SHARED_ARRAY(Acc, rows, [2][DEPTH][SPAN]); // [degree][colatitude]
    static_assert(DEPTH == WARPS && SPAN == 32, "a thread loads one coefficient and one number of the table per step");

    const int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int64 m = blockIdx.x / ceil_div(s.items, ITEMS), first = (int64)blockIdx.y * SPAN, length = s.degrees - m;
    const Column mine(lane, s, m > 0 ? 2 : 1);
    Acc next, entry;
    auto load = [&](int64 step) {
        const int64 l = step * DEPTH + warp;
        const Acc factor = (s.scaled ? Acc(2 * (m + l) + 1) : Acc(1)) * (mine.which ? -1 : 1);
        const bool present = mine.present && l < length;
        next = present ? factor * spectrum[mine.in_spectrum(s) + s2_row(m + l, m, mine.which) * s.row_stride] : 0;
        entry = first + lane < s.b && l < length ? table[legendre_row(s.degrees, m, l) * s.b + first + lane] : 0;
    };
    auto store = [&](int64 step) {
        cells[step % 2][warp][lane] = next;
        rows[step % 2][warp][lane] = entry;
    };

    Acc sum[EACH][2] = {};
    const int64 steps = ceil_div(length, DEPTH);
    load(0);
    store(0);
    __syncthreads();
    for (int64 step = 0; step < steps; ++step) {
        if (step + 1 < steps) load(step + 1);
        UNROLL for (int l = 0; l < DEPTH; ++l) {
            Acc of_columns[EACH];
            take(&cells[step % 2][l][warp * EACH], of_columns);
            UNROLL for (int i = 0; i < EACH; ++i) sum[i][l % 2] += of_columns[i] * rows[step % 2][l][lane];
        }
        if (step + 1 < steps) store(step + 1);
        __syncthreads();
    }

    const int64 j = first + lane;
    if (j >= s.b) return;
    const Acc weight = s.weighted ? weights[j] : Acc(1);
    UNROLL for (int i = 0; i < EACH; ++i) {
        const Column column(warp * EACH + i, s, 2);
        if (!column.present) continue;
        Acc *const to = space + ((m * 2 + column.which) * s.items + column.item) * 2 * s.b;
        to[j] = weight * (sum[i][0] + sum[i][1]);
        to[2 * s.b - 1 - j] = weight * (sum[i][0] - sum[i][1]);
    }
}

#define WIGNER(name, stage, Acc, BLOCKS)                                                                              \
    KERNEL(name, WIGNER_THREADS, BLOCKS)                                                                              \
    (const Acc *__restrict__ table, const Acc *__restrict__ weights, const Acc *__restrict__ from,                    \
     Acc *__restrict__ to, const WignerShape shape)                                                                   \
    {                                                                                                                 \
        stage<Acc>(table, weights, from, to, shape);                                                                  \
    }                                                                                                                 \
    EXPORT(name)
