"""What a client is told when there is no money for its call, or no room in a spend limit."""

import time

from billing.engine import InsufficientQuota, SpendLimitReached
from billing.money import format_usd
from relay import errors
from relay.errors import RelayError


def quota_refusal(short: InsufficientQuota) -> RelayError:
    if not isinstance(short, SpendLimitReached):
        return errors.insufficient_quota()
    limit, resets_at = short.limit, short.resets_at
    bound = f"{format_usd(short.cap_nano_usd)} USD"
    if limit.per == "total":
        return errors.spend_limit_reached(f"{limit.scope}: {bound} in total")
    return errors.spend_limit_reached(
        f"{limit.scope}: {bound} per {limit.per}",
        resets=f"{resets_at:%Y-%m-%d %H:%M} UTC",
        resets_in_seconds=resets_at.timestamp() - time.time(),
    )
