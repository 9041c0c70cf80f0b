"""Which boxes keep the symmetry: a strided grid must stay centred on its box.

Output X of a convolution looks at input coordinate s X - p + tap. With n = floor((N + 2p - k) / s) + 1 outputs, the
grid of outputs is off the centre of the box by r / 2, r = (N + 2p - k) mod s. An element that flips an axis sends the
offset to -r / 2: the layer commutes with it if and only if r = 0 (with circular padding, if r = 0 mod N: the box is
then its own image). Elements that never flip an axis keep its offset, so such axes need no check.
"""

from collections.abc import Sequence

from torch import Tensor

from .groups import GridGroup


def flipped_axes(group: GridGroup) -> tuple[bool, ...]:
    """For each input axis, whether some element reverses its direction."""
    return tuple(bool(flip) for flip in (group.elements < 0).any(axis=(0, 1)))


def check_fibre(x: Tensor, fibre: tuple[int, ...], dim: int, layer: str) -> None:
    """Refuse an input that is not [B, *fibre, *space] with dim spatial axes."""
    if x.dim() != 1 + len(fibre) + dim or tuple(x.shape[1 : 1 + len(fibre)]) != fibre:
        wanted = ", ".join(["B", *map(str, fibre), *("a0", "a1", "a2")[:dim]])
        raise ValueError(f"{layer} takes an input of shape [{wanted}]; got {list(x.shape)}")


def check_alignment(
    size: Sequence[int], kernel_size: int, stride: int, padding: int, *, circular: bool, flipped: Sequence[bool]
) -> None:
    """Refuse a box whose strided grid is off centre, naming the fix.

    Args:
        size: the box, one length per axis.
        kernel_size: k.
        stride: s.
        padding: p, on both sides.
        circular: whether the padding wraps around.
        flipped: from `flipped_axes`.

    Raises:
        ValueError: (N + 2p - k) mod s != 0 on an axis that some element reverses, or a box smaller than the kernel.
    """
    for axis, (n, flips) in enumerate(zip(size, flipped, strict=True)):
        if n + 2 * padding < kernel_size:
            raise ValueError(
                f"axis {axis} of length {n} with padding={padding} is shorter than kernel_size={kernel_size}; "
                f"use padding={(kernel_size - n + 1) // 2} or a smaller kernel"
            )
        rest = (n + 2 * padding - kernel_size) % stride
        if flips and rest != 0 and not (circular and rest % n == 0):
            raise ValueError(
                f"axis {axis} of length {n} breaks the symmetry: (N + 2p - k) mod s = "
                f"({n} + 2*{padding} - {kernel_size}) mod {stride} = {rest}, so the strided grid is off the centre of "
                f"its box. {_alignment_fix(n, kernel_size, stride, padding)}, or accept the broken symmetry with "
                f"allow_misaligned=True"
            )


def _alignment_fix(n: int, kernel_size: int, stride: int, padding: int) -> str:
    """The nearest geometries that are aligned, as advice."""
    rest = (n + 2 * padding - kernel_size) % stride
    lengths = [str(m) for m in (n - rest, n - rest + stride) if m >= max(1, kernel_size - 2 * padding)]
    fixes = [f"Use a box of length {' or '.join(lengths)}"]
    for p in range(padding, padding + stride):
        if (n + 2 * p - kernel_size) % stride == 0:
            fixes.append(f"padding={p}")
            break
    for k in (kernel_size + rest, kernel_size + rest - stride):
        if k >= 1:
            fixes.append(f"kernel_size={k}")
            break
    return ", ".join(fixes)


def check_output_padding(output_padding: int, stride: int, allow_misaligned: bool) -> None:
    """Refuse voxels at one end of every axis of a transposed convolution, naming the fix.

    Args:
        output_padding: voxels that torch adds at the end.
        stride: s; torch wants fewer than s.
        allow_misaligned: whether a broken symmetry is accepted.

    Raises:
        ValueError: there are any and the symmetry counts, or more than torch can add.
    """
    if not isinstance(output_padding, int) or not 0 <= output_padding < max(stride, 1):
        raise ValueError(f"output_padding must be an integer from 0 to stride - 1; got {output_padding!r}")
    if output_padding and not allow_misaligned:
        raise ValueError(
            f"output_padding={output_padding} breaks the symmetry: it adds voxels at one end of every axis, so the "
            f"output is off the centre of its input. Use output_padding=0 and a kernel of the parity of the wanted "
            f"size (kernel_size=4, stride=2, padding=1 doubles a box), or accept the broken symmetry with "
            f"allow_misaligned=True"
        )
