"""The enabled channels in memory, read whole; a change of any channel is a new table."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from accounts.errors import Refused
from relay.channels.azure import azure_target
from relay.channels.encryption import credential_decrypt
from relay.upstream import Deadlines, Destination

logger = logging.getLogger("tollgate.relay")

# A row for each credential in use. Those whose channel has none left are read too: their models
# are known, and for now out of service.
_ROWS = """
SELECT c.id, c.name, c.provider, c.kind, c.base_url, c.api_version, c.serves_all_models,
       c.priority, c.weight, c.concurrency, c.cost_ppm, c.http2, c.proxy_encrypted,
       c.headers_encrypted, c.connect_seconds, c.first_byte_seconds, c.idle_seconds,
       k.id AS credential_id, k.label, k.encrypted,
       coalesce((SELECT jsonb_object_agg(m.model, m.upstream_model) FROM relay_channelmodel m
                  WHERE m.channel_id = c.id), '{}') AS models
  FROM relay_channel c LEFT JOIN relay_channelcredential k ON k.channel_id = c.id AND k.enabled
"""
_CHANNELS = f"{_ROWS} WHERE c.enabled ORDER BY c.id, k.id"
_CHANNEL = f"{_ROWS} WHERE c.name = %s AND k.id IS NOT NULL ORDER BY k.id"
SIMULATOR = "simulator"
AZURE = "azure"
_VERSION = "SELECT version FROM accounts_configurationversion WHERE topic = 'channels'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """A channel's own deadlines; None: the installation's."""

    connect_seconds: float | None = None
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None

    def over(self, common: Deadlines) -> Deadlines:
        return Deadlines(
            connect_seconds=self.connect_seconds or common.connect_seconds,
            first_byte_seconds=self.first_byte_seconds or common.first_byte_seconds,
            idle_seconds=self.idle_seconds or common.idle_seconds,
            total_seconds=common.total_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRoute:
    """A channel with one of its credentials, as a call sees it."""

    id: int
    name: str
    simulated: bool
    destination: Destination
    base_path: bytes
    authorization: bytes = field(repr=False)
    serves_all_models: bool
    upstream_models: Mapping[str, str]  # Public name -> what its upstream calls it.
    priority: int
    weight: float  # The channel's, shared among its credentials.
    cost_ppm: int
    credential_id: int = 0
    credential: str = ""  # Its label.
    concurrency: int = 0  # Calls at once in this process; 0: no limit.
    azure: bool = False
    api_version: str = ""
    http2: bool = False
    proxy: str = field(default="", repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    patience: Patience | None = None

    def serves(self, model: str) -> bool:
        return self.serves_all_models or model in self.upstream_models

    def upstream_model(self, model: str) -> str:
        return self.upstream_models.get(model, model)

    def target(self, endpoint: bytes, model: str) -> bytes:
        """Where an endpoint's path leads on this channel."""
        if not self.azure:
            return self.base_path + endpoint
        deployment = self.upstream_model(model) if model else ""
        path = azure_target(endpoint, deployment=deployment, api_version=self.api_version)
        return self.base_path + path

    @property
    def authorization_header(self) -> bytes:
        return b"api-key" if self.azure else b"authorization"


class ChannelTable:
    def __init__(
        self,
        routes: Sequence[ChannelRoute],
        *,
        version: int = -1,
        out_of_service: Sequence[ChannelRoute] = (),
    ) -> None:
        """`out_of_service` are channels without any credential left."""
        self.version = version
        self._routes = routes
        self._out_of_service = out_of_service
        self._candidates: dict[str, list[ChannelRoute]] = {}

    @property
    def routes(self) -> Sequence[ChannelRoute]:
        return self._routes

    def routes_of(self, channel_id: int) -> list[ChannelRoute]:
        """One channel, with each of its credentials; empty if it is not in service."""
        return [route for route in self._routes if route.id == channel_id]

    def candidates(self, model: str) -> list[ChannelRoute]:
        """The channels that serve a priced model; asked only for those, so it stays small."""
        found = self._candidates.get(model)
        if found is None:
            serving = [route for route in self._routes if route.serves(model)]
            # No customer of a real upstream is ever served an invented answer.
            found = [route for route in serving if not route.simulated] or serving
            self._candidates[model] = found
        return found

    def is_out_of_service(self, model: str) -> bool:
        """Whether a channel would serve the model if it had a credential left."""
        return any(route.serves(model) for route in self._out_of_service)


async def channels_load(connection: psycopg.AsyncConnection) -> ChannelTable:
    """Read all enabled channels. One that cannot be used is left out, loudly."""
    version = await (await connection.execute(_VERSION)).fetchone()
    assert version is not None, "the migrations insert the topic"
    async with connection.cursor(row_factory=dict_row) as cursor:
        rows = await (await cursor.execute(_CHANNELS)).fetchall()
    shares: dict[int, int] = {}
    for row in rows:
        shares[row["id"]] = shares.get(row["id"], 0) + 1
    routes: list[ChannelRoute] = []
    out_of_service: list[ChannelRoute] = []
    for row in rows:
        try:
            route = _route(row, share=shares[row["id"]])
        except (ValueError, Refused) as error:
            logger.error("Channel %s is left out: %s", row["name"], error)  # noqa: TRY400  The row is wrong, not the code.
            continue
        (routes if row["credential_id"] else out_of_service).append(route)
    return ChannelTable(routes, version=version[0], out_of_service=out_of_service)


async def routes_load(connection: psycopg.AsyncConnection, name: str) -> list[ChannelRoute]:
    """One channel, enabled or not, with each credential in use. Raises Refused, ValueError."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        rows = await (await cursor.execute(_CHANNEL, (name,))).fetchall()
    return [_route(row, share=len(rows)) for row in rows]


def _route(row: Mapping[str, Any], *, share: int) -> ChannelRoute:
    destination, base_path = Destination.from_url(row["base_url"])
    azure = row["kind"] == AZURE
    credential = credential_decrypt(row["encrypted"]) if row["credential_id"] else ""
    own = {name: row[name] for name in Patience.__slots__}
    return ChannelRoute(
        id=row["id"],
        name=row["name"],
        simulated=row["provider"] == SIMULATOR,
        destination=destination,
        base_path=base_path,
        authorization=(credential if azure else f"Bearer {credential}").encode(),
        serves_all_models=row["serves_all_models"],
        upstream_models=row["models"],
        priority=row["priority"],
        weight=row["weight"] / share,
        cost_ppm=row["cost_ppm"],
        credential_id=row["credential_id"] or 0,
        credential=row["label"] or "",
        concurrency=row["concurrency"],
        azure=azure,
        api_version=row["api_version"],
        http2=row["http2"],
        proxy=credential_decrypt(row["proxy_encrypted"]) if row["proxy_encrypted"] else "",
        headers=_headers(row["headers_encrypted"]),
        patience=Patience(**own) if any(own.values()) else None,
    )


def _headers(encrypted: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    if not encrypted:
        return ()
    pairs = (line.partition("=") for line in credential_decrypt(encrypted).split("\n"))
    return tuple((name.encode(), value.encode()) for name, _, value in pairs)
