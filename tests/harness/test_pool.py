"""The plan on several processes: the same results as on one, and a worker's death costs one check."""

import textwrap

import pytest
from equiharness.harness.pool import FEW_CELLS, cores, execute_on, groups, workers_for
from equiharness.harness.registry import implementations
from equiharness.harness.runner import plan

ADAPTER = """
    import os

    from equiharness.harness.claim import Claim
    from equiharness.harness.fields import Field
    from equiharness.harness.domains import Grid
    from equiharness.harness.registry import Case, Family, Implementation


    class Fragile(Implementation):
        name = "fragile.Layer"
        library = "torch"
        family = Family.PLANAR

        def cases(self):
            return [Case.of(group="C4", size=size, dies=size == 5) for size in (3, 5, 7, 9)]

        def build(self, case, *, device, dtype, seed):
            if case["dies"]:
                os._exit(9)
            import torch

            field = Field(Grid(case["size"], case["size"]), "C4", "trivial")
            return Claim(torch.nn.ReLU(), field.group, field, field, dtype=getattr(torch, dtype))
"""


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    """A registered adapter of which one case kills its process."""
    (tmp_path / "fragile_adapter.py").write_text(textwrap.dedent(ADAPTER))
    info = tmp_path / "fragile-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[equiharness.implementations]\nfragile = fragile_adapter:Fragile\n")
    monkeypatch.syspath_prepend(tmp_path)
    implementations.cache_clear()
    yield "fragile.Layer"
    implementations.cache_clear()


def cells_of(name, cases="*"):
    suite = "equiharness.suites.check:run_property"
    return plan([name], ["homomorphism", "equivariance"], suite=suite, dtypes=["float32"], cases=cases, threads=1)


def test_a_dying_worker_costs_its_own_check_alone(fragile):
    cells = cells_of(fragile)
    found = dict(execute_on(cells, 2))
    assert sorted(found) == list(range(len(cells)))
    for position, cell in enumerate(cells):
        result = found[position].result
        assert (result.case, result.property) == (cell.case.name, cell.property)
        dead = cell.case["dies"]
        assert str(result.verdict) == ("CRASHED" if dead else "EXACT"), result.reason
        assert result.reason is not None
        assert (result.reason.code == "DIED") == dead
        assert result.reproduce == cell.command


def test_processes_give_the_numbers_of_one_process():
    cells = cells_of("equiharness.LiftingConv", "group=C4*")
    alone = [outcome.result for _, outcome in execute_on(cells, 1)]
    found = dict(execute_on(cells, 2))
    for position, one in enumerate(alone):
        other = found[position].result
        assert (one.verdict, one.error, one.bound, one.power) == (other.verdict, other.error, other.bound, other.power)


def test_checks_of_one_claim_go_to_one_process(fragile):
    listed = groups(cells_of(fragile))
    assert [len(group) for group in listed] == [2, 2, 2, 2]
    assert all(len({cell.case.name for cell in group}) == 1 for group in listed)


def test_short_plans_start_no_process():
    assert workers_for(FEW_CELLS - 1) == 1
    assert workers_for(FEW_CELLS) == cores()
    assert workers_for(1, jobs=4) == 4


def test_a_property_that_no_dtype_changes_is_planned_once(fragile):
    suite = "equiharness.suites.check:run_property"
    both = plan([fragile], ["equivariance", "gradcheck"], suite=suite, once=["gradcheck"], cases="*size=3*")
    assert [(c.dtype, c.property) for c in both] == [
        ("float32", "equivariance"), ("float32", "gradcheck"), ("float64", "equivariance"),
    ]  # fmt: skip
    [alone] = plan([fragile], ["gradcheck"], suite=suite, once=["gradcheck"], dtypes=["float64"], cases="*size=3*")
    assert alone.dtype == "float64"
