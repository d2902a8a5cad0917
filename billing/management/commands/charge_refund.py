"""manage.py charge_refund REQUEST_ID."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.credit.refunds import charge_refund, request_id_parse
from billing.management.base import MoneyCommand, usd_of
from billing.money import parse_usd


class Command(MoneyCommand):
    help = "Give a call's charge back to its organization, or a part of it."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("request", metavar="REQUEST_ID", help="As x-request-id had it.")
        parser.add_argument("--usd", help="How much (default: all that is left of the charge).")
        parser.add_argument("--reason", default="", help="Why, for the record.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        credited = charge_refund(
            request_id=request_id_parse(options["request"]),
            amount_nano_usd=None if options["usd"] is None else parse_usd(options["usd"]),
            reason=options["reason"],
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
        return [f"Refunded {amount} USD; the balance is {balance} USD."]
