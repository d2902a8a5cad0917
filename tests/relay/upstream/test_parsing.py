import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.upstream import Limits
from relay.upstream.parsing import ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
LIMITS = Limits()
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

# What a parser must make of a response: status, headers, body, complete, reusable.
Outcome = tuple[int, list[tuple[bytes, bytes]], bytes, bool, bool]


def parse(*pieces: bytes, is_head_request: bool = False, limits: Limits = LIMITS) -> Outcome:
    parser = ResponseParser(limits)
    parser.begin(is_head_request=is_head_request)
    body = b"".join([parser.feed(piece) for piece in pieces])
    assert parser.broken is None
    return parser.status, parser.head.pairs(), body, parser.complete, parser.reusable


def refused(*pieces: bytes, limits: Limits = LIMITS) -> str:
    """Why a response is refused, none of its body having been let through."""
    parser = ResponseParser(limits)
    for piece in pieces:
        assert not parser.feed(piece)
        if parser.broken is not None:
            assert parser.broken.sent is True
            return str(parser.broken)
    pytest.fail("The response was not refused.")


WHOLE: list[tuple[bytes, Outcome]] = [
    (
        OK + b"X-A:  1 \t\r\nx-a: 2\r\nContent-Length: 5\r\n\r\nhello",
        (200, [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"5")], b"hello", True, True),
    ),
    (
        CHUNKED + b"2;x=y\r\nhe\r\n03\r\nllo\r\n0\r\nTrailer: t\r\n\r\n",
        (200, [(b"transfer-encoding", b"chunked")], b"hello", True, True),
    ),
    (
        b"HTTP/1.1 103 Early\r\na: b\r\n\r\nHTTP/1.1 100 Go\r\n\r\nHTTP/1.1 304 x\r\n\r\n",
        (304, [], b"", True, True),
    ),
    (
        b"HTTP/1.1 204 \r\ncontent-length: 5\r\n\r\n",
        (204, [(b"content-length", b"5")], b"", True, True),
    ),
    (
        OK + b"connection: close\r\n\r\nhello",
        (200, [(b"connection", b"close")], b"hello", False, False),
    ),
    (b"HTTP/1.0 200 OK\r\n\r\nhello", (200, [], b"hello", False, False)),
    (
        b"\r\n\r\nHTTP/1.1 100 Go\r\n\r\n\r\n" + OK + b"A: b\r\nContent-Length: 2\r\n\r\n\r\n",
        (200, [(b"a", b"b"), (b"content-length", b"2")], b"\r\n", True, True),
    ),
]


@pytest.mark.parametrize(("response", "outcome"), WHOLE)
def test_a_response_is_understood_whole_and_byte_by_byte(response: bytes, outcome: Outcome) -> None:
    assert parse(response) == outcome
    assert parse(*[response[i : i + 1] for i in range(len(response))]) == outcome


@pytest.mark.parametrize(("response", "outcome"), WHOLE)
def test_a_response_may_be_split_anywhere(response: bytes, outcome: Outcome) -> None:
    for at in range(1, len(response)):
        assert parse(response[:at], response[at:]) == outcome


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=20), st.randoms())
def test_chunks_of_any_size_split_anywhere_add_up(chunks: list[bytes], random: object) -> None:
    wire = CHUNKED + b"".join([b"%x\r\n%b\r\n" % (len(c), c) for c in chunks]) + b"0\r\n\r\n"
    at = sorted(random.choices(range(len(wire)), k=6))  # type: ignore[attr-defined]  # A Random.
    pieces = [wire[a:b] for a, b in zip([0, *at], [*at, len(wire)], strict=True)]
    _, _, body, complete, reusable = parse(*[piece for piece in pieces if piece])
    assert (body, complete, reusable) == (b"".join(chunks), True, True)


def test_responses_follow_each_other_on_one_parser() -> None:
    parser = ResponseParser(Limits())
    for body in (b"one", b"", b"three"):
        parser.begin(is_head_request=False)
        assert (parser.status, parser.complete) == (0, False)
        assert parser.feed(OK + b"content-length: %d\r\n\r\n%b" % (len(body), body)) == body
        assert (parser.status, parser.complete, parser.reusable) == (200, True, True)


@pytest.mark.parametrize(
    "surplus", [b"x", OK, OK + b"x: y\r\ncontent-length: 3\r\n\r\nbad", b"\0", b"HTTP/1.1 500"]
)
def test_bytes_after_the_response_cost_the_connection_and_nothing_else(surplus: bytes) -> None:
    for response in (OK + b"content-length: 2\r\n\r\nhi", CHUNKED + b"2\r\nhi\r\n0\r\n\r\n"):
        whole = parse(response)
        assert parse(response + surplus) == (*whole[:4], False)


def test_the_answer_to_head_ends_with_its_head() -> None:
    for body in (b"", b"hello"):
        status, _, seen, complete, reusable = parse(
            OK + b"content-length: 5\r\n\r\n" + body, is_head_request=True
        )
        assert (status, seen, complete, reusable) == (200, b"", True, False)


@pytest.mark.parametrize(
    "response",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 000 Zero\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        OK + b"a b: c\r\n\r\n",
        OK + b": c\r\n\r\n",
        OK + b"a: b\r\n folded\r\n\r\n",
        OK + b"a: b\0c\r\n\r\n",
        OK + b"a: b\nc: d\r\n\r\n",
        OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        OK + b"content-length: 5, 5\r\n\r\nhello",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: 99999999999999999999\r\n\r\n",
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\t\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked,\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: ,chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"xyz\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
    ],
)
def test_what_is_ambiguous_or_not_http_is_refused(response: bytes) -> None:
    assert refused(response)
    assert refused(*[response[i : i + 1] for i in range(len(response))])


def test_what_precedes_the_fault_still_counts() -> None:
    parser = ResponseParser(LIMITS)
    assert parser.feed(CHUNKED + b"2\r\nhello\r\n") == b"he"
    assert (parser.status, parser.complete) == (200, False)
    assert parser.broken is not None


def test_the_size_of_a_head_is_bounded() -> None:
    limits = Limits(head_bytes=1000)
    long = OK + b"a: " + b"x" * 1000 + b"\r\ncontent-length: 0\r\n\r\n"
    for size in (1, 100, len(long)):
        refused(*[long[i : i + size] for i in range(0, len(long), size)], limits=limits)
    fitting = OK + b"a: " + b"x" * 900 + b"\r\ncontent-length: 3000\r\n\r\n"
    assert parse(fitting + b"x" * 3000, limits=limits)[3] is True
    refused(*[b"\r\n"] * 501, limits=limits)
    refused(OK[:-2] + b"x" * 1000, limits=limits)


def test_the_number_of_headers_is_bounded() -> None:
    head = OK + b"a: b\r\n" * 10
    assert parse(head + b"\r\n", limits=Limits(header_count=10))[0] == 200
    refused(head + b"a: b\r\n\r\n", limits=Limits(header_count=10))


def test_interim_responses_are_bounded_in_number_and_size() -> None:
    interim = b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
    assert parse(interim * 3 + OK + b"\r\n", limits=Limits(interim_responses=3))[0] == 200
    assert "interim" in refused(interim * 4, limits=Limits(interim_responses=3))
    refused(*[interim] * 40, limits=Limits(head_bytes=1000, interim_responses=100))


def test_trailers_and_chunk_extensions_are_bounded() -> None:
    trailers = [b"a: b\r\n"] * 200
    refused(CHUNKED + b"0\r\n", *trailers, limits=Limits(head_bytes=1000))
    refused(CHUNKED + b"2;", *[b"x=y;"] * 300, limits=Limits(head_bytes=1000))
    # The bound is on what comes without body bytes, not on all chunks together.
    assert parse(CHUNKED, *[b"1\r\n", b"x\r\n"] * 500, limits=Limits(head_bytes=1000))[2] == (
        b"x" * 500
    )


@pytest.mark.parametrize(
    ("value", "seconds", "reusable"),
    [
        (b"timeout=5", 4.0, True),
        (b"max=10, Timeout = 7", 6.0, True),
        (b"timeout=300", 30.0, True),
        (b"timeout=1", 0.0, False),
        (b"timeout=x", 30.0, True),
    ],
)
def test_a_shorter_keep_alive_is_believed(value: bytes, seconds: float, reusable: bool) -> None:
    parser = ResponseParser(Limits(keep_alive_seconds=30.0))
    parser.feed(OK + b"keep-alive: " + value + b"\r\ncontent-length: 0\r\n\r\n")
    assert (parser.keep_alive_seconds, parser.reusable) == (seconds, reusable)


@pytest.mark.parametrize(
    ("head", "ends"),
    [
        (OK + b"\r\n", True),
        (OK + b"content-length: 5\r\n\r\n", False),
        (CHUNKED, False),
        (OK + b"a: b\r\n", False),
    ],
)
def test_only_a_body_without_a_length_ends_with_the_stream(head: bytes, ends: bool) -> None:
    parser = ResponseParser(Limits())
    parser.feed(head)
    assert parser.ends_with_stream() is ends
