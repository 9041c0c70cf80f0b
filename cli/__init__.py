"""The command line: equiharness list | verify | baseline | bench | compare | merge | trend | report | search | doctor.

Exit codes: 0 all hold or deviate as declared; 1 a claim fails; 2 wrong usage or unreadable input;
3 nothing was checked.
"""

from .app import app, baseline, main

__all__ = ["app", "baseline", "main"]
