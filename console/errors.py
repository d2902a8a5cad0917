"""Errors of the API paths: always JSON in OpenAI's shape, rendered by the relay's own renderer."""

import logging
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework.exceptions import APIException, MethodNotAllowed

from relay.errors import (
    RelayError,
    internal,
    method_not_allowed,
    permission_denied,
    render,
    store_unavailable,
    unknown_url,
)

logger = logging.getLogger(__name__)


def invalid_parameter(name: str, problem: str) -> RelayError:
    return RelayError(400, f"Invalid '{name}': {problem}", code="invalid_parameter", param=name)


def error_response(error: RelayError) -> HttpResponse:
    status, headers, body = render(error)
    response = HttpResponse(body, status=status)
    for name, value in headers:
        response.headers[name.decode()] = value.decode()
    return response


def exception_handler(exception: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """What REST framework asks for an answer; None lets the exception go on, to the 500 page."""
    error = _relay_error(exception, context)
    return error_response(error) if error else None


def _relay_error(exception: Exception, context: dict[str, Any]) -> RelayError | None:
    request: HttpRequest = context["request"]
    match exception:
        case RelayError():
            return exception
        case OperationalError() | InterfaceError():
            # The database is away: the key can be neither confirmed nor refused.
            logger.error("The database did not answer: %s", exception)
            return store_unavailable()
        case MethodNotAllowed():
            return method_not_allowed(str(request.method), tuple(context["view"].allowed_methods))
        case Http404():
            return unknown_url(str(request.method), request.path)
        case PermissionDenied():
            return permission_denied("This API key may not do that.")
        case APIException() if exception.status_code < 500:  # noqa: PLR2004  Where HTTP's server errors begin.
            return RelayError(exception.status_code, str(exception.detail))
    return None


def internal_response() -> HttpResponse:
    return error_response(internal())
