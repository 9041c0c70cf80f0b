"""Who may import whom: the arrows between the rooms, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import equiharness
import pytest

ROOT = Path(equiharness.__file__).parent
ROOMS = ("harness", "kernels", "impls", "suites", "reports")

#: Room -> rooms or folders of the project that it may import, beside itself.
INSIDE = {
    "harness": (),
    "kernels": (),
    "impls": ("harness", "kernels"),
    "suites": ("harness",),
    "reports": ("harness.records", "harness.verdict", "harness.errors"),
}
#: Room -> its folders and modules by level, the lowest first. Each imports lower levels, and others of its own level.
LEVELS = {
    "harness": (
        ("errors", "installed", "precisions", "verdict"),
        ("trees", "config", "symmetry", "records"),
        ("fields",),
        ("claim",),
        ("adapters",),
        ("search", "timing"),
        ("runs",),
    ),
    "suites": (
        ("properties", "quotients", "rounding", "controls", "claims"),
        ("waves",),
        ("forward",),
        ("backward", "points", "usage", "survey"),
        ("attribution", "ceilings", "discretised"),
        ("check",),
    ),
    "impls": (
        ("configurations", "library_groups", "twins", "s2cnn_twin", "validity"),
        ("spherical",),
        ("grid",),
        ("peers",),
    ),
}
#: (module, name): the process that times another revision uses that revision's public face, as its users do.
PUBLIC = {("harness.timing.revision_worker", "equiharness")}
#: Python files that a folder of these rooms may hold: more are hard to see at one glance.
MOST_FILES = 14
#: Room -> libraries; impls may import these and one more each.
LIBRARIES = {
    "harness": ("torch", "numpy", "pydantic", "hypothesis", "scipy", "distributed", "dask"),
    "kernels": ("torch", "numpy", "cupy", "platformdirs", "matplotlib"),
    "impls": ("torch", "numpy"),
    "suites": ("torch", "numpy"),
    "reports": ("numpy", "jinja2", "plotly", "matplotlib", "markupsafe", "itables", "pandas", "tabulate"),
}
#: Parts that listing, records and reports need: they load no array library.
LIGHT = (
    *(f"harness.records.{path.stem}" for path in sorted((ROOT / "harness" / "records").glob("[!_]*.py"))),
    "harness.verdict.result",
    "harness.verdict.decide",
    "harness.adapters.adapter",
    "harness.adapters.registry",
    "harness.config",
    "harness.errors",
    "harness.installed",
    "harness.precisions",
    "suites.properties",
    "testing",
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
    """Imports that the arrows between and inside the rooms forbid, as 'line N: name'."""
    room = module.split(".")[0]
    allowed = tuple(f"equiharness.{name}" for name in (room, *INSIDE[room]))
    found, third = [], set()
    for name, line in imports(source, module, is_package):
        top = name.split(".")[0]
        if (module, name) in PUBLIC:
            continue
        if top == "equiharness":
            within = any(name == a or name.startswith(a + ".") for a in allowed)
            if not within or climbs(module, name):
                found.append(f"line {line}: {name}")
        elif top not in sys.stdlib_module_names and top not in LIBRARIES[room]:
            third.add(top)
            if room != "impls" or len(third) > 1:
                found.append(f"line {line}: {name}")
    return found


def climbs(module, name):
    """Whether an import inside a room reaches a higher level."""
    room, _, rest = module.partition(".")
    if room not in LEVELS or not rest or not name.startswith(f"equiharness.{room}."):
        return False
    levels = {part: level for level, parts in enumerate(LEVELS[room]) for part in parts}
    return levels[name.split(".")[2]] > levels[rest.split(".")[0]]


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


def sources():
    """Dotted name -> source, of every module of the rooms."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__init__.py"
    }


def circles(texts):
    """Modules that import themselves through others: {module: modules it takes part in a circle with}.

    Imports inside functions count, those for type checkers alone too.
    """
    arrows = {}
    for module, text in texts.items():
        names = set(named_imports(text, module))
        arrows[module] = {other for other in texts if other != module and f"equiharness.{other}" in names}
    reached = {module: reachable(arrows, module) for module in arrows}
    together = {m: {o for o in reached[m] if m in reached[o] and o != m} for m in arrows}
    return {module: others for module, others in together.items() if others}


def named_imports(source, module):
    """Dotted names that a module imports, ``from a import b`` as both a and a.b."""
    package = ["equiharness", *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *(node.module.split(".") if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def reachable(arrows, start):
    """Modules that imports lead to from one, itself only by a way round."""
    found, open_ = set(), [start]
    while open_:
        for other in arrows[open_.pop()] - found:
            found.add(other)
            open_.append(other)
    return found


def test_no_module_imports_itself_through_others():
    assert circles(sources()) == {}


@pytest.mark.parametrize(
    "inside", ["from .b import g", "def f():\n    from . import b"], ids=["above", "in a function"]
)
def test_a_planted_circle_is_seen(inside):
    texts = {"harness.a": inside, "harness.b": "from ..harness.c import h", "harness.c": "from .a import f"}
    assert set(circles(texts)) == set(texts)
    assert circles({**texts, "harness.c": "import json"}) == {}


def crowded(root):
    """Folders of the rooms with levels that hold more Python files than one sees at a glance."""
    folders = (p for room in LEVELS for p in (root / room, *(root / room).rglob("*")) if p.is_dir())
    return [str(p.relative_to(root)) for p in folders if len(list(p.glob("*.py"))) > MOST_FILES]


def test_no_folder_is_crowded():
    assert crowded(ROOT) == []


def test_a_crowded_folder_is_seen(tmp_path):
    (tmp_path / "suites" / "forward").mkdir(parents=True)
    for number in range(MOST_FILES + 1):
        (tmp_path / "suites" / "forward" / f"m{number}.py").touch()
    assert crowded(tmp_path) == ["suites/forward"]


@pytest.mark.parametrize("room", LEVELS)
def test_every_part_of_a_room_has_a_level(room):
    parts = {p.stem for p in (ROOT / room).iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert sorted(parts - {"__init__"}) == sorted(part for level in LEVELS[room] for part in level)


@pytest.mark.parametrize("room", LEVELS)
def test_the_init_files_inside_are_empty(room):
    assert [str(p) for p in (ROOT / room).rglob("__init__.py") if p.read_text(encoding="utf-8").strip()] == []


def loaded_after(*names):
    """Top-level modules in a fresh interpreter after importing parts of the project."""
    code = f"import sys\nfor n in {names!r}: __import__(n)\nprint(*sys.modules)"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.split(".")[0] for name in listed.split()}


def test_records_verdicts_registry_and_testing_load_no_array_library():
    assert not {"torch", "numpy"} & loaded_after(*(f"equiharness.{m}" for m in LIGHT))


def test_the_check_of_loaded_modules_sees_an_array_library():
    assert "numpy" in loaded_after("equiharness.harness.symmetry.groups")


@pytest.mark.parametrize("name", ["equiharness", "equiharness.kernels"])
def test_importing_the_package_loads_no_array_library(name):
    assert not {"torch", "numpy"} & loaded_after(name)


# Twins: a planted import, the module it is planted in, and whether it is a fault.
PLANTED = {
    "harness reaches up": ("from ...suites.check import check", "harness.claim.claim", True),
    "harness reaches up by the absolute name": ("import equiharness.suites.check", "harness.claim.claim", True),
    "harness reaches up inside a function": ("def f():\n    from ...kernels import grid", "harness.claim.claim", True),
    "harness reaches for the root": ("from ... import testing", "harness.claim.claim", True),
    "harness imports a peer": ("import escnn.nn", "harness.claim.claim", True),
    "fields know claims": ("from ..claim.claim import Claim", "harness.fields.field", True),
    "fields know claims inside a function": ("def f():\n    from ..claim import scale", "harness.fields.field", True),
    "an adapter's base knows strategies": ("from ..search.strategies import listed", "harness.adapters.adapter", True),
    "records know runs": ("from ..runs.plan import Plan", "harness.records.merge", True),
    "a forward property knows a backward one": (
        "from ..backward.gradients import adjoint",
        "suites.forward.off_grid",
        True,
    ),
    "controls know a property": ("from .forward.equivariance import jittered", "suites.controls", True),
    "a grid adapter knows a peer's": ("from ..peers import escnn", "impls.grid.convolutions", True),
    "kernels know the harness": ("from ...harness import trees", "kernels.grid.conv", True),
    "kernels know pydantic": ("from pydantic import BaseModel", "kernels.grid.conv", True),
    "suites know a kernel": ("from ..kernels import LiftingConv", "suites.check", True),
    "suites know an adapter": ("from ..impls import grid", "suites.check", True),
    "reports know fields": ("from ..harness.fields.field import Field", "reports.html", True),
    "reports know a module beside records": ("from ..harness.recordings import x", "reports.html", True),
    "reports know torch": ("import torch", "reports.html", True),
    "an adapter knows two libraries": ("import escnn\nimport e3nn", "impls.peers.escnn", True),
    "an adapter tests": ("from ...suites.check import check", "impls.peers.escnn", True),
    "a room reaches for a front door": ("from ..cli import main", "reports.html", True),
    "a claim knows fields": ("from ..fields.field import Field\nimport numpy as np", "harness.claim.claim", False),
    "verdicts know precisions": ("from ..precisions import EPS", "harness.verdict.decide", False),
    "usage knows a forward property": ("from ..forward.aliasing import aliases", "suites.usage.training", False),
    "kernels within themselves": ("from ..cuda import launch\nfrom . import reference", "kernels.grid.conv", False),
    "an adapter knows its library": ("import escnn.nn\nfrom escnn import gspaces", "impls.peers.escnn", False),
    "an adapter knows ours": (
        "from ...kernels import LiftingConv\nfrom ...harness.claim.claim import Claim",
        "impls.grid.adapter",
        False,
    ),
    "reports read records": ("from ..harness.records.lines import Run\nimport jinja2", "reports.html", False),
    "the standard library": ("import json\nfrom collections.abc import Callable", "reports.html", False),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_import_is(name):
    source, module, is_fault = PLANTED[name]
    assert bool(faults(source, module)) == is_fault


def test_relative_imports_of_a_package_start_at_itself():
    assert faults("from . import check", "suites", is_package=True) == []
    assert faults("from .. import cli", "suites", is_package=True) == ["line 1: equiharness.cli"]


def test_testing_loads_no_command_line():
    assert not {"typer", "rich", "click"} & loaded_after("equiharness.testing")


def test_the_check_of_loaded_modules_sees_the_command_line():
    assert "typer" in loaded_after("equiharness.cli")
