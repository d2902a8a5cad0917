"""The first run: an administrator, an organization with a project, and a key with free quota.

What they are is kept in one private file of the data directory. Each part is made only if it is
missing, so a first run that was interrupted is completed by the next.
"""

import datetime as dt
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Self

from django.conf import settings

from accounts.api_keys import ApiKeyTerms, api_key_issue
from accounts.audit_trail import Actor, audit_event_record
from accounts.keys import key_digest
from accounts.models import ApiKey, Organization, Project, User
from accounts.projects import project_get
from accounts.transactions import durable
from billing.organizations import organization_open
from gateway.data_directory import DataDirectory
from gateway.launch import data_directory

SYSTEM = Actor(user_id=None, label="system:run")
ORGANIZATION = "Demo"
ADMINISTRATOR = "admin"
MAIL_DOMAIN = "tollgate.local"
API_PATH = "/v1"
ADMIN_PATH = "/admin/"

_PASSWORD_BYTES = 15


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """The content of quickstart.json, which other programs rely on."""

    base_url: str
    api_key: str = field(repr=False)
    admin_url: str
    admin_email: str
    admin_password: str = field(repr=False)
    organization: str
    project: str

    @classmethod
    def read(cls, directory: DataDirectory) -> Self | None:
        """What an earlier run wrote; None if there is nothing that can be used."""
        try:
            content = json.loads(directory.quickstart_file.read_bytes())
            return cls(**{item.name: str(content[item.name]) for item in fields(cls)})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, directory: DataDirectory) -> None:
        content = json.dumps(asdict(self), indent=2).encode() + b"\n"
        directory.write_private(directory.quickstart_file, content)


def quickstart_prepare(*, progress: Callable[[str], None], now: dt.datetime) -> bool | None:
    """Make or keep what quickstart.json describes; True if it was made just now.

    None: a production database that somebody uses already gets no demo organization.
    """
    directory = data_directory()
    known = Quickstart.read(directory)
    if known is not None and _is_of_this_database(known):
        current = replace(known, base_url=base_url(), admin_url=admin_url())
        if current != known:
            current.write(directory)
        return False
    if settings.PRODUCTION and User.objects.exists():
        return None
    progress("Creating an administrator, an organization and an API key")
    _keep_aside(directory, now=now)
    _create(now=now).write(directory)
    return True


def base_url() -> str:
    """What goes into the settings of an OpenAI SDK."""
    return f"{settings.PUBLIC_URL}{API_PATH}"


def admin_url() -> str:
    return f"{settings.PUBLIC_URL}{ADMIN_PATH}"


def _create(*, now: dt.datetime) -> Quickstart:
    project = _project(now=now)
    terms = ApiKeyTerms(project=project, name="Quickstart")
    issued = api_key_issue(terms=terms, actor=SYSTEM, now=now)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    administrator = _administrator_create(password=password)
    return Quickstart(
        base_url=base_url(),
        api_key=issued.key,
        admin_url=admin_url(),
        admin_email=administrator.email,
        admin_password=password,
        organization=project.organization.slug,
        project=project.slug,
    )


def _project(*, now: dt.datetime) -> Project:
    slug = ORGANIZATION.lower()
    organization = Organization.objects.filter(slug=slug).first()
    if organization is None:
        return organization_open(name=ORGANIZATION, slug=slug, actor=SYSTEM, now=now).project
    return project_get(organization=organization, slug=None)


@durable
def _administrator_create(*, password: str) -> User:
    """A new administrator beside those of other nodes, whose passwords stay as they are."""
    email = next(filter(_is_free, _emails()))
    user = User.objects.create_superuser(email, password, name="Administrator")
    audit_event_record(actor=SYSTEM, action="user.create", subject=email, details={"staff": True})
    return user


def _emails() -> list[str]:
    """More candidates than there are users."""
    numbered = range(2, User.objects.count() + 3)
    names = [ADMINISTRATOR, *(f"{ADMINISTRATOR}-{number}" for number in numbered)]
    return [f"{name}@{MAIL_DOMAIN}" for name in names]


def _is_free(email: str) -> bool:
    return not User.objects.filter(email__iexact=email).exists()


def _is_of_this_database(known: Quickstart) -> bool:
    digest = key_digest(known.api_key, pepper=settings.KEY_PEPPER)
    return (
        ApiKey.objects.filter(digest=digest).exists()
        and User.objects.filter(email=known.admin_email).exists()
    )


def _keep_aside(directory: DataDirectory, *, now: dt.datetime) -> None:
    """The file may be the only place where a key of another database is written down."""
    file = directory.quickstart_file
    if file.exists():
        file.rename(file.with_name(f"quickstart-until-{now:%Y%m%dT%H%M%SZ}.json"))
