"""Adapters of the project's whole networks on grids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Family, Feature, Implementation
from ...harness.search.strategies import cases

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.search.strategies import Cases


class _Network(Implementation):
    """A network with random weights in eval mode; its batch norms have random statistics."""

    library = "equiharness"
    family = Family.PLANAR
    #: Scalars become invariants, regular fields or vectors.
    never = (Feature.BACKENDS, Feature.OFF_GRID, Feature.SAME_FIELDS, Feature.TWINS)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The network from scalars to its target."""
        import torch

        from ...harness.claim.claim import Claim
        from ...harness.fields.domains import Grid, Vector
        from ...harness.fields.field import Field
        from ...harness.symmetry.groups import group

        torch.manual_seed(seed)
        network, target = self.network(case)
        symmetry = group(case["group"])
        box = Grid(*[case["size"]] * symmetry.dim)
        settle(network)
        pooled = case.parameters.get("head") is None
        source = Field(box, symmetry, f"{case['channels']}*trivial")
        return Claim(
            network.to(device, getattr(torch, dtype)).eval(),
            symmetry,
            source,
            Field(Vector() if pooled else box, symmetry, target),
            dtype=getattr(torch, dtype),
            device=device,
            seed=seed,
            inputs=lambda count, generator: blurred(source.random(count, generator)),
        )

    def network(self, case: Case) -> tuple[Any, str]:
        """The module and the fibre of its output."""
        raise NotImplementedError

    def cost(self, case: Case) -> Cost:
        """Multiply-adds of every convolution and linear map, counted while one sample passes."""
        import torch

        dim = 3 if case["group"][0] == "O" else 2
        return count(self.network(case)[0].eval(), torch.zeros(1, case["channels"], *[case["size"]] * dim))


class WideResNet(_Network):
    """``equiharness.kernels.GroupWideResNet``: scalars to invariant logits."""

    name = "equiharness.GroupWideResNet"

    def cases(self) -> Iterable[Case]:
        """Two strides of 2, so sizes 4 n + 1."""
        yield Case.of(group="D4", size=17, channels=3, classes=5)
        yield Case.of(group="O", size=5, channels=1, classes=3)

    def strategy(self) -> Cases:
        """Sizes 4 n + 1 only: two strides of 2."""
        sizes = {"D4": (5, 9, 13, 17), "C4": (5, 9, 13, 17), "O": (5,)}
        return cases(group=tuple(sizes), size=lambda drawn: sizes[drawn["group"]], channels=(1, 2, 3), classes=(1, 2))

    def network(self, case: Case) -> tuple[Any, str]:
        """Narrow stages: symmetry does not depend on width."""
        from ... import kernels

        widths = (2, 4, 4) if case["group"] == "D4" else (1, 1, 2)
        made = kernels.GroupWideResNet(case["group"], case["channels"], case["classes"], widths=widths)
        return made, f"{case['classes']}*trivial"


class UNet(_Network):
    """``equiharness.kernels.GroupUNet``: scalars to dense scalars, group feature maps or vectors."""

    name = "equiharness.GroupUNet"

    def cases(self) -> Iterable[Case]:
        """Sizes that halve evenly: 4 n on the plane, 2 n in space."""
        yield Case.of(group="C4", size=16, channels=1, head="regular")
        yield Case.of(group="D4", size=16, channels=1, head="standard")
        yield Case.of(group="O", size=6, channels=1, head="standard")

    def strategy(self) -> Cases:
        """Sizes that halve evenly."""
        sizes = {"C4": (4, 8, 12, 16), "D4": (4, 8, 12, 16), "O": (6,)}
        heads = ("standard", "regular")
        return cases(group=tuple(sizes), size=lambda drawn: sizes[drawn["group"]], channels=(1, 2), head=heads)

    def network(self, case: Case) -> tuple[Any, str]:
        """One output channel of the head's kind."""
        from ... import kernels

        widths = (2, 4, 4) if case["group"] != "O" else (1, 1)
        made = kernels.GroupUNet(case["group"], case["channels"], 1, head=case["head"], widths=widths)
        return made, case["head"]


def blurred(noise: Any) -> Any:
    """White noise [B, C, *space], averaged over neighbours twice, so that a picture shows recognisable shapes."""
    import torch.nn.functional as F

    average = F.avg_pool2d if noise.dim() == 4 else F.avg_pool3d
    for _ in range(2):
        noise = average(noise, 5, stride=1, padding=2) * 5
    return noise


def settle(network: Any) -> None:
    """Give the norms of the network random statistics and weights, because the initial 0 and 1 would not test them."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            known = ((module.running_mean, -0.5, 1.0), (module.running_var, 0.5, 1.0), (module.weight, 0.5, 1.0))
            # A small positive bias: a negative one would leave whole networks dead behind their rectifiers.
            for values, low, width in (*known, (module.bias, 0.1, 0.2)):
                if values is not None:
                    torch.nn.init.uniform_(values, low, low + width)


def count(network: Any, x: Any, call: Callable[[Any], Any] | None = None) -> Cost:
    """Two flops for each multiply-add, four bytes for each value that a layer inside reads or writes.

    Args:
        network: the module, in eval mode.
        x: one sample.
        call: the module as a function of plain tensors, if the module itself is not such a function.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    moved = [4.0 * sum(p.numel() for p in network.parameters())]

    def note(_module: Any, inputs: Any, output: Any) -> None:
        values = [getattr(v, "tensor", v) for v in (*inputs, output)]
        moved.append(4.0 * sum(v.numel() for v in values))

    hooks = [m.register_forward_hook(note) for m in network.modules() if not list(m.children())]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        (call or network)(x)
    for hook in hooks:
        hook.remove()
    flops = float(counter.get_total_flops())
    return Cost(flops, sum(moved), 3 * flops, 3 * sum(moved))
