"""The command line as a user meets it: exit codes, messages that say what to do, nothing recorded is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run
from equiharness.harness.installed import distribution_version
from equiharness.harness.records.reading import read_run

#: The properties of a pool: it has no parameters, twin, band limit or element off the grid, and changes the fibre.
APPLY = {"homomorphism", "equivariance", "worst_case", "adjoint", "gradcheck", "robustness", "integration", "precision"}
QUICK = ["equiharness.GroupPool", "--case", "group=C4 size=33 mode=mean fields=4", "--dtype", "float32"]


def in_a_process(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from equiharness.cli import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})


def test_verify_writes_record_and_reports_and_exits_0(tmp_path):
    done = run("verify", *QUICK, "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = read_run(tmp_path / "out" / "run.jsonl")
    assert {c.property for c in record.checks} == APPLY
    assert record.end is not None
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (tmp_path / "out" / "report.md").exists()


def test_a_property_that_applies_nowhere_says_why(tmp_path):
    layers = ["torch.nn.Conv*", "--no-html", "--property"]
    done = run("verify", *layers, "parity", cwd=tmp_path)
    assert done.returncode == 3
    assert "NO_TWIN: the adapter names no second implementation" in done.stdout
    done = run("verify", *layers, "parity", "--property", "homomorphism", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 SKIPPED" in done.stdout
    assert "NO_TWIN" in done.stderr + done.stdout + (tmp_path / "out" / "run.jsonl").read_text()


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_setting_of_half_precision_works_with_verify(tmp_path, name):
    (tmp_path / "pyproject.toml").write_text(f"[tool.equiharness]\ndtype = '{name}'\n")
    done = run("verify", "equiharness.GroupPool", "--case", QUICK[2], "--property", "equivariance", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    [check] = read_run(tmp_path / "out" / "run.jsonl").checks
    assert (check.dtype, check.label) == (name, "PASS")


def test_a_missing_library_says_so_once_for_each_implementation(tmp_path):
    if distribution_version("gconv_TPK"):
        pytest.skip("gconv is installed")
    done = run("verify", "gconv.*", "--no-html", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout.count("which is not installed. Install it: ") == 3
    assert "3 checks in" in done.stdout


def test_a_second_run_sets_the_first_aside(tmp_path):
    for _ in range(2):
        assert run("verify", *QUICK, "--no-html", "--out", str(tmp_path)).returncode == 0
    assert read_run(tmp_path / "previous-run.jsonl").end is not None


def test_the_printed_line_reproduces_the_same_error(tmp_path):
    run(
        "verify",
        "equiharness.LiftingConv",
        "--case",
        "group=C4*",
        "--dtype",
        "float64",
        "--property",
        "equivariance",
        "--no-html",
        "--out",
        str(tmp_path / "a"),
    )
    first = read_run(tmp_path / "a" / "run.jsonl").checks[0]
    import shlex

    again = run(*shlex.split(first.reproduce)[1:], "--no-html", "--out", str(tmp_path / "b"))
    assert again.returncode == 0, again.stderr
    [second] = read_run(tmp_path / "b" / "run.jsonl").checks
    assert (second.error, second.bound, second.power) == (first.error, first.bound, first.power)


def test_a_run_that_checks_nothing_exits_3(tmp_path):
    words = ["verify", "equiharness.*", "--case", "no such case", "--no-html", "--out", str(tmp_path)]
    assert in_a_process(*words).returncode == 3


def test_a_run_that_skips_everything_exits_3(tmp_path):
    assert run("verify", *QUICK, "--property", "off_grid", "--no-html", "--out", str(tmp_path)).returncode == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", "equiharness.LiftingCnov"], "Did you mean equiharness.LiftingConv"),
        (["verify", "--property", "equivarience"], "Did you mean equivariance"),
        (["verify", "--dtype", "float23"], "Did you mean float"),
        (["verify", "--device", "warp:9"], "Use --device cpu"),
        (["report", "missing.jsonl"], "There is no record"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_to_do(tmp_path, words, says):
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unwritable_output_exits_2_before_checking(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    done = run("verify", *QUICK, "--out", str(blocker / "out"))
    assert done.returncode == 2
    assert "Give another place with --out" in done.stderr
    assert blocker.read_text() == "not a folder"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> str:
    """The text of a record of one case."""
    folder = tmp_path_factory.mktemp("record")
    run("verify", *QUICK, "--no-html", "--out", str(folder))
    return (folder / "run.jsonl").read_text()


def test_a_truncated_record_is_reported_with_exit_2_and_its_whole_lines_are_used(tmp_path, written):
    path, text = tmp_path / "run.jsonl", written
    path.write_text(text[: text.rindex('"kind":"check"') + 40])
    done = run("report", str(path), "--no-html")
    assert done.returncode == 2
    assert "cut off" in done.stderr
    assert "homomorphism" in (tmp_path / "report.md").read_text()


def test_a_corrupted_record_is_refused_and_left_alone(tmp_path, written):
    path = tmp_path / "run.jsonl"
    lines = written.splitlines(keepends=True)
    lines[1] = "garbage\n"
    path.write_text("".join(lines))
    done = run("report", str(path))
    assert done.returncode == 2
    assert "line 2" in done.stderr
    assert path.read_text() == "".join(lines)


def plugin(folder: Path, body: str) -> dict[str, str]:
    """An installed third-party plugin: a module and the metadata of its entry point."""
    (folder / "badplugin.py").write_text(body)
    info = folder / "badplugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: badplugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[equiharness.implementations]\nbad = badplugin:Bad\n")
    return {"PYTHONPATH": str(folder)}


RAISES = """
from equiharness.adapters import Case, Family, Implementation
class Bad(Implementation):
    name, library, family = "bad.Layer", "badplugin", Family.PLANAR
    def cases(self): return [Case.of(n=1)]
    def build(self, case, **where): raise RuntimeError("cannot build")
"""


def test_an_adapter_that_raises_is_crashed_and_the_others_go_on(tmp_path):
    env = plugin(tmp_path, RAISES)
    words = ["verify", "bad.Layer", "equiharness.GroupPool", "--property", "equivariance", "--dtype", "float32"]
    done = in_a_process(*words, "--no-html", "--out", str(tmp_path / "out"), env=env)
    assert done.returncode == 1
    checks = read_run(tmp_path / "out" / "run.jsonl").checks
    verdicts = {c.implementation: c.verdict for c in checks}
    assert verdicts == {"bad.Layer": "CRASHED", "equiharness.GroupPool": "EXACT"}
    assert "cannot build" in done.stdout


def test_a_plugin_that_cannot_load_is_named(tmp_path):
    done = in_a_process("list", env=plugin(tmp_path, "raise ImportError('no luck')"))
    assert done.returncode == 2
    assert "badplugin:Bad" in done.stderr


LIST = """
import sys
from equiharness.cli import main
sys.argv = ['equiharness', 'list']
try:
    main()
finally:
    print('LOADED', sorted({'torch', 'numpy', 'escnn'} & set(sys.modules)))
"""


def test_list_loads_neither_torch_nor_numpy():
    done = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True)
    assert "equiharness.GroupConv" in done.stdout
    assert "LOADED []" in done.stdout


def test_import_loads_neither_torch_nor_numpy():
    code = "import sys, equiharness; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_doctor_gives_the_install_command_of_what_is_missing(tmp_path):
    done = run("doctor")
    assert done.returncode == 0
    assert "torch" in done.stdout


def test_a_record_is_json_lines(written):
    kinds = [json.loads(line)["kind"] for line in written.splitlines()]
    assert kinds == ["run", *["check"] * len(APPLY), "end"]
