"""``baseline update`` and ``verify --against``: green while nothing changes, red with its cause in one line."""

import json

import pytest
from equiharness import cli
from equiharness.harness.adapters import registry

ADAPTER = """
    import equiharness as eh
    from equiharness.adapters import Case, Family, Implementation

    class Layer(Implementation):
        name, library, family = "planted.Layer", "torch", Family.PLANAR
        def cases(self):
            yield from (Case.of(size=n) for n in SIZES)
        def build(self, case, *, device, dtype, seed):
            import torch
            field = eh.Field(eh.Grid(case["size"], case["size"]), "C4", "2*trivial")
            def function(x):
                return BODY
            return eh.Claim(function, "C4", field, field, dtype=getattr(torch, dtype), device=device, seed=seed)
"""
SOUND = "x.relu() + x.mean((2, 3), keepdim=True)"
LOSS = "x.relu() + x.mean((2, 3), keepdim=True) * (1 + 1e-4 * torch.arange(x.shape[-1]).to(x))"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command line in a project whose one registered layer is ``body``; exit code and printed lines."""
    monkeypatch.chdir(tmp_path)

    def run(*words, body=SOUND, sizes=(5, 7)):
        space = {}
        exec(compile(_source(body, sizes), "planted", "exec"), space)
        monkeypatch.setattr(registry, "implementations", lambda: (space["Layer"](),))
        from equiharness.harness.runs import checks as runner

        runner._claim.cache_clear()
        monkeypatch.setattr("sys.argv", ["equiharness", *words])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return exit_.value.code or 0, capsys.readouterr().out.splitlines()

    return run


def _source(body, sizes):
    from textwrap import dedent

    return dedent(ADAPTER).replace("BODY", body).replace("SIZES", repr(sizes))


QUICK = ("--no-html",)
FILE = "equiharness-baseline.jsonl"


def worse(lines):
    return [line.removeprefix(f"worse than {FILE}: ") for line in lines if line.startswith("worse than ")]


def test_what_was_accepted_stays_green_with_other_seeds_and_threads(command, tmp_path):
    code, lines = command("baseline", "update")
    assert code == 0
    before = (tmp_path / FILE).read_bytes()
    assert len(before) < 200 * len(before.splitlines())
    assert all("seed" not in json.loads(line) for line in before.splitlines())
    for options in ((), ("--seed", "3"), ("--threads", "1"), ("--dtype", "float64")):
        code, lines = command("verify", *QUICK, "--against", FILE, *options)
        assert (code, worse(lines)) == (0, []), lines
    assert command("baseline", "update", "--seed", "5")[0] == 0
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"body": LOSS}, "equivariance | float32: was EXACT, is BROKEN: the error "),
        ({"body": "0 * x"}, "equivariance | float32: was EXACT, is VACUOUS: every wrong action "),
        ({"sizes": (5,)}, "size=7 | equivariance | float32: vanished: it was checked in the baseline"),
    ],
    ids=["a loss of 1e-4", "a layer that became vacuous", "a removed case"],
)
def test_what_got_worse_is_red_with_its_cause_in_one_line(command, change, cause):
    command("baseline", "update")
    code, lines = command("verify", *QUICK, "--against", FILE, **change)
    assert code == 1
    assert any(cause in line for line in worse(lines)), lines


def test_a_removed_case_alone_turns_a_run_red_that_would_be_green(command):
    command("baseline", "update")
    assert command("verify", *QUICK, sizes=(5,))[0] == 0
    assert command("verify", *QUICK, "--against", FILE, sizes=(5,))[0] == 1


@pytest.mark.parametrize(
    "options", [("--case", "size=5"), ("--property", "equivariance"), ("--dtype", "float32")], ids=lambda o: o[0]
)
def test_a_run_of_a_part_misses_nothing(command, options):
    command("baseline", "update")
    code, lines = command("verify", *QUICK, "--against", FILE, *options)
    assert (code, worse(lines)) == (0, [])


def test_a_baseline_of_the_project_is_compared_without_being_named(command, tmp_path):
    (tmp_path / "pyproject.toml").write_text(f'[tool.equiharness]\nbaseline = "{FILE}"\ndtype = "float32"\n')
    assert command("baseline", "update")[0] == 0
    assert "equivariance | float64" not in (tmp_path / FILE).read_text()
    assert command("verify", *QUICK)[0] == 0
    assert command("verify", *QUICK, body=LOSS)[0] == 1


def test_a_record_can_be_accepted_in_place_of_a_run(command, tmp_path):
    command("verify", *QUICK)
    code, lines = command("baseline", "update", "--record", "out/run.jsonl", "--baseline", "b.jsonl")
    assert code == 0
    assert "new or changed" in lines[-1]
    assert command("verify", *QUICK, "--against", "b.jsonl")[0] == 0


def test_accepting_a_part_leaves_the_rest(command, tmp_path):
    command("baseline", "update")
    before = (tmp_path / FILE).read_text()
    command("baseline", "update", "--case", "size=5", body=LOSS)
    after = (tmp_path / FILE).read_text()
    assert [line for line in before.splitlines() if "size=7" in line] == [
        line for line in after.splitlines() if "size=7" in line
    ]
    assert "BROKEN" in after


def test_a_missing_baseline_ends_before_the_run(command, tmp_path):
    assert command("verify", *QUICK, "--against", "missing.jsonl")[0] == 2
    assert not (tmp_path / "out").exists()
