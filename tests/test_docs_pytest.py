"""docs/pytest.md is true: its files are written, its commands run in order, and they print what the page shows."""

import importlib.metadata
import re
import shlex
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "pytest.md"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.S | re.M)
#: What differs between machines and runs: times, folders, the digits of measured numbers, which checks that hold
#: are nearest to their bounds, and the order of those that do not.
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
FOLDER = re.compile(r"/\S+/(?=\.pytest_cache|[\w-]+\.(jsonl|py)\b)")

pytest_plugins = "pytester"
for heavy in ("torch", "equiharness.suites.check", "equiharness.testing", "equiharness.reports.pictures"):
    importlib.import_module(heavy)  # inner sessions unload what they loaded: extension modules take that ill


def options_of(text):
    return dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text))


def essence(text):
    lines = [line for line in text.strip().splitlines() if not line.startswith("  EXACT ")]
    return sorted(NUMBER.sub("#", FOLDER.sub("", line)).replace(" ", "") for line in lines)


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(self, folder, run_pytest):
        self.folder, self.run_pytest = folder, run_pytest

    def write(self, options, body):
        path = self.folder / options["title"]
        if "replace" in options:
            before = path.read_text(encoding="utf-8")
            assert options["replace"] in before, f"{path.name} has no {options['replace']!r}"
            body = before.replace(options["replace"], options["with"])
        path.write_text(body, encoding="utf-8")

    def run(self, command):
        words = shlex.split(command)
        if words[0] == "pytest":
            return self.run_pytest(*words[1:]).stdout.str()
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=True).stdout

    def follow(self, page):
        """(command, output shown, output found) of each command."""
        for kind, options, body in BLOCK.findall(page):
            if kind == "console":
                for command, shown in re.findall(r"^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", body, re.S | re.M):
                    yield command, shown, self.run(command)
            elif "title" in options:
                self.write(options_of(options), body)


@pytest.fixture
def reader(pytester, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    installed = any(p.name == "equiharness" for p in importlib.metadata.entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "equiharness.pytest_plugin"]
    return Reader(pytester.path, lambda *words: pytester.runpytest_inprocess(*plugin, *words))


def test_every_command_prints_what_the_page_shows(reader):
    commands = 0
    for command, shown, found in reader.follow(PAGE.read_text(encoding="utf-8")):
        assert essence(found) == essence(shown), f"$ {command}\n{found}"
        commands += 1
    assert commands == 9


def test_a_page_that_lies_would_be_noticed(reader):
    page = '```python title="test_a.py"\ndef test_a(): pass\n```\n\n```console\n$ pytest -q\n2 failed in 0.1s\n```\n'
    [(_, shown, found)] = reader.follow(page)
    assert essence(found) != essence(shown)
