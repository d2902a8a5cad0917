"""Silence in each audio format, and how long an uploaded sound is."""

import io
import math
import wave
from struct import pack

RATE = 24_000
_BITS_A_SECOND = 128_000
# Layer III of MPEG 2, 64 kbit/s, 24 kHz, mono: 192 bytes for 576 samples. All zeros is silence.
_MP3_FRAME = b"\xff\xf3\x84\xc4" + bytes(188)
_MP3_SAMPLES = 576
_AAC_SAMPLES = 1_024
_AAC_FRAME = b"\xff\xf1\x58\x40\x01\x7f\xfc\x01\x18\x20\x07"
# 20 ms of silence, as an encoder writes it; positions count 48,000 a second.
_OPUS_PACKET = b"\xf8\xff\xfe"
_OPUS_RATE, _OPUS_SAMPLES, _OPUS_LEAD_IN = 48_000, 960, 312
_OPUS_HEADS = (
    b"OpusHead\1\1" + pack("<HIHB", _OPUS_LEAD_IN, RATE, 0, 0),
    b"OpusTags" + pack("<I", 9) + b"simulated" + pack("<I", 0),
)
_PACKETS_IN_PAGE = 50


def silence_make(seconds: float, *, form: str) -> bytes:
    samples = math.ceil(seconds * RATE)
    match form:
        case "mp3":
            return _MP3_FRAME * -(-samples // _MP3_SAMPLES)
        case "aac":
            return _AAC_FRAME * -(-samples // _AAC_SAMPLES)
        case "wav":
            return _wav(samples)
        case "flac":
            sizes = pack(">HHxxxxxxQ", 4_096, 4_096, RATE << 44 | 15 << 36 | samples)
            return b"fLaC\x80\0\0\x22" + sizes + bytes(16)
        case "opus":
            return _opus(seconds)
        case _:
            return bytes(2 * samples)


def _wav(samples: int) -> bytes:
    kept = io.BytesIO()
    with wave.open(kept, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(bytes(2 * samples))
    return kept.getvalue()


def _opus(seconds: float) -> bytes:
    last = _OPUS_LEAD_IN + math.ceil(seconds * _OPUS_RATE)
    packets = -(-last // _OPUS_SAMPLES)
    pages = [_page((head,), number=number) for number, head in enumerate(_OPUS_HEADS)]
    for start in range(0, packets, _PACKETS_IN_PAGE):
        end = min(start + _PACKETS_IN_PAGE, packets)
        position = last if end == packets else end * _OPUS_SAMPLES
        silence = (_OPUS_PACKET,) * (end - start)
        pages.append(_page(silence, number=len(pages), position=position, is_last=end == packets))
    return b"".join(pages)


def _page(
    packets: tuple[bytes, ...], *, number: int, position: int = 0, is_last: bool = False
) -> bytes:
    """A page of Ogg with packets of less than 255 bytes."""
    kind = 4 * is_last + 2 * (number == 0)
    head = b"OggS" + pack("<BBQII", 0, kind, position, 1, number)
    rest = bytes([len(packets), *map(len, packets)]) + b"".join(packets)
    return head + pack("<I", _checksum(head + bytes(4) + rest)) + rest


def _checksum(data: bytes) -> int:
    """The CRC of Ogg: the usual polynomial, the usual bit order the other way round."""
    remainder = 0
    for byte in data:
        remainder = (remainder << 8) & 0xFFFFFFFF ^ _CHECKSUMS[remainder >> 24 ^ byte]
    return remainder


def _checksum_of(byte: int) -> int:
    remainder = byte << 24
    for _ in range(8):
        remainder = remainder << 1 ^ (0x104C11DB7 if remainder >> 31 else 0)
    return remainder


_CHECKSUMS = tuple(map(_checksum_of, range(256)))


def seconds_of(data: bytes) -> float:
    """Exact for WAV; anything else is taken for 128 kbit/s."""
    try:
        with wave.open(io.BytesIO(data)) as sound:
            frames: int = sound.getnframes()
            rate: int = sound.getframerate()
            return frames / rate
    except (wave.Error, EOFError, ZeroDivisionError):
        return len(data) * 8 / _BITS_A_SECOND
