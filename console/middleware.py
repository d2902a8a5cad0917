"""The gate between the two things that Django serves here: API paths, and pages for people.

API paths carry a key of their own and no cookie. They go straight to their views: sessions, CSRF,
host checks and redirects are for browsers, and each of them knows a way to answer in HTML.
"""

from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import resolve

from billing.identifiers import uuid7
from console.errors import error_response
from relay.errors import unknown_url
from relay.headers import cors_headers, preflight_headers

API_PREFIX = "/v1"


def is_api_path(path: str) -> bool:
    return path == API_PREFIX or path.startswith(f"{API_PREFIX}/")


def is_from_program(request: HttpRequest) -> bool:
    """Whether an app has lost its way here, with a base URL that was typed wrong."""
    headers = request.headers
    return (
        headers.get("authorization", "")[:7].lower() == "bearer "
        or "x-api-key" in headers
        or "api-key" in headers
        or request.content_type == "application/json"
    )


def is_preflight(request: HttpRequest) -> bool:
    return request.method == "OPTIONS" and "access-control-request-method" in request.headers


def relay_scope(request: HttpRequest) -> dict[str, str | None]:
    """What the data plane says about a request that it passed on; empty without a data plane."""
    scope: dict[str, object] = getattr(request, "scope", {})
    given = scope.get("tollgate")
    return given if isinstance(given, dict) else {}


def request_id(request: HttpRequest) -> str:
    return relay_scope(request).get("request_id") or f"req_{uuid7().hex}"


def api_response_finish(request: HttpRequest, response: HttpResponseBase) -> None:
    """Put on the headers that every answer of an API path carries, errors included."""
    response.headers.setdefault("x-request-id", request_id(request))
    response.headers["cache-control"] = "no-store"
    for name, value in cors_headers():
        response.headers[name.decode()] = value.decode()


class ApiGate:
    """The outermost middleware: API paths skip all the others."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api_path(request.path_info):
            return self.get_response(request)
        response = self._api(request)
        api_response_finish(request, response)
        return response

    def _api(self, request: HttpRequest) -> HttpResponseBase:
        if request.method == "OPTIONS":
            return preflight_response(request)
        try:
            match = resolve(request.path_info)
        except Http404:
            return error_response(unknown_url(str(request.method), request.path))
        request.resolver_match = match
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        # Django renders these above the views' own middleware, which is not there.
        if not getattr(response, "is_rendered", True):
            response.render()  # type: ignore[attr-defined]  # Only template-like responses have the flag.
        return response


def preflight_response(request: HttpRequest) -> HttpResponse:
    """Before any authentication: a browser asks without the key."""
    response = HttpResponse(status=204)
    requested = request.headers.get("access-control-request-headers")
    for name, value in preflight_headers(None if requested is None else requested.encode()):
        response.headers[name.decode()] = value.decode()
    return response
