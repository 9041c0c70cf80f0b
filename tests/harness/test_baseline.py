"""Baselines: what is kept, what counts as worse, what stays as it is on another machine."""

import json

import pytest
from equiharness.harness.errors import RecordError
from equiharness.harness.records.baseline import (
    GROWTH,
    ROUNDING,
    compare,
    entry_of,
    in_selection,
    key_of,
    read_baseline,
    rounding_bound,
    updated,
    worst_by_key,
    write_baseline,
)
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import CheckResult, Reason, Resolution, Verdict

KEY = "lib.Layer | size=9 | equivariance | float32"
BOUND = 2e-6  # S kappa eps_32: what rounding in float64 explains of it is 2^-29 of this, 3.7e-15


def result(verdict="EXACT", code=None, error=1e-16, **fields):
    made = {
        "property": "equivariance",
        "verdict": Verdict(verdict),
        "reason": Reason(code=Code.read(code or verdict), message=fields.pop("message", "")),
        "implementation": "lib.Layer",
        "case": "size=9",
        "error": error,
        "bound": BOUND,
    }
    return CheckResult(**{**made, **fields})


def approximate(seen, seed=0):
    rows = tuple(Resolution(size=n, error=seen * 40 / n, floor=0, control=1) for n in (10, 20, 40))
    return result("APPROXIMATE", "CONVERGES", None, bound=None, resolutions=rows, seen=seen, seed=seed)


def worse(before, after, *, expected=True):
    accepted = {} if before is None else {KEY: entry_of(KEY, before)}
    found = {} if after is None else {KEY: after}
    return [w.cause for w in compare(accepted, found, lambda key: expected)]


def test_keys_name_the_check_and_nothing_of_the_machine():
    assert key_of(result(device="cuda", seed=3)) == KEY
    assert key_of(result(implementation="", case=""), "tests/test_a.py::test_b") == (
        "tests/test_a.py::test_b | equivariance | float32"
    )


def test_rounding_keeps_no_digits():
    """An error within what rounding in float64 explains says the same on every machine."""
    entries = [entry_of(KEY, result(error=error)) for error in (0.0, 1e-17, 3e-15)]
    assert {entry.level for entry in entries} == {ROUNDING}
    assert len({entry.line() for entry in entries}) == 1


def test_a_larger_error_is_kept_to_two_digits():
    assert entry_of(KEY, result(error=1.23456e-7)).level == 0.062


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [
        (
            result(),
            result("BROKEN", "ERROR", 1e-4, message="the error 0.0001 is 50 times."),
            "was EXACT, is BROKEN: the",
        ),
        (result(), result("VACUOUS", error=0.0, message="shows\nnothing."), "was EXACT, is VACUOUS: shows nothing."),
        (result(), result("IMPRECISE", "CONSTANTS_IN_SINGLE"), "was EXACT, is IMPRECISE"),
        (approximate(1e-3), result("BROKEN", "LIMIT", None, bound=None), "was APPROXIMATE, is BROKEN"),
        (result(), result(error=1e-9), "grown from rounding"),
        (result(error=1e-7), result(error=1e-7 * GROWTH * 1.1), "grown from 5.0e-02 to 1.1e-01"),
        (approximate(1e-3), approximate(1e-3 * GROWTH * 1.1), "error has grown"),
        (result(), None, "vanished"),
        (result(), result("SKIPPED", "NOT_INSTALLED", None, bound=None, message="lib is missing"), "no longer checked"),
        (result(), result(error=float("nan")), "grown"),
    ],
)
def test_what_is_worse_has_a_cause_in_one_line(before, after, cause):
    [line] = worse(before, after)
    assert cause in line
    assert "\n" not in line


def test_accepting_a_much_smaller_error_lowers_the_level_and_a_slightly_smaller_one_does_not():
    accepted = {KEY: entry_of(KEY, result(error=1e-7))}
    slightly, much = ({KEY: result(error=1e-7 / factor)} for factor in (0.9 * GROWTH, 4 * GROWTH))
    assert updated(accepted, slightly, lambda key: True) == accepted
    assert updated(accepted, much, lambda key: True)[KEY].level == pytest.approx(accepted[KEY].level / 8, rel=0.1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (result(), result(error=rounding_bound(result()))),
        (result(error=1e-15), result(error=0.0)),
        (result(error=1e-7), result(error=1e-7 * GROWTH * 0.9)),
        (result(error=1e-7), result(error=1e-15)),
        (result("BROKEN", "ERROR", 1.0), result()),
        (result("BROKEN", "ERROR", 1e-4), result("BROKEN", "ERROR", 1.5e-4)),
        (approximate(1e-3), approximate(1e-3 / 50)),
        (approximate(1e-3, seed=0), approximate(1.0, seed=1)),  # other inputs: only the verdict is compared
        (None, result("BROKEN", "ERROR", 1.0)),  # new: verify says so itself
    ],
)
def test_what_is_no_worse_is_left_alone(before, after):
    assert worse(before, after) == []


def test_what_vanished_with_a_library_names_the_library():
    """A run has one check of an implementation whose library is missing."""
    baseline = {f"lib.Layer | a=1 | {name} | float32": entry_of("", result()) for name in ("adjoint", "parity")}
    one = result("SKIPPED", "NOT_INSTALLED", None, bound=None, message="lib is missing")
    skipped = {"lib.Layer | a=1 | homomorphism | float32": one.model_copy(update={"implementation": "lib.Layer"})}
    lines = [str(line) for line in compare(baseline, skipped, lambda key: True)]
    assert len(lines) == 2
    assert all("no longer checked: NOT_INSTALLED: lib is missing" in line for line in lines)
    checked = {"lib.Layer | a=2 | adjoint | float32": result().model_copy(update={"implementation": "lib.Layer"})}
    assert all("vanished" in str(line) for line in compare(baseline, {**skipped, **checked}, lambda key: True))


def test_a_check_that_this_run_was_not_asked_for_has_not_vanished():
    assert worse(result(), None, expected=False) == []


@pytest.mark.parametrize(("bits", "count"), [(9.5, 0), (12.0, 1)])
def test_a_loss_of_precision_counts_beyond_what_machines_differ_by(bits, count):
    after = result("IMPRECISE", "PRECISION", lost_bits=bits, kappa=2.0)  # 8 + log2 kappa = 9 bits are usual
    assert len(worse(result(), after)) == count


@pytest.mark.parametrize("name", ["homomorphism", "robustness", "parity", "forces", "forces in eval()"])
def test_errors_that_are_not_those_of_the_float64_reference_are_rounding_up_to_their_bound(name):
    """A batch and its samples may agree to the last bit on one machine and to float32 on another."""
    same, close = (result(property=name, error=error) for error in (0.0, 0.9 * BOUND))
    assert entry_of(KEY, same) == entry_of(KEY, close)
    assert worse(same, close) == []
    assert entry_of(KEY, same).level == ROUNDING


def test_of_several_results_the_worst_is_kept():
    listed = [("a", result()), ("a", result("BROKEN", error=1.0)), ("a", result(error=1e-9))]
    assert worst_by_key(listed)["a"].verdict is Verdict.BROKEN
    assert worst_by_key(reversed(listed))["a"].verdict is Verdict.BROKEN
    assert worst_by_key([("a", result("SKIPPED")), ("a", result())])["a"].verdict is Verdict.EXACT


def test_the_file_is_sorted_small_and_reads_back(tmp_path):
    path = tmp_path / "baseline.jsonl"
    entries = {k: entry_of(k, r) for k, r in {"b": result(error=1e-7), "a": result(), "c": approximate(2e-3)}.items()}
    write_baseline(path, entries)
    assert read_baseline(path) == entries
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("check") for line in lines] == [None, "a", "b", "c"]
    assert lines[1] == {"check": "a", "verdict": "EXACT", "code": "EXACT", "level": "rounding"}
    assert lines[3]["seed"] == 0


def test_accepting_the_same_tree_elsewhere_changes_no_byte(tmp_path):
    """Levels within their interval keep their line: no churn from another machine."""
    path = tmp_path / "baseline.jsonl"
    here = {"a": result(error=1e-7), "b": result(), "c": approximate(1e-3)}
    there = {"a": result(error=1.3e-7), "b": result(error=3e-16), "c": approximate(1.2e-3)}
    write_baseline(path, updated({}, here, lambda key: True))
    before = path.read_bytes()
    write_baseline(path, updated(read_baseline(path), there, lambda key: True))
    assert path.read_bytes() == before


def test_accepting_keeps_what_the_run_had_no_business_with_and_drops_what_vanished():
    known = {key: entry_of(key, result()) for key in ("other", "gone", "here")}
    after = updated(known, {"here": result("BROKEN", error=1.0), "new": result()}, lambda key: key != "other")
    assert {key: str(entry.verdict) for key, entry in after.items()} == {
        "other": "EXACT",
        "here": "BROKEN",
        "new": "EXACT",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "baseline update --baseline"),
        ("", "is empty"),
        ('{"equiharness_baseline": 99}\n', "not a baseline of schema 1"),
        ('{"equiharness_baseline": 1}\nnot json\n', "line 2: not an entry"),
        ('{"equiharness_baseline": 1}\n{"check": "a", "verdict": "FINE", "code": ""}\n', "line 2"),
        ("[1]\n", "line 1"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "baseline.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecordError, match=message):
        read_baseline(path)


@pytest.mark.parametrize(
    ("names", "dtypes", "cases", "inside"),
    [
        ((), ("float32",), "*", True),
        (("lib.*",), ("float32",), "size=*", True),
        (("other.*",), ("float32",), "*", False),
        ((), ("float64",), "*", False),
        ((), ("float32",), "size=8", False),
    ],
)
def test_a_selection_says_which_checks_it_should_make(names, dtypes, cases, inside):
    assert in_selection(KEY, names, ("equivariance",), dtypes, cases) is inside
    assert not in_selection("tests/a.py::b | equivariance | float32", (), ("equivariance",), ("float32",), "*")
