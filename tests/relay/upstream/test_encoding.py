import pytest

from relay.upstream import Destination, RequestRefused, UpstreamRequest
from relay.upstream.encoding import encode_head

HERE = Destination(host="upstream.test", port=443)


def encode(**fields: object) -> bytes:
    given = {"destination": HERE, "method": b"GET", "target": b"/v1", **fields}
    request = UpstreamRequest(**given)  # type: ignore[arg-type]  # Each test knows its fields.
    return encode_head(request, authority=HERE.authority)


def test_a_post_carries_host_length_and_the_headers_given() -> None:
    head = encode(method=b"POST", headers=[(b"Authorization", b"Bearer k")], body=b"{}")
    assert head == (
        b"POST /v1 HTTP/1.1\r\nhost: upstream.test\r\nAuthorization: Bearer k\r\n"
        b"accept-encoding: identity\r\ncontent-length: 2\r\n\r\n"
    )


def test_a_get_has_no_length_and_an_empty_post_has_one() -> None:
    assert b"content-length" not in encode()
    assert encode(method=b"POST").endswith(b"\r\ncontent-length: 0\r\n\r\n")


def test_host_and_accept_encoding_of_the_caller_replace_ours() -> None:
    head = encode(headers=[(b"Host", b"other.test"), (b"Accept-Encoding", b"gzip")])
    assert head == (b"GET /v1 HTTP/1.1\r\nHost: other.test\r\nAccept-Encoding: gzip\r\n\r\n")


@pytest.mark.parametrize("byte", [b"\r", b"\n", b"\0", b"\r\n", b"\x0b", b"\x7f"])
@pytest.mark.parametrize("place", ["name", "value", "target"])
def test_control_bytes_are_refused_everywhere(place: str, byte: bytes) -> None:
    dirty = b"a" + byte + b"b"
    fields: dict[str, object] = {
        "name": {"headers": [(dirty, b"v")]},
        "value": {"headers": [(b"n", dirty)]},
        "target": {"target": b"/" + dirty},
    }[place]  # type: ignore[assignment]  # A choice of fields.
    with pytest.raises(RequestRefused) as refusal:
        encode(**fields)
    assert refusal.value.sent is False


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b" a", b"\xfc", b"a,b"])
def test_a_header_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(RequestRefused):
        encode(headers=[(b"fine", b"v"), (name, b"v")])


@pytest.mark.parametrize("target", [b"", b"v1", b"*", b"http://other.test/", b"/a b", b"/\xfc"])
def test_a_target_that_is_no_absolute_path_is_refused(target: bytes) -> None:
    with pytest.raises(RequestRefused):
        encode(target=target)


@pytest.mark.parametrize("method", [b"get", b"CONNECT", b"GET /x HTTP/1.1\r\nx:", b""])
def test_an_unknown_method_is_refused(method: bytes) -> None:
    with pytest.raises(RequestRefused):
        encode(method=method)


@pytest.mark.parametrize(
    "name", [b"Content-Length", b"transfer-encoding", b"Connection", b"upgrade", b"Expect", b"TE"]
)
def test_headers_that_decide_framing_are_refused(name: bytes) -> None:
    with pytest.raises(RequestRefused):
        encode(headers=[(name, b"0")])


def test_two_hosts_are_refused() -> None:
    with pytest.raises(RequestRefused):
        encode(headers=[(b"host", b"a"), (b"Host", b"b")])


def test_tabs_and_bytes_beyond_ascii_pass_in_values() -> None:
    assert b"\r\nn: a\tb \xff\r\n" in encode(headers=[(b"n", b"a\tb \xff")])


def test_a_head_that_was_sent_before_has_the_length_of_each_body() -> None:
    heads = [encode(method=b"POST", headers=[(b"a", b"b")], body=b"x" * size) for size in (3, 4, 0)]
    assert heads[0].replace(b"length: 3", b"length: 4") == heads[1]
    assert heads[2].endswith(b"content-length: 0\r\n\r\n")


def test_what_was_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(RequestRefused):
            encode(headers=[(b"te", b"trailers")])
