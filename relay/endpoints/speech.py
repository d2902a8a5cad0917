"""POST /audio/speech: a voice, as a sound or as events; by the character or by tokens."""

from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw
from typing_extensions import override

from billing.prices.catalog import Quote
from billing.pricing import (
    CHARACTERS,
    MAX_UNITS,
    OUTPUT_AUDIO,
    Usage,
    UsageBounds,
    speech_bound_milliseconds,
    speech_bound_tokens,
    usage_from_speech,
)
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
from relay.endpoints.answers import UNREADABLE, JsonAnswer, json_answer
from relay.endpoints.base import StreamMeter, is_event_stream
from relay.endpoints.event_meter import EventMeter, Told
from relay.endpoints.json_bodies import JsonHandler
from relay.endpoints.media_prices import Ways, reserve_ways, tokens_usage, units_usage
from relay.endpoints.sounds import Sound, SoundMeter
from relay.metering.reservation import FlatReservation, HoldPolicy
from relay.metering.settlement import Measure, Reading, reported_usage
from relay.metering.tokenizer import estimate_tokens
from relay.tenancy.references import Reference
from relay.upstream import UpstreamResponse

# At the usual speed, in the languages that most callers speak.
USUAL_CHARACTERS_PER_SECOND: Final = 15
TOKENS_PER_SECOND: Final = 20
USUAL_BYTES_PER_SECOND: Final = 8_000
# The slowest that a voice can be asked to be.
_SLOWEST: Final = 4
_CUSTOM_VOICE: Final = "voice_"
_NOT_SOUND: Final = (b"application/json", b"text/")


class SpeechRequest(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    members: Members
    model: str
    stream: bool
    service_tier: str | None
    namespaced: dict[str, str]
    text: str
    instructions: str
    is_raw: bool
    is_slow: bool
    voice_id: str | None

    @property
    def prompt_bytes(self) -> int:
        return len(self.text.encode()) + len(self.instructions.encode())

    @property
    def most_times_slower(self) -> int:
        return _SLOWEST if self.is_slow else 1


_METERED: Final[Decoders] = {
    **COMMON,
    "input": decoder(str | None),
    "instructions": decoder(str | None),
    "response_format": decoder(str | None),
    "stream_format": decoder(str | None),
    "speed": decoder(Decimal | None),
    "voice": decoder(Any),
}


def parse_speech(body: bytes) -> SpeechRequest:
    """Raises InvalidRequest."""
    members = members_of(body)
    values = values_of(members, _METERED)
    if not values.get("input"):
        raise missing("input")
    speed = values.get("speed")
    return SpeechRequest(
        body=body,
        members=members,
        model=model_of(values),
        stream=values.get("stream_format") == "sse",
        service_tier=values.get("service_tier"),
        namespaced=namespaced_of(values),
        text=values["input"],
        instructions=values.get("instructions") or "",
        is_raw=values.get("response_format") == "pcm",
        is_slow=speed is not None and speed < 1,
        voice_id=_voice_id(values.get("voice")),
    )


def _voice_id(voice: object) -> str | None:
    """A voice of the customer's own, which upstream keeps; the built-in ones have plain names."""
    if isinstance(voice, Mapping):
        voice_id = voice.get("id")
        return voice_id if isinstance(voice_id, str) else None
    is_own = isinstance(voice, str) and voice.startswith(_CUSTOM_VOICE)
    return str(voice) if is_own else None


class VoiceStreamMeter(EventMeter):
    ending_types = frozenset({"speech.audio.done"})

    def __init__(self, sound: Sound) -> None:
        super().__init__()
        self.sound = sound

    @override
    def see(self, told: Told, kind: str) -> None:
        if kind.endswith(".delta"):
            self.output_seen = True
            self.sound.feed(_decoded(told.audio))


def _decoded(audio: Raw) -> bytes:
    try:
        return _decode_sound(audio)
    except msgspec.DecodeError:
        return b""  # It is passed on, but nobody can tell how long it is.


_decode_sound: Final = msgspec.json.Decoder(bytes).decode


class SpeechHandler(JsonHandler[SpeechRequest]):
    @override
    def parse(self, body: bytes) -> SpeechRequest:
        return parse_speech(body)

    @override
    def references(self, request: SpeechRequest) -> list[Reference]:
        return [] if request.voice_id is None else [Reference("voice.id", request.voice_id)]

    @override
    def reserve(
        self, request: SpeechRequest, quote: Quote, *, organization_id: int, policy: HoldPolicy
    ) -> FlatReservation:
        characters, slower = len(request.text), request.most_times_slower
        usual_seconds = -(-characters // USUAL_CHARACTERS_PER_SECOND)
        exactly = UsageBounds(counts={CHARACTERS: characters})
        return reserve_ways(
            Ways(
                most=(
                    exactly,
                    UsageBounds(
                        prompt_tokens=request.prompt_bytes,
                        output_tokens=speech_bound_tokens(characters) * slower,
                    ),
                    _sound(speech_bound_milliseconds(characters) * slower),
                ),
                usual=(
                    exactly,
                    UsageBounds(
                        prompt_tokens=request.prompt_bytes,
                        output_tokens=usual_seconds * TOKENS_PER_SECOND,
                    ),
                    _sound(usual_seconds * 1_000),
                ),
            ),
            quote,
            organization_id=organization_id,
            service_tier=request.service_tier,
        )

    @override
    def measure(
        self, request: SpeechRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        assert isinstance(reading, SoundMeter | VoiceStreamMeter), "another endpoint's"
        terms = quote.terms
        usage, flags = reported_usage(reading.usage, terms, read=usage_from_speech)
        if usage is not None and not terms.unpriced_units(usage):
            return Measure(usage, "upstream", flags)
        if not (reading.output_seen or produced):
            return Measure(flags=flags)
        if terms.prices_unit(CHARACTERS):
            return _by_characters(request, reading, flags)
        milliseconds = _milliseconds(reading)
        if terms.prices_unit(OUTPUT_AUDIO):
            return Measure(units_usage({OUTPUT_AUDIO: milliseconds}), "estimated", flags)
        return Measure(_tokens(request, milliseconds), "estimated", flags)

    @override
    def meter(self, request: SpeechRequest, response: UpstreamResponse) -> StreamMeter | None:
        if is_event_stream(response):
            return VoiceStreamMeter(Sound(is_raw=request.is_raw))
        content_type = (response.header(b"content-type") or b"").strip().lower()
        encoding = response.header(b"content-encoding")
        if content_type.startswith(_NOT_SOUND) or encoding not in (None, b"identity"):
            return None
        return SoundMeter(response, is_raw=request.is_raw)

    @override
    def read_answer(self, request: SpeechRequest, body: bytes) -> JsonAnswer:
        """What is no sound is no success."""
        answer = json_answer(body, member="object")
        return answer if answer.kind == "error" else UNREADABLE


def _sound(milliseconds: int) -> UsageBounds:
    return UsageBounds(counts={OUTPUT_AUDIO: min(milliseconds, MAX_UNITS)})


def _by_characters(
    request: SpeechRequest, reading: SoundMeter | VoiceStreamMeter, flags: tuple[str, ...]
) -> Measure:
    """All characters of the input; of a voice that broke off, as many as were heard."""
    characters = len(request.text)
    if reading.is_complete:
        return Measure(units_usage({CHARACTERS: characters}), "upstream", flags)
    heard = -(-_milliseconds(reading) * USUAL_CHARACTERS_PER_SECOND // 1_000)
    return Measure(units_usage({CHARACTERS: min(heard, characters)}), "estimated", flags)


def _milliseconds(reading: SoundMeter | VoiceStreamMeter) -> int:
    """How long the voice was that came; where that cannot be seen, as long as voices mostly are."""
    measured = reading.sound.milliseconds()
    if measured is None:
        measured = reading.sound.bytes * 1_000 // USUAL_BYTES_PER_SECOND
    return min(measured, MAX_UNITS)


def _tokens(request: SpeechRequest, milliseconds: int) -> Usage:
    count = partial(estimate_tokens, request.model)
    said = -(-milliseconds * TOKENS_PER_SECOND // 1_000)
    return tokens_usage(text=count(request.text) + count(request.instructions), said=said)
