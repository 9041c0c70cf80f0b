"""The table of times, memory and errors."""

from equiharness.harness.records.lines import EndLine, Measurement, Run, RunLine
from equiharness.reports.changes import render_changes
from equiharness.reports.throughput import render_throughput


def run(*measurements, ended=True):
    header = RunLine(started="", command="", seed=0, planned=1, environment={"processor": "a CPU", "cores": 2})
    end = EndLine(seconds=1, seconds_in_layers=0, counts={}) if ended else None
    return Run(header, measurements=list(measurements), end=end)


def m(quantity, value, unit="s", **more):
    values = {"implementation": "a.B", "case": "c", "operator": "op", "dtype": "float32", "batch": 8, **more}
    return Measurement(quantity=quantity, value=value, unit=unit, better="lower", **values)


def test_one_row_for_each_implementation_and_setting():
    text = render_throughput(run(m("forward", 2e-3), m("forward", 1e-3, setting="compiled"), m("memory", 2**20, "B")))
    assert "## op, float32, batch 8" in text
    assert "| a.B | 2.00 ms | 1.00 MiB |" in text
    assert "| a.B (compiled) | 1.00 ms | – |" in text


def test_the_backend_that_ran_stands_beside_the_layer_that_tells():
    text = render_throughput(
        run(
            m("forward", 2e-3, backend="fourier"),
            m("backward", 4e-3, backend="fast"),
            m("forward", 1e-3, implementation="c.D"),
        )
    )
    assert "| implementation | backend | forward | backward |" in text
    assert "| a.B | fourier; training: fast | 2.00 ms | 4.00 ms |" in text
    assert "| c.D | – | 1.00 ms | – |" in text


def test_wide_spreads_are_marked():
    assert "2.00 ms !" in render_throughput(run(m("forward", 2e-3, note="wide spread: p90 is 3 times p10")))


def test_an_unconstrained_layer_has_no_equivariance():
    text = render_throughput(run(m("forward", 1.0), m("equivariance error", 1.7, "")))
    assert "| none |" in text


def test_an_interrupted_run_says_so():
    assert "interrupted" in render_throughput(run(m("forward", 1.0), ended=False))


def test_what_got_worse_comes_first_and_the_rest_is_counted():
    lines = [{"change": "SAME", "what": f"s{i}", "cause": "c"} for i in range(60)]
    lines += [{"change": "WORSE", "what": "a | b", "cause": "slow"}]
    text = render_changes({"counts": {"WORSE": 1, "SAME": 60}, "notes": ["careful"], "lines": lines}, "x", "y")
    assert text.startswith("# ✗ WORSE: y against x")
    assert "> careful" in text
    assert "| a \\| b | slow |" in text
    assert text.index("slow") < text.index("s0")
    assert "and 10 more." in text
