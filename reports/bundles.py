"""The contents embedded in the page: scripts of two libraries and the data, compressed, and the security policy.

The policy lets the page run only its own script, which it identifies by a digest, and the scripts that this script
unpacks. If an attribute such as ``onerror`` in a name reached the page, the browser would not run it. The libraries
are read from the installed packages.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path

from ._require import folder_of, require

#: The parts of the page's own script, in the order of their dependencies: for the report, and for the trend page.
SHARED = ("text.js", "unpack.js", "plots.js", "trends.js")
PAGE = (*SHARED, "pictures.js", "checks.js", "table.js", "measured.js", "page.js")
TREND = (*SHARED, "trend.js")
TEMPLATES = Path(__file__).parent / "templates"


def packed(text: str) -> str:
    """A text as base64 of gzip, without any character special to HTML. The same text gives the same bytes.

    Example:
        >>> import base64, gzip
        >>> gzip.decompress(base64.b64decode(packed("</script>"))).decode()
        '</script>'
    """
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def own_script(*parts: str) -> str:
    """The page's own script: its parts in one function scope."""
    text = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in parts)
    return f'(function () {{\n"use strict";\n{text}\n}})();\n'


def policy(*scripts: str) -> str:
    """The content security policy of a page with these inline scripts."""
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {digests} blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def plotly_script(purpose: str = "The HTML report") -> str:
    """The script of the plotting library."""
    script: str = require("plotly.offline", purpose).get_plotlyjs()
    return script


def table_script(purpose: str = "The HTML report") -> str:
    """DataTables as an ECMAScript module that exports jQuery with the table on it."""
    return (folder_of("itables", purpose) / "html" / "dt_bundle.js").read_text(encoding="utf-8")
