"""What the page carries inside itself: scripts of two libraries and its data, compressed, and the policy that binds it.

The page may run its own script, known by its digest, and what that script unpacks; nothing else. An attribute such as
``onerror`` in a name that slipped through would not run. The libraries are read from the packages installed here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from pathlib import Path

from ._require import folder_of, require

#: Our script, in the order in which its parts build on each other: the report's, and the trend page's.
SHARED = ("text.js", "unpack.js", "plots.js", "trends.js")
PAGE = (*SHARED, "pictures.js", "checks.js", "table.js", "measured.js", "page.js")
TREND = (*SHARED, "trend.js")
TEMPLATES = Path(__file__).parent / "templates"


def packed(text: str) -> str:
    """A text as base64 of gzip: no character in it means anything in HTML. The same text gives the same bytes.

    Example:
        >>> import base64, gzip
        >>> gzip.decompress(base64.b64decode(packed("</script>"))).decode()
        '</script>'
    """
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def own_script(*parts: str) -> str:
    """Our script as the browser gets it: the parts in one scope of their own."""
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
    """The plotting library."""
    script: str = require("plotly.offline", purpose).get_plotlyjs()
    return script


def table_script(purpose: str = "The HTML report") -> str:
    """DataTables as an ECMAScript module that exports jQuery with the table on it."""
    return (folder_of("itables", purpose) / "html" / "dt_bundle.js").read_text(encoding="utf-8")
