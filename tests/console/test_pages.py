"""The pages outside the console, and what people see when something is wrong."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from console import pages


@pytest.mark.parametrize("path", ["/", "/docs/"])
def test_the_pages_tell_the_base_url_and_need_nobody_elses_servers(
    client: Client, settings: Settings, path: str
) -> None:
    settings.PUBLIC_URL = "https://gateway.example"
    settings.BRAND = "<b>Brand</b>"
    response = client.get(path)
    text = response.content.decode()
    assert response.status_code == 200
    assert "https://gateway.example/v1" in text
    assert "<b>Brand</b>" not in text
    assert 'src="http' not in text
    assert "set-cookie" not in response
    assert client.post(path).status_code == 405


def test_the_schema_names_every_call_and_its_parameters(client: Client) -> None:
    schema = client.get("/docs/openapi.json").json()
    assert sorted(schema["paths"]) == [
        "/v1/alerts",
        "/v1/alerts/{alert_id}",
        "/v1/dashboard/billing/credit_grants",
        "/v1/dashboard/billing/subscription",
        "/v1/dashboard/billing/usage",
        "/v1/usage",
        "/v1/usage/records",
    ]
    usage = schema["paths"]["/v1/usage"]["get"]
    assert {parameter["name"] for parameter in usage["parameters"]} == {"start", "end", "group_by"}
    assert usage["security"] == [{"apiKey": []}]
    record = schema["components"]["schemas"]["Record"]["properties"]
    assert record["charge_usd"]["format"] == "decimal"


@pytest.mark.parametrize("path", ["/nothing", "/admin/nothing/", "/docs/nothing", "/v1x"])
def test_an_unknown_page_is_a_page(administrator: Client, path: str) -> None:
    response = administrator.get(path)
    assert (response.status_code, response["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no page" in response.content.decode()


@pytest.mark.parametrize("path", ["/nothing", "/fim/completions", "/api/v1/chat/completions"])
@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer x"}, {"api-key": "x"}, {"x-api-key": "x"}],
    ids=["bearer", "api-key", "x-api-key"],
)
def test_an_app_that_lost_its_way_is_told_so_in_json(
    client: Client, path: str, headers: dict[str, str]
) -> None:
    for response in (client.get(path, headers=headers), client.post(path, headers=headers)):
        assert (response.status_code, response["content-type"]) == (404, "application/json")
        assert "a base URL ends in /v1" in response.json()["error"]["message"]
        assert response["access-control-allow-origin"] == "*"
        assert response["x-request-id"].startswith("req_")


def test_who_signs_in_at_a_proxy_still_sees_pages(client: Client) -> None:
    response = client.get("/nothing", headers={"authorization": "Basic eDp5"})
    assert "There is no page" in response.content.decode()


def test_a_browser_may_ask_only_where_no_page_is(client: Client) -> None:
    asked = {"access-control-request-method": "POST", "origin": "https://chat.example"}
    answer = client.options("/fim/completions", headers=asked)
    assert (answer.status_code, answer["access-control-allow-origin"]) == (204, "*")
    for path in ("/", "/docs/", "/admin/login/"):
        answer = client.options(path, headers=asked)
        assert "access-control-allow-origin" not in answer


def test_a_wrong_host_gets_a_page_and_the_api_json(client: Client, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["example.com"]
    page = client.get("/", headers={"host": "evil.example"})
    assert (page.status_code, page["content-type"]) == (400, "text/html; charset=utf-8")
    assert "evil.example" not in page.content.decode()
    answer = client.get("/v1/nothing", headers={"host": "evil.example"})
    assert (answer.status_code, answer["content-type"]) == (404, "application/json")


def test_a_failure_is_a_page_that_tells_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(pages, "_product", fail)
    client.raise_request_exception = False
    response = client.get("/")
    assert (response.status_code, response["content-type"]) == (500, "text/html; charset=utf-8")
    assert "a bug" not in response.content.decode()


def test_no_right_is_a_page(client: Client, db: None, administrator: Client) -> None:
    response = administrator.get("/admin/billing/usagerecord/add/")
    assert (response.status_code, response["content-type"]) == (403, "text/html; charset=utf-8")
    assert "You may not" in response.content.decode()
