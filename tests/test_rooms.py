"""Who may import whom: the arrows between the rooms, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import equiharness
import pytest

ROOT = Path(equiharness.__file__).parent
ROOMS = ("harness", "kernels", "impls", "suites", "reports")

#: Room -> rooms or modules of the project that it may import, beside itself.
INSIDE = {
    "harness": (),
    "kernels": (),
    "impls": ("harness", "kernels"),
    "suites": ("harness",),
    "reports": ("harness.record", "harness.writing", "harness.verdict", "harness.errors", "harness.validity"),
}
#: Room -> libraries; impls may import these and one more each.
LIBRARIES = {
    "harness": ("torch", "numpy", "pydantic", "hypothesis", "scipy", "distributed", "dask"),
    "kernels": ("torch", "numpy", "cupy", "platformdirs", "matplotlib"),
    "impls": ("torch", "numpy"),
    "suites": ("torch", "numpy"),
    "reports": ("numpy", "jinja2", "plotly", "matplotlib", "markupsafe", "itables", "pandas", "tabulate"),
}
#: Modules that listing, records and reports need: they load no array library.
LIGHT = (
    "harness.record",
    "harness.reading",
    "harness.writing",
    "harness.registry",
    "harness.verdict",
    "harness.environment",
    "harness.errors",
    "harness.validity",
)


def imports(source, module, is_package=False):
    """(dotted name, line) of everything that a module imports; names of the project start with 'equiharness.'.

    ``from . import b`` is the import of b: relative imports are resolved against ``module``, a dotted name in the
    project. Imports for type checkers alone count too: an arrow is an arrow.
    """
    package = ["equiharness", *module.split(".")][: None if is_package else -1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            if node.module:
                yield ".".join(base), node.lineno
            else:
                yield from ((".".join([*base, alias.name]), node.lineno) for alias in node.names)


def faults(source, module, is_package=False):
    """Imports that the arrows forbid, as 'line N: name'."""
    room = module.split(".")[0]
    allowed = tuple(f"equiharness.{name}" for name in (room, *INSIDE[room]))
    found, third = [], set()
    for name, line in imports(source, module, is_package):
        top = name.split(".")[0]
        if top == "equiharness":
            if not any(name == a or name.startswith(a + ".") for a in allowed):
                found.append(f"line {line}: {name}")
        elif top not in sys.stdlib_module_names and top not in LIBRARIES[room]:
            third.add(top)
            if room != "impls" or len(third) > 1:
                found.append(f"line {line}: {name}")
    return found


def modules():
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            yield pytest.param(
                path, ".".join(parts[:-1] if is_package else parts), is_package, id=str(path.relative_to(ROOT))
            )


@pytest.mark.parametrize(("path", "module", "is_package"), list(modules()))
def test_arrows_only_go_down(path, module, is_package):
    assert faults(path.read_text(encoding="utf-8"), module, is_package) == []


def loaded_after(*names):
    """Top-level modules in a fresh interpreter after importing parts of the project."""
    code = f"import sys\nfor n in {names!r}: __import__(n)\nprint(*sys.modules)"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.split(".")[0] for name in listed.split()}


def test_records_verdicts_registry_and_environment_load_no_array_library():
    assert not {"torch", "numpy"} & loaded_after(*(f"equiharness.{m}" for m in LIGHT))


def test_the_check_of_loaded_modules_sees_an_array_library():
    assert "numpy" in loaded_after("equiharness.harness.groups")


@pytest.mark.parametrize("name", ["equiharness", "equiharness.kernels"])
def test_importing_the_package_loads_no_array_library(name):
    assert not {"torch", "numpy"} & loaded_after(name)


# Twins: a planted import, the module it is planted in, and whether it is a fault.
PLANTED = {
    "harness reaches up": ("from ..suites.check import check", "harness.claim", True),
    "harness reaches up by the absolute name": ("import equiharness.suites.check", "harness.claim", True),
    "harness reaches up inside a function": ("def f():\n    from ..kernels import grid", "harness.claim", True),
    "harness reaches for the root": ("from .. import testing", "harness.claim", True),
    "harness imports a peer": ("import escnn.nn", "harness.claim", True),
    "kernels know the harness": ("from ...harness import groups", "kernels.grid.conv", True),
    "kernels know pydantic": ("from pydantic import BaseModel", "kernels.grid.conv", True),
    "suites know a kernel": ("from ..kernels import LiftingConv", "suites.check", True),
    "suites know an adapter": ("from ..impls import grid", "suites.check", True),
    "reports know fields": ("from ..harness.fields import Field", "reports.html", True),
    "reports know a module beside record": ("from ..harness.records import x", "reports.html", True),
    "reports know torch": ("import torch", "reports.html", True),
    "an adapter knows two libraries": ("import escnn\nimport e3nn", "impls.escnn", True),
    "an adapter tests": ("from ..suites.check import check", "impls.escnn", True),
    "a room reaches for a front door": ("from ..cli import main", "reports.html", True),
    "harness within itself": ("from .groups import group\nimport numpy as np", "harness.claim", False),
    "kernels within themselves": ("from ..cuda import launch\nfrom . import reference", "kernels.grid.conv", False),
    "an adapter knows its library": ("import escnn.nn\nfrom escnn import gspaces", "impls.escnn", False),
    "an adapter knows ours": (
        "from ..kernels import LiftingConv\nfrom ..harness.claim import Claim",
        "impls.grid",
        False,
    ),
    "reports read records": ("from ..harness.record import Run\nimport jinja2", "reports.html", False),
    "the standard library": ("import json\nfrom collections.abc import Callable", "reports.html", False),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_import_is(name):
    source, module, is_fault = PLANTED[name]
    assert bool(faults(source, module)) == is_fault


def test_relative_imports_of_a_package_start_at_itself():
    assert faults("from . import check", "suites", is_package=True) == []
    assert faults("from .. import cli", "suites", is_package=True) == ["line 1: equiharness.cli"]
