"""manage.py price_import_decide IMPORT (approve | reject)."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.management.base import MoneyCommand
from billing.prices.feeds import price_import_approve, price_import_reject

APPROVE, REJECT = "approve", "reject"


class Command(MoneyCommand):
    help = "Take over the prices of an import, or put it aside."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="IMPORT", help="As price_import told it.")
        parser.add_argument("decision", choices=[APPROVE, REJECT])

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        import_id, now = options["id"], timezone.now()
        answer: Answer = {"import": import_id, "added": 0, "changed": 0}
        if options["decision"] == REJECT:
            price_import_reject(import_id=import_id, actor=self.actor, now=now)
            return answer
        changes = price_import_approve(import_id=import_id, actor=self.actor, now=now)
        return answer | {"added": len(changes.added), "changed": len(changes.changed)}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"{answer['added']} models added, {answer['changed']} changed."]
