"""What `manage.py` finds in DATA_DIR, makes there, and refuses to make."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.data_directory import DataDirectory
from gateway.launch import REQUIRED
from gateway.postgres import EmbeddedPostgres, running_server
from tests.gateway.running import ROOT, environment, manage

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "s" * 40,
    "KEY_PEPPER": "p" * 40,
    "CREDENTIAL_KEYS": "b25seS1mb3ItdGhlLXRlc3RzLW9mLXRvbGxnYXRlISE=",
    "DATABASE_URL": "postgresql://tollgate@127.0.0.1:1/tollgate",
}
_PREPARE = """
import json, os
from gateway.launch import embedded_postgres, prepare_environment
prepare_environment()
names = ("SECRET_KEY", "KEY_PEPPER", "CREDENTIAL_KEYS", "DATABASE_URL", "DATA_DIR")
print(json.dumps({**{name: os.environ[name] for name in names}, "own": bool(embedded_postgres())}))
"""


def prepared(data: Path, **more: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE],
        cwd=ROOT,
        env=environment(data, **more),
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def test_a_development_run_is_given_what_it_does_not_say(place: Path) -> None:
    first = prepared(place / "var")
    assert first["own"]
    assert first["DATABASE_URL"].startswith("postgresql://")
    secrets = DataDirectory(place / "var").secrets()
    assert first["SECRET_KEY"] == secrets.secret_key
    assert first["KEY_PEPPER"] == secrets.key_pepper
    assert first["CREDENTIAL_KEYS"] == secrets.credential_keys
    assert prepared(place / "var") == first


def test_what_is_said_is_kept(place: Path) -> None:
    (place / "pepper").write_text("from a file\n")
    said = {"SECRET_KEY": "mine", "DATABASE_URL": "postgresql://elsewhere/mine"}
    answer = prepared(place / "var", KEY_PEPPER_FILE=str(place / "pepper"), KEY_PEPPER="", **said)
    assert {name: answer[name] for name in said} == said
    assert answer["KEY_PEPPER"] == ""
    assert not answer["own"]


def test_a_relative_data_directory_becomes_absolute(place: Path) -> None:
    relative = Path("..").joinpath(*[".."] * len(ROOT.parts), *place.parts[1:], "var")
    assert prepared(relative)["DATA_DIR"] == str(place / "var")


@pytest.mark.parametrize("missing", [*REQUIRED, "SECRET_KEY and DATABASE_URL"])
def test_production_names_what_is_missing(place: Path, missing: str) -> None:
    absent = missing.split(" and ")
    said = {name: value for name, value in PRODUCTION.items() if name not in absent}
    done = manage(place / "var", "run", **said)
    assert done.returncode == 1
    assert f"set {missing} (" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "var").exists()


@pytest.mark.parametrize(
    "arguments", [["help"], ["--version"], ["makemigrations", "--check", "--help"], ["check"], []]
)
def test_tools_make_nothing(place: Path, arguments: list[str]) -> None:
    assert manage(place / "var", *arguments).returncode == 0
    assert not (place / "var").exists()


def test_a_command_runs_a_database_of_its_own_while_it_needs_one(
    directory: DataDirectory,
) -> None:
    done = manage(directory.path, "dbshell", "--", "--version")
    assert "psql" in done.stdout or "psql" in done.stderr
    done = manage(directory.path, "showmigrations", "accounts")
    assert done.returncode == 0, done.stderr
    assert "[ ] 0001" in done.stdout
    assert running_server(directory) is None


def test_a_command_leaves_a_running_database_alone(directory: DataDirectory) -> None:
    server = EmbeddedPostgres(directory)
    server.start()
    pid = server.pid
    assert manage(directory.path, "showmigrations", "accounts").returncode == 0
    assert running_server(directory) == pid
    server.stop()


def test_a_damaged_install_is_refused_in_one_sentence(place: Path) -> None:
    data = DataDirectory(place / "var")
    data.prepare()
    data.secrets_file.write_text("{")
    data.secrets_file.chmod(0o600)
    done = manage(place / "var", "showmigrations")
    assert done.returncode == 1
    assert done.stderr == f"{data.secrets_file} is damaged: restore it from a backup\n"
