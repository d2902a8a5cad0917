"""Alerts: noticed once per crossing, delivered until they arrive, and nowhere else."""

import base64
import datetime as dt
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.mail import EmailMessage
from django.core.management import CommandError
from pytest_django import Settings
from typing_extensions import override

from accounts.models import Organization
from billing.alerts import (
    MAX_RULES,
    RETRY_MINUTES,
    RuleTerms,
    UnableToAlert,
    alert_rule_add,
    alert_rule_remove,
    alert_test_add,
    alerts_deliver,
    alerts_notice,
    webhook_secret,
)
from billing.limits import LimitScope, spend_limit_set
from billing.models import Alert, AlertRule, Grant, LedgerEntry, SpendLimitPeriod, Wallet
from billing.windows import window_at
from console.alerts import alert_send
from console.alerts.safe_http import ForbiddenAddress, allowed_address, is_public
from console.jobs import alerts_send
from tests.commands import ask, say
from tests.committing import run_together
from tests.factories import ACTOR, make_grant, make_organization, now

DOLLAR = 10**9


class Receiver(ThreadingHTTPServer):
    """A customer's webhook."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.status = 204
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook"


class _Answers(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.calls.append((self.path, headers, body))
        self.send_response(self.server.status)
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Receiver]:
    settings.WEBHOOK_PRIVATE_HOSTS = True
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def acme(committing_db: str, settings: Settings) -> Organization:
    settings.EMAIL_HOST = "mail.example"
    return make_organization("acme")


def low_balance(organization: Organization, **terms: Any) -> AlertRule:
    terms = {"kind": "low_balance", "email": "ann@example.com", **terms}
    return alert_rule_add(
        organization=organization,
        terms=RuleTerms(below_nano_usd=5 * DOLLAR, **terms),
        actor=ACTOR,
        now=now(),
    )


def spend(organization: Organization, dollars: int) -> None:
    wallet = Wallet.objects.get(organization=organization)
    wallet.balance_nano_usd -= dollars * DOLLAR
    wallet.save()


def deliver(at: dt.datetime | None = None) -> int:
    return alerts_deliver(deliver=alert_send, now=at or now())


def test_each_crossing_is_told_once(acme: Organization, mailoutbox: list[EmailMessage]) -> None:
    make_grant(acme, amount_nano_usd=6 * DOLLAR)
    low_balance(acme)
    notice = partial(alerts_notice, now=now())
    assert (notice(), deliver()) == (0, 0)
    spend(acme, 2)
    assert (notice(), notice(), deliver(), deliver()) == (1, 0, 1, 0)
    make_grant(acme, amount_nano_usd=10 * DOLLAR)
    assert notice() == 0
    spend(acme, 10)
    assert (notice(), deliver()) == (1, 1)
    assert [mail.to for mail in mailoutbox] == [["ann@example.com"]] * 2
    assert "The balance of Acme is below 5.00 USD" in mailoutbox[0].subject
    assert "It was 4.00 USD" in mailoutbox[0].body


def test_those_who_look_at_once_tell_it_once(acme: Organization) -> None:
    low_balance(acme)
    answers = run_together(*(partial(alerts_notice, now=now()) for _ in range(6)))
    assert sorted(answers) == [0, 0, 0, 0, 0, 1]
    assert Alert.objects.count() == 1


def test_those_who_deliver_at_once_deliver_it_once(acme: Organization) -> None:
    low_balance(acme)
    alerts_notice(now=now())
    told: list[Alert] = []
    moment = now()
    answers = run_together(
        *(partial(alerts_deliver, deliver=told.append, now=moment) for _ in range(6))
    )
    assert sorted(answers) == [0, 0, 0, 0, 0, 1]
    assert len(told) == 1


def test_the_free_quota_is_told_when_it_is_used_up(
    acme: Organization, mailoutbox: list[EmailMessage]
) -> None:
    make_grant(acme, amount_nano_usd=DOLLAR, kind=Grant.Kind.FREE_QUOTA)
    alert_rule_add(
        organization=acme,
        terms=RuleTerms(kind="free_quota_used", email="ann@example.com"),
        actor=ACTOR,
        now=now(),
    )
    assert alerts_notice(now=now()) == 0
    spend(acme, 1)
    assert (alerts_notice(now=now()), deliver()) == (1, 1)
    assert "free quota of Acme is used up" in mailoutbox[0].subject


def test_the_lines_of_a_limit_are_told_once_in_each_window(
    acme: Organization, mailoutbox: list[EmailMessage]
) -> None:
    limit = spend_limit_set(
        scope=LimitScope(organization=acme),
        per="month",
        cap_nano_usd=10 * DOLLAR,
        actor=ACTOR,
        now=now() - dt.timedelta(days=40),
    )
    assert limit is not None
    running = window_at("month", now(), ZoneInfo("UTC"))
    period = SpendLimitPeriod.objects.create(
        limit=limit, period_start=running.start, period_end=running.end, cap_nano_usd=10 * DOLLAR
    )
    alert_rule_add(
        organization=acme,
        terms=RuleTerms(kind="spend_limit", email="ann@example.com"),
        actor=ACTOR,
        now=now(),
    )
    told = []
    for used in (7, 8, 9, 10, 10):
        period.used_nano_usd = used * DOLLAR
        period.save()
        told.append(alerts_notice(now=now()))
    assert told == [0, 1, 0, 1, 0]
    deliver()
    subjects = [mail.subject for mail in mailoutbox]
    assert "organization acme has used 80 % of its spend limit" in subjects[0]
    assert "has used 100 %" in subjects[1]
    assert f"10.00 USD per month; it starts anew at {running.end:%Y-%m-%d}" in mailoutbox[0].body
    # Another cap has lines of its own, and so has another window.
    period.cap_nano_usd = limit.cap_nano_usd = 12 * DOLLAR
    period.save()
    limit.save()
    assert (alerts_notice(now=now()), alerts_notice(now=now())) == (1, 0)
    later = running.end + dt.timedelta(days=1)
    SpendLimitPeriod.objects.create(
        limit=limit,
        period_start=running.end,
        period_end=window_at("month", later, ZoneInfo("UTC")).end,
        cap_nano_usd=12 * DOLLAR,
        used_nano_usd=12 * DOLLAR,
    )
    assert (alerts_notice(now=later), alerts_notice(now=later)) == (1, 0)


def test_those_who_look_at_limits_at_once_tell_them_once(acme: Organization) -> None:
    spend_limit_set(
        scope=LimitScope(organization=acme), per="total", cap_nano_usd=0, actor=ACTOR, now=now()
    )
    terms = RuleTerms(kind="spend_limit", email="ann@example.com")
    alert_rule_add(organization=acme, terms=terms, actor=ACTOR, now=now())
    answers = run_together(*(partial(alerts_notice, now=now()) for _ in range(6)))
    assert sorted(answers) == [0, 0, 0, 0, 0, 1]


def test_a_webhook_is_signed(acme: Organization, receiver: Receiver) -> None:
    rule = low_balance(acme, email="", webhook_url=receiver.url)
    alerts_send()
    [(path, headers, body)] = receiver.calls
    assert path == "/hook"
    told = json.loads(body)
    assert told["type"] == "alert.low_balance"
    assert told["data"] == {
        "organization": "acme",
        "balance_nano_usd": 0,
        "below_nano_usd": 5 * DOLLAR,
    }
    key = base64.b64decode(webhook_secret(rule).removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(key, content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert Alert.objects.get().sent_at is not None


@pytest.mark.parametrize("status", [302, 400, 500])
def test_what_does_not_arrive_is_tried_again_until_hope_is_given_up(
    acme: Organization, receiver: Receiver, status: int
) -> None:
    low_balance(acme, email="", webhook_url=receiver.url)
    alerts_notice(now=now())
    receiver.status = status
    moment = now()
    for minutes in RETRY_MINUTES:
        assert deliver(moment) == 0
        alert = Alert.objects.get()
        assert alert.next_attempt_at == moment + dt.timedelta(minutes=minutes)
        assert str(status) in alert.last_error
        assert deliver(alert.next_attempt_at - dt.timedelta(seconds=1)) == 0
        moment = alert.next_attempt_at
    assert len(receiver.calls) == len(RETRY_MINUTES)
    assert {path for path, _, _ in receiver.calls} == {"/hook"}
    assert len({headers["webhook-id"] for _, headers, _ in receiver.calls}) == 1
    receiver.status = 200 if status == 500 else status
    assert deliver(moment) == (status == 500)
    assert Alert.objects.get().next_attempt_at is None


def test_f44_who_is_killed_after_sending_leaves_it_to_the_next(
    acme: Organization, receiver: Receiver
) -> None:
    low_balance(acme, email="", webhook_url=receiver.url)
    alerts_notice(now=now())
    before = list(LedgerEntry.objects.values_list())

    def die(alert: Alert) -> None:
        alert_send(alert)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        alerts_deliver(deliver=die, now=now())
    assert deliver() == 0
    assert deliver(now() + dt.timedelta(minutes=6)) == 1
    assert deliver(now() + dt.timedelta(days=1)) == 0
    # It arrived twice, under one id: whoever receives it can tell.
    assert len(receiver.calls) == 2
    assert len({headers["webhook-id"] for _, headers, _ in receiver.calls}) == 1
    assert list(LedgerEntry.objects.values_list()) == before


def test_who_dies_while_delivering_leaves_it_to_the_next(acme: Organization) -> None:
    low_balance(acme)
    alerts_notice(now=now())

    def die(_: Alert) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        alerts_deliver(deliver=die, now=now())
    told: list[Alert] = []
    assert alerts_deliver(deliver=told.append, now=now()) == 0
    later = now() + dt.timedelta(minutes=6)
    assert alerts_deliver(deliver=told.append, now=later) == 1


PRIVATE_HOSTS = (
    "127.0.0.1",
    "localhost",
    "::1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "fe80::1",
    "fc00::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "2130706433",
    "0x7f.1",
)


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_an_address_of_our_own_network_is_refused(host: str) -> None:
    with pytest.raises((ForbiddenAddress, OSError)):
        allowed_address(host, 443)


def test_no_webhook_reaches_our_own_network(acme: Organization) -> None:
    for host in PRIVATE_HOSTS:
        url_host = f"[{host}]" if ":" in host else host
        rule = low_balance(acme, email="", webhook_url=f"https://{url_host}/hook")
        alert = alert_test_add(rule_id=rule.pk, now=now())
        assert deliver() == 0
        alert.refresh_from_db()
        assert alert.last_error.split(":")[0] in ("ForbiddenAddress", "gaierror"), host


def test_public_addresses_are_public() -> None:
    assert all(map(is_public, ("93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34")))


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, 443)) for address in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ForbiddenAddress):
        allowed_address("rebind.example", 443)


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"kind": "full_moon"}, "An alert is of"),
        ({"email": "", "webhook_url": ""}, "one of them"),
        ({"webhook_url": "https://x.example"}, "one of them"),
        ({"email": "nobody"}, "no e-mail address"),
        ({"email": "", "webhook_url": "http://x.example"}, "https"),
        ({"email": "", "webhook_url": "https://user:pw@x.example"}, "no user"),
        ({"email": "", "webhook_url": "https:///hook"}, "names a host"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(
    acme: Organization, terms: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UnableToAlert, match=sentence):
        low_balance(acme, **terms)
    assert not AlertRule.objects.exists()


def test_without_a_mail_server_nobody_can_ask_for_mail(
    acme: Organization, settings: Settings
) -> None:
    settings.EMAIL_HOST = ""
    with pytest.raises(UnableToAlert, match="EMAIL_HOST"):
        low_balance(acme)


def test_an_organization_has_so_many_alerts_at_most(acme: Organization) -> None:
    for _ in range(MAX_RULES):
        rule = low_balance(acme)
    with pytest.raises(UnableToAlert, match="at most"):
        low_balance(acme)
    alert_rule_remove(rule_id=rule.pk, actor=ACTOR, now=now())
    low_balance(acme)


def test_the_commands_set_and_remove(acme: Organization) -> None:
    answer = ask("alert_set", "acme", "--below", "5", "--webhook", "https://x.example/hook")
    rule = AlertRule.objects.get()
    assert answer == {"alert": rule.pk, "secret": webhook_secret(rule)}
    assert "Its calls are signed" in say(
        "alert_set", "acme", "--kind", "free_quota_used", "--webhook", "https://x.example/hook"
    )
    with pytest.raises(CommandError, match="names the balance"):
        ask("alert_set", "acme", "--email", "ann@example.com")
    assert ask("alert_remove", str(rule.pk)) == {"alert": rule.pk, "removed": True}
    assert ask("alert_remove", str(rule.pk)) == {"alert": rule.pk, "removed": False}
    with pytest.raises(CommandError, match="no alert"):
        ask("alert_remove", "0")
