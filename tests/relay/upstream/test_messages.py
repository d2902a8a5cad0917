import pytest

from relay.upstream import Destination


@pytest.mark.parametrize(
    ("url", "destination", "path", "authority"),
    [
        ("https://api.test/v1/", Destination(host="api.test", port=443), b"/v1", b"api.test"),
        ("https://api.test:8443", Destination(host="api.test", port=8443), b"", b"api.test:8443"),
        (
            "http://127.0.0.1:80/a/b",
            Destination(host="127.0.0.1", port=80, tls=False),
            b"/a/b",
            b"127.0.0.1",
        ),
        ("http://[::1]:99/", Destination(host="::1", port=99, tls=False), b"", b"[::1]:99"),
        (
            "https://API.bücher.test",
            Destination(host="api.xn--bcher-kva.test", port=443),
            b"",
            b"api.xn--bcher-kva.test",
        ),
    ],
)
def test_a_base_url_names_a_destination_and_a_path(
    url: str, destination: Destination, path: bytes, authority: bytes
) -> None:
    assert Destination.from_url(url) == (destination, path)
    assert destination.authority == authority
    assert hash(Destination.from_url(url)[0]) == hash(destination)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://api.test/",
        "api.test/v1",
        "https://",
        "https://user@api.test/",
        "https://api.test/?x=1",
        "https://api.test/#x",
        "https://api.test/a b",
        "https://api.test/ü",
        "https://api.test:0/",
        "https://api.test:99999/",
        "https://a..b/",
    ],
)
def test_other_base_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Destination.from_url(url)


def test_authorities_tell_destinations_apart() -> None:
    ours, _ = Destination.from_url("https://api.test/", ca_file="/ca.pem")
    assert ours.ca_file == "/ca.pem"
    assert ours != Destination.from_url("https://api.test/")[0]
