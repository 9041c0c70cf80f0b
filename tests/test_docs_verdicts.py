"""docs/verdicts.md has a place for every verdict and every property; its examples are run by test_docs.py."""

import re
from pathlib import Path

from equiharness.harness.verdict.result import Verdict
from equiharness.suites.properties import PLANNED, PROPERTIES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "verdicts.md"


def test_every_verdict_and_every_property_has_its_place():
    text = PAGE.read_text(encoding="utf-8")
    assert [v for v in Verdict if not re.search(rf"\*\*[^*]*\b{v}\b", text) and f"*{v}(" not in text] == []
    named = [name for name in PROPERTIES if name in PLANNED or name == "batch"]  # those beside the systems of points
    assert re.findall(r"^\| (\w+) \|", text, re.M)[1:] == named
