"""docs/cluster.md is true: its commands run in order, and print what the page shows."""

import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cluster.md"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.S | re.M)
NUMBER = re.compile(r"(?<=in )[\d.]+(?= s)|(?<=\()[\d.]+(?= s inside)")  # times differ from run to run
#: Console scripts, as they are started where the package is imported from a checkout.
SCRIPTS = {
    "equiharness": "from equiharness.cli import main",
    "dask scheduler": "from distributed.cli.dask_scheduler import main",
    "dask worker": "from distributed.cli.dask_worker import main",
}


class Reader:
    """Somebody who does what the page says, in a folder of their own."""

    def __init__(self, folder):
        self.folder, self.background = folder, []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])

    def words(self, command):
        command = command.replace("8786", self.port)
        for script, code in SCRIPTS.items():
            if command.startswith(script + " "):
                return [sys.executable, "-c", f"{code}; main()", *shlex.split(command[len(script) :])]
        return ["sh", "-c", command]

    def run(self, command):
        done = subprocess.run(self.words(command), cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, command):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.background.append(subprocess.Popen(self.words(command), cwd=self.folder, **quiet))

    def close(self):
        for process in reversed(self.background):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def follow(self, page):
        """(command, output shown, output found) of each command that prints."""
        for kind, options, body in BLOCK.findall(page):
            if kind == "sh" and "background" in options:
                for command in body.splitlines():
                    self.start(command)
            elif kind == "console":
                for command, shown in re.findall(r"^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", body, re.S | re.M):
                    yield command, shown, self.run(command)


@pytest.fixture
def reader(tmp_path):
    found = Reader(tmp_path)
    yield found
    found.close()


def essence(text):
    return NUMBER.sub("#", text.strip())


def parts():
    """The page up to the cluster, and the rest of it."""
    before, title, after = PAGE.read_text(encoding="utf-8").partition("## Several machines")
    return before, title + after


def test_one_machine_prints_what_the_page_shows(reader):
    found = list(reader.follow(parts()[0]))
    assert len(found) == 7
    for command, shown, printed in found:
        assert essence(printed) == essence(shown), command


@pytest.mark.deep
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="pip install 'equiharness[distributed]'")
def test_a_cluster_prints_what_the_page_shows(reader):
    found = list(reader.follow(parts()[1]))
    assert len(found) == 2
    for command, shown, printed in found:
        assert essence(printed) == essence(shown), command


def test_a_page_that_lies_would_be_noticed(reader):
    [(_, shown, printed)] = reader.follow("```console\n$ echo 4 checks\n5 checks\n```\n")
    assert essence(printed) != essence(shown)


def test_every_option_of_the_page_exists():
    help_ = subprocess.run(
        [sys.executable, "-c", "from equiharness.cli import main; main()", "verify", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout
    for option in ("--jobs", "--limit", "--resume", "--shard", "--scheduler", "--device"):
        assert option in help_
        assert option in PAGE.read_text(encoding="utf-8")
