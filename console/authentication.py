"""The gateway's own API keys, for the usage API."""

import ipaddress
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from typing_extensions import override

from accounts.keys import key_digest, key_is_well_formed
from accounts.models import ApiKey, Organization
from billing.usage.queries import UsageScope
from console.middleware import relay_scope
from relay.errors import (
    invalid_api_key,
    missing_api_key,
    organization_suspended,
    permission_denied,
    project_not_found,
)

READING_SCOPES = frozenset({ApiKey.Scope.RELAY, ApiKey.Scope.USAGE})
ADMIN_SCOPES = frozenset({ApiKey.Scope.ADMIN})


class KeyHolder:
    """Who asks: REST framework's user, who is never anybody else than the key."""

    is_authenticated = True

    def __init__(self, key: ApiKey, scope: UsageScope) -> None:
        self.key = key
        self.scope = scope


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer KEY`. Raises RelayError, so an answer never asks for a password."""

    @override
    def authenticate(self, request: Request) -> tuple[KeyHolder, ApiKey]:
        key = _key_find(_presented_key(request))
        path = relay_scope(request._request)  # noqa: SLF001  The only way to the ASGI scope.
        scope = _scope_of_path(key, path.get("organization"), path.get("project"))
        if key.organization.status == Organization.Status.SUSPENDED:
            raise organization_suspended()
        scopes: frozenset[str] = getattr(_view(request), "scopes", READING_SCOPES)
        if not scopes.intersection(key.scopes):
            raise permission_denied(
                f"This API key may not do that: it takes the scope {' or '.join(sorted(scopes))}."
            )
        if not _network_is_allowed(key, request._request):  # noqa: SLF001  See above.
            raise permission_denied("This API key may not be used from this address.")
        return KeyHolder(key, scope), key


def _view(request: Request) -> object:
    return (request.parser_context or {}).get("view")


def _presented_key(request: Request) -> str:
    """The key as clients send it: as a bearer, bare, or in one of the headers of older ones."""
    scheme, _, value = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        scheme = ""
    elif value:
        raise missing_api_key()  # Of a scheme that we do not speak.
    bare = value.strip() or scheme
    for text in (bare, *(request.headers.get(name, "") for name in ("x-api-key", "api-key"))):
        if text.strip():
            return str(text.strip())
    raise missing_api_key()


def _key_find(text: str) -> ApiKey:
    pepper = settings.KEY_PEPPER
    if not key_is_well_formed(text, pepper=pepper):
        raise invalid_api_key()
    keys = ApiKey.objects.select_related("organization", "project")
    key = keys.filter(digest=key_digest(text, pepper=pepper)).first()
    if key is None or key.revoked_at is not None:
        raise invalid_api_key()
    if key.expires_at is not None and key.expires_at <= timezone.now():
        raise invalid_api_key()
    return key


def _scope_of_path(key: ApiKey, organization: str | None, project: str | None) -> UsageScope:
    """Whose usage the URL asks for: the key's organization, or the one project that it names.

    Names that are not the key's own get the same answer as names that nobody has.
    """
    if organization is not None and organization != key.organization.slug:
        raise project_not_found()
    if project is None:
        return UsageScope(key.organization_id)
    if project != key.project.slug:
        raise project_not_found()
    return UsageScope(key.organization_id, key.project_id)


def _network_is_allowed(key: ApiKey, request: HttpRequest) -> bool:
    if key.allowed_networks is None:
        return True
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False  # A restricted key is of no use over a socket without an address.
    return any(address in ipaddress.ip_network(network) for network in key.allowed_networks)


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # It registers itself, untyped.
    """How the OpenAPI schema tells of the key."""

    target_class = ApiKeyAuthentication
    name = "apiKey"

    @override
    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A key that this gateway issued.",
        }
