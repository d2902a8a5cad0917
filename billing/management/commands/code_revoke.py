"""manage.py code_revoke BATCH."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.credit.codes import code_batch_revoke
from billing.management.base import MoneyCommand


class Command(MoneyCommand):
    help = "Make the unused codes of a batch worthless for ever."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("batch", type=int, metavar="BATCH", help="As code_create told it.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        revoked = code_batch_revoke(batch_id=options["batch"], actor=self.actor, now=timezone.now())
        return {"batch": options["batch"], "revoked": revoked}

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"{answer['revoked']} unused codes of batch {answer['batch']} are worthless now."]
