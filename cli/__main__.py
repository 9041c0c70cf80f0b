"""`python -m equiharness.cli`: the command line for environments whose scripts are not on the path."""

from . import main

main()
