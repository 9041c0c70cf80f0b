"""docs/cluster.md is true: what it says of clusters is run on one; tests/test_docs.py runs the rest of the page."""

import importlib.util
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.pages

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cluster.md"
#: What runs on a cluster, and what it prints.
BLOCK = re.compile(
    r"^```sh\n# not run by the tests: tests/test_docs_cluster[^\n]*\n(.*?)^```\n(?:\n```text\n(.*?)^```)", re.S | re.M
)
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
        for body, shown in BLOCK.findall(page):
            for command in body.splitlines():
                if command.endswith(" &"):
                    self.start(command.removesuffix(" &"))
                else:
                    yield command, shown, self.run(command)


@pytest.fixture
def reader(tmp_path):
    found = Reader(tmp_path)
    yield found
    found.close()


def essence(text):
    return NUMBER.sub("#", text.strip())


@pytest.mark.deep
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="pip install 'equiharness[distributed]'")
def test_a_cluster_prints_what_the_page_shows(reader):
    found = list(reader.follow(PAGE.read_text(encoding="utf-8")))
    assert len(found) == 2
    for command, shown, printed in found:
        assert essence(printed) == essence(shown), command


def test_a_page_that_lies_would_be_noticed(reader):
    page = "```sh\n# not run by the tests: tests/test_docs_cluster.py\necho 4 checks\n```\n\n```text\n5 checks\n```\n"
    [(_, shown, printed)] = reader.follow(page)
    assert essence(printed) != essence(shown)
