"""manage.py organization_create NAME."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.management.base import MoneyCommand, usd_of
from billing.money import parse_usd
from billing.organizations import organization_open

STRICT = {"strict": True, "standard": False, None: None}


class Command(MoneyCommand):
    help = "Create an organization with a project, a wallet and its free quota."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="Its name; the slug is made from it.")
        parser.add_argument("--slug", help="Its slug in URLs and commands.")
        parser.add_argument(
            "--quota", metavar="USD", help="The free quota (default: the setting; 0: none)."
        )
        parser.add_argument(
            "--identity",
            metavar="PROVIDER:SUBJECT",
            help="Whose verified identity opens it, such as email:ann@example.com: one that has"
            " had a free quota gets none.",
        )
        parser.add_argument(
            "--holds",
            choices=["strict", "standard"],
            help="strict: no call is ever charged more than was held for it. Default: strict"
            " while the free quota is its only money, then standard.",
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        quota = options["quota"]
        opened = organization_open(
            name=options["name"],
            slug=options["slug"],
            quota_nano_usd=None if quota is None else parse_usd(quota),
            strict=STRICT[options["holds"]],
            identity=options["identity"],
            actor=self.actor,
            now=timezone.now(),
        )
        return {
            "organization": opened.organization.slug,
            "project": opened.project.slug,
            "balance_nano_usd": opened.balance_nano_usd,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [
            f"Created {answer['organization']} with the project {answer['project']}.",
            f"Its balance is {usd_of(answer, 'balance_nano_usd')} USD.",
            f"Next: manage.py api_key_issue {answer['organization']}",
        ]
