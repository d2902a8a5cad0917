"""Pictures of one colour: small, and yet real files."""

import base64
import zlib
from functools import lru_cache
from struct import pack
from typing import Literal

Format = Literal["png", "jpeg", "webp"]

# These two are one pixel, whatever was asked for: their makers are not in the standard library.
_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////"
    "////////////////////////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
_WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")


@lru_cache(maxsize=32)
def picture_bytes(width: int, height: int, form: Format) -> bytes:
    if form == "jpeg":
        return _JPEG
    if form == "webp":
        return _WEBP
    # One bit a pixel, each line with the filter byte in front.
    lines = (b"\0" + b"\xff" * ((width + 7) // 8)) * height
    header = pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines, 9)), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def picture_base64(width: int, height: int, form: Format) -> str:
    return base64.b64encode(picture_bytes(width, height, form)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))
