import pytest

from relay.channels.base_urls import InvalidBaseUrl, base_url_check


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1///", "https://api.openai.com/v1"),
        ("https://api.openai.com", "https://api.openai.com"),
        ("https://api.openai.com/", "https://api.openai.com"),
        ("HTTPS://API.OpenAI.com/v1", "https://api.openai.com/v1"),
        ("https://gateway.example.com/Team-A/openai", "https://gateway.example.com/Team-A/openai"),
        ("https://example.com:8443/v1", "https://example.com:8443/v1"),
        ("https://192.0.2.7/v1", "https://192.0.2.7/v1"),
        ("https://[2001:db8::1]:8443/v1", "https://[2001:db8::1]:8443/v1"),
        ("http://127.0.0.1:9000/v1", "http://127.0.0.1:9000/v1"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:9000/v1", "http://[::1]:9000/v1"),
        ("http://localhost:9000/v1", "http://localhost:9000/v1"),
        ("http://LOCALHOST/v1", "http://localhost/v1"),
    ],
)
def test_what_the_sdk_takes_is_stored_in_one_form(url: str, stored: str) -> None:
    assert base_url_check(url) == stored
    assert base_url_check(stored) == stored


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openai.com/v1",
        "http://10.0.0.1/v1",
        "http://0.0.0.0/v1",
        "http://127.1/v1",
        "http://128.0.0.1/v1",
        "http://localhost.example.com/v1",
        "http://127.0.0.1.example.com/v1",
        "http://[2001:db8::1]/v1",
    ],
)
def test_plain_http_off_this_machine_has_to_be_asked_for(url: str) -> None:
    with pytest.raises(InvalidBaseUrl, match="--insecure"):
        base_url_check(url)
    assert base_url_check(url, insecure=True) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "//api.openai.com/v1",
        "ftp://api.openai.com/v1",
        "file:///etc/passwd",
        "https:///v1",
        "https://",
        "https://user@api.openai.com/v1",
        "https://user:password@api.openai.com/v1",
        "https://api.openai.com@evil.example.com/v1",
        "https://api.openai.com/v1?key=1",
        "https://api.openai.com/v1?",
        "https://api.openai.com/v1#x",
        "https://api.openai.com/v1#",
        "https://api.openai.com//v1",
        "https://api.openai.com/a/../v1",
        "https://api.openai.com/./v1",
        "https://api.openai.com:0/v1",
        "https://api.openai.com:65536/v1",
        "https://api.openai.com:x/v1",
        "https://[::1/v1",
        "https://a%2eb.com/v1",
        "https://exa mple.com/v1",
        "https://example.com/v1\n",
        "https://example.com\\@evil.example.com/v1",
        "https://exämple.com/v1",
        "https://example.com/" + "x" * 300,
    ],
)
@pytest.mark.parametrize("insecure", [False, True])
def test_what_is_no_base_url_is_refused_even_if_it_is_asked_for(url: str, insecure: bool) -> None:
    with pytest.raises(InvalidBaseUrl):
        base_url_check(url, insecure=insecure)
