class PostgresUnavailable(Exception):  # noqa: N818 - a state that the caller reports, not a bug.
    """The embedded PostgreSQL cannot be used; the message is one sentence for the operator."""
