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
    operation: str
    """What the path is called inside; paths that take several methods have a row for each."""
    method: str
    path: tuple[str, ...]
    """The segments behind the prefix; one of them may be `{id}`."""
    name: str = ""
    """In usage records, and the name under which the price book lists models for it."""
    body: BodyKind = BodyKind.JSON
    body_limit_bytes: int | None = None
    """None: the operator's limit for JSON bodies."""
    meter: str
    """What says how much was used."""
    units: tuple[str, ...]
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

    target: bytes = field(init=False)
    """The path upstream; where it has an id, the handler says it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", ("/" + "/".join(self.path)).encode())
        object.__setattr__(self, "listed_as", self.listed_as or self.name)


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
        name="/".join(("responses", ID, *behind)),
        body=BodyKind.NONE,
        meter="none",
        units=(),
        streamed=streamed,
        is_free=True,
        echoes=True,
        id_fields=("response_id", "after", "before"),
    )


ENDPOINTS: Final = (
    Endpoint(
        operation="chat_completions",
        method="POST",
        path=("chat", "completions"),
        name="chat/completions",
        meter="usage",
        units=_TOKENS,
        streamed=True,
        id_fields=("file_id", "messages.audio.id", "audio.voice.id"),
    ),
    Endpoint(
        operation="completions",
        method="POST",
        path=("completions",),
        name="completions",
        meter="usage",
        units=("input tokens", "output tokens"),
        streamed=True,
    ),
    Endpoint(
        operation="embeddings",
        method="POST",
        path=("embeddings",),
        name="embeddings",
        meter="usage",
        units=("input tokens",),
    ),
    Endpoint(
        operation="moderations",
        method="POST",
        path=("moderations",),
        name="moderations",
        meter="none",
        units=(),
        is_free=True,
    ),
    Endpoint(
        operation="responses",
        method="POST",
        path=("responses",),
        name="responses",
        meter="usage, and the calls of tools in the output",
        units=(*_TOKENS, "web searches", "file searches", "code interpreter sessions"),
        streamed=True,
        echoes=True,
        id_fields=_RESPONSE_IDS,
    ),
    Endpoint(
        operation="responses_compact",
        method="POST",
        path=("responses", "compact"),
        name="responses/compact",
        listed_as="responses",
        meter="usage",
        units=_TOKENS,
        echoes=True,
        id_fields=_RESPONSE_IDS,
    ),
    Endpoint(
        operation="responses_input_tokens",
        method="POST",
        path=("responses", "input_tokens"),
        name="responses/input_tokens",
        listed_as="responses",
        meter="none",
        units=(),
        is_free=True,
        echoes=True,
        id_fields=_RESPONSE_IDS,
    ),
    Endpoint(
        operation="images_generations",
        method="POST",
        path=("images", "generations"),
        name="images/generations",
        meter="usage, or the images that came",
        units=_IMAGES,
        streamed=True,
    ),
    Endpoint(
        operation="images_edits",
        method="POST",
        path=("images", "edits"),
        name="images/edits",
        body=BodyKind.MULTIPART,
        body_limit_bytes=_PICTURES_LIMIT_BYTES,
        meter="usage, or the images that came",
        units=_IMAGES,
        streamed=True,
        id_fields=("images.file_id", "mask.file_id"),
    ),
    Endpoint(
        operation="images_variations",
        method="POST",
        path=("images", "variations"),
        name="images/variations",
        body=BodyKind.MULTIPART,
        body_limit_bytes=_PICTURES_LIMIT_BYTES,
        meter="the images that came",
        units=_IMAGES,
    ),
    Endpoint(
        operation="audio_transcriptions",
        method="POST",
        path=("audio", "transcriptions"),
        name="audio/transcriptions",
        body=BodyKind.MULTIPART,
        body_limit_bytes=_SOUND_LIMIT_BYTES,
        meter="usage, or how long the sound is",
        units=("milliseconds of sound", "input tokens", "output tokens"),
        streamed=True,
    ),
    Endpoint(
        operation="audio_translations",
        method="POST",
        path=("audio", "translations"),
        name="audio/translations",
        body=BodyKind.MULTIPART,
        body_limit_bytes=_SOUND_LIMIT_BYTES,
        meter="usage, or how long the sound is",
        units=("milliseconds of sound",),
    ),
    Endpoint(
        operation="audio_speech",
        method="POST",
        path=("audio", "speech"),
        name="audio/speech",
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
