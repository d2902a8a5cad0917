class PostgresUnavailable(Exception):
    """The embedded PostgreSQL cannot be used; the message is one sentence for the operator."""
