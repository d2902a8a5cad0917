from relay.upstream.head import Head

HEAD = Head(b"\r\nContent-Type: text/plain \r\nX-A:1\r\nx-a:\t2\r\nEmpty:\r\n")


def test_a_value_is_found_by_its_lower_case_name_and_only_as_a_whole_name() -> None:
    assert HEAD.value(b"content-type") == b"text/plain"
    assert HEAD.value(b"x-a") == b"1"
    assert HEAD.value(b"empty") == b""
    for absent in (b"type", b"content", b"a", b"text/plain", b""):
        assert HEAD.value(absent) is None


def test_a_raw_value_keeps_its_white_space() -> None:
    assert HEAD.raw_value(b"content-type") == b" text/plain "
    assert HEAD.raw_value(b"none") is None


def test_headers_are_counted_and_listed_in_their_order() -> None:
    assert len(HEAD) == 4
    assert [HEAD.count(name) for name in (b"x-a", b"empty", b"x")] == [2, 1, 0]
    assert HEAD.pairs() == [
        (b"content-type", b"text/plain"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"empty", b""),
    ]


def test_there_may_be_none() -> None:
    assert len(Head()) == 0
    assert Head().pairs() == []
    assert Head().value(b"x") is None
