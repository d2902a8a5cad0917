"""The pages outside the console, and the pages of errors."""

from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console.errors import error_response
from console.middleware import (
    api_response_finish,
    is_api_path,
    is_from_program,
    is_preflight,
    preflight_response,
)
from relay.errors import RelayError, internal, permission_denied, unknown_url


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "console/home.html", _product())


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "console/docs.html", _product())


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001  Django passes it.
    error = RelayError(400, "The request is malformed.", code="bad_request")
    return _answer(request, error, "This request could not be understood.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001  Django passes it.
    error = permission_denied("You may not do that.")
    return _answer(request, error, "You may not see or do that with this account.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001  Django passes it.
    if is_preflight(request):
        return preflight_response(request)  # So that a browser shows its user the error behind it.
    error = unknown_url(str(request.method), request.path)
    return _answer(request, error, "There is no page at this address.")


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(request, internal(), "Something went wrong here. It has been logged.")


def _answer(request: HttpRequest, error: RelayError, sentence: str) -> HttpResponse:
    """JSON for programs, a page for people."""
    if is_api_path(request.path_info) or is_from_program(request):
        response = error_response(error)
        api_response_finish(request, response)
        return response
    context = {
        "brand": settings.BRAND,
        "status": error.status,
        "title": HTTPStatus(error.status).phrase,
        "sentence": sentence,
    }
    # Without the request: context processors must not fail while a failure is shown.
    return render(None, "console/error.html", context, status=error.status)


def _product() -> dict[str, str | bool]:
    return {
        "brand": settings.BRAND,
        "base_url": settings.PUBLIC_URL,
        "status_page": settings.STATUS_PAGE,
    }
