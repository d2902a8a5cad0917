"""System checks for configuration that must not serve. All are errors: they stop the start."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.http.request import validate_host

from billing.money import InvalidMoney, parse_fraction_ppm, parse_usd
from relay.models import Channel

TAG = "gateway"
SIMULATOR_PROVIDER = "simulator"
LEAST_SECRET_LENGTH = 32
LEAST_PEPPER_LENGTH = 16
HEARTBEATS_IN_TTL = 6
# The fence keeps 3 % for clock rates and 2 s for steps of the database's clock; a worker has to be
# able to renew its leases before it falls.
FENCE_FRACTION = 0.97
CLOCK_STEP_SECONDS = 2

# The number of a check never changes; it is what an operator searches for.
Problem = tuple[int, str]


def refuse_unsafe_configuration() -> None:
    """Raise ImproperlyConfigured, for processes that Django's command line does not check."""
    _refuse(settings_check())


def refuse_simulator_in_production() -> None:
    """The same for what only the database knows."""
    _refuse(simulator_check(databases=["default"]))


@checks.register(TAG)
def settings_check(**_: Any) -> list[checks.CheckMessage]:
    problems = chain(_credential_keys(), _leases(), _hosts(), _money(), _payments())
    return _errors(chain(_production(), problems) if settings.PRODUCTION else problems)


@checks.register(checks.Tags.database)
def simulator_check(
    *, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """Production must not sell invented answers."""
    if not (settings.PRODUCTION and databases):
        return []
    simulated = Channel.objects.filter(provider=SIMULATOR_PROVIDER, enabled=True)
    names = simulated.order_by("name").values_list("name", flat=True)
    return _errors(
        (11, f"The channel {name} leads to the simulated upstream: disable it first.")
        for name in names
    )


def _production() -> Iterator[Problem]:
    placeholder = settings.PLACEHOLDER_SECRET
    if placeholder == settings.SECRET_KEY or settings.SECRET_KEY.startswith("django-insecure-"):
        yield 1, "SECRET_KEY is a placeholder that everybody knows."
    elif len(settings.SECRET_KEY) < LEAST_SECRET_LENGTH:
        yield 1, f"SECRET_KEY has fewer than {LEAST_SECRET_LENGTH} characters."
    if placeholder == settings.KEY_PEPPER:
        yield 2, "KEY_PEPPER is a placeholder that everybody knows."
    elif len(settings.KEY_PEPPER) < LEAST_PEPPER_LENGTH:
        yield 2, f"KEY_PEPPER has fewer than {LEAST_PEPPER_LENGTH} characters."
    if not settings.CREDENTIAL_KEYS:
        yield 3, "CREDENTIAL_KEYS is empty: upstream credentials are encrypted with it."
    if settings.DEBUG:
        yield 4, "DEBUG shows secrets to whoever causes an error."
    if not settings.DATABASE_URL:
        yield 5, "DATABASE_URL is empty: production names its PostgreSQL."


def _credential_keys() -> Iterator[Problem]:
    for position, key in enumerate(settings.CREDENTIAL_KEYS, start=1):
        try:
            Fernet(key)
        except ValueError:
            yield 3, f"CREDENTIAL_KEYS: number {position} is not a Fernet key."


def _leases() -> Iterator[Problem]:
    """The rules between the constants of the lease protocol that settings can change."""
    ttl, heartbeat = settings.LEASE_TTL_SECONDS, settings.LEASE_HEARTBEAT_SECONDS
    if heartbeat * HEARTBEATS_IN_TTL > ttl:
        sixth = ttl / HEARTBEATS_IN_TTL
        yield 6, f"LEASE_HEARTBEAT_SECONDS ({heartbeat:g}) exceeds TTL / 6 ({sixth:g})."
    if ttl * FENCE_FRACTION - CLOCK_STEP_SECONDS <= heartbeat:
        least = math.ceil((heartbeat + CLOCK_STEP_SECONDS) / FENCE_FRACTION)
        yield 7, f"LEASE_TTL_SECONDS ({ttl:g}) must be more than {least} with this heartbeat."


def _hosts() -> Iterator[Problem]:
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    if not host:
        yield 8, f"PUBLIC_URL ({settings.PUBLIC_URL}) is no URL with a host."
    elif not validate_host(f"[{host}]" if ":" in host else host, settings.ALLOWED_HOSTS):
        yield 8, f"ALLOWED_HOSTS lacks {host}, the host of PUBLIC_URL."


def _money() -> Iterator[Problem]:
    try:
        if parse_usd(settings.FREE_QUOTA_USD) < 0:
            yield 9, "FREE_QUOTA_USD is less than 0."
    except InvalidMoney as error:
        yield 9, f"FREE_QUOTA_USD: {error}"
    try:
        parse_fraction_ppm(settings.DEFAULT_DISCOUNT)
    except InvalidMoney as error:
        yield 10, f"DEFAULT_DISCOUNT: {error}"
    try:
        parse_fraction_ppm(settings.RECONCILE_DRIFT)
    except InvalidMoney as error:
        yield 14, f"RECONCILE_DRIFT: {error}"


def _payments() -> Iterator[Problem]:
    if bool(settings.STRIPE_SECRET_KEY) != bool(settings.STRIPE_WEBHOOK_SECRET):
        yield 12, "STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET belong together: set both or none."
    try:
        if not 0 < parse_usd(settings.PAYMENT_LEAST_USD) <= parse_usd(settings.PAYMENT_MOST_USD):
            yield 13, "PAYMENT_LEAST_USD is more than 0, and no more than PAYMENT_MOST_USD."
    except InvalidMoney as error:
        yield 13, f"PAYMENT_LEAST_USD or PAYMENT_MOST_USD: {error}"


def _errors(problems: Iterable[Problem]) -> list[checks.CheckMessage]:
    return [checks.Error(message, id=f"{TAG}.E{number:03}") for number, message in problems]


def _refuse(found: list[checks.CheckMessage]) -> None:
    if found:
        raise ImproperlyConfigured(" ".join(f"{problem.msg} ({problem.id})" for problem in found))
