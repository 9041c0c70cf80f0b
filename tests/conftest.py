"""What several tests of the packaging need: the wheel that a user would install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Layers choose no backend by the clock here, in no process that tests start, and write into no user's cache folder.
os.environ["EQUIHARNESS_AUTO"] = "off"

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree's files beside a stale build folder, in a folder whose name is no valid Python name."""
    copy = tmp_path_factory.mktemp("source") / "a folder that is no valid name"
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    (copy / "build" / "lib").mkdir(parents=True)
    (copy / "build" / "stale.py").write_text("leak = 1\n")
    return copy


@pytest.fixture(scope="session")
def wheel_file(source_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that a user would install."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source_copy)],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.whl"))


@pytest.fixture
def cheap(tmp_path, monkeypatch):
    """The plugin of cheap checks, registered here and in every process started from here; its folder of scripts."""
    from equiharness.harness.adapters.registry import implementations

    folder, info = ROOT / "tests" / "runs", tmp_path / "plugin" / "cheap-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cheap\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[equiharness.implementations]\ncheap = cheap:Cheap\n")
    for path in (folder, info.parent):
        monkeypatch.syspath_prepend(path)
    before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(info.parent), *before]))
    implementations.cache_clear()
    yield folder
    implementations.cache_clear()
    sys.modules.pop("cheap", None)
