"""manage.py code_redeem ORG CODE."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from accounts.organizations import organization_get
from billing.credit.codes import code_redeem
from billing.management.base import MoneyCommand, usd_of


class Command(MoneyCommand):
    help = "Redeem a code for an organization; a used, unknown, expired or revoked one is refused."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")
        parser.add_argument("code", metavar="CODE", help="As printed; case and hyphens are free.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        credited = code_redeem(
            organization_id=organization_get(options["organization"]).pk,
            code=options["code"],
            actor=self.actor,
            now=timezone.now(),
        )
        return {
            "grant": credited.grant.pk,
            "amount_nano_usd": credited.grant.amount_nano_usd,
            "balance_nano_usd": credited.balance_nano_usd,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        amount, balance = usd_of(answer, "amount_nano_usd"), usd_of(answer, "balance_nano_usd")
        return [f"Redeemed {amount} USD; the balance is {balance} USD."]
