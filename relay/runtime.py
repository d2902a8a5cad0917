"""What the data plane knows and uses: keys, prices and channels in memory, money, upstreams.

It follows the changes that the database notifies, and looks once a second for those it missed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from accounts.directory import Directory, Principal, principal_load
from billing.engine import (
    Connection,
    Durability,
    EngineSettings,
    MoneyEngine,
    OutcomeUnknown,
    Timing,
    spend_limits_load,
)
from billing.limits import rates_load
from billing.prices.catalog import Catalog, catalog_load
from relay.channels.table import ChannelTable, channels_load
from relay.drains import DrainLimits, Drains
from relay.limits.limiter import RateLimits
from relay.metering.reservation import HoldPolicy
from relay.routing.probes import probe_for_ever
from relay.routing.refusals import Refusals
from relay.routing.sending import ChannelTraffic, Sending
from relay.upstream import Deadlines, UpstreamEngine
from relay.upstream.library import LibraryEngine

logger = logging.getLogger("tollgate.relay")
CHECK_SECONDS = 1.0
STALE_SECONDS = 0.25
# What is read whole when anything of it has changed.
_LOADED = frozenset({"prices", "channels", "limits"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    database_url: str
    journals: Path
    node: str
    timing: Timing
    durability: Durability = Durability.JOURNAL
    key_pepper: str
    body_limit_bytes: int
    deadlines: Deadlines
    hold_policy: HoldPolicy
    free_tier_models: frozenset[str]  # Empty: all of them.
    free_tier_concurrency: int = 0  # Per organization; 0: no limit.
    rate_limits: Path  # What the workers of this node count together.
    redis_url: str = ""  # Where nodes share their limits; empty: nowhere.
    client_left_drain_seconds: float
    client_left_drain_bytes: int
    client_left_drains: int  # 0: none.
    keep_alive_seconds: float  # 0: never.


class Runtime:
    def __init__(self, settings: RuntimeSettings) -> None:
        self.settings = settings
        self.engine = MoneyEngine(
            EngineSettings(
                database_url=settings.database_url,
                journals=settings.journals,
                node=settings.node,
                timing=settings.timing,
                durability=settings.durability,
            )
        )
        self.drains = Drains(
            DrainLimits(
                seconds=settings.client_left_drain_seconds,
                bytes=settings.client_left_drain_bytes,
                at_once=settings.client_left_drains,
            )
        )
        self.directory = Directory(self._principal)
        self.upstream = UpstreamEngine()
        self.library = LibraryEngine()
        self.refusals = Refusals(self.engine.leases_database)
        self.traffic = ChannelTraffic()
        self.sending = Sending(
            engine=self.upstream,
            other_engine=self.library,
            traffic=self.traffic,
            refusals=self.refusals,
            deadlines=settings.deadlines,
        )
        self.catalog: Catalog | None = None
        self.channels = ChannelTable([])
        self.limits = RateLimits(
            settings.rate_limits, realm=settings.database_url, redis_url=settings.redis_url
        )
        self._known = {"accounts": -1, "prices": -1, "channels": -1, "limits": -1}
        self._stale: set[str] = set(_LOADED)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def problems(self) -> list[str]:
        """Why calls cannot be served now; empty when all is well."""
        found = self.engine.problems()
        if self.catalog is None:
            found.append("the prices are not loaded")
        if self.channels.version < 0:
            found.append("the channels are not loaded")
        if self.limits.version < 0 or self.engine.limits.version < 0:
            found.append("the limits are not loaded")
        return found

    async def start(self) -> None:
        self.engine.subscribe(self._changed, reconnected=self._missed)
        await self.engine.start()
        self.limits.start()
        await self._reload()
        work = (self._follow(), self._check(), probe_for_ever(self.sending, lambda: self.channels))
        self._tasks = [asyncio.create_task(one) for one in work]

    async def stop(self, patience_seconds: float) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.refusals.settled()
        await self.directory.close()
        await self.limits.stop()
        await self.engine.stop(patience_seconds)
        await self.upstream.close()
        await self.library.close()

    async def _principal(self, digest: bytes) -> Principal | None:
        read = partial(principal_load, digest=digest)
        began = asyncio.get_running_loop().time()
        try:
            return await self.engine.leases_database.run(read)
        except OutcomeUnknown:
            # At once: the connection had ended while nobody used it. A new one may know more.
            if asyncio.get_running_loop().time() - began > STALE_SECONDS:
                raise
        return await self.engine.leases_database.run(read)

    # --- Following changes -----------------------------------------------------------------------

    def _changed(self, topic: str, version: int, organization_id: int) -> None:
        if topic == "accounts":
            self.directory.forget_organization(organization_id)
        elif topic in _LOADED:
            self._stale.add(topic)
            self._wake.set()
        else:
            return
        self._known[topic] = max(self._known[topic], version)

    def _missed(self) -> None:
        """Notifications may have been missed: everything could have changed."""
        self.directory.forget_all()
        # Not even the versions can be relied on: it may be another database's, an older one's.
        self._known = dict.fromkeys(self._known, -1)
        self._stale |= _LOADED
        self._wake.set()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._reload()

    async def _reload(self) -> None:
        loads: dict[str, Callable[[], Awaitable[None]]] = {
            "prices": self._reload_prices,
            "channels": self._reload_channels,
            "limits": self._reload_limits,
        }
        for topic in sorted(self._stale):
            self._stale.discard(topic)
            try:
                await loads[topic]()
            except OutcomeUnknown as error:
                logger.warning("The %s cannot be loaded: %s", topic, error)
                self._stale.add(topic)  # The check each second tries again.
            except Exception:
                logger.critical("The %s cannot be loaded.", topic, exc_info=True)
                self._stale.add(topic)

    async def _reload_prices(self) -> None:
        self.catalog = await self.engine.leases_database.run(catalog_load)
        self._known["prices"] = max(self._known["prices"], self.catalog.version)

    async def _reload_channels(self) -> None:
        self.channels = await self.engine.leases_database.run(channels_load)
        self._known["channels"] = max(self._known["channels"], self.channels.version)

    async def _reload_limits(self) -> None:
        self.limits.load(await self.engine.leases_database.run(rates_load))
        self.engine.limits_load(await self.engine.leases_database.run(spend_limits_load))
        # The older of the two: who read one before a change reads both again.
        version = min(self.limits.version, self.engine.limits.version)
        self._known["limits"] = max(self._known["limits"], version)

    async def _check(self) -> None:
        """The second look: notifications are hints, the versions are the truth."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self._stale:
                self._wake.set()
            try:
                versions = await self.engine.leases_database.run(_versions)
            except OutcomeUnknown:
                continue
            for topic, version in versions:
                known = self._known.get(topic, version)
                if version <= known:
                    continue
                self._known[topic] = version
                if topic == "accounts":
                    # The first look finds what is remembered read after everything was forgotten.
                    if known >= 0:
                        self.directory.forget_all()
                else:
                    self._stale.add(topic)
                    self._wake.set()


async def _versions(connection: Connection) -> list[tuple[str, int]]:
    cursor = await connection.execute(
        "SELECT topic, version FROM accounts_configurationversion WHERE topic <> ''"
    )
    return [(topic, version) for topic, version in await cursor.fetchall()]
