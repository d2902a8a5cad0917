"""The usage API as a customer's program reads it: exactly the contract, soon after each reply."""

import datetime as dt
import re
import time
from typing import Any

import httpx2
import pytest

from tests.end_to_end.live import LiveGateway, wait_for
from tests.end_to_end.support import MODEL, Customer, chat_body, error_of, organization_create

OTHER_MODEL = "gpt-4o-mini"
QUOTA = 3_000_000_000
TOTALS = {
    "requests": int,
    "prompt_tokens": int,
    "cached_tokens": int,
    "completion_tokens": int,
    "reasoning_tokens": int,
    "total_tokens": int,
    "official_cost_nano_usd": int,
    "official_cost_usd": str,
    "charge_nano_usd": int,
    "charge_usd": str,
}
USAGE = {
    "object": str,
    "start": str,
    "end": str,
    "balance_nano_usd": int,
    "balance_usd": str,
    "total": dict,
    "data": list,
}
RECORD = {
    "request_id": str,
    "created_at": str,
    "model": str,
    "endpoint": str,
    "project": str,
    "api_key_prefix": str,
    "stream": bool,
    "status": int,
    "outcome": str,
    "retry_count": int,
    "usage_source": str,
    "discount_ppm": int,
    "price_id": int,
    "units": dict,
} | {name: kind for name, kind in TOTALS.items() if name != "requests"}


@pytest.fixture(scope="module")
def reader(gateway: LiveGateway, http: httpx2.Client) -> Customer:
    """Seven calls of one day: five of one model, two of another; one fails, one is streamed."""
    wait_for(lambda: today() == (now() + dt.timedelta(minutes=1)).date(), "midnight", seconds=70)
    reader = organization_create(gateway, http, "Reader", "--quota", "3")
    replies = [reader.chat(f"Call {number}") for number in range(3)]
    replies.append(reader.chat(stream=True))
    replies.append(reader.chat(simulate={"status": 500}))
    replies += [reader.post(chat_body() | {"model": OTHER_MODEL}) for _ in range(2)]
    for reply in replies:
        reader.record(reply)
    return reader


def shape_of(document: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in document.items()}


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def today() -> dt.date:
    return now().date()


def usd(nano_usd: int) -> str:
    """As JSON shows it: exact, with two decimals at least."""
    whole, _, part = f"{nano_usd // 10**9}.{nano_usd % 10**9:09}".partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"


@pytest.mark.parametrize("group_by", ["day", "model"])
def test_usage_has_the_shape_of_the_contract(reader: Customer, group_by: str) -> None:
    usage = reader.ask("/v1/usage", group_by=group_by)
    assert shape_of(usage) == USAGE
    assert usage["object"] == "usage"
    assert usage["start"] == str(today().replace(day=1))
    assert usage["end"] == str(today())
    assert shape_of(usage["total"]) == TOTALS
    for group in usage["data"]:
        assert shape_of(group) == {group_by: str, **TOTALS}
    for money in (usage["total"], *usage["data"]):
        assert money["charge_usd"] == usd(money["charge_nano_usd"])
        assert money["official_cost_usd"] == usd(money["official_cost_nano_usd"])
        assert money["total_tokens"] == money["prompt_tokens"] + money["completion_tokens"]
    assert usage["balance_usd"] == usd(usage["balance_nano_usd"])
    for name in (name for name, kind in TOTALS.items() if kind is int):
        assert sum(group[name] for group in usage["data"]) == usage["total"][name]


def test_usage_is_the_sum_of_the_records(reader: Customer) -> None:
    records, usage = reader.records(), reader.ask("/v1/usage", group_by="model")
    assert usage["total"]["requests"] == len(records) == 7
    assert {group["model"]: group["requests"] for group in usage["data"]} == {
        MODEL: 5,
        OTHER_MODEL: 2,
    }
    charges = sum(record["charge_nano_usd"] for record in records)
    assert usage["total"]["charge_nano_usd"] == charges > 0
    assert usage["balance_nano_usd"] == QUOTA - charges
    (day,) = reader.ask("/v1/usage")["data"]
    assert day == {"day": str(today()), **usage["total"]}


def test_days_without_calls_are_empty(reader: Customer) -> None:
    past = reader.ask("/v1/usage", start="2024-02-01", end="2024-02-29")
    assert (past["start"], past["end"], past["data"]) == ("2024-02-01", "2024-02-29", [])
    assert all(not value or value == "0.00" for value in past["total"].values())
    assert past["balance_nano_usd"] == reader.balance()


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/v1/usage", "start=yesterday", "start"),
        ("/v1/usage", "end=2026-02-30", "end"),
        ("/v1/usage", "start=2026-02-02&end=2026-02-01", "start"),
        ("/v1/usage", "group_by=hour", "group_by"),
        ("/v1/usage/records", "limit=0", "limit"),
        ("/v1/usage/records", "limit=101", "limit"),
        ("/v1/usage/records", "limit=many", "limit"),
        ("/v1/usage/records", "cursor=nonsense", "cursor"),
    ],
)
def test_a_wrong_parameter_is_a_400(reader: Customer, path: str, query: str, param: str) -> None:
    reply = reader.get(f"{path}?{query}")
    assert reply.status_code == 400
    assert error_of(reply)["param"] == param


def test_records_have_the_shape_of_the_contract(reader: Customer) -> None:
    page = reader.ask("/v1/usage/records")
    assert page.keys() == {"object", "data", "next_cursor"}
    assert page["object"] == "list"
    assert page["next_cursor"] is None
    for record in page["data"]:
        assert shape_of(record) == RECORD
        assert re.fullmatch("req_[0-9a-f]{32}", record["request_id"])
        made = dt.datetime.fromisoformat(record["created_at"])
        assert abs(made - now()) < dt.timedelta(minutes=10)
        assert record["endpoint"] == "chat/completions"
        assert (record["project"], record["api_key_prefix"]) == (reader.project, reader.prefix)
    newest_first = [record["created_at"] for record in page["data"]]
    assert newest_first == sorted(newest_first, reverse=True)
    assert [record["stream"] for record in page["data"]].count(True) == 1
    failed = [record for record in page["data"] if record["status"] != 200]
    assert [(one["status"], one["outcome"], one["usage_source"]) for one in failed] == [
        (502, "upstream_error", "none")
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_of_records_are_the_whole(reader: Customer, limit: int) -> None:
    page = reader.ask("/v1/usage/records", limit=limit)
    walked = page["data"]
    while page["next_cursor"] is not None:
        assert len(page["data"]) == limit
        page = reader.ask("/v1/usage/records", limit=limit, cursor=page["next_cursor"])
        walked += page["data"]
    assert walked == reader.records()


@pytest.mark.parametrize("stream", [False, True])
def test_a_record_is_there_soon_after_its_reply(witness: Customer, *, stream: bool) -> None:
    reply = witness.chat(stream=stream)
    replied_at = time.monotonic()
    record = witness.record(reply)
    waited = time.monotonic() - replied_at
    # The contract says one second; a busy machine gets more.
    assert waited < 5, f"the record was there after {waited:.2f} s"
    assert record["stream"] is stream


def test_nobody_reads_the_usage_of_others(reader: Customer, customer: Customer) -> None:
    ours = {record["request_id"] for record in reader.records()}
    customer.record(customer.chat())
    assert not ours & {record["request_id"] for record in customer.records(limit=100)}
    newest = reader.ask("/v1/usage/records", limit=1)["next_cursor"]
    assert not ours & {record["request_id"] for record in customer.records(cursor=newest)}


def test_older_apps_see_money_in_their_own_shapes(reader: Customer) -> None:
    spent = reader.ask("/v1/usage")["total"]["charge_nano_usd"]
    usage = reader.ask("/dashboard/billing/usage")
    assert usage == {"object": "list", "total_usage": spent / 10**7}
    subscription = reader.ask("/dashboard/billing/subscription")
    assert subscription["object"] == "billing_subscription"
    assert subscription["hard_limit_usd"] == 3
    assert subscription["access_until"] > time.time()
    credit = reader.ask("/dashboard/billing/credit_grants")
    assert credit["object"] == "credit_summary"
    assert credit["total_granted"] == 3
    assert credit["total_used"] == spent / 10**9
    assert credit["total_available"] == reader.balance() / 10**9
    (grant,) = credit["grants"]["data"]
    assert grant.keys() == {
        "object",
        "id",
        "grant_amount",
        "used_amount",
        "effective_at",
        "expires_at",
    }
    assert grant["grant_amount"] == 3
    assert grant["effective_at"] < time.time() < grant["expires_at"]


@pytest.mark.parametrize(
    ("query", "is_empty"),
    [
        ("start_date={today}&end_date={tomorrow}", False),
        ("start_date={today}&end_date={today}", False),
        ("start_date={tomorrow}&end_date={today}", False),
        ("start_date={today}", False),
        ("end_date={today}", False),
        ("end_date={yesterday}", True),
        ("start_date={tomorrow}", True),
        ("start_date=2024-01-01&end_date=2024-01-31", True),
        ("start_date=junk&end_date=", False),
        ("path=dashboard&path=billing&path=usage", False),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/v1", "/openai"])
def test_older_apps_ask_for_days(reader: Customer, prefix: str, query: str, is_empty: bool) -> None:
    day = dt.timedelta(days=1)
    days = {"today": today(), "tomorrow": today() + day, "yesterday": today() - day}
    spent = reader.ask("/v1/usage")["total"]["charge_nano_usd"] / 10**7
    usage = reader.ask(f"{prefix}/dashboard/billing/usage?{query.format(**days)}")
    assert usage["total_usage"] == (0 if is_empty else spent)
