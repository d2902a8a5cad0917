"""Spend limits: what organizations, projects and keys may spend in a window of time.

The workers keep to them by leases, just as they keep to the wallet (billing.engine); here is how
they are set, and which windows they count in.
"""

from billing.limits.services import (
    LimitScope,
    UnableToLimit,
    limit_scope_of,
    organization_time_zone_set,
    spend_limit_set,
)
from billing.limits.windows import PERS, Per, Window, window_at

__all__ = [
    "PERS",
    "LimitScope",
    "Per",
    "UnableToLimit",
    "Window",
    "limit_scope_of",
    "organization_time_zone_set",
    "spend_limit_set",
    "window_at",
]
