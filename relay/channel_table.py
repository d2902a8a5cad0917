"""The enabled channels in memory, read whole; a change of any channel is a new table."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from accounts.errors import Refused
from relay.credentials import credential_decrypt
from relay.upstream import Destination

logger = logging.getLogger("tollgate.relay")

_CHANNELS = """
SELECT c.id, c.name, c.provider, c.base_url, c.credential_encrypted, c.serves_all_models,
       c.priority, c.weight, c.cost_ppm,
       coalesce(jsonb_object_agg(m.model, m.upstream_model) FILTER (WHERE m.id IS NOT NULL), '{}')
  FROM relay_channel c LEFT JOIN relay_channelmodel m ON m.channel_id = c.id
 WHERE c.enabled GROUP BY c.id ORDER BY c.id
"""
SIMULATOR = "simulator"
_VERSION = "SELECT version FROM accounts_configurationversion WHERE topic = 'channels'"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRoute:
    """A channel as a call sees it."""

    id: int
    name: str
    simulated: bool
    destination: Destination
    base_path: bytes
    authorization: bytes = field(repr=False)
    serves_all_models: bool
    upstream_models: Mapping[str, str]  # Public name -> what its upstream calls it.
    priority: int
    weight: int
    cost_ppm: int

    def serves(self, model: str) -> bool:
        return self.serves_all_models or model in self.upstream_models

    def upstream_model(self, model: str) -> str:
        return self.upstream_models.get(model, model)


class ChannelTable:
    def __init__(self, routes: Sequence[ChannelRoute], *, version: int = -1) -> None:
        self.version = version
        self._routes = routes
        self._candidates: dict[str, list[ChannelRoute]] = {}

    def route(self, channel_id: int) -> ChannelRoute | None:
        """One channel; None if it is not enabled."""
        return next((route for route in self._routes if route.id == channel_id), None)

    def candidates(self, model: str) -> list[ChannelRoute]:
        """The channels that serve a priced model; asked only for those, so it stays small."""
        found = self._candidates.get(model)
        if found is None:
            serving = [route for route in self._routes if route.serves(model)]
            # No customer of a real upstream is ever served an invented answer.
            found = [route for route in serving if not route.simulated] or serving
            self._candidates[model] = found
        return found


async def channels_load(connection: psycopg.AsyncConnection) -> ChannelTable:
    """Read all enabled channels. One that cannot be used is left out, loudly."""
    version = await (await connection.execute(_VERSION)).fetchone()
    assert version is not None, "the migrations insert the topic"
    routes = []
    for row in await (await connection.execute(_CHANNELS)).fetchall():
        channel_id, name, provider, base_url, credential, serves_all, *numbers, models = row
        priority, weight, cost_ppm = numbers
        try:
            destination, base_path = Destination.from_url(base_url)
            authorization = f"Bearer {credential_decrypt(credential)}".encode()
        except (ValueError, Refused) as error:
            logger.error("Channel %s is left out: %s", name, error)  # noqa: TRY400  The row is wrong, not the code.
            continue
        routes.append(
            ChannelRoute(
                id=channel_id,
                name=name,
                simulated=provider == SIMULATOR,
                destination=destination,
                base_path=base_path,
                authorization=authorization,
                serves_all_models=serves_all,
                upstream_models=models,
                priority=priority,
                weight=weight,
                cost_ppm=cost_ppm,
            )
        )
    return ChannelTable(routes, version=version[0])
