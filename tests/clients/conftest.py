"""Frameworks and agents as people install them. `make clients` installs what these tests need."""

import os

from tests.end_to_end.conftest import gateway, http, pauper

__all__ = ["gateway", "http", "pauper"]

# They are hundreds of megabytes, so whoever runs all other tests is not asked to have them.
collect_ignore_glob = [] if "CLIENTS" in os.environ else ["test_*.py"]
