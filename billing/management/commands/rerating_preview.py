"""manage.py rerating_preview --from DAY --to DAY."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone
from typing_extensions import override

from accounts.management.base import Answer
from accounts.moments import day_parse
from accounts.organizations import organization_get
from billing.management.base import MoneyCommand
from billing.models import Rerating, ReratingLine
from billing.money import format_usd, parse_fraction_ppm
from billing.rerating import RerateTerms, rerating_open

THEN, NOW = "then", "now"


class Command(MoneyCommand):
    help = (
        "Show what calls of past days would have cost by other prices or discounts; nothing"
        " changes before rerating_decide says so."
    )

    @override
    def add_contract_arguments(self, parser: CommandParser) -> None:
        option = parser.add_argument
        option("--from", dest="first", metavar="DAY", required=True, help="A day in UTC.")
        option("--to", dest="last", metavar="DAY", required=True, help="The last day; it is over.")
        option("--organization", metavar="ORG", help="Whose calls (default: everybody's).")
        option("--model", metavar="M", default="", help="Calls of which model (default: of all).")
        option(
            "--prices",
            choices=[NOW, THEN],
            default=NOW,
            help="Official prices in force now, or those that each call had (default: now).",
        )
        option(
            "--discount",
            metavar="FRACTION",
            default=THEN,
            help="now, then (each call's own: the default), or the fraction to pay.",
        )
        option(
            "--into-debt",
            action="store_true",
            help="What becomes dearer may put organizations on standard holds into debt. Otherwise"
            " no more is taken than their wallets have.",
        )
        option("--reason", default="", help="Why, for the record and for the customer.")

    @override
    def answer(self, options: dict[str, Any]) -> Answer:
        organization, discount = options["organization"], options["discount"]
        given = discount not in (THEN, NOW)
        terms = RerateTerms(
            first_day=day_parse(options["first"]),
            last_day=day_parse(options["last"]),
            organization=organization_get(organization) if organization else None,
            model=options["model"],
            prices=options["prices"],
            discounts=Rerating.Terms.GIVEN if given else discount,
            discount_ppm=parse_fraction_ppm(discount, allow_surcharge=True) if given else None,
            may_owe=options["into_debt"],
            reason=options["reason"],
        )
        rerating = rerating_open(terms=terms, actor=self.actor, now=timezone.now())
        lines = list(rerating.lines.select_related("organization").order_by("organization", "id"))
        return {
            "rerating": rerating.pk,
            "calls": sum(line.calls for line in lines),
            "unratable_calls": sum(line.unratable_calls for line in lines),
            "charged_nano_usd": sum(line.charged_nano_usd for line in lines),
            "rated_nano_usd": sum(line.rated_nano_usd for line in lines),
            "difference_nano_usd": sum(line.preview_difference_nano_usd for line in lines),
            "lines": [_row(line) for line in lines],
        }

    @override
    def sentences(self, answer: Answer) -> list[str]:
        rows = answer["lines"]
        assert isinstance(rows, list)
        return [
            *(_sentence(row) for row in rows if isinstance(row, dict)),
            f"Make it so: manage.py rerating_decide {answer['rerating']} apply",
        ]


def _row(line: ReratingLine) -> dict[str, Any]:
    return {
        "organization": line.organization.slug,
        "model": line.model,
        "calls": line.calls,
        "unratable_calls": line.unratable_calls,
        "charged_nano_usd": line.charged_nano_usd,
        "rated_nano_usd": line.rated_nano_usd,
        "difference_nano_usd": line.preview_difference_nano_usd,
    }


def _sentence(row: dict[str, Any]) -> str:
    odd = f"; {row['unratable_calls']} cannot be told" if row["unratable_calls"] else ""
    charged, rated = format_usd(row["charged_nano_usd"]), format_usd(row["rated_nano_usd"])
    change = row["difference_nano_usd"]
    sign = "+" if change > 0 else ""
    return (
        f"{row['organization']}  {row['model']}: {row['calls']} calls, {charged} -> {rated} USD"
        f" ({sign}{format_usd(change)}){odd}"
    )
