"""manage.py plan_subscribe ORG PLAN."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from accounts.organizations import organization_get
from billing.prices.plans import plan_get, plan_subscribe

NO_PLAN = "none"


class Command(ContractCommand):
    help = "Put an organization on a plan, from now on."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="The organization's slug.")
        parser.add_argument("plan", metavar="PLAN", help=f"The plan's slug, or {NO_PLAN}.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        organization = organization_get(options["organization"])
        plan = None if options["plan"] == NO_PLAN else plan_get(options["plan"])
        changed = plan_subscribe(
            organization=organization, plan=plan, actor=self.actor, now=timezone.now()
        )
        return {
            "organization": organization.slug,
            "plan": plan.slug if plan else None,
            "changed": changed,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"{answer['organization']} is on {answer['plan'] or 'no plan'}."]
