from tests.committing import committing_db, listener

__all__ = ["committing_db", "listener"]
