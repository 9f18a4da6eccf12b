"""``pytest --nbval`` compares the twins on any processor: a number that follows a ≈ is not compared."""

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Tell nbval what not to compare, unless the command line has told it."""
    if config.pluginmanager.hasplugin("nbval") and config.option.nbval_sanitize_with is None:
        config.option.nbval_sanitize_with = str(Path(__file__).parent / "_ext/approximate.cfg")
