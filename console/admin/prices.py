"""Official prices and discounts. A new row begins now and ends the one before; none is edited."""

import datetime as dt
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.widgets import (
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.models import Discount, Price
from billing.money import PPM
from billing.prices.discounts import discount_set
from billing.prices.services import price_set, unit_usd_from_text
from billing.pricing import DENOMINATIONS, denomination
from console.admin.base import actor_of, column, link, list_url
from console.admin.form_pages import (
    Act,
    AddPageAdmin,
    FormPage,
    FractionField,
    RowField,
    data_of,
    done,
)
from console.presentation import count, fraction, moment

CURRENT, PAST, FUTURE = "Current", "Past", "Future"
STATE_LABELS = {CURRENT: "success", FUTURE: "info"}
# In the order in which people compare them; other buckets follow by name.
LISTED_RATES = ("input_tokens", "cached_input_tokens", "output_tokens")
UNITS_HELP = (
    "What is not tokens, one NAME=USD a line: "
    + ", ".join(f"{name} (per {quoted.per})" for name, quoted in DENOMINATIONS.items())
    + ", image/QUALITY/WIDTHxHEIGHT (per image)."
)


class PriceForm(forms.Form):
    model = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget)
    input_usd = forms.CharField(
        label="Input, USD per 1M tokens",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "placeholder": "2.50"}),
    )
    cached_usd = forms.CharField(
        label="Cached input, USD per 1M tokens",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "placeholder": "1.25"}),
        help_text="Empty: the price of input.",
    )
    output_usd = forms.CharField(
        label="Output, USD per 1M tokens",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "placeholder": "10.00"}),
    )
    unit_usd = forms.CharField(
        label="Other units",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4, "placeholder": "characters=15"}),
        help_text=UNITS_HELP,
    )
    sure = forms.BooleanField(
        required=False,
        label="I am sure",
        widget=UnfoldBooleanSwitchWidget,
        help_text="Of a price that is a hundred times higher or lower than the present one.",
    )


class DiscountForm(forms.Form):
    fraction = FractionField(
        label="Fraction to pay", help_text="Of the official price: 0.5 is half of it."
    )
    surcharge = forms.BooleanField(
        required=False,
        label="Allow more than the official price",
        widget=UnfoldBooleanSwitchWidget,
    )
    organization = RowField(Discount, "organization", required=False, help_text="Empty: everybody.")
    plan = RowField(Discount, "plan", required=False, help_text="Or all that are on a plan.")
    model = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="Empty: every model.",
    )

    @override
    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("fraction", 0) > PPM and not values.get("surcharge"):
            self.add_error("fraction", "This is more than the official price. Is it meant?")
        return values


class PeriodFilter(DropdownFilter):  # type: ignore[misc]  # unfold has no types.
    title = "period"
    parameter_name = "period"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state.lower(), state) for state in (CURRENT, PAST, FUTURE)]

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now = timezone.now()
        begun, ended = Q(effective_from__lte=now), Q(effective_to__lte=now)
        periods = {
            CURRENT.lower(): begun & (Q(effective_to__isnull=True) | ~ended),
            PAST.lower(): ended,
            FUTURE.lower(): ~begun,
        }
        return queryset.filter(periods.get(self.value(), Q()))


class DatedAdmin(AddPageAdmin):
    """Rows with a period."""

    @column("State", label=STATE_LABELS)
    def state(self, row: Price | Discount) -> str:
        return period_state(row, now=timezone.now())

    @column("From (UTC)")
    def begins(self, row: Price | Discount) -> str:
        return moment(row.effective_from)

    @column("Until (UTC)")
    def ends(self, row: Price | Discount) -> str:
        return moment(row.effective_to)


@admin.register(Price)
class PriceAdmin(DatedAdmin):
    list_display = (
        "model",
        "input_rate",
        "cached_rate",
        "output_rate",
        "unit_rate",
        "state",
        "begins",
        "ends",
    )
    list_filter = (PeriodFilter,)
    search_fields = ("model",)
    search_help_text = "Model"
    ordering = ("model", "-effective_from")
    fieldsets = (
        (None, {"fields": (("model", "state"), ("begins", "ends"))}),
        ("Rates in USD per 1M tokens", {"fields": ("rate_table", "long_context_table")}),
        ("Other units, in any tier", {"fields": ("unit_table",)}),
        (
            "Limits",
            {
                "fields": (
                    ("context", "longest_output"),
                    ("output_cap_field", "endpoint_names"),
                )
            },
        ),
        ("Source", {"fields": ("source", ("deprecated_on", "created"))}),
    )
    readonly_fields = (
        "created",
        "state",
        "begins",
        "ends",
        "rate_table",
        "long_context_table",
        "unit_table",
        "context",
        "longest_output",
        "endpoint_names",
    )

    @column("Input")
    def input_rate(self, row: Price) -> str:
        return _listed_rate(row, "input_tokens")

    @column("Cached input")
    def cached_rate(self, row: Price) -> str:
        return _listed_rate(row, "cached_input_tokens")

    @column("Output")
    def output_rate(self, row: Price) -> str:
        return _listed_rate(row, "output_tokens")

    @column("Other units")
    def unit_rate(self, row: Price) -> str:
        quotes = [f"${usd} per {_per(name)}" for name, usd in row.unit_rates.items()]
        more = f", {len(quotes) - 1} more" if len(quotes) > 1 else ""
        return f"{quotes[0]}{more}" if quotes else "-"

    @column("Price")
    def unit_table(self, row: Price) -> SafeString | str:
        if not row.unit_rates:
            return "None has a price"
        rows = ((_words(name), usd, _per(name)) for name, usd in row.unit_rates.items())
        return format_html(
            '<table class="tg-rates"><tbody>{}</tbody></table>',
            format_html_join("", "<tr><th>{}</th><td>${} per {}</td></tr>", rows),
        )

    @column("Context tokens")
    def context(self, row: Price) -> str:
        return "-" if row.context_tokens is None else count(row.context_tokens)

    @column("Output tokens, at most")
    def longest_output(self, row: Price) -> str:
        return "-" if row.max_output_tokens is None else count(row.max_output_tokens)

    @column("Endpoints")
    def endpoint_names(self, row: Price) -> str:
        return ", ".join(row.endpoints)

    @column("By service tier")
    def rate_table(self, row: Price) -> SafeString | str:
        return _rate_table(row.tiers) if row.tiers else "Not sold by tokens"

    @column("For long prompts")
    def long_context_table(self, row: Price) -> SafeString | str:
        if not row.long_context:
            return "The same"
        return format_html(
            "<p>From {} prompt tokens on:</p>{}",
            f"{int(row.long_context['above_tokens']):,}",
            _rate_table(row.long_context["tiers"]),
        )

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Set a price",
            submit="Set from now on",
            form=PriceForm(data_of(request)),
            intro="It holds for calls from now on and ends the model's present price, with all its"
            " tiers and units. What was charged before stays as it was.",
            back=list_url("billing_price"),
            script="console/price_preview.js",
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            lines = filter(None, map(str.strip, values["unit_usd"].splitlines()))
            price = price_set(
                model=values["model"],
                input_usd=values["input_usd"] or None,
                output_usd=values["output_usd"] or None,
                cached_usd=values["cached_usd"] or None,
                unit_usd=unit_usd_from_text(lines),
                sure=values["sure"],
                actor=actor_of(request),
                now=timezone.now(),
            )
            return done(request, f"{price.model} has a new price.", page.back)

        return page, act


@admin.register(Discount)
class DiscountAdmin(DatedAdmin):
    list_display = ("scope", "fraction_to_pay", "state", "begins", "ends")
    list_filter = (PeriodFilter, ("organization", AutocompleteSelectFilter))
    list_select_related = ("organization", "plan")
    search_fields = ("model", "organization__slug", "plan__slug")
    search_help_text = "Model or organization"
    ordering = ("-id",)
    fieldsets = (
        (None, {"fields": (("organization_link", "model_name"), ("fraction_to_pay", "state"))}),
        ("Period", {"fields": (("begins", "ends"), "created")}),
    )
    readonly_fields = (
        "created",
        "organization_link",
        "model_name",
        "fraction_to_pay",
        "state",
        "begins",
        "ends",
    )

    @column("Applies to", header=True)
    def scope(self, row: Discount) -> list[str]:
        owner = row.organization or row.plan or "Everybody"
        return [str(owner), row.model or "Every model"]

    @column("Organization")
    def organization_link(self, row: Discount) -> SafeString | str:
        if row.plan is not None:
            return link(row.plan, f"Plan {row.plan}")
        return link(row.organization) if row.organization else "Everybody"

    @column("Model")
    def model_name(self, row: Discount) -> str:
        return row.model or "Every model"

    @column("To pay")
    def fraction_to_pay(self, row: Discount) -> str:
        return fraction(row.fraction_ppm)

    @override
    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        page = FormPage(
            title="Set a discount",
            submit="Set from now on",
            form=DiscountForm(data_of(request)),
            intro="The most specific discount wins: organization and model, organization, plan and"
            " model, plan, model, everybody.",
            back=list_url("billing_discount"),
        )

        def act(values: dict[str, Any]) -> HttpResponseBase:
            discount = discount_set(
                fraction_ppm=values["fraction"],
                organization=values["organization"],
                plan=values["plan"],
                model=values["model"],
                actor=actor_of(request),
                now=timezone.now(),
            )
            return done(request, f"{fraction(discount.fraction_ppm)} from now on.", page.back)

        return page, act


def period_state(row: Price | Discount, *, now: dt.datetime) -> str:
    if row.effective_from > now:
        return FUTURE
    return PAST if row.effective_to is not None and row.effective_to <= now else CURRENT


def _listed_rate(row: Price, bucket: str) -> str:
    rate = row.tiers.get("default", {}).get(bucket)
    return f"${rate}" if rate is not None else "-"


def _rate_table(rates_by_tier: dict[str, dict[str, str]]) -> SafeString:
    tiers = dict(sorted(rates_by_tier.items(), key=lambda tier: (tier[0] != "default", tier[0])))
    buckets = sorted({bucket for rates in tiers.values() for bucket in rates}, key=_rate_order)
    head = format_html_join("", "<th>{}</th>", ((tier,) for tier in tiers))
    rows = format_html_join(
        "",
        "<tr><th>{}</th>{}</tr>",
        (
            (
                _words(bucket),
                format_html_join(
                    "", "<td>{}</td>", ((rates.get(bucket, "-"),) for rates in tiers.values())
                ),
            )
            for bucket in buckets
        ),
    )
    return format_html(
        '<table class="tg-rates"><thead><tr><th></th>{}</tr></thead><tbody>{}</tbody></table>',
        head,
        rows,
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _per(unit: str) -> str:
    """What the unit is quoted by; a name that is no unit any more is itself."""
    quoted = denomination(unit)
    return unit if quoted is None else quoted.per


def _rate_order(bucket: str) -> tuple[int, str]:
    listed = bucket in LISTED_RATES
    return (LISTED_RATES.index(bucket) if listed else len(LISTED_RATES), bucket)
