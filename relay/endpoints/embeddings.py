"""POST /embeddings: any form of input, paid by its tokens; nothing is written."""

from functools import partial
from typing import Final

import msgspec
from msgspec import Raw
from typing_extensions import override

from billing.prices.catalog import Quote
from billing.pricing import Usage, usage_from_embeddings
from relay.bodies.fields import (
    COMMON,
    Decoders,
    decoder,
    members_of,
    model_of,
    namespaced_of,
    values_of,
)
from relay.bodies.json_members import Members
from relay.bodies.prompts import Prompts, prompts_of
from relay.endpoints.answers import JsonAnswer, json_answer
from relay.endpoints.json_bodies import PromptHandler
from relay.metering.reservation import Needs
from relay.metering.settlement import Measure, Reading, measure_tokens, text_usage


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    members: Members
    model: str
    service_tier: str | None
    namespaced: dict[str, str]
    prompts: Prompts
    stream: bool = False

    def needs(self, prompt_bytes: int) -> Needs:
        return Needs(
            prompt_bytes=prompt_bytes,
            usual_prompt=prompt_bytes,
            prompts=self.prompts.count,
            has_output=False,
            service_tier=self.service_tier,
        )


_METERED: Final[Decoders] = {**COMMON, "input": decoder(Raw)}


def parse_embedding(body: bytes) -> EmbeddingRequest:
    """Raises InvalidRequest."""
    members = members_of(body)
    values = values_of(members, _METERED)
    return EmbeddingRequest(
        body=body,
        members=members,
        model=model_of(values),
        service_tier=values.get("service_tier"),
        namespaced=namespaced_of(values),
        prompts=prompts_of(values.get("input"), param="input"),
    )


class EmbeddingsHandler(PromptHandler[EmbeddingRequest]):
    @override
    def parse(self, body: bytes) -> EmbeddingRequest:
        return parse_embedding(body)

    @override
    def measure(
        self, request: EmbeddingRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        return measure_tokens(
            reading,
            quote.terms,
            read=usage_from_embeddings,
            estimate=partial(_estimate, request),
            shape=(request.prompts.count, 1),
            produced=produced,
        )

    @override
    def read_answer(self, request: EmbeddingRequest, body: bytes) -> JsonAnswer:
        return json_answer(body, member="data")


def _estimate(request: EmbeddingRequest, output: str) -> Usage:  # noqa: ARG001  Vectors are not counted.
    return text_usage(request.prompts.estimate(request.model))
