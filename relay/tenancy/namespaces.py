"""What names end users and caches, kept apart between tenants. Pure.

Upstream sees all organizations under one account. Unless each one's values get a space of their
own, a warning or a block for one tenant's user would hit another's of the same name, and one tenant
could steer its calls to another's prompt cache.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

import msgspec

# The shortest limit that upstream has for any of these fields.
MAX_LENGTH: Final = 64
_MARK_LENGTH: Final = 12
_encode: Final = msgspec.json.Encoder().encode


class Namespace:
    """One organization's space."""

    __slots__ = ("_mark",)

    def __init__(self, organization_id: int, *, secret: str) -> None:
        message = f"namespace {organization_id}".encode()
        digest = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
        self._mark = digest[:_MARK_LENGTH] + "-"

    def inside(self, values: Mapping[str, str]) -> dict[str, str]:
        """The values as upstream may see them."""
        return {name: self.value(value) for name, value in values.items()}

    def restored(self, data: bytes, values: Mapping[str, str]) -> bytes:
        """What upstream says of these values, as the client knows them."""
        for text in values.values():
            marked = self.value(text)
            if not marked.endswith(text):
                data = data.replace(f'"{marked}"'.encode(), _encode(text))
        return data.replace(b'"' + self._mark.encode(), b'"')

    def value(self, text: str) -> str:
        marked = self._mark + text
        if len(marked) <= MAX_LENGTH:
            return marked
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        return self._mark + digest[: MAX_LENGTH - len(self._mark)]


class Namespaces:
    """The spaces of the organizations that needed one lately."""

    def __init__(self, *, secret: str, at_most: int = 4096) -> None:
        self._secret = secret
        self._at_most = at_most
        self._known: dict[int, Namespace] = {}

    def of(self, organization_id: int) -> Namespace:
        known = self._known.get(organization_id)
        if known is None:
            if len(self._known) >= self._at_most:
                self._known.clear()
            known = self._known[organization_id] = Namespace(organization_id, secret=self._secret)
        return known
