"""The operator's console: Django's admin, themed. Importing this registers every page."""

from django.contrib import admin

from console.admin import (
    alerts,
    audit,
    channels,
    codes,
    engine,
    keys,
    margins,
    money,
    organizations,
    payments,
    people,
    plans,
    price_imports,
    prices,
    rate_limits,
    reconciliation,
    reratings,
    spend_limits,
    usage,
)

__all__ = [
    "alerts",
    "audit",
    "channels",
    "codes",
    "engine",
    "keys",
    "margins",
    "money",
    "organizations",
    "payments",
    "people",
    "plans",
    "price_imports",
    "prices",
    "rate_limits",
    "reconciliation",
    "reratings",
    "spend_limits",
    "usage",
]

admin.site.index_template = "console/dashboard.html"
admin.site.index_title = "Overview"
