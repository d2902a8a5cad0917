"""manage.py discount_set FRACTION."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from accounts.organizations import organization_get
from billing.management.base import MoneyCommand
from billing.money import format_ppm, parse_fraction_ppm
from billing.prices.discounts import discount_set
from billing.prices.plans import plan_get


class Command(MoneyCommand):
    help = "Set the fraction of the official price to pay, from now on. The most specific one wins."

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("fraction", metavar="FRACTION", help="To pay: 0.5 is half the price.")
        parser.add_argument("--organization", metavar="O", help="Only for this organization.")
        parser.add_argument("--plan", metavar="P", help="Only for this plan's organizations.")
        parser.add_argument("--model", metavar="M", default="", help="Only for this model.")
        parser.add_argument(
            "--surcharge", action="store_true", help="Allow a fraction above 1: more than official."
        )

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        slug = options["organization"]
        discount = discount_set(
            fraction_ppm=parse_fraction_ppm(
                options["fraction"], allow_surcharge=options["surcharge"]
            ),
            organization=None if slug is None else organization_get(slug),
            plan=None if options["plan"] is None else plan_get(options["plan"]),
            model=options["model"],
            actor=self.actor,
            now=timezone.now(),
        )
        return {
            "discount_ppm": discount.fraction_ppm,
            "organization": slug,
            "plan": options["plan"],
            "model": discount.model or None,
            "effective_from": discount.effective_from.isoformat(),
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        fraction = format_ppm(int(str(answer["discount_ppm"])))
        who = answer["organization"] or answer["plan"] or "everybody"
        what = answer["model"] or "every model"
        return [f"From now on {who} pays {fraction} of the official price of {what}."]
