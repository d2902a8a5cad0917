"""The embedded PostgreSQL: one server per data directory, from the binaries of a wheel."""

from gateway.postgres.embedded import EmbeddedPostgres, running_server
from gateway.postgres.errors import PostgresUnavailable

__all__ = ["EmbeddedPostgres", "PostgresUnavailable", "running_server"]
