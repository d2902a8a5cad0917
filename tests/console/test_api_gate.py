"""Who may ask, how errors look, and what every answer carries."""

import datetime as dt
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError
from django.test import AsyncClient, Client
from pytest_django import Settings

from accounts.api_keys import api_key_revoke
from accounts.models import ApiKey, Organization
from accounts.organizations import organization_suspend
from console.api import views
from tests.console.conftest import Get
from tests.factories import (
    ACTOR,
    make_api_key,
    make_organization,
    make_project,
    make_usage_record,
    now,
)

PATHS = (
    "/v1/usage",
    "/v1/usage/records",
    "/v1/dashboard/billing/usage",
    "/v1/dashboard/billing/subscription",
    "/v1/dashboard/billing/credit_grants",
)


def assert_error(response: Any, status: int, code: str | None) -> None:
    """OpenAI's shape and our headers, whatever went wrong."""
    assert response.status_code == status, response.content
    assert response["content-type"] == "application/json"
    assert response["access-control-allow-origin"] == "*"
    assert response["x-request-id"].startswith("req_")
    assert "www-authenticate" not in response
    body = json.loads(response.content)
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer sk-junk",
        "Bearer \u00e9",
        "sk-junk",
        "Bearer a b",
    ],
)
def test_without_a_valid_key_nothing_is_said(
    get: Get, client: Client, path: str, authorization: str
) -> None:
    response = client.get(path, headers={"authorization": authorization})
    assert_error(response, 401, "invalid_api_key")
    assert "junk" not in response.content.decode()


def test_an_unknown_key_of_the_right_form_is_refused(get: Get, issued: tuple[ApiKey, str]) -> None:
    issued[0].delete()
    assert_error(get("/v1/usage"), 401, "invalid_api_key")


def test_a_revoked_key_is_refused(get: Get, issued: tuple[ApiKey, str]) -> None:
    api_key_revoke(prefix=issued[0].prefix, actor=ACTOR, now=now())
    assert_error(get("/v1/usage"), 401, "invalid_api_key")


def test_a_key_expires(get: Get, issued: tuple[ApiKey, str]) -> None:
    ApiKey.objects.update(expires_at=now() + dt.timedelta(minutes=1))
    assert get("/v1/usage").status_code == 200
    ApiKey.objects.update(expires_at=now() - dt.timedelta(seconds=1))
    assert_error(get("/v1/usage"), 401, "invalid_api_key")


def test_a_suspended_organization_is_refused(get: Get, organization: Organization) -> None:
    organization_suspend(slug=organization.slug, actor=ACTOR)
    assert_error(get("/v1/usage"), 403, "organization_suspended")


@pytest.mark.parametrize(
    ("scopes", "status"),
    [(["relay"], 200), (["usage"], 200), (["admin", "usage"], 200), (["admin"], 403)],
)
def test_the_scopes_decide(
    get: Get, organization: Organization, scopes: list[str], status: int
) -> None:
    _, key = make_api_key(organization, scopes=scopes)
    assert get("/v1/usage", key=key).status_code == status


@pytest.mark.parametrize(
    ("networks", "status"), [(["127.0.0.0/8"], 200), (["10.0.0.0/8"], 403), (["::1"], 403)]
)
def test_the_networks_of_a_key_count_here_too(
    get: Get, organization: Organization, networks: list[str], status: int
) -> None:
    _, key = make_api_key(organization, allowed_networks=networks)
    assert get("/v1/usage", key=key).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "bearer   {key}  "},
        {"authorization": "BEARER {key}", "x-api-key": "another"},
        {"x-api-key": "{key}"},
        {"authorization": "{key}"},
        {"api-key": "{key}", "authorization": "Bearer "},
    ],
)
def test_the_key_is_found_where_clients_put_it(
    issued: tuple[ApiKey, str], client: Client, headers: dict[str, str]
) -> None:
    sent = {name: value.format(key=issued[1]) for name, value in headers.items()}
    assert client.get("/v1/usage", headers=sent).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_these_paths_are_only_read(
    get: Get, issued: Any, client: Client, path: str, method: str
) -> None:
    authorized = {"authorization": f"Bearer {issued[1]}"}
    assert_error(getattr(client, method)(path, headers=authorized), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/usage/", "/v1/unknown", "/v1/usage/records/1"]
)
def test_an_unknown_path_is_json_and_no_redirect(client: Client, path: str) -> None:
    assert_error(client.get(path), 404, "unknown_url")


@pytest.mark.parametrize("path", [*PATHS, "/v1/unknown"])
def test_options_is_answered_without_a_key(client: Client, path: str) -> None:
    response = client.options(
        path, headers={"access-control-request-headers": "authorization, x-a"}
    )
    assert (response.status_code, response.content) == (204, b"")
    assert response["access-control-allow-origin"] == "*"
    assert response["access-control-allow-headers"] == "authorization, x-a"


def test_head_is_get_without_a_body(issued: tuple[ApiKey, str], client: Client) -> None:
    response = client.head("/v1/usage", headers={"authorization": f"Bearer {issued[1]}"})
    assert (response.status_code, response.content) == (200, b"")


def test_a_foreign_host_name_is_no_matter_for_a_key(get: Get, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["example.com"]
    assert get("/v1/usage", host="gateway.internal:8000").status_code == 200


def test_an_answer_carries_an_id_and_is_not_stored(get: Get) -> None:
    first, second = get("/v1/usage"), get("/v1/usage")
    assert first["x-request-id"] != second["x-request-id"]
    assert len(first["x-request-id"]) == len("req_") + 32
    assert first["cache-control"] == "no-store"
    assert first["access-control-allow-origin"] == "*"
    assert "x-request-id" in first["access-control-expose-headers"]
    assert "set-cookie" not in first


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [(OperationalError("away"), 503, "service_unavailable"), (ValueError("a bug"), 500, None)],
)
def test_a_failure_is_json_too(
    get: Get,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    status: int,
    code: str | None,
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(views, "balance_nano_usd", fail)
    client.raise_request_exception = False
    response = get("/v1/usage")
    assert_error(response, status, code)
    assert str(failure) not in response.content.decode()


def test_too_many_parameters_are_refused_in_json(get: Get) -> None:
    assert_error(get(f"/v1/usage?{'a=1&' * 1500}"), 400, "bad_request")


def passed_on(path: str, key: str, **named: str | None) -> Any:
    """Ask as the data plane passes it on: the canonical path, the prefix's words in the scope."""
    # From here Django's synchronous part runs in this thread, so inside the test's transaction.
    return async_to_sync(AsyncClient().request)(
        path=path,
        headers=[(b"host", b"testserver"), (b"authorization", f"Bearer {key}".encode())],
        query_string="",
        tollgate=named,
    )


@pytest.fixture
def two_projects(db: None) -> str:
    """A key of the first of two projects; a call in each."""
    organization = make_organization("acme")
    second = make_project(organization, "second")
    make_organization("other")
    make_usage_record(organization, charge_nano_usd=1)
    make_usage_record(organization, charge_nano_usd=2, project=second)
    return make_api_key(organization)[1]


@pytest.mark.parametrize(
    ("organization", "project", "charge"),
    [(None, None, 3), ("acme", None, 3), ("acme", "default", 1)],
)
def test_a_url_that_names_a_project_shows_only_its_usage(
    two_projects: str, organization: str | None, project: str | None, charge: int
) -> None:
    named = {"organization": organization, "project": project, "request_id": "req_of_the_relay"}
    response = passed_on("/v1/usage", two_projects, **named)
    assert response.status_code == 200
    assert response.json()["total"]["charge_nano_usd"] == charge
    assert response["x-request-id"] == "req_of_the_relay"
    records = passed_on("/v1/usage/records", two_projects, **named).json()["data"]
    assert sum(record["charge_nano_usd"] for record in records) == charge
    cents = passed_on("/v1/dashboard/billing/usage", two_projects, **named).json()["total_usage"]
    assert cents * 10**7 == pytest.approx(charge if project else 0)  # The wallet paid nothing.


@pytest.mark.parametrize(
    ("organization", "project"),
    [("other", "default"), ("nobody", "default"), ("acme", "second"), ("acme", "nothing")],
)
def test_a_url_of_others_is_not_found_whether_or_not_it_exists(
    two_projects: str, organization: str, project: str
) -> None:
    response = passed_on("/v1/usage", two_projects, organization=organization, project=project)
    assert_error(response, 404, "project_not_found")
