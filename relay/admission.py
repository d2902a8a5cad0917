"""Who is calling, and may they: decided from memory before anything else happens."""

import time
from functools import lru_cache
from ipaddress import ip_address

from accounts.directory import Directory, Principal
from accounts.keys import key_digest, key_is_well_formed
from billing.engine import OutcomeUnknown
from relay import errors
from relay.exchange import Exchange
from relay.paths import Match

MAX_REMEMBERED = 50_000
MAX_REMEMBERED_BYTES = 256  # Of one header: all sane ones are shorter.


class SentKeys:
    """What clients send as their keys, as digests.

    A key in use is checked and hashed once, not at each call. That says nothing about whether it
    works; and what is refused is not remembered, so who invents keys drives none out.
    """

    def __init__(self, *, pepper: str, max_remembered: int = MAX_REMEMBERED) -> None:
        self._pepper = pepper
        self.bearer_digest = lru_cache(max_remembered)(self._bearer_digest)

    def digest_sent(self, exchange: Exchange) -> bytes:
        """The digest of the key; the bearer token wins over the other spellings.

        Raises RelayError.
        """
        authorization = exchange.header(b"authorization")
        if authorization is None:
            return self._digest(exchange.header(b"x-api-key") or exchange.header(b"api-key") or b"")
        if len(authorization) > MAX_REMEMBERED_BYTES:
            return self._bearer_digest(authorization)
        return self.bearer_digest(authorization)

    def _bearer_digest(self, authorization: bytes) -> bytes:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            key = authorization if not key else b""
        return self._digest(key)

    def _digest(self, key: bytes) -> bytes:
        text = key.strip().decode("ascii", "replace")
        if not text or text.lower() == "bearer":
            raise errors.missing_api_key()
        if not key_is_well_formed(text, pepper=self._pepper):
            raise errors.invalid_api_key()
        return key_digest(text, pepper=self._pepper)


async def authenticate(exchange: Exchange, *, directory: Directory, keys: SentKeys) -> Principal:
    """The holder of a key that works. Raises RelayError."""
    digest = keys.digest_sent(exchange)
    principal = directory.remembered(digest)
    if principal is None:
        try:
            principal = await directory.find(digest)
        except OutcomeUnknown:
            # Whether the key works is not known, so it is neither refused nor let through.
            raise errors.store_unavailable() from None
    if principal is None or principal.revoked:
        raise errors.invalid_api_key()
    if principal.expires_at is not None and principal.expires_at <= time.time():
        raise errors.invalid_api_key()
    return principal


def authorize(principal: Principal, exchange: Exchange, match: Match) -> None:
    """Whether the holder may use the data plane under this URL. Raises RelayError."""
    if match.organization is not None and (
        match.organization != principal.organization_slug or match.project != principal.project_slug
    ):
        raise errors.project_not_found()
    if principal.organization_suspended:
        raise errors.organization_suspended()
    if principal.project_archived:
        raise errors.permission_denied("The project of this API key is archived.")
    if "relay" not in principal.scopes:
        raise errors.permission_denied("This API key may not call models.")
    if principal.allowed_networks is not None and not _is_allowed(principal, exchange):
        raise errors.permission_denied("This API key may not be used from this address.")


def _is_allowed(principal: Principal, exchange: Exchange) -> bool:
    try:
        address = ip_address(exchange.client_address or "")
    except ValueError:
        return False
    return any(address in network for network in principal.allowed_networks or ())
