"""Commands that read amounts of money."""

from typing import ClassVar

from accounts.management.base import ContractCommand
from billing.money import InvalidMoney
from billing.price_book import InvalidPriceBook


class MoneyCommand(ContractCommand):
    """A command of billing; amounts are decimal USD as text, and refused rather than rounded."""

    refusals: ClassVar[tuple[type[Exception], ...]] = (
        *ContractCommand.refusals,
        InvalidMoney,
        InvalidPriceBook,
    )
