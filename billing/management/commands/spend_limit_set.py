"""manage.py spend_limit_set (--key PREFIX | --project ORG/PROJECT | --organization ORG)."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.limits import PERS, limit_scope_of, spend_limit_set
from billing.management.base import MoneyCommand, scope_arguments
from billing.money import format_usd, parse_usd

NO_LIMIT = "none"


class Command(MoneyCommand):
    help = "Bound what a key, a project or an organization may spend in a window of time."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        scope_arguments(parser)
        parser.add_argument("--usd", required=True, help=f"How much; {NO_LIMIT} removes the limit.")
        parser.add_argument(
            "--per",
            required=True,
            choices=PERS,
            help="A calendar window in the organization's time zone, or in total.",
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        usd = options["usd"]
        scope = limit_scope_of(
            key=options["key"], project=options["project"], organization=options["organization"]
        )
        cap = None if usd == NO_LIMIT else parse_usd(usd)
        limit = spend_limit_set(
            scope=scope,
            per=options["per"],
            cap_nano_usd=cap,
            actor=self.actor,
            now=timezone.now(),
        )
        return {
            "limit": limit.pk if limit else None,
            "organization": scope.organization.slug,
            "project": scope.project.slug if scope.project else None,
            "key": scope.api_key.prefix if scope.api_key else None,
            "per": options["per"],
            "cap_nano_usd": cap,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        scope = answer["key"] or answer["project"] or answer["organization"]
        cap = answer["cap_nano_usd"]
        per = "in total" if answer["per"] == "total" else f"per {answer['per']}"
        if not isinstance(cap, int):
            return [f"{scope} has no limit {per} any more."]
        return [f"{scope} may spend {format_usd(cap)} USD {per}."]
