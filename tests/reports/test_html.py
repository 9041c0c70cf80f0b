from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import re
import sys
from html.parser import HTMLParser

import pytest
from equiharness.harness.errors import MissingDependencyError
from equiharness.harness.records.lines import Measurement
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import ElementResult, Reason, Resolution, Verdict
from equiharness.reports import bundles
from equiharness.reports.html import Extras, render_html
from equiharness.reports.rows import rows_of
from equiharness.reports.since import Past, When, key_of

HOSTILE = [
    "<script>alert(1)</script>",
    "\"' onmouseover='x()",
    "</script><img src=x onerror=y()>",
    "<!--<script>",
    "מרחב",
]


@pytest.fixture
def without_libraries(monkeypatch):
    """The libraries are 2 MB: parse the page without them."""
    monkeypatch.setattr(bundles, "plotly_script", lambda: "/* plotly */")
    monkeypatch.setattr(bundles, "table_script", lambda: "/* tables */")


class Page(HTMLParser):
    """Tags with attributes, and the text inside each kind of tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inside, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style", "h1", "title", "dd"):
            self._open.append(tag)
            self.inside.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if self._open:
            self.inside[self._open[-1]][-1] += data


def packed(text, name="data"):
    """What the page's script unpacks."""
    found = re.search(f'id="{name}">([^<]*)<', text)
    return json.loads(gzip.decompress(base64.b64decode(found.group(1))))


def references(text):
    """Everything that a browser would load."""
    page = Page(text)
    found = [v for tag, a in page.tags for k, v in a.items() if k in ("src", "srcset", "data", "poster", "action")]
    found += [a["href"] for tag, a in page.tags if "href" in a]
    return found + re.findall(r"url\(([^)]*)\)|@import ([^;]*)", "".join(page.inside["style"]))


def policy(text):
    return next(a["content"] for tag, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy")


def test_the_page_refers_to_nothing_outside_itself(make):
    check = make.check(attachment="a")
    text = render_html(make.run(check, attachments={"a": make.attachment()}))
    assert len(text) > 1_000_000  # the plotting library is inside
    assert references(text)
    assert all(r.startswith(("#", "data:")) for r in references(text))
    assert "default-src 'none'" in policy(text)
    assert "http" not in policy(text)


def test_a_reference_outside_would_be_seen():
    assert references('<style>a{}</style><img src="https://x.org/a.png">') == ["https://x.org/a.png"]


def test_the_policy_lets_our_own_script_run_and_no_other_inline_one(make, without_libraries):
    text = render_html(make.run(make.check()))
    digest = base64.b64encode(hashlib.sha256(Page(text).inside["script"][-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}' blob:;" in policy(text)
    assert "'unsafe-inline'" not in policy(text).partition("script-src")[2]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_never_executed(make, without_libraries, name):
    def page(name):
        check = make.check(
            Verdict.BROKEN,
            implementation=name,
            case=name,
            property=name,
            element=name,
            reason=Reason(code=Code.read(name), message=name),
            reproduce=name,
            elements=(ElementResult(element=name, error=1.0, bound=1e-13),),
            attachment="a",
        )
        attachment = make.attachment().model_copy(update={"element": name})
        run = make.run(check, truncated=name, attachments={"a": attachment})
        run.header.environment[name] = name
        figure = Measurement(implementation=name, case=name, quantity="forward", value=1, unit="s", better="lower")
        past = Past(When(name, name), {key_of(check): False})
        lines = [{"change": "WORSE", "what": name, "cause": name}]
        extras = Extras(pasts=(past,), changes={"lines": lines}, against=name, measurements=(figure,))
        return Page(text := render_html(run, extras)), text

    (hostile, text), (tame, _) = page(name), page("tame")
    # Exactly the tags and attributes of a page with a tame name: no name added any.
    shape = [[(tag, sorted(a)) for tag, a in page.tags] for page in (hostile, tame)]
    assert shape[0] == shape[1]
    assert packed(text)["checks"][0]["elements"][0][0] == name
    assert packed(text, "pictures")[0]["element"] == name


def test_a_name_of_ten_thousand_characters_renders(make, without_libraries):
    text = render_html(make.run(make.check(implementation="x" * 10_000, case="y" * 10_000)))
    assert packed(text)["checks"][0]["case"] == "y" * 10_000
    assert "x" * 10_000 in text


def test_the_data_hold_every_element(make, without_libraries):
    elements = tuple(ElementResult(element=f"g{i}", error=float(i), bound=1e-13) for i in range(48))
    text = render_html(make.run(make.check(elements=elements)))
    drawn = packed(text)["checks"][0]["elements"]
    assert [row[:3] for row in drawn] == [[f"g{i}", float(i), 1e-13] for i in range(48)]


def test_the_data_hold_every_resolution(make, without_libraries):
    sizes = tuple(Resolution(size=n, error=0.0421, floor=0.0117, control=0.913) for n in (17, 33, 65))
    text = render_html(make.run(make.check(Verdict.APPROXIMATE, error=None, bound=None, resolutions=sizes, gain=21.5)))
    check = packed(text)["checks"][0]
    assert check["resolutions"] == [[n, 0.0421, 0.0117, 0.913] for n in (17, 33, 65)]
    assert check["gain"] == 21.5


def test_nan_and_infinity_are_told_apart_from_numbers(make, without_libraries):
    elements = (
        ElementResult(element="a", error=math.nan, bound=math.inf),
        ElementResult(element="b", error=0.0, bound=0.0),
    )
    text = render_html(make.run(make.check(Verdict.BROKEN, error=math.nan, power=math.inf, elements=elements)))
    check = packed(text)["checks"][0]
    assert (check["error"], check["ratio"], check["power"]) == ("NaN", "NaN", "inf")
    assert check["elements"][0][1:3] == ["NaN", "inf"]


def test_pictures_show_values_that_are_not_finite(make, without_libraries):
    attachment = make.attachment((math.nan, math.inf, 0.0, 0.0))
    text = render_html(make.run(make.check(attachment="a"), attachments={"a": attachment}))
    panel = packed(text, "pictures")[0]["panels"][0]
    assert panel["strange"] == 2
    assert list(base64.b64decode(panel["data"])) == [255, 255, 127, 127]


def test_zero_is_white_and_the_largest_values_have_the_ends_of_the_palette(make, without_libraries):
    text = render_html(make.run(make.check(attachment="a"), attachments={"a": make.attachment((0.0, 2.0, -2.0, 1.0))}))
    panel = packed(text, "pictures")[0]["panels"][0]
    assert list(base64.b64decode(panel["data"])) == [127, 254, 0, 190]


def test_a_damaged_picture_costs_only_the_picture(make, without_libraries):
    attachment = make.attachment()
    broken = attachment.panels[0].model_copy(update={"rows": 3})
    attachment = attachment.model_copy(update={"panels": (broken, *attachment.panels[1:])})
    text = render_html(make.run(make.check(attachment="a"), attachments={"a": attachment}))
    assert len(packed(text, "pictures")[0]["panels"]) == 5


def test_a_picture_that_checks_share_is_kept_once(make, without_libraries):
    checks = [make.check(case=c, attachment="a") for c in "xyz"]
    text = render_html(make.run(*checks, attachments={"a": make.attachment()}))
    assert len(packed(text, "pictures")) == 1
    assert [check["picture"] for check in packed(text)["checks"]] == [0, 0, 0]


def test_what_fails_comes_first_and_the_answer_before_it(make, without_libraries):
    checks = [
        make.check(case="good"),
        make.check(Verdict.BROKEN, implementation="mine", property="parity"),
        make.check(Verdict.CRASHED, implementation="worse"),
    ]
    text = render_html(make.run(*checks))
    places = [text.index(t) for t in ("FAIL</h1>", "What broke", ">worse<", ">mine<", "Implementations and properties")]
    assert places == sorted(places)
    assert [check["label"] for check in packed(text)["checks"]] == ["FAIL", "FAIL", "PASS"]


def test_the_page_says_since_when_a_claim_fails(make, without_libraries):
    broken, other = make.check(Verdict.BROKEN), make.check(Verdict.BROKEN, case="other")
    pasts = (
        Past(When("2025-12-30", "aaaa"), {key_of(broken): False, key_of(other): True}),
        Past(When("2025-12-31", "bbbb"), {key_of(broken): True, key_of(other): True}),
    )
    text = render_html(make.run(broken, other), Extras(pasts=pasts))
    shown = re.sub("<[^>]*>", "", text)
    assert "2025-12-31, bbbb held on 2025-12-30, aaaa" in shown
    assert "2025-12-30, aaaa or before" in shown
    assert "--before" in render_html(make.run(broken))


def test_what_changed_is_counted_and_linked_to_its_checks(make, without_libraries):
    run = make.run(make.check(Verdict.BROKEN))
    lines = [
        {"change": "WORSE", "what": "ours | small | equivariance | float32", "cause": "was EXACT, is BROKEN"},
        {"change": "BETTER", "what": "gone", "cause": "b"},
        {"change": "SAME", "what": "same", "cause": "c"},
        {"change": "SAME", "what": "other", "cause": "new: EXACT"},
    ]
    text = render_html(run, Extras(changes={"lines": lines}, against="yesterday"))
    assert "1 check worse" in text
    assert "1 check new" in text
    assert "was EXACT, is BROKEN" in text
    assert text.count(f'href="#check/{rows_of(run)[0].id}"') >= 2
    assert "Nothing changed: every check" in render_html(run, Extras(changes={"lines": []}, against="yesterday"))
    assert "What changed" not in render_html(run)


def test_a_page_without_checks_says_so(make, without_libraries):
    text = render_html(make.run())
    assert "NOTHING CHECKED" in Page(text).inside["h1"][-1]
    assert "No checks were recorded" in text


def test_an_interrupted_run_says_so_and_does_not_pass(make, without_libraries):
    text = render_html(make.run(make.check(), end=False))
    assert "interrupted" in text
    assert "INCOMPLETE" in Page(text).inside["title"][0]
    assert "interrupted" not in render_html(make.run(make.check()))


def test_a_truncated_run_says_so(make, without_libraries):
    assert "line 7 is cut off" in render_html(make.run(make.check(), truncated="line 7 is cut off"))


@pytest.mark.parametrize("library", ["jinja2", "plotly.offline", "itables"])
def test_a_missing_library_names_its_purpose_and_the_install_command(make, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    name = library.partition(".")[0]
    text = rf"HTML report needs {name}.*pip install 'equiharness\[report\]'"
    with pytest.raises(MissingDependencyError, match=text):
        render_html(make.run(make.check()))


def test_declared_deviations_are_shown_with_their_reason(make, without_libraries):
    known = make.check(Verdict.BROKEN, expected="no weight is shared.", expected_verdict=Verdict.BROKEN)
    gone = make.check(Verdict.EXACT, expected="another reason.", expected_verdict=Verdict.BROKEN)
    text = render_html(make.run(known, gone))
    assert "Deviations as declared" in text
    assert [check["label"] for check in packed(text)["checks"]] == ["FAIL", "EXPECTED"]
    assert "declared BROKEN (another reason.) and found EXACT" in text
    assert "Deviations as declared" not in render_html(make.run(make.check()))
