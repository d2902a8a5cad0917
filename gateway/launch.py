"""What has to be true before Django reads its settings: secrets, folders and a database.

A development run may leave all of it out and finds it in DATA_DIR; a production run says all of it
in the environment and is refused otherwise.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from gateway.data_directory import DataDirectory
from gateway.env import env_str
from gateway.postgres import EmbeddedPostgres

SETTINGS = "gateway.settings"
DEFAULT_DATA_DIR = "var"
PRODUCTION = "production"
SECRETS = ("SECRET_KEY", "KEY_PEPPER", "CREDENTIAL_KEYS")
REQUIRED = (*SECRETS, "DATABASE_URL")

# They serve the developer or the builder of an image: nothing is read from the database or made.
_TOOLS = frozenset(
    {
        "check",
        "collectstatic",
        "compilemessages",
        "diffsettings",
        "findstatic",
        "help",
        "makemessages",
        "makemigrations",
        "spectacular",
        "version",
    }
)
# They need the whole environment, but see to the database themselves.
_SELF_SUFFICIENT = frozenset({"run", "status"})
_HELP = frozenset({"-h", "--help"})


def prepare_environment() -> None:
    """Fill in what the environment does not say. Raises ImproperlyConfigured in production.

    Must run before Django's settings are imported; a second time it changes nothing.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
    if env_str("ENVIRONMENT") == PRODUCTION:
        _refuse_gaps()
        return
    directory = data_directory()
    # Children and later changes of the working directory see the same folder.
    os.environ["DATA_DIR"] = str(directory.path)
    directory.prepare()
    if not all(env_str(name) for name in SECRETS):
        secrets = directory.secrets()
        _fill("SECRET_KEY", secrets.secret_key)
        _fill("KEY_PEPPER", secrets.key_pepper)
        _fill("CREDENTIAL_KEYS", secrets.credential_keys)
    if not env_str("DATABASE_URL"):
        _fill("DATABASE_URL", EmbeddedPostgres(directory).database_url)


def data_directory() -> DataDirectory:
    return DataDirectory(Path(env_str("DATA_DIR") or DEFAULT_DATA_DIR).absolute())


def embedded_postgres() -> EmbeddedPostgres | None:
    """The embedded server, if it is the one that the prepared environment names."""
    if env_str("ENVIRONMENT") == PRODUCTION:
        return None
    server = EmbeddedPostgres(data_directory())
    return server if server.database_url == env_str("DATABASE_URL") else None


@contextmanager
def command_environment(arguments: Sequence[str]) -> Iterator[None]:
    """Everything that this command line needs, for as long as it runs."""
    command = arguments[1] if len(arguments) > 1 else "help"
    if command.startswith("-") or command in _TOOLS or not _HELP.isdisjoint(arguments):
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
        yield
        return
    prepare_environment()
    server = None if command in _SELF_SUFFICIENT else embedded_postgres()
    if server is None:
        yield
        return
    with server.for_command():
        yield


def _refuse_gaps() -> None:
    missing = [name for name in REQUIRED if not env_str(name)]
    if missing:
        raise ImproperlyConfigured(
            f"ENVIRONMENT=production takes nothing for granted: set {' and '.join(missing)}"
            " (each also works as NAME_FILE, the path of a file with the value)."
        )


def _fill(name: str, value: str) -> None:
    if not env_str(name):
        os.environ[name] = value
