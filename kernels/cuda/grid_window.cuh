// Where the windows of a group convolution read: voxels of a box, moved by taps, padded, strided, dilated or wrapped.
//
// An array axis that a plane lacks is an axis of length 1 with tap coordinate 0, so two and three dimensions are one
// code.
#pragma once
#include "portable.cuh"

// The sizes of one call; strides of x in elements. The host fills it in this order (grid.py).
struct GridShape {
    int64 batch, in_channels, out_channels, order, fibre, taps;
    int64 out[3], in[3];
    int64 x_batch, x_channel, x_fibre, x_space[3];
    int64 stride, dilation, pad[3];
    int64 wrap[3];                 // period of the input, 0 where it is padded with zeros
    int64 slices, tiles_per_slice; // of the weight gradient: how its sum over (g, b, X) is cut
};

// A coordinate that no box reaches, for rows and taps beyond the end; a sum of two of them is an int, and negative.
constexpr int ABSENT = -(1 << 30);

// Where the window of one output voxel starts: memory offset, and coordinate per axis before the tap is added.
struct Window {
    int64 offset;
    int at[3];
};

// One (i, u, t) as element g sees it: offset of channel and fibre (and tap, if PLAIN), coordinate of g t.
struct Tap {
    int64 offset;
    int at[3];
};

// The coordinate within the period, where there is one.
__device__ __forceinline__ int64 wrapped(int64 at, int64 period)
{
    if (period == 0) return at;
    at %= period;
    return at < 0 ? at + period : at;
}

// PLAIN: zero padding and no dilation, so that window and tap add up to an address. Otherwise each coordinate is
// wrapped, and kept only where it is a multiple of the dilation; windows and taps are wrapped beforehand, so that their
// sum needs one subtraction, not a division.
template <bool PLAIN>
__device__ __forceinline__ Window window_of(const GridShape &s, int64 b, int64 voxel)
{
    const unsigned v = (unsigned)voxel, out1 = (unsigned)s.out[1], out2 = (unsigned)s.out[2];
    const int64 x[3] = {v / out2 / out1, v / out2 % out1, v % out2};
    Window window = {b * s.x_batch, {0, 0, 0}};
    UNROLL for (int a = 0; a < 3; ++a) {
        const int64 start = x[a] * s.stride - s.pad[a];
        window.at[a] = (int)(PLAIN ? start : wrapped(start, s.wrap[a]));
        if (PLAIN) window.offset += start * s.x_space[a];
    }
    return window;
}

template <bool PLAIN, class Scalar>
__device__ __forceinline__ auto gather(const Scalar *x, const GridShape &s, const Window &window, const Tap &tap)
{
    int64 offset = window.offset + tap.offset;
    bool inside = PLAIN || (window.at[0] != ABSENT && tap.at[0] != ABSENT);
    UNROLL for (int a = 0; a < 3; ++a) {
        int at = window.at[a] + tap.at[a];
        if (PLAIN) {
            inside = inside && (unsigned)at < (unsigned)s.in[a];
        } else {
            at -= s.wrap[a] > 0 && at >= s.wrap[a] ? (int)s.wrap[a] : 0;
            const unsigned dilation = (unsigned)s.dilation, source = (unsigned)at / dilation;
            inside = inside && at >= 0 && source * dilation == (unsigned)at && source < (unsigned)s.in[a];
            offset += (int64)source * s.x_space[a];
        }
    }
    return inside ? widen(x[offset]) : 0;
}
