from __future__ import annotations

import json
import math
import re
import sys
from html.parser import HTMLParser

import pytest
from equiharness.harness.errors import MissingDependencyError
from equiharness.harness.verdict import ElementError, Reason, Resolution, Verdict
from equiharness.reports import html
from equiharness.reports.html import render_html
from equiharness.reports.plots import script_json

HOSTILE = [
    "<script>alert(1)</script>",
    "\"' onmouseover='x()",
    "</script><img src=x onerror=y()>",
    "<!--<script>",
    "מרחב",
]


@pytest.fixture
def without_plotly(monkeypatch):
    """The plotting library is 5 MB: parse the page without it."""
    monkeypatch.setattr(html, "_plotly", lambda: "/* plotly */")


class Page(HTMLParser):
    """Tags with attributes, and the text inside each kind of tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inside, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style", "h1", "title"):
            self._open.append(tag)
            self.inside.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if self._open:
            self.inside[self._open[-1]][-1] += data


def plots(text):
    return json.loads(Page(text).inside["script"][0])


def references(text):
    """Everything that a browser would load."""
    page = Page(text)
    found = [v for tag, a in page.tags for k, v in a.items() if k in ("src", "srcset", "data", "poster", "action")]
    found += [a["href"] for tag, a in page.tags if "href" in a]
    return found + re.findall(r"url\(([^)]*)\)|@import ([^;]*)", "".join(page.inside["style"]))


def test_the_page_refers_to_nothing_outside_itself(make):
    check = make.check(attachment="a")
    text = render_html(make.run(check, attachments={"a": make.attachment()}))
    assert len(text) > 1_000_000  # the plotting library is inside
    assert references(text)
    assert all(r.startswith(("#", "data:")) for r in references(text))
    policy = next(a["content"] for tag, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_a_reference_outside_would_be_seen():
    assert references('<style>a{}</style><img src="https://x.org/a.png">') == ["https://x.org/a.png"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_never_executed(make, without_plotly, name):
    def page(name):
        check = make.check(
            Verdict.BROKEN,
            implementation=name,
            case=name,
            property=name,
            element=name,
            reason=Reason(code=name, message=name),
            reproduce=name,
            elements=(ElementError(element=name, error=1.0, bound=1e-13),),
            attachment="a",
        )
        attachment = make.attachment().model_copy(update={"element": name})
        run = make.run(check, truncated=name, attachments={"a": attachment})
        run.header.environment[name] = name
        return Page(text := render_html(run)), text

    (hostile, text), (tame, _) = page(name), page("tame")
    # Exactly the tags and attributes of a page with a tame name: no name added any.
    shape = [[(tag, sorted(a)) for tag, a in page.tags] for page in (hostile, tame)]
    assert shape[0] == shape[1]
    assert plots(text)["check-0"]["elements"][0][0] == name


def test_data_for_the_script_cannot_end_its_tag():
    text = script_json({"</script>": "<!-- & \u2028"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"</script>": "<!-- & \u2028"}


def test_a_name_of_ten_thousand_characters_renders(make, without_plotly):
    text = render_html(make.run(make.check(implementation="x" * 10_000, case="y" * 10_000)))
    assert "y" * 10_000 in text


def test_lazily_plotted_data_contains_every_element(make, without_plotly):
    elements = tuple(ElementError(element=f"g{i}", error=float(i), bound=1e-13) for i in range(48))
    text = render_html(make.run(make.check(), make.check(elements=elements)))
    drawn = plots(text)["check-1"]["elements"]
    assert [row[:3] for row in drawn] == [[f"g{i}", float(i), 1e-13] for i in range(48)]


def test_resolutions_are_plotted_and_listed(make, without_plotly):
    sizes = tuple(Resolution(size=n, error=0.0421, floor=0.0117, control=0.913) for n in (17, 33, 65))
    text = render_html(make.run(make.check(Verdict.APPROXIMATE, error=None, bound=None, resolutions=sizes, gain=21.5)))
    assert [row[0] for row in plots(text)["check-0"]["resolutions"]] == [17, 33, 65]
    assert all(t in text for t in ("0.0421", "0.0117", "0.913", "21.5"))


def test_nan_and_infinity_show_as_such(make, without_plotly):
    elements = (
        ElementError(element="a", error=math.nan, bound=math.inf),
        ElementError(element="b", error=0.0, bound=0.0),
    )
    text = render_html(make.run(make.check(Verdict.BROKEN, error=math.nan, power=math.inf, elements=elements)))
    assert plots(text)["check-0"]["elements"][0][1:3] == ["NaN", "inf"]
    assert "<dd>NaN</dd>" in text
    assert "<dd>inf" in text


def test_pictures_show_values_that_are_not_finite(make, without_plotly):
    attachment = make.attachment((math.nan, math.inf, 0.0, 0.0))
    text = render_html(make.run(make.check(attachment="a"), attachments={"a": attachment}))
    assert text.count("data:image/png;base64,") == 6
    assert "2 NaN or inf (grey)" in text


def test_a_damaged_picture_costs_only_the_picture(make, without_plotly):
    attachment = make.attachment()
    broken = attachment.panels[0].model_copy(update={"rows": 3})
    attachment = attachment.model_copy(update={"panels": (broken, *attachment.panels[1:])})
    text = render_html(make.run(make.check(attachment="a"), attachments={"a": attachment}))
    assert text.count("data:image/png;base64,") == 5


def test_what_fails_comes_first_and_the_answer_before_it(make, without_plotly):
    checks = [
        make.check(case="good"),
        make.check(Verdict.BROKEN, case="bad"),
        make.check(Verdict.CRASHED, case="worse"),
    ]
    text = render_html(make.run(*checks))
    places = [text.index(t) for t in ("FAIL</h1>", 'href="#check-2"', 'href="#check-1"', 'id="check-0"')]
    # The header's link to the worst ratio may come earlier; the list is what is ordered.
    start = text.index('class="failures"')
    assert text.index('href="#check-2"', start) < text.index('href="#check-1"', start) < places[3]
    assert places[0] < start


def test_a_page_without_checks_says_so(make, without_plotly):
    text = render_html(make.run())
    assert "NOTHING CHECKED" in Page(text).inside["h1"][-1] + text
    assert "No checks were recorded" in text


def test_an_interrupted_run_says_so_and_does_not_pass(make, without_plotly):
    text = render_html(make.run(make.check(), end=False))
    assert "interrupted" in text
    assert "INCOMPLETE" in Page(text).inside["title"][0]
    assert "interrupted" not in render_html(make.run(make.check()))


def test_a_truncated_run_says_so(make, without_plotly):
    assert "line 7 is cut off" in render_html(make.run(make.check(), truncated="line 7 is cut off"))


def test_a_missing_library_names_its_purpose_and_the_install_command(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=r"HTML report needs jinja2.*pip install 'equiharness\[report\]'"):
        render_html(make.run())


def test_declared_deviations_are_shown_with_their_reason(make, without_plotly):
    known = make.check(Verdict.BROKEN, expected="no weight is shared.", expected_verdict=Verdict.BROKEN)
    gone = make.check(Verdict.EXACT, expected="another reason.", expected_verdict=Verdict.BROKEN)
    text = render_html(make.run(known, gone))
    assert "Deviations as declared" in text
    assert 'data-label="EXPECTED"' in text
    assert "declared BROKEN (another reason.) and found EXACT" in text
    assert "Deviations as declared" not in render_html(make.run(make.check()))
