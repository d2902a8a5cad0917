import datetime as dt
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from pytest_django import Settings

from accounts.keys import key_digest
from accounts.models import ApiKey, AuditEvent, Organization, User
from billing.credit.balance import balance_nano_usd
from billing.money import parse_usd
from gateway.data_directory import DataDirectory
from gateway.quickstart import Quickstart, quickstart_prepare
from tests.factories import make_user, now

pytestmark = pytest.mark.django_db


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDirectory:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "var"))
    directory = DataDirectory(tmp_path / "var")
    directory.prepare()
    return directory


def prepare(moment: dt.datetime | None = None) -> tuple[bool | None, list[str]]:
    said: list[str] = []
    return quickstart_prepare(progress=said.append, now=moment or now()), said


def known(directory: DataDirectory) -> Quickstart:
    quickstart = Quickstart.read(directory)
    assert quickstart is not None
    return quickstart


def test_first_run(directory: DataDirectory, settings: Settings) -> None:
    made, said = prepare()
    assert made is True
    assert said == ["Creating an administrator, an organization and an API key"]
    quickstart = known(directory)
    assert quickstart.base_url == f"{settings.PUBLIC_URL}/v1"
    assert quickstart.admin_url == f"{settings.PUBLIC_URL}/admin/"
    administrator = User.objects.get(email=quickstart.admin_email)
    assert administrator.is_superuser
    assert administrator.check_password(quickstart.admin_password)
    key = ApiKey.objects.get(digest=key_digest(quickstart.api_key, pepper=settings.KEY_PEPPER))
    assert key.organization.slug == quickstart.organization == "demo"
    assert key.project.slug == quickstart.project == "default"
    assert balance_nano_usd(key.organization.pk) == parse_usd(settings.FREE_QUOTA_USD)
    assert AuditEvent.objects.filter(action="user.create", subject=administrator.email).exists()


def test_no_audit_row_holds_a_secret(directory: DataDirectory) -> None:
    prepare()
    quickstart = known(directory)
    rows = json.dumps(list(AuditEvent.objects.values("subject", "details")))
    assert quickstart.api_key not in rows
    assert quickstart.admin_password not in rows


def test_next_runs_change_nothing(directory: DataDirectory) -> None:
    prepare()
    before = asdict(known(directory)), ApiKey.objects.count(), User.objects.count()
    assert prepare() == (False, [])
    assert (asdict(known(directory)), ApiKey.objects.count(), User.objects.count()) == before


def test_the_address_follows_the_settings(directory: DataDirectory, settings: Settings) -> None:
    prepare()
    before = known(directory)
    settings.PUBLIC_URL = "https://gateway.example"
    assert prepare()[0] is False
    after = known(directory)
    assert after.base_url == "https://gateway.example/v1"
    assert after.admin_url == "https://gateway.example/admin/"
    assert after.api_key == before.api_key


def test_what_an_interrupted_run_made_is_used(directory: DataDirectory) -> None:
    prepare()
    directory.quickstart_file.unlink()
    first_balance = balance_nano_usd(Organization.objects.get(slug="demo").pk)
    assert prepare()[0] is True
    assert Organization.objects.count() == 1
    # Quota is granted once; the password of the first administrator stays what it is.
    assert balance_nano_usd(Organization.objects.get(slug="demo").pk) == first_balance
    assert known(directory).admin_email == "admin-2@tollgate.local"


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff"])
def test_a_damaged_file_is_kept_aside(directory: DataDirectory, content: bytes) -> None:
    directory.write_private(directory.quickstart_file, content)
    assert prepare()[0] is True
    assert known(directory).organization == "demo"
    aside = [path for path in directory.path.iterdir() if path.name.startswith("quickstart-until-")]
    assert [path.read_bytes() for path in aside] == [content]


def test_the_key_of_another_database_is_kept_aside(directory: DataDirectory) -> None:
    prepare()
    other = known(directory)
    ApiKey.objects.all().delete()
    assert prepare()[0] is True
    assert known(directory).api_key != other.api_key
    aside = next(directory.path.glob("quickstart-until-*.json"))
    assert json.loads(aside.read_bytes())["api_key"] == other.api_key


def test_production_starts_an_empty_database(directory: DataDirectory, settings: Settings) -> None:
    settings.PRODUCTION = True
    assert prepare()[0] is True
    assert known(directory).organization == "demo"


def test_production_adds_nothing_to_one_in_use(
    directory: DataDirectory, settings: Settings
) -> None:
    settings.PRODUCTION = True
    make_user()
    assert prepare() == (None, [])
    assert not directory.quickstart_file.exists()
    assert not Organization.objects.exists()


def test_its_secrets_are_in_no_repr() -> None:
    fields = ("base_url", "api_key", "admin_url", "admin_email", "admin_password")
    quickstart = Quickstart(
        **{name: f"the {name}" for name in fields}, organization="o", project="p"
    )
    assert "the api_key" not in repr(quickstart)
    assert "the admin_password" not in repr(quickstart)
