"""Who is calling, and may they: decided from memory before anything else happens."""

import time
from ipaddress import ip_address

from accounts.directory import Directory, Principal
from accounts.keys import key_digest, key_is_well_formed
from billing.engine import OutcomeUnknown
from relay import errors
from relay.exchange import Exchange
from relay.paths import Match


def sent_key(exchange: Exchange) -> str:
    """The key that the client sent; the bearer token wins over the other spellings.

    Raises RelayError.
    """
    authorization = exchange.header(b"authorization")
    if authorization is not None:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            key = authorization if not key else b""
    else:
        key = exchange.header(b"x-api-key") or exchange.header(b"api-key") or b""
    text = key.strip().decode("ascii", "replace")
    if not text or text.lower() == "bearer":
        raise errors.missing_api_key()
    return text


async def authenticate(exchange: Exchange, *, directory: Directory, pepper: str) -> Principal:
    """The holder of a key that works. Raises RelayError."""
    key = sent_key(exchange)
    if not key_is_well_formed(key, pepper=pepper):
        raise errors.invalid_api_key()
    try:
        principal = await directory.find(key_digest(key, pepper=pepper))
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
