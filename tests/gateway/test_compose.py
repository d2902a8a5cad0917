"""The files for containers, read as Docker reads them."""

import re
from typing import Any

import pytest
import yaml

from gateway.launch import REQUIRED
from tests.gateway.running import ROOT

_INTERPOLATION = re.compile(r"\$\{(\w+)(:?[?-])?([^}]*)\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return content


def test_all_parts_are_there(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {
        "postgres",
        "redis",
        "gateway",
        "celery-worker",
        "celery-beat",
    }


def test_each_part_says_whether_it_is_well(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"], name
        for waited_for in service.get("depends_on", {}).values():
            assert waited_for == {"condition": "service_healthy"}


def test_our_parts_get_what_production_requires(compose: dict[str, Any]) -> None:
    for name in ("gateway", "celery-worker", "celery-beat"):
        environment = compose["services"][name]["environment"]
        assert environment["ENVIRONMENT"] == "production"
        assert set(REQUIRED) <= set(environment)
        assert environment["REDIS_URL"]


def test_no_secret_has_a_default(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    found = _INTERPOLATION.findall(text)
    required = {name for name, operator, _ in found if operator == ":?"}
    assert {*REQUIRED, "POSTGRES_PASSWORD", "PUBLIC_URL"} - {"DATABASE_URL"} <= required
    for name, operator, default in found:
        assert operator == ":?" or name not in required
        assert operator == ":?" or not re.search("SECRET|PEPPER|PASSWORD|KEYS", name), name
        assert operator == ":?" or "API_KEY" not in name or default == ""
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("SECRET|PEPPER|PASSWORD|_KEY", name):
                assert value.startswith("${"), name


def test_volumes_are_declared(compose: dict[str, Any]) -> None:
    used = {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    }
    assert used == set(compose["volumes"])
    assert "data:/data" in compose["services"]["gateway"]["volumes"]


def test_the_image_holds_all_our_packages() -> None:
    kept = (ROOT / ".dockerignore").read_text().split("\n")
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages <= {line.removeprefix("!") for line in kept if line.startswith("!")}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes" in dockerfile
    assert "USER tollgate" in dockerfile
