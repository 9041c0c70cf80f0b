"""The search: a planted defect is found, made small, kept, told from others, and tried first the next time."""

import equiharness as eh
import pytest
import torch
import torch.nn.functional as F
from equiharness.harness.exploration import Search
from equiharness.harness.registry import Case, Family, Implementation
from equiharness.harness.strategies import cases

SUITE = "equiharness.suites.check:run_property"


class Planted(Implementation):
    """A symmetrised convolution with a defect for stride 2, even size and 3 channels."""

    name, library, family = "mine.Planted", "torch", Family.PLANAR
    defect = True

    def cases(self):
        yield Case.of(group="C4", size=5, kernel=3, stride=1, channels_in=1, channels_out=1)

    def strategy(self):
        return cases(
            group=("C4", "D4"),
            size=range(1, 13),
            kernel=lambda drawn: [k for k in range(1, 6) if k <= drawn["size"]],
            stride=lambda drawn: [s for s in (1, 2, 3) if (drawn["size"] - drawn["kernel"]) % s == 0],
            channels_in=range(1, 5),
            channels_out=range(1, 5),
        )

    def build(self, case, *, device, dtype, seed):
        torch.manual_seed(seed)
        of, size = eh.group(case["group"]), case["size"]
        weight = torch.randn(case["channels_out"], case["channels_in"], case["kernel"], case["kernel"])
        plain = eh.Field(eh.Grid(case["kernel"], case["kernel"]), of, f"{case['channels_in']}*trivial")
        weight = (sum(plain.act(g, weight) for g in of) / len(of)).to(getattr(torch, dtype))
        wrong = self.defect and case["stride"] == 2 and size % 2 == 0 and case["channels_in"] == 3

        def layer(x):
            y = F.conv2d(x, weight, stride=case["stride"])
            return y + 1e-3 * x[:, :1, :1, :1] if wrong else y

        out = (size - case["kernel"]) // case["stride"] + 1
        source = eh.Field(eh.Grid(size, size), of, f"{case['channels_in']}*trivial")
        target = eh.Field(eh.Grid(out, out), of, f"{case['channels_out']}*trivial")
        return eh.Claim(layer, of, source, target, dtype=getattr(torch, dtype), device=device, seed=seed)


def search(adapter, folder=None, seed=0):
    return Search(adapter, ("equivariance", "adjoint"), ("float32",), suite=SUITE, folder=folder, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_defect_for_stride_2_even_size_and_3_channels_is_found_and_shrunk_to_that(seed):
    found = search(Planted(), seed=seed).round("nightly", seed)
    smallest = {"group": "C4", "size": 2, "kernel": 2, "stride": 2, "channels_in": 3, "channels_out": 1}
    assert dict(found.trial.case.parameters) == smallest
    assert (found.trial.property, found.verdict, found.code) == ("equivariance", "BROKEN", "ERROR")
    assert (found.trial.seed, found.trial.inputs, found.trial.turn.rank) == (0, "impulse", 0)
