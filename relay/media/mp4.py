"""MP4 and M4A: the samples of the audio tracks, in one piece or in fragments.

The boxes are walked flat: what is inside a container just follows it.
"""

from collections.abc import Generator
from typing import Final

import msgspec

from relay.media.source import EndOfSound, Parsing, Source, milliseconds

_CONTAINERS: Final = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf")
)
_WIDE: Final = 1
_TO_END: Final = 0
_BATCH_ENTRIES: Final = 512
_SAMPLE_FLAGS: Final = (0x100, 0x200, 0x400, 0x800)
_UNKNOWN: Final = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


class _Track(msgspec.Struct):
    is_sound: bool = False
    timescale: int = 0
    declared: int = 0
    sampled: int = 0
    default_duration: int = 0

    def length(self) -> int | None:
        return milliseconds(self.sampled or self.declared, per_second=self.timescale)


class _Movie(msgspec.Struct):
    timescale: int = 0
    declared: int = 0
    # By their numbers; the one that is being described comes last until it has its own.
    tracks: dict[int, _Track] = msgspec.field(default_factory=dict)
    now: _Track = msgspec.field(default_factory=_Track)
    fragment_duration: int = 0

    def length(self) -> int | None:
        lengths = [track.length() for track in self.tracks.values() if track.is_sound]
        known = [length for length in lengths if length is not None]
        if known:
            return max(known)
        return milliseconds(self.declared, per_second=self.timescale)


def parse_mp4(source: Source) -> Parsing:
    movie = _Movie()
    try:
        while True:
            head = yield from source.read(8)
            size, kind = int.from_bytes(head[:4]) - 8, head[4:]
            if size + 8 == _WIDE:
                wide = yield from source.read(8)
                size = int.from_bytes(wide) - 16
            elif size + 8 == _TO_END:
                return movie.length()
            if size < 0:
                return movie.length()
            if kind == b"trak":
                movie.now = _Track()
            if kind not in _CONTAINERS:
                end = source.position + size
                yield from _box(source, kind, size, movie)
                source.skip(max(0, end - source.position))
    except EndOfSound:
        return movie.length()


def _box(source: Source, kind: bytes, size: int, movie: _Movie) -> Parsing:
    """Read as much of the box as matters."""
    if kind in (b"mvhd", b"mdhd") and size >= 20:  # noqa: PLR2004 - the shorter version.
        timescale, duration = yield from _times(source)
        owner = movie if kind == b"mvhd" else movie.now
        owner.timescale, owner.declared = timescale, duration
    elif kind == b"tkhd" and size >= 24:  # noqa: PLR2004 - up to the number in either version.
        data = yield from source.read(24)
        place = 20 if data[0] == 1 else 12
        movie.tracks[int.from_bytes(data[place : place + 4])] = movie.now
    elif kind == b"hdlr" and size >= 12:  # noqa: PLR2004 - up to the kind.
        data = yield from source.read(12)
        movie.now.is_sound = data[8:] == b"soun"
    elif kind == b"stts" and size >= 8:  # noqa: PLR2004 - the number of entries.
        data = yield from source.read(8)
        yield from _time_table(source, min(int.from_bytes(data[4:]), size // 8 - 1), movie.now)
    elif kind == b"trex" and size >= 16:  # noqa: PLR2004 - up to the duration.
        data = yield from source.read(16)
        track = movie.tracks.get(int.from_bytes(data[4:8]), movie.now)
        track.default_duration = int.from_bytes(data[12:])
    elif kind == b"tfhd" and size >= 8:  # noqa: PLR2004 - up to the number.
        yield from _fragment_head(source, size, movie)
    elif kind == b"trun" and size >= 8:  # noqa: PLR2004 - up to the number of samples.
        yield from _fragment_run(source, size, movie)
    return None


def _times(source: Source) -> Generator[tuple[int, int], bytes, tuple[int, int]]:
    data = yield from source.read(20)
    if data[0] == 1:
        more = yield from source.read(12)
        data += more
        timescale, duration = int.from_bytes(data[20:24]), int.from_bytes(data[24:32])
    else:
        timescale, duration = int.from_bytes(data[12:16]), int.from_bytes(data[16:20])
    return timescale, 0 if duration in _UNKNOWN else duration


def _time_table(source: Source, entries: int, track: _Track) -> Parsing:
    """Pairs of how many samples last how long."""
    while entries > 0:
        batch = min(entries, _BATCH_ENTRIES)
        data = yield from source.read(8 * batch)
        for at in range(0, len(data), 8):
            count, each = int.from_bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8])
            track.sampled += count * each
        entries -= batch
    return None


def _fragment_head(source: Source, size: int, movie: _Movie) -> Parsing:
    data = yield from source.read(8)
    flags = int.from_bytes(data[1:4])
    movie.now = movie.tracks.setdefault(int.from_bytes(data[4:]), _Track())
    movie.fragment_duration = movie.now.default_duration
    before = 8 * bool(flags & 1) + 4 * bool(flags & 2)
    if flags & 8 and size >= 12 + before:
        source.skip(before)
        duration = yield from source.read(4)
        movie.fragment_duration = int.from_bytes(duration)
    return None


def _fragment_run(source: Source, size: int, movie: _Movie) -> Parsing:
    data = yield from source.read(8)
    flags, samples = int.from_bytes(data[1:4]), int.from_bytes(data[4:])
    if not flags & 0x100:
        movie.now.sampled += samples * movie.fragment_duration
        return None
    entry = 4 * sum(bool(flags & flag) for flag in _SAMPLE_FLAGS)
    before = 4 * bool(flags & 1) + 4 * bool(flags & 4)
    source.skip(before)
    samples = min(samples, (size - 8 - before) // entry)
    while samples > 0:
        batch = min(samples, _BATCH_ENTRIES)
        data = yield from source.read(entry * batch)
        # The duration is the first of a sample's numbers.
        durations = (int.from_bytes(data[at : at + 4]) for at in range(0, len(data), entry))
        movie.now.sampled += sum(durations)
        samples -= batch
    return None
