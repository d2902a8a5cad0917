"""manage.py price_set MODEL --input USD --output USD."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.management.base import MoneyCommand
from billing.prices import price_set


class Command(MoneyCommand):
    help = (
        "Set a model's official price from now on, in USD per 1M tokens. It replaces all of the"
        " model's rates, and loading the price book leaves it alone."
    )

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="The model's public id.")
        parser.add_argument("--input", metavar="USD", required=True, help="Per 1M input tokens.")
        parser.add_argument("--output", metavar="USD", required=True, help="Per 1M output tokens.")
        parser.add_argument(
            "--cached", metavar="USD", help="Per 1M cached input tokens (default: as input)."
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        price = price_set(
            model=options["model"],
            input_usd=options["input"],
            output_usd=options["output"],
            cached_usd=options["cached"],
            actor=self.actor,
            now=timezone.now(),
        )
        return {
            "model": price.model,
            "effective_from": price.effective_from.isoformat(),
            "price": price.pk,
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        return [f"{answer['model']} has a new price since {answer['effective_from']}."]
