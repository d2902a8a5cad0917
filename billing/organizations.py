"""Opening an organization whole: itself, its first project, its wallet and its free quota."""

import datetime as dt
from dataclasses import dataclass

from accounts.audit_trail import Actor
from accounts.models import Organization, Project
from accounts.organizations import organization_create
from accounts.projects import DEFAULT_NAME, project_add
from accounts.transactions import durable
from billing.credit.grants import free_quota, grant_add
from billing.credit.identities import free_quota_claim
from billing.models import Wallet


@dataclass(frozen=True, slots=True)
class OpenedOrganization:
    """A new organization, ready for its first key."""

    organization: Organization
    project: Project
    balance_nano_usd: int


@durable
def organization_open(  # noqa: PLR0913  Each is a word that the command takes.
    *,
    name: str,
    slug: str | None = None,
    quota_nano_usd: int | None = None,
    strict: bool | None = None,
    identity: str | None = None,
    actor: Actor,
    now: dt.datetime,
) -> OpenedOrganization:
    """Create an organization with a project and a wallet, and grant the free quota, once.

    `quota_nano_usd`: None takes the settings' free quota, 0 grants none. `strict`: None holds
    strictly until other money than the free quota comes; True keeps that for ever; False never
    does. `identity`: whose verified identity opens it (see `identities`); one that has had a
    free quota gets none. Raises InvalidIdentity, and what `organization_create` and `grant_add`
    raise.
    """
    organization = organization_create(name=name, slug=slug, actor=actor)
    project = project_add(organization=organization, name=DEFAULT_NAME, actor=actor)
    Wallet.objects.create(
        organization=organization, strict=strict is not False, strict_always=strict is True
    )
    quota = free_quota(organization.pk, amount_nano_usd=quota_nano_usd, now=now)
    if (
        quota is not None
        and identity is not None
        and not free_quota_claim(identity=identity, organization_id=organization.pk, now=now)
    ):
        quota = None
    if quota is not None:
        grant_add(credit=quota, actor=actor, now=now)
    return OpenedOrganization(
        organization=organization,
        project=project,
        balance_nano_usd=quota.amount_nano_usd if quota else 0,
    )
