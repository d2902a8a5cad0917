"""POST /embeddings: any form of input, paid by its tokens; nothing is written."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

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
from relay.bodies.json_members import Members, splice_members
from relay.bodies.prompts import Prompts, prompts_of
from relay.endpoints.answers import JsonAnswer, json_answer
from relay.endpoints.base import NO_CLOSER, Closer, Handler
from relay.metering.reservation import HoldPolicy, Needs, Reservation, reserve_tokens
from relay.metering.settlement import Measure, Reading, measure_tokens, text_usage
from relay.metering.tokenizer import tight_texts_bound


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    members: Members
    model: str
    service_tier: str | None
    namespaced: dict[str, str]
    inputs: Prompts
    stream: bool = False

    def needs(self, prompt_bytes: int) -> Needs:
        return Needs(
            prompt_bytes=prompt_bytes,
            usual_prompt=prompt_bytes,
            prompts=self.inputs.count,
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
        inputs=prompts_of(values.get("input"), param="input"),
    )


class EmbeddingsHandler(Handler[EmbeddingRequest]):
    @override
    def parse(self, body: bytes) -> EmbeddingRequest:
        return parse_embedding(body)

    @override
    def reserve(
        self, request: EmbeddingRequest, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> Reservation:
        needs = request.needs(len(request.body))
        return reserve_tokens(needs, quote, organization_id=organization_id, policy=policy)

    @override
    def reserve_closely(
        self,
        request: EmbeddingRequest,
        quote: Quote,
        *,
        organization_id: int,
        policy: HoldPolicy,
        upstream_models: set[str],
    ) -> Closer:
        bound = tight_texts_bound(request.body, request.inputs.texts, upstream_models)
        if bound >= len(request.body):
            return NO_CLOSER
        needs = request.needs(bound)
        closer = reserve_tokens(needs, quote, organization_id=organization_id, policy=policy)
        return Closer(closer, was_dear=True)

    @override
    def measure(
        self, request: EmbeddingRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        return measure_tokens(
            reading,
            quote.terms,
            read=usage_from_embeddings,
            estimate=partial(_estimate, request),
            shape=(request.inputs.count, 1),
            produced=produced,
        )

    @override
    def upstream_body(
        self,
        request: EmbeddingRequest,
        *,
        quote: Quote,
        upstream_model: str,
        output_cap: int | None,
        namespaced: Mapping[str, str],
    ) -> bytes:
        changes: dict[str, Any] = dict(namespaced)
        if upstream_model != request.model:
            changes["model"] = upstream_model
        if not changes:
            return request.body
        return splice_members(request.body, request.members, changes)

    @override
    def read_answer(self, request: EmbeddingRequest, body: bytes) -> JsonAnswer:
        return json_answer(body, member="data")


def _estimate(request: EmbeddingRequest, output: str) -> Usage:  # noqa: ARG001  Vectors are not counted.
    return text_usage(request.inputs.estimate(request.model))
