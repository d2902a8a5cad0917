"""The form of our API keys: brand prefix, 32 random characters, 6 of checksum. Pure.

The checksum is keyed with the pepper, so an invented key is refused without a look-up.
"""

import hmac
import re
import secrets
import string
from dataclasses import dataclass, field

RANDOM_LENGTH = 32
CHECKSUM_LENGTH = 6
LAST_LENGTH = 4
MAX_BRAND_LENGTH = 20
# What a key is listed and revoked by: its brand and so much of its randomness. The 22 characters
# behind it stay secret; they alone are 131 bits.
PREFIX_RANDOM_LENGTH = 10

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_TAIL_LENGTH = RANDOM_LENGTH + CHECKSUM_LENGTH
# A hyphen in front would make an option of the key's prefix in a command.
_BRAND_PATTERN = rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_BRAND_LENGTH - 1}}}"
# NextChat takes what begins with "nk-" for a password of its own.
_BRAND = re.compile(rf"(?!nk-){_BRAND_PATTERN}")
# The brand is not compared: keys that were issued under an earlier brand go on working.
_KEY = re.compile(rf"{_BRAND_PATTERN}[A-Za-z0-9]{{{_TAIL_LENGTH}}}")


class InvalidBrandPrefix(ValueError):
    """The brand prefix has characters that a key must not have, or too many."""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; `key` is shown once, the rest is stored."""

    key: str = field(repr=False)
    prefix: str
    last4: str
    digest: bytes = field(repr=False)


def key_generate(*, brand_prefix: str, pepper: str) -> IssuedKey:
    if not _BRAND.fullmatch(brand_prefix):
        raise InvalidBrandPrefix(
            f"A brand prefix is 1 to {MAX_BRAND_LENGTH} of A-Z a-z 0-9 _ -, the first no _ or -,"
            " and not nk-."
        )
    body = brand_prefix + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_LENGTH))
    key = body + _checksum(body, pepper)
    return IssuedKey(
        key=key,
        prefix=key[: len(brand_prefix) + PREFIX_RANDOM_LENGTH],
        last4=key[-LAST_LENGTH:],
        digest=key_digest(key, pepper=pepper),
    )


def key_is_well_formed(key: str, *, pepper: str) -> bool:
    """Whether we can have issued the key: its form and checksum are right."""
    if not _KEY.fullmatch(key):
        return False
    body, checksum = key[:-CHECKSUM_LENGTH], key[-CHECKSUM_LENGTH:]
    return hmac.compare_digest(checksum, _checksum(body, pepper))


def key_digest(key: str, *, pepper: str) -> bytes:
    """What a key is found by; who steals the digests without the pepper cannot test keys."""
    return hmac.digest(pepper.encode(), key.encode(), "sha256")


def _checksum(body: str, pepper: str) -> str:
    number = int.from_bytes(hmac.digest(pepper.encode(), body.encode(), "sha256")[:8], "big")
    characters = []
    for _ in range(CHECKSUM_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return "".join(characters)
