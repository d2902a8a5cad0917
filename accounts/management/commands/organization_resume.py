"""manage.py organization_resume ORG."""

from typing import Any

from django.core.management.base import CommandParser
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from accounts.organizations import organization_resume


class Command(ContractCommand):
    help = "Let the keys of a suspended organization work again."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        slug = options["organization"]
        changed = organization_resume(slug=slug, actor=self.actor)
        return {"organization": slug, "status": "active", "changed": changed}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        already = "" if answer["changed"] else " already"
        return [f"{answer['organization']} is active{already}."]
