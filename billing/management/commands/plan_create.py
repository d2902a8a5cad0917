"""manage.py plan_create NAME."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from billing.prices.plans import plan_create


class Command(ContractCommand):
    help = "Create a plan; then give it discounts with discount_set --plan."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--slug", help="Its name in commands (default: made from the name).")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        plan = plan_create(
            name=options["name"], slug=options["slug"], actor=self.actor, now=timezone.now()
        )
        return {"plan": plan.slug, "name": plan.name}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"Created the plan {answer['plan']}."]
