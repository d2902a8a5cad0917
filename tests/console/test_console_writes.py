"""What the console changes: by services, in the name of who pressed the button."""

import datetime as dt
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.api_keys import api_key_revoke
from accounts.keys import key_digest
from accounts.models import ApiKey, AuditEvent, Membership, Organization, Project, User
from billing.models import CodeBatch, Discount, Grant, Price, SetAsideRecord, Wallet
from billing.organizations import organization_open
from relay.channels.encryption import credential_decrypt
from relay.models import Channel
from tests.factories import ACTOR, make_api_key, make_user, now

ROOT = "root@example.com"
CREDENTIAL = "sk-upstream-credential-that-nobody-may-see"


@pytest.fixture
def acme(db: None) -> Organization:
    return organization_open(name="Acme", quota_nano_usd=10**9, actor=ACTOR, now=now()).organization


def sent(client: Client, page: str, values: dict[str, Any], *arguments: Any) -> Any:
    """Send the form of an admin page."""
    return client.post(reverse(f"admin:{page}", args=arguments), values)


def assert_refused(response: Any, sentence: str) -> None:
    """The form is shown again, with the reason."""
    assert response.status_code == 200
    assert sentence in response.content.decode()


def last_event() -> tuple[str, str]:
    event = AuditEvent.objects.order_by("-id")[0]
    return event.actor_label, event.action


def test_an_organization_is_opened_with_its_free_quota(administrator: Client) -> None:
    values = {"name": "New Name", "slug": "", "quota": "2.5", "holds": "strict"}
    response = sent(administrator, "accounts_organization_add", values)
    organization = Organization.objects.get()
    assert response["location"] == reverse(
        "admin:accounts_organization_change", args=[organization.pk]
    )
    wallet = Wallet.objects.get()
    assert (organization.slug, organization.projects.get().slug) == ("new-name", "default")
    assert (wallet.balance_nano_usd, wallet.strict_always) == (2_500_000_000, True)
    assert set(AuditEvent.objects.values_list("actor_label", flat=True)) == {ROOT}
    assert set(AuditEvent.objects.values_list("actor__email", flat=True)) == {ROOT}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"slug": "admin"}, "is reserved"),
        ({"slug": "Not A Slug"}, "is no slug"),
        ({"quota": "1e3"}, "plain decimal number"),
        ({"quota": "0.0000000001"}, "more than 9 decimals"),
        ({"name": ""}, "This field is required."),
        ({"holds": "junk"}, "Select a valid choice."),
    ],
)
def test_what_the_domain_refuses_is_said_and_nothing_is_made(
    administrator: Client, changes: dict[str, str], sentence: str
) -> None:
    values = {"name": "Name", "slug": "", "quota": "1", "holds": "", **changes}
    assert_refused(sent(administrator, "accounts_organization_add", values), sentence)
    assert not Organization.objects.exists()


def test_an_organization_is_suspended_and_resumed(
    administrator: Client, acme: Organization
) -> None:
    page = reverse("admin:accounts_organization_change", args=[acme.pk])
    for button, other, status in (
        ("suspend", "resume", "suspended"),
        ("resume", "suspend", "active"),
    ):
        path = reverse(f"admin:accounts_organization_{button}", args=[acme.pk])
        assert f'href="{path}"' in administrator.get(page).content.decode()
        administrator.get(path)  # Asking for the page is no press of its button.
        acme.refresh_from_db()
        assert acme.status != status
        assert administrator.post(path).status_code == 302
        acme.refresh_from_db()
        assert acme.status == status
        assert last_event() == (ROOT, f"organization.{button}")
        assert administrator.post(path).status_code == 403  # It is so already.
        assert f"/{other}/" in administrator.get(page).content.decode()


def test_a_project_is_created(administrator: Client, acme: Organization) -> None:
    values = {"organization": acme.pk, "name": "Second", "slug": ""}
    assert sent(administrator, "accounts_project_add", values).status_code == 302
    assert Project.objects.get(slug="second").organization == acme


@pytest.fixture
def key_terms(acme: Organization) -> dict[str, Any]:
    return {
        "project": acme.projects.get().pk,
        "name": "Laptop",
        "scopes": ["relay", "usage"],
        "expires": "30d",
        "models": "gpt-4o,\n gpt-4o-mini",
        "networks": "10.0.0.0/8 192.0.2.1",
    }


def test_a_key_is_shown_once_and_kept_nowhere(
    administrator: Client, acme: Organization, key_terms: dict[str, Any], settings: Settings
) -> None:
    response = sent(administrator, "accounts_apikey_add", key_terms)
    assert response.status_code == 200
    assert "no-store" in response["cache-control"]
    row = ApiKey.objects.get()
    key = str(response.context["issued"].key)
    page = response.content.decode()
    assert f'<code id="api-key">{key}</code>' in page
    assert page.count(f"{settings.PUBLIC_URL}/v1") == 4  # In curl, Python, Node.js and for apps.
    assert page.count(key) == 4
    assert page.count("gpt-4o&quot;") == page.count("gpt-4o-mini") == 0
    assert page.count('"gpt-4o"') == 3
    assert bytes(row.digest) == key_digest(key, pepper=settings.KEY_PEPPER)
    assert row.allowed_models == ["gpt-4o", "gpt-4o-mini"]
    assert row.allowed_networks == ["10.0.0.0/8", "192.0.2.1/32"]
    assert row.expires_at is not None
    assert dt.timedelta(days=29) < row.expires_at - now() < dt.timedelta(days=31)
    assert row.created_by is not None
    assert row.created_by.email == ROOT
    for page in ("accounts_apikey_changelist", "accounts_auditevent_changelist", "index"):
        assert key not in administrator.get(reverse(f"admin:{page}")).content.decode()
    shown_again = administrator.get(reverse("admin:accounts_apikey_change", args=[row.pk]))
    assert key not in shown_again.content.decode()
    assert not [s for s in Session.objects.all() if key in str(s.get_decoded())]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"expires": "yesterday"}, "is no moment"),
        ({"expires": "2020-01-01"}, "is not in the future"),
        ({"networks": "10.0.0.1/8"}, "Allowed networks"),
        ({"scopes": []}, "This field is required."),
        ({"scopes": ["root"]}, "Select a valid choice."),
        ({"project": "0"}, "Select a valid choice."),
    ],
)
def test_terms_that_make_no_sense_are_refused(
    administrator: Client, key_terms: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    assert_refused(sent(administrator, "accounts_apikey_add", key_terms | changes), sentence)
    assert not ApiKey.objects.exists()


def test_a_key_is_revoked_for_ever(administrator: Client, acme: Organization) -> None:
    key, _ = make_api_key(acme)
    assert sent(administrator, "accounts_apikey_revoke", {}, key.pk).status_code == 302
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert last_event() == (ROOT, "api_key.revoke")
    assert sent(administrator, "accounts_apikey_revoke", {}, key.pk).status_code == 403


def test_codes_are_shown_once_and_revoked_as_a_batch(administrator: Client) -> None:
    values = {"amount": "2.50", "count": "3", "expires": "30d", "note": "Shop"}
    response = sent(administrator, "billing_codebatch_add", values)
    assert "no-store" in response["cache-control"]
    codes = response.context["created"].codes
    assert all(code in response.content.decode() for code in codes)
    batch = CodeBatch.objects.get()
    assert (batch.amount_nano_usd, batch.count, batch.note) == (2_500_000_000, 3, "Shop")
    shown = administrator.get(reverse("admin:billing_codebatch_change", args=[batch.pk]))
    assert "0 of 3" in shown.content.decode()
    assert not [code for code in codes if code in shown.content.decode()]
    assert sent(administrator, "billing_codebatch_revoke", {}, batch.pk).status_code == 302
    batch.refresh_from_db()
    assert batch.revoked_at is not None
    assert last_event() == (ROOT, "code.revoke")
    assert sent(administrator, "billing_codebatch_revoke", {}, batch.pk).status_code == 403
    too_many = values | {"count": "10001"}
    assert_refused(sent(administrator, "billing_codebatch_add", too_many), "10000")


def test_a_key_is_rotated_with_a_grace_period(administrator: Client, acme: Organization) -> None:
    old, _ = make_api_key(acme)
    assert_refused(
        sent(administrator, "accounts_apikey_rotate", {"grace": "soon"}, old.pk), "no span of time"
    )
    response = sent(administrator, "accounts_apikey_rotate", {"grace": "1h"}, old.pk)
    assert response.context["issued"].key in response.content.decode()
    old.refresh_from_db()
    assert old.expires_at is not None
    assert last_event() == (ROOT, "api_key.rotate")
    api_key_revoke(prefix=old.prefix, actor=ACTOR, now=now())
    assert sent(administrator, "accounts_apikey_rotate", {"grace": "1h"}, old.pk).status_code == 403


CHANNEL = {
    "name": "main",
    "base_url": "https://api.openai.com/v1",
    "credential": CREDENTIAL,
    "models": "gpt-4o gpt-4o-mini",
}


def test_a_credential_goes_in_encrypted_and_never_comes_out(administrator: Client) -> None:
    assert_refused(
        sent(administrator, "relay_channel_add", CHANNEL | {"base_url": "http://x.example"}),
        "http",
    )
    again = sent(administrator, "relay_channel_add", CHANNEL | {"name": "not a name"})
    assert CREDENTIAL not in again.content.decode()  # Not even while the form is corrected.
    assert sent(administrator, "relay_channel_add", CHANNEL).status_code == 302
    channel = Channel.objects.get()
    encrypted = bytes(channel.credentials.get().encrypted)
    assert credential_decrypt(encrypted) == CREDENTIAL
    assert CREDENTIAL.encode() not in encrypted
    for page in (
        reverse("admin:relay_channel_changelist"),
        reverse("admin:relay_channel_change", args=[channel.pk]),
        reverse("admin:accounts_auditevent_changelist"),
    ):
        shown = administrator.get(page).content.decode()
        assert CREDENTIAL not in shown
        assert encrypted.decode() not in shown
    assert [served.model for served in channel.models.order_by("model")] == [
        "gpt-4o",
        "gpt-4o-mini",
    ]


def test_a_channel_is_disabled_with_a_reason_and_enabled(administrator: Client) -> None:
    sent(administrator, "relay_channel_add", CHANNEL)
    channel = Channel.objects.get()
    sent(administrator, "relay_channel_disable", {"reason": "out of quota"}, channel.pk)
    channel.refresh_from_db()
    assert (channel.enabled, channel.disabled_reason) == (False, "out of quota")
    sent(administrator, "relay_channel_enable", {}, channel.pk)
    channel.refresh_from_db()
    assert (channel.enabled, channel.disabled_reason) == (True, "")
    assert last_event() == (ROOT, "channel.enable")


def test_a_price_may_be_of_other_units_than_tokens(administrator: Client) -> None:
    units = "characters=15\n\n image/hd/1024x1024 = 0.08 \n"
    values = {"model": "voice-1", "unit_usd": units}
    assert sent(administrator, "billing_price_add", values).status_code == 302
    price = Price.objects.get()
    assert price.tiers == {}
    assert price.unit_rates == {"characters": "15", "image/hd/1024x1024": "0.08"}
    listed = administrator.get(reverse("admin:billing_price_changelist")).content.decode()
    assert "$15 per 1M characters, 1 more" in listed
    page = administrator.get(reverse("admin:billing_price_change", args=[price.pk]))
    shown = page.content.decode()
    assert "Not sold by tokens" in shown
    assert "<th>image/hd/1024x1024</th><td>$0.08 per image</td>" in shown
    for wrong, complaint in (
        ("", "of other units"),
        ("characters", "no NAME=USD"),
        ("songs=1", "no unit"),
    ):
        answer = sent(administrator, "billing_price_add", values | {"unit_usd": wrong})
        assert_refused(answer, complaint)
    assert Price.objects.count() == 1


def test_a_new_price_closes_the_one_before(administrator: Client) -> None:
    values = {"model": "gpt-4o", "input_usd": "2.50", "cached_usd": "", "output_usd": "10"}
    assert sent(administrator, "billing_price_add", values).status_code == 302
    assert sent(administrator, "billing_price_add", values | {"input_usd": "2"}).status_code == 302
    first, second = Price.objects.order_by("effective_from", "id")
    assert first.effective_to == second.effective_from
    assert first.tiers == {"default": {"input_tokens": "2.50", "output_tokens": "10"}}
    assert (second.tiers["default"]["input_tokens"], second.effective_to) == ("2", None)
    page = administrator.get(reverse("admin:billing_price_changelist"), {"period": "past"})
    assert page.content.decode().count("$2.50") == 1
    assert_refused(
        sent(administrator, "billing_price_add", values | {"input_usd": "-1"}), "not negative"
    )


def test_a_fraction_above_one_has_to_be_asked_for(
    administrator: Client, acme: Organization
) -> None:
    values = {"fraction": "5", "organization": acme.pk, "model": ""}
    assert_refused(sent(administrator, "billing_discount_add", values), "more than the official")
    assert not Discount.objects.exists()
    assert (
        sent(administrator, "billing_discount_add", values | {"fraction": "0.5"}).status_code == 302
    )
    surcharge = values | {"fraction": "1.2", "surcharge": "on"}
    assert sent(administrator, "billing_discount_add", surcharge).status_code == 302
    first, second = Discount.objects.order_by("id")
    assert (first.fraction_ppm, second.fraction_ppm) == (500_000, 1_200_000)
    assert first.effective_to == second.effective_from
    assert second.organization == acme
    assert last_event() == (ROOT, "discount.set")


def test_credit_is_granted_to_the_billionth(administrator: Client, acme: Organization) -> None:
    values = {
        "amount": "12.000000001",
        "reason": "Invoice 7",
        "kind": "top_up",
        "expires": "2999-01-01",
    }
    assert sent(administrator, "billing_wallet_grant_credit", values, acme.pk).status_code == 302
    grant = Grant.objects.get(kind="top_up")
    assert (grant.amount_nano_usd, grant.reason) == (12_000_000_001, "Invoice 7")
    assert grant.expires_at == dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
    assert Wallet.objects.get().balance_nano_usd == 13_000_000_001
    assert last_event() == (ROOT, "grant.credit")
    page = administrator.get(reverse("admin:billing_wallet_change", args=[acme.pk]))
    assert "13.000000001" in page.content.decode().replace('<span class="tg-tail tg-quiet">', "")


@pytest.mark.parametrize("amount", ["0", "-1", "abc", "", "1,5", "99999999999"])
def test_an_amount_that_is_none_changes_nothing(
    administrator: Client, acme: Organization, amount: str
) -> None:
    values = {"amount": amount, "reason": "x", "kind": "top_up", "expires": ""}
    response = sent(administrator, "billing_wallet_grant_credit", values, acme.pk)
    assert response.status_code == 200
    assert Wallet.objects.get().balance_nano_usd == 10**9


def test_the_free_quota_cannot_be_granted_by_hand(
    administrator: Client, acme: Organization
) -> None:
    values = {"amount": "1", "reason": "x", "kind": "free_quota", "expires": ""}
    assert_refused(
        sent(administrator, "billing_wallet_grant_credit", values, acme.pk), "valid choice"
    )


def test_a_set_aside_record_is_resolved_and_stays(administrator: Client) -> None:
    record = SetAsideRecord.objects.create(
        worker_id=uuid.uuid4(), journal_offset=1, payload=b"x", reason="y"
    )
    assert sent(administrator, "billing_setasiderecord_resolve", {}, record.pk).status_code == 302
    record.refresh_from_db()
    assert record.resolved_at is not None
    assert bytes(record.payload) == b"x"
    assert last_event() == (ROOT, "set_aside.resolve")


def test_people_and_memberships_are_changed_and_recorded(
    administrator: Client, acme: Organization
) -> None:
    new = {
        "email": "new@example.com",
        "name": "N",
        "password1": "8fj2-kd93x",
        "password2": "8fj2-kd93x",
    }
    assert sent(administrator, "accounts_user_add", new).status_code == 302
    user = User.objects.get(email="new@example.com")
    assert not user.is_staff
    assert last_event() == (ROOT, "user.create")
    member = {"user": user.pk, "organization": acme.pk, "role": "owner"}
    assert sent(administrator, "accounts_membership_add", member).status_code == 302
    assert last_event() == (ROOT, "membership.create")
    membership = Membership.objects.get()
    sent(administrator, "accounts_membership_delete", {"post": "yes"}, membership.pk)
    assert not Membership.objects.exists()
    assert last_event() == (ROOT, "membership.delete")
    assert "8fj2-kd93x" not in str(list(AuditEvent.objects.values()))


def test_only_a_superuser_makes_superusers(client: Client, db: None) -> None:
    manager = make_user("manager@example.com", is_staff=True)
    manager.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    client.force_login(manager)
    page = reverse("admin:accounts_user_change", args=[manager.pk])
    assert client.get(page).status_code == 200
    values = {"email": manager.email, "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    assert client.post(page, values).status_code == 403
    manager.refresh_from_db()
    assert not manager.is_superuser


def test_a_form_from_elsewhere_is_refused(db: None, acme: Organization) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user(ROOT, is_staff=True, is_superuser=True))
    page = reverse("admin:billing_wallet_grant_credit", args=[acme.pk])
    values = {"amount": "1", "reason": "x", "kind": "top_up", "expires": ""}
    response = client.post(page, values)
    assert response.status_code == 403
    assert "Please try again" in response.content.decode()
    assert Wallet.objects.get().balance_nano_usd == 10**9
    client.get(page)
    token = client.cookies["csrftoken"].value
    assert client.post(page, values | {"csrfmiddlewaretoken": token}).status_code == 302
