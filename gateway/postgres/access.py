"""How clients reach the server: its socket's address, the two roles and their passwords."""

import hmac
import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from gateway.data_directory import DataDirectory
from gateway.postgres.cluster import PORT, SUPERUSER, Cluster
from gateway.postgres.errors import PostgresUnavailable

# Role and database.
NAME = "tollgate"

# The kernel's limit for a socket's path is 107 bytes; libpq appends this to the folder.
_LONGEST_FOLDER = 107 - len(f"/.s.PGSQL.{PORT}")
# A comma separates hosts in libpq, and not every character survives every URL parser.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+ -]+")
_CONNECT_SECONDS = 5


class Access:
    """Addresses and credentials of one embedded server."""

    def __init__(self, data_directory: DataDirectory, cluster: Cluster) -> None:
        self._data_directory = data_directory
        self._socket_folder = cluster.socket_folder
        self._password = data_directory.secrets().postgres_password

    @property
    def superuser_password(self) -> str:
        """Derived, so that whoever sees the application's URL cannot become the superuser."""
        return self._derived("superuser password")

    @property
    def database_url(self) -> str:
        # The port is said so that a PGPORT in somebody's environment does not matter.
        host = quote(str(self._host), safe="/")
        return f"postgresql://{NAME}:{self._password}@:{PORT}/{NAME}?host={host}"

    def ensure_address(self) -> None:
        """Where the socket's own path is too long for clients, make a short link to it.

        It is made again where something has cleaned it away.
        """
        alias = self._host
        if alias == self._socket_folder or self._leads_to_socket(alias):
            return
        # Renamed into place, so that it is never missing while another process makes it as well.
        # The folder is sticky or root's: nobody else can exchange a link that is ours.
        new = alias.with_name(f"{alias.name}.{os.getpid()}")
        with suppress(OSError):
            new.unlink(missing_ok=True)
            new.symlink_to(self._socket_folder)
            new.replace(alias)
        if not self._leads_to_socket(alias):
            raise PostgresUnavailable(f"{alias} cannot be made: another user may have taken it")

    def remove_address(self) -> None:
        if self._host != self._socket_folder and self._leads_to_socket(self._host):
            self._host.unlink(missing_ok=True)

    def connect_as_superuser(self) -> psycopg.Connection:
        """Raises psycopg.OperationalError while the server is not ready."""
        return psycopg.connect(
            host=str(self._host),
            port=PORT,
            dbname="postgres",
            user=SUPERUSER,
            password=self.superuser_password,
            connect_timeout=_CONNECT_SECONDS,
            # Mutual: a server that does not know the password is no server of ours.
            require_auth="scram-sha-256",
            autocommit=True,
        )

    def ensure_database(self, connection: psycopg.Connection) -> None:
        """Make the application's role and database, each if it is missing.

        The role may create databases, for tests, but is no superuser: an SQL injection must not
        read files or run programs.
        """
        role = sql.Identifier(NAME)
        if not _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s"):
            # Hashed on this side, so the password itself reaches neither server nor log.
            digest = connection.pgconn.encrypt_password(
                self._password.encode(), NAME.encode(), b"scram-sha-256"
            )
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                    role, sql.Literal(digest.decode())
                )
            )
        if not _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s"):
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))

    @property
    def _host(self) -> Path:
        folder = str(self._socket_folder)
        if len(os.fsencode(folder)) <= _LONGEST_FOLDER and _PLAIN_PATH.fullmatch(folder):
            return self._socket_folder
        return self._alias_home() / f"tollgate-{self._derived(folder)[:16]}"

    @staticmethod
    def _alias_home() -> Path:
        """A short folder, the same for every process: not TMPDIR, nor one that a logout empties."""
        run = Path("/run")  # Only root can write it.
        if os.geteuid() == 0 and os.access(run, os.W_OK):
            return run
        return Path("/tmp")  # noqa: S108 - ensure_address checks whose link it is.

    def _derived(self, purpose: str) -> str:
        key = self._password.encode()
        return hmac.digest(key, os.fsencode(purpose), "sha256").hex()

    def _leads_to_socket(self, alias: Path) -> bool:
        try:
            ours = alias.lstat().st_uid == os.geteuid()
            return ours and alias.readlink() == self._socket_folder
        except OSError:
            return False


def _exists(connection: psycopg.Connection, query: str) -> bool:
    return connection.execute(query.encode(), (NAME,)).fetchone() is not None
