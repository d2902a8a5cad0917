"""manage.py credit_grant ORG USD."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from accounts.moments import expiry_parse
from accounts.organizations import organization_get
from billing.credit.grants import Credit, grant_credit
from billing.management.base import MoneyCommand, usd_of
from billing.money import parse_usd


class Command(MoneyCommand):
    help = "Put money into an organization's wallet. It repays what the organization owes first."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")
        parser.add_argument("amount", metavar="USD", help="How much, in US dollars.")
        parser.add_argument(
            "--expires",
            metavar="WHEN",
            default="never",
            help="30d, 12h, an ISO date or date and time (UTC if it names no zone), or never.",
        )
        parser.add_argument("--reason", default="", help="Why, for the record.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        now = timezone.now()
        credit = Credit(
            organization_id=organization_get(options["organization"]).pk,
            amount_nano_usd=parse_usd(options["amount"]),
            expires_at=expiry_parse(options["expires"], now=now),
            reason=options["reason"],
        )
        credited = grant_credit(credit=credit, actor=self.actor, now=now)
        return {
            "grant": credited.grant.pk,
            "amount_nano_usd": credited.grant.amount_nano_usd,
            "balance_nano_usd": credited.balance_nano_usd,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        amount, balance = usd_of(answer, "amount_nano_usd"), usd_of(answer, "balance_nano_usd")
        return [f"Granted {amount} USD (grant {answer['grant']}); the balance is {balance} USD."]
