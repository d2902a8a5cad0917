"""Alerts as e-mails."""

from django.conf import settings
from django.core.mail import send_mail

from billing.models import Alert, AlertRule
from billing.money import format_usd

Kind = AlertRule.Kind


def letter_send(alert: Alert) -> None:
    subject, text = letter(alert)
    send_mail(subject, text, settings.DEFAULT_FROM_EMAIL, [alert.rule.email])


def letter(alert: Alert) -> tuple[str, str]:
    """The subject and the text."""
    rule, facts = alert.rule, alert.facts
    name = rule.organization.name
    if facts.get("test"):
        what, more = "This is a test", "You asked for it; nothing has happened."
    elif rule.kind == Kind.LOW_BALANCE:
        what = f"The balance of {name} is below {format_usd(facts['below_nano_usd'])} USD"
        more = f"It was {format_usd(facts['balance_nano_usd'])} USD when we looked."
    elif rule.kind == Kind.FREE_QUOTA_USED:
        what = f"The free quota of {name} is used up"
        more = "Calls are refused with insufficient_quota until credit is added."
    else:
        what = f"{facts['scope']} has used {facts['percent']} % of its spend limit"
        per, resets_at = facts["per"], facts.get("resets_at")
        of = "in total" if per == "total" else f"per {per}; it starts anew at {resets_at}"
        more = f"The limit is {format_usd(facts['limit_nano_usd'])} USD {of}."
    sender = f"{settings.BRAND} ({settings.PUBLIC_URL})"
    return f"{settings.BRAND}: {what}", f"{what}.\n\n{more}\n\n{sender}\n"
