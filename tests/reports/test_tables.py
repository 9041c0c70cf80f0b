from __future__ import annotations

import csv
import math

from equiharness.harness.records.lines import Measurement
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import Reason, Verdict
from equiharness.reports.tables import write_tables


def test_every_table_is_written_three_times(tmp_path, make):
    figure = Measurement(implementation="ours", case="c", quantity="forward", value=1e-3, unit="s", better="lower")
    paths = write_tables(make.run(make.check(), make.check(Verdict.BROKEN)), tmp_path, [figure])
    names = {"matrix", "checks", "attention", "throughput-1", "faults"}
    assert {p.name for p in paths} == {f"{name}.{ending}" for name in names for ending in ("csv", "tex", "md")}
    assert r"\toprule" in (tmp_path / "matrix.tex").read_text()
    assert "1.00 ms" in (tmp_path / "throughput-1.md").read_text()


def test_numbers_and_names_come_back_from_csv(tmp_path, make):
    name = 'a, "b"\nc'
    write_tables(make.run(make.check(case=name, error=1.25e-15)), tmp_path)
    with (tmp_path / "checks.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["case"], float(row["error"]), row["verdict"]) == (name, 1.25e-15, "EXACT")


def test_hostile_names_are_text_in_every_format(tmp_path, make):
    name = r"\input{x} $a$ | _b_ & <i>"
    write_tables(
        make.run(make.check(Verdict.BROKEN, case=name, reason=Reason(code=Code.read("=cmd()"), message="m"))), tmp_path
    )
    latex, markdown = (tmp_path / "attention.tex").read_text(), (tmp_path / "attention.md").read_text()
    assert r"\textbackslash input\{x\} \$a\$ | \_b\_ \& <i>" in latex
    assert r"$a$ \| _b_" in markdown
    assert ",'=cmd()" in (tmp_path / "attention.csv").read_text()


def test_nan_is_told_apart_from_what_was_not_measured(tmp_path, make):
    run = make.run(make.check(Verdict.BROKEN, error=math.nan), make.check(error=None))
    write_tables(run, tmp_path)
    with (tmp_path / "checks.csv").open(newline="") as file:
        assert [row["error"] for row in csv.DictReader(file)] == ["NaN", ""]
    assert "| NaN" in (tmp_path / "checks.md").read_text()
