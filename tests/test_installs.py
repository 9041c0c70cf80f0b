"""The wheel and an editable install are the same package to whoever imports it."""

import subprocess
from pathlib import Path

import pytest
from environments import ENVIRONMENT, fresh

pytestmark = pytest.mark.pages

SMOKE = """
import equiharness as eh, torch
from equiharness.adapters import implementations
from equiharness.kernels import LiftingConv
import equiharness.testing
layer = LiftingConv("C4", 1, 2, 3, padding=1)
source, target = eh.Field(eh.Grid(9, 9), "C4", "trivial"), eh.Field(eh.Grid(9, 9), "C4", "2*regular")
print(eh.__version__, len(implementations()), eh.check(layer, "C4", source, target).verdict)
print(eh.__file__)
"""


def smoke(python: Path, folder: Path) -> list[str]:
    """What the same few lines print; the command line answers too."""
    done = subprocess.run([python, "-c", SMOKE], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        [python.parent / "equiharness", "list"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert listed.returncode == 0, listed.stderr
    return [*done.stdout.splitlines(), str(listed.stdout.count("\n"))]


def test_an_editable_install_and_the_wheel_pass_the_same_smoke(wheel_file, source_copy, tmp_path):
    packaged = smoke(fresh(tmp_path / "packaged", str(wheel_file)), tmp_path)
    editable = smoke(fresh(tmp_path / "editable", "-e", str(source_copy)), tmp_path)
    assert packaged[0].endswith("EXACT")
    assert (packaged[0], packaged[2]) == (editable[0], editable[2])
    assert str(tmp_path / "packaged") in packaged[1]
    assert str(source_copy) in editable[1]
