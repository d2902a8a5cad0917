"""Official prices from outside: read, compared with ours, shown, and taken over once approved."""

from billing.prices.feeds.reading import FORMATS, FeedRow, InvalidFeed, feed_read
from billing.prices.feeds.services import (
    UnableToImport,
    price_import_approve,
    price_import_open,
    price_import_reject,
)

__all__ = [
    "FORMATS",
    "FeedRow",
    "InvalidFeed",
    "UnableToImport",
    "feed_read",
    "price_import_approve",
    "price_import_open",
    "price_import_reject",
]
