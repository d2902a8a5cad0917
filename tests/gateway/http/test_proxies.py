"""Whose word is taken for who the client is."""

import pytest

from gateway.http.proxies import TrustedProxies
from tests.gateway.http.wire import Echo, serving

FOR = b"x-forwarded-for"


@pytest.mark.parametrize(
    ("trusted", "values", "client"),
    [
        (["127.0.0.1"], [b"1.2.3.4"], ("1.2.3.4", 0)),
        (["127.0.0.1"], [b"9.9.9.9, 1.2.3.4"], ("1.2.3.4", 0)),
        (["127.0.0.1", "10.0.0.0/8"], [b"9.9.9.9, 1.2.3.4, 10.1.1.1"], ("1.2.3.4", 0)),
        (["127.0.0.1", "10.0.0.0/8"], [b"9.9.9.9", b"1.2.3.4", b"10.1.1.1"], ("1.2.3.4", 0)),
        (["127.0.0.1", "10.0.0.0/8"], [b"10.2.2.2, 10.1.1.1"], ("10.2.2.2", 0)),
        (["*"], [b"9.9.9.9, 1.2.3.4"], ("9.9.9.9", 0)),
        (["127.0.0.1"], [b"1.2.3.4:567"], ("1.2.3.4", 567)),
        (["127.0.0.1"], [b"[2001:db8::1]:567"], ("2001:db8::1", 567)),
        (["127.0.0.1"], [b"[2001:db8::1]"], ("2001:db8::1", 0)),
        (["127.0.0.1"], [b"2001:db8::1"], ("2001:db8::1", 0)),
        (["127.0.0.1", "2001:db8::/32"], [b"1.2.3.4, 2001:db8::1"], ("1.2.3.4", 0)),
        (["127.0.0.1"], [b"1.2.3.4, 127.0.0.1x"], ("127.0.0.1x", 0)),
        (["127.0.0.1"], [b"nonsense:port"], ("nonsense:port", 0)),
        (["127.0.0.1"], [b"[::1"], ("[::1", 0)),
        (["127.0.0.1"], [b""], None),
        (["127.0.0.1"], [], None),
    ],
)
def test_the_client_is_who_called_the_outermost_trusted_proxy(
    trusted: list[str], values: list[bytes], client: tuple[str, int] | None
) -> None:
    assert TrustedProxies(trusted).client([(FOR, value) for value in values]) == client


@pytest.mark.parametrize(
    ("trusted", "host", "is_trusted"),
    [
        ([], "127.0.0.1", False),
        (["*"], "anybody", True),
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["0:0::1"], "::1", True),
        (["proxy"], "proxy", True),
        (["10.0.0.0/8"], "10.0.0.0/8", True),
        (["10.0.0.0/8"], "", False),
    ],
)
def test_who_is_trusted(trusted: list[str], host: str, *, is_trusted: bool) -> None:
    assert TrustedProxies(trusted).trusts(host) is is_trusted


@pytest.mark.parametrize(
    ("values", "scheme"),
    [([b"https"], "https"), ([b"http", b" https "], "https"), ([b"ftp"], None), ([], None)],
)
def test_the_scheme_that_was_forwarded(values: list[bytes], scheme: str | None) -> None:
    headers = [(b"x-forwarded-proto", value) for value in values]
    assert TrustedProxies(["*"]).scheme(headers) == scheme


@pytest.mark.parametrize("trusted", [(), ("127.0.0.2",), ("127.0.0.1",)])
async def test_only_a_trusted_proxy_is_believed(trusted: tuple[str, ...]) -> None:
    echo = Echo()
    async with serving(echo, trusted_proxies=trusted) as served:
        wire = await served.connect()
        head = (
            b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n"
        )
        await wire.send(head + b"\r\n")
        await wire.answer()
        believed = ("1.2.3.4", 0), "https"
        true = wire.socket.getsockname(), "http"
    [scope] = echo.scopes
    assert (scope["client"], scope["scheme"]) == (believed if "127.0.0.1" in trusted else true)
    assert (b"x-forwarded-for", b"1.2.3.4") in scope["headers"]
