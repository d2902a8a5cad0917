from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import ApiKey, Organization
from tests.committing import committing_db
from tests.factories import make_api_key, make_organization, make_user

__all__ = ["committing_db"]

Get = Callable[..., Any]


@pytest.fixture
def organization(db: None) -> Organization:
    return make_organization("acme")


@pytest.fixture
def issued(organization: Organization) -> tuple[ApiKey, str]:
    return make_api_key(organization)


@pytest.fixture
def get(issued: tuple[ApiKey, str], client: Client) -> Get:
    """GET a path with the organization's key."""

    def get(path: str, key: str = issued[1], **headers: str) -> Any:
        return client.get(path, headers={"authorization": f"Bearer {key}", **headers})

    return get


@pytest.fixture
def administrator(db: None, client: Client) -> Client:
    """A browser in which a superuser has logged in."""
    client.force_login(make_user("root@example.com", is_staff=True, is_superuser=True))
    return client
