"""The pytest plugin as another repository meets it: its tests run in a session of their own."""

import base64
import contextlib
import gzip
import importlib.metadata
import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from textwrap import dedent

import pytest

pytest_plugins = "pytester"

#: Loaded before any inner session, which unloads whatever it loaded itself: extension modules take that ill.
HEAVY = (
    *("torch", "equiharness.suites.check", "equiharness.testing", "equiharness.cli", "equiharness.reports.html"),
    *("plotly", "jinja2", "matplotlib.figure", "matplotlib.backends.backend_agg", "hypothesis.strategies", "syrupy"),
)
for heavy in HEAVY:
    with contextlib.suppress(ImportError):
        importlib.import_module(heavy)

INSTALLED = any(point.name == "equiharness" for point in importlib.metadata.entry_points(group="pytest11"))
#: How a session gets the plugin: by its entry point, or by name where this tree is not installed.
PLUGIN = [] if INSTALLED else ["-p", "equiharness.pytest_plugin"]

LAYERS = dedent("""
    import equiharness as eh, pytest, torch
    from equiharness.testing import parametrize_with_checks

    FIELD = eh.Field(eh.Grid(5, 5), "C4", "2*trivial")

    class Ramp(torch.nn.Module):
        def __init__(self, size):
            super().__init__()
            self.size = size
        def forward(self, x):
            return x * (1 + self.size * torch.arange(5).to(x))
""")
SOUND = LAYERS + dedent("""
    def test_relu(equivariance):
        equivariance.assert_equivariant(torch.nn.ReLU(), "C4", FIELD, FIELD)
""")
BROKEN = SOUND + dedent("""
    def test_ramp(equivariance):
        equivariance.assert_equivariant(Ramp(0.1), "C4", FIELD, FIELD)
""")


@pytest.fixture
def project(pytester, monkeypatch):
    """Runs pytest in a repository of its own, in this process unless told otherwise."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(source, *args, subprocess=False, name="test_layers"):
        if source is not None:
            pytester.makepyfile(**{name: source})
        call = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
        return call(*PLUGIN, "-p", "no:randomly", *args)

    run.path = pytester.path
    return run


def summary_of(result):
    """The plugin's own section, without its paths."""
    lines = result.outlines
    start = next((i for i, line in enumerate(lines) if "= equiharness: " in line), None)
    if start is None:
        return None
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("=")), len(lines))
    return [lines[start].strip("= "), *lines[start + 1 : end]]


# --- what it costs when unused ---

LOADED = """
    import sys

    def pytest_terminal_summary(terminalreporter):
        heavy = {"torch", "numpy", "hypothesis", "pydantic", "rich", "typer", "equiharness.testing"}
        terminalreporter.write_line(f"LOADED {sorted(heavy & set(sys.modules))}")
"""


@pytest.mark.parametrize("args", [(), ("--collect-only",), ("--equiharness-seed=3",)], ids=str)
def test_a_session_without_checks_loads_nothing_and_says_nothing(project, monkeypatch, pytester, args):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(LOADED)
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_subprocess("-p", "equiharness.pytest_plugin", *args)
    result.stdout.fnmatch_lines(["LOADED []"])
    assert "equiharness" not in result.stdout.str()
    assert result.ret == 0


def test_a_session_with_a_check_loads_torch(project, pytester):
    """The twin: the list above is not empty because nothing is ever seen."""
    pytester.makeconftest(LOADED)
    result = project(SOUND, subprocess=True)
    assert "'torch'" in result.stdout.str()


def test_every_name_is_prefixed(project, pytester):
    result = project("def test_nothing(): pass", "--help")
    options = [word for word in re.findall(r"--[\w-]+", result.stdout.str()) if "equi" in word]
    assert len(set(options)) >= 7
    assert all(option.startswith("--equiharness-") for option in options)
    markers = project(None, "--markers").stdout.str()
    assert "@pytest.mark.equivariance(" in markers
    fixtures = project(None, "--fixtures", "-q").stdout.str()
    spec = importlib.util.find_spec("equiharness.pytest_plugin")
    ours = re.escape(f"{Path(spec.origin).parent.name}/pytest_plugin.py")
    assert re.findall(rf"^(\w+) .*-- .*{ours}", fixtures, re.M) == ["equivariance"]


def test_there_is_no_fixture_that_runs_by_itself():
    from equiharness import pytest_plugin

    definition = pytest_plugin.equivariance
    assert "autouse=True" not in repr(getattr(definition, "_fixture_function_marker", definition))
    assert getattr(definition._fixture_function_marker, "autouse", None) is False


# --- the fixture ---


def test_a_sound_layer_passes_and_a_broken_one_says_what_where_and_how_to_see_it_again(project):
    result = project(BROKEN)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E  *FAIL  BROKEN  equivariance of test_layers.py::test_ramp: error *, bound *, ratio *",
            "E  *why      ERROR: *",
            "E  *claim    C4: Field(Grid(5, 5), 'C4', '2[*]trivial') -> *, float32, seed 0",
            "E  *worst    rotation by *",
            "E  *again    pytest test_layers.py::test_ramp --equiharness-seed=0 --equiharness-dtype=float32",
            "E  *picture  *test-layers-py-test-ramp.png",
        ]
    )
    text = result.stdout.str()
    assert "equiharness/testing.py" not in text  # the traceback ends in the user's own line
    picture = re.search(r"picture  (\S+\.png)", text)[1]
    with open(picture, "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_the_line_to_paste_gives_the_same_error(project):
    first = project(BROKEN, "--equiharness-seed=5", "--equiharness-dtype=float64").stdout.str()
    again = re.search(r"again    pytest (.*)", first)[1].split()
    assert "--equiharness-seed=5" in again
    second = project(None, *again).stdout.str()
    headline = re.compile(r"FAIL  BROKEN  equivariance of .*")
    assert headline.search(first)[0] == headline.search(second)[0]


def test_check_returns_and_the_other_assertions_raise(project):
    source = LAYERS + dedent("""
        def test_returns(equivariance):
            result = equivariance.check(Ramp(0.1), "C4", FIELD, FIELD)
            assert result.verdict is eh.Verdict.BROKEN
        def test_invariant(equivariance):
            equivariance.assert_invariant(lambda x: x.mean((2, 3)), "C4", FIELD)
        def test_not_invariant(equivariance):
            with pytest.raises(AssertionError, match="BROKEN"):
                equivariance.assert_invariant(lambda x: x[:, :, 0].mean(2), "C4", FIELD)
        def test_options_of_a_call_win(equivariance):
            assert equivariance.check(torch.nn.ReLU(), "C4", FIELD, FIELD, dtype="float64", seed=4).seed == 4
        def test_a_claim(equivariance):
            claim = eh.Claim(torch.nn.ReLU(), "C4", FIELD, FIELD)
            equivariance.assert_equivariant(claim)
    """)
    project(source, "--equiharness-seed=9").assert_outcomes(passed=5)


@pytest.mark.parametrize("strict", [False, True])
def test_an_imprecise_layer_warns_and_fails_where_strictness_is_asked_for(project, pytester, strict):
    pytester.makepyprojecttoml(f"[tool.equiharness]\nstrict = {str(strict).lower()}\n")
    source = LAYERS + dedent("""
        TABLE = torch.stack([torch.tensor(1 / 3).double(), torch.tensor(1 / 3, dtype=torch.float64)])[:, None, None]
        VECTORS = eh.Field(eh.Points(4), "C4", "standard")
        def test_table(equivariance):
            equivariance.assert_equivariant(lambda x: x * TABLE[:, 0, 0], "C4", VECTORS, VECTORS, dtype="float64")
        def test_a_call_that_says_the_opposite(equivariance):
            session = equivariance.settings.strict
            equivariance.assert_equivariant(
                lambda x: x * TABLE[:, 0, 0], "C4", VECTORS, VECTORS, dtype="float64", strict=not session
            )
    """)
    result = project(source, "-W", "always")  # an inner session inherits the filters of this one
    result.assert_outcomes(passed=1, failed=1, warnings=1)  # strict or not, the call takes precedence
    result.stdout.fnmatch_lines(["*CONSTANTS_IN_SINGLE*"])


# --- the marker ---


def test_a_marked_test_returns_the_layer_that_is_checked(project):
    source = LAYERS + dedent("""
        @pytest.fixture
        def size():
            return 0.1
        @pytest.mark.equivariance(group="C4", source=FIELD, target=FIELD)
        def test_relu():
            return torch.nn.ReLU()
        @pytest.mark.equivariance(group="C4", source=FIELD, target=FIELD)
        @pytest.mark.parametrize("times", [1, 2])
        def test_ramp(size, times):
            return Ramp(size * times)
        @pytest.mark.equivariance(group="C4", source=FIELD, target=FIELD)
        def test_forgot():
            torch.nn.ReLU()
    """)
    result = project(source, "--strict-markers")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(["*must return the layer to check; this test returned None.*"])
    assert "BROKEN  equivariance of test_layers.py::test_ramp[2]" in result.stdout.str()


# --- one test for each property ---

EXPANDED = LAYERS + dedent("""
    @parametrize_with_checks([
        (torch.nn.ReLU(), "C4", FIELD, FIELD),
        (Ramp(0.1), "C4", FIELD, FIELD),
        eh.Claim(torch.nn.Tanh(), "C4", FIELD, FIELD, name="tanh"),
        "equiharness.GroupPool",
    ])
    def test_layer(check):
        check()
""")


def test_subjects_expand_into_one_test_for_each_property(project):
    listed = project(EXPANDED, "--collect-only", "-q").stdout.str()
    for name in ("ReLU-homomorphism", "ReLU-equivariance", "Ramp-equivariance", "tanh-adjoint"):
        assert f"test_layer[{name}]" in listed
    assert "test_layer[equiharness.GroupPool-group=C4 size=33 mode=max fields=4-equivariance]" in listed


def test_expanded_tests_fail_by_property_and_can_be_selected(project):
    result = project(EXPANDED, "-k", "Ramp or ReLU")
    assert {k: n for k, n in result.parseoutcomes().items() if k != "deselected"} == {"passed": 8, "failed": 2}
    result.stdout.fnmatch_lines(["FAILED test_layers.py::test_layer[[]Ramp-equivariance[]]*"])
    again = project(None, "--lf", "-k", "Ramp or ReLU")
    assert {k: n for k, n in again.parseoutcomes().items() if k != "deselected"} == {"failed": 2}


def test_what_does_not_apply_to_a_case_skips(project):
    result = project(EXPANDED, "-k", "33 and mean and C4", "-rs")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= 2
    assert outcomes["skipped"] >= 1
    assert "failed" not in outcomes


def test_a_subject_that_is_none_is_refused_with_advice(project):
    result = project(LAYERS + "@parametrize_with_checks([3])\ndef test_layer(check): check()\n")
    result.stdout.fnmatch_lines(["*3 cannot be checked. Give a claim, a module that declares its types*"])
    assert result.ret == 2


# --- options ---


#: Where the seed is set last, and what it is then.
WINNER = {"pyproject": 1, "ini": 2, "command line": 3}


@pytest.mark.parametrize("where", WINNER)
def test_settings_come_from_the_project_the_ini_file_and_the_command_line(project, pytester, where):
    pytester.makepyprojecttoml("[tool.equiharness]\nseed = 1\ndtype = 'float64'\n")
    if where != "pyproject":
        pytester.makeini("[pytest]\nequiharness_seed = 2\n")
    args = ["--equiharness-seed=3"] if where == "command line" else []
    source = LAYERS + dedent(f"""
        def test_relu(equivariance):
            result = equivariance.check(torch.nn.ReLU(), "C4", FIELD, FIELD)
            assert result.seed == {WINNER[where]}
            assert result.dtype == "float64"
    """)
    project(source, *args).assert_outcomes(passed=1)


def test_the_nightly_profile_checks_every_precision_and_seed(project):
    result = project(SOUND, "--equiharness-profile=nightly", "--junitxml=j.xml")
    result.assert_outcomes(passed=1)
    [title, *_] = summary_of(result)
    # Four properties in two precisions and gradcheck, which is about float64, in one; the worst of five seeds.
    assert title == "equiharness: 9 checks, 9 EXACT"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--equiharness-profile=weekly"], "Unknown profile 'weekly'"),
        (["--equiharness-dtype=float23"], "Unknown dtype"),
        (["--equiharness-seed=x"], "seed is a whole number"),
        (["--equiharness-against=missing.jsonl"], "There is no baseline"),
    ],
)
def test_wrong_options_end_the_session_before_any_test(project, args, message):
    result = project(SOUND, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_a_setting_that_does_not_exist_is_named(project, pytester):
    pytester.makepyprojecttoml("[tool.equiharness]\nprofle = 'ci'\n")
    assert "Did you mean profile" in project(SOUND).stdout.str()


# --- the summary, JUnit and the report ---


def test_the_summary_shows_the_worst_first(project):
    title, first, second, *rest = summary_of(project(BROKEN))
    assert title == "equiharness: 10 checks, 2 BROKEN, 8 EXACT"
    assert "BROKEN" in first
    assert "test_ramp: adjoint, float32, rotation by" in first  # the larger ratio of the two
    assert "BROKEN" in second
    assert all("EXACT" in line or "more" in line for line in rest)


def test_results_are_properties_of_junit(project):
    project(BROKEN, "--junitxml=j.xml")
    cases = {c.get("name"): c for c in ET.parse(project.path / "j.xml").getroot().iter("testcase")}
    [entry] = cases["test_ramp"].iter("property")
    assert entry.get("name") == "equiharness"
    values = json.loads(entry.get("value"))
    assert (values["verdict"], values["code"], values["seed"]) == ("BROKEN", "ERROR", 0)
    assert values["error"] > values["bound"] > 0


def test_the_report_is_one_page_with_the_pictures_of_failures(project):
    pytest.importorskip("plotly", reason="pip install 'equiharness[report]'")
    result = project(BROKEN, "--equiharness-report=out/report.html")
    page = (project.path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "test_layers.py::test_ramp" in page
    packed = re.search('id="pictures">([^<]*)<', page)
    pictures = json.loads(gzip.decompress(base64.b64decode(packed.group(1))))
    assert pictures
    for picture in pictures:
        assert any(panel["title"].startswith("x") for panel in picture["panels"])
    result.stdout.fnmatch_lines(["report: *report.html"])


# --- baselines ---

ACCEPTED = LAYERS + dedent("""
    class Mixed(torch.nn.Module):
        def forward(self, x):
            return x.relu() + x.mean((2, 3), keepdim=True)

    def test_mixed(equivariance):
        equivariance.assert_equivariant(Mixed(), "C4", FIELD, FIELD)
    def test_relu(equivariance):
        equivariance.assert_equivariant(torch.nn.ReLU(), "C4", FIELD, FIELD)
""")
LOSS = ACCEPTED.replace("keepdim=True)", "keepdim=True) * (1 + 1e-4 * torch.arange(5).to(x))")
#: A layer of condition 300, forward and backward: float32 explains errors of 1e-4, and hides losses below.
CONDITIONED = ACCEPTED.replace("x.relu()", "(300 * x).sin()")
VACUOUS = ACCEPTED.replace("return x.relu() + x.mean((2, 3), keepdim=True)", "return 0 * x")
REMOVED = ACCEPTED.replace("def test_relu(equivariance)", "def relu(equivariance)")
EMPTIED = ACCEPTED.replace('equivariance.assert_equivariant(torch.nn.ReLU(), "C4", FIELD, FIELD)', "pass")
FILE = "equiharness-baseline.jsonl"
AGAINST = f"--equiharness-against={FILE}"


@pytest.fixture
def accepted(project):
    """A project whose run was accepted."""

    def accept(source=ACCEPTED):
        result = project(source, "--equiharness-update-baseline")
        assert result.ret == 0
        return (project.path / FILE).read_bytes()

    return accept


def worse_lines(result):
    return [line for line in result.outlines if line.startswith(f"worse than {FILE}: ")]


def test_an_unchanged_tree_stays_green_and_accepting_it_again_changes_no_byte(project, accepted):
    before = accepted()
    lines = before.decode().splitlines()
    assert json.loads(lines[1]) == {
        "check": "test_layers.py::test_mixed | adjoint | float32",
        "verdict": "EXACT",
        "code": "EXACT",
        "level": "rounding",
    }
    assert project(None, AGAINST).ret == 0
    assert project(None, AGAINST, "--equiharness-seed=7").ret == 0
    assert accepted(None) == before


@pytest.mark.parametrize(
    ("source", "cause", "failing"),
    [
        (LOSS, "test_mixed | equivariance | float32: was EXACT, is BROKEN: the error ", 1),
        (VACUOUS, "test_mixed | equivariance | float32: was EXACT, is VACUOUS: every wrong action", 1),
        (REMOVED, "test_relu | equivariance | float32: vanished", 0),
        (EMPTIED, "test_relu | equivariance | float32: vanished", 0),
    ],
    ids=["a loss of 1e-4", "a layer that became vacuous", "a removed test", "a removed check"],
)
def test_what_got_worse_turns_red_with_its_cause_in_one_line(project, accepted, source, cause, failing):
    accepted()
    result = project(source, AGAINST)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(cause in line for line in worse_lines(result)), result.stdout.str()
    assert result.parseoutcomes().get("failed", 0) == failing


def test_a_loss_that_the_float32_bound_would_hide_is_seen_against_the_baseline(project, accepted):
    """Ill conditioned, the layer passes with a loss of 1e-5; its level has left the rounding of float64."""
    accepted(CONDITIONED)
    lossy = CONDITIONED.replace("keepdim=True)", "keepdim=True) * (1 + 1e-5 * torch.arange(5).to(x))")
    plain = project(lossy)
    plain.assert_outcomes(passed=2)
    result = project(lossy, AGAINST)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E  *worse    *equivariance*the error has grown from rounding*"])


@pytest.mark.parametrize(
    "args",
    [("-k", "mixed"), ("--lf",), ("--deselect", "test_layers.py::test_relu"), ("test_layers.py::test_mixed",), ("-x",)],
    ids=str,
)
def test_a_run_of_a_part_misses_nothing(project, accepted, args):
    accepted()
    assert worse_lines(project(None, AGAINST, *args)) == []


def test_a_baseline_named_in_the_project_is_always_compared(project, accepted, pytester):
    accepted()
    pytester.makepyprojecttoml(f"[tool.equiharness]\nbaseline = '{FILE}'\n")
    assert project(None).ret == 0
    removed = project("def test_nothing(): pass")  # nothing is left that would load the harness by itself
    assert removed.ret == pytest.ExitCode.TESTS_FAILED
    assert len(worse_lines(removed)) == 10


# --- in company ---


def test_under_xdist_the_summary_the_baseline_the_report_and_junit_are_the_same(project, accepted):
    pytest.importorskip("xdist")
    accepted()
    serial = project(BROKEN, AGAINST)
    files = ("--equiharness-report=r.html", "--junitxml=j.xml")
    parallel = project(None, AGAINST, "-n", "2", *files, subprocess=True)
    report = [line for line in summary_of(parallel) if not line.startswith("report: ")]
    assert report == summary_of(serial)
    assert len(worse_lines(parallel)) == 5  # of test_mixed, which is gone
    parallel.assert_outcomes(passed=1, failed=1)
    assert "test_ramp" in (project.path / "r.html").read_text(encoding="utf-8")
    assert '"equiharness"' in (project.path / "j.xml").read_text(encoding="utf-8")


def test_examples_of_hypothesis_are_one_check(project):
    pytest.importorskip("hypothesis")
    source = LAYERS + dedent("""
        from hypothesis import given, settings, strategies as st
        @given(scale=st.floats(0.5, 2))
        @settings(max_examples=5, deadline=None, database=None)
        def test_scaled(equivariance, scale):
            equivariance.assert_equivariant(lambda x: scale * x, "C4", FIELD, FIELD)
    """)
    result = project(source)
    result.assert_outcomes(passed=1)
    assert summary_of(result)[0] == "equiharness: 5 checks, 5 EXACT"


def test_several_checks_of_one_test_are_told_apart(project):
    source = LAYERS + dedent("""
        def test_both(equivariance):
            equivariance.check(torch.nn.ReLU(), "C4", FIELD, FIELD)
            equivariance.check(torch.nn.Tanh(), "C4", FIELD, FIELD)
    """)
    result = project(source, "--equiharness-update-baseline")
    assert summary_of(result)[0] == "equiharness: 10 checks, 10 EXACT"
    assert "test_both #2 | equivariance" in (project.path / FILE).read_text()


def test_the_order_of_tests_does_not_matter(project):
    if importlib.util.find_spec("random_order") is None:
        pytest.skip("pip install pytest-random-order")
    plain, shuffled = project(BROKEN), project(None, "--random-order", "--random-order-seed=3")
    assert summary_of(plain) == summary_of(shuffled)


def test_a_snapshot_in_the_same_test(project):
    pytest.importorskip("syrupy", reason="pip install syrupy")
    source = LAYERS + dedent("""
        def test_relu(equivariance, snapshot):
            result = equivariance.assert_equivariant(torch.nn.ReLU(), "C4", FIELD, FIELD)
            assert result.verdict.value == snapshot
    """)
    project(source, "--snapshot-update").assert_outcomes(passed=1)
    again = project(None)
    again.assert_outcomes(passed=1)
    assert summary_of(again)[0] == "equiharness: 5 checks, 5 EXACT"


def test_a_benchmark_in_the_same_test(project):
    pytest.importorskip("pytest_benchmark", reason="pip install pytest-benchmark")
    alone = project("def test_alone(benchmark): benchmark(int)", "-W", "always")
    if "passed" not in alone.parseoutcomes():
        pytest.skip("this pytest-benchmark fails under this pytest by itself")
    source = LAYERS + dedent("""
        def test_relu(equivariance, benchmark):
            layer = torch.nn.ReLU()
            equivariance.assert_equivariant(layer, "C4", FIELD, FIELD)
            benchmark(layer, torch.zeros(1, 2, 5, 5))
    """)
    result = project(source)
    result.assert_outcomes(passed=1)
    assert summary_of(result)[0] == "equiharness: 5 checks, 5 EXACT"


# --- one set of options ---

OPTIONS_EVERYWHERE = """
    SOME = {"samples": 6, "properties": ("equivariance", "gradcheck")}

    def seen(result):
        return {p.property: p.samples for p in result.parts or (result,)}

    def test_fixture(equivariance):
        result = equivariance.assert_equivariant(torch.nn.ReLU(), "C4", FIELD, FIELD, **SOME)
        assert seen(result) == {"equivariance": 6, "gradcheck": 6}

    def test_function():
        result = eh.assert_equivariant(torch.nn.ReLU(), "C4", FIELD, FIELD, **SOME)
        assert seen(result) == {"equivariance": 6, "gradcheck": 6}

    @pytest.mark.equivariance("C4", FIELD, FIELD, **SOME)
    def test_marker():
        return torch.nn.ReLU()

    @parametrize_with_checks([(torch.nn.ReLU(), "C4", FIELD, FIELD), "equiharness.GroupPool"], **SOME)
    def test_parametrized(check):
        result = check()
        assert result.samples == 6
"""


def test_samples_and_properties_are_accepted_wherever_checks_are_made(project):
    result = project(LAYERS + dedent(OPTIONS_EVERYWHERE), "-k", "not GroupPool or (33 and mean and C4)", "-rs")
    outcomes = result.parseoutcomes()
    assert "failed" not in outcomes
    assert outcomes["passed"] >= 5 + 1
    refused = project(
        LAYERS + '@parametrize_with_checks([(torch.tanh, "C4", FIELD, FIELD)], sample=5)\ndef f(check): ...\n'
    )
    refused.stdout.fnmatch_lines(["*Unknown option of check 'sample'. Did you mean samples?*"])


def test_tests_of_single_properties_agree_with_check(project):
    """A sign has no slope: its gradient proves nothing, and where check only says so no test fails."""
    result = project(
        LAYERS + '@parametrize_with_checks([(torch.sign, "C4", FIELD, FIELD)])\ndef test_it(check): check()\n', "-rs"
    )
    result.assert_outcomes(passed=3, skipped=2)
    result.stdout.fnmatch_lines(["*UNDECIDED: adjoint could not tell*"])


def test_a_crash_is_raised_from_the_layers_own_error(project):
    source = LAYERS + dedent("""
        def broken(x):
            return x.no_such_method()

        def test_fixture(equivariance):
            equivariance.assert_equivariant(broken, "C4", FIELD, FIELD)

        @parametrize_with_checks([(broken, "C4", FIELD, FIELD)], properties=("equivariance",))
        def test_parametrized(check):
            check()
    """)
    result = project(source)
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert text.count("The above exception was the direct cause of the following exception") == 2
    assert "return x.no_such_method()" in text
