"""Forms, however they are cut, and forms that two readers could read differently."""

import io
from email.parser import BytesFeedParser

import httpx2
import pytest
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http.multipartparser import MultiPartParser
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.bodies.multipart import (
    MAX_HEAD_BYTES,
    MAX_PARTS,
    FieldCollector,
    FormDigest,
    FormSplitter,
    FormTooLarge,
    InvalidForm,
    Kind,
    Piece,
    boundary_of,
)
from relay.simulator.forms import form_read

BOUNDARY = b"XyZ"
CONTENT_TYPE = "multipart/form-data; boundary=XyZ"
MODEL = b'Content-Disposition: form-data; name="model"'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'


def form(*parts: tuple[bytes, bytes]) -> bytes:
    """A form of parts, each a head and its data."""
    body = b"".join(b"--XyZ\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--XyZ--\r\n"


def split(body: bytes, *, size: int = 1 << 20, boundary: bytes = BOUNDARY) -> list[Piece]:
    splitter = FormSplitter(boundary)
    pieces = [
        piece
        for start in range(0, len(body), size)
        for piece in splitter.feed(body[start : start + size])
    ]
    splitter.close()
    return pieces


def collect(pieces: list[Piece], *, max_bytes: int = 1_000_000) -> FieldCollector:
    collector = FieldCollector(max_bytes=max_bytes)
    for piece in pieces:
        collector.take(piece)
    return collector


def file_data(pieces: list[Piece]) -> list[bytes]:
    """The data of each part that is a file."""
    found: list[bytes] = []
    is_file = False
    for piece in pieces:
        if piece.head is not None:
            is_file = piece.head.filename is not None
            found += [b""] if is_file else []
        elif piece.kind is Kind.DATA and is_file:
            found[-1] += piece.raw
    return found


BODY = form((FILE, b"\r\n--Xy\r\r\n-\r\n--X" * 5), (MODEL, b"whisper-1"), (MODEL + b"; x=y", b""))


@pytest.mark.parametrize("size", [*range(1, 9), 64, 1_000])
def test_every_cut_gives_the_same_parts(size: int) -> None:
    pieces = split(BODY, size=size)
    collector = collect(pieces)

    assert b"".join(piece.raw for piece in pieces) == BODY
    assert collector.texts("model") == ["whisper-1", ""]
    assert [(file.name, file.filename, file.content_type) for file in collector.files] == [
        ("file", "a.wav", "audio/wav")
    ]
    assert file_data(pieces) == [b"\r\n--Xy\r\r\n-\r\n--X" * 5]
    assert [piece.kind for piece in pieces].count(Kind.PART_END) == 3
    assert [piece.kind for piece in pieces if piece.kind is Kind.END] == [Kind.END]


def test_a_form_of_a_real_client_is_read() -> None:
    request = httpx2.Request(
        "POST",
        "http://gateway/v1/audio/transcriptions",
        data={"model": "whisper-1", "timestamp_granularities[]": ["word", "segment"]},
        files={"file": ('Ü "quoted".mp3', b"\xff\xf3" * 40_000, "audio/mpeg")},
    )
    body = request.read()
    boundary = boundary_of(request.headers["content-type"])
    pieces = split(body, size=1_000, boundary=boundary)
    collector = collect(pieces)

    assert b"".join(piece.raw for piece in pieces) == body
    assert collector.text("model") == "whisper-1"
    assert collector.texts("timestamp_granularities") == ["word", "segment"]
    assert collector.names == {"model", "timestamp_granularities[]"}
    assert file_data(pieces) == [b"\xff\xf3" * 40_000]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters='"\\', exclude_categories=["Cc"]))
NAMES = NAMES.filter(lambda name: name != "" and name == name.strip())
# Bytes that are likely to look like a part of a delimiter.
DATA = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"X", b"Xy", b"\r\n--Xy", b"\0a"]))


@given(st.lists(st.tuples(NAMES, st.booleans(), DATA), min_size=1), st.integers(1, 40))
def test_it_agrees_with_a_reader_of_whole_forms(
    parts: list[tuple[str, bool, list[bytes]]], size: int
) -> None:
    heads = [
        f'Content-Disposition: form-data; name="{name}"'.encode()
        + (b'; filename="f"' if is_file else b"")
        for name, is_file, _ in parts
    ]
    body = form(*zip(heads, (b"".join(data) for *_, data in parts), strict=True))
    expected = form_read(body, content_type=CONTENT_TYPE)
    pieces = split(body, size=size)
    collector = collect(pieces)

    assert b"".join(piece.raw for piece in pieces) == body
    for name, values in expected.fields.items():
        assert sorted(collector.texts(name)) == sorted(values)
    by_name: dict[str, list[bytes]] = {}
    for head, data in zip(collector.files, file_data(pieces), strict=True):
        by_name.setdefault(head.name.removesuffix("[]"), []).append(data)
    assert by_name == {
        name: [file.data for file in files] for name, files in expected.files.items()
    }


def models_by_django(body: bytes) -> list[str]:
    meta = {"CONTENT_TYPE": CONTENT_TYPE, "CONTENT_LENGTH": len(body)}
    fields, _ = MultiPartParser(meta, io.BytesIO(body), [MemoryFileUploadHandler()]).parse()
    return sorted(fields.getlist("model"))


def models_by_email(body: bytes) -> list[str]:
    parser = BytesFeedParser()
    parser.feed(f"Content-Type: {CONTENT_TYPE}\r\n\r\n".encode() + body)
    found = []
    for part in parser.close().walk():
        name = part.get_param("name", header="content-disposition")
        if name == "model" and part.get_filename() is None:
            value = part.get_payload(decode=True)
            assert isinstance(value, bytes)
            found.append(value.decode())
    return sorted(found)


# What is cut out, where, and what comes instead.
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.integers(0, 4),
        st.sampled_from(
            [
                b"",
                b"\r",
                b"\n",
                b"\r\n",
                b" ",
                b"-",
                b'"',
                b";",
                b"\\",
                b"--XyZ",
                b"\r\n--XyZ",
                MODEL,
            ]
        ),
    ),
    max_size=4,
)


@settings(max_examples=500)
@given(CHANGES)
def test_lenient_readers_see_no_other_model(changes: list[tuple[int, int, bytes]]) -> None:
    body = form((FILE, b"abc\r\n--Xy\r\nd"), (MODEL, b"whisper-1"))
    for place, size, other in changes:
        body = body[:place] + other + body[place + size :]
    try:
        models = sorted(collect(split(body)).texts("model"))
    except InvalidForm:
        return

    assert models == models_by_django(body) == models_by_email(body)


def digest(body: bytes, *, size: int = 1 << 20, boundary: bytes = BOUNDARY) -> bytes:
    form_digest = FormDigest(boundary)
    for start in range(0, len(body), size):
        form_digest.feed(body[start : start + size])
    return form_digest.value()


def test_a_form_is_the_same_whatever_its_boundary_and_however_it_comes() -> None:
    body = form((MODEL, b"whisper-1"), (FILE, bytes(100)))
    other = body.replace(b"--XyZ", b"--Another")
    assert digest(body) == digest(body, size=1) == digest(other, boundary=b"Another")


def test_another_form_is_another() -> None:
    forms = [
        form((MODEL, b"ab"), (FILE, b"c")),
        form((MODEL, b"a"), (FILE, b"bc")),
        form((FILE, b"c"), (MODEL, b"ab")),
        form((MODEL, b"ab"), (FILE, b"c"), (MODEL, b"")),
        form((MODEL, b"ab"), (FILE.replace(b"a.wav", b"b.wav"), b"c")),
        form((MODEL, b"ab")),
        form((MODEL, b"")),
    ]
    assert len({digest(body) for body in forms}) == len(forms)


REFUSED = {
    "no end": form((MODEL, b"m"))[:-6],
    "nothing at all": b"",
    "something in front": b"hello\r\n" + form((MODEL, b"m")),
    "something behind": form((MODEL, b"m")) + b"--XyZ\r\n",
    "another boundary": b"--Other\r\n" + MODEL + b"\r\n\r\nm\r\n--Other--\r\n",
    "a delimiter behind a bare line feed": form((FILE, b"a\n--XyZ\r\n" + MODEL + b"\r\n\r\nm")),
    "a delimiter behind a bare return": form((FILE, b"a\r--XyZ\r\n" + MODEL + b"\r\n\r\nm")),
    "a delimiter within a line": form((FILE, b"a--XyZ\r\n" + MODEL + b"\r\n\r\nm")),
    "a delimiter that goes on": form((FILE, b"a\r\n--XyZ4\r\n")),
    "a delimiter in a head": form((FILE + b"\r\nX-A: --XyZ", b"a")),
    "a delimiter with a bare line feed": b"--XyZ\n" + form((MODEL, b"m"))[7:],
    "a bare line feed in a head": form((b"X-A: b\n" + MODEL, b"m")),
    "a bare return in a head": form((b"X-A: b\r" + MODEL, b"m")),
    "a folded head": form((MODEL + b"\r\n ; x=y", b"m")),
    "a header twice": form((MODEL + b"\r\n" + MODEL, b"m")),
    "a blank before the colon": form((MODEL.replace(b":", b" :"), b"m")),
    "no disposition": form((b"Content-Type: text/plain", b"m")),
    "no name": form((b"Content-Disposition: form-data", b"m")),
    "two names": form((MODEL + b'; name="other"', b"m")),
    "a name in another notation": form((MODEL + b"; name*=utf-8''other", b"m")),
    "a name with an escape": form((MODEL.replace(b"mod", b"mo\\d"), b"m")),
    "a name that is not UTF-8": form((MODEL.replace(b"mod", b"mo\xffd"), b"m")),
    "no letter in a name": form((MODEL.replace(b"model", b""), b"m")),
    "a blank before a name": form((MODEL.replace(b"model", b" model"), b"m")),
    "a blank behind a name": form((MODEL.replace(b"model", b"model "), b"m")),
    "another disposition": form((MODEL.replace(b"form-data", b"attachment"), b"m")),
    "a transfer encoding": form((MODEL + b"\r\nContent-Transfer-Encoding: base64", b"bQ==")),
}


@pytest.mark.parametrize("size", [1, 1_000])
@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_differently_is_refused(body: bytes, size: int) -> None:
    with pytest.raises(InvalidForm):
        split(body, size=size)


@pytest.mark.parametrize("size", [1, 1_000])
def test_what_is_merely_unusual_is_read(size: int) -> None:
    body = b"\r\n--XyZ \t\r\ncontent-disposition:form-data ;NAME=model\r\n\r\nm\r\n--XyZ--"
    pieces = split(body, size=size)

    assert b"".join(piece.raw for piece in pieces) == body
    assert collect(pieces).text("model") == "m"


def test_a_field_that_is_there_twice_is_refused() -> None:
    as_file = MODEL + b'; filename="model"'
    for second in (MODEL, MODEL.replace(b"model", b"model[]"), as_file):
        collector = collect(split(form((MODEL, b"m"), (second, b"n"))))
        with pytest.raises(InvalidForm):
            collector.text("model")

    assert collect(split(form((FILE, b"m")))).text("model") is None


def test_a_field_that_is_no_text_is_refused() -> None:
    collector = collect(split(form((MODEL, b"\xff"))))

    with pytest.raises(InvalidForm):
        collector.text("model")


def test_heads_and_parts_and_fields_are_bounded() -> None:
    long_head = b"X-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\n" + MODEL
    for body in (form((long_head, b"m")), form(*[(MODEL, b"m")] * (MAX_PARTS + 1))):
        for size in (1, 1_000_000):
            with pytest.raises(FormTooLarge):
                split(body, size=size)
    assert split(form(*[(MODEL, b"m")] * MAX_PARTS))

    pieces = split(form((FILE, b"x" * 1_000), (MODEL, b"m" * 15)))
    assert collect(pieces, max_bytes=20).text("model") == "m" * 15
    with pytest.raises(FormTooLarge):
        collect(pieces, max_bytes=19)


def test_a_file_is_not_kept() -> None:
    splitter = FormSplitter(BOUNDARY)
    splitter.feed(b"--XyZ\r\n" + FILE + b"\r\n\r\n")
    for _ in range(100):
        (piece,) = splitter.feed(b"\r" * 10_000)
        assert len(piece.raw) >= 10_000 - 2 * len(BOUNDARY)
    assert len(splitter._buffer) < 10


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="a b:c"', b"a b:c"),
        ("multipart/form-data;boundary=----WebKitFormBoundaryA1; x=y", b"----WebKitFormBoundaryA1"),
    ],
)
def test_the_boundary_is_found(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/mixed; boundary=abc",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="a\r\nb"',
        'multipart/form-data; boundary="a "',
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary*=utf-8''a",
        "multipart/form-data; boundary=a; boundary*=utf-8''b",
        f"multipart/form-data; boundary={'x' * 71}",
    ],
)
def test_a_boundary_that_is_not_plain_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidForm):
        boundary_of(content_type)
