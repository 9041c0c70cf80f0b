"""The pytest plugin: the fixture ``equivariance``, a marker, options, baselines, and a summary if checks were made.

The plugin is registered under the entry point ``pytest11``, so every pytest run in the same environment loads it. It
imports only the standard library until a test needs a check. The state of a session is stored in ``config.stash``. The
report of a test carries the test's results to the session. This also works under pytest-xdist, whose worker processes
write only pictures.
"""

from __future__ import annotations

import datetime
import json
import re
import shlex
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .harness.claim.outcome import Outcome
    from .harness.config import Settings
    from .harness.records.baseline import Entry
    from .harness.records.lines import Attachment
    from .harness.verdict.result import CheckResult
    from .testing import Checker, Recorded

#: Option and ini key -> help. Each is --equiharness-NAME on the command line and equiharness_NAME in an ini file.
OPTIONS = {
    "profile": "ci (the layer's own precision, one seed) or nightly (float32 and float64, five seeds)",
    "dtype": "working precisions, separated by commas; by default the layer's own",
    "device": "torch device of the checks",
    "seed": "seed of inputs and elements",
    "report": "write an HTML report of all checks to this file",
}
SETTINGS = pytest.StashKey["Settings"]()
BASELINE = pytest.StashKey["dict[str, Entry]"]()
ITEM = pytest.StashKey[pytest.Item]()
CALLS = pytest.StashKey[int]()
PENDING = pytest.StashKey[list[dict[str, Any]]]()
#: Options that select a part of the tests: with one of them, an absent check does not count as missing.
SELECTIONS = ("keyword", "markexpr", "lf", "stepwise", "deselect", "ignore", "ignore_glob", "maxfail")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and ini keys; all of them start with the project's name."""
    group = parser.getgroup("equiharness", "equivariance checks (equiharness)")
    for name, text in OPTIONS.items():
        group.addoption(
            f"--equiharness-{name}", dest=f"equiharness_{name}", default=None, metavar=name.upper(), help=text
        )
        parser.addini(f"equiharness_{name}", text, default="")
    against = "compare with this baseline: worse verdicts, larger errors and missing checks fail"
    group.addoption("--equiharness-against", dest="equiharness_baseline", metavar="BASELINE", help=against)
    parser.addini("equiharness_baseline", against, default="")
    update = "accept the results of this run: write them to the baseline"
    group.addoption("--equiharness-update-baseline", dest="equiharness_update", action="store_true", help=update)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and, in the main process, the session; validate the options."""
    marker = "equivariance(group=None, source=None, target=None, **options): check the layer that the test returns"
    config.addinivalue_line("markers", marker)
    if (
        not hasattr(config, "workerinput") and not config.option.collectonly
    ):  # worker processes of xdist only send reports
        config.pluginmanager.register(_Session(config), "equiharness-session")
    named = [getattr(config.option, f"equiharness_{name}", None) for name in (*OPTIONS, "baseline")]
    if any(named):  # options of the command line are validated before any test runs
        _settings(config)
        if config.option.equiharness_baseline and not config.option.equiharness_update:
            _baseline(config)


def _settings(config: pytest.Config) -> Settings:
    """The settings of pyproject.toml, the ini file and the command line; later sources take precedence."""
    if SETTINGS not in config.stash:
        from .harness.config import read_settings
        from .harness.errors import UsageError

        try:
            settings = read_settings(config.rootpath)
            ini = {name: config.getini(f"equiharness_{name}") or None for name in (*OPTIONS, "baseline")}
            options = {name: getattr(config.option, f"equiharness_{name}") for name in (*OPTIONS, "baseline")}
            config.stash[SETTINGS] = settings.merged(ini, "The ini file").merged(options, "The command line")
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[SETTINGS]


def _baseline(config: pytest.Config) -> dict[str, Entry]:
    """The accepted results; empty if no baseline is named, or if this run writes a new one."""
    if BASELINE not in config.stash:
        from .harness.errors import RecordError
        from .harness.records.baseline import read_baseline

        path = _settings(config).baseline
        try:
            updating = config.option.equiharness_update
            config.stash[BASELINE] = read_baseline(config.rootpath / path) if path and not updating else {}
        except RecordError as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[BASELINE]


@pytest.fixture(scope="session")
def equivariance(request: pytest.FixtureRequest) -> Checker:
    """Checks of layers with the session's options: ``check``, ``assert_equivariant``, ``assert_invariant``."""
    return _checker(request.config)


def _checker(config: pytest.Config) -> Checker:
    from .testing import Checker

    return Checker(_settings(config), _Recorder(config))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember the running test: the fixture has one value for the whole session."""
    item.config.stash[ITEM] = item


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Check the layer that a marked test returns; give the session's settings to a ``PropertyCheck``."""
    marker = pyfuncitem.get_closest_marker("equivariance")
    if "equiharness.testing" in sys.modules:
        from .testing import PropertyCheck

        for name, value in pyfuncitem.funcargs.items():
            if isinstance(value, PropertyCheck):
                pyfuncitem.funcargs[name] = value.bound(_settings(pyfuncitem.config), _Recorder(pyfuncitem.config))
    if marker is None:
        return None
    __tracebackhide__ = True
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    layer = pyfuncitem.obj(**arguments)
    if not callable(layer) and type(layer).__name__ != "Claim":
        pytest.fail(
            f"A test marked equivariance must return the layer to check; this test returned {layer!r}.", pytrace=False
        )
    _checker(pyfuncitem.config).assert_equivariant(layer, *marker.args, **marker.kwargs)
    return True


class _Recorder:
    """Stores the results of a check with the running test, draws a picture and compares with the baseline."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def __call__(self, outcomes: Sequence[Outcome]) -> Recorded:
        from .harness.records.baseline import compare, key_of, worst_by_key
        from .harness.verdict.result import worst
        from .testing import Recorded

        item = self.config.stash[ITEM]
        name = self._name(item)
        named = [(outcome, _named(outcome, item, name)) for outcome in outcomes]
        keyed = worst_by_key((key_of(part, name), part) for _, result in named for part in result.parts or (result,))
        shown = worst(result for _, result in named)
        picture = next((outcome.picture for outcome, result in named if result is shown), None)
        kept = {"name": name, "parts": {key: part.model_dump_json() for key, part in keyed.items()}}
        if picture is not None and _settings(self.config).report:
            kept["picture"] = picture.model_copy(update={"id": name}).model_dump_json()
        item.stash.setdefault(PENDING, []).append(kept)
        item.user_properties.append(("equiharness", _brief(name, shown)))
        known = {key: entry for key, entry in _baseline(self.config).items() if key in keyed}
        worse = tuple(str(w) for w in compare(known, keyed, lambda key: False))
        notes = self._picture(name, picture) if shown.fails and picture is not None else ()
        return Recorded(shown, notes, worse)

    def _name(self, item: pytest.Item) -> str:
        """The test, with the number of the call from the second on; the examples of a hypothesis test are one check."""
        count = item.stash.get(CALLS, 0) + 1
        item.stash[CALLS] = count
        if count == 1 or getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            return item.nodeid
        return f"{item.nodeid} #{count}"

    def _picture(self, name: str, picture: Attachment) -> tuple[str, ...]:
        """Save the commuting diagram in pytest's cache folder, and return the line that names the file."""
        from .harness.errors import MissingDependencyError, RecordError

        cache = getattr(self.config, "cache", None)
        if cache is None:
            return ()
        path = cache.mkdir("equiharness") / f"{re.sub(r'[^0-9A-Za-z]+', '-', name).strip('-')[-120:]}.png"
        try:
            from .reports.pictures import save_png

            save_png(picture, path)
        except (MissingDependencyError, RecordError) as error:
            return (f"  picture  {error}",)
        return (f"  picture  {path}",)


def _named(outcome: Outcome, item: pytest.Item, name: str) -> CheckResult:
    """The result under the test's name, with the command that repeats the test and the name of its picture."""
    result = outcome.result
    options = [f"--equiharness-seed={result.seed}", f"--equiharness-dtype={result.dtype}"]
    options += [f"--equiharness-device={result.device}"] if result.device != "cpu" else []
    again = shlex.join(["pytest", item.nodeid, *options])
    changes = {"implementation": result.implementation or name, "reproduce": again}

    def change(part: CheckResult) -> CheckResult:
        drawn = outcome.picture is not None and part.property == result.property
        return part.model_copy(update={**changes, "attachment": name if drawn else ""})

    return change(result).model_copy(update={"parts": tuple(change(part) for part in result.parts)})


def _brief(name: str, result: CheckResult) -> str:
    """The numbers of one check as JSON, for JUnit XML and other readers of a test's properties."""
    wanted = ("property", "verdict", "group", "dtype", "seed", "error", "bound", "power", "element", "leaf")
    values = json.loads(result.model_dump_json(include=set(wanted)))
    found = {"name": name, **{key: values[key] for key in wanted}, "code": result.reason.code}
    return json.dumps({**found, "reason": result.reason.message})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the results of the test's checks to its report, which xdist sends to the main process."""
    report = yield
    pending = item.stash.get(PENDING, None)
    if pending:
        report.equiharness = pending  # type: ignore[attr-defined]
        item.stash[PENDING] = []
    return report


class _Session:
    """The session in the main process: it collects the reports, compares, writes files and prints the summary."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.found: list[dict[str, Any]] = []
        self.ran: set[str] = set()
        self.closing: list[str] = []
        self.started = datetime.datetime.now(datetime.UTC)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Store the results of a test's checks."""
        self.ran.add(report.nodeid)
        self.found += getattr(report, "equiharness", [])

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Compare with the baseline or write it, and write the report."""
        if not self.found and not self._is_configured():
            return
        from .harness.errors import HarnessError, MissingDependencyError, UsageError

        try:
            settings = _settings(self.config)
            worse = self._compared(settings, session, exitstatus)
            if worse and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            if settings.report and self.found:
                self._write_report(self.config.rootpath / settings.report, settings)
        except (UsageError, MissingDependencyError, HarnessError, pytest.UsageError) as error:
            self.closing.append(f"error: {error}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def _is_configured(self) -> bool:
        """Whether a baseline may be named; pyproject.toml is parsed only if it has a table for this plugin."""
        if self.config.option.equiharness_baseline or self.config.getini("equiharness_baseline"):
            return True
        path = self.config.rootpath / "pyproject.toml"
        return path.is_file() and "[tool.equiharness]" in path.read_text(encoding="utf-8", errors="replace")

    def _results(self) -> dict[str, CheckResult]:
        """One result for each check, sorted by key because tests may run in any order."""
        from .harness.records.baseline import worst_by_key
        from .harness.verdict.result import CheckResult

        listed = sorted((key, text) for kept in self.found for key, text in kept["parts"].items())
        return worst_by_key((key, CheckResult.model_validate_json(text)) for key, text in listed)

    def _compared(self, settings: Settings, session: pytest.Session, exitstatus: int) -> bool:
        """Whether a check got worse; with the option to update the baseline, write it instead."""
        from .harness.config import BASELINE as DEFAULT
        from .harness.records.baseline import compare, read_baseline, updated, write_baseline

        def expected(key: str) -> bool:
            return "::" in key and self._should_run(key, session, exitstatus)

        if self.config.option.equiharness_update:
            path = self.config.rootpath / (settings.baseline or DEFAULT)
            known = read_baseline(path) if path.exists() else {}
            entries = updated(known, self._results(), expected)
            write_baseline(path, entries)
            self.closing.append(f"{path}: {len(entries)} checks accepted, {len(known)} before.")
            return False
        worse = compare(_baseline(self.config), self._results(), expected)
        self.closing += [f"worse than {settings.baseline}: {line}" for line in worse]
        return bool(worse)

    def _should_run(self, key: str, session: pytest.Session, exitstatus: int) -> bool:
        """Whether a check of the baseline belongs to this session: its test ran, or its whole file was selected."""
        node = key.split(" | ", maxsplit=1)[0].split(" #", maxsplit=1)[0]
        if node in self.ran:
            return True
        option = self.config.option
        chosen = [getattr(option, name, None) for name in SELECTIONS]
        if any(chosen) or exitstatus not in (0, 1, 5) or session.shouldstop or session.shouldfail:
            return False
        file = (self.config.rootpath / node.split("::")[0]).resolve()
        selected = [(self.config.invocation_params.dir / arg.split("::")[0]).resolve() for arg in self.config.args]
        single = any("::" in arg for arg in self.config.args)
        return not single and any(file.is_relative_to(place) for place in selected)

    def _write_report(self, path: Path, settings: Settings) -> None:
        from .harness.records.environment import capture
        from .harness.records.lines import Attachment, Run, RunLine
        from .harness.records.tally import Tally
        from .harness.records.writing import write_atomically
        from .reports.html import render_html

        results = list(self._results().values())
        seconds = (datetime.datetime.now(datetime.UTC) - self.started).total_seconds()
        header = RunLine(
            started=self.started.isoformat(timespec="seconds"),
            command=shlex.join(["pytest", *self.config.invocation_params.args]),
            seed=settings.seed,
            planned=len(results),
            environment=capture(),
        )
        run = Run(header, checks=results)
        pictures = [Attachment.model_validate_json(kept["picture"]) for kept in self.found if "picture" in kept]
        run.attachments = {picture.id: picture for picture in pictures}
        tally = Tally()
        for result in results:
            tally.add(result)
        run.end = tally.end(seconds)
        write_atomically(path, render_html(run))
        self.closing.append(f"report: {path}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the checks with the largest ratios; print nothing if no check was made."""
        if not self.found and not self.closing:
            return
        from .reports.terminal import summary

        results = [(key.split(" | ")[0], result) for key, result in self._results().items()]
        title, lines = summary(results)
        terminalreporter.write_sep("=", title)
        for line in [*lines, *self.closing]:
            terminalreporter.write_line(line)
