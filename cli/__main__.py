"""`python -m equiharness.cli`: the command where scripts are not on the path."""

from . import main

main()
