"""POST /moderations: free, but recorded; whoever has a key may ask, with an empty wallet, too."""

from typing import Final

import msgspec
from msgspec import Raw
from typing_extensions import override

from billing.prices.catalog import Quote
from relay.bodies.fields import (
    COMMON,
    Decoders,
    decoder,
    members_of,
    missing,
    model_of,
    namespaced_of,
    values_of,
)
from relay.bodies.json_members import Members
from relay.endpoints.answers import JsonAnswer, json_answer
from relay.endpoints.json_bodies import JsonHandler
from relay.metering.reservation import FlatReservation, HoldPolicy, reserve_flat
from relay.metering.settlement import Measure, Reading

# What upstream takes where no model is named.
DEFAULT_MODEL: Final = "omni-moderation-latest"


class ModerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    members: Members
    model: str
    namespaced: dict[str, str]
    stream: bool = False
    service_tier: str | None = None


_METERED: Final[Decoders] = {**COMMON, "input": decoder(Raw)}


def parse_moderation(body: bytes) -> ModerationRequest:
    """Raises InvalidRequest."""
    members = members_of(body)
    values = values_of(members, _METERED)
    given = values.get("input")
    if given is None or bytes(given) == b"null":
        raise missing("input")
    return ModerationRequest(
        body=body,
        members=members,
        model=model_of(values, DEFAULT_MODEL),
        namespaced=namespaced_of(values),
    )


class ModerationsHandler(JsonHandler[ModerationRequest]):
    @override
    def parse(self, body: bytes) -> ModerationRequest:
        return parse_moderation(body)

    @override
    def reserve(
        self,
        request: ModerationRequest,
        quote: Quote,
        *,
        organization_id: int,
        policy: HoldPolicy,
    ) -> FlatReservation:
        return reserve_flat(organization_id)

    @override
    def measure(
        self, request: ModerationRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        return Measure()

    @override
    def read_answer(self, request: ModerationRequest, body: bytes) -> JsonAnswer:
        return json_answer(body, member="results")
