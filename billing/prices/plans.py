"""Plans, and who is on them; their discounts are set by billing.prices.discounts."""

import datetime as dt

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.models import Organization
from accounts.naming import insert_under_free_slug, name_check
from accounts.slugs import slug_candidates, slug_check
from accounts.transactions import durable
from billing.models import Plan, PlanSubscription


class UnknownPlan(Refused):
    """No plan has that slug."""


def plan_get(slug: str) -> Plan:
    plan = Plan.objects.filter(slug=slug).first()
    if plan is None:
        raise UnknownPlan(f"There is no plan {slug!r}.")
    return plan


@durable
def plan_create(*, name: str, slug: str | None = None, actor: Actor, now: dt.datetime) -> Plan:
    """A plan without discounts. Raises InvalidName, InvalidSlug, SlugTaken."""
    name = name_check(name)
    plan = insert_under_free_slug(
        [slug_check(slug)] if slug else slug_candidates(name, fallback="plan"),
        insert=lambda free: Plan.objects.create(name=name, slug=free, created_at=now),
        is_taken=lambda tried: Plan.objects.filter(slug=tried).exists(),
    )
    audit_event_record(actor=actor, action="plan.create", subject=plan.slug)
    return plan


@durable
def plan_subscribe(
    *, organization: Organization, plan: Plan | None, actor: Actor, now: dt.datetime
) -> bool:
    """Put the organization on the plan, or (None) on none, from now on; False if it was already.

    Calls that run keep the discount that they were admitted with.
    """
    # Two who change it at once take turns.
    Organization.objects.select_for_update().get(pk=organization.pk)
    before = PlanSubscription.objects.filter(organization=organization).first()
    if (None if before is None else before.plan) == plan:
        return False
    if plan is None:
        PlanSubscription.objects.filter(organization=organization).delete()
    else:
        PlanSubscription.objects.update_or_create(
            organization=organization, defaults={"plan": plan, "since": now}
        )
    audit_event_record(
        actor=actor,
        action="plan.subscribe",
        subject=plan.slug if plan else "no plan",
        organization=organization,
        details={"before": before.plan.slug if before else None},
    )
    return True
