"""Bad values stop the start with a sentence, in the process that they would have reached."""

from pathlib import Path

import pytest

from tests.gateway.running import manage
from tests.gateway.test_launch import PRODUCTION


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("PORT", "http", "PORT must be a whole number; it is 'http'."),
        ("PORT", "70000", "PORT must be between 1 and 65535; it is 70000."),
        ("WORKERS", "0", "WORKERS must be between 1 and 256; it is 0."),
        ("DEBUG", "perhaps", "DEBUG must be one of"),
        ("DRAIN_SECONDS", "-1", "DRAIN_SECONDS must be between 0 and 3600 seconds."),
        ("ENVIRONMENT", "prod", "ENVIRONMENT must be one of development, production"),
        ("DATABASE_URL", "mysql://localhost/x", "DATABASE_URL must be a postgresql:// URL."),
        ("SECRET_KEY_FILE", "/nowhere/at/all", "SECRET_KEY_FILE: cannot read"),
    ],
)
def test_a_bad_value_is_refused(place: Path, variable: str, value: str, sentence: str) -> None:
    done = manage(place / "var", "run", **{variable: value})
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "number"),
    [
        ("SECRET_KEY", "placeholder-for-tools-that-never-serve", "E001"),
        ("SECRET_KEY", "short", "E001"),
        ("KEY_PEPPER", "placeholder-for-tools-that-never-serve", "E002"),
        ("CREDENTIAL_KEYS", "no-fernet-key", "E003"),
        ("DEBUG", "1", "E004"),
        ("LEASE_HEARTBEAT_SECONDS", "11", "E006"),
        ("ALLOWED_HOSTS", "gateway.example", "E008"),
        ("FREE_QUOTA_USD", "a dollar", "E009"),
        ("DEFAULT_DISCOUNT", "5", "E010"),
    ],
)
def test_an_unsafe_value_stops_a_production_start(
    place: Path, variable: str, value: str, number: str
) -> None:
    done = manage(place / "var", "run", **{**PRODUCTION, variable: value})
    assert done.returncode == 1
    assert f"gateway.{number}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "var").exists()
