"""Every endpoint that is offered, one row each: what it is, its unit, its limits. Pure.

A path that is not in this table reaches no upstream. How an endpoint reads, holds and prices its
calls is its handler's affair (`relay.endpoints.handlers`): there is exactly one for every row.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

ID: Final = "{id}"


class BodyKind(Enum):
    """What a request's body is, and thus how it is read."""

    JSON = "json"  # Read whole, decoded where it matters, forwarded as it came.
    MULTIPART = "multipart"  # Passed on part by part, its file never read whole.
    NONE = "none"  # There is none that anybody would look at.


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    path: tuple[str, ...]
    """The segments behind the prefix; one of them may be `{id}`."""
    method: str = "POST"
    operation: str = ""
    """What the path is called inside, by its segments if nothing else is said; paths that take
    several methods have a row for each."""
    body: BodyKind = BodyKind.JSON
    body_limit_bytes: int | None = None
    """None: the operator's limit for JSON bodies."""
    meter: str = "none"
    """What says how much was used."""
    units: tuple[str, ...] = ()
    streamed: bool = False
    listed_as: str = ""
    """Only models are served whose price lists the endpoint, under this name (as a rule, its own):
    no other model has its units, nor would upstream serve it."""
    is_free: bool = False
    """Nothing is held and nothing charged, but every call is recorded."""
    echoes: bool = False
    """The answer repeats the request's own `user`, `prompt_cache_key` and the like."""
    id_fields: tuple[str, ...] = ()
    """Where a request may name what upstream keeps: it must be the organization's own."""

    name: str = field(init=False)
    """The path, in usage records, and where the price book lists models for it."""
    target: bytes = field(init=False)
    """The path upstream; where it has an id, the handler says it."""

    def __post_init__(self) -> None:
        name = "/".join(self.path)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "operation", self.operation or "_".join(self.path))
        object.__setattr__(self, "target", f"/{name}".encode())
        object.__setattr__(self, "listed_as", self.listed_as or name)


_TOKENS: Final = ("input tokens", "cached input tokens", "output tokens")

_IMAGES: Final = ("images by quality and size", "input tokens", "output tokens")

# A sound of 25 MB, as upstream takes it, and the other fields of its form.
_SOUND_LIMIT_BYTES: Final = 26 * 1024 * 1024
# Upstream takes more, but few have so large pictures: they are kept until all fields are known.
_PICTURES_LIMIT_BYTES: Final = 64 * 1024 * 1024

_RESPONSE_IDS: Final = (
    "previous_response_id",
    "conversation",
    "prompt.id",
    "input.id",
    "file_id",
    "file_ids",
    "vector_store_ids",
    "container",
    "container_id",
    "skill_id",
    "tunnel_id",
    "approval_request_id",
)


def _stored(operation: str, method: str, *behind: str, streamed: bool = False) -> Endpoint:
    """What is done with a response that upstream keeps."""
    return Endpoint(
        operation=operation,
        method=method,
        path=("responses", ID, *behind),
        body=BodyKind.NONE,
        streamed=streamed,
        is_free=True,
        echoes=True,
        id_fields=("response_id", "after", "before"),
    )


ENDPOINTS: Final = (
    Endpoint(
        path=("chat", "completions"),
        meter="usage",
        units=_TOKENS,
        streamed=True,
        id_fields=("file_id", "messages.audio.id", "audio.voice.id"),
    ),
    Endpoint(
        path=("completions",),
        meter="usage",
        units=("input tokens", "output tokens"),
        streamed=True,
    ),
    Endpoint(
        path=("embeddings",),
        meter="usage",
        units=("input tokens",),
    ),
    Endpoint(
        path=("moderations",),
        is_free=True,
    ),
    Endpoint(
        path=("responses",),
        meter="usage, and the calls of tools in the output",
        units=(*_TOKENS, "web searches", "file searches", "code interpreter sessions"),
        streamed=True,
        echoes=True,
        id_fields=_RESPONSE_IDS,
    ),
    Endpoint(
        path=("responses", "compact"),
        listed_as="responses",
        meter="usage",
        units=_TOKENS,
        echoes=True,
        id_fields=_RESPONSE_IDS,
    ),
    Endpoint(
        path=("responses", "input_tokens"),
        listed_as="responses",
        is_free=True,
        echoes=True,
        id_fields=_RESPONSE_IDS,
    ),
    Endpoint(
        path=("images", "generations"),
        meter="usage, or the images that came",
        units=_IMAGES,
        streamed=True,
    ),
    Endpoint(
        path=("images", "edits"),
        body=BodyKind.MULTIPART,
        body_limit_bytes=_PICTURES_LIMIT_BYTES,
        meter="usage, or the images that came",
        units=_IMAGES,
        streamed=True,
        id_fields=("images.file_id", "mask.file_id"),
    ),
    Endpoint(
        path=("images", "variations"),
        body=BodyKind.MULTIPART,
        body_limit_bytes=_PICTURES_LIMIT_BYTES,
        meter="the images that came",
        units=_IMAGES,
    ),
    Endpoint(
        path=("audio", "transcriptions"),
        body=BodyKind.MULTIPART,
        body_limit_bytes=_SOUND_LIMIT_BYTES,
        meter="usage, or how long the sound is",
        units=("milliseconds of sound", "input tokens", "output tokens"),
        streamed=True,
    ),
    Endpoint(
        path=("audio", "translations"),
        body=BodyKind.MULTIPART,
        body_limit_bytes=_SOUND_LIMIT_BYTES,
        meter="usage, or how long the sound is",
        units=("milliseconds of sound",),
    ),
    Endpoint(
        path=("audio", "speech"),
        meter="usage, or the characters of the input, or how long the sound is",
        units=("characters", "input tokens", "output tokens", "milliseconds of sound"),
        streamed=True,
        id_fields=("voice.id",),
    ),
    _stored("response", "GET", streamed=True),
    _stored("response", "DELETE"),
    _stored("response_cancel", "POST", "cancel"),
    _stored("response_input_items", "GET", "input_items"),
)
