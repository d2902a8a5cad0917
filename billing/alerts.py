"""Alerts: noticing that a line was crossed, once per crossing, and keeping what is to be told.

What is noticed goes into an outbox in the same transaction; whoever delivers it (console.alerts)
takes it from there, again and again until it has arrived or hope is given up.
"""

import base64
import datetime as dt
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction
from django.db.models import F, Q

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.models import Organization
from accounts.transactions import durable, transaction_required
from billing.limits.crossings import Crossing, limits_crossed
from billing.models import Alert, AlertRule
from billing.money import format_usd

MAX_RULES = 50  # Of one organization.
# How long after each failure it is tried again; after the last it is given up.
RETRY_MINUTES = (1, 5, 30, 120, 360, 720, 1440)
# Who takes an alert has so long to deliver it, before somebody else does.
CLAIM = dt.timedelta(minutes=5)
MAX_ERROR_LENGTH = 300

Kind = AlertRule.Kind

# The state of every rule that has a line, and on which side of it its organization is.
_STATES = """
    SELECT r.id, r.is_crossed, w.balance_nano_usd + coalesce(l.unspent, 0) AS balance,
           CASE r.kind
               WHEN 'low_balance' THEN
                   w.balance_nano_usd + coalesce(l.unspent, 0) < r.below_nano_usd
               -- What is left is too little for most calls, and never becomes exactly nothing.
               ELSE EXISTS (
                   SELECT 1 FROM billing_grant g
                    WHERE g.organization_id = r.organization_id AND g.kind = 'free_quota'
                      AND w.strict AND NOT w.strict_always
                      AND w.balance_nano_usd + coalesce(l.unspent, 0) <= g.amount_nano_usd / 50)
           END AS crossed
      FROM billing_alertrule r
      JOIN billing_wallet w ON w.organization_id = r.organization_id
      LEFT JOIN (SELECT organization_id, sum(granted_nano_usd - spent_nano_usd) AS unspent
                   FROM billing_lease WHERE state = 'open'
                  GROUP BY organization_id) l ON l.organization_id = r.organization_id
     WHERE r.removed_at IS NULL AND r.kind IN ('low_balance', 'free_quota_used')
"""


class UnableToAlert(Refused):
    """The rule makes no sense, or does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTerms:
    """What is to be told, and where to: one of `email` and `webhook_url`."""

    kind: str
    below_nano_usd: int | None = None
    email: str = ""
    webhook_url: str = ""


@durable
def alert_rule_add(
    *, organization: Organization, terms: RuleTerms, actor: Actor, now: dt.datetime
) -> AlertRule:
    """Raises UnableToAlert."""
    _terms_check(terms)
    # Two at once take turns: neither is one too many.
    Organization.objects.select_for_update().get(pk=organization.pk)
    rules = AlertRule.objects.filter(organization=organization, removed_at__isnull=True)
    if rules.count() >= MAX_RULES:
        raise UnableToAlert(f"An organization has at most {MAX_RULES} alerts.")
    rule = AlertRule.objects.create(
        organization=organization,
        kind=terms.kind,
        below_nano_usd=terms.below_nano_usd,
        email=terms.email,
        webhook_url=terms.webhook_url,
        created_at=now,
    )
    _audit(rule, "alert.add", actor)
    return rule


@durable
def alert_rule_remove(*, rule_id: int, actor: Actor, now: dt.datetime) -> bool:
    """What waits to be told by it is forgotten; False if it was removed already."""
    rule = AlertRule.objects.select_for_update().filter(pk=rule_id).first()
    if rule is None:
        raise UnableToAlert(f"There is no alert {rule_id}.")
    if rule.removed_at is not None:
        return False
    rule.removed_at = now
    rule.save(update_fields=["removed_at"])
    rule.alerts.filter(sent_at__isnull=True).update(next_attempt_at=None)
    _audit(rule, "alert.remove", actor)
    return True


def webhook_secret(rule: AlertRule) -> str:
    """What the rule's webhooks are signed with. It is derived, so there is none to be stolen."""
    digest = hmac.digest(settings.KEY_PEPPER.encode(), f"webhook:{rule.pk}".encode(), "sha256")
    return "whsec_" + base64.b64encode(digest).decode()


def alerts_notice(*, now: dt.datetime) -> int:
    """Look at every line; returns how many were crossed since the last look."""
    with connection.cursor() as cursor:
        cursor.execute(_STATES)
        changed = [row for row in cursor.fetchall() if row[1] != row[3]]
    told = sum(
        _side_change(rule_id, crossed, balance, now) for rule_id, _, balance, crossed in changed
    )
    return told + _limits_notice(now)


def _limits_notice(now: dt.datetime) -> int:
    """Each limit's lines are told once per window and cap, by their names in the outbox."""
    rules: dict[int, list[AlertRule]] = {}
    for rule in AlertRule.objects.filter(kind=Kind.SPEND_LIMIT, removed_at__isnull=True):
        rules.setdefault(rule.organization_id, []).append(rule)
    crossed = list(limits_crossed(list(rules), now=now)) if rules else []
    names = {crossing.name for crossing in crossed}
    known = Alert.objects.filter(crossing__in=names).values_list("rule_id", "crossing")
    told = set(known)
    return sum(
        _crossing_tell(rule, crossing, now)
        for crossing in crossed
        for rule in rules[crossing.organization_id]
        if (rule.pk, crossing.name) not in told
    )


@durable
def _crossing_tell(rule: AlertRule, crossing: Crossing, now: dt.datetime) -> int:
    return int(alert_add(rule=rule, crossing=crossing.name, facts=crossing.facts, now=now))


@transaction_required
def alert_add(
    *, rule: AlertRule, crossing: str, facts: dict[str, str | int], now: dt.datetime
) -> bool:
    """Put it into the outbox; False if that crossing is there already."""
    _, is_new = Alert.objects.get_or_create(
        rule=rule,
        crossing=crossing,
        defaults={"facts": facts, "next_attempt_at": now, "created_at": now},
    )
    return is_new


@durable
def alert_test_add(*, rule_id: int, now: dt.datetime) -> Alert:
    """Something to tell without a reason, to see whether it arrives."""
    rule = AlertRule.objects.filter(pk=rule_id, removed_at__isnull=True).first()
    if rule is None:
        raise UnableToAlert(f"There is no alert {rule_id}.")
    crossing = f"test {now.isoformat()}"
    alert_add(rule=rule, crossing=crossing, facts={"test": 1}, now=now)
    return Alert.objects.get(rule=rule, crossing=crossing)


def alerts_deliver(*, deliver: Callable[[Alert], None], now: dt.datetime) -> int:
    """Tell what is due; `deliver` raises what went wrong. Returns how many were delivered."""
    delivered = 0
    while (alert := _alert_claim(now)) is not None:
        with _outcome_kept(alert, now) as outcome:
            deliver(alert)
            outcome.append(True)
        delivered += len(outcome)
    return delivered


@durable
def _side_change(rule_id: int, crossed: bool, balance: int, now: dt.datetime) -> int:  # noqa: FBT001  A row's columns.
    """Remember the side; tell of it where the line was crossed downwards. Once, whoever looks."""
    rows = AlertRule.objects.filter(pk=rule_id, is_crossed=not crossed)
    if not rows.update(is_crossed=crossed, crossings=F("crossings") + int(crossed)) or not crossed:
        return 0
    rule = AlertRule.objects.get(pk=rule_id)
    facts: dict[str, str | int] = {"balance_nano_usd": int(balance)}
    if rule.below_nano_usd is not None:
        facts["below_nano_usd"] = rule.below_nano_usd
    return int(alert_add(rule=rule, crossing=f"crossing {rule.crossings}", facts=facts, now=now))


@durable
def _alert_claim(now: dt.datetime) -> Alert | None:
    due = Alert.objects.select_for_update(skip_locked=True, of=("self",)).select_related(
        "rule__organization"
    )
    alert = due.filter(next_attempt_at__lte=now).order_by("next_attempt_at", "id").first()
    if alert is None:
        return None
    # Whoever dies while delivering it leaves it to the next: it may arrive twice, under one id.
    alert.attempts += 1
    alert.next_attempt_at = now + CLAIM
    alert.save(update_fields=["attempts", "next_attempt_at"])
    return alert


@contextmanager
def _outcome_kept(alert: Alert, now: dt.datetime) -> Iterator[list[bool]]:
    outcome: list[bool] = []
    try:
        yield outcome
    except Exception as error:  # noqa: BLE001  Whatever it is, it is kept and shown, and tried again.
        alert.last_error = f"{type(error).__name__}: {error}"[:MAX_ERROR_LENGTH]
        is_last = alert.attempts > len(RETRY_MINUTES)
        alert.next_attempt_at = (
            None if is_last else now + dt.timedelta(minutes=RETRY_MINUTES[alert.attempts - 1])
        )
    else:
        alert.sent_at, alert.next_attempt_at, alert.last_error = now, None, ""
    with transaction.atomic(durable=True):
        Alert.objects.filter(Q(pk=alert.pk), sent_at__isnull=True).update(
            sent_at=alert.sent_at,
            next_attempt_at=alert.next_attempt_at,
            last_error=alert.last_error,
        )


def _terms_check(terms: RuleTerms) -> None:
    if terms.kind not in Kind.values:
        raise UnableToAlert(f"An alert is of {', '.join(Kind.values)}.")
    if (terms.kind == Kind.LOW_BALANCE) != (terms.below_nano_usd is not None):
        raise UnableToAlert("An alert of a low balance, and no other, names the balance.")
    if terms.below_nano_usd is not None and terms.below_nano_usd <= 0:
        raise UnableToAlert("An alert of a low balance names one above 0.")
    if bool(terms.email) == bool(terms.webhook_url):
        raise UnableToAlert("An alert goes to an e-mail address or to a webhook, one of them.")
    if terms.email:
        if not settings.EMAIL_HOST:
            raise UnableToAlert("This gateway sends no e-mail: EMAIL_HOST is not set.")
        try:
            validate_email(terms.email)
        except ValidationError:
            raise UnableToAlert(f"{terms.email!r} is no e-mail address.") from None
    else:
        url = urlsplit(terms.webhook_url)
        if url.scheme != "https" and not settings.WEBHOOK_PRIVATE_HOSTS:
            raise UnableToAlert("A webhook is an https:// URL.")
        if not url.hostname or url.username or url.password:
            raise UnableToAlert("A webhook's URL names a host, and no user.")


def _audit(rule: AlertRule, action: str, actor: Actor) -> None:
    below = rule.below_nano_usd
    audit_event_record(
        actor=actor,
        action=action,
        subject=str(rule),
        organization=rule.organization,
        details={"alert": rule.pk, "below_usd": None if below is None else format_usd(below)},
    )
