"""Training steps of SO3Conv against a per-degree complex implementation, the S2 transform against torch-harmonics.

    python benchmarks/spherical_training.py [--bandwidths 16 32] [--rounds 5] [--autograd] [--no-s2]

One process, one thread, rounds interleaved (ours, baseline, ours, ..), so that a slow moment of the machine hits both.
The time of a round is one forward and backward pass with gradients for the input, the kernel and the bias; batch 8, 16
-> 16 channels, float32, kernel on so3_near_identity() (192 points). Medians are reported, with the range; the outputs
and gradients of both are compared first.
"""

import argparse
import importlib.util
import statistics
import sys
import time
import types

import torch
from equiharness import kernels
from equiharness.kernels import wigner_d
from torch import Tensor


def without_denormals(d: Tensor) -> Tensor:
    """Zero what float32 cannot hold normally, as the library does: denormal factors are a hundred times slower."""
    return torch.where(d.abs() < 1e-21, 0.0, d)


class PerDegree:
    """The formulas as they stand: complex FFTs, full complex tables, one einsum and one matrix product per degree.

    Fair: with `by_hand` the transforms have their own adjoints (autograd through the slices of each degree would fill a
    tensor of the size of the signal per degree), each einsum has its operands in the order that torch contracts fastest
    here, and the tables are made beforehand.
    """

    def __init__(self, b: int, points: Tensor, by_hand: bool, dtype: torch.dtype = torch.complex64) -> None:
        self.b, self.by_hand = b, by_hand
        beta = torch.pi * (2 * torch.arange(2 * b, dtype=torch.float64) + 1) / (4 * b)
        weights = kernels.quadrature_weights(b)
        self.d = [without_denormals(wigner_d(l, beta)) for l in range(b)]  # [j, m, n]
        # [m n, j]: contracted against [m n, j, batch * channels]
        self.forward_table = [(d * weights[:, None, None]).permute(1, 2, 0).to(dtype).contiguous() for d in self.d]
        self.inverse_table = [((2 * l + 1) * d).permute(1, 2, 0).to(dtype).contiguous() for l, d in enumerate(self.d)]
        order = torch.arange(-(b - 1), b)
        self.order = order % (2 * b)
        self.kernel_table = []
        for l in range(b):
            m = torch.arange(-l, l + 1, dtype=torch.float64)
            phase = torch.exp(-1j * (m[:, None] * points[:, 1, None, None] + m * points[:, 2, None, None]))
            self.kernel_table.append((wigner_d(l, points[:, 0]) * phase).to(dtype))  # conj D: [p, m, n]

    def to(self, device: torch.device | str) -> "PerDegree":
        """Move the tables."""
        for name in ("forward_table", "inverse_table", "kernel_table"):
            setattr(self, name, [table.to(device) for table in getattr(self, name)])
        self.order = self.order.to(device)
        return self

    def to_orders(self, x: Tensor) -> Tensor:
        """[B, C, j, alpha, gamma] -> [m, n, j, B C], complex, m and n from -(b-1) to b-1."""
        f = torch.fft.fft2(x.to(self.d_dtype)).flatten(0, 1)
        f = f[:, :, self.order][:, :, :, self.order]
        return f.permute(2, 3, 1, 0).contiguous()

    def from_orders(self, f: Tensor, batch: int) -> Tensor:
        """The transpose of `to_orders`: [m, n, j, B C] -> [B, C, j, alpha, gamma], real."""
        b = self.b
        full = f.new_zeros(f.shape[3], 2 * b, 2 * b, 2 * b)
        full[:, :, self.order[:, None], self.order[None, :]] = f.permute(3, 2, 0, 1)
        return torch.fft.ifft2(full, norm="forward").real.unflatten(0, (batch, -1))

    @property
    def d_dtype(self) -> torch.dtype:
        return self.forward_table[0].dtype

    def analyse(self, x: Tensor, tables: list[Tensor]) -> list[Tensor]:
        f, b, batch = self.to_orders(x), self.b, x.shape[0]
        out = []
        for l, table in enumerate(tables):
            s = slice(b - 1 - l, b + l)
            out.append(torch.einsum("mnj,mnjc->mnc", table, f[s, s]).unflatten(2, (batch, -1)))  # [m, n, B, C]
        return out

    def synthesise(self, spectrum: list[Tensor], tables: list[Tensor]) -> Tensor:
        b, batch = self.b, spectrum[0].shape[2]
        f = spectrum[0].new_zeros(2 * b - 1, 2 * b - 1, 2 * b, spectrum[0][0, 0].numel())
        for l, (z, table) in enumerate(zip(spectrum, tables, strict=True)):
            s = slice(b - 1 - l, b + l)
            f[s, s].addcmul_(table[..., None], z.flatten(2)[:, :, None])  # no temporary
        return self.from_orders(f, batch)

    def __call__(self, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        cin, _, points = kernel.shape
        scaled = (kernel / (points * cin) ** 0.5).to(self.d_dtype)
        xs = _Analyse.apply(x, self) if self.by_hand else self.analyse(x, self.forward_table)
        zs = []
        for x_l, table in zip(xs, self.kernel_table, strict=True):
            y = torch.einsum("iop,pnk->ikno", scaled, table).conj()  # [i, k, n, o]
            m, k, batch = x_l.shape[:3]
            left = x_l.permute(2, 0, 3, 1).reshape(batch * m, cin * k)
            z = left @ y.reshape(cin * k, -1)
            zs.append(z.view(batch, m, m, -1).permute(1, 2, 0, 3))
        z = _Synthesise.apply(self, *zs) if self.by_hand else self.synthesise(zs, self.inverse_table)
        return z + bias


class _Analyse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, model):
        ctx.model = model
        return tuple(model.analyse(x, model.forward_table))

    @staticmethod
    def backward(ctx, *gradients):
        return ctx.model.synthesise([g.contiguous() for g in gradients], ctx.model.forward_table), None


class _Synthesise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, model, *spectrum):
        ctx.model = model
        return model.synthesise(list(spectrum), model.inverse_table)

    @staticmethod
    def backward(ctx, gradient):
        return None, *ctx.model.analyse(gradient, ctx.model.inverse_table)


def step(function, tensors, cotangent):
    """Seconds of one forward and backward pass."""
    for t in tensors:
        t.grad = None
    start = time.perf_counter()
    function(*tensors).backward(cotangent)
    return time.perf_counter() - start


def show(label, seconds):
    middle = statistics.median(seconds)
    print(f"  {label:28s} {middle * 1e3:9.1f} ms   ({min(seconds) * 1e3:.1f} .. {max(seconds) * 1e3:.1f})", flush=True)
    return middle


def training(b, rounds, with_plain, batch=8, channels=16):
    torch.manual_seed(0)
    grid = kernels.so3_near_identity()
    layer = kernels.SO3Conv(channels, channels, b, b, grid)
    points = torch.from_numpy(grid.points.copy())
    baseline, plain = PerDegree(b, points, by_hand=True), PerDegree(b, points, by_hand=False)
    x = torch.randn(batch, channels, *(2 * b,) * 3, requires_grad=True)
    tensors = [x, layer.kernel, layer.bias]
    cotangent = torch.randn(batch, channels, *(2 * b,) * 3)

    def ours(x, kernel, bias):
        return layer(x)

    gradients = []
    for function in (ours, baseline):
        out = function(*tensors)
        gradients.append([out.detach(), *torch.autograd.grad(out, tensors, cotangent)])
    differences = [float((a - c).abs().max() / c.abs().max()) for a, c in zip(*gradients, strict=True)]
    del gradients, out
    print(
        f"SO3Conv b = {b}, batch {batch}, {channels} -> {channels}; largest differences",
        *(f"{d:.1e}" for d in differences),
    )
    runs = {"ours": ours, "per degree, own adjoints": baseline}
    if with_plain:
        runs["per degree, autograd"] = plain
    times = {label: [] for label in runs}
    for _ in range(rounds):
        for label, function in runs.items():
            times[label].append(step(function, tensors, cotangent))
    own, *others = (show(label, seconds) for label, seconds in times.items())
    print("  ratio", *(f"{other / own:.1f}" for other in others))


def load_torch_harmonics():
    """RealSHT and its inverse, which are plain torch: also where the compiled parts of the package do not load."""
    try:
        from torch_harmonics import InverseRealSHT, RealSHT
    except ImportError:
        for name in [name for name in sys.modules if name.startswith("torch_harmonics")]:
            del sys.modules[name]
        package = types.ModuleType("torch_harmonics")
        package.__path__ = list(importlib.util.find_spec("torch_harmonics").submodule_search_locations)
        sys.modules["torch_harmonics"] = package
        from torch_harmonics.sht import InverseRealSHT, RealSHT
    return RealSHT, InverseRealSHT


def s2_transform(b, rounds, batch=8, channels=16, repeat=20):
    """The plain S2 transform and its inverse against RealSHT on the equiangular grid of the same size (2b x 2b)."""
    RealSHT, InverseRealSHT = load_torch_harmonics()
    x = torch.randn(batch, channels, 2 * b, 2 * b)
    theirs = RealSHT(2 * b, 2 * b, lmax=b, mmax=b, grid="equiangular")
    inverse = InverseRealSHT(2 * b, 2 * b, lmax=b, mmax=b, grid="equiangular")
    spectrum = theirs(x)
    band_limited = inverse(spectrum)
    error_theirs = float((inverse(theirs(band_limited)) - band_limited).abs().max() / band_limited.abs().max())
    own_spectrum = kernels.s2_fft(x)
    own_limited = kernels.s2_ifft(own_spectrum)
    error_ours = float(
        (kernels.s2_ifft(kernels.s2_fft(own_limited)) - own_limited).abs().max() / own_limited.abs().max()
    )
    print(
        f"S2 transform b = {b}, {batch} x {channels}, float32; round trip error ours {error_ours:.1e}, "
        f"theirs {error_theirs:.1e}"
    )
    runs = {
        "forward, ours": lambda: kernels.s2_fft(x),
        "forward, torch-harmonics": lambda: theirs(x),
        "inverse, ours": lambda: kernels.s2_ifft(own_spectrum),
        "inverse, torch-harmonics": lambda: inverse(spectrum),
    }
    times = {label: [] for label in runs}
    with torch.no_grad():
        for _ in range(rounds):
            for label, run in runs.items():
                start = time.perf_counter()
                for _ in range(repeat):
                    run()
                times[label].append((time.perf_counter() - start) / repeat)
    medians = [show(label, seconds) for label, seconds in times.items()]
    print(f"  ratio forward {medians[1] / medians[0]:.2f}, inverse {medians[3] / medians[2]:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bandwidths", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-s2", action="store_true")
    parser.add_argument("--autograd", action="store_true", help="also the baseline without hand-written adjoints")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for b in options.bandwidths:
        training(b, options.rounds, options.autograd)
    for b in () if options.no_s2 else (16, 32, 64):
        s2_transform(b, options.rounds)


if __name__ == "__main__":
    main()
