"""manage.py code_create --usd USD --count N."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from accounts.moments import expiry_parse
from billing.credit.codes import codes_create
from billing.management.base import MoneyCommand
from billing.money import parse_usd


class Command(MoneyCommand):
    help = (
        "Make redemption codes. They are shown now and never again: only digests of them are"
        " stored."
    )

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--usd", required=True, help="What each code is worth.")
        parser.add_argument("--count", type=int, required=True, metavar="N", help="How many.")
        parser.add_argument(
            "--expires",
            metavar="WHEN",
            default="never",
            help="Until when they can be redeemed: 30d, an ISO date or date and time, or never.",
        )
        parser.add_argument("--note", default="", help="What they are for.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        now = timezone.now()
        created = codes_create(
            amount_nano_usd=parse_usd(options["usd"]),
            count=options["count"],
            expires_at=expiry_parse(options["expires"], now=now),
            note=options["note"],
            actor=self.actor,
            now=now,
        )
        return {
            "batch": created.batch.pk,
            "amount_nano_usd": created.batch.amount_nano_usd,
            "codes": created.codes,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        assert isinstance(answer["codes"], list)
        return [str(code) for code in answer["codes"]]
