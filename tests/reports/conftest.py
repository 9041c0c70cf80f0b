from __future__ import annotations

import struct
from typing import Any

import pytest
from equiharness.harness.records.lines import Attachment, EndLine, Panel, Run, RunLine
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import CheckResult, ElementResult, Reason, Verdict

TITLES = ("x", "g x", "f(x)", "g f(x)", "f(g x)", "f(g x) - g f(x)")


class Make:
    """Small synthetic records."""

    @staticmethod
    def check(verdict: Verdict = Verdict.EXACT, **changes: Any) -> CheckResult:
        values: dict[str, Any] = {
            "property": "equivariance",
            "verdict": verdict,
            "reason": Reason(code=Code.read(verdict), message=f"because of {verdict}"),
            "implementation": "ours",
            "case": "small",
            "error": 1e-15,
            "bound": 1e-13,
            "power": 1e9,
            "elements": tuple(ElementResult(element=f"r{i}", error=i * 1e-15, bound=1e-13) for i in range(4)),
            "reproduce": "equiharness verify ours --case small",
        }
        return CheckResult(**{**values, **changes})

    @staticmethod
    def run(*checks: CheckResult, end: bool = True, **changes: Any) -> Run:
        header = RunLine(
            started="2026-01-01",
            command="equiharness verify",
            seed=0,
            planned=len(checks),
            environment={"python": "3.12", "versions": {"torch": "2.8"}},
        )
        closing = EndLine(seconds=3.0, seconds_in_layers=2.0, counts={}) if end else None
        return Run(header, list(checks), end=closing, **changes)

    @staticmethod
    def attachment(values: tuple[float, float, float, float] = (0.0, 1.0, -2.0, 0.5)) -> Attachment:
        data = struct.pack("<4f", *values)
        return Attachment(id="a", element="r1", panels=tuple(Panel.of(title, 2, 2, data) for title in TITLES))


@pytest.fixture
def make() -> type[Make]:
    return Make
