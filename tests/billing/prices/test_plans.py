from functools import partial

import pytest
from django.core.management import CommandError

from accounts.models import AuditEvent, Organization
from accounts.naming import SlugTaken
from billing.models import Plan, PlanSubscription
from billing.prices.discounts import UnableToDiscount, discount_set
from billing.prices.plans import plan_create, plan_subscribe
from billing.prices.services import price_set
from tests.billing.prices.test_catalog import loaded, quoted
from tests.commands import ask, say
from tests.committing import Listener, run_together
from tests.factories import ACTOR, make_organization, now


@pytest.fixture
def acme(db: None) -> Organization:
    return make_organization("acme")


def create(name: str = "Pro", slug: str | None = None) -> Plan:
    return plan_create(name=name, slug=slug, actor=ACTOR, now=now())


def subscribe(organization: Organization, plan: Plan | None) -> bool:
    return plan_subscribe(organization=organization, plan=plan, actor=ACTOR, now=now())


def test_who_is_on_a_plan_pays_by_its_discounts(committing_db: str, listener: Listener) -> None:
    acme, other = make_organization("acme"), make_organization("other")
    plan = create()
    price_set(model="test-1", input_usd="1", output_usd="1", actor=ACTOR, now=now())
    discount_set(fraction_ppm=300_000, plan=plan, actor=ACTOR, now=now())
    listener.heard()
    assert subscribe(acme, plan)
    assert [payload.split()[0] for payload in listener.heard()] == ["prices"]
    catalog = loaded(committing_db)
    assert quoted(catalog, "test-1", acme.pk).discount_ppm == 300_000
    assert quoted(catalog, "test-1", other.pk).discount_ppm == 500_000
    discount_set(fraction_ppm=200_000, organization=acme, actor=ACTOR, now=now())
    assert quoted(loaded(committing_db), "test-1", acme.pk).discount_ppm == 200_000
    assert subscribe(other, plan)
    assert subscribe(other, None)
    assert quoted(loaded(committing_db), "test-1", other.pk).discount_ppm == 500_000


def test_an_organization_is_on_one_plan(acme: Organization) -> None:
    first, second = create("First"), create("Second")
    assert subscribe(acme, first)
    assert not subscribe(acme, first)
    assert subscribe(acme, second)
    assert PlanSubscription.objects.get().plan == second
    assert subscribe(acme, None)
    assert not subscribe(acme, None)
    events = AuditEvent.objects.filter(action="plan.subscribe").order_by("id")
    told = [(event.subject, event.details["before"]) for event in events]
    assert told == [("first", None), ("second", "first"), ("no plan", "second")]


def test_those_who_subscribe_at_once_do_so_once(committing_db: str) -> None:
    acme, plan = make_organization("acme"), create()
    answers = run_together(*(partial(subscribe, acme, plan) for _ in range(6)))
    assert sorted(answers) == [False] * 5 + [True]


def test_plans_have_slugs_of_their_own(acme: Organization) -> None:
    assert create("Pro Plan").slug == "pro-plan"
    assert create("Pro Plan").slug.startswith("pro-plan-")
    with pytest.raises(SlugTaken):
        create("Other", slug="pro-plan")


def test_a_discount_has_one_owner(acme: Organization) -> None:
    with pytest.raises(UnableToDiscount):
        discount_set(fraction_ppm=1, organization=acme, plan=create(), actor=ACTOR, now=now())


def test_the_commands_create_discount_and_subscribe(acme: Organization) -> None:
    assert ask("plan_create", "Pro") == {"plan": "pro", "name": "Pro"}
    answer = ask("discount_set", "0.4", "--plan", "pro")
    assert (answer["plan"], answer["discount_ppm"]) == ("pro", 400_000)
    assert "From now on pro pays 0.3" in say("discount_set", "0.3", "--plan", "pro")
    assert ask("plan_subscribe", "acme", "pro")["changed"]
    assert ask("plan_subscribe", "acme", "none") == {
        "organization": "acme",
        "plan": None,
        "changed": True,
    }
    for wrong in (("plan_subscribe", "acme", "gold"), ("discount_set", "0.4", "--plan", "gold")):
        with pytest.raises(CommandError, match="no plan"):
            ask(*wrong)
