"""Fixtures for every test: real databases, cloned from migrated templates."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.db import connection

from tests.databases import MIGRATED, PRICED, copy, drop, ensure_templates, url_of


@pytest.fixture(scope="session")
def templates() -> None:
    ensure_templates()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    templates: None, django_db_modify_db_settings_parallel_suffix: None
) -> None:
    """The database that most tests of the control plane share is a copy, too."""
    connection.settings_dict["TEST"]["TEMPLATE"] = MIGRATED


@pytest.fixture
def fresh_database_url(templates: None) -> Iterator[str]:
    """The URL of a database of this test's own, migrated, with prices and nothing else."""
    name = f"fresh_{uuid4().hex[:12]}"
    copy(PRICED, name)
    yield url_of(name)
    drop(name)
