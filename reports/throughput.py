"""Times, memory and errors side by side: one Markdown table for each operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..harness.records.lines import Measurement, Run
from .numbers import MISSING, number

#: Column headings and the quantities of the columns.
COLUMNS = (
    ("forward", "forward"),
    ("cold", "forward cold"),
    ("backward", "backward"),
    ("samples/s", "samples per second"),
    ("of floor", "share of floor, forward"),
    ("backward, of floor", "share of floor, backward"),
    ("memory", "memory"),
    ("training memory", "training memory"),
    ("error", "error against float64"),
    ("equivariance", "equivariance error"),
    ("build", "build"),
)
#: Rounding of no precision explains a larger equivariance error: the layer is not equivariant.
NONE = 0.1


def render_throughput(run: Run) -> str:
    """The measurements of a run as Markdown: a section for each operator and precision.

    Example:
        >>> from equiharness.harness.records.lines import RunLine
        >>> print(render_throughput(Run(RunLine(started="", command="bench", seed=0, planned=0, environment={}))))
        # Throughput
        <BLANKLINE>
        Nothing was measured.
        <BLANKLINE>
    """
    lines = ["# Throughput", ""]
    if not run.measurements:
        return "\n".join([*lines, "Nothing was measured.", ""])
    if run.truncated:
        lines += [f"> {run.truncated}", ""]
    elif run.end is None:
        lines += ["> The run was interrupted: the tables show only finished measurements.", ""]
    lines += [_machine(run), ""]
    for (operator, dtype, batch), found in grouped(run.measurements).items():
        lines += [f"## {operator}, {dtype}, batch {batch}", "", *table(found), ""]
    lines += ["Times are medians; `!` marks a wide spread. Cold: caches flushed before each call.", ""]
    return "\n".join(lines)


def grouped(measurements: Iterable[Measurement]) -> dict[tuple[str, str, int], list[Measurement]]:
    """Measurements grouped by operator, precision and batch; those of one group are comparable."""
    groups: dict[tuple[str, str, int], list[Measurement]] = {}
    for m in measurements:
        groups.setdefault((m.operator, m.dtype, m.batch), []).append(m)
    return groups


def cells(measurements: Iterable[Measurement]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: one row for each implementation, one column for each measured quantity."""
    rows: dict[tuple[str, str, str], dict[str, Measurement]] = {}
    for m in measurements:
        rows.setdefault((m.implementation, m.case, m.setting), {})[m.quantity] = m
    columns = [(head, q) for head, q in COLUMNS if any(q in row for row in rows.values())]
    has_backend = any(m.backend for row in rows.values() for m in row.values())
    table = []
    for (name, _, setting), row in rows.items():
        label = name if setting in ("", "eager") else f"{name} ({setting})"
        table.append([label, *([backend_of(row)] if has_backend else []), *(shown(row.get(q)) for _, q in columns)])
    return ["implementation", *(["backend"] if has_backend else []), *(head for head, _ in columns)], table


def backend_of(row: Mapping[str, Measurement]) -> str:
    """The backend that a layer used: one name, or one for inference and one for training.

    Example:
        >>> m = Measurement(case="", quantity="forward", value=1, unit="s", better="lower", backend="fast")
        >>> backend_of({"forward": m, "backward": m.model_copy(update={"backend": "fourier"})})
        'fast; training: fourier'
    """
    forward, training = (row[q].backend if q in row else "" for q in ("forward", "backward"))
    if not training or training == forward:
        return forward or MISSING
    return f"{forward or MISSING}; training: {training}"


def tables_of(measurements: Iterable[Measurement]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The title, heads and rows of each group."""
    groups = grouped(measurements).items()
    return [(f"{operator}, {dtype}, batch {batch}", *cells(found)) for (operator, dtype, batch), found in groups]


def table(measurements: Iterable[Measurement]) -> list[str]:
    """Rows by implementation, columns by quantity, as Markdown."""
    heads, rows = cells(measurements)
    return [_row(heads), _row(["---", *("---:" for _ in heads[1:])]), *map(_row, rows)]


def shown(m: Measurement | None) -> str:
    """One measurement in the most readable unit; a wide spread is marked."""
    if m is None:
        return MISSING
    mark = " !" if "wide" in m.note else ""
    if m.unit == "s":
        return duration(m.value) + mark
    if m.unit == "B":
        return f"{m.value / 2**20:.2f} MiB"
    if m.unit == "1/s":
        return f"{m.value:,.0f}"
    if m.quantity.startswith("share of floor"):
        return f"{100 * m.value:.0f} %"
    if m.quantity == "equivariance error" and m.value > NONE:
        return "none"
    return number(m.value)


def duration(value: float) -> str:
    """A duration with three digits.

    Example:
        >>> duration(0.0021127), duration(4.2e-5), duration(2.5)
        ('2.11 ms', '42.0 µs', '2.50 s')
    """
    scaled, unit = (value, "s") if value >= 1 else (1e3 * value, "ms") if value >= 1e-3 else (1e6 * value, "µs")
    digits = 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{scaled:.{digits}f} {unit}"


def _machine(run: Run) -> str:
    """One line about the machine of the measurements."""
    environment = run.header.environment
    state = environment.get("machine_state", {})
    threads = sorted({m.threads for m in run.measurements if m.threads})
    words = [str(environment.get("processor") or environment.get("machine") or "unknown machine")]
    words += [f"{environment.get('cores')} cores"] if environment.get("cores") else []
    words += [f"{'/'.join(map(str, threads))} torch threads"] if threads else []
    words += [f"load {state['load'][0]} at the start"] if state.get("load") else []
    for dtype, found in environment.get("ceilings", {}).items():
        rates = f"{found['flops_per_second'] / 1e9:.0f} Gflop/s, {found['bytes_per_second'] / 1e9:.1f} GB/s"
        words.append(f"{dtype} ceilings {rates}")
    return "; ".join(words) + "."


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
