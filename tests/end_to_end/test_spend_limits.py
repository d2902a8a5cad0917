"""Spend limits as customers meet them: the official SDK, a live gateway with two workers."""

import datetime as dt

import httpx2
import openai
import pytest

from tests.end_to_end.live import LiveGateway, wait_for
from tests.end_to_end.support import Customer, organization_create
from tests.end_to_end.test_openai_errors import Sdk, sdk

__all__ = ["sdk"]


@pytest.fixture(scope="module")
def spender(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    return organization_create(gateway, http, "Spender", "--quota", "10", "--holds", "strict")


def limit_set(customer: Customer, usd: str, *scope: str, per: str = "day") -> None:
    customer.gateway.manage("spend_limit_set", *scope, "--usd", usd, "--per", per)


def test_the_sdk_is_told_which_limit_it_is_and_asks_once(spender: Customer, sdk: Sdk) -> None:
    scope = ("--key", spender.prefix)
    assert spender.chat().status_code == 200
    limit_set(spender, "0.000001", *scope)
    # In force on each of the workers, whichever gets the call.
    wait_for(lambda: {spender.chat().status_code for _ in range(8)} == {429}, "the limit")
    error = sdk.refusal(spender.api_key)
    assert isinstance(error, openai.RateLimitError)
    assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
    assert sdk.sent == 1
    assert f"API key {spender.prefix}..." in error.message
    assert "0.000001 USD per day" in error.message
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    assert f"It resets at {tomorrow} 00:00 UTC" in error.message
    assert error.response.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.response.headers
    (told,) = spender.ask("/v1/usage")["spend_limits"]
    assert (told["limit_usd"], told["per"], told["used_usd"]) == ("0.000001", "day", "0.00")
    limit_set(spender, "none", *scope)
    wait_for(lambda: {spender.chat().status_code for _ in range(8)} == {200}, "its removal")
    assert "spend_limits" not in spender.ask("/v1/usage")


def test_what_calls_cost_counts_in_every_limit_of_the_key(
    gateway: LiveGateway, http: httpx2.Client
) -> None:
    customer = organization_create(gateway, http, "Counted", "--quota", "10")
    limit_set(customer, "5", "--organization", customer.organization, per="total")
    limit_set(customer, "4", "--project", f"{customer.organization}/{customer.project}", per="week")
    limit_set(customer, "3", "--key", customer.prefix, per="month")

    def limits() -> list[dict[str, object]]:
        return list(customer.ask("/v1/usage")["spend_limits"])

    def all_count() -> bool:
        charge = customer.record(customer.chat())["charge_nano_usd"]
        return charge > 0 and all(limit["used_nano_usd"] >= charge for limit in limits())

    wait_for(all_count, "a call that counts in all of them")
    scopes = [str(limit["scope"]).split(" ")[0] for limit in limits()]
    assert scopes == ["API", "project", "organization"]
    assert [limit["per"] for limit in limits()] == ["month", "week", "total"]
    assert limits()[2]["resets_at"] is None
    listed = gateway.manage("spend_limit_list", "--organization", customer.organization)["limits"]
    assert {row["used_nano_usd"] for row in listed} == {limits()[0]["used_nano_usd"]}
