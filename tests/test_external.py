"""Another repository with layers of its own installs the wheel; the plugin finds exactly the layer that is wrong."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from environments import ENVIRONMENT, fresh

pytestmark = pytest.mark.pages

REPOSITORY = Path(__file__).parent / "external"


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel_file):
    """A fresh environment that holds the wheel, and sees this one's libraries."""
    home = tmp_path_factory.mktemp("environment")
    executable = fresh(home, str(wheel_file))
    asked = "import equiharness, torch; print(equiharness.__file__)"
    found = subprocess.run([executable, "-c", asked], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert str(home) in found.stdout
    return executable


def run(python, folder, *args):
    """Failed tests, and the plugin's own section, of one session."""
    shutil.copytree(REPOSITORY, folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=junit.xml", *args]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    cases = ET.parse(folder / "junit.xml").getroot().iter("testcase")
    failed = [f"{c.get('name')}" for c in cases if c.find("failure") is not None or c.find("error") is not None]
    section = re.search(r"^=+ (equiharness: .*?) =+\n(.*?)^=", done.stdout, re.S | re.M)
    return failed, section.groups()


@pytest.fixture(scope="module")
def serial(python, tmp_path_factory):
    return run(python, tmp_path_factory.mktemp("serial") / "turning")


def test_exactly_the_wrong_layer_is_found(serial):
    failed, (title, lines) = serial
    assert failed == ["test_lifting[Backwards]"]
    assert "2 BROKEN" in title
    assert [line for line in lines.splitlines() if "BROKEN" in line and "test_lifting[Backwards]" not in line] == []


def test_two_workers_give_the_same_report(serial, python, tmp_path):
    pytest.importorskip("xdist")
    assert run(python, tmp_path / "turning", "-n", "2") == serial
