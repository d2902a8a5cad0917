"""Packed bodies: what comes out, and how little a bomb achieves."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from backports import zstd

from relay.bodies.content_encoding import is_known, unpack
from relay.errors import RelayError

BODY = b'{"model":"gpt-4o","input":"' + b"words " * 500 + b'"}'
PACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"zstd": zstd.compress,
}


def refused(packed: bytes, encoding: bytes, *, limit_bytes: int = 10_000) -> tuple[int, str | None]:
    with pytest.raises(RelayError) as caught:
        unpack(packed, encoding, limit_bytes=limit_bytes)
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("encoding", PACKERS)
def test_what_comes_out_is_what_was_packed(encoding: bytes) -> None:
    packed = PACKERS[encoding](BODY)
    assert is_known(encoding)
    assert len(packed) < len(BODY) // 10
    assert unpack(packed, encoding, limit_bytes=len(BODY)) == BODY
    assert refused(packed, encoding, limit_bytes=len(BODY) - 1) == (413, "request_too_large")


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: b"",
        lambda packed: packed[:-1],
        lambda packed: packed + b"x",
        lambda packed: packed + packed,
        lambda packed: BODY,
    ],
    ids=["nothing", "cut", "more", "twice", "not packed"],
)
def test_what_is_not_packed_so_is_refused(encoding: bytes, spoil: Callable[[bytes], bytes]) -> None:
    assert refused(spoil(PACKERS[encoding](BODY)), encoding) == (400, "invalid_content_encoding")


@pytest.mark.parametrize("encoding", PACKERS)
def test_a_bomb_takes_no_more_than_the_limit(encoding: bytes) -> None:
    bomb = PACKERS[encoding](bytes(50_000_000))
    assert len(bomb) < 100_000
    assert refused(bomb, encoding, limit_bytes=1_000_000) == (413, "request_too_large")


def test_no_sender_chooses_how_much_memory_a_window_takes() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    packed = packer.compress(BODY) + packer.flush()
    assert refused(packed, b"zstd") == (400, "invalid_content_encoding")


@pytest.mark.parametrize("encoding", [b"br", b"gzip, zstd", b"compress", b"x"])
def test_others_are_not_known(encoding: bytes) -> None:
    assert not is_known(encoding)
