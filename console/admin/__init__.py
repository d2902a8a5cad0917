"""The operator's console: Django's admin, themed. Importing this registers every page."""

from django.contrib import admin

from console.admin import (
    alerts,
    audit,
    channels,
    codes,
    engine,
    keys,
    limits,
    margins,
    money,
    organizations,
    payments,
    people,
    plans,
    price_imports,
    prices,
    reconciliation,
    reratings,
    usage,
)

__all__ = [
    "alerts",
    "audit",
    "channels",
    "codes",
    "engine",
    "keys",
    "limits",
    "margins",
    "money",
    "organizations",
    "payments",
    "people",
    "plans",
    "price_imports",
    "prices",
    "reconciliation",
    "reratings",
    "usage",
]

admin.site.index_template = "console/dashboard.html"
admin.site.index_title = "Overview"
