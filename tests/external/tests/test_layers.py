"""One test for each layer, in the three ways that the plugin offers."""

import equiharness as eh
import pytest
import torch
from equiharness.testing import parametrize_with_checks
from turning import Backwards, CentredMix, Lift, QuarterTurns, VectorGate

PICTURE = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
TURNED = eh.Field(eh.Grid(9, 9), "C4", "3*regular")
SCALARS = eh.Field(eh.Grid(9, 9), "C4", "3*trivial")
VECTORS = eh.Field(eh.Points(5), "O3", "4*standard")


@pytest.fixture(params=[Lift, Backwards])
def lifting(request):
    torch.manual_seed(0)
    return request.param(2, 3)


def test_lifting(equivariance, lifting):
    equivariance.assert_equivariant(lifting, "C4", PICTURE, TURNED)


def test_lifting_and_pooling(equivariance):
    torch.manual_seed(0)
    network = torch.nn.Sequential(Lift(2, 3), torch.nn.ReLU(), QuarterTurns())
    equivariance.assert_equivariant(network, "C4", PICTURE, SCALARS)
    equivariance.assert_invariant(lambda x: network(x).mean((2, 3)), "C4", PICTURE)


@pytest.mark.equivariance(group="O3", source=VECTORS, target=VECTORS)
def test_mixing_of_vectors():
    torch.manual_seed(0)
    return CentredMix(4)


@parametrize_with_checks([(VectorGate(), "O3", VECTORS, VECTORS), (QuarterTurns(), "C4", TURNED, SCALARS)])
def test_without_weights(check):
    check()


def test_something_else():
    assert Lift(2, 3).turned().shape == (12, 2, 3, 3)
