"""What an operator may say of a channel: checked, and as it is stored. Pure."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from accounts.errors import Refused
from relay.channels.balances import KINDS

MAX_NAME_LENGTH = 60
MAX_MODEL_LENGTH = 200
MAX_LABEL_LENGTH = 100
MAX_CREDENTIAL_LENGTH = 4096
MAX_HEADERS = 20
MAX_HEADER_LENGTH = 1000
MAX_PRIORITY = 1_000_000
MAX_WEIGHT = 10_000
MAX_CONCURRENCY = 100_000
MIN_SECONDS, MAX_SECONDS = 0.01, 3600.0
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# It goes into a header: a space or a line break would end it, or begin another.
_CREDENTIAL = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_API_VERSION = re.compile(r"[A-Za-z0-9.-]{1,40}")
_PROXY = re.compile(r"[!-~]{1,300}")

# What the relay itself says of a request; a second word on it would be read by some and not others.
_OURS = frozenset(
    {"authorization", "api-key", "host", "user-agent", "accept", "accept-encoding", "content-type"}
    | {"content-length", "content-encoding", "cookie", "expect", "date", "openai-beta"}
)
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade", "http2-settings"}
)


class UnusableTerms(Refused):
    """A term of a channel makes no sense, or would be dangerous."""


def name_check(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise UnusableTerms(
            f"{name!r} names no channel: at most {MAX_NAME_LENGTH} of A-Z a-z 0-9 _ -."
        )
    return name


def credential_check(credential: str) -> str:
    if len(credential) > MAX_CREDENTIAL_LENGTH or not _CREDENTIAL.fullmatch(credential):
        raise UnusableTerms("The credential is empty, or is no header value.")
    return credential


def label_check(label: str) -> str:
    if not 0 < len(label) <= MAX_LABEL_LENGTH or not label.isprintable():
        raise UnusableTerms(f"A label is at most {MAX_LABEL_LENGTH} printable characters long.")
    return label


def model_map_check(models: Iterable[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Public name -> upstream's; those that are not renamed are called the same."""
    found = {name.strip(): name.strip() for name in models}
    found |= {public.strip(): upstream.strip() for public, upstream in renamed.items()}
    for name in (*found, *found.values()):
        if not 0 < len(name) <= MAX_MODEL_LENGTH or not name.isprintable():
            raise UnusableTerms("A model id is empty or too long.")
    return dict(sorted(found.items()))


def pairs_parse(texts: Iterable[str], *, form: str) -> dict[str, str]:
    """`NAME=VALUE` each, every name once. `form` is what the refusal calls it."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UnusableTerms(f"{text.partition('=')[0]!r} is not of the form {form}.")
        if name in found:
            raise UnusableTerms(f"{name!r} is said twice.")
        found[name] = value
    return found


def headers_check(headers: Mapping[str, str]) -> dict[str, str]:
    """The extra headers, their names in lower case; none that is ours or one connection's."""
    if len(headers) > MAX_HEADERS:
        raise UnusableTerms(f"A channel has at most {MAX_HEADERS} extra headers.")
    found: dict[str, str] = {}
    for given, value in headers.items():
        name = given.lower()
        if len(name) > MAX_LABEL_LENGTH or not _HEADER_NAME.fullmatch(name):
            raise UnusableTerms(f"{given!r} is no name of a header.")
        if name in _OURS:
            raise UnusableTerms(f"The header {name} is the relay's own.")
        if name in _HOP_BY_HOP:
            raise UnusableTerms(f"The header {name} belongs to one connection, not to a call.")
        if len(value) > MAX_HEADER_LENGTH or not _HEADER_VALUE.fullmatch(value):
            raise UnusableTerms(f"The header {name} has no plain value of visible characters.")
        if name in found:
            raise UnusableTerms(f"The header {name} is said twice.")
        found[name] = value
    return found


def proxy_check(url: str) -> str:
    """The proxy as it may be shown, without its password. Empty: none."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UnusableTerms("The proxy is no URL.") from error
    if parts.scheme not in PROXY_SCHEMES:
        raise UnusableTerms(f"A proxy's URL begins with one of {', '.join(PROXY_SCHEMES)}://.")
    is_plain = _PROXY.fullmatch(url) and not parts.query and not parts.fragment
    if not host or port == 0 or parts.path not in ("", "/") or not is_plain:
        raise UnusableTerms("A proxy's URL has a host and perhaps a port, a user and a password.")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def balance_check(kind: str) -> str:
    if kind and kind not in KINDS:
        raise UnusableTerms(f"A balance is asked for in one of these ways: {', '.join(KINDS)}.")
    return kind


def api_version_check(version: str, *, kind: str) -> str:
    if version and kind != "azure":
        raise UnusableTerms("Only channels of the kind azure have an API version.")
    if version and not _API_VERSION.fullmatch(version):
        raise UnusableTerms("An API version is like 2024-10-21.")
    return version


def whole_check(what: str, number: int, *, least: int, most: int) -> int:
    if not least <= number <= most:
        raise UnusableTerms(f"The {what} is a whole number from {least} to {most}.")
    return number


def seconds_check(what: str, seconds: float | None) -> float | None:
    """None and 0: as the installation has it."""
    if not seconds:
        return None
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:  # Also refuses what is no number.
        raise UnusableTerms(f"The {what} is at most {MAX_SECONDS:g} seconds.")
    return seconds
