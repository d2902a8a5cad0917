"""POST /audio/transcriptions and /audio/translations: what was said in a file that passes through.

Billed by the usage of the reply, tokens or a duration; where it has none, by the duration that the
reply or, failing that, the file itself names; where none does, by the file's size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from typing_extensions import override

from billing.prices.catalog import Quote
from billing.pricing import (
    INPUT_AUDIO,
    MAX_AUDIO_BYTES,
    MAX_UNITS,
    PriceTerms,
    UsageBounds,
    audio_bound_milliseconds,
    transcription_bound_tokens,
    usage_from_transcription,
)
from relay.bodies.fields import NAMESPACED, missing
from relay.bodies.forms import FormReader
from relay.bodies.uploads import Upload, upload_of
from relay.endpoints.base import Closer, Handler, StreamMeter, is_event_stream
from relay.endpoints.media_prices import Ways, reserve_ways, tokens_usage, units_usage
from relay.endpoints.transcripts import (
    TranscriptAnswer,
    TranscriptStreamMeter,
    least_milliseconds,
    told_milliseconds,
    transcript_answer,
)
from relay.exchange import Exchange
from relay.metering.reservation import FlatReservation, HoldPolicy
from relay.metering.settlement import Measure, Reading, reported_usage
from relay.metering.tokenizer import estimate_tokens
from relay.upstream import BodyStream, UpstreamResponse

# Where nothing tells how long a sound is: 64 kbit/s, as most recordings of speech have.
USUAL_BYTES_PER_SECOND: Final = 8_000
TOKENS_PER_SECOND: Final = 10
# At the usual speed somebody says a few words a second.
WRITTEN_TOKENS_PER_SECOND: Final = 5
# No model reads a longer prompt: what is beyond it is cut off, or refused.
MAX_PROMPT_TOKENS: Final = 16_000
# Nothing is sent without a hold, even if there is no sound in the file.
LEAST_MILLISECONDS: Final = 1_000
_SINGLE: Final = frozenset(
    {"model", "response_format", "stream", "language", "prompt", "temperature", *NAMESPACED}
)
_TEXTS: Final = frozenset({"text", "srt", "vtt"})


class TranscriptionRequest:
    """A form of which the end may still be on its way: what comes late is known late."""

    service_tier: str | None = None

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.model = upload.form.text("model") or ""
        if not self.model:
            raise missing("model")
        self.namespaced = {name: text for name in NAMESPACED if (text := upload.form.text(name))}

    @property
    def stream(self) -> bool:
        return (self.upload.form.text("stream") or "").lower() in {"true", "1"}

    @property
    def wants_text(self) -> bool:
        return self.upload.form.text("response_format") in _TEXTS

    @property
    def most_milliseconds(self) -> int:
        """The sound is no longer, whatever its file says of it.

        A length that was counted is the length; one that is only written down may be too short.
        """
        measured, form = self.measured_milliseconds, self.upload.form
        size = self.upload.most_file_bytes
        by_size = MAX_AUDIO_BYTES if size is None else min(size, MAX_AUDIO_BYTES)
        most = audio_bound_milliseconds(by_size)
        if measured is not None:
            counted = form.counted_milliseconds
            longest = max(most, measured) if counted is None else counted
            # Upstream rounds to whole seconds.
            most = -(-longest // 1_000) * 1_000 + 1_000
        return min(max(most, LEAST_MILLISECONDS), MAX_UNITS)

    @property
    def measured_milliseconds(self) -> int | None:
        return self.upload.form.milliseconds if self.upload.form.is_read else None

    @property
    def usual_milliseconds(self) -> int:
        """What the file says, else what a recording of its size is mostly like."""
        measured = self.measured_milliseconds
        if measured:
            return min(measured, MAX_UNITS)
        size = self.upload.most_file_bytes
        most = MAX_AUDIO_BYTES if size is None else min(size, MAX_AUDIO_BYTES)
        return -(-most * 1_000 // USUAL_BYTES_PER_SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundReservation(FlatReservation):
    most_milliseconds: int

    @override
    def output_cap(self, *, amount_nano_usd: int, strict: bool) -> int | None:
        """How long the sound may turn out to be when its end has come."""
        return self.most_milliseconds if strict else None


class TranscriptionsHandler(Handler[TranscriptionRequest]):
    """Both endpoints: the form of a translation has a few fields less."""

    @override
    async def read(self, exchange: Exchange, argument: str | None) -> TranscriptionRequest:
        form = FormReader(
            exchange.header(b"content-type"), single=_SINGLE, file_limit_bytes=MAX_AUDIO_BYTES
        )
        upload = upload_of(
            exchange, form, limit_bytes=self.endpoint.body_limit_bytes or MAX_AUDIO_BYTES
        )
        try:
            await upload.read_ahead(_is_known)
            return TranscriptionRequest(upload)
        except BaseException:
            upload.close()
            raise

    @override
    async def digest(self, request: TranscriptionRequest) -> bytes:
        return await request.upload.digest()

    @override
    def close(self, request: TranscriptionRequest) -> None:
        request.upload.close()

    # --- Money -----------------------------------------------------------------------------------

    @override
    def reserve(
        self,
        request: TranscriptionRequest,
        quote: Quote,
        *,
        organization_id: int,
        policy: HoldPolicy,
    ) -> SoundReservation:
        return _reserve(request, quote, organization_id)

    @override
    async def gather(self, request: TranscriptionRequest) -> None:
        await request.upload.read_all()

    @override
    def reserve_closely(
        self,
        request: TranscriptionRequest,
        quote: Quote,
        *,
        organization_id: int,
        policy: HoldPolicy,
        upstream_models: set[str],
    ) -> Closer:
        """By the file itself, which is all here now."""
        return Closer(_reserve(request, quote, organization_id), was_dear=True)

    @override
    def measure(
        self, request: TranscriptionRequest, reading: Reading, quote: Quote, *, produced: bool
    ) -> Measure:
        assert isinstance(reading, TranscriptAnswer | TranscriptStreamMeter), "another endpoint's"
        terms = quote.terms
        usage, flags = reported_usage(reading.usage, terms, read=usage_from_transcription)
        if usage is not None and not terms.unpriced_units(usage):
            return Measure(usage, "upstream", flags)
        text = reading.output_text()
        if isinstance(reading, TranscriptStreamMeter) and not (text or produced):
            return Measure(flags=flags)
        told = told_milliseconds(reading.duration)
        if told is not None and terms.prices_unit(INPUT_AUDIO):
            return Measure(units_usage({INPUT_AUDIO: told}), "upstream", flags)
        length = told or request.usual_milliseconds
        if told is None and request.measured_milliseconds is None:
            flags = (*flags, "guessed_duration")
        elif told is None and request.upload.form.counted_milliseconds is None:
            least = least_milliseconds(text)
            if length < least:
                length, flags = least, (*flags, "doubted_duration")
        return _by_duration(request, length, text, terms, flags)

    # --- Upstream --------------------------------------------------------------------------------

    @override
    def can_send_again(self, request: TranscriptionRequest) -> bool:
        return not request.upload.has_begun

    @override
    def content_type(self, request: TranscriptionRequest) -> bytes:
        return request.upload.form.content_type

    @override
    def upstream_body(
        self,
        request: TranscriptionRequest,
        *,
        quote: Quote,
        upstream_model: str,
        output_cap: int | None,
        namespaced: Mapping[str, str],
    ) -> bytes | BodyStream:
        request.upload.form.most_milliseconds = output_cap
        changes = dict(namespaced)
        if upstream_model != request.model:
            changes["model"] = upstream_model
        return request.upload.body(changes)

    @override
    def meter(
        self, request: TranscriptionRequest, response: UpstreamResponse
    ) -> StreamMeter | None:
        return TranscriptStreamMeter() if is_event_stream(response) else None

    @override
    def read_answer(self, request: TranscriptionRequest, body: bytes) -> TranscriptAnswer:
        return transcript_answer(body, may_be_text=request.wants_text)


def _is_known(form: FormReader) -> bool:
    return form.has("model") and not form.is_inside_field


def _reserve(request: TranscriptionRequest, quote: Quote, organization_id: int) -> SoundReservation:
    prompt = len((request.upload.form.text("prompt") or "").encode())
    most = request.most_milliseconds
    usual = max(min(most, request.usual_milliseconds), LEAST_MILLISECONDS)
    heard, written = transcription_bound_tokens(most)
    usual_seconds = -(-usual // 1_000)
    # A prompt that comes behind the file is as long as a form lets it be.
    longest = prompt if request.upload.form.is_read else MAX_PROMPT_TOKENS
    flat = reserve_ways(
        Ways(
            most=(
                UsageBounds(counts={INPUT_AUDIO: most}),
                UsageBounds(prompt_tokens=heard + longest, output_tokens=written),
            ),
            usual=(
                UsageBounds(counts={INPUT_AUDIO: usual}),
                UsageBounds(
                    prompt_tokens=usual_seconds * TOKENS_PER_SECOND + prompt,
                    output_tokens=usual_seconds * WRITTEN_TOKENS_PER_SECOND,
                ),
            ),
        ),
        quote,
        organization_id=organization_id,
        service_tier=None,
    )
    return SoundReservation(hold=flat.hold, most_milliseconds=most)


def _by_duration(
    request: TranscriptionRequest,
    length: int,
    text: str,
    terms: PriceTerms,
    flags: tuple[str, ...],
) -> Measure:
    if terms.prices_unit(INPUT_AUDIO):
        return Measure(units_usage({INPUT_AUDIO: length}), "estimated", flags)
    count = partial(estimate_tokens, request.model)
    usage = tokens_usage(
        text=count(request.upload.form.text("prompt") or ""),
        sound=-(-length * TOKENS_PER_SECOND // 1_000),
        written=count(text),
    )
    return Measure(usage, "estimated", flags)
