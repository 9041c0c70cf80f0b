"""The command line on the plugin of cheap checks, which need no torch: ``python driver.py verify cheap.Layer ...``."""

import functools

from equiharness import cli
from equiharness.cli import run as cli_run
from equiharness.harness.runs import pool
from equiharness.suites import properties

if __name__ == "__main__":
    properties.SUITE = "cheap:run_property"
    cli_run.require_device = lambda device: None
    pool.pooled = functools.partial(pool.pooled, preload=())
    cli.main()
