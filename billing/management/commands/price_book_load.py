"""manage.py price_book_load."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.management.base import MoneyCommand
from billing.prices.book_loading import price_book_load


class Command(MoneyCommand):
    help = (
        "Take over the price book that this version ships with. Past prices stay as they were,"
        " and so do those that you set yourself."
    )

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        """It takes none."""

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        changes = price_book_load(actor=self.actor, now=timezone.now())
        return {
            "added": len(changes.added),
            "changed": len(changes.changed),
            "unchanged": len(changes.unchanged),
            "kept": len(changes.kept),
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in answer.items())
        return [f"Models of the price book: {counts}."]
