"""What came of a sound: a transcript as a document, as a text, as subtitles, or as events. Pure."""

import re
from decimal import Decimal
from io import StringIO
from typing import Any, Final, Literal

import msgspec
from typing_extensions import override

from billing.pricing import AbsurdUsage, milliseconds
from relay.endpoints.event_meter import EventMeter, Told
from relay.errors import RelayError
from relay.metering.meter import MAX_TEXT_CHARACTERS
from relay.upstream_errors import from_upstream_event

# Nobody speaks faster for long; but models make up some words where little was said.
FASTEST_CHARACTERS_PER_SECOND: Final = 25
MADE_UP_CHARACTERS: Final = 125
_SUBTITLE_END: Final = re.compile(r"--> (?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})")
_MARKUP: Final = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


class TranscriptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["completion", "error", "unreadable"]
    usage: object = None
    duration: object = None
    text: str = ""
    error: RelayError | None = None
    upstream_id: str | None = None
    served_tier: str | None = None
    body: bytes | None = None
    ids: tuple[str, ...] = ()

    def output_text(self) -> str:
        return self.text


class _Document(msgspec.Struct, gc=False):
    error: Any = None
    text: Any = None
    usage: Any = None
    duration: Any = None


# Seconds may have a fraction, and no float may come near money.
_decode: Final = msgspec.json.Decoder(_Document, float_hook=Decimal).decode


def transcript_answer(body: bytes, *, may_be_text: bool) -> TranscriptAnswer:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return TranscriptAnswer(kind="unreadable")
    try:
        document = _decode(body)
    except (msgspec.DecodeError, RecursionError):
        if may_be_text and body and not _MARKUP.match(body):
            return TranscriptAnswer(kind="completion", text=text)
        return TranscriptAnswer(kind="unreadable")
    if document.error:
        return TranscriptAnswer(kind="error", error=from_upstream_event(document.error))
    if not isinstance(document.text, str):
        return TranscriptAnswer(kind="completion" if may_be_text else "unreadable", text=text)
    return TranscriptAnswer(
        kind="completion",
        usage=document.usage or None,
        duration=document.duration,
        text=document.text,
    )


class TranscriptStreamMeter(EventMeter):
    ending_types = frozenset({"transcript.text.done"})
    duration: object = None

    def __init__(self) -> None:
        super().__init__()
        self._text = StringIO()
        self._written = 0

    @override
    def see(self, told: Told, kind: str) -> None:
        if kind in self.ending_types:
            self.output_seen = True
        elif kind.endswith(".delta") and isinstance(told.delta, str):
            self.output_seen = True
            self._written += len(told.delta)
            if self._written <= MAX_TEXT_CHARACTERS:
                self._text.write(told.delta)

    @override
    def output_text(self) -> str:
        return self._text.getvalue()


def told_milliseconds(duration: object) -> int | None:
    """What the reply says of the sound; some of its versions say it as a text."""
    if isinstance(duration, str):
        try:
            duration = Decimal(duration)
        except ArithmeticError:
            return None
    try:
        return milliseconds(duration) or None
    except AbsurdUsage:
        return None


def least_milliseconds(text: str) -> int:
    """No sound with this transcript is shorter: of subtitles, the last one ends no earlier."""
    ends = [
        ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1_000 + int(thousandths)
        for hours, minutes, seconds, thousandths in _SUBTITLE_END.findall(text)
    ]
    if ends:
        return max(ends)
    spoken = max(0, len(text) - MADE_UP_CHARACTERS)
    return -(-spoken * 1_000 // FASTEST_CHARACTERS_PER_SECOND)
