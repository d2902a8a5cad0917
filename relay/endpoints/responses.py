"""The Responses API: creating, compacting and counting, and what was stored."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec.structs import replace
from typing_extensions import override

from billing.prices.catalog import Quote
from billing.pricing import Usage, usage_from_responses, with_counts
from relay.endpoints.answers import JsonAnswer, json_answer
from relay.endpoints.base import (
    NO_CLOSER,
    Closer,
    Handler,
    StreamMeter,
    is_event_stream,
)
from relay.endpoints.json_bodies import JsonHandler
from relay.endpoints.response_answers import ResponseAnswer, response_answer
from relay.endpoints.response_meter import ResponseStreamMeter
from relay.endpoints.response_request import (
    ResponseRequest,
    parse_response,
    texts_of,
)
from relay.endpoints.table import ID
from relay.errors import RelayError, id_not_found
from relay.exchange import Exchange
from relay.metering.reservation import (
    FlatReservation,
    HoldPolicy,
    Reservation,
    reserve_flat,
    reserve_tokens,
)
from relay.metering.settlement import Measure, Reading, measure_tokens, text_usage
from relay.metering.tokenizer import estimate_tokens, tight_texts_bound
from relay.tenancy.references import Reference
from relay.upstream import UpstreamResponse

# Upstream asks the model again after each of its own tools' calls: one call, many prompts.
_MANY_PROMPTS: Final = 128


class _ResponseHandler(JsonHandler[ResponseRequest]):
    """What all requests with a model and an input have in common."""

    @override
    def references(self, request: ResponseRequest) -> list[Reference]:
        return request.references

    @override
    def changes(self, request: ResponseRequest, *, output_cap: int | None) -> dict[str, int]:
        limit = request.max_output_tokens
        if output_cap is not None and (limit is None or limit > output_cap):
            return {"max_output_tokens": output_cap}
        return {}


class ResponsesHandler(_ResponseHandler):
    """POST /responses."""

    can_begin_early = True

    @override
    def parse(self, body: bytes) -> ResponseRequest:
        return parse_response(body)

    @override
    def reserve(
        self, request: ResponseRequest, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> Reservation:
        needs = request.needs(len(request.body), quote.terms)
        return reserve_tokens(needs, quote, organization_id=organization_id, policy=policy)

    @override
    def reserve_closely(
        self,
        request: ResponseRequest,
        quote: Quote,
        *,
        organization_id: int,
        policy: HoldPolicy,
        upstream_models: set[str],
    ) -> Closer:
        if request.is_opaque:
            return NO_CLOSER
        bound = tight_texts_bound(request.body, texts_of(request), upstream_models)
        if bound >= len(request.body):
            return NO_CLOSER
        needs = request.needs(bound, quote.terms)
        closer = reserve_tokens(needs, quote, organization_id=organization_id, policy=policy)
        return Closer(closer, was_dear=True)

    @override
    def measure(
        self, request: ResponseRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        assert isinstance(reading, ResponseAnswer | ResponseStreamMeter), "another endpoint's"
        fees = reading.tools.by_unit(request.fee_units)
        measure = measure_tokens(
            reading,
            quote.terms,
            read=usage_from_responses,
            estimate=partial(_estimate, request),
            shape=(_MANY_PROMPTS if request.fee_units else 1, 1),
            produced=produced or bool(fees),
        )
        if not fees or measure.usage is None:
            return measure
        return replace(measure, usage=with_counts(measure.usage, fees))

    @override
    def meter(self, request: ResponseRequest, response: UpstreamResponse) -> StreamMeter | None:
        if request.stream and is_event_stream(response):
            return ResponseStreamMeter(is_stored=request.is_stored)
        return None

    @override
    def failed_stream(self, request: ResponseRequest, error: RelayError) -> bytes:
        return ResponseStreamMeter().ending(error)

    @override
    def read_answer(self, request: ResponseRequest, body: bytes) -> ResponseAnswer:
        return response_answer(body, is_stored=request.is_stored)


class CompactHandler(ResponsesHandler):
    """POST /responses/compact: what it writes is paid as output, and has no limit to be set."""

    @override
    def parse(self, body: bytes) -> ResponseRequest:
        return parse_response(body, can_cap=False)


class InputTokensHandler(_ResponseHandler):
    """POST /responses/input_tokens: a free question."""

    @override
    def parse(self, body: bytes) -> ResponseRequest:
        return parse_response(body, can_cap=False)

    @override
    def reserve(
        self, request: ResponseRequest, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> FlatReservation:
        return reserve_flat(organization_id)

    @override
    def measure(
        self, request: ResponseRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        return Measure()

    @override
    def read_answer(self, request: ResponseRequest, body: bytes) -> JsonAnswer:
        return json_answer(body, member="object")


def _estimate(request: ResponseRequest, output: str) -> Usage:
    """The prompt by its whole body: what surrounds the texts is about what upstream adds."""
    prompt = estimate_tokens(request.model, request.body.decode("utf-8", "replace"))
    return text_usage(prompt, estimate_tokens(request.model, output))


# --- What was stored -----------------------------------------------------------------------------

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
_QUERY: Final = frozenset(
    {
        "after",
        "before",
        "include",
        "include[]",
        "include_obfuscation",
        "limit",
        "order",
        "starting_after",
        "stream",
    }
)
_CURSORS: Final = frozenset({"after", "before"})


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that names a stored response in its path; nothing is computed for it."""

    id: str
    query: list[tuple[str, str]]
    stream: bool
    model: str = ""
    service_tier: str | None = None
    namespaced: dict[str, str] = {}


class StoredHandler(Handler[StoredRequest]):
    """GET, DELETE, cancel, input_items: free, and only for who the response belongs to."""

    @override
    async def read(self, exchange: Exchange, argument: str | None) -> StoredRequest:
        assert argument is not None, "the path names the response"
        if not _ID.fullmatch(argument):
            raise id_not_found("response_id", argument)
        given = parse_qsl(exchange.query.decode("latin-1"), keep_blank_values=True)
        query = [(name, value) for name, value in given if name in _QUERY]
        return StoredRequest(
            id=argument,
            query=query,
            stream=self.endpoint.streamed and ("stream", "true") in query,
        )

    @override
    def references(self, request: StoredRequest) -> list[Reference]:
        cursors = [Reference(name, value) for name, value in request.query if name in _CURSORS]
        return [Reference("response_id", request.id), *cursors]

    @override
    def reserve(
        self, request: StoredRequest, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> FlatReservation:
        return reserve_flat(organization_id)

    @override
    def measure(
        self, request: StoredRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        return Measure()

    @override
    def target(self, request: StoredRequest) -> bytes:
        path = "/" + "/".join(request.id if part == ID else part for part in self.endpoint.path)
        return (path + "?" + urlencode(request.query) if request.query else path).encode()

    @override
    def upstream_body(
        self,
        request: StoredRequest,
        *,
        quote: Quote,
        upstream_model: str,
        output_cap: int | None,
        namespaced: Mapping[str, str],
    ) -> bytes:
        return b""

    @override
    def meter(self, request: StoredRequest, response: UpstreamResponse) -> StreamMeter | None:
        return ResponseStreamMeter() if request.stream and is_event_stream(response) else None

    @override
    def read_answer(self, request: StoredRequest, body: bytes) -> JsonAnswer | ResponseAnswer:
        answer = response_answer(body)
        if answer.kind == "completion":
            return answer
        return json_answer(body, member="object", lists_ids=True)
