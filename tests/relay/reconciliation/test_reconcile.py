"""Upstream's books against ours, over HTTP: those of the simulated upstream, and of wilful ones."""

import datetime as dt
import json
import logging
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from django.core.management import CommandError
from django.test import Client
from django.urls import reverse
from pytest_django import Settings
from typing_extensions import override

from accounts.models import AuditEvent
from relay.channels.services import ChannelTerms, NewChannel, channel_add, channel_set
from relay.models import Channel, Reconciliation
from relay.reconciliation import UnreadableBooks, drifting, reconcile, reconcile_all
from relay.reconciliation.upstream_books import MAX_PAGES
from tests.adversary.gateway import MODEL, USD, Gateway, body_of
from tests.commands import ask, ask_in_vain, complain
from tests.factories import ACTOR, make_organization, make_usage_record, make_user, now

KNOBS = {"prompt_tokens": 40_000, "completion_tokens": 10_000}
ADMIN = "sk-admin-of-upstream"
DAY = dt.date(2026, 11, 3)
NOON = dt.datetime(2026, 11, 3, 12, tzinfo=dt.UTC)
SECONDS = int(dt.datetime(2026, 11, 3, tzinfo=dt.UTC).timestamp())


async def test_books_agree_until_somebody_else_uses_the_key(
    gateway: Gateway, settings: Settings
) -> None:
    settings.DATABASE_URL = gateway.database_url
    url = f"http://127.0.0.1:{gateway._simulator_server.port}/v1/chat/completions"
    customer = await gateway.customer(100 * USD)
    today = now().date()

    def compare() -> dict[str, Reconciliation]:
        first = today - dt.timedelta(days=9)  # More days than the simulator has on a page.
        rows = reconcile(channel="simulator", first=first, last=today, now=now())
        return {row.model: row for row in rows}

    def prepare() -> None:
        # The simulated upstream sells at $1 and $2 what we sell at $2 and $8.
        terms = ChannelTerms(admin_key=ADMIN, cost_ppm=400_000)
        channel_set(name="simulator", terms=terms, actor=ACTOR)

    await gateway.change(prepare)
    for stream in (False, True, True):
        body = body_of(max_tokens=20_000, stream=stream, simulate=KNOBS)
        assert (await gateway.call(customer, body)).status == 200
    refused = await gateway.call(customer, body_of(max_tokens=10, simulate={"status": 400}))
    assert refused.status == 400
    await gateway.records(4)
    rows = await gateway.operate(compare)
    assert set(rows) == {MODEL, ""}
    ours = rows[MODEL]
    assert (ours.requests, ours.upstream_requests) == (3, 3)
    assert (ours.input_tokens, ours.upstream_input_tokens) == (120_000, 120_000)
    assert (ours.output_tokens, ours.upstream_output_tokens) == (30_000, 30_000)
    assert (ours.cost_nano_usd, ours.upstream_cost_nano_usd) == (192_000_000, 180_000_000)
    assert (ours.drifts, rows[""].drifts) == (["cost_nano_usd"], ["cost_nano_usd"])

    def use_the_key_elsewhere() -> None:
        headers = {"authorization": "Bearer any"}
        for _ in range(4):
            answer = httpx2.post(
                url, content=body_of(max_tokens=9, simulate=KNOBS), headers=headers
            )
            assert answer.status_code == 200

    await gateway.operate(use_the_key_elsewhere)
    rows = await gateway.operate(compare)
    assert (rows[MODEL].requests, rows[MODEL].upstream_requests) == (3, 7)
    assert set(rows[MODEL].drifts) >= {"requests", "input_tokens", "output_tokens"}
    assert await gateway.operate(Reconciliation.objects.count) == 2
    assert await gateway.operate(lambda: drifting(now=now())) == 2


class Books(ThreadingHTTPServer):
    """An upstream that answers what a test wants."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.answer: Callable[[str, dict[str, list[str]]], tuple[int, Any]] = lambda *_: (
            200,
            page(),
        )


class _Answers(BaseHTTPRequestHandler):
    server: Books

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        what = parts.path.removeprefix("/v1/organization/")
        assert self.headers["authorization"] == f"Bearer {ADMIN}"
        self.server.asked.append((what, query))
        status, document = self.server.answer(what, query)
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("location", "http://169.254.169.254/latest")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


def page(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    bucket = {"object": "bucket", "start_time": SECONDS, "end_time": SECONDS + 86400}
    data = [{**bucket, "results": list(results)}] if results else []
    return {"object": "page", "data": data, "has_more": False, "next_page": None, **more}


def usage(model: str = "gpt-4o-2024-08-06", requests: int = 10, tokens: int = 10_000) -> Any:
    return {
        "model": model,
        "num_model_requests": requests,
        "input_tokens": tokens,
        "output_tokens": tokens,
    }


def cost(usd: Any, line_item: str | None = None, currency: str = "usd") -> Any:
    return {"amount": {"value": usd, "currency": currency}, "line_item": line_item}


@pytest.fixture
def books(committing_db: str, settings: Settings) -> Iterator[Books]:
    settings.DATABASE_URL = committing_db
    with Books() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        terms = ChannelTerms(admin_key=ADMIN)
        new = NewChannel(name="main", base_url=url, credential="sk-usual", terms=terms)
        channel_add(new=new, actor=ACTOR)
        yield server
        server.shutdown()
        thread.join()


def compared(first: dt.date = DAY, last: dt.date = DAY) -> dict[str, Reconciliation]:
    rows = reconcile(channel="main", first=first, last=last, now=now())
    return {row.model: row for row in rows}


def test_pages_kinds_and_snapshots_come_together(books: Books) -> None:
    acme = make_organization("acme")
    for model in ("gpt-4o", "gpt-4o", "text-embedding-3-small"):
        make_usage_record(
            acme, at=NOON, channel="main", upstream_model=model, upstream_cost_nano_usd=50_000_000
        )
    make_usage_record(acme, at=NOON, channel="another")

    def answer(what: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if what == "usage/completions" and "page" not in query:
            more = {"has_more": True, "next_page": "AAA=&b"}
            return 200, page(usage(requests=1, tokens=1000), **more)
        if what == "usage/completions":
            assert query["page"] == ["AAA=&b"]
            return 200, page(usage(requests=1, tokens=1000))
        if what == "usage/embeddings":
            return 200, page(
                {"model": "text-embedding-3-small", "num_model_requests": 1, "input_tokens": 1000}
            )
        if what == "costs":
            return 200, page(
                cost(0.0599999999999999978, "gpt-4o-2024-08-06, input"),
                cost(0.04, "gpt-4o-2024-08-06, output"),
                cost(0.25, None),
                cost(-0.2, "credit"),
            )
        return 200, page()

    books.answer = answer
    rows = compared()
    assert set(rows) == {"gpt-4o", "text-embedding-3-small", ""}
    assert rows["gpt-4o"].upstream_cost_nano_usd == 100_000_000
    assert rows["gpt-4o"].drifts == []
    assert rows["text-embedding-3-small"].upstream_output_tokens is None
    assert rows["text-embedding-3-small"].upstream_cost_nano_usd is None
    assert (rows[""].cost_nano_usd, rows[""].upstream_cost_nano_usd) == (150_000_000, 150_000_000)
    assert {query["group_by[]"][0] for what, query in books.asked if what == "costs"} == {
        "line_item"
    }
    first = books.asked[0][1]
    assert (first["start_time"], first["end_time"]) == ([str(SECONDS)], [str(SECONDS + 86400)])
    assert first["bucket_width"] == ["1d"]


@pytest.mark.parametrize(
    ("status", "document", "sentence"),
    [
        (401, {"error": {"message": "Incorrect API key provided: sk-admin-x"}}, "answered 401"),
        (403, {"error": "no"}, "answered 403: no message"),
        (302, b"", "302 without JSON"),
        (200, b"<html>", "200 without JSON"),
        (200, b"[]", "answered 200"),
        (200, {"data": None}, "no list 'data'"),
        (200, page(usage(requests=-1)), "no count"),
        (200, page(usage(tokens=10**16)), "no count"),
        (200, page({**usage(), "model": None}), "by model"),
        (200, page(usage(), has_more=True), f"more than {MAX_PAGES} pages"),
        (200, b'{"data": [' + b" " * (9 << 20) + b"]}", "exceeds"),
        (200, {"data": [{"start_time": SECONDS - 1, "results": []}]}, "nobody asked"),
    ],
)
def test_books_that_cannot_be_believed_change_nothing(
    books: Books, status: int, document: Any, sentence: str
) -> None:
    books.answer = lambda *_: (status, document)
    with pytest.raises(UnreadableBooks, match=sentence):
        compared()
    assert not Reconciliation.objects.exists()


@pytest.mark.parametrize("amount", ["x", None, 10**9, "NaN", [1]])
def test_costs_that_are_no_amount(books: Books, amount: Any) -> None:
    books.answer = lambda what, _: (200, page(cost(amount)) if what == "costs" else page())
    with pytest.raises(UnreadableBooks, match="costs"):
        compared()


def test_an_amount_of_other_money(books: Books) -> None:
    books.answer = lambda what, _: (
        200,
        page(cost(1, currency="eur")) if what == "costs" else page(),
    )
    with pytest.raises(UnreadableBooks, match="not in USD"):
        compared()


def test_the_job_compares_the_last_days_and_raises_the_alarm(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    books.answer = lambda what, _: (
        200,
        page(usage()) if what == "usage/completions" else page(),
    )
    with caplog.at_level(logging.ERROR):
        reconcile_all(now=NOON + dt.timedelta(days=2))
        reconcile_all(now=NOON + dt.timedelta(days=2))
    assert "Upstream's books differ from ours: main on 2026-11-03: gpt-4o-2024-08-06" in caplog.text
    assert Reconciliation.objects.count() == 1
    assert drifting(now=NOON) == 1
    assert drifting(now=NOON + dt.timedelta(days=30)) == 0
    books.answer = lambda *_: (500, b"")
    with caplog.at_level(logging.ERROR):
        reconcile_all(now=NOON + dt.timedelta(days=2))
    assert "Channel main was not reconciled" in caplog.text
    assert ADMIN not in caplog.text


def test_the_command_and_the_page(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    books.answer = lambda what, _: (
        200,
        page(usage()) if what == "usage/completions" else page(),
    )
    span = ("--channel", "main", "--from", "2026-11-03", "--to", "2026-11-03")
    answer = ask_in_vain("reconcile", *span)
    assert (answer["ok"], answer["drifting"]) == (False, 1)
    assert answer["rows"][0]["upstream_requests"] == 10
    assert "DRIFT 2026-11-03  gpt-4o-2024-08-06: requests 0 / 10" in complain("reconcile", *span)
    staff = make_user("root@example.com", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(staff)
    form = {"channel": Channel.objects.get().pk, "first": "2026-11-03", "last": "2026-11-03"}
    assert client.post(reverse("admin:relay_reconciliation_add"), form).status_code == 302
    shown = client.get(reverse("admin:relay_reconciliation_changelist")).content.decode()
    assert "0 / 10" in shown
    drifts = client.get(reverse("admin:relay_reconciliation_changelist"), {"state": "agrees"})
    assert "0 / 10" not in drifts.content.decode()
    wrong = client.post(reverse("admin:relay_reconciliation_add"), form | {"last": "2026-11-01"})
    assert "the first and the last one" in wrong.content.decode()
    # The alarm is of the last days.
    Reconciliation.objects.update(day=now().date())
    first_page = client.get("/admin/").content.decode()
    assert "Drifts from upstream" in first_page

    for days in (("2026-11-04", "2026-11-03"), ("2026-01-01", "2026-11-03"), ("x", "2026-11-03")):
        with pytest.raises(CommandError):
            ask("reconcile", "--channel", "main", "--from", days[0], "--to", days[1])
    with pytest.raises(CommandError, match="no channel"):
        ask("reconcile", "--channel", "nobody", *span[2:])
    monkeypatch.setenv("UPSTREAM_ADMIN", "sk-admin-another")
    ask("channel_set", "main", "--admin-key-env", "UPSTREAM_ADMIN")
    stored = bytes(Channel.objects.get().admin_key_encrypted or b"")
    assert b"sk-admin" not in stored
    event = AuditEvent.objects.order_by("-id")[0]
    assert (event.action, event.details["admin_key"]) == ("channel.set", "set")
    ask("channel_set", "main", "--admin-key-env", "")
    with pytest.raises(CommandError, match="has no admin key"):
        ask("reconcile", *span)
    ask("channel_set", "main", "--kind", "azure", "--model-map", "gpt-4o=mine")
    with pytest.raises(CommandError, match="Azure"):
        ask("reconcile", *span)
