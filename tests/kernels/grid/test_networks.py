"""Whole networks: equivariant from end to end, and what breaks them."""

import equiharness as eh
import pytest
import torch
from equiharness import kernels
from equiharness.impls.grid.networks import settle
from torch import nn


def fields(group, size, target, pooled=False):
    box = eh.Grid(*[size] * eh.group(group).dim)
    return eh.Field(box, group, "trivial"), eh.Field(eh.Vector() if pooled else box, group, target)


@pytest.mark.parametrize(
    ("group", "size", "widths", "dtype"),
    [
        ("C4", 17, (2, 2, 4), torch.float64),
        ("D4", 17, (2, 2, 2), torch.float32),
        pytest.param("O", 5, (1, 1, 2), torch.float32, marks=pytest.mark.deep),  # the U-net below is one of volumes
        pytest.param("D4", 33, (2, 2, 2), torch.float64, marks=pytest.mark.deep),
        pytest.param("O", 9, (1, 1, 2), torch.float64, marks=pytest.mark.deep),
    ],
)
def test_the_classifier_is_invariant(group, size, widths, dtype):
    torch.manual_seed(0)
    network = kernels.GroupWideResNet(group, 1, 3, widths=widths, dtype=dtype).eval()
    settle(network)
    assert eh.check(network, group, *fields(group, size, "3*trivial", pooled=True)).verdict is eh.Verdict.EXACT


@pytest.mark.parametrize("head", ["trivial", "regular", "standard"])
@pytest.mark.parametrize(
    ("group", "size", "widths"), [("D4", 16, (2, 2, 4)), pytest.param("O", 8, (1, 1), marks=pytest.mark.deep)]
)
def test_the_u_net_is_equivariant_with_every_head(group, size, widths, head):
    torch.manual_seed(0)
    network = kernels.GroupUNet(group, 1, 2, head=head, widths=widths).eval()
    settle(network)
    assert eh.check(network, group, *fields(group, size, f"2*{head}")).verdict is eh.Verdict.EXACT


def test_the_u_net_of_volumes_is_equivariant():
    torch.manual_seed(0)
    network = kernels.GroupUNet("O", 1, 1, head="standard", widths=(1, 1)).eval()
    settle(network)
    assert eh.check(network, "O", *fields("O", 4, "standard")).verdict is eh.Verdict.EXACT


def test_boxes_need_not_be_square():
    network = kernels.GroupUNet("C4", 1, 1, head="standard", widths=(2, 2)).eval()
    box = eh.Grid(12, 16)
    field = eh.Field(box, "C4", "trivial")
    assert eh.check(network, "C4", field, eh.Field(box, "C4", "standard")).verdict is eh.Verdict.EXACT


def test_one_plain_convolution_inside_breaks_the_network():
    torch.manual_seed(0)
    network = kernels.GroupUNet("C4", 1, 1, head="trivial", widths=(2, 2)).eval()
    broken = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), network)
    result = eh.check(broken, "C4", *fields("C4", 16, "trivial"))
    assert result.verdict is eh.Verdict.BROKEN


def test_space_alone_is_not_the_action_on_a_regular_output():
    torch.manual_seed(0)
    network = kernels.GroupUNet("C4", 1, 1, head="regular", widths=(2, 2)).eval()
    source, target = fields("C4", 16, "regular")
    alone = eh.check(network, "C4", source, act_out=lambda g, y: target.move_points_alone(g, y))
    assert alone.verdict is eh.Verdict.BROKEN
    assert eh.check(network, "C4", source, target).verdict is eh.Verdict.EXACT


def test_a_box_that_cannot_be_halved_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"multiple of 4.*pad or crop"):
        kernels.GroupUNet("C4", 1, 1)(torch.zeros(1, 1, 18, 16))
    with pytest.raises(ValueError, match="head must be"):
        kernels.GroupUNet("C4", 1, 1, head="vector")


def test_networks_train():
    torch.manual_seed(0)
    network = kernels.GroupWideResNet("C4", 1, 2, widths=(2, 2, 2))
    x, y = torch.randn(8, 1, 9, 9), torch.arange(8) % 2
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    source, target = fields("C4", 9, "2*trivial", pooled=True)
    assert eh.check(network.eval(), "C4", source, target).verdict is eh.Verdict.EXACT
