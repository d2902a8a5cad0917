"""What may be the base URL of a channel. Pure.

It is what the OpenAI SDK takes as its `base_url`, `https://api.openai.com/v1` for instance: the
paths of the API, such as `/chat/completions`, are appended to it as it stands. Slashes at its end
do not matter and are dropped; `/v1` is neither added nor removed, since not every upstream has it.
"""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from accounts.errors import Refused

MAX_LENGTH = 300

# No spaces, control characters or letters that would have to be encoded first; a backslash is a
# slash to some and none to others.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_SCHEMES = ("https", "http")


class InvalidBaseUrl(Refused):
    """No channel can have that base URL."""


def base_url_check(url: str, *, insecure: bool = False) -> str:
    """The URL as it is stored, or InvalidBaseUrl.

    Plain http reaches this machine only, unless the operator says that it is meant (`insecure`):
    the credential would go over the network for everybody to read.
    """
    if len(url) > MAX_LENGTH or not _PLAIN.fullmatch(url):
        raise InvalidBaseUrl(f"A base URL is at most {MAX_LENGTH} plain characters long.")
    if "?" in url or "#" in url:
        raise InvalidBaseUrl("A base URL has no query and no fragment.")
    if "@" in url:
        raise InvalidBaseUrl("A base URL has no user or password: the credential is kept apart.")
    parts, host = _parts(url)
    if parts.scheme == "http" and not insecure and not _is_loopback(host):
        raise InvalidBaseUrl("Plain http off this machine has to be asked for (--insecure).")
    path = parts.path.rstrip("/")
    if any(segment in {"", ".", ".."} for segment in path.split("/")[1:]):
        raise InvalidBaseUrl("A base URL has no empty and no dot segments in its path.")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def _parts(url: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidBaseUrl(f"This is no URL: {error}.") from error
    if parts.scheme not in _SCHEMES or not host or not _HOST.fullmatch(host) or port == 0:
        raise InvalidBaseUrl("A base URL begins with https:// (or http://) and a host.")
    return parts, host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
