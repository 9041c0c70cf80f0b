"""The proof of the checks is shown as counts, and says so where something slipped through."""

import dataclasses
import json

import pytest
from equiharness.reports import html, markdown
from equiharness.reports.proof import Proof, committed_proof

DATA = {
    "faults": {"planted": 90, "caught": 90, "by_property": {"adjoint": 7, "equivariance": 83}},
    "generated": {"planted": 40, "caught": 40, "smallest": {"tap": ["1e-6", "1e-5"]}},
    "sound": {"layers": 12, "checks": 1234, "false_alarms": 0},
    "versions": {"torch": "2.8"},
}


@pytest.fixture
def proof(monkeypatch):
    made = Proof.of(DATA)
    for module in (html, markdown):
        monkeypatch.setattr(module, "committed_proof", lambda: made)
    return made


def test_both_reports_show_caught_of_planted_and_alarms_of_checks(make, proof):
    pytest.importorskip("plotly")
    run = make.run(make.check())
    for text in (markdown.render_markdown(run), html.render_html(run)):
        assert "90 of 90 faults made by hand were caught" in text
        assert "40 of 40 generated faults were caught" in text
        assert "one tap from 1e-6 to 1e-5" in text
        assert "0 false alarms in 1234 checks of 12 sound layers" in text


@pytest.mark.parametrize("change", [{"caught": 89}, {"generated_caught": 39}, {"false_alarms": 1}])
def test_a_proof_with_a_hole_does_not_hold(proof, change):
    assert proof.holds
    assert not dataclasses.replace(proof, **change).holds


def test_without_a_proof_nothing_is_claimed(tmp_path):
    assert committed_proof(tmp_path / "proof.json") is None
    (tmp_path / "proof.json").write_text(json.dumps(DATA))
    assert committed_proof(tmp_path / "proof.json") == Proof.of(DATA)
