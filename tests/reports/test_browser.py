"""The report in a real browser: headless Chromium, driven by Playwright.

Playwright's Python package comes with tox; its own browser downloads are not used. The browser is the system's
``chromium``: `apt-get install chromium` (Debian), `apt-get install chromium-browser` (Ubuntu), or any Chrome or
Chromium on PATH. Only where there is none do these tests skip, and say so.

EQUIHARNESS_REPORT_RECORD=out/run.jsonl runs them on a real record in place of a made-up one of the same size.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import time
from pathlib import Path

import pytest
from equiharness.harness.records.lines import Measurement
from equiharness.harness.records.reading import read_run
from equiharness.harness.records.validity import Geometry, Law, Point, ValidityMap
from equiharness.harness.verdict.result import ElementResult, Reason, Verdict
from equiharness.reports.history import History, PastRun, SeriesKey
from equiharness.reports.html import Extras, render_html
from equiharness.reports.rows import rows_of, worst_first
from equiharness.reports.since import Past, When, key_of

pytestmark = pytest.mark.pages

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: Checks of the full matrix: every implementation, case, property and dtype.
FULL = 5660
MEGABYTES = 12
HOSTILE = [
    "<script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "&lt;img src=x onerror=document.title='run'&gt; &amp;",
    "\"' onmouseover='document.title=1",
    "</script></textarea><svg onload=document.title='run'>",
    "javascript:document.title='run'",
    "\u202eמרחב a\u202c",
    "w" * 10_000,
    "`${document.title='run'}`{{7*7}}",
]


@pytest.fixture(scope="module")
def chromium():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)} on PATH, e.g. `apt-get install chromium`.")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail(
            "a browser is here and what drives it is not: pip install playwright, or run the tests through tox."
        )
    with sync_playwright() as playwright:
        # In a container there is no user namespace for Chromium's own sandbox; the pages are ours.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page that keeps what went wrong on it."""

    def __init__(self, browser, file, width=1280, height=900, **how):
        self.context = browser.new_context(viewport={"width": width, "height": height}, **how)
        self.page = self.context.new_page()
        self.file, self.faults, self.requests = file, [], []
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.go("", fresh=True)

    def go(self, fragment, *, fresh=False):
        """The page at a fragment; ``fresh`` opens it anew, as somebody does who follows a link from elsewhere."""
        if fresh:
            self.page.goto("about:blank")
        self.page.goto(f"{self.file.as_uri()}{fragment and '#'}{fragment}")
        self.drawn()

    def drawn(self):
        """Wait until the page says that what its address names is drawn."""
        shown = self.page.url.partition("#")[2]
        self.page.locator(f'body[data-view="{shown or "overview"}"]').wait_for()

    def follow(self, locator):
        before = self.page.url
        locator.click()
        self.page.wait_for_url(lambda url: url != before)
        self.drawn()

    @property
    def outside(self):
        """Requests that are not for the file itself or what it holds."""
        return [url for url in self.requests if not url.startswith(("data:", "blob:", self.file.as_uri(), "about:"))]

    def sound(self):
        assert self.faults == []
        assert self.outside == []


@pytest.fixture
def open_tab(chromium):
    tabs = []

    def opened(file, **how):
        tabs.append(Tab(chromium, file, **how))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.context.close()


def extras(run):
    """Something of everything that can stand beside a run."""
    failing = [check for check in run.checks if check.fails]
    pasts = (
        Past(When("2025-12-30", "aaaaaaa"), {key_of(check): False for check in failing}),
        Past(When("2025-12-31", "bbbbbbb"), {key_of(check): i % 2 == 0 for i, check in enumerate(failing)}),
    )
    measurements = []
    for k, name in enumerate(("a.Conv", "b.Conv")):
        common = {
            "implementation": name,
            "case": "c",
            "better": "lower",
            "operator": "op",
            "dtype": "float32",
            "batch": 8,
        }
        values = {"forward": 1e-3 * (k + 1), "floor of forward": 4e-4, "equivariance error": 2e-7}
        measurements += [
            *(Measurement(quantity=q, value=v, unit="s" if "f" in q[:2] else "", **common) for q, v in values.items()),
            Measurement(quantity="intensity of forward", value=12.0 * (k + 1), unit="flop/B", **common),
        ]
    points = tuple(
        Point(Geometry(size=n, kernel=3, stride=s), "EXACT" if (n - 3) % s == 0 else "BROKEN")
        for n in (5, 6)
        for s in (1, 2)
    )
    maps = (ValidityMap("Conv", "a", "C4", points, Law("(N - k) mod s = 0", 4, 4)),)
    history = History()
    for day in range(5):
        history.add(SeriesKey("m", "forward", "op: a.Conv"), PastRun(1.7e9 + 86400 * day, f"c{day}"), 100.0 + day)
    lines = [{"change": "WORSE", "what": "a | b", "cause": "was EXACT, is BROKEN"}]
    ceilings = {"float32": {"flops_per_second": 1e11, "bytes_per_second": 1e10}}
    return Extras(pasts, {"lines": lines}, "yesterday", tuple(measurements), ceilings, maps, history)


def written(folder, checks):
    """A run and its report, with everything beside it."""
    record = os.environ.get("EQUIHARNESS_REPORT_RECORD")
    made = runpy.run_path(str(ROOT / "benchmarks" / "report_size.py"))["synthetic"]
    run = read_run(Path(record)) if record else made(checks)
    file = folder / "report.html"
    file.write_text(render_html(run, extras(run)), encoding="utf-8")
    return run, file


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """As many checks as the full matrix has."""
    return written(tmp_path_factory.mktemp("full"), FULL)


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """A tenth of it: a browser opens it in a tenth of the time."""
    return written(tmp_path_factory.mktemp("part"), FULL // 10)


def count(tab):
    """Checks that the table says it shows."""
    return int(tab.page.locator(".dt-info").inner_text().split(" of ")[1].split()[0].replace(",", ""))


def test_every_view_opens_without_errors_or_requests(full, open_tab):
    _, file = full
    assert file.stat().st_size < MEGABYTES * 1e6
    tab = open_tab(file)
    for view in ("overview", "checks", "errors", "throughput", "validity", "trends", "about"):
        tab.follow(tab.page.locator(f'.tabs a[href="#{view}"]')) if view != "overview" else None
        assert tab.page.locator(".view:visible").count() == 1
        assert tab.page.locator('.tabs a[aria-current="page"]').get_attribute("href") == f"#{view}"
    tab.sound()


def test_plots_are_drawn_and_not_only_framed(part, open_tab):
    tab = open_tab(part[1])
    for view, least in (("errors", 3), ("throughput", 3), ("validity", 1), ("trends", 1)):
        tab.go(view)
        assert tab.page.locator(f"#{view} .plot.js-plotly-plot .main-svg").count() >= least
        assert (
            tab.page.locator(f"#{view} .plot :is(.points path, .lines path, .hm image, .heatmaplayer image)").count()
            > 0
        )
    tab.sound()


def test_the_table_filters_and_the_address_keeps_it(full, open_tab):
    run, file = full
    tab = open_tab(file)
    tab.go("checks")
    assert count(tab) == len(run.checks)
    wanted = [c for c in run.checks if c.label == "SKIP" and c.property == "parity"]
    tab.page.get_by_label("verdict", exact=True).select_option("SKIP")
    tab.page.locator("#table").get_by_label("property", exact=True).select_option("parity")
    assert count(tab) == len(wanted) > 0
    address = tab.page.url
    assert "label=SKIP" in address
    assert "property=parity" in address
    tab.go(address.partition("#")[2], fresh=True)
    assert count(tab) == len(wanted)
    tab.page.get_by_role("button", name="Show all").click()
    assert count(tab) == len(run.checks)
    tab.sound()


def test_the_table_searches_and_sorts(part, open_tab):
    run, file = part
    tab = open_tab(file)
    tab.go("checks")
    name = run.checks[-1].implementation
    tab.page.get_by_label("Search", exact=True).fill(name)
    assert 0 < count(tab) < len(run.checks)
    cells = tab.page.locator("table.checks tbody tr td:nth-child(2)").all_inner_texts()
    assert all(name in cell for cell in cells)
    tab.page.get_by_role("button", name="Show all").click()
    for direction, largest in (("descending", True), ("ascending", False)):
        tab.page.locator("table.checks thead th", has_text="ratio").click()
        tab.page.locator(f'table.checks thead th[aria-sort="{direction}"]', has_text="ratio").wait_for()
        texts = tab.page.locator("table.checks tbody td:nth-child(8)").all_inner_texts()
        values = [float(t) for t in texts if t not in ("–", "NaN", "inf")]
        assert values == sorted(values, reverse=largest)
    tab.sound()


def test_one_drills_down_from_the_overview_to_a_claim_and_back(part, open_tab):
    run, file = part
    tab = open_tab(file)
    name = next(c.implementation for c in run.checks if c.attachment and c.property == "equivariance")
    tab.follow(tab.page.locator(".matrix th a", has_text=re.compile(f"^{re.escape(name)}$")))
    page = tab.page
    assert page.locator("#implementation h2").inner_text() == name
    assert page.locator("#implementation canvas").count() >= 6
    tab.follow(page.get_by_role("link", name="The check of this picture"))
    assert name in page.locator("#check h2").inner_text()
    assert page.locator("#check .diagram figure").count() >= 6
    assert page.locator("#check .plot .main-svg").count() >= 1
    page.locator("#check details", has_text="The same numbers as a table").locator("summary").click()
    assert page.locator("#check details tbody tr").count() >= 1
    page.go_back()
    page.go_back()
    tab.drawn()
    assert page.locator("#overview").is_visible()
    tab.sound()


def test_a_link_leads_to_any_check(part, open_tab):
    run, file = part
    rows = worst_first(rows_of(run))
    tab = open_tab(file)
    for row in (rows[0], rows[len(rows) // 2], rows[-1]):
        tab.go(f"check/{row.id}", fresh=True)
        title = tab.page.locator("#check h2").inner_text()
        assert row.result.property in title
        assert row.implementation in title
        assert row.result.label in tab.page.locator("#check .chip").first.inner_text()
    tab.go("check/0123456789")
    assert "No such check" in tab.page.locator("#check h2").inner_text()
    tab.go("nonsense/%E0%A4%A/?x")
    assert tab.page.locator("#overview").is_visible()
    tab.sound()


def test_the_first_screen_says_what_broke_and_since_when(full, open_tab):
    run, file = full
    failing = {(c.implementation, c.property) for c in run.checks if c.fails}
    tab = open_tab(file)
    shown = tab.page.locator(".faults").first.locator("tbody tr")
    for i in range(shown.count()) if failing else ():
        row = shown.nth(i)
        name, prop = row.locator("th").inner_text(), row.locator("td").nth(1).inner_text().split("\n")[0]
        assert (name, prop.strip()) in failing
        assert re.search(r"held on 2025-12-3[01]", row.inner_text())
        assert row.bounding_box()["y"] < 900
    tab.sound()


def test_the_keyboard_alone_reaches_a_claim(part, open_tab):
    tab = open_tab(part[1])
    page = tab.page
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Skip to the answer"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Every check"
    page.keyboard.press("Enter")
    page.locator('body[data-view="checks"]').wait_for()
    assert page.locator(":focus").inner_text() == "Every check"  # the heading of the view
    page.locator("table.checks tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#check/"))
    tab.drawn()
    assert page.locator("#check h2:focus").count() == 1
    tab.sound()


def test_a_stabilised_view_moves_on_by_keyboard_and_names_its_element(part, open_tab):
    run, file = part
    rotated = {name for name, a in run.attachments.items() if len(a.rotated) > 1}
    row = next((r for r in rows_of(run) if r.result.attachment in rotated), None)
    if row is None:
        pytest.skip("the given record is of a version without stabilised views.")
    tab = open_tab(file)
    tab.go(f"check/{row.id}")
    slider = tab.page.locator("#check input[type=range]")
    first = slider.get_attribute("aria-valuetext")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") != first
    tab.sound()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_nothing_is_wider_than_the_screen(part, open_tab, width, scheme):
    run, file = part
    tab = open_tab(file, width=width, color_scheme=scheme)
    # The page's own policy forbids scripts that are handed to it: the browser itself is asked.
    browser = tab.context.new_cdp_session(tab.page)
    row = next(r for r in rows_of(run) if r.result.attachment)
    for view in ("", "checks", "throughput", "about", f"check/{row.id}"):
        tab.go(view)
        assert browser.send("Page.getLayoutMetrics")["cssContentSize"]["width"] <= width, view
    tab.sound()


def test_hostile_names_are_shown_and_never_executed(tmp_path, make, open_tab):
    checks = [
        make.check(
            Verdict.BROKEN if i % 2 else Verdict.EXACT,
            implementation=name,
            case=name,
            property=name,
            group=name,
            source=name,
            element=name,
            reason=Reason(code="ERROR", message=name),
            reproduce=name,
            elements=(ElementResult(element=name, error=1.0, bound=1e-13),) * 2,
            attachment="a",
        )
        for i, name in enumerate(HOSTILE)
    ]
    attachment = make.attachment().model_copy(update={"element": HOSTILE[0], "note": HOSTILE[1]})
    run = make.run(*checks, truncated=HOSTILE[1], attachments={"a": attachment})
    run.header.environment[HOSTILE[1]] = HOSTILE[1]
    figures = tuple(
        Measurement(implementation=n, operator=n, case=n, quantity=q, value=1e-3, unit="s", better="lower", dtype=n)
        for n in HOSTILE
        for q in ("forward", "equivariance error", "floor of forward")
    )
    file = tmp_path / "hostile <b> & #1.html"
    file.write_text(render_html(run, Extras(measurements=figures, against=HOSTILE[0])), encoding="utf-8")
    tab = open_tab(file)
    for view in ("", "checks", "errors", "throughput", "about"):
        tab.go(view)
    tab.go("checks")
    tab.page.get_by_label("Search", exact=True).fill("onerror")
    assert count(tab) == 2
    for i, (row, name) in enumerate(zip(rows_of(run), HOSTILE, strict=True)):
        tab.go(f"check/{row.id}")
        title = tab.page.locator("#check h2 bdi").first
        assert title.text_content() == name
        assert tab.page.locator("#check code").first.text_content() == name
        assert tab.page.locator("#check .plot").first.bounding_box()["width"] < 1300
        if i % 3 == 0:
            tab.follow(tab.page.locator("#check .crumbs a").nth(1))
            assert tab.page.locator("#implementation h2").text_content() == name
    assert tab.page.locator("img").count() == 0
    assert "run" not in tab.page.title().split(": equiharness")[-1]
    time.sleep(0.2)  # a handler that was armed would have fired
    assert "equiharness report" in tab.page.title()
    tab.sound()


def test_a_script_that_is_not_ours_is_refused_and_noticed(tmp_path, make, open_tab):
    """The twin of the tests above: a page that does run something is caught."""
    text = render_html(make.run(make.check()))
    file = tmp_path / "report.html"
    file.write_text(text.replace("</main>", '<img src="http://127.0.0.1:9/x" onerror="document.title=1"></main>'))
    tab = open_tab(file)
    assert any("Content Security Policy" in fault for fault in tab.faults)
    assert tab.page.title() != "1"
    with pytest.raises(AssertionError):
        tab.sound()


def test_the_trend_page_opens_without_errors_or_requests(tmp_path, open_tab):
    from equiharness.reports.trend import render_trend

    history = History()
    for day in range(40):
        history.add(SeriesKey("m", "forward", "<b>op</b>"), PastRun(1.7e9 + 86400 * day, f"c{day}"), 1.0 + (day > 20))
    file = tmp_path / "trend.html"
    file.write_text(render_trend(history), encoding="utf-8")
    tab = open_tab(file)
    assert tab.page.locator(".plot .main-svg").count() >= 1
    assert tab.page.locator("#series select").count() == 3
    tab.sound()
