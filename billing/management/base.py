"""Commands that read amounts of money."""

from typing import ClassVar

from accounts.management.base import Answer, ContractCommand
from billing.money import InvalidMoney, format_usd
from billing.price_book import InvalidPriceBook


class MoneyCommand(ContractCommand):
    """A command of billing; amounts are decimal USD as text, and refused rather than rounded."""

    refusals: ClassVar[tuple[type[Exception], ...]] = (
        *ContractCommand.refusals,
        InvalidMoney,
        InvalidPriceBook,
    )


def usd_of(answer: Answer, name: str) -> str:
    """An amount of the answer, as people read it."""
    nano_usd = answer[name]
    assert isinstance(nano_usd, int), f"{name} is an amount"
    return format_usd(nano_usd)
