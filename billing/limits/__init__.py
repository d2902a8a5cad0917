"""Limits: what may be spent in a window of time, and how much may be called in a minute.

Rate limits are counted where the calls are (relay.limits); here is how they are set and read. Spend
limits are leased together with the wallet's money (billing.engine); here is how they are set.
"""

from billing.limits.rates import (
    RATES,
    RateTable,
    ScopeRates,
    rate_limit_set,
    rates_load,
)
from billing.limits.services import (
    LimitScope,
    UnableToLimit,
    limit_scope_of,
    organization_time_zone_set,
    spend_limit_set,
)
from billing.limits.states import (
    LimitState,
    limit_states,
    limits_in_force,
    limits_of_key,
    limits_of_scope,
)
from billing.windows import PERS, Per, Window, window_at

__all__ = [
    "PERS",
    "RATES",
    "LimitScope",
    "LimitState",
    "Per",
    "RateTable",
    "ScopeRates",
    "UnableToLimit",
    "Window",
    "limit_scope_of",
    "limit_states",
    "limits_in_force",
    "limits_of_key",
    "limits_of_scope",
    "organization_time_zone_set",
    "rate_limit_set",
    "rates_load",
    "spend_limit_set",
    "window_at",
]
