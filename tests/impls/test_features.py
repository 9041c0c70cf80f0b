"""What adapters say about their cases without building them: a check that is not planned would have been skipped."""

import equiharness as eh
import pytest
from equiharness.adapters import Feature, implementations
from equiharness.harness.adapters.adapter import ON_GRID, lacking
from equiharness.harness.search.strategies import draw
from equiharness.suites.check import run_property
from equiharness.suites.properties import PLANNED, PROPERTIES

INSTALLED = [adapter for adapter in implementations() if adapter.version is not None]
ADAPTERS = [pytest.param(adapter, id=adapter.name) for adapter in INSTALLED]
#: Adapters that build quickly and lack different features.
FEW = ("equiharness.GroupConv", "equiharness.Upsample", "equiharness.integrate", "torch.nn.Conv2d", "e2cnn.ReLU")


def without_reason(adapter, cases):
    """The properties that are not planned for a case although they apply to it."""
    found = []
    for case in cases:
        lacks = lacking(adapter, case)
        claim = adapter.build(case, device="cpu", dtype="float32", seed=0)
        for name in PLANNED:
            if PROPERTIES[name].needs in lacks:
                result = run_property(name, claim).result
                if result.verdict is not eh.Verdict.SKIPPED:
                    found.append((case.name, name, result.verdict, result.reason.code))
    return found


@pytest.mark.parametrize("name", FEW)
def test_a_check_that_is_not_planned_would_have_been_skipped(name):
    [adapter] = [adapter for adapter in INSTALLED if adapter.name == name]
    assert without_reason(adapter, list(adapter.cases())[:2]) == []


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore")  # the libraries warn of names that they still use
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_check_that_applies_is_left_out_of_a_plan(adapter):
    if adapter.name == "torch_harmonics.DiscreteContinuousConvS2":
        pytest.importorskip("torch_harmonics.disco.convolution", exc_type=Exception)
    assert without_reason(adapter, [*adapter.cases(), *draw(adapter, 6, seed=1)]) == []


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore")  # the libraries warn of names that they still use
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_adapter_of_ours_leaves_a_feature_open_that_its_claims_lack(adapter):
    """Else thousands of checks would be planned to say that they do not apply."""
    if adapter.name == "torch_harmonics.DiscreteContinuousConvS2":
        pytest.importorskip("torch_harmonics.disco.convolution", exc_type=Exception)
    for case in adapter.cases():
        lacks = lacking(adapter, case)
        claim = adapter.build(case, device="cpu", dtype="float32", seed=0)
        assert bool(claim.twins) == (Feature.TWINS not in lacks), case.name
        assert bool(claim.backends) == (Feature.BACKENDS not in lacks), case.name
        parameters = [p for m in claim.modules for p in m.parameters() if p.is_floating_point() and p.numel()]
        assert bool(parameters) == (Feature.PARAMETERS not in lacks), case.name
        fields = claim.refined is None and str(claim.source) == str(claim.target)
        assert fields == (Feature.SAME_FIELDS not in lacks), case.name


def test_the_groups_of_the_grid_have_no_elements_off_the_grid():
    names = [*(f"{kind}{n}" for kind in "CD" for n in range(1, 13)), "O", "Oh"]
    assert {name for name in names if all(g.is_signed_permutation for g in eh.group(name))} == ON_GRID


def test_an_adapter_that_says_nothing_leaves_everything_open():
    from equiharness.adapters import Case, Family, Implementation

    class Plain(Implementation):
        name, library, family = "some.Layer", "torch", Family.SPHERICAL

    assert lacking(Plain(), Case.of(size=3)) == set()
    Plain.family = Family.PLANAR
    assert lacking(Plain(), Case.of(size=3)) == {Feature.BAND_LIMIT}
