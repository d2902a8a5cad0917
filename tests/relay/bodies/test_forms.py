"""What is read of a form, however it is cut, and what is refused."""

import pytest

from relay.bodies.forms import FormReader
from relay.errors import RelayError
from relay.simulator.sounds import silence_make
from tests.relay.endpoints.media import BOUNDARY, form

SINGLE = frozenset({"model", "n", "user"})
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}".encode()
SOUND = silence_make(0.01, form="wav")
WHOLE = form(
    ("model", "whisper-1"),
    ("user", "me"),
    ("file", "a.wav", SOUND),
    ("include[]", "one"),
    ("include[]", "two"),
)


def reader(*, limit: int = 10_000) -> FormReader:
    return FormReader(CONTENT_TYPE, single=SINGLE, file_limit_bytes=limit)


def read(body: bytes, *, limit: int = 10_000) -> FormReader:
    found = reader(limit=limit)
    found.feed(body)
    found.close()
    return found


def facts(form: FormReader) -> object:
    return form.text("model"), form.spans, form.files, form.file_bytes, form.milliseconds


def test_what_is_known_of_a_form() -> None:
    found = read(WHOLE)
    assert found.text("model") == "whisper-1"
    assert found.text("n") is None
    assert found.files == 1
    assert found.file_bytes == len(SOUND)
    assert found.milliseconds == 10
    assert {name: WHOLE[start:end] for name, (start, end) in found.spans.items()} == {
        "model": b"whisper-1",
        "user": b"me",
    }
    assert found.content_type == CONTENT_TYPE


def test_it_is_the_same_cut_at_every_byte() -> None:
    whole = facts(read(WHOLE))
    for at in range(len(WHOLE) + 1):
        found = reader()
        found.feed(WHOLE[:at])
        found.feed(WHOLE[at:])
        found.close()
        assert facts(found) == whole
    found = reader()
    for byte in WHOLE:
        found.feed(bytes([byte]))
    found.close()
    assert facts(found) == whole


def test_a_form_that_ends_anywhere_else_is_refused() -> None:
    last = len(WHOLE) - 2  # The last line end may be missing.
    for at in range(last):
        found = reader()
        found.feed(WHOLE[:at])
        with pytest.raises(RelayError) as refused:
            found.close()
        assert (refused.value.status, refused.value.code) == (400, "invalid_form")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (form(("model", "a"), ("model", "b")), 400, "duplicate_parameter"),
        (form(("model", "a"), ("file", "f", b""), ("model", "b")), 400, "duplicate_parameter"),
        (form(("model[]", "a")), 400, "invalid_type"),
        (form(("model", "a"), ("model[]", "b")), 400, "invalid_type"),
        (form(("model", "a.txt", b"whisper-1")), 400, "invalid_type"),
        (form(("n", "1"), ("n", "1")), 400, "duplicate_parameter"),
        (form(("api_base", "https://example.com")), 400, "unknown_parameter"),
        (form(("extra_headers", "a.json", b"{}")), 400, "unknown_parameter"),
        (form(("file", "f", bytes(101))), 413, "request_too_large"),
        (form(("file", "f", bytes(60)), ("file", "g", bytes(60))), 413, "request_too_large"),
        (form(*[("x", "y" * 600_000)] * 2), 413, "request_too_large"),
        (form(*[("x", "y")] * 300), 413, "request_too_large"),
        (form(("model", b"\xff")), 400, "duplicate_parameter"),
        (b"{}", 400, "invalid_form"),
        (b"preamble\r\n" + form(("model", "a")), 400, "invalid_form"),
        (form(("model", "a")) + b"epilogue", 400, "invalid_form"),
        (form(("file", "f", f"x\r\n--{BOUNDARY}x".encode())), 400, "invalid_form"),
        (form(('model"; name="n', "a")), 400, "invalid_form"),
        (form(("model", 'f"; name="file', b"a")), 400, "invalid_form"),
        (form(("model\\", "a")), 400, "invalid_form"),
        (WHOLE.replace(b"; name=", b"; name*="), 400, "invalid_form"),
        (
            WHOLE.replace(
                b"\r\n\r\nwhisper", b"\r\ncontent-transfer-encoding: base64\r\n\r\nwhisper"
            ),
            400,
            "invalid_form",
        ),
    ],
)
def test_what_is_refused(body: bytes, status: int, code: str) -> None:
    with pytest.raises(RelayError) as refused:
        read(body, limit=100).text("model")
    assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        b"application/json",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=a; boundary=b",
        b"multipart/form-data; boundary=" + b"x" * 71,
        b'multipart/form-data; boundary="a\r\nb"',
        b"multipart/mixed; boundary=a",
    ],
)
def test_a_content_type_that_is_no_forms_is_refused(content_type: bytes | None) -> None:
    with pytest.raises(RelayError) as refused:
        FormReader(content_type, single=SINGLE, file_limit_bytes=1)
    assert (refused.value.status, refused.value.code) == (400, "invalid_form")


def test_a_boundary_is_quoted_where_it_has_to_be() -> None:
    found = FormReader(b'multipart/form-data; boundary="a b:c"', single=SINGLE, file_limit_bytes=1)
    assert found.content_type == b'multipart/form-data; boundary="a b:c"'


def test_of_two_sounds_nobody_knows_which_is_heard() -> None:
    assert read(form(("file", "a.wav", SOUND), ("file", "b.wav", SOUND))).milliseconds is None
    assert read(form(("file", SOUND))).milliseconds == 10  # Another reader may take it for a file.


def test_what_is_namespaced_cannot_come_while_the_form_passes() -> None:
    found = reader()
    found.feed(form(("model", "a"))[: -len(BOUNDARY) - 6])
    found.is_passing = True
    with pytest.raises(RelayError) as refused:
        found.feed(form(("user", "me")))
    assert (refused.value.status, refused.value.param) == (400, "user")
