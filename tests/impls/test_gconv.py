"""gconv's group convolutions on the rotations of the cube: its conventions, and parity with ours where it is there."""

import importlib.util

import numpy as np
import pytest
from equiharness.harness.errors import MissingDependencyError
from equiharness.harness.fields.domains import Grid
from equiharness.harness.fields.field import Field
from equiharness.harness.symmetry.groups import group
from equiharness.impls.peers import gconv
from equiharness.suites.check import check, run_property

ADAPTERS = (gconv.LiftingConv, gconv.GroupConv, gconv.SeparableConv)
INSTALLED = importlib.util.find_spec("gconv") is not None
needs_gconv = pytest.mark.skipif(not INSTALLED, reason=f"gconv is not installed: {gconv.INSTALL}")


def build(adapter, case, dtype="float32"):
    return adapter.build(case, device="cpu", dtype=dtype, seed=0)


def test_its_matrices_act_on_the_reversed_axes_in_our_order():
    point = np.array([1.0, 2.0, 3.0])
    matrices = gconv.rotations("O").numpy()
    assert matrices.shape == (24, 3, 3)
    assert (np.abs(matrices).sum(-1) == 1).all()
    for element, matrix in zip(group("O"), matrices, strict=True):
        np.testing.assert_allclose(matrix @ point[::-1], (element.matrix @ point)[::-1], atol=1e-12)


@pytest.mark.skipif(INSTALLED, reason="gconv is installed here")
def test_a_missing_gconv_is_named_with_the_way_to_install_it():
    with pytest.raises(MissingDependencyError, match="pip install git"):
        gconv.load()


@needs_gconv
@pytest.mark.filterwarnings("ignore:Default grid_sample")
@pytest.mark.parametrize("adapter", [a() for a in ADAPTERS], ids=lambda a: a.name)
def test_every_case_is_exact_and_ours_where_it_is_one_operator(adapter):
    compared = 0
    for case in adapter.cases():
        claim = build(adapter, case, "float64")
        compared += len(claim.twins)
        for name in ("equivariance", "adjoint", "parameter_gradient", *(["parity"] if claim.twins else [])):
            result = run_property(name, claim).result
            assert result.verdict == "EXACT", (case.name, name, result.reason)
    assert compared


@needs_gconv
@pytest.mark.filterwarnings("ignore:Default grid_sample")
def test_as_it_comes_it_turns_its_rotations_anew_in_every_call():
    layer = gconv.load().GLiftingConvSE3(2, 2, 3, padding=1, grid_H=gconv.rotations("O"))
    source = Field(Grid(4, 4, 4), "O", "2*trivial", split=True)
    target = Field(Grid(4, 4, 4), "O", "2*regular", split=True)
    result = check(lambda x: layer(x)[0], "O", source, target, dtype="float32")
    assert result.fails
    assert result.reason.code == "NONDETERMINISTIC"
