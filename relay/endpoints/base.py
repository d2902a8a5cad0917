"""What the life of a call asks of its endpoint: the interface that every endpoint implements.

A handler keeps nothing of a call: one object serves all calls of its endpoint. What it has read of
one call is its request, which the handler alone understands; the life of the call (relaying.py)
only hands it around. To add an endpoint, add a row to `relay.endpoints.table` and a class to
`relay.endpoints.handlers`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from billing.engine.holds import HoldRequest
from billing.prices.catalog import Quote
from relay.bodies.json_members import Members
from relay.endpoints.table import Endpoint
from relay.errors import RelayError, render_event
from relay.exchange import Exchange
from relay.metering.meter import DONE
from relay.metering.reservation import HoldPolicy
from relay.metering.settlement import Measure, Reading
from relay.tenancy.references import Reference
from relay.upstream import BodyStream, UpstreamResponse

JSON: bytes = b"application/json"


class CallRequest(Protocol):
    """What the life of a call itself wants to know of a request."""

    @property
    def model(self) -> str:
        """The public model; empty where the endpoint has none."""
        ...

    @property
    def stream(self) -> bool: ...
    @property
    def service_tier(self) -> str | None: ...
    @property
    def namespaced(self) -> Mapping[str, str]:
        """The values of `relay.bodies.fields.NAMESPACED` that the client sent."""
        ...


class JsonRequest(CallRequest, Protocol):
    """A request whose body is one JSON object."""

    @property
    def body(self) -> bytes: ...
    @property
    def members(self) -> Members: ...


class Reservation(Protocol):
    """What a call sets aside. `metering.reservation` has one by tokens and a flat one."""

    @property
    def hold(self) -> HoldRequest: ...
    @property
    def covered_characters(self) -> int:
        """How much streamed output a standard hold covers from the start."""
        ...

    @property
    def step_characters(self) -> int: ...
    @property
    def usual_tokens(self) -> int:
        """How many tokens such a call usually has, for the limits of tokens per minute."""
        ...

    def output_cost(self, characters: int) -> int: ...
    def output_cap(self, *, amount_nano_usd: int, strict: bool) -> int | None: ...


class Answer(Reading, Protocol):
    """A whole answer, read before any of it goes out."""

    @property
    def kind(self) -> Literal["completion", "error", "unreadable"]:
        """All but the first are no success after all, and nothing is charged."""
        ...

    @property
    def error(self) -> RelayError | None:
        """What upstream said instead of an answer, if it did."""
        ...

    @property
    def body(self) -> bytes | None:
        """What the client gets instead of upstream's bytes; None: just those."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """What it hands out that a later request may name."""
        ...


class StreamMeter(Reading, Protocol):
    """Follows a streamed answer of any kind: events, audio, text.

    It holds the last piece back, which goes out only after the call is settled: `finish` gives it.
    """

    is_event_stream: bool
    """Else the client gets the content type that upstream said, and nothing is put in between."""
    keep_alive: bytes
    """What may be sent to the client between two pieces to show that it lives; empty: nothing."""
    characters: int
    """How much of the output came that a growing hold must cover."""
    done: bool
    """Nothing more will be forwarded but what `finish` gives."""
    error: RelayError | None
    """Upstream reported an error or sent what cannot be read; the client has been told of it."""
    output_seen: bool

    @property
    def ids(self) -> list[str]:
        """What was handed out that a later request may name; whoever has noted it, clears it."""
        ...

    @property
    def is_complete(self) -> bool:
        """The answer came to its end as far as can be told now."""
        ...

    @property
    def is_between_events(self) -> bool: ...

    def feed(self, chunk: bytes) -> bytes:
        """What to forward at once."""
        ...

    def finish(self) -> bytes:
        """What is still to be forwarded when upstream has ended, or was left."""
        ...

    def ending(self, error: RelayError | None) -> bytes | None:
        """The last bytes of all; `error` is what the client still must be told.

        None: there is no way to tell it, so the connection is broken instead.
        """
        ...


R = TypeVar("R", bound=CallRequest)


class Handler(ABC, Generic[R]):
    """One endpoint. All methods but `read` are pure."""

    can_begin_early = False
    """Its streams are events whoever answers, so they may begin before upstream does."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    # --- Reading ---------------------------------------------------------------------------------

    def parse(self, body: bytes) -> R:
        """The request of a JSON endpoint. Raises InvalidRequest."""
        raise NotImplementedError

    async def read(self, exchange: Exchange, argument: str | None) -> R:
        """The request of any other endpoint: of a multipart body, or of a path without one.

        `argument` is the `{id}` of the path. Raises RelayError, ClientLeft.
        """
        raise NotImplementedError

    async def digest(self, request: R) -> bytes:
        """The same for the same form, however it was cut and whatever its boundary is.

        All of it is taken in for that. Raises RelayError, ClientLeft.
        """
        raise NotImplementedError

    def close(self, request: R) -> None:
        """The call has ended: let go of what the request of a form keeps."""

    def references(self, request: R) -> Sequence[Reference]:  # noqa: ARG002  Most name nothing.
        """The ids that the request names: each must be the organization's own."""
        return ()

    # --- Money -----------------------------------------------------------------------------------

    @abstractmethod
    def reserve(
        self, request: R, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> Reservation:
        """What the call may cost at most. Raises InvalidRequest for what has no price."""

    async def gather(self, request: R) -> None:
        """Take in what is still to come of the request, for a closer look at it.

        Raises RelayError, ClientLeft.
        """

    def reserve_closely(
        self,
        request: R,  # noqa: ARG002  Most know no closer bound.
        quote: Quote,  # noqa: ARG002
        *,
        organization_id: int,  # noqa: ARG002
        policy: HoldPolicy,  # noqa: ARG002
        upstream_models: set[str],  # noqa: ARG002
    ) -> "Closer":
        """For those who cannot pay the first: what it may cost at most, looked at more closely."""
        return NO_CLOSER

    @abstractmethod
    def measure(self, request: R, reading: Reading, quote: Quote, *, produced: bool) -> Measure:
        """What was used: by what upstream reported or, failing that, by what was delivered.

        `produced`: upstream has worked for the call even if nothing of it can be seen.
        """

    # --- Upstream --------------------------------------------------------------------------------

    def target(self, request: R) -> bytes:  # noqa: ARG002  Most have but one.
        """The path behind the channel's base URL, and the query."""
        return self.endpoint.target

    def can_send_again(self, request: R) -> bool:  # noqa: ARG002  What is kept whole, can.
        """Whether the body is still here after a channel did not take the call."""
        return True

    def content_type(self, request: R) -> bytes:  # noqa: ARG002  Multipart bodies have boundaries.
        return JSON

    @abstractmethod
    def upstream_body(
        self,
        request: R,
        *,
        quote: Quote,
        upstream_model: str,
        output_cap: int | None,
        namespaced: Mapping[str, str],
    ) -> bytes | BodyStream:
        """What goes upstream: the client's own bytes wherever nothing has to change.

        `output_cap` is how long each answer may be for the money that is held; None: as long as it
        likes. `namespaced` are the values of `fields.NAMESPACED` as upstream may see them.
        """

    def taken(self, request: R) -> None:
        """Its answer is a stream, and begins: let go of what only sending it needed."""

    # --- Answers ---------------------------------------------------------------------------------

    def meter(self, request: R, response: UpstreamResponse) -> StreamMeter | None:  # noqa: ARG002  Few answers are streams.
        """Follows the answer if it is to be relayed as it comes; None: it is read whole."""
        return None

    def failed_stream(self, request: R, error: RelayError) -> bytes:  # noqa: ARG002  Most only tell it.
        """All of an event stream that failed before upstream had said anything."""
        return render_event(error) + DONE

    @abstractmethod
    def read_answer(self, request: R, body: bytes) -> Answer:
        """Reads a whole answer that came with a status of success."""


class Closer(NamedTuple):
    """A closer look at what a call may cost."""

    reservation: Reservation | None = None
    """None: it costs no less than was thought."""
    was_dear: bool = False
    """Looking took milliseconds: it is not done again soon for an organization that cannot pay."""


NO_CLOSER = Closer()


def is_event_stream(response: UpstreamResponse) -> bool:
    content_type = response.header(b"content-type") or b""
    return content_type.lower().startswith(b"text/event-stream")
