"""Which requests Django answers. Relayed calls never come here."""

from django.urls import include, path

handler400 = "console.pages.bad_request"
handler403 = "console.pages.forbidden"
handler404 = "console.pages.not_found"
handler500 = "console.pages.server_error"

urlpatterns = [path("", include("console.urls"))]
