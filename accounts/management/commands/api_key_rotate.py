"""manage.py api_key_rotate PREFIX."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.api_keys import api_key_rotate
from accounts.management.base import Answer, ContractCommand
from accounts.moments import span_parse


class Command(ContractCommand):
    help = "Replace an API key by a new one on the same terms; the old one works on for a while."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", metavar="PREFIX", help="As the key is listed.")
        parser.add_argument(
            "--grace",
            metavar="SPAN",
            default="24h",
            help="How long both work: 30m, 24h, 7d or 0 (default: 24h).",
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        issued = api_key_rotate(
            prefix=options["prefix"],
            grace=span_parse(options["grace"]),
            actor=self.actor,
            now=timezone.now(),
        )
        return {"api_key": issued.key, "prefix": issued.api_key.prefix}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [
            "The new API key, shown only now:",
            f"  {answer['api_key']}",
            f"It is listed and revoked as {answer['prefix']}.",
        ]
