"""manage.py alert_remove ALERT."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer, ContractCommand
from billing.alerts import alert_rule_remove


class Command(ContractCommand):
    help = "End an alert."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("alert", type=int, metavar="ALERT", help="As alert_set told it.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        removed = alert_rule_remove(rule_id=options["alert"], actor=self.actor, now=timezone.now())
        return {"alert": options["alert"], "removed": removed}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"Alert {answer['alert']} is off."]
