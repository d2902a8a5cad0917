"""Errors in OpenAI's shape and words."""

from dataclasses import dataclass

INVALID_REQUEST = "invalid_request_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    message: str
    type: str = INVALID_REQUEST
    param: str | None = None
    code: str | None = None


class Refusal(Exception):
    """The request gets an error answer."""

    def __init__(self, status: int, error: ErrorBody) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> Refusal:
    return Refusal(400, ErrorBody(message=message, param=param, code=code))


def model_not_found(model: str) -> Refusal:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refusal(404, ErrorBody(message=message, code="model_not_found"))


def url_unknown(*, method: str, path: str) -> Refusal:
    message = f"Invalid URL ({method} {path})"
    return Refusal(404, ErrorBody(message=message, code="unknown_url"))


def key_missing() -> Refusal:
    message = "You didn't provide an API key in an Authorization header with Bearer auth."
    return Refusal(401, ErrorBody(message=message))


def key_incorrect(key: str) -> Refusal:
    message = f"Incorrect API key provided: {key[:3]}****{key[-2:]}."
    return Refusal(401, ErrorBody(message=message, code="invalid_api_key"))


SERVER_ERROR = ErrorBody(
    message="The server had an error while processing your request. Sorry about that!",
    type="server_error",
)
_BY_STATUS = {
    401: ErrorBody(message="Incorrect API key provided: sk-****ed.", code="invalid_api_key"),
    403: ErrorBody(
        message="Country, region, or territory not supported",
        type="request_forbidden",
        code="unsupported_country_region_territory",
    ),
    404: ErrorBody(message="The model does not exist.", code="model_not_found"),
    429: ErrorBody(
        message="Rate limit reached for requests. Please try again in 1s.",
        type="requests",
        code="rate_limit_exceeded",
    ),
    503: ErrorBody(
        message="The engine is currently overloaded, please try again later.",
        type="service_unavailable_error",
        code="server_is_overloaded",
    ),
}


def error_for(status: int) -> ErrorBody:
    """The error that OpenAI sends with the status."""
    if (error := _BY_STATUS.get(status)) is not None:
        return error
    if status >= 500:  # noqa: PLR2004 - the class of server errors.
        return SERVER_ERROR
    return ErrorBody(message=f"This request was answered with {status} because it asked for it.")
