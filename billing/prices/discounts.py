"""Setting discounts: dated fractions to pay of the official price."""

import datetime as dt

from accounts.audit_trail import Actor, audit_event_record
from accounts.errors import Refused
from accounts.models import Organization
from accounts.transactions import durable
from billing.models import Discount, Plan, PlanSubscription
from billing.money import format_ppm
from billing.prices.catalog import default_discount_ppm, discount_scopes
from billing.prices.periods import period_begin, present_and_future, writers_take_turns
from billing.prices.services import price_require


class UnableToDiscount(Refused):
    """The discount is of nobody, or of too many."""


@durable
def discount_set(
    *,
    fraction_ppm: int,
    organization: Organization | None = None,
    plan: Plan | None = None,
    model: str = "",
    actor: Actor,
    now: dt.datetime,
) -> Discount:
    """Let an organization, a plan or (neither) everybody pay that fraction for a model.

    The model "" is every model.

    The discount in force there ends now. Raises UnknownModel; the fraction was checked by whoever
    read it (`billing.money.parse_fraction_ppm`), and the database checks it again.
    """
    if organization is not None and plan is not None:
        raise UnableToDiscount("A discount is of an organization or of a plan, not of both.")
    if model:
        price_require(model)
    writers_take_turns(Discount)
    scope = Discount.objects.filter(organization=organization, plan=plan, model=model)
    previous, effective_from, effective_to = period_begin(scope, now)
    discount = Discount.objects.create(
        organization=organization,
        plan=plan,
        model=model,
        fraction_ppm=fraction_ppm,
        effective_from=effective_from,
        effective_to=effective_to,
        created_at=now,
    )
    audit_event_record(
        actor=actor,
        action="discount.set",
        subject=f"{format_ppm(fraction_ppm)} on {model or 'every model'}"
        + (f" for plan {plan.slug}" if plan else ""),
        organization=organization,
        details={
            "fraction_ppm": fraction_ppm,
            "previous_fraction_ppm": previous.fraction_ppm if previous else None,
            "effective_from": effective_from.isoformat(),
        },
    )
    return discount


def discount_ppm_now(organization_id: int, model: str, *, now: dt.datetime) -> int:
    """What the organization pays of the official price, as the catalog of a worker has it."""
    subscription = PlanSubscription.objects.filter(organization_id=organization_id).first()
    plan = None if subscription is None else subscription.plan
    slug = None if plan is None else plan.slug
    for owner, name in discount_scopes(model, organization_id, slug):
        scope = Discount.objects.filter(
            organization=organization_id if isinstance(owner, int) else None,
            plan=plan if isinstance(owner, str) else None,
            model=name,
        )
        row = present_and_future(scope, now).filter(effective_from__lte=now).first()
        if row is not None:
            return row.fraction_ppm
    return default_discount_ppm()
