"""POST /chat/completions."""

from collections.abc import Mapping
from functools import partial

from msgspec.structs import replace
from typing_extensions import override

from billing.prices.catalog import Quote
from billing.pricing import Usage, usage_from_openai
from relay.bodies.chat_requests import ChatRequest, parse_chat, upstream_body
from relay.bodies.completions import audio_ids_of_choices
from relay.endpoints.base import NO_CLOSER, Closer, Handler, StreamMeter, is_event_stream
from relay.metering.meter import BodyReading, ChatStreamMeter, meter_body
from relay.metering.reservation import HoldPolicy, Reservation, reserve_chat
from relay.metering.settlement import Measure, Reading, measure_tokens, text_usage
from relay.metering.tokenizer import estimate_prompt_tokens, estimate_tokens, tight_prompt_bound
from relay.tenancy.references import Reference, id_references
from relay.upstream import UpstreamResponse

_REFERRING = frozenset({"messages", "audio"})


class ChatHandler(Handler[ChatRequest]):
    can_begin_early = True

    @override
    def parse(self, body: bytes) -> ChatRequest:
        return parse_chat(body)

    @override
    def references(self, request: ChatRequest) -> list[Reference]:
        # Files and recordings are among the parts that hide their size.
        if not (request.opaque_parts or request.has_voice):
            return []
        return id_references(request.members, _REFERRING)

    @override
    def reserve(
        self, request: ChatRequest, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> Reservation:
        return reserve_chat(request, quote, organization_id=organization_id, policy=policy)

    @override
    def reserve_closely(
        self,
        request: ChatRequest,
        quote: Quote,
        *,
        organization_id: int,
        policy: HoldPolicy,
        upstream_models: set[str],
    ) -> Closer:
        # A picture may fill the context, and what a search finds is in the prompt, too.
        if request.opaque_parts or request.wants_audio or request.searches_web:
            return NO_CLOSER
        bound = tight_prompt_bound(request.body, upstream_models)
        if bound >= len(request.body):
            return NO_CLOSER
        closer = reserve_chat(
            request, quote, organization_id=organization_id, policy=policy, prompt_bound=bound
        )
        return Closer(closer, was_dear=True)

    @override
    def measure(
        self, request: ChatRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        return measure_tokens(
            reading,
            quote.terms,
            read=usage_from_openai,
            estimate=partial(_estimate, request),
            shape=(1, request.n),
            produced=produced,
        )

    @override
    def upstream_body(
        self,
        request: ChatRequest,
        *,
        quote: Quote,
        upstream_model: str,
        output_cap: int | None,
        namespaced: Mapping[str, str],
    ) -> bytes:
        return upstream_body(
            request,
            upstream_model=upstream_model,
            include_usage=True,
            output_cap=output_cap,
            cap_field=quote.terms.output_cap_field,
            namespaced=namespaced,
        )

    @override
    def taken(self, request: ChatRequest) -> None:
        request.members.clear()

    @override
    def meter(self, request: ChatRequest, response: UpstreamResponse) -> StreamMeter | None:
        if request.stream and is_event_stream(response):
            return ChatStreamMeter(include_usage=request.include_usage)
        return None

    @override
    def read_answer(self, request: ChatRequest, body: bytes) -> BodyReading:
        answer = meter_body(body)
        if request.wants_audio and answer.kind == "completion":
            return replace(answer, ids=audio_ids_of_choices(answer.choices))
        return answer


def _estimate(request: ChatRequest, output: str) -> Usage:
    return text_usage(
        estimate_prompt_tokens(request.model, request.body), estimate_tokens(request.model, output)
    )
