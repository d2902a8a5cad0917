import datetime as dt
from functools import partial

import pytest

from accounts.models import AuditEvent, Organization
from billing.models import Discount
from billing.prices.discounts import discount_set
from billing.prices.services import UnknownModel, price_set
from tests.committing import Listener, run_together
from tests.factories import ACTOR, make_organization

NOW = dt.datetime(2026, 5, 17, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def set_discount(
    fraction_ppm: int,
    organization: Organization | None = None,
    model: str = "",
    *,
    now: dt.datetime = NOW,
) -> Discount:
    return discount_set(
        fraction_ppm=fraction_ppm, organization=organization, model=model, actor=ACTOR, now=now
    )


@pytest.mark.django_db
def test_each_scope_has_its_own_discount() -> None:
    acme, other = make_organization("acme"), make_organization("other")
    price_set(model="test-1", input_usd="1", output_usd="1", actor=ACTOR, now=NOW)
    scopes = [(None, ""), (None, "test-1"), (acme, ""), (acme, "test-1"), (other, "")]
    for step, (organization, model) in enumerate(scopes, start=1):
        set_discount(step * 1000, organization, model)
    stored = Discount.objects.order_by("id").values_list("fraction_ppm", "effective_to")
    assert list(stored) == [(step * 1000, None) for step in range(1, 6)]


@pytest.mark.django_db
def test_a_new_discount_closes_the_present_one_and_is_recorded() -> None:
    acme = make_organization("acme")
    first = set_discount(500_000, acme)
    second = set_discount(400_000, acme, now=NOW + DAY)
    first.refresh_from_db()
    assert (first.fraction_ppm, first.effective_from, first.effective_to) == (
        500_000,
        NOW,
        NOW + DAY,
    )
    assert (second.effective_from, second.effective_to) == (NOW + DAY, None)
    event = AuditEvent.objects.filter(action="discount.set").latest("id")
    assert (event.subject, event.organization) == ("0.4 on every model", acme)
    assert event.details["previous_fraction_ppm"] == 500_000


@pytest.mark.django_db
def test_two_discounts_of_one_instant_follow_each_other() -> None:
    set_discount(500_000)
    assert set_discount(400_000).effective_from == NOW + dt.timedelta(microseconds=1)


@pytest.mark.django_db
def test_a_model_that_nobody_priced_is_a_slip() -> None:
    with pytest.raises(UnknownModel, match="gtp-4o"):
        set_discount(400_000, model="gtp-4o")
    assert not Discount.objects.exists()


def test_parallel_discounts_leave_one_in_force(committing_db: str) -> None:
    acme = make_organization("acme")
    run_together(*[partial(set_discount, step * 1000, acme) for step in (1, 2, 3, 4)])
    assert Discount.objects.filter(organization=acme).count() == 4
    assert Discount.objects.filter(organization=acme, effective_to=None).count() == 1


def test_workers_are_told(committing_db: str, listener: Listener) -> None:
    set_discount(400_000)
    [told] = listener.heard()
    assert told.startswith("prices ")
