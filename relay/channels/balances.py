"""What upstreams say of the money that a credential has left with them. Pure.

There is no standard: each kind is a vendor's own way, or that of the gateways that many resellers
run. Amounts are read as decimals and kept as billionths of the vendor's currency.
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

NANO = 10**9
MOST = Decimal(10**9)
CENTS = 100
# What resellers' usage query is asked for; their quota is what is left of all time.
_USAGE_DAYS = 99


class UnreadableBalance(Exception):
    """The upstream answered something else than its kind does."""


class Balance(NamedTuple):
    nano: int
    currency: str


@dataclass(frozen=True, slots=True)
class BalanceKind:
    title: str
    paths: Sequence[str]
    read: Callable[[Sequence[Any]], tuple[object, str]]
    """The amount and its currency, out of the answers to the paths."""
    at_root: bool = False
    """The paths stand beside the API's version, not under it."""

    def targets(self, base_path: str, today: dt.date) -> list[str]:
        base = base_path.removesuffix("/v1") if self.at_root else base_path
        first, last = today - dt.timedelta(days=_USAGE_DAYS), today + dt.timedelta(days=1)
        return [base + path.format(first=first, last=last) for path in self.paths]


def balance_of(kind: str, answers: Sequence[bytes]) -> Balance:
    """Raises UnreadableBalance."""
    try:
        documents = [json.loads(answer, parse_float=Decimal) for answer in answers]
        amount, currency = KINDS[kind].read(documents)
        return Balance(_nano(amount), str(currency)[:8].upper())
    except (ValueError, KeyError, IndexError, TypeError, ArithmeticError) as error:
        raise UnreadableBalance(f"The balance is not as {kind} tells it: {error!r}"[:200]) from None


def _nano(amount: object) -> int:
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int | str):
        raise TypeError("it is no number")
    number = Decimal(amount)
    if not number.is_finite() or abs(number) > MOST:
        raise InvalidOperation("it is out of bounds")
    return int(number * NANO)


def _resold(documents: Sequence[Any]) -> tuple[object, str]:
    subscription, usage = documents
    spent = Decimal(usage["total_usage"]) / CENTS
    return Decimal(subscription["hard_limit_usd"]) - spent, "USD"


def _deepseek(documents: Sequence[Any]) -> tuple[object, str]:
    infos: Sequence[Mapping[str, Any]] = documents[0]["balance_infos"]
    first = max(infos, key=lambda info: Decimal(info["total_balance"]))
    return first["total_balance"], first["currency"]


def _openrouter(documents: Sequence[Any]) -> tuple[object, str]:
    data = documents[0]["data"]
    return Decimal(data["total_credits"]) - Decimal(data["total_usage"]), "USD"


KINDS = {
    "resold": BalanceKind(
        "Gateways like one-api and new-api (dashboard/billing)",
        (
            "/dashboard/billing/subscription",
            "/dashboard/billing/usage?start_date={first}&end_date={last}",
        ),
        _resold,
    ),
    "credit_grants": BalanceKind(
        "Credit grants (dashboard/billing/credit_grants)",
        ("/dashboard/billing/credit_grants",),
        lambda documents: (documents[0]["total_available"], "USD"),
    ),
    "openrouter": BalanceKind("OpenRouter (credits)", ("/credits",), _openrouter),
    "deepseek": BalanceKind("DeepSeek (user/balance)", ("/user/balance",), _deepseek, at_root=True),
}
