"""What the endpoints have in common whose body is one JSON object, and those with plain prompts."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from billing.prices.catalog import Quote
from relay.bodies.json_members import splice_members
from relay.bodies.prompts import Prompts
from relay.endpoints.base import NO_CLOSER, Closer, Handler, JsonRequest
from relay.metering.reservation import HoldPolicy, Needs, Reservation, reserve_tokens
from relay.metering.tokenizer import tight_texts_bound


class PromptRequest(JsonRequest, Protocol):
    """A request for what a model makes of one or several texts."""

    @property
    def prompts(self) -> Prompts: ...
    def needs(self, prompt_bytes: int) -> Needs: ...


J = TypeVar("J", bound=JsonRequest)
P = TypeVar("P", bound=PromptRequest)


class JsonHandler(Handler[J]):
    """The body goes on as it came, with other values for the few members that have to change."""

    @override
    @abstractmethod
    def parse(self, body: bytes) -> J: ...

    def changes(self, request: J, *, output_cap: int | None) -> Mapping[str, Any]:  # noqa: ARG002  Few have any.
        """What has to change beside the model and what is namespaced."""
        return {}

    @override
    def upstream_body(
        self,
        request: J,
        *,
        quote: Quote,
        upstream_model: str,
        output_cap: int | None,
        namespaced: Mapping[str, str],
    ) -> bytes:
        changes = {**namespaced, **self.changes(request, output_cap=output_cap)}
        if upstream_model != request.model:
            changes["model"] = upstream_model
        return splice_members(request.body, request.members, changes) if changes else request.body

    @override
    def taken(self, request: J) -> None:
        request.members.clear()


class PromptHandler(JsonHandler[P]):
    """Its prompts are paid by their tokens, of which a text has no more than bytes."""

    @override
    def reserve(
        self, request: P, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> Reservation:
        needs = request.needs(len(request.body))
        return reserve_tokens(needs, quote, organization_id=organization_id, policy=policy)

    @override
    def reserve_closely(
        self,
        request: P,
        quote: Quote,
        *,
        organization_id: int,
        policy: HoldPolicy,
        upstream_models: set[str],
    ) -> Closer:
        bound = tight_texts_bound(request.body, request.prompts.texts, upstream_models)
        if bound >= len(request.body):
            return NO_CLOSER
        needs = request.needs(bound)
        closer = reserve_tokens(needs, quote, organization_id=organization_id, policy=policy)
        return Closer(closer, was_dear=True)
