"""How numbers look to people: money exact, counts in groups of three, moments in UTC."""

import datetime as dt
from decimal import Decimal

from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.money import format_ppm, format_usd

# From here on the first two decimals are what one reads.
_ONE_CENT_NANO_USD = 10_000_000


def usd_text(nano_usd: int) -> str:
    """Exact dollars: `$1,234.50`, `-$0.0000125`."""
    whole, _, part = format_usd(abs(nano_usd)).partition(".")
    sign = "-" if nano_usd < 0 else ""
    return f"{sign}${int(whole):,}.{part}"


def usd(nano_usd: int) -> SafeString:
    """The same for a page: the digits behind the cents apart, so that columns of them line up.

    They are toned down where there are cents to read.
    """
    text = usd_text(nano_usd)
    cents = text.index(".") + 3
    tone = "tg-quiet" if abs(nano_usd) >= _ONE_CENT_NANO_USD else ""
    return format_html(
        '<span class="tg-money">{}<span class="tg-tail {}">{}</span></span>',
        text[:cents],
        tone,
        text[cents:],
    )


def count(number: int) -> str:
    return f"{number:,}"


def fraction(ppm: int) -> str:
    """A fraction to pay as people speak of it: `50 %`."""
    return f"{format_ppm(ppm * 100)} %"


def percent(part: int, whole: int) -> str:
    """`12.5 %`, rounded to tenths for the eye; a hyphen where there is no whole."""
    return f"{Decimal(100 * part) / whole:.1f} %" if whole else "-"


def moment(at: dt.datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"
