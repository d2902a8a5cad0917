"""manage.py price_set MODEL [--input USD --output USD [--cached USD]] [--unit NAME=USD ...]."""

import argparse
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from billing.management.base import MoneyCommand
from billing.prices.catalog import price_terms
from billing.prices.changes import filed, preview
from billing.prices.services import price_set, unit_usd_from_text
from billing.pricing import DENOMINATIONS

IMAGE_UNIT = "image/QUALITY/WIDTHxHEIGHT"
UNITS_HELP = "units and what their price is for:\n" + "\n".join(
    [
        *(f"  {name:<32} USD per {quoted.per}" for name, quoted in DENOMINATIONS.items()),
        f"  {IMAGE_UNIT:<32} USD per image (image/high/1024x1024, image/standard/512x512)",
    ]
)


class Command(MoneyCommand):
    help = (
        "Set a model's official price from now on: USD per 1M tokens, USD for other units, or"
        " both. It replaces all of the model's rates, and loading the price book leaves it alone."
    )

    @override
    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs |= {"epilog": UNITS_HELP, "formatter_class": argparse.RawDescriptionHelpFormatter}
        return super().create_parser(prog_name, subcommand, **kwargs)

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="The model's public id.")
        parser.add_argument("--input", metavar="USD", help="Per 1M input tokens.")
        parser.add_argument("--output", metavar="USD", help="Per 1M output tokens.")
        parser.add_argument(
            "--cached", metavar="USD", help="Per 1M cached input tokens (default: as input)."
        )
        parser.add_argument(
            "--unit",
            metavar="NAME=USD",
            action="append",
            default=[],
            help="The price of another unit; may be given once for each. See below.",
        )
        parser.add_argument(
            "--endpoints",
            metavar="PATH",
            nargs="+",
            default=[],
            help="Where it can be called, as in chat/completions (default: as before or, of a new"
            " model, wherever something is sold by these units).",
        )

        parser.add_argument(
            "--sure",
            action="store_true",
            help="It is meant, even where a rate changes a hundred times or more.",
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        price = price_set(
            model=options["model"],
            input_usd=options["input"],
            output_usd=options["output"],
            cached_usd=options["cached"],
            unit_usd=unit_usd_from_text(options["unit"]),
            endpoints=options["endpoints"],
            sure=options["sure"],
            actor=self.actor,
            now=timezone.now(),
        )
        return {
            "model": price.model,
            "effective_from": price.effective_from.isoformat(),
            "price": price.pk,
            "endpoints": price.endpoints,
            "units": [f"{name}={usd}" for name, usd in price.unit_rates.items()],
            "preview": preview(price_terms({**filed(price), "id": price.pk, "model": price.model})),
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        preview = f" {answer['preview']}" if answer["preview"] else ""
        return [f"{answer['model']} has a new price since {answer['effective_from']}.{preview}"]
