"""The regular check of credentials, on upstreams that answer over HTTP."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typing_extensions import override

from accounts.models import AuditEvent
from relay.channels.services import ChannelTerms, NewChannel, channel_add, channel_set
from relay.jobs import channels_check_all
from relay.models import ChannelCredential, CredentialCheck
from tests.commands import ask, say
from tests.factories import ACTOR
from tests.relay.channels.test_balances import ANSWERS

MODELS = {"object": "list", "data": []}


class Upstream:
    """Answers by path and key; what it does not know is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {"/v1/models": (200, MODELS)}
        self.refused: set[str] = set()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.answer(self)

            @override
            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        status, document = self.answers.get(path, (404, {"error": {"message": "Unknown."}}))
        if request.headers["authorization"].removeprefix("Bearer ") in self.refused:
            status, document = 401, {"error": {"code": "invalid_api_key"}}
        body = json.dumps(document).encode()
        request.send_response(status)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def upstream(committing_db: str, settings: Any) -> Iterator[Upstream]:
    settings.DATABASE_URL = committing_db
    upstream = Upstream()
    new = NewChannel(name="main", base_url=upstream.url, credentials={"a": "sk-a", "b": "sk-b"})
    channel_add(new=new, actor=ACTOR)
    yield upstream
    upstream.stop()


def found() -> dict[str, tuple[int | None, str]]:
    rows = CredentialCheck.objects.select_related("credential")
    return {row.credential.label: (row.status, row.error) for row in rows}


def check() -> dict[str, Any]:
    """Run the job; what the list of channels then says of the first credential."""
    channels_check_all()
    answer: dict[str, Any] = ask("channel_list")["channels"][0]["checks"][0]
    return answer


def test_every_credential_is_checked(upstream: Upstream) -> None:
    assert ask("channel_list")["channels"][0]["checks"] == []
    assert check()["ok"]
    assert found() == {"a": (200, ""), "b": (200, "")}


def test_an_upstream_without_a_list_of_models_answers_all_the_same(upstream: Upstream) -> None:
    upstream.answers.clear()
    assert check()["ok"]
    assert found() == {"a": (404, ""), "b": (404, "")}


def test_trouble_is_told_once_as_long_as_it_lasts(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answers["/v1/models"] = (502, {})
    for _ in range(2):
        assert not check()["ok"]
    assert "The channel main does not answer with a: Upstream answered 502." in caplog.messages
    assert len(caplog.messages) == 2  # One for each credential.
    assert "a: Upstream answered 502." in say("channel_list")
    upstream.answers["/v1/models"] = (200, MODELS)
    assert check()["ok"]
    upstream.stop()
    assert check()["status"] is None
    assert ChannelCredential.objects.filter(enabled=True).count() == 2


def test_a_credential_that_is_refused_is_disabled_before_a_customer_meets_it(
    upstream: Upstream,
) -> None:
    upstream.refused = {"sk-a"}
    channels_check_all()
    assert found() == {"a": (401, "Upstream refuses the credential: 401."), "b": (200, "")}
    rows = ChannelCredential.objects.order_by("label").values_list("enabled", "refused_at")
    assert [(enabled, at is None) for enabled, at in rows] == [(False, False), (True, True)]
    assert AuditEvent.objects.filter(action="channel.credential_refused").count() == 1


def balance(**terms: Any) -> None:
    channel_set(name="main", terms=ChannelTerms(**terms), actor=ACTOR)


def test_the_money_that_is_left_is_shown_and_an_alarm_when_low(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answers["/v1/credits"] = (200, ANSWERS["openrouter"][0])
    balance(balance="openrouter", balance_low_nano=50 * 10**9)
    shown = check()
    assert (shown["balance"], shown["balance_currency"]) == ("74.75", "USD")
    assert not shown["balance_is_low"]
    assert "a: 74.75 USD left" in say("channel_list")
    upstream.answers["/v1/credits"] = (200, {"data": {"total_credits": 50, "total_usage": 0.01}})
    with caplog.at_level(logging.ERROR):
        assert [check()["balance_is_low"] for _ in range(3)] == [True] * 3
    assert len(caplog.messages) == 2, "once for each credential"
    assert AuditEvent.objects.filter(action="channel.balance_low").count() == 2
    assert "49.99 USD left, LOW" in say("channel_list")
    balance(balance_low_nano=10 * 10**9)
    assert not check()["balance_is_low"]
    balance(balance="")
    assert check()["balance"] is None


@pytest.mark.parametrize("answer", [(404, {}), (200, {}), (200, {"data": {"total_credits": "x"}})])
def test_a_balance_that_cannot_be_read_is_no_trouble_of_the_channel(
    upstream: Upstream, answer: tuple[int, Any]
) -> None:
    upstream.answers["/v1/credits"] = answer
    balance(balance="openrouter", balance_low_nano=1)
    shown = check()
    assert (shown["ok"], shown["balance"], shown["balance_is_low"]) == (True, None, False)
    assert shown["balance_error"]


def test_resellers_are_asked_twice(upstream: Upstream) -> None:
    upstream.answers["/v1/dashboard/billing/subscription"] = (200, ANSWERS["resold"][0])
    upstream.answers["/v1/dashboard/billing/usage"] = (200, ANSWERS["resold"][1])
    assert ask("channel_set", "main", "--balance", "resold", "--balance-low", "5") == {
        "channel": "main"
    }
    assert check()["balance"] == "7.754322"
    listed = ask("channel_list")["channels"][0]
    assert (listed["balance"], listed["balance_low"], listed["cost"]) == ("resold", "5.00", "1")
