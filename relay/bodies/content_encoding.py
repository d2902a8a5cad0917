"""Unpacks the bodies that some agents send packed, within the limit of what a body may be. Pure.

Nothing is ever read from packed bytes: a gateway that looked for a field in them would sell one
thing and send another.
"""

import zlib
from collections.abc import Callable
from typing import Final, Protocol

from backports import zstd

from relay.errors import RelayError, request_too_large

# 32 MB: the most memory that the window of a packed body may take, which its sender chooses.
_ZSTD_WINDOW: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 25}
_GZIP: Final = 16 + zlib.MAX_WBITS


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_UNPACKERS: Final[dict[bytes, Callable[[], _Unpacker]]] = {
    b"gzip": lambda: zlib.decompressobj(_GZIP),
    b"x-gzip": lambda: zlib.decompressobj(_GZIP),
    b"deflate": zlib.decompressobj,
    b"zstd": lambda: zstd.ZstdDecompressor(options=_ZSTD_WINDOW),
}


def is_known(encoding: bytes) -> bool:
    """`encoding` is what the header says, in lower case: one encoding, not a list of them."""
    return encoding in _UNPACKERS


def unpack(body: bytes, encoding: bytes, *, limit_bytes: int) -> bytes:
    """The body as it was before. Takes milliseconds for megabytes. Raises RelayError.

    What is one byte larger than the limit is not unpacked any further, however much would follow.
    """
    unpacker = _UNPACKERS[encoding]()
    try:
        unpacked = unpacker.decompress(body, limit_bytes + 1)
    except (zlib.error, zstd.ZstdError):
        raise _malformed(encoding) from None
    if len(unpacked) > limit_bytes:
        raise request_too_large(limit_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise _malformed(encoding)
    return unpacked


def _malformed(encoding: bytes) -> RelayError:
    return RelayError(
        400,
        f"The body is not what its header `content-encoding: {encoding.decode()}` says.",
        code="invalid_content_encoding",
    )
