"""Correcting what past calls were charged: previewed, decided, and then made to count."""

from billing.rerating.applying import reratings_continue
from billing.rerating.calls import charge_now
from billing.rerating.previewing import (
    RerateTerms,
    UnableToRerate,
    rerating_apply,
    rerating_drop,
    rerating_open,
)

__all__ = [
    "RerateTerms",
    "UnableToRerate",
    "charge_now",
    "rerating_apply",
    "rerating_drop",
    "rerating_open",
    "reratings_continue",
]
