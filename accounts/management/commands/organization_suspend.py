"""manage.py organization_suspend ORG."""

from typing import Any

from django.core.management.base import CommandParser
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from accounts.organizations import organization_suspend


class Command(ContractCommand):
    help = "Stop the keys of an organization; calls that run go on to their end."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        slug = options["organization"]
        changed = organization_suspend(slug=slug, actor=self.actor)
        return {"organization": slug, "status": "suspended", "changed": changed}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        already = "" if answer["changed"] else " already"
        return [f"{answer['organization']} is suspended{already}."]
