"""Why a request is not even given to the application."""

from dataclasses import dataclass

from typing_extensions import override


@dataclass(eq=False)
class Refusal(Exception):
    """The connection ends with this answer: where the next request begins is not certain."""

    status: int
    message: str
    code: str = "invalid_http"

    @override
    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"


def malformed(what: str) -> Refusal:
    return Refusal(400, f"The request is not valid HTTP: {what}.")


def too_large(what: str) -> Refusal:
    return Refusal(431, f"The request's head is too large: {what}.", "request_head_too_large")


def too_slow() -> Refusal:
    return Refusal(408, "The request's head did not come to its end in time.", "request_timeout")


def not_implemented(what: str) -> Refusal:
    return Refusal(501, f"This server does not know {what}.", "not_implemented")
