"""Check whether layers are equivariant, measure what they cost, and find out whether they got worse.

Exit codes: 0 every claim holds, or deviates as declared; 1 a claim fails or got worse; 2 wrong usage or unreadable
input; 3 nothing was checked.
"""

from .app import app, baseline, main

__all__ = ["app", "baseline", "main"]
