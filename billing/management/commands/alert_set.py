"""manage.py alert_set ORG."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from accounts.organizations import organization_get
from billing.alerts import RuleTerms, alert_rule_add, webhook_secret
from billing.management.base import MoneyCommand
from billing.models import AlertRule
from billing.money import parse_usd


class Command(MoneyCommand):
    help = "Tell somebody, by e-mail or signed webhook, each time that a line is crossed."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")
        parser.add_argument("--kind", choices=AlertRule.Kind.values, default="low_balance")
        parser.add_argument("--below", metavar="USD", help="Of a low balance: below which one.")
        parser.add_argument("--email", default="", help="Whom to write to.")
        parser.add_argument("--webhook", metavar="URL", default="", help="What to call.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        below = options["below"]
        rule = alert_rule_add(
            organization=organization_get(options["organization"]),
            terms=RuleTerms(
                kind=options["kind"],
                below_nano_usd=None if below is None else parse_usd(below),
                email=options["email"],
                webhook_url=options["webhook"],
            ),
            actor=self.actor,
            now=timezone.now(),
        )
        return {"alert": rule.pk, "secret": webhook_secret(rule) if rule.webhook_url else None}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        signed = [f"Its calls are signed with {answer['secret']}"] if answer["secret"] else []
        return [f"Alert {answer['alert']} is on.", *signed]
