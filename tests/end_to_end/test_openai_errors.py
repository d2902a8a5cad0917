"""What users of the official Python SDK catch, and how often it asks before it gives up."""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from tests.end_to_end.live import LiveGateway
from tests.end_to_end.support import MODEL, Customer, Upstream, new_tag


class Sdk:
    """The SDK with its own retries, and a count of what it sent."""

    def __init__(self, gateway: LiveGateway) -> None:
        self.sent = 0
        self._base_url = gateway.quickstart["base_url"]
        self.http = httpx2.Client(event_hooks={"request": [self._count]})

    def _count(self, request: httpx2.Request) -> None:
        self.sent += 1

    def refusal(self, api_key: str, *, model: str = MODEL, **fields: Any) -> openai.APIStatusError:
        self.sent = 0
        client = openai.OpenAI(base_url=self._base_url, api_key=api_key, http_client=self.http)
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hello"}], extra_body=fields
            )
        assert str(caught.value.request_id).startswith("req_")
        return caught.value


@pytest.fixture(scope="module")
def sdk(gateway: LiveGateway) -> Iterator[Sdk]:
    sdk = Sdk(gateway)
    with sdk.http:
        yield sdk


def test_authentication_error(sdk: Sdk, customer: Customer) -> None:
    for key in ("sk-" + "x" * 38, "nonsense", customer.api_key[:-1]):
        error = sdk.refusal(key)
        assert isinstance(error, openai.AuthenticationError)
        assert error.code == "invalid_api_key"
        assert key not in error.message
        assert sdk.sent == 1


def test_not_found_error(sdk: Sdk, customer: Customer) -> None:
    error = sdk.refusal(customer.api_key, model="no-such-model")
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.param) == ("model_not_found", "model")
    assert sdk.sent == 1


@pytest.mark.parametrize("stream", [False, True])
def test_bad_request_error(
    sdk: Sdk, customer: Customer, upstream: Upstream, *, stream: bool
) -> None:
    error = sdk.refusal(customer.api_key, n=0, stream=stream)
    assert isinstance(error, openai.BadRequestError)
    assert error.param == "n"
    tag = new_tag()
    said = {"message": "Too long.", "code": "context_length_exceeded", "param": "messages"}
    knobs = {"tag": tag, "status": 400, "error": said}
    error = sdk.refusal(customer.api_key, stream=stream, simulate=knobs)
    assert isinstance(error, openai.BadRequestError)
    assert (error.code, error.param) == ("context_length_exceeded", "messages")
    assert "Too long." in error.message
    assert sdk.sent == upstream.count(tag) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_without_money_the_sdk_asks_once(sdk: Sdk, pauper: Customer, *, stream: bool) -> None:
    error = sdk.refusal(pauper.api_key, stream=stream)
    assert isinstance(error, openai.RateLimitError)
    assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
    assert "quota" in error.message
    assert "retry-after" not in error.response.headers
    assert sdk.sent == 1


@pytest.mark.parametrize("stream", [False, True])
def test_what_may_have_been_billed_is_not_bought_again(
    sdk: Sdk, customer: Customer, upstream: Upstream, *, stream: bool
) -> None:
    tag = new_tag()
    error = sdk.refusal(customer.api_key, stream=stream, simulate={"tag": tag, "status": 500})
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (502, "upstream_error")
    assert sdk.sent == upstream.count(tag) == 1


def test_what_was_not_taken_is_tried_again(
    sdk: Sdk, customer: Customer, upstream: Upstream
) -> None:
    tag = new_tag()
    knobs = {"tag": tag, "status": 503, "retry_after": 0}
    error = sdk.refusal(customer.api_key, simulate=knobs)
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (503, "server_is_overloaded")
    assert sdk.sent == upstream.count(tag) == 3


def test_a_body_that_is_too_large(sdk: Sdk, customer: Customer) -> None:
    error = sdk.refusal(customer.api_key, padding="x" * 32 * 2**20)
    assert type(error) is openai.APIStatusError
    assert (error.status_code, error.code) == (413, "request_too_large")
    assert sdk.sent == 1


def test_permission_denied_error(sdk: Sdk, suspended: Customer) -> None:
    error = sdk.refusal(suspended.api_key)
    assert isinstance(error, openai.PermissionDeniedError)
    assert error.code == "organization_suspended"
    assert sdk.sent == 1


def test_an_error_inside_a_stream(gateway: LiveGateway, customer: Customer) -> None:
    base_url = gateway.quickstart["base_url"]
    with openai.OpenAI(base_url=base_url, api_key=customer.api_key) as client:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            extra_body={"simulate": {"fault": "truncated", "after_chunks": 2}},
        )
        said = [next(stream).choices[0].delta.content for _ in range(3)]
        assert "".join(text or "" for text in said).startswith("You")
        with pytest.raises(openai.APIError) as caught:
            next(stream)
    assert caught.value.code == "upstream_error"
