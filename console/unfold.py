"""The look of the console. Read by the settings, so nothing here may import models."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse, reverse_lazy


def _may_view(model: str) -> Callable[[HttpRequest], bool]:
    app, name = model.split("_", 1)
    return lambda request: bool(request.user.has_perm(f"{app}.view_{name}"))


def _page(title: str, icon: str, model: str) -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{model}_changelist"),
        "permission": _may_view(model),
    }


NAVIGATION = [
    {
        "items": [
            {"title": "Overview", "icon": "monitoring", "link": reverse_lazy("admin:index")},
            _page("Usage", "receipt_long", "billing_usagerecord"),
            {
                **_page("Margins", "trending_up", "billing_callhour"),
                # The address of the page of health begins with this one's.
                "active": lambda request: (
                    request.path == reverse("admin:billing_callhour_changelist")
                ),
            },
            {
                "title": "Health",
                "icon": "ecg_heart",
                "link": reverse_lazy("console_health"),
                "permission": _may_view("billing_callhour"),
            },
        ]
    },
    {
        "title": "Customers",
        "items": [
            _page("Organizations", "apartment", "accounts_organization"),
            _page("Projects", "folder", "accounts_project"),
            _page("API keys", "key", "accounts_apikey"),
            _page("Memberships", "group", "accounts_membership"),
        ],
    },
    {
        "title": "Money",
        "items": [
            _page("Wallets", "account_balance_wallet", "billing_wallet"),
            _page("Grants", "payments", "billing_grant"),
            _page("Codes", "redeem", "billing_codebatch"),
            _page("Payments", "credit_card", "billing_payment"),
            _page("Spend limits", "savings", "billing_spendlimit"),
            _page("Rate limits", "speed", "billing_ratelimit"),
            _page("Alerts", "notifications", "billing_alertrule"),
            _page("Re-ratings", "published_with_changes", "billing_rerating"),
            _page("Ledger", "menu_book", "billing_ledgerentry"),
        ],
    },
    {
        "title": "Prices and upstreams",
        "items": [
            _page("Prices", "sell", "billing_price"),
            _page("Price feeds", "sync_alt", "billing_priceimport"),
            _page("Discounts", "percent", "billing_discount"),
            _page("Plans", "loyalty", "billing_plan"),
            _page("Subscriptions", "badge", "billing_plansubscription"),
            _page("Channels", "hub", "relay_channel"),
            _page("Reconciliation", "balance", "relay_reconciliation"),
        ],
    },
    {
        "title": "Operation",
        "items": [
            _page("Workers", "memory", "billing_worker"),
            _page("Leases", "hourglass_top", "billing_lease"),
            _page("Set-aside records", "report", "billing_setasiderecord"),
            _page("Audits", "fact_check", "billing_auditrun"),
            _page("Audit trail", "history", "accounts_auditevent"),
            _page("People", "person", "accounts_user"),
            _page("Permission groups", "shield_person", "auth_group"),
        ],
    },
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": lambda _: settings.BRAND,
    "SITE_HEADER": lambda _: settings.BRAND,
    "SITE_SUBHEADER": "Operator console",
    "SITE_URL": "/",
    "SITE_SYMBOL": "toll",
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda _: static("console/favicon.svg"),
        }
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "8px",
    "STYLES": [lambda _: static("console/console.css")],
    "DASHBOARD_CALLBACK": "console.dashboard.dashboard_context",
    "COLORS": {
        "primary": {
            "50": "oklch(97.7% .013 236.62)",
            "100": "oklch(94.6% .027 232)",
            "200": "oklch(89.6% .052 230)",
            "300": "oklch(81.4% .09 231)",
            "400": "oklch(71.5% .125 235)",
            "500": "oklch(62% .135 240)",
            "600": "oklch(52.5% .128 243)",
            "700": "oklch(45.5% .112 244)",
            "800": "oklch(39.5% .092 243)",
            "900": "oklch(34% .073 242)",
            "950": "oklch(26% .058 243)",
        },
    },
    "SIDEBAR": {"show_search": True, "show_all_applications": False, "navigation": NAVIGATION},
}
