"""manage.py payment_start ORG USD."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from accounts.organizations import organization_get
from billing.credit.payments import payment_start
from billing.management.base import MoneyCommand
from billing.money import parse_usd
from console.payments import payment_providers


class Command(MoneyCommand):
    help = "Order credit for an organization; answers with the page on which it is paid."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")
        parser.add_argument("amount", metavar="USD", help="How much, in whole cents.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        providers = payment_providers()
        if not providers:
            raise CommandError("No payment provider is configured: see STRIPE_SECRET_KEY.")
        payment, url = payment_start(
            organization_id=organization_get(options["organization"]).pk,
            amount_nano_usd=parse_usd(options["amount"]),
            provider=providers[0],
            actor=self.actor,
            now=timezone.now(),
        )
        return {"payment": payment.pk, "url": url}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"Payment {answer['payment']} is paid at {answer['url']}"]
