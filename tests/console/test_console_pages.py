"""Every page of the console opens, for a superuser and for nobody else."""

import datetime as dt
import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Organization
from billing.models import (
    Alert,
    AlertRule,
    AuditRun,
    CallHour,
    CodeBatch,
    LedgerEntry,
    Payment,
    PaymentEvent,
    Plan,
    PlanSubscription,
    PriceImport,
    RateLimit,
    Rerating,
    ReratingLine,
    SetAsideRecord,
    SpendLimit,
    SpendLimitPeriod,
)
from billing.organizations import organization_open
from billing.prices.discounts import discount_set
from billing.prices.services import price_set
from relay.channels.services import NewChannel, channel_add
from relay.models import Reconciliation
from tests.billing.money_in_rows import CALL_HOUR
from tests.factories import (
    ACTOR,
    make_api_key,
    make_lease,
    make_usage_record,
    make_user,
    now,
)

PAYLOAD = "<script>alert(1)</script>"
CREDENTIAL = "sk-upstream-credential-that-nobody-may-see"
HEALTH = "/admin/health/"
MODELS = sorted(model._meta.label_lower.replace(".", "_") for model in admin.site._registry)


@pytest.fixture
def full(db: None) -> dict[str, Any]:
    """A row of everything; returns the console's page of each, by model."""
    opened = organization_open(name=PAYLOAD, quota_nano_usd=10**9, actor=ACTOR, now=now())
    organization = opened.organization
    key, _ = make_api_key(organization, name=PAYLOAD)
    lease = make_lease(organization.grants.get(), granted_nano_usd=1000, spent_nano_usd=10)
    user = make_user("someone@example.com", name=PAYLOAD)
    record = make_usage_record(organization, model=PAYLOAD, channel=PAYLOAD, flags=[PAYLOAD])
    new = NewChannel(name="main", base_url="https://api.openai.com/v1", credential=CREDENTIAL)
    channel = channel_add(new=new, actor=ACTOR)
    plan = Plan.objects.create(slug="pro", name=PAYLOAD)
    rule = AlertRule.objects.create(
        organization=organization, kind="spend_limit", webhook_url="https://example.com/" + PAYLOAD
    )
    rerating = Rerating.objects.create(
        first_day=now(), last_day=now(), model=PAYLOAD, prices="now", discounts="then"
    )
    amounts = {"charged_nano_usd": 2, "rated_nano_usd": 1}
    ReratingLine.objects.create(
        rerating=rerating,
        organization=organization,
        model=PAYLOAD,
        calls=1,
        unratable_calls=1,
        **amounts,
    )
    spend_limit = SpendLimit.objects.create(organization=organization, per="day", cap_nano_usd=1)
    rows = [
        organization,
        spend_limit,
        SpendLimitPeriod.objects.create(
            limit=spend_limit,
            period_start=now(),
            period_end=now() + dt.timedelta(days=1),
            cap_nano_usd=1,
        ),
        rerating,
        Reconciliation.objects.create(
            channel=channel, day=now(), model=PAYLOAD, drifts=["requests"], compared_at=now()
        ),
        RateLimit.objects.create(model=PAYLOAD, calls_per_minute=1),
        opened.project,
        key,
        user,
        record,
        lease,
        lease.worker,
        organization.wallet,
        organization.grants.get(),
        LedgerEntry.objects.first(),
        organization.auditevent_set.first(),
        Membership.objects.create(organization=organization, user=user, role="owner"),
        Group.objects.create(name=PAYLOAD),
        price_set(model="a-model", input_usd="1", output_usd="2", actor=ACTOR, now=now()),
        discount_set(fraction_ppm=500_000, organization=organization, actor=ACTOR, now=now()),
        channel,
        CodeBatch.objects.create(amount_nano_usd=1, count=1, note=PAYLOAD),
        Payment.objects.create(
            organization=organization, provider="stripe", reference=PAYLOAD, amount_nano_usd=1
        ),
        plan,
        PlanSubscription.objects.create(organization=organization, plan=plan),
        PriceImport.objects.create(
            source=PAYLOAD,
            form="litellm",
            changes=[{"model": PAYLOAD, "is_new": True, "changes": [PAYLOAD], "preview": PAYLOAD}],
            refused=[{"model": PAYLOAD, "reason": PAYLOAD}],
        ),
        rule,
        Alert.objects.create(rule=rule, crossing="1", facts={"x": PAYLOAD}, last_error=PAYLOAD),
        PaymentEvent.objects.create(
            provider="stripe", event_id=PAYLOAD, kind="paid", occurred_at=now()
        ),
        CallHour.objects.create(hour=now(), channel=PAYLOAD, model=PAYLOAD, **CALL_HOUR),
        SetAsideRecord.objects.create(
            worker_id=uuid.uuid4(),
            journal_offset=1,
            payload=b"\xff" + PAYLOAD.encode(),
            reason=PAYLOAD,
        ),
        AuditRun.objects.create(
            started_at=now(),
            duration_ms=1,
            findings=[{"invariant": PAYLOAD, "subject": PAYLOAD, "detail": PAYLOAD}],
        ),
    ]
    return {row._meta.label_lower.replace(".", "_"): row.pk for row in rows if row is not None}


def text_of(response: Any) -> str:
    assert response.status_code == 200, response
    text: str = response.content.decode()
    assert CREDENTIAL not in text
    assert PAYLOAD not in text
    return text


@pytest.mark.parametrize("model", MODELS)
def test_lists_and_rows_open_and_escape_what_people_typed(
    administrator: Client, full: dict[str, Any], model: str
) -> None:
    text_of(administrator.get(reverse(f"admin:{model}_changelist")))
    text_of(administrator.get(reverse(f"admin:{model}_changelist"), {"q": PAYLOAD}))
    text_of(administrator.get(reverse(f"admin:{model}_change", args=[full[model]])))


@pytest.mark.parametrize(
    "path", ["/admin/", "/admin/password_change/", "/admin/search/?s=usage", HEALTH]
)
def test_the_other_pages_open(administrator: Client, full: dict[str, Any], path: str) -> None:
    text_of(administrator.get(path))


def test_nobody_edits_or_deletes_what_is_kept(administrator: Client, full: dict[str, Any]) -> None:
    editable = {"accounts_user", "accounts_membership", "auth_group"}
    for model in set(MODELS) - editable:
        page = reverse(f"admin:{model}_change", args=[full[model]])
        assert administrator.post(page, {"name": "changed"}).status_code == 403, model
        page = reverse(f"admin:{model}_delete", args=[full[model]])
        assert administrator.post(page, {"post": "yes"}).status_code == 403, model


@pytest.mark.parametrize("model", MODELS)
def test_staff_without_permission_sees_nothing(
    client: Client, full: dict[str, Any], model: str
) -> None:
    client.force_login(make_user("staff@example.com", is_staff=True))
    for page in (
        reverse(f"admin:{model}_changelist"),
        reverse(f"admin:{model}_change", args=[full[model]]),
        reverse(f"admin:{model}_add"),
    ):
        assert client.get(page).status_code == 403, page
    first_page = client.get("/admin/").content.decode()
    assert "Revenue" not in first_page
    assert reverse(f"admin:{model}_changelist") not in first_page


def test_a_viewer_sees_no_buttons_and_cannot_press_them(
    client: Client, full: dict[str, Any]
) -> None:
    viewer = make_user("viewer@example.com", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(viewer)
    buttons = {
        "accounts_organization": ["suspend", "resume"],
        "accounts_apikey": ["revoke"],
        "relay_channel": ["disable", "enable"],
        "billing_wallet": ["grant_credit"],
        "billing_setasiderecord": ["resolve"],
    }
    for model, names in buttons.items():
        row = text_of(client.get(reverse(f"admin:{model}_change", args=[full[model]])))
        for name in (*names, "grant_credit"):
            assert f"/{name}/" not in row
        for name in names:
            page = reverse(f"admin:{model}_{name}", args=[full[model]])
            assert client.get(page).status_code == 403, page
            assert client.post(page, {"amount": "1", "reason": "x"}).status_code == 403, page


@pytest.mark.parametrize("path", ["/admin/", "/admin/billing/usagerecord/"])
def test_who_is_not_staff_is_asked_to_log_in(client: Client, db: None, path: str) -> None:
    client.force_login(make_user("customer@example.com"))
    response = client.get(path)
    assert (response.status_code, response["location"]) == (302, f"/admin/login/?next={path}")


@pytest.mark.parametrize("button", ["suspend", "resume"])
def test_a_button_of_a_row_that_is_not_there(administrator: Client, button: str) -> None:
    for number in ("abc", "999999", "_3C"):
        assert administrator.get(
            f"/admin/accounts/organization/{number}/{button}/"
        ).status_code in {403, 404}


@pytest.mark.parametrize("model", MODELS)
def test_a_list_costs_the_same_statements_however_long_it_is(
    administrator: Client,
    full: dict[str, Any],
    model: str,
    django_assert_max_num_queries: Any,
) -> None:
    with django_assert_max_num_queries(1000) as short:
        administrator.get(reverse(f"admin:{model}_changelist"))
    for number in range(5):
        organization = organization_open(
            name=f"More {number}", quota_nano_usd=10**9, actor=ACTOR, now=now()
        ).organization
        make_api_key(organization)
        make_lease(organization.grants.get(), granted_nano_usd=1000)
        make_usage_record(organization)
        user = make_user()
        Membership.objects.create(organization=organization, user=user, role="viewer")
        discount_set(fraction_ppm=1, organization=organization, actor=ACTOR, now=now())
        name = f"channel-{number}"
        channel_add(
            new=NewChannel(
                name=name, base_url="https://x.example/v1", credential="x", models=["a", "b"]
            ),
            actor=ACTOR,
        )
    with django_assert_max_num_queries(len(short.captured_queries) + 1):
        administrator.get(reverse(f"admin:{model}_changelist"))


def test_usage_records_are_never_counted(
    administrator: Client, full: dict[str, Any], django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(20) as asked:
        administrator.get(reverse("admin:billing_usagerecord_changelist"))
    counts = [query for query in asked.captured_queries if "COUNT(" in query["sql"].upper()]
    assert [query for query in counts if "billing_usagerecord" in query["sql"]] == []


def listed(client: Client, **query: str) -> str:
    response = client.get(reverse("admin:billing_usagerecord_changelist"), query)
    assert response.status_code == 200
    return str(response.content.decode())


def test_usage_records_are_filtered(administrator: Client, organization: Organization) -> None:
    noon = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
    make_usage_record(organization, at=noon, api_key_prefix="sk-first")
    second = make_usage_record(
        organization,
        at=noon + dt.timedelta(days=1),
        api_key_prefix="sk-second",
        outcome="client_left",
        usage_source="estimated",
        stream=True,
        model="o3",
    )
    price_set(model="o3", input_usd="1", output_usd="2", actor=ACTOR, now=now())
    for query in (
        {"outcome__exact": "client_left"},
        {"usage_source__exact": "estimated"},
        {"stream__exact": "1"},
        {"model": "o3"},
        {"created_at_from": "2026-11-21"},
        {"created_at_from": "2026-11-21", "created_at_to": "2026-11-21"},
        {"q": f"req_{second.request_id.hex}"},
        {"q": "sk-second"},
        {"organization": str(organization.pk), "outcome__exact": "client_left"},
    ):
        page = listed(administrator, **query)
        assert ("sk-second" in page.split("<tbody")[1], "sk-first" in page) == (True, False), query
    for query in ({"organization": "0"}, {"organization": "x"}, {"created_at_to": "2026-11-19"}):
        assert "sk-first" not in listed(administrator, **query), query


def test_a_bad_date_in_a_filter_is_no_failure(
    administrator: Client, organization: Organization
) -> None:
    make_usage_record(organization, api_key_prefix="sk-first")
    assert "sk-first" in listed(
        administrator, created_at_from="yesterday", created_at_to="9999-12-31"
    )
