"""Everything that people see: the product page, the API page, the console."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView

from console import pages, status
from console.admin import margins
from console.payments import views as payments

urlpatterns = [
    path("", pages.home, name="home"),
    path("docs/", pages.docs, name="docs"),
    path("status", status.page, name="status"),
    path("status.json", status.document, name="status_document"),
    path(
        "docs/openapi.json",
        SpectacularJSONAPIView.as_view(authentication_classes=[], permission_classes=[]),
        name="openapi",
    ),
    path("payments/thanks", payments.thanks, name="payment_thanks"),
    path("payments/cancelled", payments.cancelled, name="payment_cancelled"),
    path("webhooks/<slug:provider>", payments.webhook, name="payment_webhook"),
    path("admin/health/", admin.site.admin_view(margins.health), name="console_health"),
    path("admin/", admin.site.urls),
    path("", include("console.api.urls")),
]
