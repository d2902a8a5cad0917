"""Opus packets: how long each is, by its own first bytes, which every decoder goes by."""

from typing import Final

SAMPLES_PER_SECOND: Final = 48_000
# A packet has no more, whatever its first bytes say: then it is none.
_MOST_SAMPLES: Final = 5_760
# Samples of a frame, by the configuration in the upper bits of the first byte.
_SILK, _HYBRID, _CELT = (480, 960, 1_920, 2_880), (480, 960), (120, 240, 480, 960)
_FRAME_SAMPLES: Final = _SILK * 3 + _HYBRID * 2 + _CELT * 4
_ANY_NUMBER: Final = 3


def packet_samples(start: bytes) -> int:
    """Of the packet that begins with these two bytes, or with all that there are."""
    if not start:
        return 0
    code = start[0] & 3
    frames = 1 if code == 0 else 2
    if code == _ANY_NUMBER:
        frames = start[1] & 63 if len(start) > 1 else 0
    return min(frames * _FRAME_SAMPLES[start[0] >> 3], _MOST_SAMPLES)
