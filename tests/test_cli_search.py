"""The command line of the search: progress, a line to paste for each failure, the corpus, exit codes."""

import json
import shlex

import pytest
from equiharness.cli import app
from equiharness.cli import search as cli_search
from equiharness.harness.adapters import registry
from equiharness.harness.search import search as exploration
from typer.testing import CliRunner

NAME = "torch.nn.Conv2d"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command with a corpus in a folder of its own."""
    monkeypatch.setattr(cli_search, "PACE", 0.0)
    monkeypatch.setattr(exploration, "GRACE", float("inf"))  # a slow machine shrinks no less

    def invoked(*words):
        result = CliRunner().invoke(app, ["search", *words, "--corpus", str(tmp_path / "corpus")])
        return result.exit_code, result.output

    return invoked


@pytest.fixture
def undeclared(monkeypatch):
    """A plain convolution that does not say that it is none of the group's."""
    adapter = type(registry.find(NAME))
    monkeypatch.setattr(adapter, "expected", ())


def pasted(output):
    """The words of the first line to paste, without the program."""
    [line, *_] = [line for line in output.splitlines() if line.strip().startswith("reproduce ")]
    return shlex.split(line.strip().removeprefix("reproduce "))[1:]


def test_a_failure_is_printed_with_a_line_that_makes_it_again(run, undeclared, tmp_path):
    code, output = run(NAME, "--minutes", "0.01", "--property", "equivariance", "--dtype", "float32")
    assert code == 1
    assert "equivariance is BROKEN (ERROR) for group=C4 size=3 kernel=3 channels_in=1 channels_out=1" in output
    assert len(list((tmp_path / "corpus").glob("*.json"))) == 1
    again = CliRunner().invoke(app, pasted(output))
    assert again.exit_code == 1
    assert "BROKEN" in again.output
    code, output = run(NAME, "--minutes", "0.0001", "--property", "equivariance", "--dtype", "float32")
    assert code == 1
    assert "known     equivariance is BROKEN" in output
    assert "0 new failures; 1 known failures still fail" in output


def test_a_declared_deviation_is_no_failure(run):
    code, output = run(NAME, "--minutes", "0.01", "--property", "equivariance", "--dtype", "float32")
    assert code == 0
    assert "BROKEN" in output
    assert "0 new failures" in output


def test_nothing_checked_is_an_exit_code_of_its_own(run):
    code, output = run(NAME, "--minutes", "0.005", "--property", "aliasing", "--dtype", "float32")
    assert code == 3
    assert "Nothing was checked" in output


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("torch.nn.Conv2",), "torch.nn.Conv2d"),
        ((NAME, "--property", "equivarience"), "equivariance"),
        ((NAME, "--dtype", "float31"), "float32"),
        ((NAME, "--trial", "{}"), "not a trial"),
    ],
)
def test_wrong_usage_names_what_was_meant(words, hint):
    error = CliRunner().invoke(app, ["search", *words]).exception
    assert hint in str(error)


def test_a_trial_of_another_implementation_is_refused():
    trial = json.dumps(
        {
            "implementation": "torch.nn.Conv3d",
            "case": {"name": "", "parameters": {}},
            "element": {"rank": 0, "steps": 1, "axis": [0, 0, 0], "mirror": False},
        }
    )
    assert "Conv3d" in str(CliRunner().invoke(app, ["search", NAME, "--trial", trial]).exception)
