"""A comparison of two records as Markdown, with what got worse first."""

from __future__ import annotations

from typing import Any

#: Outcomes in the order of the page, and their signs.
ORDER = {"WORSE": "✗", "AMBIGUOUS": "?", "BETTER": "✓", "SAME": "="}
#: Lines listed of each outcome; further lines are only counted.
LISTED = {"WORSE": 200, "AMBIGUOUS": 100, "BETTER": 100, "SAME": 50}


def render_changes(found: dict[str, Any], old: str, new: str) -> str:
    """The comparison as Markdown.

    Args:
        found: ``Changes.data()``.
        old: name of the first record.
        new: name of the second.

    Example:
        >>> print(render_changes({"counts": {"SAME": 0}, "notes": [], "lines": []}, "a", "b"))
        # = SAME: b against a
        <BLANKLINE>
        Nothing was compared.
        <BLANKLINE>
    """
    counts = {name: found["counts"].get(name, 0) for name in ORDER}
    worst = next((name for name in ("WORSE", "AMBIGUOUS", "BETTER") if counts[name]), "SAME")
    lines = [f"# {ORDER[worst]} {worst}: {new} against {old}", ""]
    total = sum(counts.values())
    lines += [
        ", ".join(f"{n} {name}" for name, n in counts.items() if n) + "." if total else "Nothing was compared.",
        "",
    ]
    lines += [text for note in found["notes"] for text in (f"> {note}", "")]
    for name, sign in ORDER.items():
        listed = [line for line in found["lines"] if line["change"] == name]
        if listed:
            lines += [f"## {sign} {name}", "", "| what | how |", "| --- | --- |"]
            lines += [f"| {_cell(line['what'])} | {_cell(line['cause'])} |" for line in listed[: LISTED[name]]]
            more = len(listed) - LISTED[name]
            lines += ["", *([f"and {more} more.", ""] if more > 0 else [])]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
