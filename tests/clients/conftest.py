"""Frameworks and agents as people install them; for most of these tests `make clients` does."""

import os

from tests.end_to_end.conftest import gateway, http, pauper

__all__ = ["gateway", "http", "pauper"]

# A gigabyte, so whoever runs all other tests is not asked to have them.
_LARGE = ["test_agents.py", "test_frameworks.py"]
collect_ignore = [] if "CLIENTS" in os.environ else _LARGE
