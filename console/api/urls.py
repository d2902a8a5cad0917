"""The canonical paths; the data plane folds every prefix to them."""

from django.urls import path

from console.api import alerts, views

_BILLING = "v1/dashboard/billing"

urlpatterns = [
    path("v1/usage", views.UsageView.as_view()),
    path("v1/usage/records", views.UsageRecordsView.as_view()),
    path("v1/alerts", alerts.AlertsView.as_view()),
    path("v1/alerts/<int:alert_id>", alerts.AlertView.as_view()),
    path(f"{_BILLING}/usage", views.BillingUsageView.as_view()),
    path(f"{_BILLING}/subscription", views.SubscriptionView.as_view()),
    path(f"{_BILLING}/credit_grants", views.CreditGrantsView.as_view()),
]
