"""The long profile runs on demand: ``-m deep``."""

import pytest


def pytest_collection_modifyitems(config, items):
    if not config.option.markexpr:
        for item in items:
            if item.get_closest_marker("deep"):
                item.add_marker(pytest.mark.skip(reason="the long profile: -m deep"))
