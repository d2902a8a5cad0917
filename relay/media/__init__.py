"""How long a sound is, from the frames and headers of its file, seen while it passes."""

from relay.media.meter import DurationMeter

__all__ = ["DurationMeter"]
