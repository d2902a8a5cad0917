"""POST /completions: the older way to ask, with a prompt instead of messages."""

from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw
from typing_extensions import override

from billing.prices.catalog import Quote
from billing.pricing import Usage, usage_from_openai
from relay.bodies.chat_requests import MAX_CHOICES
from relay.bodies.fields import (
    COMMON,
    MAX_OUTPUT_TOKENS,
    Decoders,
    InvalidRequest,
    decoder,
    in_range,
    includes_usage,
    members_of,
    model_of,
    namespaced_of,
    values_of,
)
from relay.bodies.json_members import Members
from relay.bodies.prompts import Prompts, prompts_of
from relay.endpoints.base import StreamMeter, is_event_stream
from relay.endpoints.json_bodies import PromptHandler
from relay.metering.meter import BodyReading, ChatStreamMeter, meter_body
from relay.metering.reservation import Needs
from relay.metering.settlement import Measure, Reading, measure_tokens, text_usage
from relay.metering.tokenizer import estimate_tokens
from relay.upstream import UpstreamResponse


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    members: Members
    model: str
    stream: bool
    service_tier: str | None
    namespaced: dict[str, str]
    prompts: Prompts
    include_usage: bool
    max_tokens: int | None
    echo: bool
    choices: int
    """How many answers upstream writes for all prompts; only the best of them may come."""
    delivered: int

    def needs(self, prompt_bytes: int) -> Needs:
        return Needs(
            prompt_bytes=prompt_bytes,
            usual_prompt=prompt_bytes,
            prompts=self.prompts.count,
            output_limit=self.max_tokens,
            choices=self.choices,
            service_tier=self.service_tier,
        )


_METERED: Final[Decoders] = {
    **COMMON,
    "prompt": decoder(Raw),
    "stream_options": decoder(Raw),
    "n": decoder(int | None),
    "best_of": decoder(int | None),
    "max_tokens": decoder(int | None),
    "echo": decoder(bool | None),
    "suffix": decoder(str | None),
}


def parse_completion(body: bytes) -> CompletionRequest:
    """Raises InvalidRequest."""
    members = members_of(body)
    values = values_of(members, _METERED)
    prompts = prompts_of(values.get("prompt"), param="prompt", may_be_missing=True)
    n = in_range(values, "n", MAX_CHOICES) or 1
    best_of = in_range(values, "best_of", MAX_CHOICES) or 1
    stream = values.get("stream") is True
    options = values.get("stream_options")
    if stream and best_of > n:
        raise InvalidRequest(
            "The answers of a stream cannot be compared: 'best_of' must not exceed 'n'.",
            param="best_of",
            code="invalid_value",
        )
    return CompletionRequest(
        body=body,
        members=members,
        model=model_of(values),
        stream=stream,
        service_tier=values.get("service_tier"),
        namespaced=namespaced_of(values),
        prompts=prompts,
        include_usage=options is not None and includes_usage(options) and stream,
        max_tokens=in_range(values, "max_tokens", MAX_OUTPUT_TOKENS, least=0),
        echo=values.get("echo") is True,
        choices=prompts.count * max(n, best_of),
        delivered=prompts.count * n,
    )


class CompletionsHandler(PromptHandler[CompletionRequest]):
    can_begin_early = True

    @override
    def parse(self, body: bytes) -> CompletionRequest:
        return parse_completion(body)

    @override
    def measure(
        self, request: CompletionRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        return measure_tokens(
            reading,
            quote.terms,
            read=usage_from_openai,
            estimate=partial(_estimate, request),
            shape=(request.prompts.count, request.choices),
            produced=produced,
        )

    @override
    def changes(self, request: CompletionRequest, *, output_cap: int | None) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if request.stream and not request.include_usage:
            changes["stream_options"] = {"include_usage": True}
        limit = request.max_tokens
        if output_cap is not None and (limit is None or limit > output_cap):
            changes["max_tokens"] = output_cap
        return changes

    @override
    def meter(self, request: CompletionRequest, response: UpstreamResponse) -> StreamMeter | None:
        if request.stream and is_event_stream(response):
            return ChatStreamMeter(include_usage=request.include_usage)
        return None

    @override
    def read_answer(self, request: CompletionRequest, body: bytes) -> BodyReading:
        return meter_body(body)


def _estimate(request: CompletionRequest, output: str) -> Usage:
    prompt = request.prompts.estimate(request.model)
    completion = estimate_tokens(request.model, output)
    if request.echo:  # What came contains each prompt, once for each answer to it.
        completion -= prompt * request.delivered // request.prompts.count
    # Of the answers that were compared, only the best came; the others were as long, probably.
    return text_usage(prompt, max(completion, 0) * request.choices // request.delivered)
