import pytest

from relay.bodies.sse import Event, SseSplitter, plain_form


def events(*chunks: bytes, bound: int = 1000) -> list[Event]:
    splitter = SseSplitter(bound)
    return [event for chunk in chunks for event in splitter.feed(chunk)]


def one(chunk: bytes) -> Event:
    (event,) = events(chunk)
    return event


def test_the_usual_chunk_is_one_event() -> None:
    chunk = b'data: {"a":1}\n\n'
    assert one(chunk) == Event(chunk, b'{"a":1}', is_plain=True)


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x\n\r\n", b"x"),
        (b"data: x\r\n\n", b"x"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\r\ndata:b\rdata: c\n\n", b"a\nb\nc"),
        (b"data\n\n", b""),
        (b"data:\n\n", b""),
        (b"data: \n\n", b""),
        (b"event: x\ndata: y\nid: 1\nretry: 5\n\n", b"y"),
        (b": comment\ndata: y\n\n", b"y"),
        (b": comment\n\n", None),
        (b"database: y\n\n", None),
        (b"\n\n", None),
        (b"\ndata: y\n\n", b"y"),
    ],
)
def test_an_event_keeps_its_bytes(raw: bytes, data: bytes | None) -> None:
    event = one(raw)
    assert (event.raw, event.data) == (raw, data)
    assert event.is_plain == (raw in (b"data: \n\n", b"data:  x\n\n"))
    assert not event.is_piece


def test_whether_an_lf_follows_a_last_cr_is_known_with_the_next_byte_only() -> None:
    raw = b"data: x\r\r"
    assert events(raw) == []
    assert events(raw, b"d") == [Event(raw, b"x")]
    assert events(raw, b"\n") == [Event(raw + b"\n", b"x")]


def test_one_line_end_ends_no_event() -> None:
    assert events(b"data: x\r\n", b"data: y\r", b"\n") == []
    assert events(b"data: x\n", b"data: y\r", b"data: z\n") == []


def test_several_events_in_one_chunk() -> None:
    raws = [b"data: 1\n\n", b": hi\n\n", b"data: 2\r\n\r\n", b"event: e\ndata: 3\n\n"]
    assert [event.raw for event in events(b"".join(raws))] == raws


def test_a_byte_order_mark_is_dropped_at_the_start_only() -> None:
    mark = b"\xef\xbb\xbf"
    got = events(mark + b"data: 1\n\n", mark + b"data: 2\n\n")
    assert [event.data for event in got] == [b"1", None]
    assert [e.data for e in events(mark[:1], mark[1:2], mark[2:], b"data: 1\n", b"\n")] == [b"1"]
    assert [e.data for e in events(mark[:2], b"data: 1\n\n")] == [None]
    assert [e.data for e in events(b"data: 1\n\n", mark + b"data: 2\n\n")] == [b"1", None]


def test_an_event_over_the_bound_passes_in_pieces_and_the_next_is_whole() -> None:
    large = b"data: " + b"x" * 5000 + b"\n\n"
    after = b"data: y\n\n"
    stream = large + after
    chunks = [stream[at : at + 700] for at in range(0, len(stream), 700)]
    got = events(*chunks)
    assert b"".join(event.raw for event in got) == stream
    assert got[-1] == Event(after, b"y", is_plain=True)
    pieces = got[:-1]
    assert len(pieces) > 2
    assert all(piece.is_piece and piece.data is None for piece in pieces)
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_the_bound_does_not_depend_on_how_the_bytes_arrive() -> None:
    for length, is_piece in ((12, False), (13, True)):
        raw = b"data: " + b"x" * (length - 8) + b"\n\n"
        assert [e.is_piece for e in events(raw, bound=12)] == [is_piece]
        assert any(e.is_piece for e in events(*(bytes([b]) for b in raw), bound=12)) == is_piece


def test_no_more_than_the_bound_is_kept() -> None:
    splitter = SseSplitter(1000)
    for _ in range(100):
        splitter.feed(b"x" * 999)
        assert len(splitter._buffer) <= 1000 + 999


def test_what_is_left_at_the_end() -> None:
    splitter = SseSplitter(1000)
    assert splitter.close() is None
    assert splitter.feed(b'data: 1\n\ndata: {"a"') == [Event(b"data: 1\n\n", b"1", is_plain=True)]
    assert splitter.close() == Event(b'data: {"a"', b'{"a"', ends=False)
    splitter.feed(b"data: x\r\r")
    assert splitter.close() == Event(b"data: x\r\r", b"x", ends=False)
    splitter.feed(b"x" * 2000)
    assert splitter.close() == Event(b"xxx", None, is_piece=True, ends=False)


def test_the_plain_form_has_only_data_and_lf() -> None:
    event = one(b"id: 1\r\ndata:a\r\n: c\r\ndata: b\r\n\r\n")
    assert plain_form(event) == b"data: a\ndata: b\n\n"
