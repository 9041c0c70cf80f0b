"""Faults of transposed, relaxed, steerable and exact layers, each caught by equivariance beside its sound twin."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.harness.symmetry.groups import Group
from equiharness.kernels import (
    RelaxedGroupConv,
    SeparableGroupConv,
    SteerableConv,
    TransposedGroupConv,
    TransposedSeparableGroupConv,
)
from equiharness.suites.check import run_property

OPTIONS = {"padding": 1, "dtype": torch.float64}


def verdict(layer, size=5):
    of = Group(layer.group.elements, layer.group.name)
    source = eh.Field(eh.Grid(size, size), of, "1*regular", split=True)
    y = layer(torch.zeros(source.tensor_shape(1), dtype=torch.float64))
    target = eh.Field(eh.Grid(*y.shape[-2:]), of, f"{y.shape[1]}*regular")
    return run_property("equivariance", Claim(layer, of, source, target, dtype=torch.float64)).result.verdict


def one_mixture_off(layer):
    layer.relaxation[0, 2] += 1e-5


def turned_the_wrong_way(layer):
    layer.basis.copy_(layer.basis[torch.from_numpy(layer.group.inv)])


def wrong_quotients(layer):
    layer.quotients.copy_(torch.from_numpy(layer.group.mul))


def wrong_exact_fibre(layer):
    layer.group_exact_fibre.copy_(layer.group_exact_fibre[[0, 2, 1, 3]])


def wrong_elements(layer):
    layer.group_elements.copy_(layer.group_elements.transpose(1, 2).clone())


def wrong_spatial_table(layer):
    layer.spatial_table.copy_(layer.spatial_table[layer.inverse])


def misaligned(layer):
    layer.output_padding = 1


FAULTS = {
    "a mixture off by 1e-5": (lambda: RelaxedGroupConv("C4", 1, 1, 3, banks=2, **OPTIONS), one_mixture_off),
    "a basis turned the wrong way": (lambda: SteerableConv("C8", 1, 1, 5, **OPTIONS), turned_the_wrong_way),
    "g h for g^-1 h": (lambda: SteerableConv("D4", 1, 1, 3, **OPTIONS), wrong_quotients),
    "exact fibres of another element": (
        lambda: SeparableGroupConv("C4", 1, 1, 3, backend="exact", **OPTIONS),
        wrong_exact_fibre,
    ),
    "exact frames of the inverse": (
        lambda: SeparableGroupConv("C4", 1, 1, 3, backend="exact", **OPTIONS),
        wrong_elements,
    ),
    "transposed taps of the inverse": (
        lambda: TransposedSeparableGroupConv("C4", 1, 1, 3, stride=2, **OPTIONS),
        wrong_spatial_table,
    ),
    "voxels at one end": (lambda: TransposedGroupConv("C4", 1, 1, 3, stride=2, **OPTIONS), misaligned),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_broken_and_its_sound_twin_exact(fault):
    make, spoil = FAULTS[fault]
    torch.manual_seed(0)
    layer = make()
    assert verdict(layer) is eh.Verdict.EXACT
    with torch.no_grad():
        spoil(layer)
    assert verdict(layer) is eh.Verdict.BROKEN
