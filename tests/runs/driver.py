"""The command line on the plugin of cheap checks: ``python driver.py verify cheap.Layer ...``."""

from equiharness import cli, cli_run

if __name__ == "__main__":
    cli_run.SUITE = "cheap:run_property"
    cli.main()
