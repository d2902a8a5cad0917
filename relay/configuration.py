"""The data plane's settings, out of Django's. The rest of the data plane does not know Django."""

import socket

from django.conf import settings

from billing.engine import Durability, Timing
from relay.metering.reservation import HoldPolicy
from relay.runtime import RuntimeSettings
from relay.upstream import Deadlines


def runtime_settings() -> RuntimeSettings:
    journals = settings.DATA_DIR / "journals"
    journals.mkdir(parents=True, exist_ok=True, mode=0o700)
    return RuntimeSettings(
        database_url=settings.DATABASE_URL,
        journals=journals,
        node=f"{socket.gethostname()}:{settings.DATA_DIR}"[:100],
        timing=engine_timing(),
        durability=_durability(),
        key_pepper=settings.KEY_PEPPER,
        body_limit_bytes=settings.REQUEST_BODY_LIMIT_BYTES,
        deadlines=Deadlines(
            connect_seconds=settings.CONNECT_SECONDS,
            first_byte_seconds=settings.FIRST_BYTE_SECONDS,
            idle_seconds=settings.IDLE_SECONDS,
            total_seconds=call_seconds(),
        ),
        hold_policy=HoldPolicy(
            standard_output_tokens=settings.STANDARD_HOLD_OUTPUT_TOKENS,
            unknown_max_output_tokens=settings.UNKNOWN_MAX_OUTPUT_TOKENS,
        ),
        free_tier_models=frozenset(settings.FREE_TIER_MODELS),
        free_tier_concurrency=settings.FREE_TIER_CONCURRENCY,
        rate_limits=settings.DATA_DIR / "rate-limits",
        redis_url=settings.REDIS_URL,
        client_left_drain_seconds=settings.CLIENT_LEFT_DRAIN_SECONDS,
        client_left_drain_bytes=settings.CLIENT_LEFT_DRAIN_BYTES,
        client_left_drains=(
            settings.CLIENT_LEFT_DRAINS if settings.CLIENT_LEFT_POLICY == "drain" else 0
        ),
        keep_alive_seconds=settings.KEEP_ALIVE_SECONDS,
    )


def _durability() -> Durability:
    if settings.SETTLE == "database":
        return Durability.DATABASE
    return Durability.SYNCED if settings.JOURNAL_SYNC == "always" else Durability.JOURNAL


def call_seconds() -> float:
    """How long a call may take: so much less than its hold lasts that it still can be settled."""
    return float(settings.MAX_CALL_SECONDS - min(5.0, settings.MAX_CALL_SECONDS / 10))


def engine_timing() -> Timing:
    heartbeat = settings.LEASE_HEARTBEAT_SECONDS
    return Timing(
        heartbeat=heartbeat,
        ttl=settings.LEASE_TTL_SECONDS,
        idle=settings.LEASE_IDLE_SECONDS,
        max_call=settings.MAX_CALL_SECONDS,
        grace=2 * heartbeat + 2,
    )
