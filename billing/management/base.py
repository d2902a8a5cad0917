"""Commands that read amounts of money."""

from typing import ClassVar

from django.core.management.base import CommandParser

from accounts.management.base import Answer, ContractCommand
from billing.money import InvalidMoney, format_usd
from billing.prices.book import InvalidPriceBook


class MoneyCommand(ContractCommand):
    """A command of billing; amounts are decimal USD as text, and refused rather than rounded."""

    refusals: ClassVar[tuple[type[Exception], ...]] = (
        *ContractCommand.refusals,
        InvalidMoney,
        InvalidPriceBook,
    )


def scope_arguments(parser: CommandParser, *, with_model: bool = False) -> None:
    """Whom a limit is for: one of them."""
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument("--key", metavar="PREFIX", help="An API key, as it is listed.")
    scope.add_argument("--project", metavar="ORG/PROJECT", help="A project.")
    scope.add_argument("--organization", metavar="ORG", help="An organization.")
    if with_model:
        scope.add_argument("--model", metavar="M", help="A model, whoever calls it.")


def usd_of(answer: Answer, name: str) -> str:
    """An amount of the answer, as people read it."""
    nano_usd = answer[name]
    assert isinstance(nano_usd, int), f"{name} is an amount"
    return format_usd(nano_usd)
