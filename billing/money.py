"""Money as whole numbers: nano-USD amounts, fractions in parts per million, rates in pico-USD.

No float comes in and none goes out; text is read and written exactly or refused.
"""

import re
from decimal import Decimal

BIGINT_MAX = 2**63 - 1
PPM = 1_000_000  # The whole: a discount of 1 pays the official price.
MAX_DISCOUNT_PPM = 100 * PPM
PICO_PER_NANO = 1_000

_USD_DECIMALS = 9
_PPM_DECIMALS = 6
_RATE_DECIMALS = 6  # USD per 1M units and pico-USD per unit are 10^6 apart.
_MIN_PRINTED_DECIMALS = 2

_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
# A Decimal may be 1E+999999999; nobody may make us write that number out.
_MAX_EXPONENT = 30


class InvalidMoney(ValueError):
    """The text is no amount, fraction or rate that we can hold exactly."""


def parse_usd(value: str | Decimal | int) -> int:
    """Return the dollars as nano-USD; raise InvalidMoney for what does not fit exactly."""
    return _scaled(value, decimals=_USD_DECIMALS, what="amount in USD")


def format_usd(nano_usd: int) -> str:
    """Return the exact dollars, with at least two decimals: `5.00`, `0.0000125`."""
    return _printed(nano_usd, decimals=_USD_DECIMALS, at_least=_MIN_PRINTED_DECIMALS)


def parse_fraction_ppm(value: str | Decimal | int, *, allow_surcharge: bool = False) -> int:
    """Return the fraction to pay, 0 < f <= 1, in parts per million.

    A fraction above 1 has to be asked for: people type 5 and mean half.
    """
    ppm = _scaled(value, decimals=_PPM_DECIMALS, what="fraction to pay")
    if ppm <= 0:
        raise InvalidMoney("A fraction to pay is more than 0.")
    if ppm > MAX_DISCOUNT_PPM:
        raise InvalidMoney(f"A fraction to pay is at most {MAX_DISCOUNT_PPM // PPM}.")
    if ppm > PPM and not allow_surcharge:
        raise InvalidMoney(f"{value} would charge more than the official price.")
    return ppm


def format_ppm(ppm: int) -> str:
    """Return parts per million as a plain fraction: `0.5`, `1`."""
    return _printed(ppm, decimals=_PPM_DECIMALS, at_least=0)


def rate_pico_usd(usd_per_million: str | Decimal | int) -> int:
    """Return USD per 1M units as pico-USD per unit."""
    rate = _scaled(usd_per_million, decimals=_RATE_DECIMALS, what="rate in USD per 1M units")
    if rate < 0:
        raise InvalidMoney("A rate is not negative.")
    return rate


def _scaled(value: str | Decimal | int, *, decimals: int, what: str) -> int:
    """Return value x 10^decimals, which has to be a whole number that a BIGINT holds."""
    number = _decimal(value, what=what)
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):  # Decimal writes NaN and Infinity as letters there.
        raise InvalidMoney(f"This is no {what}.")
    if not any(digits):
        return 0
    if abs(exponent) > _MAX_EXPONENT or len(digits) > 2 * _MAX_EXPONENT:
        raise InvalidMoney(f"This {what} is out of range.")
    magnitude = int("".join(map(str, digits)))
    shift = exponent + decimals
    factor = int(10 ** abs(shift))
    whole, rest = (magnitude * factor, 0) if shift >= 0 else divmod(magnitude, factor)
    if rest:
        raise InvalidMoney(f"This {what} has more than {decimals} decimals.")
    if whole > BIGINT_MAX:
        raise InvalidMoney(f"This {what} is out of range.")
    return -whole if sign else whole


def _decimal(value: object, *, what: str) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > BIGINT_MAX:
            raise InvalidMoney(f"This {what} is out of range.")
        return Decimal(value)
    if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value):
        return Decimal(value)
    raise InvalidMoney(f"A plain decimal number is needed as {what}.")


def _printed(value: int, *, decimals: int, at_least: int) -> str:
    whole, part = divmod(abs(value), 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0").ljust(at_least, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
