"""Segments of a transcription as subtitle files."""

from collections.abc import Iterable
from typing import Protocol


class Timed(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def text(self) -> str: ...


def srt_make(segments: Iterable[Timed]) -> str:
    blocks = (
        f"{one.number + 1}\n{_time(one.start, ',')} --> {_time(one.end, ',')}\n{one.text}\n\n"
        for one in segments
    )
    return "".join(blocks)


def vtt_make(segments: Iterable[Timed]) -> str:
    blocks = (
        f"{_time(one.start, '.')} --> {_time(one.end, '.')}\n{one.text}\n\n" for one in segments
    )
    return "WEBVTT\n\n" + "".join(blocks)


def _time(seconds: float, mark: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1_000), 1_000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{mark}{milliseconds:03d}"
