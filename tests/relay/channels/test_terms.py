from typing import Any

import pytest

from relay.channels.terms import (
    UnusableTerms,
    api_version_check,
    headers_check,
    model_map_check,
    pairs_parse,
    proxy_check,
    seconds_check,
)


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        ({"Authorization": "x"}, "relay's own"),
        ({"api-key": "x"}, "relay's own"),
        ({"HOST": "x"}, "relay's own"),
        ({"content-length": "1"}, "relay's own"),
        ({"Transfer-Encoding": "chunked"}, "one connection"),
        ({"Connection": "x-a"}, "one connection"),
        ({"te": "trailers"}, "one connection"),
        ({"x-a": "1\r\nx-b: 2"}, "no plain value"),
        ({"x-a": "1\n"}, "no plain value"),
        ({"x-a": ""}, "no plain value"),
        ({"x-a": " 1"}, "no plain value"),
        ({"x-a": "é"}, "no plain value"),
        ({"x-a": "x" * 1001}, "no plain value"),
        ({"x a": "1"}, "no name"),
        ({"x-a\r\n": "1"}, "no name"),
        ({"": "1"}, "no name"),
        ({"x-a": "1", "X-A": "2"}, "twice"),
        ({f"x-{number}": "1" for number in range(21)}, "at most 20"),
    ],
)
def test_headers_that_would_do_harm_are_refused(headers: dict[str, str], complaint: str) -> None:
    with pytest.raises(UnusableTerms, match=complaint):
        headers_check(headers)


def test_other_headers_are_kept_in_lower_case() -> None:
    headers = {"HTTP-Referer": "https://example.com/?a=b", "X-Title": "a title"}
    assert headers_check(headers) == {
        "http-referer": "https://example.com/?a=b",
        "x-title": "a title",
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("socks5://user:p%40ss@10.0.0.1:1080/", "socks5://10.0.0.1:1080"),
        ("socks5h://[::1]:1080", "socks5h://[::1]:1080"),
        ("https://Proxy.Example", "https://proxy.example"),
    ],
)
def test_a_proxy_is_shown_without_its_password(url: str, shown: str) -> None:
    assert proxy_check(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "ftp://proxy.example",
        "socks4://proxy.example",
        "http://",
        "http://proxy.example:0",
        "http://proxy.example:99999",
        "http://proxy.example/path",
        "http://proxy.example?x",
        "http://proxy.example:1\r\nx: y",
        "file:///etc/passwd",
        "http://[::1",
    ],
)
def test_a_proxy_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UnusableTerms):
        proxy_check(url)


def test_what_is_not_renamed_keeps_its_name() -> None:
    assert model_map_check(["a", " b "], {"b": "c", "old": "new"}) == {
        "a": "a",
        "b": "c",
        "old": "new",
    }
    for renamed in ({"a": " "}, {"a": "x" * 201}, {"a": "x\ny"}):
        with pytest.raises(UnusableTerms):
            model_map_check([], renamed)


@pytest.mark.parametrize("texts", [["a"], ["=b"], [" =b"], ["a=b", "a=c"]])
def test_pairs_have_a_name_and_a_value_each_once(texts: list[str]) -> None:
    with pytest.raises(UnusableTerms):
        pairs_parse(texts, form="A=B")


def test_a_value_may_have_more_signs_of_equality() -> None:
    assert pairs_parse(["a=b=c", "d="], form="A=B") == {"a": "b=c", "d": ""}


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 0.001, 3601])
def test_deadlines_are_bounded(seconds: float) -> None:
    with pytest.raises(UnusableTerms):
        seconds_check("idle_seconds", seconds)


@pytest.mark.parametrize(("seconds", "kept"), [(None, None), (0, None), (2.5, 2.5)])
def test_no_deadline_is_the_installations(seconds: Any, kept: Any) -> None:
    assert seconds_check("idle_seconds", seconds) == kept


def test_only_azure_has_a_version() -> None:
    assert api_version_check("2024-10-21", kind="azure") == "2024-10-21"
    for version, kind in (("2024-10-21", "openai"), ("1&x=2", "azure"), ("a b", "azure")):
        with pytest.raises(UnusableTerms):
            api_version_check(version, kind=kind)
