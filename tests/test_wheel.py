"""What a user installs: the front doors, the rooms, their sources and templates, and nothing else."""

import subprocess
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.pages

ROOT = Path(__file__).resolve().parents[1]
DOORS = {"__init__.py", "adapters.py", "pytest_plugin.py", "sizes.py", "testing.py", "py.typed"}
ROOMS = {"cli", "harness", "kernels", "impls", "suites", "reports"}
SOURCES = {".py", ".cu", ".cuh", ".j2", ".css", ".js", ".json"}


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> list[str]:
    with zipfile.ZipFile(wheel_file) as archive:
        return archive.namelist()


def strays(names: list[str]) -> list[str]:
    """Files of a wheel that are neither a front door, nor a source of a room, nor metadata."""
    found = []
    for name in names:
        top, _, rest = name.partition("/")
        room = rest.partition("/")[0]
        inside = top == "equiharness" and (rest in DOORS or (room in ROOMS and Path(name).suffix in SOURCES))
        if not inside and not top.endswith(".dist-info"):
            found.append(name)
    return found


def test_the_wheel_holds_doors_and_rooms_and_nothing_else(wheel):
    assert strays(wheel) == []


def test_the_wheel_holds_every_source_of_the_rooms(wheel):
    listed = subprocess.run(["git", "ls-files", *sorted(ROOMS)], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {f"equiharness/{name}" for name in listed.stdout.splitlines() if Path(name).suffix in SOURCES}
    assert wanted
    assert wanted <= set(wheel)


def test_the_wheel_is_typed(wheel):
    assert "equiharness/py.typed" in wheel


def test_a_stray_file_would_be_noticed():
    assert strays(["equiharness/tests/test_a.py", "equiharness/setup.py", "build/lib/x.py"]) == [
        "equiharness/tests/test_a.py",
        "equiharness/setup.py",
        "build/lib/x.py",
    ]
