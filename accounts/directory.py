"""Who a key belongs to, from memory: the data plane's answer to "who is calling?".

See Note [What is remembered] in `Directory`.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network

import psycopg

MAX_PRINCIPALS = 50_000
MAX_UNKNOWN = 10_000
UNKNOWN_SECONDS = 5.0

Digest = bytes

_PRINCIPAL = """
SELECT k.id, k.prefix, o.id, o.slug, p.id, p.slug, k.scopes, k.allowed_models,
       k.allowed_networks, extract(epoch FROM k.expires_at)::float8, k.revoked_at IS NOT NULL,
       o.status <> 'active', p.archived_at IS NOT NULL, coalesce(k.family_id, k.id)
  FROM accounts_apikey k
  JOIN accounts_organization o ON o.id = k.organization_id
  JOIN accounts_project p ON p.id = k.project_id
 WHERE k.digest = %s
"""


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a key, and all that decides whether a call is let through."""

    api_key_id: int
    api_key_prefix: str
    organization_id: int
    organization_slug: str
    project_id: int
    project_slug: str
    scopes: frozenset[str]
    allowed_models: frozenset[str] | None
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] | None
    expires_at: float | None  # Unix time.
    revoked: bool
    organization_suspended: bool
    project_archived: bool
    api_key_family_id: int = 0  # The first of the keys that replaced each other; limits are its.


async def principal_load(connection: psycopg.AsyncConnection, digest: Digest) -> Principal | None:
    """Ask the database whose key that is, in one statement."""
    cursor = await connection.execute(_PRINCIPAL, [digest])
    row = await cursor.fetchone()
    if row is None:
        return None
    return Principal(
        api_key_id=row[0],
        api_key_prefix=row[1],
        organization_id=row[2],
        organization_slug=row[3],
        project_id=row[4],
        project_slug=row[5],
        scopes=frozenset(row[6]),
        allowed_models=None if row[7] is None else frozenset(row[7]),
        allowed_networks=None if row[8] is None else tuple(map(ip_network, row[8])),
        expires_at=row[9],
        revoked=row[10],
        organization_suspended=row[11],
        project_archived=row[12],
        api_key_family_id=row[13],
    )


class Directory:
    """Principals by the digest of their key, bounded, filled by `load` on the first call of each.

    Note [What is remembered]: principals until something of their organization changes; that a
    key is unknown, briefly, until anything changes at all, since that might be the key's making.
    Calls that miss the same key wait for one look-up. A look-up that was under way during a change
    may have read the state before it: its answer serves those who waited, and is not remembered.
    """

    def __init__(
        self,
        load: Callable[[Digest], Awaitable[Principal | None]],
        *,
        max_principals: int = MAX_PRINCIPALS,
        max_unknown: int = MAX_UNKNOWN,
        unknown_seconds: float = UNKNOWN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._max_principals = max_principals
        self._max_unknown = max_unknown
        self._unknown_seconds = unknown_seconds
        self._clock = clock
        self._principals: OrderedDict[Digest, Principal] = OrderedDict()  # Least recent first.
        self._digests: dict[int, set[Digest]] = {}  # Of each remembered organization.
        self._unknown_until: OrderedDict[Digest, float] = OrderedDict()  # Soonest first.
        self._look_ups: dict[Digest, asyncio.Task[Principal | None]] = {}  # Those to join.
        self._tasks: set[asyncio.Task[Principal | None]] = set()  # All, until they end.
        self._generation = 0

    def remembered(self, digest: Digest) -> Principal | None:
        """The principal, if it is known without asking anybody."""
        principal = self._principals.get(digest)
        if principal is not None:
            self._principals.move_to_end(digest)
        return principal

    async def find(self, digest: Digest) -> Principal | None:
        """The principal, or None if no key has that digest. What `load` raises comes through."""
        principal = self.remembered(digest)
        if principal is not None:
            return principal
        if self._unknown_until.get(digest, 0.0) > self._clock():
            return None
        look_up = self._look_ups.get(digest)
        if look_up is None:
            look_up = asyncio.create_task(self._look_up(digest, self._generation))
            self._look_ups[digest] = look_up
            self._tasks.add(look_up)
            look_up.add_done_callback(partial(self._look_up_ended, digest))
        # One who leaves must not take the answer from the others.
        return await asyncio.shield(look_up)

    def forget_organization(self, organization_id: int) -> None:
        """Something of that organization changed: itself, a project, a key."""
        self._changed()
        for digest in self._digests.pop(organization_id, ()):
            del self._principals[digest]

    def forget_all(self) -> None:
        """Changes may have been missed."""
        self._changed()
        self._principals.clear()
        self._digests.clear()

    async def close(self) -> None:
        """End the look-ups that are under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _changed(self) -> None:
        self._generation += 1
        self._unknown_until.clear()
        # Those who ask from now on must not be served by an answer from before.
        self._look_ups.clear()

    async def _look_up(self, digest: Digest, generation: int) -> Principal | None:
        principal = await self._load(digest)
        if generation == self._generation:
            self._remember(digest, principal)
        return principal

    def _look_up_ended(self, digest: Digest, look_up: asyncio.Task[Principal | None]) -> None:
        self._tasks.discard(look_up)
        if self._look_ups.get(digest) is look_up:
            del self._look_ups[digest]

    def _remember(self, digest: Digest, principal: Principal | None) -> None:
        if principal is None:
            self._unknown_until[digest] = self._clock() + self._unknown_seconds
            self._unknown_until.move_to_end(digest)
            if len(self._unknown_until) > self._max_unknown:
                self._unknown_until.popitem(last=False)
            return
        self._principals[digest] = principal
        self._digests.setdefault(principal.organization_id, set()).add(digest)
        if len(self._principals) > self._max_principals:
            self._evict(*self._principals.popitem(last=False))

    def _evict(self, digest: Digest, principal: Principal) -> None:
        digests = self._digests[principal.organization_id]
        digests.discard(digest)
        if not digests:
            del self._digests[principal.organization_id]
