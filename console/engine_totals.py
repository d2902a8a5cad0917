"""The money engine's counters, for the page of its workers and for the first page's alarms."""

from dataclasses import dataclass

from django.db import OperationalError
from django.utils.safestring import SafeString

from billing.gauges import Totals, gauges
from console.presentation import count, usd, usd_text

# A healthy worker ships ten times a second.
LATE_SHIPPING_MS = 10_000


@dataclass(frozen=True, slots=True)
class Card:
    title: str
    value: SafeString | str
    note: str
    icon: str


def totals_or_none() -> Totals | None:
    """None where counting would take longer than anybody should wait for a page."""
    try:
        return gauges().totals
    except OperationalError:
        return None


def total_cards(now: Totals) -> list[Card]:
    unspent = f"unspent in {count(now.leases_open)} open leases"
    behind = f"{seconds(now.ship_lag_ms)} behind"
    written_off = f"ever; {usd_text(now.written_off_nano_usd_ever)} written off"
    odd = f"today, and {count(now.bound_exceeded_today)} cost more than was held"
    lost = f"today, and {count(now.expired_today)} too late to charge"
    return [
        Card("Held", usd(now.held_nano_usd), f"for {count(now.calls_open)} open calls", "lock"),
        Card("Leased", usd(now.leases_unspent_nano_usd), unspent, "account_balance_wallet"),
        Card("To ship", f"{count(now.journal_unshipped_bytes)} bytes", behind, "local_shipping"),
        Card("Refused", count(now.refused_ever), "for want of money, ever", "block"),
        Card("Estimated", count(now.estimated_today), odd, "calculate"),
        Card("Lost", count(now.lost_today), lost, "heart_broken"),
        Card("Late", count(now.late_settlements_ever), written_off, "schedule"),
        Card("Set aside", count(now.set_aside), f"of {count(now.set_aside_ever)} ever", "report"),
    ]


def seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000:,}.{milliseconds % 1000 // 100} s"
