"""Where the coefficients are: the real form of a spectrum, and the rows of the table products.

The real form. For a real signal x_{-m,-n} = (-1)^(m-n) conj x_mn. Let U^l be the unitary matrix with rows

    +m: (e_m + (-1)^m e_{-m}) / sqrt 2,      -m: (e_m - (-1)^m e_{-m}) / (i sqrt 2),      0: e_0,

m > 0. Then X^l = U x^l U^dagger is real, X^l = U x^l on the sphere, and X^l keeps every product: z = x y^dagger becomes
Z = X Y^T, z = x y^dagger of vectors becomes Z = X Y^T. Orders are stored 0, +1, -1, +2, -2, ..; degrees one after the
other, so degree l starts at row l (4l^2 - 1) / 3 on SO(3) and l^2 on S2, as in the complex form.

In this basis conj D^l(alpha, beta, gamma) is real too, with t_+(m a) = cos, t_-(m a) = sin (1 / sqrt 2 and 0 at m = 0)
and P+-_mn(beta) = d_mn + or - (-1)^n d_{m,-n}, for signs s, t and orders m, n >= 0:

    D_{sm,tn} = s P+ t_s(m alpha) t_t(n gamma)  -  t P- t_{-s}(m alpha) t_{-t}(n gamma).                         (1)

P+- is even or odd about the equator: P+-(pi - beta) = +- (-1)^(l+m+n) P+-(beta). Of each pair (m, n) and degree l one
of P+, P- is even (the row of parity 0) and the other odd (parity 1): half the colatitudes suffice.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .wigner import Array, Integers


def so3_rows(b: int) -> int:
    """Return the number of coefficients of an SO(3) spectrum of bandwidth b, b (4 b^2 - 1) / 3."""
    return b * (4 * b * b - 1) // 3


def so3_degrees(rows: int) -> int:
    """Return b from b (4 b^2 - 1) / 3."""
    b: int = round((3 * rows / 4) ** (1 / 3))
    return b


@dataclass(frozen=True)
class ShellLayout:
    """Rows of all table products, and which coefficients they make.

    The pairs of orders (m of alpha, n of gamma) are grouped in shells max(m, n) = M, whose degrees are M .. degrees -
    1. Shell M holds, for both parities, the pairs (M, 0), .., (M, M), then the pairs (0, M), .., (M-1, M); each pair
    has degrees - M rows; each row has four columns: (cos, cos), (cos, sin), (sin, cos), (sin, sin) in (alpha, gamma).

    Attributes:
        degrees: number of degrees L.
        orders: number of orders |m|, |n| < orders.
        rows: number of rows in all.
        plus: of each coefficient, the row * 4 + column where the P+ term of (1) is; [so3_rows(L)].
        plus_sign: its sign, 0 where |m| or |n| >= orders.
        minus: the same for the P- term.
        minus_sign: its sign.
        source: of each row * 4 + column, the one coefficient it contributes to: the transpose of plus and minus.
        source_sign: its sign, 0 for the columns sin(0 alpha), sin(0 gamma).
    """

    degrees: int
    orders: int
    rows: int
    plus: Integers
    plus_sign: Array
    minus: Integers
    minus_sign: Array
    source: Integers
    source_sign: Array


@lru_cache(maxsize=64)
def shell_layout(degrees: int, orders: int) -> ShellLayout:
    """Return the layout of all table products for degrees l < degrees and orders |m|, |n| < orders."""
    shell = np.arange(orders)
    lengths = degrees - shell
    sizes = np.stack([2 * (shell + 1) * lengths, 2 * shell * lengths], 1)  # rows of the two groups of a shell
    ends = np.cumsum(sizes.reshape(-1))
    starts = (ends - sizes.reshape(-1)).reshape(orders, 2)
    rows = int(ends[-1])

    l = np.repeat(np.arange(degrees), (2 * np.arange(degrees) + 1) ** 2)
    within = np.arange(so3_rows(degrees)) - l * (4 * l * l - 1) // 3
    width = 2 * l + 1
    i, j = within // width, within % width
    m, n = (i + 1) // 2, (j + 1) // 2
    s, t = np.where((i % 2 == 1) | (i == 0), 1, -1), np.where((j % 2 == 1) | (j == 0), 1, -1)
    present = (m < orders) & (n < orders)
    big, small, second = np.maximum(m, n), np.minimum(m, n), (n > m).astype(np.int64)
    big_kept, small_kept = np.where(present, big, 0), np.where(present, small, 0)
    # The table holds the pair (big, small); P+-_{mn} = (-1)^(m-n) P+-_{nm} for the other order.
    swap_sign = np.where((second == 1) & ((m - n) % 2 != 0), -1.0, 1.0) * present

    def place(parity: Integers, sin_m: Integers, sin_n: Integers) -> Integers:
        row = starts[big_kept, second] + (2 * small_kept + parity) * (degrees - big_kept) + (l - big_kept)
        return np.where(present, row * 4 + 2 * sin_m + sin_n, 0)

    parity = (l + m + n) % 2  # of P+; P- has the other
    plus, plus_sign = place(parity, (s < 0) * 1, (t < 0) * 1), s * swap_sign
    minus, minus_sign = place(1 - parity, (s > 0) * 1, (t > 0) * 1), -t * swap_sign
    minus_sign = minus_sign * ((m > 0) & (n > 0))  # P- vanishes at order 0
    source, source_sign = np.zeros(rows * 4, np.int64), np.zeros(rows * 4)
    for index, sign in ((minus, minus_sign), (plus, plus_sign)):
        used = sign != 0
        source[index[used]] = np.flatnonzero(used)
        source_sign[index[used]] = sign[used]
    return ShellLayout(degrees, orders, rows, plus, plus_sign, minus, minus_sign, source, source_sign)


def fourier_matrix(b: int, orders: int) -> Array:
    """Return the rows cos(m phi_k), sin(m phi_k) (1 / sqrt 2, 0 at m = 0), phi_k = pi k / b: [2 orders, 2b]."""
    # Reduce m k mod 2b before multiplying by pi / b: exact angles at every order.
    angle = np.pi / b * ((np.arange(orders)[:, None] * np.arange(2 * b)[None, :]) % (2 * b))
    return trigonometric(angle)


def trigonometric(angle: Array) -> Array:
    """Return the rows cos, sin of each row m of m * phi, 1 / sqrt 2 and 0 for m = 0: [2 * len(angle), ..]."""
    both = np.stack([np.cos(angle), np.sin(angle)], 1)
    both[0, 0], both[0, 1] = np.sqrt(0.5), 0.0
    result: Array = both.reshape(2 * angle.shape[0], *angle.shape[1:])
    return result


@dataclass(frozen=True)
class ComplexLayout:
    """The change of basis between complex rows x and real-form rows X.

    Re x = X[re] . re_weight, Im x = X[im] . im_weight.

    Attributes:
        re: indices into the real form, [terms, rows], one term on S2, two on SO(3).
        re_weight: their weights.
        im: the same for the imaginary part.
        im_weight: their weights.
    """

    re: Integers
    re_weight: Array
    im: Integers
    im_weight: Array


def _column(order: Integers, sign: int) -> NDArray[np.complex128]:
    """Return U_{sign |m|, m} of the matrix in the docstring of this module."""
    parity = np.where(order % 2 == 0, 1.0, -1.0)
    if sign > 0:
        value = np.where(order > 0, 1.0, parity) * np.sqrt(0.5) + 0j
        return np.where(order == 0, 1.0, value)
    value = np.where(order > 0, -1j, 1j * parity) * np.sqrt(0.5)
    return np.where(order == 0, 0.0, value)


def _stored(order: Integers, sign: int) -> Integers:
    """Return where the order sign |m| is stored; 0 for order 0, of either sign."""
    size = np.abs(order)
    return np.where(size == 0, 0, 2 * size - (sign > 0))


@lru_cache(maxsize=64)
def s2_complex_layout(b: int) -> ComplexLayout:
    """Return x = U^dagger X for the rows l^2 + l + m."""
    l = np.repeat(np.arange(b), 2 * np.arange(b) + 1)
    m = np.arange(b * b) - l * l - l
    index = [(l * l + _stored(m, sign))[None] for sign in (1, -1)]
    weight = [np.conj(_column(m, sign))[None] for sign in (1, -1)]
    return ComplexLayout(index[0], weight[0].real, index[1], weight[1].imag)


@lru_cache(maxsize=64)
def so3_complex_layout(b: int) -> ComplexLayout:
    """Return x = U^dagger X U for the rows l (4 l^2 - 1) / 3 + (l + m)(2l + 1) + (l + n)."""
    l = np.repeat(np.arange(b), (2 * np.arange(b) + 1) ** 2)
    start, width = l * (4 * l * l - 1) // 3, 2 * l + 1
    within = np.arange(so3_rows(b)) - start
    m, n = within // width - l, within % width - l

    def terms(signs: tuple[tuple[int, int], tuple[int, int]]) -> tuple[Integers, NDArray[np.complex128]]:
        index = np.stack([start + _stored(m, s) * width + _stored(n, t) for s, t in signs])
        return index, np.stack([np.conj(_column(m, s)) * _column(n, t) for s, t in signs])

    re, re_weight = terms(((1, 1), (-1, -1)))
    im, im_weight = terms(((-1, 1), (1, -1)))
    return ComplexLayout(re, re_weight.real, im, im_weight.imag)
