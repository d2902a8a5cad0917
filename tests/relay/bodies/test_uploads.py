"""How much of a form is kept, and what goes on of it."""

from collections.abc import AsyncIterator, Iterable

import pytest

from relay.bodies.forms import FormReader
from relay.bodies.uploads import MEMORY_BYTES, READ_AHEAD_BYTES, KeptBytes, Upload
from relay.errors import RelayError
from relay.upstream import BodyStream
from tests.relay.bodies.test_forms import CONTENT_TYPE, SINGLE
from tests.relay.endpoints.media import BOUNDARY, form

PIECE_BYTES = 10_000
SMALL = form(("model", "whisper-1"), ("file", "a", b"sound"), ("user", "me"))
MODEL_FIRST = form(("model", "whisper-1"), ("file", "a", bytes(2 * MEMORY_BYTES)), ("n", "1"))
MODEL_LAST = form(("file", "a", bytes(2 * MEMORY_BYTES)), ("model", "whisper-1"), ("n", "1"))


class Source:
    def __init__(self, body: bytes, size: int = PIECE_BYTES) -> None:
        self.taken = 0
        self._pieces = [body[at : at + size] for at in range(0, len(body), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += len(piece)
            yield piece


def upload_from(source: Source, *, announced: int | None = None, room: int = 2**30) -> Upload:
    reader = FormReader(CONTENT_TYPE, single=SINGLE, file_limit_bytes=2**30)
    return Upload(aiter(source), reader, announced_bytes=announced, kept=KeptBytes(room))


def model_is_known(form: FormReader) -> bool:
    return form.has("model") and not form.is_inside_field


async def sent(body: bytes | BodyStream) -> bytes:
    if isinstance(body, bytes):
        return body
    whole = b"".join([piece async for piece in body.pieces])
    assert body.length in (None, len(whole))
    return whole


async def test_a_small_form_is_taken_whole_and_sent_as_often_as_need_be() -> None:
    upload = upload_from(Source(SMALL, 1), announced=len(SMALL))
    await upload.read_ahead(model_is_known)
    for _ in range(2):
        assert upload.body({}) == SMALL
    assert upload.body({"model": "m", "user": "u"}) == SMALL.replace(b"whisper-1", b"m").replace(
        b"\r\nme\r\n", b"\r\nu\r\n"
    )
    assert not upload.has_begun
    upload.close()


@pytest.mark.parametrize("start", [b"", b"\r\n"])
async def test_a_field_that_is_missing_is_added_in_front(start: bytes) -> None:
    upload = upload_from(Source(start + form(("n", "1"))))
    await upload.read_all()
    body = await sent(upload.body({"model": "m"}))
    again = upload_from(Source(body))
    await again.read_all()
    assert (again.form.text("model"), again.form.text("n")) == ("m", "1")
    upload.close()
    again.close()


@pytest.mark.parametrize("is_announced", [True, False])
@pytest.mark.parametrize("changes", [{}, {"model": "m"}, {"model": "a-much-longer-model"}])
async def test_a_large_form_passes_through(changes: dict[str, str], *, is_announced: bool) -> None:
    source = Source(MODEL_FIRST)
    upload = upload_from(source, announced=len(MODEL_FIRST) if is_announced else None)
    await upload.read_ahead(model_is_known)
    assert READ_AHEAD_BYTES <= source.taken <= READ_AHEAD_BYTES + PIECE_BYTES
    body = upload.body(changes)
    assert isinstance(body, BodyStream)
    assert (body.length is not None) is is_announced
    expected = MODEL_FIRST.replace(b"whisper-1", changes.get("model", "whisper-1").encode())
    assert await sent(body) == expected
    assert upload.has_begun
    assert upload.form.text("n") == "1"
    upload.close()


async def test_a_form_passes_no_faster_than_it_is_taken() -> None:
    source = Source(MODEL_FIRST)
    upload = upload_from(source)
    await upload.read_ahead(model_is_known)
    body = upload.body({})
    assert isinstance(body, BodyStream)
    passed = 0
    async for piece in body.pieces:
        passed += len(piece)
        assert source.taken <= max(passed, READ_AHEAD_BYTES) + 3 * PIECE_BYTES
    upload.close()


async def test_a_form_with_its_model_last_is_kept_until_then() -> None:
    source = Source(MODEL_LAST)
    upload = upload_from(source, announced=len(MODEL_LAST))
    await upload.read_ahead(model_is_known)
    assert source.taken > 2 * MEMORY_BYTES
    body = await sent(upload.body({"model": "m"}))
    assert body == MODEL_LAST.replace(b"whisper-1", b"m")
    upload.close()


async def test_what_is_kept_in_files_is_bounded() -> None:
    room = KeptBytes(MEMORY_BYTES // 2)
    reader = FormReader(CONTENT_TYPE, single=SINGLE, file_limit_bytes=2**30)
    upload = Upload(aiter(Source(MODEL_LAST)), reader, kept=room)
    with pytest.raises(RelayError) as refused:
        await upload.read_all()
    assert refused.value.status == 503
    assert room.left < MEMORY_BYTES // 2
    upload.close()
    upload.close()
    assert room.left == MEMORY_BYTES // 2


async def pass_on(stream: BodyStream, passed: list[bytes]) -> None:
    async for piece in stream.pieces:
        passed += (piece,)


BAD_ENDS: Iterable[bytes] = [
    MODEL_FIRST[: -len(BOUNDARY) - 6],  # Without its last delimiter.
    MODEL_FIRST[:-4] + b"xx\r\n",
    MODEL_FIRST.replace(b'name="n"', b'name="model"'),
    MODEL_FIRST.replace(b'name="n"', b'name="user"'),
    MODEL_FIRST.replace(b'name="n"', b'name="base_url"'),
]


@pytest.mark.parametrize("body", BAD_ENDS)
async def test_upstream_never_gets_the_end_of_a_form_that_is_refused(body: bytes) -> None:
    upload = upload_from(Source(body))
    await upload.read_ahead(model_is_known)
    stream = upload.body({})
    assert isinstance(stream, BodyStream)
    passed: list[bytes] = []
    with pytest.raises(RelayError) as refused:
        await pass_on(stream, passed)
    assert refused.value.status == 400
    assert sum(map(len, passed)) < len(body) - 50
    upload.close()


async def test_a_field_is_whole_before_its_form_passes() -> None:
    """The value of `user` begins within what is read ahead, and ends behind it."""
    filler = READ_AHEAD_BYTES - 300
    body = form(
        ("model", "m"), ("x", "y" * filler), ("user", "u" * 20_000), ("file", "a", bytes(500_000))
    )
    upload = upload_from(Source(body, 100))
    await upload.read_ahead(model_is_known)
    assert upload.form.has("user")
    assert b"u" * 20_000 not in await sent(upload.body({"user": "somebody"}))
    upload.close()
