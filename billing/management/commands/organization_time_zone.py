"""manage.py organization_time_zone ORG ZONE."""

from typing import Any

from django.core.management.base import CommandParser
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from billing.limits import organization_time_zone_set


class Command(ContractCommand):
    help = "Set the time zone whose midnights the windows of spend limits follow."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")
        parser.add_argument("zone", metavar="ZONE", help="Such as Europe/Berlin, or UTC.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        organization = organization_time_zone_set(
            slug=options["organization"], time_zone=options["zone"], actor=self.actor
        )
        return {"organization": organization.slug, "time_zone": organization.time_zone}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"{answer['organization']} counts its days in {answer['time_zone']}."]
