"""What benchmarks/gpu.py times: every kernel against the best that torch and the peers offer for the same operator.

A case has contenders; each makes a callable from an input to an output, with parameters to differentiate by. The
operators are those of docs/gpu.md; the sizes are those of the table of limits there, and tiny ones for a CPU.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from equiharness.kernels import GroupConv, LiftingConv, S2Conv, SO3Conv, s2_near_identity, so3_near_identity
from equiharness.kernels.cuda import launch
from equiharness.kernels.cuda import spherical_operators as operators
from equiharness.kernels.cuda.wigner_operators import beta_step
from equiharness.kernels.grid.canonical import turn
from equiharness.kernels.spherical.basis import so3_basis
from equiharness.kernels.spherical.contraction import contract
from equiharness.kernels.spherical.kernelmap import kernel_map
from equiharness.kernels.spherical.layout import shell_layout, so3_rows
from equiharness.kernels.spherical.linear import sum_rows
from equiharness.kernels.spherical.tables import shell_starts
from equiharness.kernels.spherical.transform import so3_plan
from gpu_timing import tf32
from spherical_training import PerDegree


@dataclass
class Contender:
    """One way to compute an operator.

    Args:
        call: from the input to the output.
        parameters: what else the backward pass differentiates by.
        input: of this contender's own layout.
        output: from its output to the layout that all share.
        precision: of its arithmetic, for the floor.
        around: makes a context in which it runs, forward and backward.
    """

    call: Callable
    parameters: list
    input: torch.Tensor
    output: Callable = lambda y: y
    precision: str = "float32"
    around: Callable = lambda: tf32(False)


@dataclass
class Case:
    """An operator at one size.

    Args:
        name: of the case.
        flops: of the forward pass by the definition; a backward pass costs twice as many.
        moved: fewest bytes of the forward pass.
        build: device -> contenders, the first of which is the project's kernel.
        reference: device -> a callable from the first contender's input to its output in float64, on one sample.
        equivariance: device -> a callable from a contender to its largest relative error over elements, or None.
        backward: whether there is a backward pass to time.
    """

    name: str
    flops: float
    moved: float
    build: Callable
    reference: Callable
    equivariance: Callable | None = None
    backward: bool = True
    notes: list = field(default_factory=list)


def by_torch():
    """Without the kernels: the same layers through torch's own operators."""

    class Both:
        def __enter__(self):
            self.parts = tf32(False), launch.running_on(None)
            for part in self.parts:
                part.__enter__()

        def __exit__(self, *error):
            for part in reversed(self.parts):
                part.__exit__(*error)

    return Both()


def grid_case(name, kind, group, batch, channels, box, k=3):
    """A group convolution: canonical kernel, expanded filters through cuDNN, compiled, channels-last, TF32, peers."""
    probe = kind(group, *channels, k, padding=k // 2, bias=False)
    order, dim = probe.order, probe.dim
    fibre = order if probe.in_fibre else 1
    voxels = batch * math.prod(box)
    flops = 2 * voxels * order * channels[1] * channels[0] * fibre * k**dim
    moved = 4 * (voxels * (channels[0] * fibre + channels[1] * order) + probe.weight.numel())

    def make(device, backend, dtype=torch.float32):
        torch.manual_seed(0)
        layer = kind(group, *channels, k, padding=k // 2, bias=False, backend=backend, dtype=dtype)
        return layer.to(device)

    def sample(device):
        torch.manual_seed(1)
        lead = (batch, channels[0], order) if probe.in_fibre else (batch, channels[0])
        return torch.randn(*lead, *box, device=device)

    def build(device):
        x = sample(device)
        layers = {"exact (ours)": make(device, "exact"), "expanded filters": make(device, "fast")}
        if group in ("O", "Oh") and probe.in_fibre:
            layers["fourier (ours)"] = make(device, "fourier")
        contenders = {label: Contender(layer, [layer.weight], x) for label, layer in layers.items()}
        compiled = torch.compile(make(device, "fast"), mode="default") if device == "cuda" else None
        if compiled is not None:
            contenders["expanded filters, compiled"] = Contender(compiled, list(compiled.parameters()), x)
        flat = x.flatten(1, 2) if probe.in_fibre else x
        memory = torch.channels_last if dim == 2 else torch.channels_last_3d
        for label, allowed, layout in (
            ("dense convolution", False, torch.contiguous_format),
            ("dense convolution, channels-last", False, memory),
            ("dense convolution, channels-last, TF32", True, memory),
        ):
            dense = make(device, "fast").fold().to(device).to(memory_format=layout)
            dense.weight.requires_grad_()
            contenders[label] = Contender(
                dense,
                [dense.weight],
                flat.to(memory_format=layout),
                output=lambda y: y.unflatten(1, (channels[1], order)),
                precision="tf32" if allowed else "float32",
                around=lambda allowed=allowed: tf32(allowed),
            )
        contenders.update(peers(device, kind, group, batch, channels, box, k))
        return contenders

    def reference(device):
        layer = make(device, "fast", torch.float64)
        layer.load_state_dict(make(device, "exact").state_dict())
        return lambda x: layer(x.double())

    def equivariance(device):
        grid = probe.group
        elements = torch.from_numpy(grid.elements)

        def act(x, g, regular):
            moved = turn(x, elements[int(grid.inv[g])])
            return moved[:, :, grid.mul[grid.inv[g]].tolist()] if regular else moved

        def error(contender):
            if contender.output is not Contender.output:  # a dense layer or a peer has its own layout: not compared
                return None
            x = contender.input[:1]
            with torch.no_grad():
                y = contender.call(x)
                differences = [
                    contender.call(act(x, g, bool(probe.in_fibre)).contiguous()) - act(y, g, True)
                    for g in range(0, order, max(1, order // 4))
                ]
                return max(float(d.abs().max()) for d in differences) / float(y.abs().max())

        return error

    return Case(name, flops, moved, build, reference, equivariance if len(set(box)) == 1 else None)


def peers(device, kind, group, batch, channels, box, k):
    """Escnn and e2cnn, where they are installed, on regular fields, training mode and cached filters."""
    found = {}
    for library in ("escnn", "e2cnn"):
        if find_spec(library) is None or kind is not GroupConv:
            continue
        try:
            found.update(_peer(library, device, group, batch, channels, box, k))
        except Exception as error:  # a peer that fails is reported, and does not end the run
            found[library] = error
    return found


def _peer(library, device, group, batch, channels, box, k):
    import importlib

    gspaces = importlib.import_module(f"{library}.gspaces")
    nn = importlib.import_module(f"{library}.nn")
    names = {
        "escnn": {"C4": ("rot2dOnR2", 4), "D4": ("flipRot2dOnR2", 4), "O": ("octaOnR3",), "Oh": ("fullOctaOnR3",)},
        "e2cnn": {"C4": ("Rot2dOnR2", 4), "D4": ("FlipRot2dOnR2", 4)},
    }[library]
    if group not in names:
        return {}
    maker, *arguments = names[group]
    space = getattr(gspaces, maker)(*arguments)
    source, target = (nn.FieldType(space, n * [space.regular_repr]) for n in channels)
    conv = nn.R2Conv if len(box) == 2 else nn.R3Conv
    x = torch.randn(batch, source.size, *box, device=device)
    found = {}
    for label, train in (("training mode", True), ("cached filters", False)):
        layer = conv(source, target, k, padding=k // 2, bias=False).to(device).train(train)
        parameters = [p for p in layer.parameters() if p.requires_grad] if train else []
        found[f"{library}, {label}"] = Contender(
            lambda x, layer=layer: layer(nn.GeometricTensor(x, source)).tensor, parameters, x, output=lambda y: None
        )
    return found


#: Precisions of the mixing besides its own, and the ceiling that each is held against.
OTHER_PRECISIONS = {"float32": "float32", "tf32": "tf32", "bf16": "bfloat16"}


def so3_case(name, batch, channels, b, compiled):
    """A convolution on SO(3): our layer with and without kernels, and complex FFTs with one einsum per degree."""
    grid = so3_near_identity()
    flops = 2 * batch * channels**2 * sum((2 * n + 1) ** 3 for n in range(b))
    moved = 4 * (2 * batch * channels * (2 * b) ** 3 + channels**2 * so3_rows(b))

    def make(dtype=torch.float32):
        torch.manual_seed(0)
        return SO3Conv(channels, channels, b, b, grid).to(dtype)

    def build(device):
        torch.manual_seed(1)
        x = torch.randn(batch, channels, *(2 * b,) * 3, device=device)
        layer = make().to(device)
        points = torch.from_numpy(grid.points.copy())
        composition = PerDegree(b, points, by_hand=True).to(device)

        def call(x, composition=composition):
            return composition(x, layer.kernel, layer.bias)

        parameters = [layer.kernel, layer.bias]
        contenders = {
            "kernels (ours)": Contender(layer, parameters, x, precision="three_tf32"),
            "ours by torch alone": Contender(layer, parameters, x, around=by_torch),
            "einsum and cuFFT": Contender(call, parameters, x),
        }
        for precision, ceiling in OTHER_PRECISIONS.items():
            other = SO3Conv(channels, channels, b, b, grid, precision=precision).to(device)
            other.load_state_dict(layer.state_dict())
            contenders[f"kernels, {precision}"] = Contender(other, list(other.parameters()), x, precision=ceiling)
        if compiled and device == "cuda":
            plain = PerDegree(b, points, by_hand=False).to(device)
            contenders["einsum and cuFFT, compiled"] = Contender(
                torch.compile(lambda x: plain(x, layer.kernel, layer.bias)), parameters, x
            )
        return contenders

    def reference(device):
        layer = make().to(device).double()
        return lambda x: layer(x.double())

    return Case(name, flops, moved, build, reference)


def s2_case(name, batch, channels, b):
    """A convolution on S2, our layer with and without kernels: bound by its output."""
    grid = s2_near_identity()
    flops = 2 * batch * channels**2 * sum((2 * n + 1) ** 2 for n in range(b))
    moved = 4 * batch * channels * ((2 * b) ** 3 + (2 * b) ** 2)

    def build(device):
        torch.manual_seed(0)
        layer = S2Conv(channels, channels, b, b, grid).to(device)
        x = torch.randn(batch, channels, 2 * b, 2 * b, device=device)
        parameters = [layer.kernel, layer.bias]
        return {
            "kernels (ours)": Contender(layer, parameters, x),
            "ours by torch alone": Contender(layer, parameters, x, around=by_torch),
        }

    def reference(device):
        torch.manual_seed(0)
        layer = S2Conv(channels, channels, b, b, grid).double().to(device)
        return lambda x: layer(x.double())

    return Case(name, flops, moved, build, reference)


def mixing_case(name, batch, channels, b):
    """The spectral product alone: one ragged launch, one product per degree, all degrees padded to the largest."""
    rows, width = so3_rows(b), 2 * b - 1
    flops = 2 * batch * channels**2 * sum((2 * n + 1) ** 3 for n in range(b))
    moved = 4 * (2 * batch * channels * rows + channels**2 * rows)

    def build(device):
        torch.manual_seed(0)
        x = torch.randn(batch, rows, channels, device=device)
        y = torch.randn(rows, channels * channels, device=device).div_(width).requires_grad_()

        def per_degree(x):
            out = []
            for n in range(b):
                w, part = 2 * n + 1, slice(so3_rows(n), so3_rows(n + 1))
                right = y[part].view(w, w, channels, channels).transpose(1, 2).reshape(w * channels, w * channels)
                out.append((x[:, part].reshape(batch * w, w * channels) @ right).view(batch, w * w, channels))
            return torch.cat(out, 1)

        def padded(x):
            left = x.new_zeros(b, batch, width, width, channels)
            right = x.new_zeros(b, width, width, channels, channels)
            for n in range(b):
                w, part = 2 * n + 1, slice(so3_rows(n), so3_rows(n + 1))
                left[n, :, :w, :w] = x[:, part].unflatten(1, (w, w))
                right[n, :w, :w] = y[part].view(w, w, channels, channels)
            size = width * channels
            z = torch.bmm(left.view(b, batch * width, size), right.transpose(2, 3).reshape(b, size, size))
            z = z.view(b, batch, width, width, channels)
            return torch.cat([z[n, :, : 2 * n + 1, : 2 * n + 1].flatten(1, 2) for n in range(b)], 1)

        def ragged(precision):
            return lambda x: operators.spherical_product(x, y, False, precision)

        others = {
            f"ragged, {precision}": Contender(ragged(precision), [y], x, precision=ceiling)
            for precision, ceiling in OTHER_PRECISIONS.items()
        }
        return {
            "ragged, 3xtf32 (ours)": Contender(ragged("3xtf32"), [y], x, precision="three_tf32"),
            **others,
            "one product per degree": Contender(per_degree, [y], x),
            "padded to one batched product": Contender(padded, [y], x),
        }

    def reference(device):
        torch.manual_seed(0)
        torch.randn(batch, rows, channels, device=device)
        y = torch.randn(rows, channels * channels, device=device).div_(width).double()

        def product(x):
            with launch.running_on(None):
                return operators.spherical_product(x.double(), y, False)

        return product

    return Case(name, flops, moved, build, reference)


def beta_case(name, batch, channels, b):
    """Space to finished coefficients: one kernel on the octant, against the whole table and a gather."""
    items, size, layout = batch * channels, 2 * b, shell_layout(b, b)
    flops = 2 * 4 * items * sum((2 * M + 1) * 2 * (b - M) * b for M in range(b))  # folded: half the colatitudes
    moved = 4 * (b * b * 4 * items * size + so3_rows(b) * items + shell_starts(b, b)[-1] * b)

    def build(device):
        torch.manual_seed(0)
        plan = so3_plan(b, b, b, torch.float32, device)
        space = torch.randn(b, b, 4 * items, size, device=device)
        out = space.new_empty(batch, so3_rows(b), channels)
        whole, products = plan.unfolded(True), space.new_empty(layout.rows, 4 * items)

        def octant(x):
            beta_step(plan.flat, plan.weights, x, out, b, True, True)
            return out

        def gathered(function):
            def call(x):
                function(whole, x, products, b, b, True)
                rows = sum_rows(products.view(-1, items), plan.terms, plan.signs[0])
                return rows.view(-1, batch, channels).transpose(0, 1).contiguous()

            return call

        return {
            "octant (ours)": Contender(octant, [], space),
            "ragged, then gathered": Contender(gathered(operators.wigner_product), [], space),
            "two batched products per shell, then gathered": Contender(gathered(contract), [], space),
        }

    def reference(device):
        plan = so3_plan(b, b, b, torch.float64, device)

        def product(space):
            out = space.new_empty(batch, so3_rows(b), channels, dtype=torch.float64)
            with launch.running_on(None):
                beta_step(plan.flat, plan.weights, space.double(), out, b, True, True)
            return out

        return product

    return Case(name, flops, moved, build, reference, backward=False)


def synthesis_case(name, channels, b):
    """The spectrum of a kernel of 192 points: rings and gather in two launches, by torch, and the whole table."""
    grid = so3_near_identity()
    points = len(grid)
    flops = 2 * channels**2 * (points * (2 * b - 1) ** 2 + 6 * so3_rows(b))
    moved = 4 * channels**2 * (points + so3_rows(b))

    def build(device):
        torch.manual_seed(0)
        weights = torch.randn(points, channels**2, device=device)
        ours = kernel_map(grid.points, b, torch.float32, torch.device(device))
        whole = so3_basis(grid.points, b, torch.float32, True).to(device)
        return {
            "two launches (ours)": Contender(ours.spectra, [], weights),
            "by torch": Contender(ours.spectra, [], weights, around=by_torch),
            "one dense product": Contender(lambda weights: whole.t() @ weights, [], weights),
        }

    def reference(device):
        whole = so3_basis(grid.points, b, torch.float64, True).to(device)
        return lambda weights: whole.t() @ weights.double()

    return Case(name, flops, moved, build, reference, backward=False)


def wigner_case(name, items, b):
    """The beta step alone: one ragged launch against two batched products per shell."""
    columns, size = 4 * items, 2 * b
    rows = sum(2 * (b - M) * (2 * M + 1) for M in range(b))
    entries = shell_starts(b, b)[-1] * size
    flops = 2 * rows * columns * size
    moved = 4 * (entries + b * b * columns * size + rows * columns)

    def build(device):
        torch.manual_seed(0)
        table = torch.randn(entries, device=device)
        space = torch.randn(b, b, columns, size, device=device)
        out = space.new_empty(rows, columns)

        def run(function):
            def call(x):
                function(table, x, out, b, b, True)
                return out

            return call

        return {
            "ragged (ours)": Contender(run(operators.wigner_product), [], space),
            "two batched products per shell": Contender(run(contract), [], space),
        }

    def reference(device):
        torch.manual_seed(0)
        table = torch.randn(entries, device=device).double()

        def product(space):
            out = space.new_empty(rows, columns, dtype=torch.float64)
            contract(table, space.double(), out, b, b, True)
            return out

        return product

    return Case(name, flops, moved, build, reference, backward=False)


def cases(small):
    """Every case, in the sizes of docs/gpu.md, or tiny ones."""
    if small:
        return [
            grid_case("C4 regular, tiny", GroupConv, "C4", 2, (2, 2), (7, 7)),
            grid_case("O lifting, tiny", LiftingConv, "O", 1, (1, 2), (3, 3, 3)),
            so3_case("SO3Conv, tiny", 2, 2, 3, compiled=False),
            s2_case("S2Conv, tiny", 2, 2, 3),
            mixing_case("mixing, tiny", 2, 2, 3),
            wigner_case("Wigner stage, tiny", 2, 3),
            beta_case("beta and gather, tiny", 1, 2, 3),
            synthesis_case("kernel synthesis, tiny", 2, 3),
        ]
    return [
        grid_case("p4m regular, 64 x 32 fields, 64^2", GroupConv, "D4", 64, (32, 32), (64, 64)),
        grid_case("p4 regular, 64 x 16 fields, 32^2", GroupConv, "C4", 64, (16, 16), (32, 32)),
        grid_case("O regular, 8 x 16 fields, 32^3", GroupConv, "O", 8, (16, 16), (32, 32, 32)),
        grid_case("Oh regular, 2 x 16 fields, 32^3", GroupConv, "Oh", 2, (16, 16), (32, 32, 32)),
        grid_case("O lifting, 8 x 3 -> 16 fields, 32^3", LiftingConv, "O", 8, (3, 16), (32, 32, 32)),
        mixing_case("mixing, 32 x 32 channels, b = 16", 32, 32, 16),
        mixing_case("mixing, 32 x 32 channels, b = 32", 32, 32, 32),
        wigner_case("Wigner stage, 256 items, b = 32", 256, 32),
        beta_case("beta and gather, 8 x 32 channels, b = 32", 8, 32, 32),
        synthesis_case("kernel synthesis, 32 x 32 channels, b = 32", 32, 32),
        so3_case("SO3Conv, 32 x 32 channels, b = 8", 32, 32, 8, compiled=True),
        so3_case("SO3Conv, 32 x 32 channels, b = 16", 32, 32, 16, compiled=False),
        so3_case("SO3Conv, 32 x 32 channels, b = 32", 32, 32, 32, compiled=False),
        s2_case("S2Conv, 32 x 32 channels, b = 16", 32, 32, 16),
        s2_case("S2Conv, 32 x 32 channels, b = 32", 32, 32, 32),
    ]
